//! No local port left, in a network namespace that has only a few.

use crate::scene::{Scene, until, within};
use ipreconnect::core::origin::Health;
use ipreconnect_lab::namespace;
use ipreconnect_lab::origin::{Script, ScriptedOrigin};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

/// Ports for each destination.
const FEW: usize = 8;

/// Every client comes from an address of its own, and from outside the range: only the gateway runs out
/// of ports.
async fn dial(scene: &Scene, number: u8) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(([127, 0, 1, number], 50_000).into()).unwrap();
    socket.connect(scene.address).await.unwrap()
}

async fn is_served(client: &mut TcpStream) -> bool {
    client.write_all(b"x").await.unwrap();
    within(10, client.read_u8()).await.is_ok()
}

#[test]
fn without_a_local_port_the_other_endpoints_are_tried() {
    if !namespace::inside(
        "ports::without_a_local_port_the_other_endpoints_are_tried",
        &[],
    ) {
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let echo = || ScriptedOrigin::start(Script::Echo).unwrap();
        let (a, b) = (echo(), echo());
        let scene = Scene::new(&[a.address(), b.address()]);
        scene.up().await;
        let range = format!("40000 {}", 40_000 + FEW - 1);
        std::fs::write("/proc/sys/net/ipv4/ip_local_port_range", range).unwrap();

        let mut clients = Vec::new();
        for number in 0..u8::try_from(2 * FEW).unwrap() {
            let mut client = dial(&scene, number).await;
            assert!(is_served(&mut client).await, "client {number}");
            clients.push(client);
        }
        assert_eq!((a.open(), b.open()), (FEW, FEW));
        let status = scene.origin.status();
        assert!(status.endpoints[0].failed_here >= FEW as u64);
        assert_eq!(status.endpoints[0].health, Health::Up);

        let mut late = dial(&scene, 100).await;
        late.write_all(b"x").await.unwrap();
        until("it is held", || scene.origin.status().waiting == 1).await;
        drop(clients.pop());
        within(10, late.read_u8()).await.unwrap();
    });
}

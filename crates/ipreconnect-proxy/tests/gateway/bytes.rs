//! The carrying of bytes in bad moments: resets in the middle of bulk, urgent data, uneven workers.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::time::Duration;

use crate::scene::{Scene, until, within};
use ipreconnect_lab::origin::{Script, ScriptedOrigin};
use rustix::net::{SendFlags, send};
use tokio::io::AsyncReadExt;

const BYTES: u64 = 64 * 1024 * 1024;

#[tokio::test]
async fn a_reset_of_the_client_in_the_middle_of_bulk_reaches_the_origin() {
    let origin = ScriptedOrigin::start(Script::Source { bytes: BYTES }).unwrap();
    let scene = Scene::new(&[origin.address()]);
    scene.up().await;
    let mut client = tokio::net::TcpStream::connect(scene.address).await.unwrap();
    within(10, client.read_exact(&mut vec![0; 1_000_000]))
        .await
        .unwrap();
    client.set_zero_linger().unwrap();
    drop(client);
    until("the origin's connection has ended", || origin.open() == 0).await;
    until("the stream is counted", || {
        scene.gateway.listeners()[0].totals.failed == 1
    })
    .await;
    let mut next = tokio::net::TcpStream::connect(scene.address).await.unwrap();
    let copied = within(30, tokio::io::copy(&mut next, &mut tokio::io::sink())).await;
    assert_eq!(copied.unwrap(), BYTES);
}

#[tokio::test]
async fn a_reset_of_the_origin_in_the_middle_of_bulk_never_looks_complete() {
    let origin = ScriptedOrigin::start(Script::Source { bytes: BYTES }).unwrap();
    let scene = Scene::new(&[origin.address()]);
    scene.up().await;
    let mut client = tokio::net::TcpStream::connect(scene.address).await.unwrap();
    within(10, client.read_exact(&mut vec![0; 1_000_000]))
        .await
        .unwrap();
    origin.kill();
    let copied = within(10, tokio::io::copy(&mut client, &mut tokio::io::sink())).await;
    let error = copied.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

/// Sends bulk with an urgent byte in its middle, for each client.
fn urgent_server(before: usize, after: usize) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            // The heartbeat may leave at once.
            let _ = stream.write_all(&vec![1; before]);
            let _ = send(&stream, &[2], SendFlags::OOB | SendFlags::NOSIGNAL);
            std::thread::sleep(Duration::from_millis(50));
            let _ = stream.write_all(&vec![3; after]);
            let _ = stream.shutdown(Shutdown::Write);
            let _ = stream.read(&mut [0; 16]);
        }
    });
    address
}

#[tokio::test]
async fn urgent_data_keeps_its_place_and_stops_nothing() {
    for (before, after) in [(3, 3), (5_000_000, 3), (5_000_000, 5_000_000)] {
        let scene = Scene::new(&[urgent_server(before, after)]);
        scene.up().await;
        let address = scene.address;
        let arrived = tokio::task::spawn_blocking(move || {
            let mut client = TcpStream::connect(address).unwrap();
            client
                .set_read_timeout(Some(Duration::from_secs(10)))
                .unwrap();
            let mut arrived = Vec::new();
            client.read_to_end(&mut arrived).unwrap();
            arrived
        });
        let arrived = within(30, arrived).await.unwrap();
        let mut sent = vec![1; before];
        sent.push(2);
        sent.extend(vec![3; after]);
        assert!(arrived == sent, "{before}, then {after} bytes");
    }
}

#[tokio::test]
async fn eight_long_connections_are_spread_evenly_over_two_workers() {
    let origin = ScriptedOrigin::start(Script::Echo).unwrap();
    let scene = Scene::new(&[origin.address()]);
    scene.up().await;
    for _ in 0..20 {
        let mut clients = Vec::new();
        for _ in 0..8 {
            clients.push(tokio::net::TcpStream::connect(scene.address).await.unwrap());
        }
        until("all are inside", || scene.gateway.clients() == 8).await;
        let spread = scene.gateway.clients_by_worker();
        // Two that are accepted by both workers in one instant may go the same way.
        assert!(
            spread.iter().all(|count| (3..=5).contains(count)),
            "{spread:?}"
        );
        drop(clients);
        until("all have left", || scene.gateway.clients() == 0).await;
    }
}

#[tokio::test]
async fn a_fast_stream_does_not_starve_another_on_its_worker() {
    let pouring = ScriptedOrigin::start(Script::Source { bytes: u64::MAX }).unwrap();
    let busy = Scene::new(&[pouring.address()]);
    busy.up().await;
    // With two on each worker, every worker has bulk to carry.
    let mut greedy = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let mut client = tokio::net::TcpStream::connect(busy.address).await.unwrap();
        greedy.spawn(async move { tokio::io::copy(&mut client, &mut tokio::io::sink()).await });
    }
    until("bulk flows", || {
        busy.gateway.listeners()[0].totals.to_client > 50_000_000
    })
    .await;
    let before = busy.gateway.listeners()[0].totals.to_client;
    let mut modest = tokio::net::TcpStream::connect(busy.address).await.unwrap();
    within(10, modest.read_exact(&mut vec![0; 100_000]))
        .await
        .unwrap();
    assert!(busy.gateway.listeners()[0].totals.to_client > before);
}

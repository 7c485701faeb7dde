//! Clients that the kernel has led here.

use std::net::SocketAddr;

use ipreconnect_lab::namespace::{inside, run};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use super::{Stage, echo, echoes, open};
use crate::http::{Act, Origin};
use crate::scene::within;

/// A client at an address from which everything is led to the proxy.
async fn led(to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.5:0".parse().unwrap()).unwrap();
    within(10, socket.connect(to)).await.unwrap()
}

async fn stage(blocked: &str) -> Stage {
    let mut policy = open();
    assert!(policy.block.add(blocked));
    policy.block.finish();
    let stage = Stage::with(policy, |plan| plan.is_transparent = true).await;
    let port = stage.scene.address.port();
    for rule in [
        "add table ip nat",
        "add chain ip nat output { type nat hook output priority -100 ; }",
        &format!("add rule ip nat output ip saddr 127.0.0.5 tcp dport 1-65535 redirect to :{port}"),
    ] {
        run("nft", &[rule]);
    }
    stage
}

async fn rest(stream: &mut TcpStream) -> Vec<u8> {
    let mut heard = Vec::new();
    // A reset is an end, too.
    let _ = within(10, stream.read_to_end(&mut heard)).await;
    heard
}

/// A ClientHello that asks for this name.
fn hello(name: &str) -> Vec<u8> {
    let name = name.as_bytes();
    let length = |bytes: &[u8]| u16::try_from(bytes.len()).unwrap().to_be_bytes();
    let entry = [&[0][..], &length(name), name].concat();
    let list = [&length(&entry)[..], &entry].concat();
    let extension = [&[0, 0][..], &length(&list), &list].concat();
    let extensions = [&length(&extension)[..], &extension].concat();
    let body = [
        &[3, 3][..],
        &[7; 32],
        &[0],
        &[0, 2, 0x13, 1],
        &[1, 0],
        &extensions,
    ]
    .concat();
    let handshake = [&[1, 0][..], &length(&body), &body].concat();
    [&[22, 3, 1][..], &length(&handshake), &handshake].concat()
}

#[test]
fn they_get_where_they_wanted_to_go() {
    let test = "forward::redirected::they_get_where_they_wanted_to_go";
    if !inside(test, &[("nft", &["-v"])]) {
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let stage = stage("blocked.test").await;
        let to = echo().await;
        // What is neither HTTP nor TLS, and a server that speaks first.
        echoes(&mut led(to).await).await;
        let speaks = Origin::start(|request| vec![Act::ok(&request.head)]).await;
        let mut client = led(speaks.address).await;
        let asks = format!(
            "GET /x HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
            speaks.address
        );
        client.write_all(asks.as_bytes()).await.unwrap();
        let heard = String::from_utf8(rest(&mut client).await).unwrap();
        assert!(heard.contains("GET /x HTTP/1.1\r\n"), "{heard}");
        let line = stage.line("\"target\":\"/x\"").await;
        assert!(
            line.contains(&format!("\"origin\":\"{}\"", speaks.address)),
            "{line}"
        );
        // By its Host a request is judged.
        let mut client = led(speaks.address).await;
        client
            .write_all(b"GET / HTTP/1.1\r\nHost: blocked.test\r\nConnection: close\r\n\r\n")
            .await
            .unwrap();
        let heard = String::from_utf8(rest(&mut client).await).unwrap();
        assert!(heard.starts_with("HTTP/1.1 403 "), "{heard}");
        // And TLS by the name that it asks for, which is not looked up.
        let said = hello("fine.test");
        let mut client = led(to).await;
        client.write_all(&said).await.unwrap();
        let mut heard = vec![0; said.len()];
        within(10, client.read_exact(&mut heard)).await.unwrap();
        assert_eq!(heard, said);
        drop(client);
        let line = stage.line("fine.test").await;
        assert!(line.contains(&format!("\"endpoint\":\"{to}\"")), "{line}");
        let mut client = led(to).await;
        client.write_all(&hello("blocked.test")).await.unwrap();
        assert_eq!(rest(&mut client).await, b"");
        let line = stage.lines("blocked.test", 2).await.remove(1);
        assert!(line.contains("\"decision\":\"denied\""), "{line}");
        assert_eq!(stage.zone.asked_at_all(), 0);
        // Whoever comes by himself is a client as any other.
        let mut client = stage.client().await;
        client
            .send(format!("CONNECT {to} HTTP/1.1\r\nHost: x\r\n\r\n"))
            .await;
        assert_eq!(client.head().await.0, 200);
        echoes(client.stream()).await;
    });
}

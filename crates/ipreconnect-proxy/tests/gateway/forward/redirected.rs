//! Clients that the kernel has led here.

use std::net::SocketAddr;

use ipreconnect_lab::namespace::{inside, run};
use ipreconnect_proxy::{Cache, CacheSettings, ForwardPlan};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

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
    stage_with(blocked, |_| {}).await
}

async fn stage_with(blocked: &str, change: impl FnOnce(&mut ForwardPlan)) -> Stage {
    let mut policy = open();
    assert!(policy.block.add(blocked));
    policy.block.finish();
    let stage = Stage::with(policy, |plan| {
        plan.is_transparent = true;
        change(plan);
    })
    .await;
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

/// Runs this in a namespace of its own, where that is possible.
fn in_namespace(test: &str, play: impl AsyncFnOnce()) {
    if !inside(test, &[("nft", &["-v"])]) {
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(play());
}

#[test]
fn they_get_where_they_wanted_to_go() {
    let test = "forward::redirected::they_get_where_they_wanted_to_go";
    in_namespace(test, async || {
        let stage = stage("blocked.test").await;
        let to = echo().await;
        // What is neither HTTP nor TLS.
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

#[test]
fn what_is_no_request_is_judged_by_where_it_goes() {
    let test = "forward::redirected::what_is_no_request_is_judged_by_where_it_goes";
    in_namespace(test, async || {
        let stage = stage("127.0.0.9").await;
        let to = echo().await;
        // A server that speaks first, to a client that waits for it.
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let first = listener.local_addr().unwrap();
        let greets = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(b"220 welcome\r\n").await.unwrap();
        });
        let mut client = led(first).await;
        assert_eq!(rest(&mut client).await, b"220 welcome\r\n");
        greets.await.unwrap();
        // A client that speaks first, with what could be the beginning of a method.
        let mut client = led(to).await;
        client.write_all(b"SSH").await.unwrap();
        client.write_all(b"-2.0-test\r\n").await.unwrap();
        let mut heard = [0; 14];
        within(10, client.read_exact(&mut heard)).await.unwrap();
        assert_eq!(&heard, b"SSH-2.0-test\r\n");
        // An address in place of a name in TLS says nothing: neither for it nor against it.
        for name in ["127.0.0.9", "10.0.0.1", "0x7f.9"] {
            let said = hello(name);
            let mut client = led(to).await;
            client.write_all(&said).await.unwrap();
            let mut heard = vec![0; said.len()];
            within(10, client.read_exact(&mut heard)).await.unwrap();
            assert_eq!(heard, said, "{name}");
        }
        let denied = SocketAddr::new([127, 0, 0, 9].into(), to.port());
        for name in ["127.0.0.1", "8.8.8.8"] {
            let mut client = led(denied).await;
            client.write_all(&hello(name)).await.unwrap();
            assert_eq!(rest(&mut client).await, b"", "{name}");
        }
        // Half of a hello, and one that is broken, get nowhere.
        let said = hello("fine.test");
        let (half, _) = said.split_at(said.len() / 2);
        let broken = [&said[..5], &[9; 60]].concat();
        for said in [half, &broken] {
            let mut client = led(to).await;
            client.write_all(said).await.unwrap();
            let _ = client.shutdown().await;
            assert_eq!(rest(&mut client).await, b"", "{said:?}");
        }
        assert_eq!(stage.zone.asked_at_all(), 0);
    });
}

#[test]
fn answers_of_two_ports_are_two() {
    let test = "forward::redirected::answers_of_two_ports_are_two";
    in_namespace(test, async || {
        let proxy = Origin::start(|request| {
            let line = request.line().to_owned();
            vec![Act::say(format!(
                "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: {}\r\n\r\n{line}",
                line.len()
            ))]
        })
        .await;
        let _stage = stage_with("blocked.test", |plan| {
            plan.cache = Some(Cache::new(CacheSettings::default()));
            plan.via = vec![super::chains::by(proxy.address)];
        })
        .await;
        for (port, wanted) in [(8080, 1), (9090, 2), (8080, 2)] {
            let mut client = led(([127, 0, 0, 9], port).into()).await;
            // Whoever was led here says no port, where he wants to go to the one that everybody knows.
            let asks = "GET /x HTTP/1.1\r\nHost: shop.test\r\nConnection: close\r\n\r\n";
            client.write_all(asks.as_bytes()).await.unwrap();
            let heard = String::from_utf8(rest(&mut client).await).unwrap();
            let own = format!("GET http://shop.test:{port}/x");
            assert!(heard.ends_with(&own), "{heard}");
            assert_eq!(proxy.seen().len(), wanted, "{port}");
        }
    });
}

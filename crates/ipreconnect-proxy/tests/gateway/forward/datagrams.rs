//! Datagrams of clients of SOCKS5.

use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::time::{Duration, Instant};

use ipreconnect::core::forward::ForwardPolicy;
use ipreconnect_proxy::{Bandwidth, ClientLimits, Door};
use tokio::io::AsyncWriteExt;
use tokio::net::UdpSocket;

use super::{Stage, open, plan_of, plane};
use crate::http::Client;
use crate::scene::{listener, within};

/// What answers each datagram with itself, and who asked.
async fn echo() -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut bytes = [0; 65_536];
        while let Ok((count, from)) = socket.recv_from(&mut bytes).await {
            let _ = socket.send_to(&bytes[..count], from).await;
        }
    });
    address
}

struct Party {
    /// For as long as this lasts.
    client: Client,
    socket: UdpSocket,
    /// Where its datagrams go.
    to: SocketAddr,
}

async fn associate(stage: &Stage) -> Party {
    let mut client = stage.client().await;
    client.send([5, 1, 0, 5, 3, 0, 1, 0, 0, 0, 0, 0, 0]).await;
    let mut heard = client.bytes().await;
    while heard.len() < 12 {
        heard.extend(client.bytes().await);
    }
    assert_eq!(
        heard[..10],
        [5, 0, 5, 0, 0, 1, 127, 0, 0, 1],
        "an address that can be reached"
    );
    let port = u16::from_be_bytes([heard[10], heard[11]]);
    Party {
        client,
        socket: UdpSocket::bind("127.0.0.1:0").await.unwrap(),
        to: SocketAddr::from(([127, 0, 0, 1], port)),
    }
}

/// A datagram for there.
fn packed(to: SocketAddr, data: &[u8]) -> Vec<u8> {
    let SocketAddr::V4(to) = to else {
        panic!("of IPv4")
    };
    [
        &[0, 0, 0, 1][..],
        &to.ip().octets(),
        &to.port().to_be_bytes(),
        data,
    ]
    .concat()
}

fn named(name: &str, port: u16, data: &[u8]) -> Vec<u8> {
    let length = u8::try_from(name.len()).unwrap();
    [
        &[0, 0, 0, 3, length][..],
        name.as_bytes(),
        &port.to_be_bytes(),
        data,
    ]
    .concat()
}

impl Party {
    async fn say(&self, datagram: &[u8]) {
        self.socket.send_to(datagram, self.to).await.unwrap();
    }

    async fn hear(&self) -> Vec<u8> {
        let mut bytes = vec![0; 65_536];
        let (count, from) = within(10, self.socket.recv_from(&mut bytes)).await.unwrap();
        assert_eq!(from, self.to);
        bytes.truncate(count);
        bytes
    }

    async fn hears_nothing(&self) {
        let mut bytes = [0; 1024];
        let heard = self.socket.recv_from(&mut bytes);
        let patience = Duration::from_millis(300);
        assert!(tokio::time::timeout(patience, heard).await.is_err());
    }
}

#[tokio::test]
async fn they_go_and_come_with_their_real_source() {
    let stage = Stage::new(open()).await;
    stage.name("echo.test", "127.0.0.1");
    let (one, two) = (echo().await, echo().await);
    let mut party = associate(&stage).await;
    for to in [one, two, one] {
        party.say(&packed(to, b"ping")).await;
        assert_eq!(party.hear().await, packed(to, b"ping"));
    }
    party.say(&named("echo.test", one.port(), b"by name")).await;
    assert_eq!(party.hear().await, packed(one, b"by name"));
    let long = vec![7; 9000];
    party.say(&packed(two, &long)).await;
    assert_eq!(party.hear().await, packed(two, &long));
    // It ends with its connection.
    party.client.stream().shutdown().await.unwrap();
    let line = stage.line("\"method\":\"UDP\"").await;
    for wanted in [
        "\"bytes_in\":9019",
        "\"bytes_out\":9019",
        "\"end\":\"----\"",
        "SOCKS5",
    ] {
        assert!(line.contains(wanted), "{wanted} in {line}");
    }
    assert!(line.contains(&format!("\"target\":\"{one}\"")), "{line}");
    party.say(&packed(one, b"late")).await;
    party.hears_nothing().await;
}

#[tokio::test]
async fn each_is_judged() {
    let mut policy = open();
    assert!(policy.block.add("blocked.test"));
    policy.block.finish();
    let stage = Stage::new(policy).await;
    stage.name("blocked.test", "127.0.0.1");
    let to = echo().await;
    let party = associate(&stage).await;
    party.say(&named("blocked.test", to.port(), b"no")).await;
    party
        .say(&packed(SocketAddr::from(([10, 0, 0, 1], 53)), b"no"))
        .await;
    party.hears_nothing().await;
    let strict = Stage::new(ForwardPolicy::default()).await;
    strict.name("inside.test", "127.0.0.1");
    let party = associate(&strict).await;
    party.say(&packed(to, b"no")).await;
    party.say(&named("inside.test", to.port(), b"no")).await;
    party.say(&named("0x7f.1", to.port(), b"no")).await;
    party.hears_nothing().await;
}

#[tokio::test]
async fn what_is_no_datagram_is_dropped_and_nobody_else_gets_in() {
    let stage = Stage::new(open()).await;
    let to = echo().await;
    let party = associate(&stage).await;
    let mut fragment = packed(to, b"part");
    fragment[2] = 1;
    for bad in [
        &b""[..],
        &[0],
        &[0, 0, 0, 1, 127],
        &[0, 0, 0, 3, 0, 0, 80],
        &[0, 0, 0, 9, 1, 2, 3, 4, 0, 80],
        &[1, 0, 0, 1, 127, 0, 0, 1, 0, 80],
        fragment.as_slice(),
    ] {
        party.say(bad).await;
    }
    party.say(&packed(to, b"first")).await;
    assert_eq!(party.hear().await, packed(to, b"first"));
    // Another port of the same machine is another client.
    let stranger = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    stranger
        .send_to(&packed(to, b"mine"), party.to)
        .await
        .unwrap();
    party.hears_nothing().await;
}

#[tokio::test]
async fn whoever_was_not_spoken_to_is_not_heard() {
    let stage = Stage::new(open()).await;
    let spoken = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let to = spoken.local_addr().unwrap();
    let party = associate(&stage).await;
    party.say(&packed(to, b"hello")).await;
    let (_, source) = within(10, spoken.recv_from(&mut [0; 16])).await.unwrap();
    let stranger = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    stranger.send_to(b"let me in", source).await.unwrap();
    party.hears_nothing().await;
    spoken.send_to(b"welcome", source).await.unwrap();
    assert_eq!(party.hear().await, packed(to, b"welcome"));
}

#[tokio::test]
async fn what_is_not_enforced_is_told() {
    let mut policy = open();
    assert!(policy.block.add("127.0.0.1"));
    policy.block.finish();
    let stage = Stage::with(policy, |plan| plan.is_enforced = false).await;
    let to = echo().await;
    let mut party = associate(&stage).await;
    party.say(&packed(to, b"ping")).await;
    assert_eq!(party.hear().await, packed(to, b"ping"));
    party.client.stream().shutdown().await.unwrap();
    let line = stage.line("\"method\":\"UDP\"").await;
    assert!(line.contains("\"decision\":\"would be denied\""), "{line}");
}

#[tokio::test]
async fn other_rules_hold_for_the_next() {
    let mut stage = Stage::new(open()).await;
    let to = echo().await;
    let mut party = associate(&stage).await;
    party.say(&packed(to, b"before")).await;
    assert_eq!(party.hear().await, packed(to, b"before"));
    let mut stricter = open();
    assert!(stricter.block.add("127.0.0.1"));
    stricter.block.finish();
    let names = stage.names.clone();
    stage.scene.speak(plane(plan_of(stricter, &names)));
    party.say(&packed(to, b"blocked")).await;
    party.hears_nothing().await;
    stage.scene.speak(plane(plan_of(open(), &names)));
    party.say(&packed(to, b"after")).await;
    assert_eq!(party.hear().await, packed(to, b"after"));
    // Who may not come in any more is not carried on.
    let denies = Door {
        limits: ClientLimits {
            deny: std::sync::Arc::new(["127.0.0.0/8".parse().unwrap()].into_iter().collect()),
            ..ClientLimits::default()
        },
        ..Door::default()
    };
    let origin = stage.scene.origin.clone();
    let plane = plane(plan_of(open(), &names));
    stage
        .scene
        .gateway
        .reroute("test", origin, listener(), denies, plane);
    party.say(&packed(to, b"denied")).await;
    party.hears_nothing().await;
    assert!(party.client.is_closed().await);
}

#[tokio::test]
async fn who_sends_without_an_end_leaves_others_their_turn() {
    let stage = Stage::new(open()).await;
    let to = echo().await;
    let party = associate(&stage).await;
    party.say(&packed(to, b"first")).await;
    party.hear().await;
    let is_over = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let flood = std::thread::spawn({
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let (near, is_over) = (party.to, std::sync::Arc::clone(&is_over));
        let datagram = packed(to, b"flood");
        move || {
            let mut sent = 0_u32;
            while !is_over.load(std::sync::atomic::Ordering::Relaxed) {
                sent += u32::from(socket.send_to(&datagram, near).is_ok());
            }
            sent
        }
    });
    // The same worker serves everybody else all the while, and the end of it is heard.
    for _ in 0..20 {
        let mut client = stage.client().await;
        client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
        assert_eq!(within(10, client.answer()).await.status, 400);
    }
    drop(party.client);
    stage.line("\"method\":\"UDP\"").await;
    is_over.store(true, std::sync::atomic::Ordering::Relaxed);
    assert!(flood.join().unwrap() > 1_000);
}

#[tokio::test]
async fn they_are_held_to_the_rates_of_their_source() {
    let stage = Stage::new(open()).await;
    let to = echo().await;
    let held = Door {
        limits: ClientLimits {
            bandwidth: Bandwidth {
                source: NonZeroU64::new(20_000),
                ..Bandwidth::default()
            },
            ..ClientLimits::default()
        },
        ..Door::default()
    };
    let (origin, names) = (stage.scene.origin.clone(), stage.names.clone());
    let plane = plane(plan_of(open(), &names));
    stage
        .scene
        .gateway
        .reroute("test", origin, listener(), held, plane);
    let party = associate(&stage).await;
    let began = Instant::now();
    for _ in 0..40 {
        party.say(&packed(to, &[7; 1000])).await;
    }
    for _ in 0..40 {
        party.hear().await;
    }
    // Forty thousand bytes: no faster than that, whatever the machine does.
    assert!(
        began.elapsed() > Duration::from_secs(1),
        "{:?}",
        began.elapsed()
    );
}

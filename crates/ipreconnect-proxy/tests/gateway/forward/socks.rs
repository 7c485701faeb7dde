//! Clients of SOCKS.

use std::time::Duration;

use ipreconnect::core::forward::ForwardPolicy;

use super::{Stage, echo, echoes, open};
use crate::http::Client;

/// A name as version 5 has it, with its port.
fn named(name: &str, port: u16) -> Vec<u8> {
    let mut bytes = vec![3, u8::try_from(name.len()).unwrap()];
    bytes.extend_from_slice(name.as_bytes());
    bytes.extend_from_slice(&port.to_be_bytes());
    bytes
}

async fn exactly(client: &mut Client, count: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while bytes.len() < count {
        let more = client.bytes().await;
        assert!(!more.is_empty(), "the connection ended after {bytes:?}");
        bytes.extend(more);
    }
    assert_eq!(bytes.len(), count, "{bytes:?}");
    bytes
}

#[tokio::test]
async fn version_5_leads_anywhere() {
    let stage = Stage::new(open()).await;
    let to = echo().await;
    stage.name("echo.test", "127.0.0.1");
    let mut by_address = vec![1, 127, 0, 0, 1];
    by_address.extend_from_slice(&to.port().to_be_bytes());
    for place in [by_address, named("echo.test", to.port())] {
        let mut client = stage.client().await;
        // Piece by piece, as slow clients send it.
        for byte in [5, 1, 0] {
            client.send([byte]).await;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(exactly(&mut client, 2).await, [5, 0]);
        client.send([&[5, 1, 0], place.as_slice()].concat()).await;
        let reply = exactly(&mut client, 10).await;
        assert_eq!(reply[..8], [5, 0, 0, 1, 127, 0, 0, 1]);
        assert_ne!(
            reply[8..],
            [0, 0],
            "the port that stands for the client there"
        );
        echoes(client.stream()).await;
    }
    let lines = stage.lines("SOCKS5", 2).await;
    let line = lines
        .iter()
        .find(|line| line.contains("echo.test"))
        .unwrap();
    assert!(
        line.contains("\"status\":200") && line.contains("\"bytes_out\":100004"),
        "{line}"
    );
}

#[tokio::test]
async fn everything_at_once_is_no_less() {
    let stage = Stage::new(open()).await;
    let to = echo().await;
    let mut said = vec![5, 2, 0, 2, 5, 1, 0];
    said.extend(named("127.0.0.1", to.port()));
    said.extend_from_slice(b"early");
    let mut client = stage.client().await;
    client.send(said).await;
    let heard = exactly(&mut client, 2 + 10 + 5).await;
    assert_eq!(heard[..4], [5, 0, 5, 0]);
    assert_eq!(heard[12..], *b"early");
}

#[tokio::test]
async fn version_4_leads_there_too() {
    let stage = Stage::new(open()).await;
    let to = echo().await;
    stage.name("echo.test", "127.0.0.1");
    let [high, low] = to.port().to_be_bytes();
    let by_name = [&[4, 1, high, low, 0, 0, 0, 9][..], b"ann\0echo.test\0"].concat();
    let by_address = [&[4, 1, high, low, 127, 0, 0, 1][..], b"ann\0"].concat();
    for asks in [by_name, by_address] {
        let mut client = stage.client().await;
        client.send(asks).await;
        assert_eq!(exactly(&mut client, 8).await, [0, 90, 0, 0, 0, 0, 0, 0]);
        echoes(client.stream()).await;
    }
    let mut client = stage.client().await;
    client
        .send([&[4, 1, 0, 1, 127, 0, 0, 1][..], b"\0"].concat())
        .await;
    assert_eq!(exactly(&mut client, 8).await[..2], [0, 91]);
}

#[tokio::test]
async fn refusals_have_their_codes() {
    let mut policy = open();
    assert!(policy.block.add("blocked.test"));
    policy.block.finish();
    let stage = Stage::new(policy).await;
    for (command, place, code) in [
        (1, named("blocked.test", 80), 2),
        (1, named("10.0.0.1", 80), 2),
        (1, vec![1, 169, 254, 169, 254, 0, 80], 2),
        (1, named("nowhere.test", 80), 4),
        (1, vec![1, 127, 0, 0, 1, 0, 1], 5),
        (1, named("a..b", 80), 1),
        (1, vec![1, 127, 0, 0, 1, 0, 0], 1),
        (2, vec![1, 127, 0, 0, 1, 0, 80], 7),
        (9, vec![1, 127, 0, 0, 1, 0, 80], 7),
        (1, vec![2, 127, 0, 0, 1, 0, 80], 8),
    ] {
        let mut client = stage.client().await;
        client.send([5, 1, 0]).await;
        assert_eq!(exactly(&mut client, 2).await, [5, 0]);
        client
            .send([&[5, command, 0], place.as_slice()].concat())
            .await;
        let reply = exactly(&mut client, 10).await;
        assert_eq!(reply[..2], [5, code], "{command} {place:?}");
        assert!(client.is_closed().await);
    }
}

#[tokio::test]
async fn no_trick_with_addresses_helps() {
    let stage = Stage::new(ForwardPolicy::default()).await;
    let to = echo().await;
    let mapped = [
        &[4][..],
        &[0; 10],
        &[0xff, 0xff, 127, 0, 0, 1],
        &to.port().to_be_bytes(),
    ]
    .concat();
    stage.name("inside.test", "127.0.0.1");
    for place in [
        mapped,
        named("0x7f.1", to.port()),
        named("2130706433", to.port()),
        named("[::1]", to.port()),
        named("inside.test", to.port()),
        named("INSIDE.test.", to.port()),
    ] {
        let mut client = stage.client().await;
        client
            .send([&[5, 1, 0, 5, 1, 0], place.as_slice()].concat())
            .await;
        let reply = exactly(&mut client, 12).await;
        assert_eq!(reply[..4], [5, 0, 5, 2], "{place:?}");
    }
}

#[tokio::test]
async fn lies_about_lengths_end_the_conversation() {
    let stage = Stage::new(open()).await;
    for said in [
        vec![5, 0],
        vec![5, 1, 0, 5, 1, 0, 3, 0, 0, 80],
        vec![5, 1, 0, 4, 1, 0, 1, 127, 0, 0, 1, 0, 80],
        vec![5, 1, 0, 5, 1, 7, 1, 127, 0, 0, 1, 0, 80],
        [&[4, 1, 0, 80, 127, 0, 0, 1][..], &[b'a'; 300]].concat(),
        [&[4, 1, 0, 80, 0, 0, 0, 1, 0][..], &[b'a'; 300]].concat(),
    ] {
        let mut client = stage.client().await;
        client.send(&said).await;
        client.rest().await;
    }
    assert_eq!(stage.zone.asked_at_all(), 0);
    assert_eq!(stage.lines("\"status\":400", 6).await.len(), 6);
}

#[tokio::test]
async fn who_shows_no_way_to_be_known_is_told() {
    let stage = Stage::new(open()).await;
    let mut client = stage.client().await;
    client.send([5, 1, 1]).await;
    assert_eq!(exactly(&mut client, 2).await, [5, 0xff]);
    assert!(client.is_closed().await);
    // Who shows a name that nobody asks for is let through with it.
    let to = echo().await;
    let mut client = stage.client().await;
    client.send([5, 1, 2]).await;
    assert_eq!(exactly(&mut client, 2).await, [5, 2]);
    client.send(b"\x01\x03ann\x04hush").await;
    assert_eq!(exactly(&mut client, 2).await, [1, 0]);
    client
        .send([&[5, 1, 0][..], &named("127.0.0.1", to.port())].concat())
        .await;
    assert_eq!(exactly(&mut client, 10).await[..2], [5, 0]);
}

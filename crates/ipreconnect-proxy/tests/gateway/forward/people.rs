//! What each user may have.

use std::time::Duration;

use ipreconnect::core::forward::Allowance;
use ipreconnect::core::rate::Rate;
use ipreconnect_proxy::{ForwardPlan, Plane};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{Stage, echo, http_plan, open, plan_of, plane};
use crate::http::{Act, Origin};
use crate::scene::until;

async fn stage(allowance: Allowance) -> Stage {
    Stage::with(open(), |plan| plan.allowance = allowance).await
}

#[tokio::test]
async fn so_many_tunnels_at_once() {
    let stage = stage(Allowance {
        connections: Some(2),
        ..Allowance::default()
    })
    .await;
    let to = echo().await;
    let asks = format!("CONNECT {to} HTTP/1.1\r\nHost: x\r\n\r\n");
    let mut tunnels = Vec::new();
    for _ in 0..2 {
        let mut client = stage.client().await;
        client.send(&asks).await;
        assert_eq!(client.head().await.0, 200);
        tunnels.push(client);
    }
    let mut third = stage.client().await;
    third.send(&asks).await;
    let answer = third.answer().await;
    assert_eq!(answer.status, 429);
    assert!(
        answer.text().contains("2 connections are open"),
        "{}",
        answer.text()
    );
    let mut socks = stage.client().await;
    socks.send([5, 1, 0, 5, 1, 0, 1, 127, 0, 0, 1, 0, 80]).await;
    assert_eq!(socks.rest().await[..4], [5, 0, 5, 2]);
    // One that ends makes room.
    tunnels.pop().unwrap().stream().shutdown().await.unwrap();
    stage.lines("\"bytes_out\":0,\"origin\"", 1).await;
    third.send(&asks).await;
    assert_eq!(third.head().await.0, 200);
}

#[tokio::test]
async fn so_fast() {
    let stage = stage(Allowance {
        rate: Some(Rate {
            interval: Duration::from_secs(3600),
            burst: 2,
        }),
        ..Allowance::default()
    })
    .await;
    let origin = Origin::start(|_| vec![Act::ok("here")]).await;
    let asks = format!("GET http://{}/ HTTP/1.1\r\nHost: x\r\n\r\n", origin.address);
    let mut client = stage.client().await;
    for wanted in [200, 200, 429, 429] {
        client.send(&asks).await;
        let answer = client.answer().await;
        assert_eq!(answer.status, wanted);
        if wanted == 429 {
            let wait: u64 = answer.field("Retry-After").unwrap().parse().unwrap();
            assert!((3500..=3601).contains(&wait), "{wait}");
        }
    }
}

#[tokio::test]
async fn so_much_a_day_whatever_the_rules_become() {
    let allowance = Allowance {
        bytes: Some(100_000),
        ..Allowance::default()
    };
    let mut stage = stage(allowance).await;
    let to = echo().await;
    let asks = format!("CONNECT {to} HTTP/1.1\r\nHost: x\r\n\r\n");
    let mut client = stage.client().await;
    client.send(&asks).await;
    assert_eq!(client.head().await.0, 200);
    // A tunnel that has had it all ends.
    let piece = vec![0; 65_536];
    until("the tunnel ends", || {
        let _ = client.stream().try_write(&piece);
        let mut heard = [0; 65_536];
        match client.stream().try_read(&mut heard) {
            Ok(0) => true,
            Ok(_) => false,
            Err(error) => error.kind() != std::io::ErrorKind::WouldBlock,
        }
    })
    .await;
    let line = stage.line("CONNECT").await;
    assert!(line.contains("\"end\":\"PD--\""), "{line}");
    let names = stage.names.clone();
    stage.scene.speak(plane(ForwardPlan {
        allowance,
        ..plan_of(open(), &names)
    }));
    let mut client = stage.client().await;
    client.send(&asks).await;
    let answer = client.answer().await;
    assert_eq!(answer.status, 429);
    assert!(
        answer.text().contains("this day are used up"),
        "{}",
        answer.text()
    );
    assert!(answer.field("Retry-After").is_some());
}

#[tokio::test]
async fn an_answer_that_is_too_much_ends() {
    let allowance = Allowance {
        bytes: Some(300_000),
        ..Allowance::default()
    };
    let stage = stage(allowance).await;
    let origin = Origin::start(|_| vec![Act::ok("a".repeat(8_000_000))]).await;
    let mut client = stage.client().await;
    client
        .send(format!(
            "GET http://{}/ HTTP/1.1\r\nHost: x\r\n\r\n",
            origin.address
        ))
        .await;
    let mut heard = Vec::new();
    // It is cut off, which may look like an end or like a fault.
    let _ = client.stream().read_to_end(&mut heard).await;
    assert!(
        (100_000..6_000_000).contains(&heard.len()),
        "{}",
        heard.len()
    );
    let line = stage.line("\"status\":200").await;
    assert!(line.contains("\"end\":\"PD--\""), "{line}");
}

#[tokio::test]
async fn what_goes_on_as_something_else_counts_and_is_told_of_in_the_end() {
    let allowance = Allowance {
        bytes: Some(10_000),
        ..Allowance::default()
    };
    let stage = stage(allowance).await;
    let origin = Origin::start(|_| {
        vec![
            Act::say("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nearly"),
            Act::Echo,
        ]
    })
    .await;
    let mut client = stage.client().await;
    client
        .send(format!(
            "GET http://{}/chat HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
            origin.address
        ))
        .await;
    assert_eq!(client.head().await.0, 101);
    client.send(vec![7; 5_000]).await;
    let mut back = client.bytes().await;
    while back.len() < 5_005 {
        back.extend(client.bytes().await);
    }
    assert!(back.starts_with(b"early") && back.len() == 5_005);
    // That was all of this day.
    assert_eq!(client.rest().await, b"");
    let line = stage.line("\"status\":101").await;
    assert!(line.contains("\"method\":\"GET\""), "{line}");
    assert!(line.contains("\"bytes_out\":5005"), "{line}");
    assert!(line.contains("\"end\":\"PD--\""), "{line}");
}

#[tokio::test]
async fn what_holds_for_requests_holds_for_all_who_ask() {
    let mut stage = Stage::new(open()).await;
    let to = echo().await;
    let names = stage.names.clone();
    let mut plan = http_plan(plan_of(open(), &names));
    plan.limits.rate = Some(Rate {
        interval: Duration::from_secs(3600),
        burst: 3,
    });
    stage.scene.speak(Plane::Http(Box::new(plan)));
    let [high, low] = to.port().to_be_bytes();
    for (said, wanted) in [
        (
            vec![5, 1, 0, 5, 1, 0, 1, 127, 0, 0, 1, high, low],
            vec![5, 0, 5, 0],
        ),
        (vec![4, 1, high, low, 127, 0, 0, 1, 0], vec![0, 90]),
        (
            vec![5, 1, 0, 5, 3, 0, 1, 0, 0, 0, 0, 0, 0],
            vec![5, 0, 5, 0],
        ),
        // That was all for an hour.
        (
            vec![5, 1, 0, 5, 1, 0, 1, 127, 0, 0, 1, high, low],
            vec![5, 0, 5, 2],
        ),
        (vec![4, 1, high, low, 127, 0, 0, 1, 0], vec![0, 91]),
        (
            vec![5, 1, 0, 5, 3, 0, 1, 0, 0, 0, 0, 0, 0],
            vec![5, 0, 5, 2],
        ),
    ] {
        let mut client = stage.client().await;
        client.send(&said).await;
        let mut heard = client.bytes().await;
        while heard.len() < wanted.len() {
            heard.extend(client.bytes().await);
        }
        assert_eq!(heard[..wanted.len()], wanted, "{said:?}");
    }
    let mut client = stage.client().await;
    client
        .send(format!("CONNECT {to} HTTP/1.1\r\nHost: x\r\n\r\n"))
        .await;
    assert_eq!(client.answer().await.status, 429);
}

#[tokio::test]
async fn what_is_sent_counts_while_it_is_sent() {
    let stage = stage(Allowance {
        bytes: Some(300_000),
        ..Allowance::default()
    })
    .await;
    let origin = Origin::start(|_| vec![Act::ok("taken")]).await;
    let mut client = stage.client().await;
    client
        .send(format!(
            "POST http://{}/ HTTP/1.1\r\nHost: x\r\nContent-Length: 8000000\r\n\r\n",
            origin.address
        ))
        .await;
    // It is answered long before all of it has come.
    for _ in 0..80 {
        let _ = client.stream().write_all(&[b'x'; 100_000]).await;
    }
    let answer = client.answer().await;
    assert_eq!(answer.status, 429, "{}", answer.text());
    assert!(
        answer.text().contains("bytes of this day"),
        "{}",
        answer.text()
    );
    assert_eq!(origin.seen().len(), 0);
}

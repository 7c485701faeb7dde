//! Where clients may go, however they write it.

use std::time::Duration;

use ipreconnect::core::forward::ForwardPolicy;
use ipreconnect_lab::dns::Misdeed;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{Stage, open};
use crate::http::{Act, Origin};
use crate::scene::until;

/// Ways to write this machine, a network of one's own, or a cloud's metadata service.
const TRICKS: [&str; 40] = [
    "127.0.0.1",
    "127.1",
    "127.0.1",
    "0x7f.0.0.1",
    "0x7f000001",
    "0X7F.1",
    "2130706433",
    "017700000001",
    "0177.0.0.1",
    "127.0.0.1.",
    "127.255.255.254",
    "0.0.0.0",
    "0",
    "0x0",
    "[::]",
    "[::1]",
    "[0:0:0:0:0:0:0:1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[::127.0.0.1]",
    "[64:ff9b::7f00:1]",
    "[64:ff9b::10.0.0.1]",
    "[64:ff9b:1::1]",
    "[2002:7f00:1::]",
    "[2001:0:0:0:0:0:80ff:fffe]",
    "[fe80::1]",
    "[fec0::1]",
    "[fc00::1]",
    "[fd00:ec2::254]",
    "[ff02::1]",
    "10.0.0.1",
    "012.0.0.1",
    "172.16.0.1",
    "192.168.1.1",
    "3232235777",
    "169.254.169.254",
    "0xa9fea9fe",
    "100.64.0.1",
    "100.100.100.200",
    "255.255.255.255",
];

#[tokio::test]
async fn no_way_to_write_an_address_leads_to_a_network_of_ones_own() {
    let stage = Stage::new(ForwardPolicy::default()).await;
    let origin = Origin::start(|_| vec![Act::ok("never")]).await;
    let port = origin.address.port();
    for trick in TRICKS {
        for asks in [
            format!("GET http://{trick}:{port}/ HTTP/1.1\r\nHost: x\r\n\r\n"),
            format!("CONNECT {trick}:{port} HTTP/1.1\r\nHost: {trick}:{port}\r\n\r\n"),
        ] {
            let mut client = stage.client().await;
            client.send(&asks).await;
            let answer = client.answer().await;
            assert_eq!(answer.status, 403, "{asks}: {}", answer.text());
            let told = answer.field("Proxy-Status").unwrap();
            assert!(told.contains("error=http_request_denied"), "{told}");
        }
    }
    assert_eq!(origin.seen().len(), 0);
}

#[tokio::test]
async fn a_name_does_not_lead_where_its_address_may_not() {
    let stage = Stage::new(ForwardPolicy::default()).await;
    let origin = Origin::start(|_| vec![Act::ok("never")]).await;
    let port = origin.address.port();
    stage.name("inside.test", "127.0.0.1");
    stage.name("mapped.test", "::ffff:127.0.0.1");
    for asks in [
        format!("GET http://inside.test:{port}/ HTTP/1.1\r\nHost: x\r\n\r\n"),
        format!("CONNECT inside.test:{port} HTTP/1.1\r\nHost: x\r\n\r\n"),
        format!("CONNECT mapped.test:{port} HTTP/1.1\r\nHost: x\r\n\r\n"),
    ] {
        let mut client = stage.client().await;
        client.send(&asks).await;
        let answer = client.answer().await;
        assert_eq!(answer.status, 403, "{asks}");
        let told = answer.field("Proxy-Status").unwrap();
        assert!(told.contains("error=destination_ip_prohibited"), "{told}");
        assert!(
            answer.text().contains("loopback address"),
            "{}",
            answer.text()
        );
    }
    assert_eq!(origin.seen().len(), 0);
    let line = stage.line("\"method\":\"GET\"").await;
    assert!(
        line.contains("\"decision\":\"denied\",\"rule\":\"127.0.0.1 is a loopback address\""),
        "{line}"
    );
}

#[tokio::test]
async fn a_name_that_is_bound_anew_is_judged_anew() {
    let mut policy = open();
    assert!(policy.block.add("127.0.0.2"));
    policy.block.finish();
    let stage = Stage::new(policy).await;
    let origin = Origin::start(|_| vec![Act::ok("allowed")]).await;
    let port = origin.address.port();
    stage
        .zone
        .set("rebind.test", &["127.0.0.1"], Duration::ZERO);
    let asks =
        format!("GET http://rebind.test:{port}/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    let mut client = stage.client().await;
    client.send(&asks).await;
    assert_eq!(client.answer().await.text(), "allowed");
    stage
        .zone
        .set("rebind.test", &["127.0.0.2"], Duration::ZERO);
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let tunnel = format!("CONNECT rebind.test:{port} HTTP/1.1\r\nHost: x\r\n\r\n");
    let mut client = stage.client().await;
    client.send(&tunnel).await;
    assert_eq!(client.answer().await.status, 403);
}

#[tokio::test]
async fn one_lookup_decides_and_is_dialled() {
    let mut policy = open();
    assert!(policy.block.add("127.0.0.2"));
    policy.block.finish();
    let stage = Stage::new(policy).await;
    let origin = Origin::start(|_| vec![Act::ok("right")]).await;
    // Of what it leads to, only what may be dialled is.
    let both = ["127.0.0.2", "127.0.0.1"];
    stage.zone.set("both.test", &both, Duration::from_secs(60));
    let port = origin.address.port();
    let mut client = stage.client().await;
    for _ in 0..3 {
        client
            .send(format!(
                "GET http://both.test:{port}/ HTTP/1.1\r\nHost: x\r\n\r\n"
            ))
            .await;
        assert_eq!(client.answer().await.text(), "right");
    }
    assert_eq!(stage.zone.asked_at_all(), 2, "once for each family");
}

#[tokio::test]
async fn lists_say_where_they_say_it() {
    let mut policy = open();
    policy.block.read(
        "ads.txt",
        "# ads\n0.0.0.0 ads.test\n||tracker.test^\n@@||good.tracker.test^\n",
    );
    assert!(policy.block.add("*.bad.test"));
    policy.block.finish();
    policy.ports = vec![(80, 80)];
    let stage = Stage::new(policy).await;
    let mut client = stage.client().await;
    for (host, wanted) in [
        (
            "ads.test",
            "it is blocked by `ads.test` (line 2 of ads.txt)",
        ),
        (
            "ADS.test.",
            "it is blocked by `ads.test` (line 2 of ads.txt)",
        ),
        (
            "a.tracker.test",
            "it is blocked by `.tracker.test` (line 3 of ads.txt)",
        ),
        ("x.bad.test", "it is blocked by `*.bad.test`"),
        ("fine.test:81", "port 81 is none of those that are allowed"),
    ] {
        client
            .send(format!("GET http://{host}/ HTTP/1.1\r\nHost: x\r\n\r\n"))
            .await;
        let answer = client.answer().await;
        assert_eq!(answer.status, 403, "{host}");
        assert!(answer.text().contains(wanted), "{host}: {}", answer.text());
        let told = answer.field("Proxy-Status").unwrap();
        assert!(told.contains(&format!("details=\"{wanted}\"")), "{told}");
    }
    client
        .send("GET http://good.tracker.test/ HTTP/1.1\r\nHost: x\r\n\r\n")
        .await;
    assert_eq!(client.answer().await.status, 502, "there is no such name");
}

#[tokio::test]
async fn what_is_not_enforced_is_told() {
    let mut policy = ForwardPolicy::default();
    assert!(policy.block.add("blocked.test"));
    policy.block.finish();
    let stage = Stage::with(policy, |plan| plan.is_enforced = false).await;
    let origin = Origin::start(|_| vec![Act::ok("passed")]).await;
    stage.name("blocked.test", "127.0.0.1");
    stage.name("inside.test", "127.0.0.1");
    let port = origin.address.port();
    let mut client = stage.client().await;
    for (host, wanted) in [
        ("blocked.test", "it is blocked by `blocked.test`"),
        ("inside.test", "127.0.0.1 is a loopback address"),
        ("127.0.0.1", "127.0.0.1 is a loopback address"),
    ] {
        client
            .send(format!(
                "GET http://{host}:{port}/ HTTP/1.1\r\nHost: x\r\n\r\n"
            ))
            .await;
        assert_eq!(client.answer().await.text(), "passed", "{host}");
        let line = stage.line(&format!("\"host\":\"{host}:")).await;
        let wanted = format!("\"decision\":\"would be denied\",\"rule\":\"{wanted}\"");
        assert!(line.contains(&wanted), "{line}");
    }
}

#[tokio::test]
async fn names_that_hang_for_one_client_hold_up_no_other() {
    let stage = Stage::new(open()).await;
    let origin = Origin::start(|_| vec![Act::ok("there")]).await;
    stage.name("good.test", "127.0.0.1");
    stage.zone.misbehave(Misdeed::Silent);
    let mut waiting = Vec::new();
    for number in 0..300 {
        let mut client = stage.client().await;
        client
            .send(format!(
                "CONNECT n{number}.test:443 HTTP/1.1\r\nHost: x\r\n\r\n"
            ))
            .await;
        waiting.push(client);
    }
    // All lookups of theirs that may be are under way.
    until("they are asked for", || {
        stage.zone.asked_at_all() >= 2 * 128
    })
    .await;
    stage.zone.behave();
    // It has no turn left for the host that others want to go to.
    let mut greedy = stage.client().await;
    greedy
        .send(format!(
            "CONNECT good.test:{} HTTP/1.1\r\nHost: x\r\n\r\n",
            origin.address.port()
        ))
        .await;
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    let mut other = socket.connect(stage.scene.address).await.unwrap();
    let asks = format!(
        "GET http://good.test:{}/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        origin.address.port()
    );
    other.write_all(asks.as_bytes()).await.unwrap();
    let mut heard = String::new();
    other.read_to_string(&mut heard).await.unwrap();
    assert!(heard.ends_with("there"), "{heard}");
    assert!(
        !waiting[0].has_come(),
        "the first of the others waits still"
    );
}

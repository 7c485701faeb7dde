//! What cannot be read, or says two things.

use super::{Stage, echo, echoes, open};
use crate::http::{Act, Origin};

#[tokio::test]
async fn what_is_no_target_is_told() {
    let stage = Stage::new(open()).await;
    for (asks, status) in [
        ("CONNECT user@a.test:443 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (
            "CONNECT user:secret@a.test:443 HTTP/1.1\r\nHost: a\r\n\r\n",
            400,
        ),
        ("CONNECT a.test HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("CONNECT a.test: HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("CONNECT a.test:0 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("CONNECT a.test:65536 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("CONNECT a.test:443#x HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("CONNECT a.test:443/x HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (
            "CONNECT [fe80::1%25eth0]:443 HTTP/1.1\r\nHost: a\r\n\r\n",
            400,
        ),
        ("CONNECT [::1]443 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("CONNECT :443 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("CONNECT a%2e.test:443 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (
            "CONNECT a.test:443 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n",
            400,
        ),
        (
            "CONNECT a.test:443 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
            400,
        ),
        ("GET http://user@a.test/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET http://a.test/#x HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET http://a.test:0/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET http://a.test:99999/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET http://[::1%25lo]/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET ftp://a.test/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("TRACE http://a.test/ HTTP/1.1\r\nHost: a\r\n\r\n", 405),
        (
            "GET http://a.test/ HTTP/1.1\r\nHost: a\r\nX: a\nb\r\n\r\n",
            400,
        ),
        ("GET http://a.test/ HTTP/1.1\r\nHost : a\r\n\r\n", 400),
        (
            "GET http://a.test/ HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            400,
        ),
        (
            "POST http://a.test/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n",
            400,
        ),
    ] {
        let mut client = stage.client().await;
        client.send(asks).await;
        let (got, head) = client.head().await;
        assert_eq!(got, status, "{asks}: {head}");
    }
    assert_eq!(stage.zone.asked_at_all(), 0, "nobody was looked up");
}

#[tokio::test]
async fn where_it_goes_is_what_the_target_says_and_not_the_host() {
    let stage = Stage::new(open()).await;
    let right = Origin::start(|request| vec![Act::ok(&request.head)]).await;
    let wrong = Origin::start(|_| vec![Act::ok("wrong")]).await;
    let mut client = stage.client().await;
    client
        .send(format!(
            "GET http://{}/ HTTP/1.1\r\nHost: {}\r\n\r\n",
            right.address, wrong.address
        ))
        .await;
    let answer = client.answer().await;
    let host = format!("\r\nHost: {}\r\n", right.address);
    assert!(answer.text().contains(&host), "{}", answer.text());
    assert_eq!(wrong.seen().len(), 0);
}

#[tokio::test]
async fn who_cannot_be_reached_is_told_of_and_the_client_stays() {
    let stage = Stage::new(open()).await;
    let origin = Origin::start(|_| vec![Act::ok("here")]).await;
    let mut client = stage.client().await;
    for (asks, status, told) in [
        (
            "GET http://127.0.0.1:1/ HTTP/1.1\r\nHost: x\r\n\r\n",
            502,
            "connection_refused",
        ),
        (
            "CONNECT 127.0.0.1:1 HTTP/1.1\r\nHost: x\r\n\r\n",
            502,
            "connection_refused",
        ),
        (
            "GET http://nowhere.test/ HTTP/1.1\r\nHost: x\r\n\r\n",
            502,
            "dns_error",
        ),
        (
            "CONNECT nowhere.test:443 HTTP/1.1\r\nHost: x\r\n\r\n",
            502,
            "dns_error",
        ),
    ] {
        client.send(asks).await;
        let answer = client.answer().await;
        assert_eq!(answer.status, status, "{asks}");
        let shown = answer.field("Proxy-Status").unwrap();
        assert!(shown.contains(&format!("error={told}")), "{shown}");
    }
    client
        .send(format!(
            "GET http://{}/ HTTP/1.1\r\nHost: x\r\n\r\n",
            origin.address
        ))
        .await;
    assert_eq!(client.answer().await.text(), "here");
    // And a tunnel after requests is one.
    let to = echo().await;
    client
        .send(format!("CONNECT {to} HTTP/1.1\r\nHost: x\r\n\r\n"))
        .await;
    assert_eq!(client.head().await.0, 200);
    echoes(client.stream()).await;
}

#[tokio::test]
async fn an_origin_that_tears_a_tunnel_tears_it_for_the_client() {
    let stage = Stage::new(open()).await;
    let origin = Origin::start(|_| vec![Act::say("HTTP/1.1 200 OK\r\n"), Act::Reset]).await;
    let mut client = stage.client().await;
    client
        .send(format!(
            "CONNECT {} HTTP/1.1\r\nHost: x\r\n\r\n",
            origin.address
        ))
        .await;
    assert_eq!(client.head().await.0, 200);
    client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    client.rest().await;
    let line = stage.line("CONNECT").await;
    assert!(line.contains("\"end\":\"SD--\""), "{line}");
}

#[tokio::test]
async fn what_was_meant_for_a_tunnel_is_no_request() {
    let stage = Stage::new(open()).await;
    let origin = Origin::start(|_| vec![Act::ok("never")]).await;
    let mut client = stage.client().await;
    client
        .send(format!(
            "CONNECT 10.0.0.1:443 HTTP/1.1\r\nHost: x\r\n\r\nGET http://{}/ HTTP/1.1\r\nHost: x\r\n\r\n",
            origin.address
        ))
        .await;
    let answer = client.answer().await;
    assert_eq!(answer.status, 403);
    assert_eq!(answer.field("Connection"), Some("close"));
    assert!(client.is_closed().await);
    assert_eq!(origin.seen().len(), 0);
}

#[tokio::test]
async fn answers_that_only_inform_are_not_piled_up() {
    let heads = format!(
        "HTTP/1.1 103 Early Hints\r\nLink: </{}>\r\n\r\n",
        "a".repeat(6_000)
    );
    let stage = Stage::new(open()).await;
    let origin = Origin::start(move |_| {
        let mut said = heads.repeat(50);
        said.push_str("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone");
        vec![Act::say(said)]
    })
    .await;
    let mut client = stage.client().await;
    client
        .send(format!(
            "GET http://{}/ HTTP/1.1\r\nHost: x\r\n\r\n",
            origin.address
        ))
        .await;
    let mut informed = 0;
    while client.head().await.0 == 103 {
        informed += 1;
    }
    assert!((1..=2).contains(&informed), "{informed}");
    assert_eq!(client.bytes().await, b"done");
}

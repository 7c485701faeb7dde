//! What leads back to where it came from.

use ipreconnect_proxy::Headers;

use super::{Stage, open};
use crate::http::{Act, Origin};

#[tokio::test]
async fn a_proxy_does_not_go_to_itself() {
    let stage = Stage::with(open(), |plan| plan.headers = Headers::Tell).await;
    let own = stage.scene.address;
    stage.name("proxy.test", "127.0.0.1");
    let port = own.port();
    for asks in [
        format!("GET http://{own}/ HTTP/1.1\r\nHost: x\r\n\r\n"),
        format!("GET http://proxy.test:{port}/ HTTP/1.1\r\nHost: x\r\n\r\n"),
        format!("CONNECT proxy.test:{port} HTTP/1.1\r\nHost: x\r\n\r\n"),
    ] {
        let mut client = stage.client().await;
        client.send(&asks).await;
        let answer = client.answer().await;
        assert_eq!(answer.status, 508, "{asks}: {}", answer.text());
        let told = answer.field("Proxy-Status").unwrap();
        assert!(told.contains("error=proxy_loop_detected"), "{told}");
    }
}

#[tokio::test]
async fn what_has_come_through_before_goes_no_further() {
    let stage = Stage::with(open(), |plan| plan.headers = Headers::Tell).await;
    let origin =
        Origin::start(|request| vec![Act::ok(request.field("via").unwrap_or("none"))]).await;
    let to = format!("http://{}/", origin.address);
    let mut client = stage.client().await;
    client
        .send(format!("GET {to} HTTP/1.1\r\nHost: x\r\n\r\n"))
        .await;
    let via = client.answer().await.text().to_owned();
    assert!(via.starts_with("1.1 ipreconnect-"), "{via}");
    client
        .send(format!(
            "GET {to} HTTP/1.1\r\nHost: x\r\nVia: 1.1 other, {via}\r\n\r\n"
        ))
        .await;
    let answer = client.answer().await;
    assert_eq!(answer.status, 508, "{}", answer.text());
    assert_eq!(origin.seen().len(), 1);
    for (hops, wanted) in [(32, 200), (33, 508)] {
        let others = vec!["1.1 other"; hops].join(", ");
        client
            .send(format!(
                "GET {to} HTTP/1.1\r\nHost: x\r\nVia: {others}\r\n\r\n"
            ))
            .await;
        assert_eq!(client.answer().await.status, wanted, "{hops}");
    }
}

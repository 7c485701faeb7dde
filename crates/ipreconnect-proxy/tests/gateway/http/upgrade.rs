//! What goes on as something else than HTTP.

use super::*;

#[tokio::test]
async fn both_sides_may_go_on_with_another_protocol() {
    let origin = Origin::start(|request| {
        assert_eq!(request.field("Upgrade"), Some("echo/1"));
        assert_eq!(request.field("Connection"), Some("upgrade"));
        vec![
            Act::say(
                "HTTP/1.1 101 Switching\r\nUpgrade: echo/1\r\nConnection: Upgrade\r\n\r\nfirst ",
            ),
            Act::Echo,
        ]
    })
    .await;
    let scene = scene(&[origin.address]).await;
    let mut client = Client::new(&scene).await;
    let head =
        "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: echo/1\r\n\r\n";
    client.send(format!("{head}early")).await;
    let (status, head) = client.head().await;
    assert_eq!(status, 101);
    assert!(head.contains("Upgrade: echo/1\r\n"), "{head}");
    let mut said = std::mem::take(&mut client.unread);
    while said.len() < "first early".len() {
        said.extend(client.more().await);
    }
    assert_eq!(said, b"first early");
    client.send("more").await;
    assert_eq!(client.more().await, b"more");
    client.stream().shutdown().await.unwrap();
    assert!(client.is_closed().await);
}

#[tokio::test]
async fn an_origin_may_decline_it() {
    let origin = Origin::start(|_| vec![Act::ok("no")]).await;
    let scene = scene(&[origin.address]).await;
    let mut client = Client::new(&scene).await;
    client
        .send("GET /ws HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
        .await;
    assert_eq!(client.answer().await.text(), "no");
    assert_eq!(client.get("/").await.text(), "no");
}

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

#[tokio::test]
async fn websockets_pass_as_a_library_speaks_them() {
    use futures_util::{SinkExt, StreamExt};
    use tokio_tungstenite::tungstenite::Message;

    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let Ok(mut socket) = tokio_tungstenite::accept_async(stream).await else {
                    return;
                };
                while let Some(Ok(message)) = socket.next().await {
                    if (message.is_text() || message.is_binary())
                        && socket.send(message).await.is_err()
                    {
                        return;
                    }
                }
            });
        }
    });
    let scene = scene(&[address]).await;
    let stream = TcpStream::connect(scene.address).await.unwrap();
    let (mut socket, response) = tokio_tungstenite::client_async("ws://shop/chat", stream)
        .await
        .unwrap();
    assert_eq!(response.status().as_u16(), 101);
    for size in [0, 1, 125, 126, 70_000, 1_000_000] {
        let sent = Message::binary(vec![7; size]);
        socket.send(sent.clone()).await.unwrap();
        let received = within(10, socket.next()).await.unwrap().unwrap();
        assert_eq!(received, sent, "{size}");
    }
    socket.send(Message::Ping(vec![1, 2].into())).await.unwrap();
    let pong = within(10, socket.next()).await.unwrap().unwrap();
    assert_eq!(pong, Message::Pong(vec![1, 2].into()));
    socket.close(None).await.unwrap();
    let close = within(10, socket.next()).await.unwrap().unwrap();
    assert!(close.is_close(), "{close:?}");
}

#[tokio::test]
async fn a_gateway_that_ends_leaves_a_conversation_until_its_grace_is_over() {
    let origin = Origin::start(|_| {
        let switching = "HTTP/1.1 101 Switching\r\nUpgrade: echo/1\r\nConnection: Upgrade\r\n\r\n";
        vec![Act::say(switching), Act::Echo]
    })
    .await;
    let mut scene = scene(&[origin.address]).await;
    let mut client = Client::new(&scene).await;
    client
        .send("GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo/1\r\n\r\n")
        .await;
    assert_eq!(client.head().await.0, 101);
    let gateway = scene.replace_gateway();
    let address = scene.address;
    let draining = tokio::spawn(gateway.drain(Duration::from_secs(2)));
    crate::scene::until("nobody is let in any more", || {
        std::net::TcpStream::connect(address).is_err()
    })
    .await;
    client.send("still here").await;
    assert_eq!(client.more().await, b"still here");
    assert!(!draining.is_finished());
    assert_eq!(within(10, draining).await.unwrap(), 1);
    assert!(client.is_closed().await);
}

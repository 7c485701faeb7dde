//! Clients that speak HTTP/2 to the proxy.

use bytes::Bytes;
use h2::client::SendRequest;
use http::{Method, Request};
use tokio::net::TcpStream;

use super::{Stage, echo, open};
use crate::http::{Act, Origin};
use crate::scene::within;

async fn caller(stage: &Stage) -> SendRequest<Bytes> {
    let stream = TcpStream::connect(stage.scene.address).await.unwrap();
    let (send, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    send.ready().await.unwrap()
}

async fn whole(mut body: h2::RecvStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let Some(data) = within(10, body.data()).await {
        let data = data.unwrap();
        body.flow_control().release_capacity(data.len()).unwrap();
        bytes.extend_from_slice(&data);
    }
    bytes
}

fn request(method: Method, uri: &str) -> Request<()> {
    Request::builder().method(method).uri(uri).body(()).unwrap()
}

#[tokio::test]
async fn requests_go_where_they_say() {
    let stage = Stage::new(open()).await;
    let origin = Origin::start(|request| vec![Act::ok(&request.head)]).await;
    let uri = format!("http://{}/a?b", origin.address);
    let mut caller = caller(&stage).await;
    let (answer, _) = caller
        .send_request(request(Method::GET, &uri), true)
        .unwrap();
    let answer = within(10, answer).await.unwrap();
    assert_eq!(answer.status(), 200);
    let heard = String::from_utf8(whole(answer.into_body()).await).unwrap();
    let wanted = format!("GET /a?b HTTP/1.1\r\nHost: {}\r\n", origin.address);
    assert!(heard.starts_with(&wanted), "{heard}");
    let (answer, _) = caller
        .send_request(request(Method::GET, "http://10.0.0.1/"), true)
        .unwrap();
    assert_eq!(within(10, answer).await.unwrap().status(), 403);
    let line = stage.line("\"target\":\"/a?b\"").await;
    assert!(line.contains("HTTP/2.0"), "{line}");
}

#[tokio::test]
async fn tunnels_stand_beside_each_other() {
    let stage = Stage::new(open()).await;
    let to = echo().await;
    let mut caller = caller(&stage).await;
    let mut tunnels = Vec::new();
    for _ in 0..3 {
        let asks = request(Method::CONNECT, &to.to_string());
        let (answer, send) = caller.send_request(asks, false).unwrap();
        let answer = within(10, answer).await.unwrap();
        assert_eq!(answer.status(), 200);
        tunnels.push((answer.into_body(), send));
    }
    let refused = request(Method::CONNECT, "10.0.0.1:443");
    let (answer, _) = caller.send_request(refused, false).unwrap();
    assert_eq!(within(10, answer).await.unwrap().status(), 403);
    for (number, (body, mut send)) in tunnels.into_iter().enumerate() {
        let said = vec![u8::try_from(number).unwrap(); 40_000];
        let heard = tokio::spawn(whole(body));
        send.reserve_capacity(said.len());
        send.send_data(said.clone().into(), false).unwrap();
        // An end is an end on the other side, and comes back as one.
        send.send_data(Bytes::new(), true).unwrap();
        assert!(heard.await.unwrap() == said);
    }
    let lines = stage.lines("\"method\":\"CONNECT\"", 4).await;
    let carried = lines
        .iter()
        .filter(|line| line.contains("\"bytes_in\":400"));
    assert_eq!(carried.count(), 3, "{lines:?}");
}

#[tokio::test]
async fn a_tunnel_that_is_torn_is_torn_for_the_other() {
    let stage = Stage::new(open()).await;
    let origin = Origin::start(|_| vec![Act::say("HTTP/1.1 200 OK\r\n"), Act::Reset]).await;
    let mut caller = caller(&stage).await;
    let asks = request(Method::CONNECT, &origin.address.to_string());
    let (answer, mut send) = caller.send_request(asks, false).unwrap();
    let mut body = within(10, answer).await.unwrap().into_body();
    send.send_data("GET / HTTP/1.1\r\nHost: x\r\n\r\n".into(), false)
        .unwrap();
    let torn = within(10, async {
        loop {
            match body.data().await {
                Some(Ok(_)) => {}
                Some(Err(_)) => return true,
                None => return false,
            }
        }
    });
    assert!(torn.await);
    let line = stage.line("CONNECT").await;
    assert!(line.contains("\"end\":\"SD--\""), "{line}");
}

#[tokio::test]
async fn each_tunnel_takes_a_place() {
    // So many descriptors are six places, of which the connection has one.
    let stage = Stage::within(140, open(), |_| {}).await;
    let to = echo().await;
    let mut caller = caller(&stage).await;
    let mut tunnels = Vec::new();
    let mut open = async |tunnels: &mut Vec<_>| {
        let asks = request(Method::CONNECT, &to.to_string());
        let (answer, send) = caller.send_request(asks, false).unwrap();
        let answer = within(10, answer).await.unwrap();
        let status = answer.status();
        tunnels.push((answer.into_body(), send));
        status
    };
    for _ in 0..5 {
        assert_eq!(open(&mut tunnels).await, 200);
    }
    assert_eq!(open(&mut tunnels).await, 503);
    drop(tunnels);
    let began = std::time::Instant::now();
    while open(&mut Vec::new()).await != 200 {
        assert!(began.elapsed() < std::time::Duration::from_secs(10));
    }
}

//! Answers that are compressed on their way.

use std::io::Read;

use super::*;

const TEXT: &str = "Content-Type: text/plain";

async fn compressing(origin: &Origin) -> Scene {
    let mut plan = plan();
    plan.compresses = true;
    scene_with(settings(&[origin.address]), plan).await
}

async fn ask(client: &mut Client, path: &str, accepted: &str) -> Answer {
    client
        .send(format!(
            "GET {path} HTTP/1.1\r\nHost: a\r\nAccept-Encoding: {accepted}\r\n\r\n"
        ))
        .await;
    client.answer().await
}

pub(super) fn plain(coding: &str, body: &[u8]) -> String {
    let mut text = String::new();
    match coding {
        "gzip" => flate2::read::GzDecoder::new(body).read_to_string(&mut text),
        "br" => brotli::Decompressor::new(body, 4096).read_to_string(&mut text),
        "zstd" => zstd::stream::read::Decoder::new(body)
            .unwrap()
            .read_to_string(&mut text),
        other => panic!("{other}"),
    }
    .unwrap();
    text
}

#[tokio::test]
async fn texts_are_compressed_as_the_client_likes_it() {
    let body = "so much of the same ".repeat(100_000);
    let answer = body.clone();
    let origin = Origin::start(move |request| {
        let length = answer.len();
        let head = match request.line() {
            "GET /length" => format!("{TEXT}\r\nETag: \"x\"\r\nContent-Length: {length}"),
            "GET /close" => format!("{TEXT}\r\nConnection: close"),
            "GET /image" => format!("Content-Type: image/png\r\nContent-Length: {length}"),
            other => panic!("{other}"),
        };
        let mut acts = vec![Act::say(format!(
            "HTTP/1.1 200 OK\r\n{head}\r\n\r\n{answer}"
        ))];
        if request.line() == "GET /close" {
            acts.push(Act::Close);
        }
        acts
    })
    .await;
    let scene = compressing(&origin).await;
    let mut client = Client::new(&scene).await;
    for coding in ["gzip", "br", "zstd"] {
        for path in ["/length", "/close"] {
            let answer = ask(&mut client, path, coding).await;
            assert_eq!(answer.field("Content-Encoding"), Some(coding));
            assert_eq!(answer.field("Vary"), Some("Accept-Encoding"));
            assert_eq!(answer.field("Content-Length"), None);
            assert!(answer.body.len() < body.len() / 50, "{coding}");
            assert_eq!(plain(coding, &answer.body), body);
        }
        let answer = ask(&mut client, "/length", coding).await;
        assert_eq!(answer.field("ETag"), Some("W/\"x\""));
    }
    let answer = ask(&mut client, "/length", "identity").await;
    assert_eq!(answer.text(), body);
    assert_eq!(answer.field("Vary"), Some("Accept-Encoding"));
    assert_eq!(answer.field("ETag"), Some("\"x\""));
    let answer = ask(&mut client, "/image", "gzip").await;
    assert_eq!(answer.field("Content-Encoding"), None);
    assert_eq!(answer.field("Vary"), None);
    assert_eq!(answer.text(), body);
}

#[tokio::test]
async fn what_is_said_slowly_comes_as_it_is_said() {
    let bell = std::sync::Arc::new(tokio::sync::Notify::new());
    let rings = std::sync::Arc::clone(&bell);
    let origin = Origin::start(move |_| {
        vec![
            Act::say(format!(
                "HTTP/1.1 200 OK\r\n{TEXT}\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n"
            )),
            Act::Wait(std::sync::Arc::clone(&rings)),
            Act::say("3\r\ntwo\r\n0\r\n\r\n"),
        ]
    })
    .await;
    let scene = compressing(&origin).await;
    let stream = TcpStream::connect(scene.address).await.unwrap();
    let (send, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let mut send = send.ready().await.unwrap();
    let request = http::Request::get("http://a/").header("accept-encoding", "gzip");
    let (response, _) = send.send_request(request.body(()).unwrap(), true).unwrap();
    let response = within(5, response).await.unwrap();
    assert_eq!(response.headers()["content-encoding"], "gzip");
    let mut body = response.into_body();
    let mut bytes = within(5, body.data()).await.unwrap().unwrap().to_vec();
    let mut first = [0; 3];
    flate2::read::GzDecoder::new(&bytes[..])
        .read_exact(&mut first)
        .unwrap();
    assert_eq!(&first, b"one");
    bell.notify_one();
    while let Some(data) = within(5, body.data()).await {
        bytes.extend_from_slice(&data.unwrap());
    }
    assert_eq!(plain("gzip", &bytes), "onetwo");
}

#[tokio::test]
async fn an_answer_that_is_cut_off_is_not_ended_as_if_it_were_whole() {
    let origin = Origin::start(|_| {
        vec![
            Act::say(format!(
                "HTTP/1.1 200 OK\r\n{TEXT}\r\nContent-Length: 5000\r\n\r\npart"
            )),
            Act::Reset,
        ]
    })
    .await;
    let scene = compressing(&origin).await;
    let mut client = Client::new(&scene).await;
    client
        .send("GET / HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\n\r\n")
        .await;
    let all = client.rest().await;
    assert!(!all.ends_with(b"0\r\n\r\n"));
}

//! Origins that speak HTTP/2.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::{HeaderMap, Request, Response};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use super::frames::{ACK, END_HEADERS, END_STREAM, GOAWAY, HEADERS, RESET, SETTINGS, frame};
use super::*;

const UNKNOWN: &str = "ipreconnect; error=connection_terminated; details=\"outcome unknown\"";

fn plan_h2() -> HttpPlan {
    let mut plan = plan();
    plan.settings.as_mut().unwrap().is_h2 = true;
    plan
}

/// One worker, so that its clients share what it has.
async fn scene_h2(origins: &[SocketAddr]) -> Scene {
    scene_of(1, settings(origins), plan_h2()).await
}

/// An origin that answers by `answer`, each request in a task of its own.
async fn serving<F>(
    builder: h2::server::Builder,
    answer: impl Fn(Request<RecvStream>, SendResponse<Bytes>) -> F + Clone + Send + 'static,
) -> (SocketAddr, Arc<AtomicUsize>)
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&connections);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (builder, answer, counted) =
                (builder.clone(), answer.clone(), Arc::clone(&counted));
            tokio::spawn(async move {
                let Ok(mut connection) = builder.handshake(stream).await else {
                    return;
                };
                let mut is_first = true;
                while let Some(Ok((request, respond))) = connection.accept().await {
                    counted.fetch_add(usize::from(std::mem::take(&mut is_first)), SeqCst);
                    tokio::spawn(answer(request, respond));
                }
            });
        }
    });
    (address, connections)
}

async fn read(mut body: RecvStream) -> (Vec<u8>, Option<HeaderMap>) {
    let mut bytes = Vec::new();
    while let Some(data) = body.data().await {
        let data = data.unwrap();
        body.flow_control().release_capacity(data.len()).unwrap();
        bytes.extend_from_slice(&data);
    }
    (bytes, body.trailers().await.unwrap())
}

/// Says what it was asked.
async fn echo(request: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
    let (parts, body) = request.into_parts();
    let (body, trailers) = read(body).await;
    let fields: BTreeMap<&str, String> = parts
        .headers
        .iter()
        .map(|(name, value)| {
            (
                name.as_str(),
                String::from_utf8_lossy(value.as_bytes()).into(),
            )
        })
        .collect();
    let text = format!(
        "{} {} {fields:?} [{}] {:?}",
        parts.method,
        parts.uri,
        String::from_utf8_lossy(&body),
        trailers.map(|trailers| trailers.len()),
    );
    let response = Response::builder().header("server", "x").body(()).unwrap();
    let mut answer = respond.send_response(response, false).unwrap();
    answer.send_data(text.into(), true).unwrap();
}

#[tokio::test]
async fn requests_of_http1_are_asked_in_http2() {
    let (origin, connections) = serving(h2::server::Builder::new(), echo).await;
    let scene = scene_h2(&[origin]).await;
    let mut client = Client::new(&scene).await;
    client
        .send("GET /a?b HTTP/1.1\r\nHost: shop\r\nTE: trailers\r\nCookie: a=1; b=2\r\nConnection: x\r\nX: 1\r\n\r\n")
        .await;
    let answer = client.answer().await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.field("Transfer-Encoding"), Some("chunked"));
    assert_eq!(answer.field("Server"), None);
    let text = answer.text();
    assert!(text.starts_with("GET http://shop/a?b {"), "{text}");
    assert!(text.contains("\"te\": \"trailers\""), "{text}");
    assert!(!text.contains("\"x\""), "{text}");
    assert!(text.ends_with("} [] None"), "{text}");
    let answer = client.post("/p", "hello").await;
    assert!(answer.text().contains("\"content-length\": \"5\""));
    assert!(answer.text().ends_with("} [hello] None"));
    client
        .send("PUT /c HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nT: 1\r\n\r\n")
        .await;
    let answer = client.answer().await;
    assert!(answer.text().ends_with("} [abc] Some(1)"), "{answer:?}");
    // One that has no name for whom it asks.
    client.send("GET /old HTTP/1.0\r\n\r\n").await;
    let answer = client.answer().await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(connections.load(SeqCst), 1);
}

#[tokio::test]
async fn heads_and_empty_answers_keep_what_they_say() {
    let (origin, _) = serving(
        h2::server::Builder::new(),
        |request, mut respond| async move {
            let status = request
                .uri()
                .path()
                .trim_start_matches('/')
                .parse::<u16>()
                .unwrap();
            let mut response = Response::builder().status(status);
            if request.method() == "HEAD" {
                response = response.header("content-length", "7");
            }
            let response = response.body(()).unwrap();
            respond.send_response(response, true).unwrap();
        },
    )
    .await;
    let scene = scene_h2(&[origin]).await;
    let mut client = Client::new(&scene).await;
    let answer = client.get("/200").await;
    assert_eq!(
        (answer.status, answer.field("Content-Length")),
        (200, Some("0"))
    );
    let answer = client.get("/204").await;
    assert_eq!((answer.status, answer.field("Content-Length")), (204, None));
    let answer = client.get("/304").await;
    assert_eq!((answer.status, answer.field("Content-Length")), (304, None));
    client.send("HEAD /200 HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let (_, head) = client.head().await;
    assert!(head.contains("content-length: 7\r\n"), "{head}");
    assert_eq!(client.get("/404").await.status, 404);
}

#[tokio::test]
async fn trailers_and_hints_pass_in_both_versions() {
    let (origin, _) = serving(
        h2::server::Builder::new(),
        |request, mut respond| async move {
            assert_eq!(request.headers()["te"], "trailers");
            read(request.into_body()).await;
            let hint = Response::builder().status(103).header("link", "</a.css>");
            respond.send_informational(hint.body(()).unwrap()).unwrap();
            let mut answer = respond.send_response(Response::new(()), false).unwrap();
            answer
                .send_data(Bytes::from_static(b"data"), false)
                .unwrap();
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", "0".parse().unwrap());
            answer.send_trailers(trailers).unwrap();
        },
    )
    .await;
    let scene = scene_h2(&[origin]).await;
    let mut client = Client::new(&scene).await;
    client
        .send("GET / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\n\r\n")
        .await;
    let (_, hint) = client.head().await;
    assert!(
        hint.starts_with("HTTP/1.1 103 Early Hints\r\nlink: </a.css>"),
        "{hint}"
    );
    let (_, head) = client.head().await;
    assert!(head.contains("Transfer-Encoding: chunked"), "{head}");
    let mut body = String::new();
    while !body.ends_with("\r\n\r\n") {
        body.push_str(std::str::from_utf8(&client.bytes().await).unwrap());
    }
    assert_eq!(body, "4\r\ndata\r\n0\r\ngrpc-status: 0\r\n\r\n");

    let stream = TcpStream::connect(scene.address).await.unwrap();
    let (send, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let mut send = send.ready().await.unwrap();
    let mut request = Request::post("http://a/").body(()).unwrap();
    request
        .headers_mut()
        .insert("te", "trailers".parse().unwrap());
    let (mut response, mut body) = send.send_request(request, false).unwrap();
    body.send_data(Bytes::from_static(b"x"), true).unwrap();
    let hint = std::future::poll_fn(|cx| response.poll_informational(cx)).await;
    assert_eq!(hint.unwrap().unwrap().status(), 103);
    let (data, trailers) = within(10, read(response.await.unwrap().into_body())).await;
    assert_eq!(data, b"data");
    assert_eq!(trailers.unwrap()["grpc-status"], "0");
}

#[tokio::test]
async fn many_requests_share_a_connection_up_to_what_the_origin_allows() {
    for (allowed, wanted) in [(None, 1), (Some(4), 5)] {
        let mut builder = h2::server::Builder::new();
        if let Some(allowed) = allowed {
            builder.max_concurrent_streams(allowed);
        }
        let gate = Arc::new(Semaphore::new(0));
        let there = Arc::new(AtomicUsize::new(0));
        let (held, arrived) = (Arc::clone(&gate), Arc::clone(&there));
        let (origin, connections) = serving(builder, move |request, respond| {
            let (held, arrived) = (Arc::clone(&held), Arc::clone(&arrived));
            async move {
                if request.uri().path() != "/first" {
                    arrived.fetch_add(1, SeqCst);
                    let _ = held.acquire().await.unwrap();
                }
                echo(request, respond).await;
            }
        })
        .await;
        let scene = scene_h2(&[origin]).await;
        // So that what the origin allows is known.
        Client::new(&scene).await.get("/first").await;
        let requests = (0..20).map(|number| {
            let scene = &scene;
            async move {
                let mut client = Client::new(scene).await;
                let answer = client.get(&format!("/{number}")).await;
                assert_eq!(answer.status, 200);
            }
        });
        let answers = within(20, futures_util::future::join_all(requests));
        let ((), _) = tokio::join!(
            async {
                crate::scene::until("all are there", || there.load(SeqCst) == 20).await;
                gate.add_permits(1);
            },
            answers
        );
        assert_eq!(connections.load(SeqCst), wanted, "{allowed:?}");
    }
}

#[tokio::test]
async fn long_bodies_pass_and_a_slow_client_holds_up_nobody() {
    const LONG: usize = 20_000_000;
    let there = Arc::new(AtomicUsize::new(0));
    let arrived = Arc::clone(&there);
    let (origin, _) = serving(h2::server::Builder::new(), move |request, mut respond| {
        let arrived = Arc::clone(&arrived);
        async move {
            let (parts, body) = request.into_parts();
            let (body, _) = read(body).await;
            let length = if parts.uri.path() == "/long" {
                arrived.fetch_add(1, SeqCst);
                LONG
            } else {
                body.len()
            };
            let mut answer = respond.send_response(Response::new(()), false).unwrap();
            let mut left = length;
            while left > 0 {
                answer.reserve_capacity(left.min(65_536));
                let room = std::future::poll_fn(|cx| answer.poll_capacity(cx)).await;
                let Some(Ok(room)) = room else {
                    return;
                };
                let part = room.min(left);
                left -= part;
                answer
                    .send_data(vec![b'x'; part].into(), left == 0)
                    .unwrap();
            }
        }
    })
    .await;
    let scene = scene_h2(&[origin]).await;
    let mut slow = Vec::new();
    for _ in 0..20 {
        let mut client = Client::new(&scene).await;
        client.send("GET /long HTTP/1.1\r\nHost: a\r\n\r\n").await;
        slow.push(client);
    }
    crate::scene::until("they are asked for", || there.load(SeqCst) == 20).await;
    let mut client = Client::new(&scene).await;
    let body = "y".repeat(5_000_000);
    assert_eq!(
        within(20, client.post("/", &body)).await.body.len(),
        body.len()
    );
    assert_eq!(within(20, client.get("/long")).await.body.len(), LONG);
    for mut client in slow {
        assert_eq!(within(20, client.answer()).await.body.len(), LONG);
    }
}

/// An origin that says frames as they are written.
struct Frames {
    address: SocketAddr,
    /// Requests, by connection and stream.
    seen: Arc<Mutex<Vec<(usize, u32)>>>,
}

/// `200`, and nothing more.
fn fine(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, stream, &[0x88])
}

fn reset(stream: u32, reason: Reason) -> Vec<u8> {
    frame(RESET, 0, stream, &u32::from(reason).to_be_bytes())
}

fn goaway(last: u32) -> Vec<u8> {
    frame(GOAWAY, 0, 0, &[last.to_be_bytes(), [0; 4]].concat())
}

impl Frames {
    /// `say` answers each head of a request, by the number of its connection and its stream; an empty
    /// answer with `false` ends the connection.
    async fn start(say: impl Fn(usize, u32) -> (Vec<u8>, bool) + Clone + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let all = Arc::clone(&seen);
        tokio::spawn(async move {
            let mut number = 0;
            while let Ok((mut stream, _)) = listener.accept().await {
                let (say, all) = (say.clone(), Arc::clone(&all));
                let mut preface = [0; 24];
                // Others only look whether somebody listens.
                if stream.read_exact(&mut preface).await.is_err() {
                    continue;
                }
                let own = number;
                number += 1;
                tokio::spawn(async move {
                    stream.write_all(&frame(SETTINGS, 0, 0, &[])).await.unwrap();
                    while let Some(came) = frames::read(&mut stream).await {
                        let (answer, goes_on) = match came.kind {
                            SETTINGS if came.flags == 0 => (frame(SETTINGS, ACK, 0, &[]), true),
                            HEADERS => {
                                all.lock().unwrap().push((own, came.stream));
                                say(own, came.stream)
                            }
                            _ => continue,
                        };
                        if stream.write_all(&answer).await.is_err() || !goes_on {
                            return;
                        }
                    }
                });
            }
        });
        Self { address, seen }
    }

    fn seen(&self) -> Vec<(usize, u32)> {
        self.seen.lock().unwrap().clone()
    }
}

#[tokio::test]
async fn what_the_origin_refused_is_sent_again_whatever_it_is() {
    let origin = Frames::start(|_, id| match id {
        1 => (reset(1, Reason::REFUSED_STREAM), true),
        id => (fine(id), true),
    })
    .await;
    let scene = scene_h2(&[origin.address]).await;
    let mut client = Client::new(&scene).await;
    assert_eq!(client.post("/pay", "100").await.status, 200);
    assert_eq!(origin.seen(), [(0, 1), (0, 3)]);
}

#[tokio::test]
async fn an_origin_that_refuses_everything_is_not_asked_for_ever() {
    let origin = Frames::start(|_, id| (reset(id, Reason::REFUSED_STREAM), true)).await;
    let scene = scene_h2(&[origin.address]).await;
    let mut client = Client::new(&scene).await;
    let answer = client.post("/pay", "100").await;
    assert_eq!(answer.status, 502);
    let told = answer.field("Proxy-Status").unwrap();
    assert!(told.ends_with("details=\"not processed\""), "{told}");
    assert_eq!(origin.seen().len(), 3);
}

#[tokio::test]
async fn a_request_beyond_a_goaway_is_sent_again_and_one_before_it_is_answered() {
    let origin = Frames::start(|connection, id| match (connection, id) {
        (0, 1) => (Vec::new(), true),
        // The first one is still worked on, the second is not begun.
        (0, 3) => ([goaway(1), fine(1)].concat(), true),
        (_, id) => (fine(id), true),
    })
    .await;
    let scene = scene_h2(&[origin.address]).await;
    let (mut first, mut second) = (Client::new(&scene).await, Client::new(&scene).await);
    first
        .send("POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n1")
        .await;
    crate::scene::until("the first request", || origin.seen().len() == 1).await;
    assert_eq!(second.post("/2", "2").await.status, 200);
    assert_eq!(first.answer().await.status, 200);
    assert_eq!(second.post("/3", "3").await.status, 200);
    assert_eq!(origin.seen(), [(0, 1), (0, 3), (1, 1), (1, 3)]);
}

#[tokio::test]
async fn a_request_before_a_goaway_is_not_sent_again_when_the_connection_ends() {
    let origin = Frames::start(|connection, id| match (connection, id) {
        (0, 1) => (Vec::new(), true),
        (0, 3) => (goaway(1), false),
        (_, id) => (fine(id), true),
    })
    .await;
    let scene = scene_h2(&[origin.address]).await;
    let (mut first, mut second) = (Client::new(&scene).await, Client::new(&scene).await);
    first
        .send("POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n1")
        .await;
    crate::scene::until("the first request", || origin.seen().len() == 1).await;
    assert_eq!(second.post("/2", "2").await.status, 200);
    let answer = first.answer().await;
    assert_eq!(answer.status, 502);
    assert_eq!(answer.field("Proxy-Status"), Some(UNKNOWN));
    assert_eq!(origin.seen(), [(0, 1), (0, 3), (1, 1)]);
}

#[tokio::test]
async fn a_lost_connection_loses_only_what_may_not_be_repeated() {
    let origin = Frames::start(|connection, id| match (connection, id) {
        (0, 1) => (Vec::new(), true),
        (0, 3) => (Vec::new(), false),
        (_, id) => (fine(id), true),
    })
    .await;
    let scene = scene_h2(&[origin.address]).await;
    let (mut first, mut second) = (Client::new(&scene).await, Client::new(&scene).await);
    first.send("GET /1 HTTP/1.1\r\nHost: a\r\n\r\n").await;
    crate::scene::until("the first request", || origin.seen().len() == 1).await;
    let answer = second.post("/2", "2").await;
    assert_eq!(answer.status, 502);
    assert_eq!(answer.field("Proxy-Status"), Some(UNKNOWN));
    assert_eq!(first.answer().await.status, 200);
    assert_eq!(origin.seen(), [(0, 1), (0, 3), (1, 1)]);
}

#[tokio::test]
async fn a_request_that_was_broken_off_is_known_to_nobody() {
    let origin = Frames::start(|_, id| match id {
        1 | 3 => (reset(id, Reason::INTERNAL_ERROR), true),
        id => (fine(id), true),
    })
    .await;
    let scene = scene_h2(&[origin.address]).await;
    let mut client = Client::new(&scene).await;
    let answer = client.post("/pay", "100").await;
    assert_eq!(answer.field("Proxy-Status"), Some(UNKNOWN));
    assert_eq!(client.get("/").await.status, 200);
    // Nobody takes the endpoint for lost by that.
    assert_eq!(origin.seen(), [(0, 1), (0, 3), (0, 5)]);
}

#[tokio::test]
async fn trailers_pass_beside_a_length() {
    let (origin, _) = serving(
        h2::server::Builder::new(),
        |request, mut respond| async move {
            read(request.into_body()).await;
            let response = Response::builder().header("content-length", "4");
            let mut answer = respond
                .send_response(response.body(()).unwrap(), false)
                .unwrap();
            answer
                .send_data(Bytes::from_static(b"data"), false)
                .unwrap();
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", "7".parse().unwrap());
            answer.send_trailers(trailers).unwrap();
        },
    )
    .await;
    let scene = scene_h2(&[origin]).await;
    // Who has no room for them has the answer all the same, and may go on.
    let mut client = Client::new(&scene).await;
    for _ in 0..3 {
        let answer = client.get("/").await;
        assert_eq!((answer.status, answer.text()), (200, "data"));
    }
    let stream = TcpStream::connect(scene.address).await.unwrap();
    let (send, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let mut send = send.ready().await.unwrap();
    let mut request = Request::get("http://a/").body(()).unwrap();
    request
        .headers_mut()
        .insert("te", "trailers".parse().unwrap());
    let (response, _) = send.send_request(request, true).unwrap();
    let (data, trailers) = within(10, read(response.await.unwrap().into_body())).await;
    assert_eq!(data, b"data");
    assert_eq!(trailers.unwrap()["grpc-status"], "7");
}

#[tokio::test]
async fn what_a_client_alone_is_to_blame_for_is_not_the_origins_fault() {
    let (origin, connections) = serving(h2::server::Builder::new(), echo).await;
    let scene = scene_h2(&[origin]).await;
    let many: String = (0..126).map(|n| format!("X-{n}: 1\r\n")).collect();
    let mut client = Client::new(&scene).await;
    client
        .send(format!(
            "POST /x HTTP/1.1\r\nHost: shop\r\n{many}Content-Length: 1\r\n\r\nx"
        ))
        .await;
    assert_eq!(client.answer().await.status, 200);
    // What HTTP/2 cannot say: encoded, it is longer than a library takes.
    let long = "<".repeat(23_000);
    client
        .send(format!(
            "POST /{long} HTTP/1.1\r\nHost: shop\r\nContent-Length: 1\r\n\r\nx"
        ))
        .await;
    assert_eq!(client.answer().await.status, 431);
    let mut client = Client::new(&scene).await;
    assert_eq!(client.get("/").await.status, 200);
    assert_eq!(connections.load(SeqCst), 1);
    let status = scene.origin.status();
    assert!(status.endpoints[0].failure.is_none(), "{status:?}");
}

#[tokio::test]
async fn a_connection_that_has_just_ended_holds_up_nobody() {
    // It goes without a word, right behind an answer.
    let origin = Frames::start(|_, id| (fine(id), id < 5)).await;
    let scene = scene_h2(&[origin.address]).await;
    let mut client = Client::new(&scene).await;
    for number in 0..300 {
        let answer = within(10, client.post("/pay", &number.to_string())).await;
        match answer.status {
            200 => {}
            502 => assert_eq!(answer.field("Proxy-Status"), Some(UNKNOWN)),
            other => panic!("{other}: {answer:?}"),
        }
    }
}

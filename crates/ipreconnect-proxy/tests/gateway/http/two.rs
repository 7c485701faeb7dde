//! Clients that speak HTTP/2.

use std::sync::Arc;

use bytes::Bytes;
use h2::client::SendRequest;
use h2::{Reason, RecvStream};
use http::{HeaderMap, Request, Response};
use ipreconnect::core::http::{PathRule, RouteRule};
use ipreconnect_proxy::{
    Access, AccessSettings, Door, HttpBranch, HttpRoute, HttpSettings, Rewrite,
};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::*;
use crate::scene::until;

struct Caller {
    send: SendRequest<Bytes>,
    connection: JoinHandle<Result<(), h2::Error>>,
}

async fn caller(scene: &Scene) -> Caller {
    let stream = TcpStream::connect(scene.address).await.unwrap();
    let (send, connection) = h2::client::handshake(stream).await.unwrap();
    Caller {
        send: send.ready().await.unwrap(),
        connection: tokio::spawn(connection),
    }
}

fn get(path: &str) -> Request<()> {
    let uri = format!("http://shop{path}");
    Request::builder().uri(uri).body(()).unwrap()
}

fn post(path: &str) -> Request<()> {
    let uri = format!("http://shop{path}");
    Request::builder().method("POST").uri(uri).body(()).unwrap()
}

async fn whole(response: Response<RecvStream>) -> (u16, Vec<u8>, Option<HeaderMap>) {
    let status = response.status().as_u16();
    let mut body = response.into_body();
    let mut bytes = Vec::new();
    while let Some(data) = within(10, body.data()).await {
        let data = data.unwrap();
        body.flow_control().release_capacity(data.len()).unwrap();
        bytes.extend_from_slice(&data);
    }
    let trailers = body.trailers().await.unwrap();
    (status, bytes, trailers)
}

impl Caller {
    async fn ask(&mut self, request: Request<()>) -> (u16, String) {
        let (response, _) = self.send.send_request(request, true).unwrap();
        let (status, body, _) = whole(within(10, response).await.unwrap()).await;
        (status, String::from_utf8(body).unwrap())
    }
}

async fn echoing() -> Origin {
    Origin::start(|request| {
        let body = String::from_utf8_lossy(&request.body).into_owned();
        vec![Act::ok(format!("{} [{body}]", request.line()))]
    })
    .await
}

#[tokio::test]
async fn requests_and_answers_pass() {
    let origin = echoing().await;
    let scene = scene(&[origin.address]).await;
    let mut caller = caller(&scene).await;
    assert_eq!(
        caller.ask(get("/a?b")).await,
        (200, "GET /a?b []".to_owned())
    );
    let mut request = get("/c");
    let headers = request.headers_mut();
    headers.append("cookie", "a=1".parse().unwrap());
    headers.append("cookie", "b=2".parse().unwrap());
    headers.append("te", "trailers".parse().unwrap());
    caller.ask(request).await;
    let seen = origin.seen();
    assert_eq!(seen[0].field("Host"), Some("shop"));
    assert_eq!(seen[1].field("Cookie"), Some("a=1; b=2"));
    assert_eq!(seen[1].field("TE"), None);
    assert_eq!(origin.connections(), 1);
}

#[tokio::test]
async fn bodies_pass_with_a_length_and_without() {
    let origin = echoing().await;
    let scene = scene(&[origin.address]).await;
    let mut caller = caller(&scene).await;
    let (response, mut body) = caller.send.send_request(post("/p"), false).unwrap();
    body.send_data(Bytes::from_static(b"hel"), false).unwrap();
    until("it is on its way", || origin.heard() > 0).await;
    body.send_data(Bytes::from_static(b"lo"), true).unwrap();
    let (_, text, _) = whole(response.await.unwrap()).await;
    let text = String::from_utf8(text).unwrap();
    assert_eq!(text, "POST /p [3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n]");
    let mut request = post("/q");
    request
        .headers_mut()
        .insert("content-length", "5".parse().unwrap());
    let (response, mut body) = caller.send.send_request(request, false).unwrap();
    body.send_data(Bytes::from_static(b"hello"), true).unwrap();
    let (_, text, _) = whole(response.await.unwrap()).await;
    assert_eq!(text, b"POST /q [hello]");
}

#[tokio::test]
async fn trailers_and_hints_pass() {
    let origin = Origin::start(|request| {
        let body = String::from_utf8_lossy(&request.body).into_owned();
        assert!(body.ends_with("0\r\nasked: yes\r\n\r\n"), "{body:?}");
        vec![
            Act::say("HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n"),
            Act::say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nServer: x\r\n\r\n"),
            Act::say("4\r\ndata\r\n0\r\nGrpc-Status: 0\r\n\r\n"),
        ]
    })
    .await;
    let scene = scene(&[origin.address]).await;
    let mut caller = caller(&scene).await;
    let (mut response, mut body) = caller.send.send_request(post("/"), false).unwrap();
    body.send_data(Bytes::from_static(b"x"), false).unwrap();
    let mut trailers = HeaderMap::new();
    trailers.insert("asked", "yes".parse().unwrap());
    body.send_trailers(trailers).unwrap();
    let hint = std::future::poll_fn(|cx| response.poll_informational(cx)).await;
    let hint = hint.unwrap().unwrap();
    assert_eq!(hint.status(), 103);
    assert_eq!(hint.headers()["link"], "</a.css>");
    let response = response.await.unwrap();
    assert!(!response.headers().contains_key("server"));
    assert!(!response.headers().contains_key("transfer-encoding"));
    let (status, body, trailers) = whole(response).await;
    assert_eq!((status, body.as_slice()), (200, &b"data"[..]));
    assert_eq!(trailers.unwrap()["grpc-status"], "0");
}

#[tokio::test]
async fn many_requests_go_at_once() {
    let gate = Arc::new(Notify::new());
    let held = Arc::clone(&gate);
    let origin =
        Origin::start(move |request| vec![Act::Wait(Arc::clone(&held)), Act::ok(request.line())])
            .await;
    let scene = scene(&[origin.address]).await;
    let mut caller = caller(&scene).await;
    let mut answers = Vec::new();
    for number in 0..100 {
        let (response, _) = caller
            .send
            .send_request(get(&format!("/{number}")), true)
            .unwrap();
        answers.push((number, response));
    }
    until("all of them are there", || origin.seen().len() == 100).await;
    gate.notify_waiters();
    for (number, response) in answers {
        let (_, body, _) = whole(within(10, response).await.unwrap()).await;
        assert_eq!(body, format!("GET /{number}").into_bytes());
    }
}

#[tokio::test]
async fn large_bodies_pass_whole() {
    const LENGTH: usize = 5_000_000;
    let origin = Origin::start(|request| {
        let data: usize = request.body.iter().filter(|byte| **byte == b'y').count();
        vec![
            Act::say(format!(
                "HTTP/1.1 200 OK\r\nX-Data: {data}\r\nContent-Length: {LENGTH}\r\n\r\n"
            )),
            Act::Say(vec![b'x'; LENGTH]),
        ]
    })
    .await;
    let scene = scene(&[origin.address]).await;
    let mut caller = caller(&scene).await;
    let (response, mut body) = caller.send.send_request(post("/"), false).unwrap();
    let mut left = LENGTH;
    while left > 0 {
        body.reserve_capacity(left);
        let room = std::future::poll_fn(|cx| body.poll_capacity(cx)).await;
        let room = room.unwrap().unwrap().min(left);
        left -= room;
        body.send_data(vec![b'y'; room].into(), left == 0).unwrap();
    }
    let response = within(20, response).await.unwrap();
    assert_eq!(response.headers()["x-data"], LENGTH.to_string());
    assert_eq!(whole(response).await.1.len(), LENGTH);
}

#[tokio::test]
async fn what_the_client_takes_back_is_ended_at_the_origin() {
    let origin = Origin::start(|_| vec![Act::Wait(Arc::default())]).await;
    let scene = scene(&[origin.address]).await;
    let mut caller = caller(&scene).await;
    let (response, mut stream) = caller.send.send_request(get("/"), true).unwrap();
    until("it is there", || origin.seen().len() == 1).await;
    stream.send_reset(Reason::CANCEL);
    drop(response);
    let open = || scene.origin.status().endpoints[0].open;
    until("its connection is ended", || open() == 0).await;
}

#[tokio::test]
async fn whoever_only_takes_requests_back_is_sent_away() {
    let origin = Origin::start(|_| vec![Act::Wait(Arc::default())]).await;
    let scene = scene(&[origin.address]).await;
    let caller = caller(&scene).await;
    for _ in 0..20_000 {
        if caller.connection.is_finished() {
            break;
        }
        let ready = caller.send.clone().ready().await;
        let Ok(mut send) = ready else {
            break;
        };
        if let Ok((_, mut stream)) = send.send_request(get("/"), true) {
            tokio::task::yield_now().await;
            stream.send_reset(Reason::CANCEL);
        }
    }
    let ended = within(10, caller.connection).await.unwrap();
    let error = ended.unwrap_err();
    // What it was told last may be lost with the connection.
    let is_told = error.reason() == Some(Reason::ENHANCE_YOUR_CALM);
    assert!(is_told || error.is_io(), "{error}");
    let before = origin.seen().len();
    let mut honest = self::caller(&scene).await;
    let _served = honest.send.send_request(get("/"), true).unwrap();
    until("others are served", || origin.seen().len() > before).await;
}

#[tokio::test]
async fn requests_that_cannot_be_are_refused_one_by_one() {
    let origin = echoing().await;
    let scene = scene(&[origin.address]).await;
    let mut caller = caller(&scene).await;
    let connect = Request::connect("shop:443").body(()).unwrap();
    assert_eq!(caller.ask(connect).await.0, 405);
    let mut odd = get("/");
    odd.headers_mut().insert("expect", "gold".parse().unwrap());
    assert_eq!(caller.ask(odd).await.0, 417);
    let mut long = get("/");
    long.headers_mut()
        .insert("a", "x".repeat(100_000).parse().unwrap());
    // The library that reads it answers before we see it.
    let (response, _) = caller.send.send_request(long, true).unwrap();
    match within(10, response).await {
        Ok(response) => assert_eq!(response.status(), 431),
        Err(error) => assert!(error.is_reset() || error.is_go_away(), "{error}"),
    }
    let mut next = self::caller(&scene).await;
    assert_eq!(next.ask(get("/")).await.0, 200);
    assert_eq!(origin.seen().len(), 1);
}

#[tokio::test]
async fn a_lost_answer_is_a_lost_stream_and_not_a_whole_one() {
    let origin = Origin::start(|_| {
        vec![
            Act::say("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\npart"),
            Act::Reset,
        ]
    })
    .await;
    let scene = scene(&[origin.address]).await;
    let mut caller = caller(&scene).await;
    let (response, _) = caller.send.send_request(get("/"), true).unwrap();
    let error = match within(10, response).await {
        Err(error) => error,
        Ok(response) => {
            let mut body = response.into_body();
            loop {
                match within(10, body.data()).await {
                    Some(Ok(_)) => {}
                    Some(Err(error)) => break error,
                    None => panic!("it looks whole"),
                }
            }
        }
    };
    assert!(error.is_reset(), "{error}");
}

#[tokio::test]
async fn a_gateway_that_ends_lets_requests_finish() {
    let gate = Arc::new(Notify::new());
    let held = Arc::clone(&gate);
    let origin = Origin::start(move |_| vec![Act::Wait(Arc::clone(&held)), Act::ok("last")]).await;
    let mut scene = scene_of(1, settings(&[origin.address]), plan()).await;
    let mut caller = caller(&scene).await;
    let mut old = Client::new(&scene).await;
    let (response, _) = caller.send.send_request(get("/"), true).unwrap();
    old.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    until("both are there", || origin.seen().len() == 2).await;
    let gateway = scene.replace_gateway();
    let draining = tokio::spawn(gateway.drain(std::time::Duration::from_secs(10)));
    let told = async {
        while caller.send.clone().ready().await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    within(10, told).await;
    gate.notify_waiters();
    assert_eq!(whole(response.await.unwrap()).await.1, b"last");
    let answer = old.answer().await;
    assert_eq!(
        (answer.text(), answer.field("Connection")),
        ("last", Some("close"))
    );
    assert_eq!(within(15, draining).await.unwrap(), 0);
}

#[tokio::test]
async fn an_early_answer_does_not_cut_the_body_off() {
    let refusing = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = refusing.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = refusing.accept().await.unwrap();
            tokio::spawn(async move {
                let mut piece = [0; 4096];
                if stream.read(&mut piece).await.unwrap_or(0) > 0 {
                    let answer = "HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 3\r\n\r\nbig";
                    stream.write_all(answer.as_bytes()).await.unwrap();
                    while stream.read(&mut piece).await.unwrap_or(0) > 0 {}
                }
            });
        }
    });
    let scene = scene(&[address]).await;
    let mut caller = caller(&scene).await;
    let (response, mut body) = caller.send.send_request(post("/"), false).unwrap();
    body.send_data(vec![b'x'; 10_000].into(), false).unwrap();
    let response = within(10, response).await.unwrap();
    body.send_data(vec![b'x'; 10_000].into(), true).unwrap();
    let (status, text, _) = whole(response).await;
    assert_eq!((status, text.as_slice()), (413, &b"big"[..]));
    assert_eq!(caller.ask(get("/next")).await.0, 413);
    let reset = std::future::poll_fn(|cx| std::task::Poll::Ready(body.poll_reset(cx))).await;
    assert!(!matches!(reset, std::task::Poll::Ready(Ok(_))), "{reset:?}");
}

#[tokio::test]
async fn a_gateway_that_has_no_grace_cuts_what_is_under_way_and_ends() {
    let origin = Origin::start(|_| vec![Act::Wait(Arc::default())]).await;
    let mut scene = scene(&[origin.address]).await;
    let mut caller = caller(&scene).await;
    let (response, _) = caller.send.send_request(get("/"), true).unwrap();
    let mut old = Client::new(&scene).await;
    old.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    until("both are there", || origin.seen().len() == 2).await;
    let gateway = scene.replace_gateway();
    // Whoever came before, to see whether it listens, has gone.
    until("nobody else is there", || gateway.clients() == 2).await;
    let cut = within(10, gateway.drain(std::time::Duration::ZERO)).await;
    assert_eq!(cut, 2);
    assert!(within(10, response).await.is_err());
    assert!(old.is_closed().await);
}

#[tokio::test]
async fn a_body_that_is_promised_and_does_not_come_reaches_nobody() {
    let origin = echoing().await;
    let scene = scene(&[origin.address]).await;
    let mut caller = caller(&scene).await;
    let mut request = post("/short");
    let headers = request.headers_mut();
    headers.insert("content-length", "5".parse().unwrap());
    let (response, _) = caller.send.send_request(request, true).unwrap();
    match within(10, response).await {
        Ok(response) => assert_eq!(response.status(), 400),
        Err(error) => assert!(error.is_reset() || error.is_go_away(), "{error}"),
    }
    let mut next = self::caller(&scene).await;
    assert_eq!(next.ask(get("/next")).await.1, "GET /next []");
    assert_eq!(origin.seen().len(), 1);
}

#[tokio::test]
async fn bodies_that_wait_for_one_origin_do_not_hold_up_those_for_another() {
    let origin = echoing().await;
    let mut scene = scene(&[origin.address]).await;
    let nobody = {
        let unused = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        unused.local_addr().unwrap()
    };
    let away = scene.another("away", &[nobody]).await;
    let mut plan = plan();
    plan.routes = vec![route_to("/away", &away)];
    scene.speak(Plane::Http(Box::new(plan)));
    let mut caller = caller(&scene).await;
    let mut held = Vec::new();
    for _ in 0..20 {
        let (response, mut body) = caller.send.send_request(post("/away"), false).unwrap();
        body.send_data(vec![b'x'; 200_000].into(), false).unwrap();
        held.push((response, body));
    }
    let (response, mut body) = caller.send.send_request(post("/here"), false).unwrap();
    body.send_data(vec![b'y'; 100_000].into(), true).unwrap();
    let (status, text, _) = whole(within(10, response).await.unwrap()).await;
    assert_eq!(status, 200);
    assert!(text.len() > 100_000, "{}", text.len());
}

#[tokio::test]
async fn whoever_has_had_enough_of_many_answers_may_ask_on() {
    let origin = Origin::start(|request| match request.line() {
        "GET /stream" => vec![
            Act::say("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\npart"),
            Act::Wait(Arc::default()),
        ],
        _ => vec![Act::ok("here")],
    })
    .await;
    let scene = scene(&[origin.address]).await;
    let mut caller = caller(&scene).await;
    for _ in 0..150 {
        let (response, mut stream) = caller.send.send_request(get("/stream"), true).unwrap();
        assert_eq!(within(10, response).await.unwrap().status(), 200);
        stream.send_reset(Reason::CANCEL);
    }
    assert_eq!(caller.ask(get("/")).await, (200, "here".to_owned()));
}

#[tokio::test]
async fn clients_of_before_a_reload_go_by_what_is_said_after_it() {
    let origins = [
        Origin::start(|_| vec![Act::ok("old")]).await,
        Origin::start(|_| vec![Act::ok("new")]).await,
    ];
    let mut scene = scene(&[origins[0].address]).await;
    let mut first = Client::new(&scene).await;
    let mut second = caller(&scene).await;
    assert_eq!(first.get("/").await.text(), "old");
    assert_eq!(second.ask(get("/")).await.1, "old");
    for _ in 0..3 {
        let other = scene.another("other", &[origins[1].address]).await;
        let mut plan = plan();
        plan.routes = vec![route_to("/", &other)];
        scene.speak(Plane::Http(Box::new(plan)));
        let answer = first.get("/").await;
        assert_eq!((answer.text(), answer.field("Connection")), ("new", None));
        assert_eq!(second.ask(get("/")).await.1, "new");
    }
}

fn route_to(path: &str, origin: &ipreconnect::Origin) -> HttpRoute {
    HttpRoute {
        rule: RouteRule {
            paths: vec![PathRule::new(path).unwrap()],
            ..RouteRule::default()
        },
        branches: vec![HttpBranch {
            origin: origin.clone(),
            settings: HttpSettings::default(),
            weight: 1,
        }],
        sticky: None,
        rewrite: Rewrite::default(),
        requires: Vec::new(),
        fallback: None,
        mirror: None,
        cache: None,
    }
}

#[tokio::test]
async fn who_may_not_come_in_any_more_has_to_come_again() {
    let origin = Origin::start(|_| vec![Act::ok("here")]).await;
    let scene = scene(&[origin.address]).await;
    let mut first = Client::new(&scene).await;
    let mut second = caller(&scene).await;
    assert_eq!(first.get("/").await.text(), "here");
    assert_eq!(second.ask(get("/")).await.1, "here");
    let door = Door {
        access: Access::new(AccessSettings::default()),
        ..Door::default()
    };
    let plane = Plane::Http(Box::new(plan()));
    let (origin, listener) = (scene.origin.clone(), crate::scene::listener());
    scene.gateway.reroute("test", origin, listener, door, plane);
    let answer = first.get("/").await;
    assert_eq!(answer.field("Connection"), Some("close"), "{answer:?}");
    assert!(first.is_closed().await);
    let mut third = Client::new(&scene).await;
    assert!(third.is_closed().await);
    // It is told to go when it asks, and goes.
    let (response, _) = second.send.send_request(get("/"), true).unwrap();
    let _ = within(10, response).await;
    assert!(within(10, &mut second.connection).await.is_ok());
}

//! Heads and bodies, as they are meant to be.

use super::*;

async fn echoing() -> Origin {
    Origin::start(|request| {
        vec![Act::ok(format!(
            "{} [{}]",
            request.line(),
            String::from_utf8_lossy(&request.body)
        ))]
    })
    .await
}

#[tokio::test]
async fn requests_and_answers_pass() {
    let origin = echoing().await;
    let scene = scene(&[origin.address]).await;
    let mut client = Client::new(&scene).await;
    let answer = client.get("/a?b=c").await;
    assert_eq!((answer.status, answer.text()), (200, "GET /a?b=c []"));
    let answer = client.post("/p", "hello").await;
    assert_eq!(answer.text(), "POST /p [hello]");
    assert_eq!(
        origin.connections(),
        1,
        "the connection to the origin is used again"
    );
    let seen = &origin.seen()[0];
    assert_eq!(seen.field("Host"), Some("shop"));
    assert_eq!(seen.field("X-Forwarded-For"), Some("127.0.0.1"));
    assert_eq!(seen.field("X-Forwarded-Proto"), Some("http"));
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let origin = echoing().await;
    let scene = scene(&[origin.address]).await;
    let mut client = Client::new(&scene).await;
    let mut requests = String::new();
    for number in 0..50 {
        requests.push_str(&format!(
            "POST /{number} HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{number:02}"
        ));
    }
    client.send(requests).await;
    for number in 0..50 {
        let answer = client.answer().await;
        assert_eq!(answer.text(), format!("POST /{number} [{number:02}]"));
    }
}

#[tokio::test]
async fn a_body_in_chunks_passes_both_ways() {
    let origin = Origin::start(|request| {
        let body = String::from_utf8_lossy(&request.body).into_owned();
        vec![
            Act::say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
            Act::say(format!("{:x}\r\n{body}\r\n", body.len())),
            Act::say("0\r\n\r\n"),
        ]
    })
    .await;
    let scene = scene(&[origin.address]).await;
    let mut client = Client::new(&scene).await;
    for _ in 0..3 {
        let before = origin.heard();
        client
            .send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
            .await;
        crate::scene::until("it is on its way", || origin.heard() > before).await;
        client.send("2;x=y\r\nde\r\n0\r\n\r\n").await;
        let answer = client.answer().await;
        assert_eq!(answer.text(), "3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n");
    }
    assert_eq!(origin.connections(), 1);
}

#[tokio::test]
async fn large_bodies_pass_whole() {
    const LENGTH: usize = 20_000_000;
    let origin = Origin::start(|request| {
        let sum: u64 = request.body.iter().map(|byte| u64::from(*byte)).sum();
        let body = vec![b'x'; LENGTH];
        vec![
            Act::say(format!(
                "HTTP/1.1 200 OK\r\nX-Sum: {sum}\r\nContent-Length: {LENGTH}\r\n\r\n"
            )),
            Act::Say(body),
        ]
    })
    .await;
    let scene = scene(&[origin.address]).await;
    let mut client = Client::new(&scene).await;
    let body: Vec<u8> = (0..LENGTH).map(|at| (at % 251) as u8).collect();
    let sum: u64 = body.iter().map(|byte| u64::from(*byte)).sum();
    client
        .send(format!(
            "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: {LENGTH}\r\n\r\n"
        ))
        .await;
    client.send(&body).await;
    let answer = within(30, client.answer()).await;
    assert_eq!(answer.body.len(), LENGTH);
    assert_eq!(answer.field("X-Sum"), Some(sum.to_string().as_str()));
    let answer = client.get("/again").await;
    assert_eq!(answer.body.len(), LENGTH);
}

#[tokio::test]
async fn an_answer_that_ends_with_its_connection_comes_in_chunks() {
    let origin = Origin::start(|_| {
        vec![
            Act::say("HTTP/1.1 200 OK\r\n\r\nall "),
            Act::say("of it"),
            Act::Close,
        ]
    })
    .await;
    let scene = scene(&[origin.address]).await;
    let mut client = Client::new(&scene).await;
    assert_eq!(client.get("/").await.text(), "all of it");
    assert_eq!(client.get("/").await.text(), "all of it");
}

#[tokio::test]
async fn old_clients_get_what_they_understand() {
    let origin = Origin::start(|_| {
        vec![Act::say(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        )]
    })
    .await;
    let scene = scene(&[origin.address]).await;
    let mut client = Client::new(&scene).await;
    client.send("GET / HTTP/1.0\r\n\r\n").await;
    let (_, head) = client.head().await;
    assert!(!head.to_ascii_lowercase().contains("chunked"), "{head}");
    assert_eq!(client.rest().await, b"abc");
    let origin = echoing().await;
    let scene = super::scene(&[origin.address]).await;
    let mut client = Client::new(&scene).await;
    for _ in 0..2 {
        client
            .send("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
            .await;
        let answer = client.answer().await;
        assert_eq!(answer.field("Connection"), Some("keep-alive"));
    }
}

#[tokio::test]
async fn informational_answers_are_passed_on() {
    let origin = Origin::start(|_| {
        vec![
            Act::say("HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n"),
            Act::say(
                "HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
            ),
        ]
    })
    .await;
    let scene = scene(&[origin.address]).await;
    let mut client = Client::new(&scene).await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let (status, head) = client.head().await;
    assert_eq!(status, 103);
    assert!(head.contains("Link: </a.css>"), "{head}");
    assert_eq!(client.head().await.0, 102);
    assert_eq!(client.answer().await.text(), "ok");
    // A client of HTTP/1.0 does not know them.
    let mut client = Client::new(&scene).await;
    client.send("GET / HTTP/1.0\r\n\r\n").await;
    assert_eq!(client.answer().await.text(), "ok");
}

#[tokio::test]
async fn a_client_that_waits_for_a_word_gets_it_from_the_origin() {
    let origin = echoing().await;
    let scene = scene(&[origin.address]).await;
    let mut client = Client::new(&scene).await;
    client
        .send("POST /e HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n")
        .await;
    assert_eq!(client.head().await.0, 100);
    client.send("body").await;
    assert_eq!(client.answer().await.text(), "POST /e [body]");
}

#[tokio::test]
async fn an_origin_that_refuses_a_body_need_not_take_it() {
    let origin = Origin::start(|_| vec![Act::ok("unused")]).await;
    let refusing = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = refusing.local_addr().unwrap();
    drop(origin);
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = refusing.accept().await.unwrap();
            tokio::spawn(async move {
                let mut piece = [0; 4096];
                if stream.read(&mut piece).await.unwrap_or(0) > 0 {
                    let answer = "HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig";
                    stream.write_all(answer.as_bytes()).await.unwrap();
                    let _ = stream.shutdown().await;
                    while stream.read(&mut piece).await.unwrap_or(0) > 0 {}
                }
            });
        }
    });
    let scene = scene(&[address]).await;
    let mut client = Client::new(&scene).await;
    client
        .send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\nthe beginning")
        .await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.text()), (413, "big"));
    assert_eq!(answer.field("Connection"), Some("close"));
    assert!(client.is_closed().await);
}

#[tokio::test]
async fn answers_without_a_body_have_none() {
    let origin = Origin::start(|request| {
        let head = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";
        vec![match request.line() {
            "HEAD /" => Act::say(head),
            "GET /304" => Act::say("HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n"),
            "GET /204" => Act::say("HTTP/1.1 204 No Content\r\n\r\n"),
            _ => Act::ok("there"),
        }]
    })
    .await;
    let scene = scene(&[origin.address]).await;
    let mut client = Client::new(&scene).await;
    for (line, status) in [("HEAD /", 200), ("GET /304", 304), ("GET /204", 204)] {
        client
            .send(format!("{line} HTTP/1.1\r\nHost: a\r\n\r\n"))
            .await;
        assert_eq!(client.head().await.0, status);
        assert_eq!(client.get("/").await.text(), "there", "{line}");
    }
    assert_eq!(origin.connections(), 1);
}

#[tokio::test]
async fn a_client_that_closes_ends_its_request() {
    let origin = Origin::start(|_| vec![Act::Wait(Default::default())]).await;
    let scene = scene(&[origin.address]).await;
    let mut client = Client::new(&scene).await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    crate::scene::until("the request arrives", || !origin.seen().is_empty()).await;
    drop(client);
    let open = || scene.origin.status().endpoints[0].open;
    crate::scene::until("its connection is ended", || open() == 0).await;
}

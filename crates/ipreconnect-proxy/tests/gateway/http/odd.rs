//! Requests and answers that cannot be: refused, and nothing else suffers.

use std::sync::{Arc, Mutex};

use tokio::net::TcpListener;

use super::*;

async fn scene_and_origin() -> (Scene, Origin) {
    let origin = Origin::start(|_| vec![Act::ok("fine")]).await;
    (scene(&[origin.address]).await, origin)
}

#[tokio::test]
async fn what_could_smuggle_a_request_is_refused_and_the_connection_closed() {
    let (scene, origin) = scene_and_origin().await;
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    for (lines, status) in [
        ("Content-Length: 5\r\nTransfer-Encoding: chunked", 400),
        ("Transfer-Encoding: chunked\r\nContent-Length: 5", 400),
        ("Content-Length: 0\r\nContent-Length: 44", 400),
        ("Content-Length: 0, 44", 400),
        ("Content-Length: +0", 400),
        ("Transfer-Encoding: xchunked", 400),
        ("Transfer-Encoding: chunked, identity", 400),
        ("Transfer-Encoding: gzip, chunked", 501),
        ("Transfer-Encoding : chunked", 400),
        ("Transfer-Encoding:\x0bchunked", 400),
        ("Transfer-Encoding\x00: chunked", 400),
        ("X: y\n\r\nX: z", 400),
        ("X: y\r\n folded: z", 400),
        ("Host: b", 400),
        ("Expect: nothing", 417),
    ] {
        let mut client = Client::new(&scene).await;
        client
            .send(format!(
                "POST / HTTP/1.1\r\nHost: a\r\n{lines}\r\n\r\n{smuggled}"
            ))
            .await;
        let answer = client.answer().await;
        assert_eq!(answer.status, status, "{lines:?}");
        assert_eq!(answer.field("Connection"), Some("close"), "{lines:?}");
        assert!(client.is_closed().await, "{lines:?}");
    }
    assert!(origin.seen().is_empty(), "{:?}", origin.seen());
}

#[tokio::test]
async fn absolute_nonsense_is_refused() {
    let (scene, origin) = scene_and_origin().await;
    for (bytes, status) in [
        (
            &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"[..],
            400,
        ),
        (b"hello\r\n\r\n", 400),
        (b"GET /\xff\xfe HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET / HTTP/9.9\r\nHost: a\r\n\r\n", 505),
        (b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", 405),
        (b"TRACE / HTTP/1.1\r\nHost: a\r\n\r\n", 405),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\nHost: a\n\n", 400),
    ] {
        let mut client = Client::new(&scene).await;
        client.send(bytes).await;
        let answer = client.answer().await;
        assert_eq!(
            answer.status,
            status,
            "{:?}",
            String::from_utf8_lossy(bytes)
        );
        assert!(answer.text().contains("refused"), "{answer:?}");
        assert!(client.is_closed().await);
    }
    assert!(origin.seen().is_empty());
}

#[tokio::test]
async fn a_head_has_a_bound() {
    let (scene, origin) = scene_and_origin().await;
    let mut client = Client::new(&scene).await;
    let long = "x".repeat(60_000);
    client
        .send(format!("GET / HTTP/1.1\r\nHost: a\r\nA: {long}\r\n\r\n"))
        .await;
    assert_eq!(client.answer().await.status, 200);
    let longer = "x".repeat(100_000);
    let mut client = Client::new(&scene).await;
    client
        .send(format!("GET / HTTP/1.1\r\nHost: a\r\nA: {longer}\r\n\r\n"))
        .await;
    assert_eq!(client.answer().await.status, 431);
    let many: String = (0..200).map(|n| format!("A{n}: b\r\n")).collect();
    let mut client = Client::new(&scene).await;
    client
        .send(format!("GET / HTTP/1.1\r\nHost: a\r\n{many}\r\n"))
        .await;
    assert_eq!(client.answer().await.status, 431);
    assert_eq!(origin.seen().len(), 1);
}

#[tokio::test]
async fn broken_chunks_are_refused() {
    let (scene, origin) = scene_and_origin().await;
    for body in [
        "x\r\n",
        "5\r\nhelloX",
        "5 \r\nhello\r\n",
        "ffffffffffffffffff\r\n",
        "1\nx\r\n",
    ] {
        let mut client = Client::new(&scene).await;
        let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
        client.send(format!("{head}{body}")).await;
        let answer = client.answer().await;
        assert_eq!(answer.status, 400, "{body:?}");
        assert!(client.is_closed().await, "{body:?}");
        // The same, when the request is on its way already.
        let mut client = Client::new(&scene).await;
        let before = origin.heard();
        client.send(head).await;
        crate::scene::until("it is on its way", || origin.heard() > before).await;
        client.send(body).await;
        assert_eq!(client.answer().await.status, 400, "{body:?}");
    }
    assert!(
        origin.seen().is_empty(),
        "the origin has never had a whole request"
    );
}

#[tokio::test]
async fn slow_heads_and_bodies_end() {
    let origin = Origin::start(|_| vec![Act::ok("fine")]).await;
    let mut plan = plan();
    plan.limits.head = 200 * MILLISECOND;
    plan.limits.stall = 300 * MILLISECOND;
    plan.limits.idle = 400 * MILLISECOND;
    let scene = scene_with(settings(&[origin.address]), plan).await;
    let mut client = Client::new(&scene).await;
    client.send("GET / HTTP/1.1\r\nHo").await;
    assert_eq!(client.answer().await.status, 408);
    assert!(client.is_closed().await);
    let mut client = Client::new(&scene).await;
    client
        .send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nslow")
        .await;
    assert_eq!(client.answer().await.status, 408);
    assert!(client.is_closed().await);
    let mut client = Client::new(&scene).await;
    assert_eq!(client.get("/").await.text(), "fine");
    assert!(
        client.is_closed().await,
        "an idle client is sent away without a word"
    );
}

#[tokio::test]
async fn answers_that_cannot_be_are_told_as_such() {
    for said in [
        "nonsense\r\n\r\n",
        "HTTP/1.1 200 OK\nContent-Length: 0\n\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        "HTTP/1.1 2000 OK\r\n\r\n",
        // Nobody asked for another protocol.
        "HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    ] {
        let origin = Origin::start(move |_| vec![Act::say(said)]).await;
        let scene = scene(&[origin.address]).await;
        let mut client = Client::new(&scene).await;
        let answer = client.get("/").await;
        assert_eq!(answer.status, 502, "{said:?}");
        let status = answer.field("Proxy-Status").unwrap();
        assert_eq!(
            status,
            "ipreconnect; error=http_protocol_error; details=\"outcome unknown\""
        );
    }
}

#[tokio::test]
async fn an_answer_that_is_cut_off_does_not_look_whole() {
    for said in [
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalfX\r\n0\r\n\r\n",
    ] {
        let origin = Origin::start(move |_| vec![Act::say(said), Act::Close]).await;
        let scene = scene(&[origin.address]).await;
        let mut client = Client::new(&scene).await;
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let all = client.rest().await;
        assert!(
            !all.ends_with(b"0\r\n\r\n"),
            "{:?}",
            String::from_utf8_lossy(&all)
        );
        assert!(
            find(&all, b"\r\n\r\n").is_none_or(|end| all.len() < end + 14),
            "{all:?}"
        );
    }
}

#[tokio::test]
async fn what_an_origin_says_beyond_its_answer_reaches_nobody() {
    let origin = Origin::start(|_| {
        let more = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nstolen";
        vec![Act::say(format!(
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok{more}"
        ))]
    })
    .await;
    let scene = scene(&[origin.address]).await;
    let mut client = Client::new(&scene).await;
    for _ in 0..3 {
        assert_eq!(client.get("/").await.text(), "ok");
    }
    assert_eq!(
        origin.connections(),
        3,
        "such a connection is never used again"
    );
}

#[tokio::test]
async fn empty_lines_before_a_request_are_passed_over() {
    let (scene, _origin) = scene_and_origin().await;
    let mut client = Client::new(&scene).await;
    client
        .send("\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n")
        .await;
    assert_eq!(client.answer().await.status, 200);
}

#[tokio::test]
async fn an_origin_that_only_informs_is_told_off() {
    let origin = Origin::start(|_| {
        let hint = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n";
        vec![Act::say(hint.repeat(1000))]
    })
    .await;
    let scene = scene(&[origin.address]).await;
    let mut client = Client::new(&scene).await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let mut hints = 0;
    let status = loop {
        match client.head().await.0 {
            103 => hints += 1,
            status => break status,
        }
    };
    assert_eq!((hints, status), (64, 502));
}

#[tokio::test]
async fn an_answer_may_pause_as_long_as_it_may_and_not_as_its_head() {
    let gate = std::sync::Arc::new(tokio::sync::Notify::new());
    let held = std::sync::Arc::clone(&gate);
    let origin = Origin::start(move |_| {
        vec![
            Act::say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
            Act::Wait(std::sync::Arc::clone(&held)),
            Act::say("5\r\nevent\r\n0\r\n\r\n"),
        ]
    })
    .await;
    let mut plan = plan();
    plan.settings.as_mut().unwrap().first_byte = 100 * MILLISECOND;
    let scene = scene_with(settings(&[origin.address]), plan).await;
    let mut client = Client::new(&scene).await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let (status, _) = client.head().await;
    assert_eq!(status, 200);
    // It is the length of the pause that matters.
    tokio::time::sleep(300 * MILLISECOND).await;
    gate.notify_one();
    assert_eq!(client.chunks().await, b"event");
}

#[tokio::test]
async fn a_head_that_comes_byte_by_byte_has_no_more_time_than_another() {
    let origin = Origin::start(|_| vec![Act::ok("fine")]).await;
    let mut plan = plan();
    plan.limits.head = 300 * MILLISECOND;
    let scene = scene_with(settings(&[origin.address]), plan).await;
    let mut client = Client::new(&scene).await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\nX: ").await;
    let answered = async {
        while tokio::time::timeout(20 * MILLISECOND, client.stream().readable())
            .await
            .is_err()
        {
            client.send("x").await;
        }
        client.answer().await.status
    };
    assert_eq!(within(10, answered).await, 408);
    assert!(origin.seen().is_empty());
}

#[tokio::test]
async fn an_answer_that_is_not_taken_is_given_up() {
    let origin = Origin::start(|_| {
        vec![
            Act::say("HTTP/1.1 200 OK\r\nContent-Length: 50000000\r\n\r\n"),
            Act::Say(vec![b'x'; 50_000_000]),
        ]
    })
    .await;
    let mut plan = plan();
    plan.limits.stall = 300 * MILLISECOND;
    let scene = scene_with(settings(&[origin.address]), plan).await;
    let mut client = Client::new(&scene).await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let (status, _) = client.head().await;
    assert_eq!(status, 200);
    let open = || scene.origin.status().endpoints[0].open;
    crate::scene::until("the origin's connection is let go", || open() == 0).await;
    assert!(client.rest().await.len() < 50_000_000);
}

/// An origin that begins to answer at once, says more of it for ever, and takes whatever comes.
async fn hasty() -> (SocketAddr, Arc<Mutex<Vec<u8>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let heard = Arc::new(Mutex::new(Vec::new()));
    let all = Arc::clone(&heard);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let all = Arc::clone(&all);
            tokio::spawn(async move {
                let (mut read, mut write) = stream.into_split();
                let mut piece = vec![0; 65_536];
                let count = read.read(&mut piece).await.unwrap_or(0);
                if count == 0 {
                    return;
                }
                all.lock().unwrap().extend_from_slice(&piece[..count]);
                tokio::spawn(async move {
                    let head = "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n";
                    let mut text = head.as_bytes().to_vec();
                    while write.write_all(&text).await.is_ok() {
                        tokio::time::sleep(5 * MILLISECOND).await;
                        text = b"more".to_vec();
                    }
                });
                while let Ok(count) = read.read(&mut piece).await
                    && count > 0
                {
                    all.lock().unwrap().extend_from_slice(&piece[..count]);
                }
            });
        }
    });
    (address, heard)
}

#[tokio::test]
async fn a_body_that_breaks_behind_an_early_answer_is_not_read_on() {
    for broken in ["5Z", "1\r\nxy", "\r\n", "ffffffffffffffffff\r\n"] {
        let (origin, heard) = hasty().await;
        let scene = scene(&[origin]).await;
        let mut client = Client::new(&scene).await;
        client
            .send("POST /early HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
            .await;
        assert_eq!(client.head().await.0, 200);
        client.send(broken).await;
        // Parts of the answer come when the body was looked at, too.
        for _ in 0..3 {
            client.more().await;
        }
        // The answer goes on while it is read, and ends before its end.
        for smuggled in ["0\r\n\r\nGET /admin HTTP/1.1\r\nHost: a\r\n\r\n", "x"] {
            if client
                .stream()
                .write_all(smuggled.as_bytes())
                .await
                .is_err()
            {
                break;
            }
            client.more().await;
        }
        while !client.more().await.is_empty() {}
        let heard = heard.lock().unwrap();
        let heard = String::from_utf8_lossy(&heard);
        assert!(!heard.contains("/admin"), "{broken:?}: {heard}");
    }
}

#[tokio::test]
async fn a_body_has_its_bound_behind_an_early_answer_too() {
    let (origin, heard) = hasty().await;
    let mut plan = plan();
    plan.limits.body = 10_000;
    let scene = scene_with(settings(&[origin]), plan).await;
    let mut client = Client::new(&scene).await;
    client
        .send("POST /early HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        .await;
    assert_eq!(client.head().await.0, 200);
    let chunk = format!("3e8\r\n{}\r\n", "x".repeat(1000));
    for _ in 0..100 {
        client.send(&chunk).await;
        // The answer comes all the same.
        assert!(!client.more().await.is_empty());
    }
    let heard = heard.lock().unwrap().len();
    assert!(heard < 80_000, "{heard}");
}

#[tokio::test]
async fn a_percent_sign_stands_before_two_digits() {
    let origin = Origin::start(|request| vec![Act::ok(request.line())]).await;
    let scene = scene(&[origin.address]).await;
    for path in ["/%%32e%%32e/x", "/%", "/a%2", "/%zz", "/a/%u002e"] {
        let mut client = Client::new(&scene).await;
        assert_eq!(client.get(path).await.status, 400, "{path}");
    }
    let mut client = Client::new(&scene).await;
    // A query is the application's.
    let answer = client.get("/a%2F?q=100%&r=%zz").await;
    assert_eq!(answer.text(), "GET /a%2F?q=100%&r=%zz");
}

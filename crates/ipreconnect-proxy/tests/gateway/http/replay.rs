//! What is sent again, and what is not.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use ipreconnect::Target;
use ipreconnect_lab::origin::{Script, ScriptedOrigin};

use super::*;
use crate::scene::until;

const UNKNOWN: &str = "ipreconnect; error=connection_terminated; details=\"outcome unknown\"";

#[tokio::test]
async fn what_is_idempotent_is_sent_again() {
    let origin = Origin::start(|request| match request.connection {
        0 => vec![Act::Close],
        1 => vec![Act::Reset],
        _ => vec![Act::ok("at last")],
    })
    .await;
    let scene = scene(&[origin.address]).await;
    let mut client = Client::new(&scene).await;
    assert_eq!(client.get("/").await.text(), "at last");
    assert_eq!(origin.seen().len(), 3);
}

#[tokio::test]
async fn so_is_its_body() {
    let origin = Origin::start(|request| match request.connection {
        0 => vec![Act::Close],
        _ => vec![Act::ok(String::from_utf8_lossy(&request.body))],
    })
    .await;
    let scene = scene(&[origin.address]).await;
    let mut client = Client::new(&scene).await;
    client
        .send("PUT /x HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nbod")
        .await;
    until("it is on its way", || origin.heard() > 0).await;
    client.send("ies").await;
    assert_eq!(client.answer().await.text(), "bodies");
}

#[tokio::test]
async fn there_is_an_end_to_it() {
    let origin = Origin::start(|_| vec![Act::Close]).await;
    let scene = scene(&[origin.address]).await;
    let mut client = Client::new(&scene).await;
    let answer = client.get("/").await;
    assert_eq!(answer.status, 502);
    assert_eq!(answer.field("Proxy-Status"), Some(UNKNOWN));
    assert_eq!(origin.seen().len(), 3);
    // The client itself is not to blame, and may go on.
    assert_eq!(client.get("/").await.status, 502);
}

#[tokio::test]
async fn what_is_not_idempotent_is_sent_once_and_the_client_told() {
    let origin = Origin::start(|_| vec![Act::Close]).await;
    let scene = scene(&[origin.address]).await;
    let mut client = Client::new(&scene).await;
    let answer = client.post("/pay", "100").await;
    assert_eq!(answer.status, 502);
    assert_eq!(answer.field("Proxy-Status"), Some(UNKNOWN));
    assert!(answer.text().contains("Nobody knows"), "{}", answer.text());
    assert_eq!(origin.seen().len(), 1);
}

#[tokio::test]
async fn a_connection_that_the_origin_had_closed_is_no_danger_to_any_request() {
    // It closes each connection after one answer, without having said so.
    let origin = Origin::start(|_| vec![Act::ok("paid"), Act::Close]).await;
    let scene = scene(&[origin.address]).await;
    let mut client = Client::new(&scene).await;
    for number in 0..200 {
        let answer = client.post("/pay", &number.to_string()).await;
        // Whether its end comes before the next request or with it is a matter of luck; what is never
        // wrong is what the client is told.
        match answer.status {
            200 => assert_eq!(answer.text(), "paid"),
            502 => assert_eq!(answer.field("Proxy-Status"), Some(UNKNOWN)),
            other => panic!("{other}: {answer:?}"),
        }
        tokio::time::sleep(MILLISECOND).await;
    }
    let mut paid: Vec<Vec<u8>> = origin.seen().into_iter().map(|seen| seen.body).collect();
    let all = paid.len();
    paid.sort();
    paid.dedup();
    assert_eq!(paid.len(), all, "something was paid twice");
}

#[tokio::test]
async fn nothing_is_sent_again_once_the_answer_began() {
    let origin = Origin::start(|_| {
        vec![
            Act::say("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\npart"),
            Act::Reset,
        ]
    })
    .await;
    let scene = scene(&[origin.address]).await;
    let mut client = Client::new(&scene).await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    client.rest().await;
    assert_eq!(origin.seen().len(), 1);
}

#[tokio::test]
async fn a_short_answer_of_which_only_the_head_came_is_asked_for_again() {
    let origin = Origin::start(|request| match request.connection {
        0 => vec![
            Act::say("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"),
            Act::Reset,
        ],
        1 => vec![
            Act::say("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"),
            Act::Close,
        ],
        _ => vec![Act::ok("whole")],
    })
    .await;
    let scene = scene(&[origin.address]).await;
    let mut client = Client::new(&scene).await;
    assert_eq!(client.get("/").await.text(), "whole");
    assert_eq!(origin.seen().len(), 3);
}

#[tokio::test]
async fn what_has_changed_something_is_not_asked_for_again_when_its_status_is_known() {
    let origin = Origin::start(|_| {
        vec![
            Act::say("HTTP/1.1 201 Created\r\nContent-Length: 5\r\n\r\n"),
            Act::Reset,
        ]
    })
    .await;
    let scene = scene(&[origin.address]).await;
    for method in ["PUT", "DELETE", "POST"] {
        let before = origin.seen().len();
        let mut client = Client::new(&scene).await;
        let request = format!("{method} / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
        client.send(request).await;
        let said = String::from_utf8(client.rest().await).unwrap();
        assert!(
            said.is_empty() || said.starts_with("HTTP/1.1 201"),
            "{method}: {said}"
        );
        assert_eq!(origin.seen().len(), before + 1, "{method}");
    }
}

#[tokio::test]
async fn a_head_whose_body_takes_its_time_is_told_before_it() {
    let go = Arc::new(tokio::sync::Notify::new());
    let wait = Arc::clone(&go);
    let origin = Origin::start(move |_| {
        vec![
            Act::say("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"),
            Act::Wait(Arc::clone(&wait)),
            Act::say("later"),
        ]
    })
    .await;
    let scene = scene(&[origin.address]).await;
    let mut client = Client::new(&scene).await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let (status, _) = client.head().await;
    assert_eq!(status, 200);
    go.notify_one();
    assert_eq!(client.more().await, b"later");
}

#[tokio::test]
async fn retries_have_a_budget() {
    let origin = Origin::start(|_| vec![Act::Close]).await;
    let mut plan = plan();
    plan.settings.as_mut().unwrap().budget = 0.0;
    let scene = scene_with(settings(&[origin.address]), plan).await;
    const REQUESTS: usize = 300;
    for _ in 0..REQUESTS {
        let mut client = Client::new(&scene).await;
        assert_eq!(client.get("/").await.status, 502);
    }
    let retries = origin.seen().len() - REQUESTS;
    // Ten a second over ten seconds, for each of the two workers.
    assert!((100..=200).contains(&retries), "{retries}");
}

#[tokio::test]
async fn slow_is_not_broken() {
    let origin = Origin::start(|_| vec![Act::Wait(Arc::default())]).await;
    let mut plan = plan();
    plan.settings.as_mut().unwrap().first_byte = 200 * MILLISECOND;
    let scene = scene_with(settings(&[origin.address]), plan).await;
    let mut client = Client::new(&scene).await;
    let answer = client.get("/").await;
    assert_eq!(answer.status, 504);
    assert!(
        answer
            .field("Proxy-Status")
            .unwrap()
            .contains("http_response_timeout")
    );
    assert_eq!(origin.seen().len(), 1, "what is slow is not asked twice");
    // The client's connection is still of use.
    assert_eq!(client.get("/").await.status, 504);
}

#[tokio::test]
async fn requests_wait_for_an_origin_that_is_away() {
    let origin = ScriptedOrigin::start(Script::Http { name: "one".into() }).unwrap();
    let scene = scene(&[origin.address()]).await;
    let mut clients = Vec::new();
    for _ in 0..20 {
        let mut client = Client::new(&scene).await;
        assert_eq!(client.get("/before").await.status, 200);
        clients.push(client);
    }
    origin.kill();
    let waiting = clients.into_iter().map(|mut client| {
        tokio::spawn(async move { client.post("/held", "kept").await.text().to_owned() })
    });
    let waiting: Vec<_> = waiting.collect();
    until("they wait", || scene.origin.status().waiting == 20).await;
    origin.revive().unwrap();
    for one in waiting {
        assert_eq!(one.await.unwrap(), "one POST /held kept\n");
    }
}

#[tokio::test]
async fn nobody_there_is_told_with_the_time_to_come_back() {
    let origin = ScriptedOrigin::start(Script::Http { name: "one".into() }).unwrap();
    let mut settings = settings(&[origin.address()]);
    settings.hold.patience = 100 * MILLISECOND;
    let scene = scene_with(settings, plan()).await;
    origin.kill();
    let mut client = Client::new(&scene).await;
    let answer = client.get("/").await;
    assert_eq!(answer.status, 503);
    assert_eq!(answer.field("Retry-After"), Some("1"));
    let status = answer.field("Proxy-Status").unwrap();
    assert_eq!(status, "ipreconnect; error=destination_unavailable");
    assert!(
        !answer.text().contains(&origin.address().to_string()),
        "{}",
        answer.text()
    );
    origin.revive().unwrap();
    until("it serves again", || scene.origin.status().is_up()).await;
    assert_eq!(client.get("/").await.status, 200);
}

#[tokio::test]
async fn a_frozen_origin_is_left_for_its_backup() {
    // Whenever it freezes: what was in it before says nothing of it, and must not hide what says it.
    for _ in 0..4 {
        freeze_one().await;
    }
}

async fn freeze_one() {
    let origins = ["one", "two"]
        .map(|name| ScriptedOrigin::start(Script::Http { name: name.into() }).unwrap());
    let scene = scene(&[origins[0].address(), origins[1].address()]).await;
    origins[0].slow(10 * MILLISECOND);
    let served = Arc::new(AtomicUsize::new(0));
    let clients = (0..30).map(|_| async {
        let mut client = Client::new(&scene).await;
        loop {
            let answer = client.get("/").await;
            assert_eq!(answer.status, 200);
            served.fetch_add(1, SeqCst);
            if answer.text().starts_with("two") {
                return;
            }
            tokio::time::sleep(5 * MILLISECOND).await;
        }
    });
    let freezing = async {
        until("it has a history", || served.load(SeqCst) > 400).await;
        origins[0].freeze();
    };
    let all = async {
        let mut tasks: Vec<std::pin::Pin<Box<dyn Future<Output = ()>>>> = vec![Box::pin(freezing)];
        for client in clients {
            tasks.push(Box::pin(client));
        }
        for_all(tasks).await;
    };
    within(20, all).await;
}

#[tokio::test]
async fn what_may_not_be_repeated_is_not_left_with_a_frozen_origin() {
    let origins = ["one", "two"]
        .map(|name| ScriptedOrigin::start(Script::Http { name: name.into() }).unwrap());
    let scene = scene(&[origins[0].address(), origins[1].address()]).await;
    let mut asking = Client::new(&scene).await;
    let mut posting = Client::new(&scene).await;
    for _ in 0..100 {
        assert_eq!(asking.get("/").await.status, 200);
        assert_eq!(posting.post("/", "x").await.status, 200);
    }
    let status = || scene.origin.status().endpoints[0].health;
    until("it is learned how it closes", || origins[0].accepted() > 2).await;
    // What comes now is later than the last answer, whoever of the workers had that.
    tokio::time::sleep(20 * MILLISECOND).await;
    origins[0].freeze();
    let posted = tokio::spawn(async move { posting.post("/pay", "1").await });
    // Three that wait are needed to doubt it.
    let mut waiting = Vec::new();
    for _ in 0..5 {
        let mut client = Client::new(&scene).await;
        waiting.push(tokio::spawn(async move { client.get("/").await.status }));
    }
    for one in waiting {
        assert_eq!(one.await.unwrap(), 200, "it went to the backup");
    }
    let answer = within(10, posted).await.unwrap();
    assert_eq!(answer.status, 502, "{:?}", status());
    assert_eq!(answer.field("Proxy-Status"), Some(UNKNOWN));
    assert_eq!(origins[1].answered(), 5, "it was not sent again");
}

/// Runs them all at once.
async fn for_all(mut tasks: Vec<std::pin::Pin<Box<dyn Future<Output = ()> + '_>>>) {
    std::future::poll_fn(|cx| {
        tasks.retain_mut(|task| task.as_mut().poll(cx).is_pending());
        if tasks.is_empty() {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
}

#[tokio::test]
async fn a_long_poll_is_not_repeated() {
    let origins = ["one", "two"]
        .map(|name| ScriptedOrigin::start(Script::Http { name: name.into() }).unwrap());
    let scene = scene(&[origins[0].address(), origins[1].address()]).await;
    let mut busy = Client::new(&scene).await;
    for _ in 0..200 {
        assert_eq!(busy.get("/").await.status, 200);
    }
    let mut waiting = Vec::new();
    for _ in 0..8 {
        let mut client = Client::new(&scene).await;
        waiting.push(tokio::spawn(async move {
            client.get("/wait").await.text().to_owned()
        }));
    }
    until("they wait", || origins[0].waiting() == 8).await;
    // Far beyond any history.
    for _ in 0..100 {
        assert_eq!(busy.get("/").await.status, 200);
        tokio::time::sleep(15 * MILLISECOND).await;
    }
    assert_eq!(origins[0].waiting(), 8);
    assert_eq!(origins[1].answered(), 0, "nothing of it went elsewhere");
    origins[0].release();
    for one in waiting {
        assert_eq!(one.await.unwrap(), "one GET /wait \n");
    }
}

#[tokio::test]
async fn the_hold_survives_another_target() {
    let origins = ["one", "two"]
        .map(|name| ScriptedOrigin::start(Script::Http { name: name.into() }).unwrap());
    let scene = scene(&[origins[0].address()]).await;
    origins[0].kill();
    let mut client = Client::new(&scene).await;
    let held = tokio::spawn(async move { client.get("/").await.text().to_owned() });
    until("it waits", || scene.origin.status().waiting == 1).await;
    let target = Target::from(origins[1].address());
    scene
        .origin
        .reconfigure(OriginSettings::new([target]))
        .await
        .unwrap();
    assert_eq!(held.await.unwrap(), "two GET / \n");
}

#[tokio::test]
async fn a_second_try_is_waited_for_as_long_as_a_first_one() {
    let origins = ["one", "two"]
        .map(|name| ScriptedOrigin::start(Script::Http { name: name.into() }).unwrap());
    let scene = scene(&[origins[0].address(), origins[1].address()]).await;
    let mut asking = Client::new(&scene).await;
    let mut posting = Client::new(&scene).await;
    for _ in 0..100 {
        assert_eq!(asking.get("/").await.status, 200);
        assert_eq!(posting.post("/", "x").await.status, 200);
    }
    let status = || scene.origin.status().endpoints[0].health;
    until("it is learned how it closes", || origins[0].accepted() > 2).await;
    tokio::time::sleep(20 * MILLISECOND).await;
    // Longer than one that fell silent is waited for.
    origins[1].slow(2500 * MILLISECOND);
    origins[0].freeze();
    let mut client = Client::new(&scene).await;
    let asked = tokio::spawn(async move { client.get("/").await.status });
    // Several that wait are needed to doubt it; these go nowhere else.
    let mut posted = Vec::new();
    for _ in 0..4 {
        let mut client = Client::new(&scene).await;
        posted.push(tokio::spawn(
            async move { client.post("/", "x").await.status },
        ));
    }
    for one in posted {
        assert_eq!(within(20, one).await.unwrap(), 502);
    }
    assert_eq!(within(20, asked).await.unwrap(), 200, "{:?}", status());
    assert_eq!(origins[1].answered(), 1);
}

#[tokio::test]
async fn what_may_have_been_done_is_not_called_undone_by_what_failed_later() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut settings = settings(&[address]);
    settings.hold.patience = 50 * MILLISECOND;
    settings.supervisor.interval = Duration::from_secs(3600);
    settings.warm.connections = 0;
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            if stream.read(&mut [0; 4096]).await.unwrap_or(0) > 0 {
                // Whatever it did, it is gone now.
                return;
            }
        }
    });
    let scene = scene_with(settings, plan()).await;
    let mut client = Client::new(&scene).await;
    client
        .send("PUT /x HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx")
        .await;
    let answer = client.answer().await;
    assert_eq!(answer.status, 502, "{answer:?}");
    assert_eq!(answer.field("Proxy-Status"), Some(UNKNOWN));
    // What changes nothing may be asked for again.
    assert_eq!(client.get("/").await.status, 503);
}

#[tokio::test]
async fn an_origin_may_promise_to_wait_for_ever() {
    let origin = Origin::start(|_| {
        vec![Act::say(
            "HTTP/1.1 200 OK\r\nKeep-Alive: timeout=9223372036854775807, max=99999999999999999999\r\nContent-Length: 0\r\n\r\n",
        )]
    })
    .await;
    let scene = scene_of(1, settings(&[origin.address]), plan()).await;
    let mut client = Client::new(&scene).await;
    for _ in 0..3 {
        assert_eq!(client.get("/").await.status, 200);
    }
    assert_eq!(origin.connections(), 1);
}

//! How much there may be: connections to an endpoint, bodies that wait, requests of one client.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use ipreconnect::core::balance::Policy;
use ipreconnect::core::rate::Rate;
use ipreconnect_lab::origin::{Script, ScriptedOrigin};
use ipreconnect_proxy::{HashOn, Hedge};
use tokio::sync::Notify;

use super::*;
use crate::scene::until;

fn bounded(max: u32, patience: Duration, origins: &[SocketAddr]) -> (OriginSettings, HttpPlan) {
    let (mut origin, mut plan) = (settings(origins), plan());
    origin.hold.patience = patience;
    plan.settings.as_mut().unwrap().pool_max = Some(max);
    (origin, plan)
}

#[tokio::test]
async fn requests_wait_for_a_connection_where_there_may_be_no_more() {
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (counted, highest) = (Arc::clone(&now), Arc::clone(&most));
    let origin = Origin::start(move |_| {
        highest.fetch_max(counted.fetch_add(1, SeqCst) + 1, SeqCst);
        let (bell, counted) = (Arc::new(Notify::new()), Arc::clone(&counted));
        let rings = Arc::clone(&bell);
        tokio::spawn(async move {
            tokio::time::sleep(5 * MILLISECOND).await;
            counted.fetch_sub(1, SeqCst);
            rings.notify_one();
        });
        vec![Act::Wait(bell), Act::ok("done")]
    })
    .await;
    let (settings, plan) = bounded(3, Duration::from_secs(20), &[origin.address]);
    let scene = scene_of(1, settings, plan).await;
    let clients = (0..30).map(|_| {
        let scene = &scene;
        async move {
            let mut client = Client::new(scene).await;
            for _ in 0..5 {
                assert_eq!(client.get("/").await.text(), "done");
            }
        }
    });
    within(20, futures_util::future::join_all(clients)).await;
    assert_eq!(most.load(SeqCst), 3);
    assert_eq!(origin.connections(), 3);
    assert_eq!(origin.seen().len(), 150);
}

#[tokio::test]
async fn who_waits_too_long_for_a_connection_is_told_so() {
    let bell = Arc::new(Notify::new());
    let rings = Arc::clone(&bell);
    let origin = Origin::start(move |_| vec![Act::Wait(Arc::clone(&rings)), Act::ok("done")]).await;
    let (settings, plan) = bounded(1, 30 * MILLISECOND, &[origin.address]);
    let scene = scene_of(1, settings, plan).await;
    let (mut first, mut second) = (Client::new(&scene).await, Client::new(&scene).await);
    first.send("GET /1 HTTP/1.1\r\nHost: a\r\n\r\n").await;
    until("the first request", || origin.seen().len() == 1).await;
    let answer = second.get("/2").await;
    assert_eq!(answer.status, 503);
    let told = answer.field("Proxy-Status").unwrap();
    assert!(told.contains("connection_limit_reached"), "{told}");
    bell.notify_one();
    assert_eq!(first.answer().await.text(), "done");
    // One that goes away meanwhile is in nobody's way.
    first.send("GET /3 HTTP/1.1\r\nHost: a\r\n\r\n").await;
    until("the third request", || origin.seen().len() == 2).await;
    second.send("GET /4 HTTP/1.1\r\nHost: a\r\n\r\n").await;
    drop(second);
    bell.notify_one();
    assert_eq!(first.answer().await.text(), "done");
    bell.notify_one();
    assert_eq!(first.get("/5").await.text(), "done");
}

#[tokio::test]
async fn a_connection_that_leads_nowhere_makes_room_for_the_next() {
    let origin = Origin::start(|request| match request.connection {
        0 => vec![Act::Reset],
        _ => vec![Act::ok("done")],
    })
    .await;
    let (settings, plan) = bounded(1, Duration::from_secs(5), &[origin.address]);
    let scene = scene_of(1, settings, plan).await;
    for _ in 0..10 {
        let mut client = Client::new(&scene).await;
        assert_eq!(client.get("/").await.text(), "done");
    }
    assert_eq!(origin.connections(), 2);
}

#[tokio::test]
async fn bodies_that_wait_have_a_bound() {
    let address = {
        let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        nobody.local_addr().unwrap()
    };
    let (mut origin, mut plan) = (settings(&[address]), plan());
    origin.hold.patience = Duration::from_secs(20);
    plan.settings.as_mut().unwrap().hold_bytes = 100;
    let plane = Plane::Http(Box::new(plan));
    let scene = Scene::speaking(origin, listener(), plane, 1);
    let waits = |count: u32| {
        let scene = &scene;
        async move {
            until(&format!("{count} wait"), || {
                scene.origin.status().waiting == count
            })
            .await;
        }
    };
    let (mut first, mut second) = (Client::new(&scene).await, Client::new(&scene).await);
    let body = "x".repeat(80);
    let post = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 80\r\n\r\n{body}");
    first.send(&post).await;
    waits(1).await;
    second.send(&post).await;
    let answer = second.answer().await;
    assert_eq!(answer.status, 503);
    let told = answer.field("Proxy-Status").unwrap();
    assert!(told.contains("too many requests wait"), "{told}");
    // What has no body waits for nothing but its time.
    let mut third = Client::new(&scene).await;
    third.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    waits(2).await;
    // Its room is there again when the first one goes.
    drop(first);
    waits(1).await;
    let mut fourth = Client::new(&scene).await;
    fourth.send(&post).await;
    waits(2).await;
}

fn limited(change: impl FnOnce(&mut HttpLimits)) -> HttpPlan {
    let mut plan = plan();
    change(&mut plan.limits);
    plan
}

#[tokio::test]
async fn a_client_that_asks_too_often_is_told_when_it_may_again() {
    let origin = Origin::start(|_| vec![Act::ok("done")]).await;
    let plan = limited(|limits| {
        limits.rate = Some(Rate {
            interval: Duration::from_secs(60),
            burst: 3,
        });
    });
    let scene = scene_with(settings(&[origin.address]), plan).await;
    for _ in 0..3 {
        assert_eq!(Client::new(&scene).await.get("/").await.status, 200);
    }
    let mut client = Client::new(&scene).await;
    let answer = client.get("/").await;
    assert_eq!(answer.status, 429);
    let after: u64 = answer.field("Retry-After").unwrap().parse().unwrap();
    assert!((1..=60).contains(&after), "{after}");
    assert!(answer.field("Date").unwrap().ends_with(" GMT"));
    // It is not sent away for it.
    assert_eq!(client.get("/").await.status, 429);
    assert_eq!(origin.seen().len(), 3);
}

#[tokio::test]
async fn a_connection_ends_in_order_after_its_requests() {
    let origin = Origin::start(|_| vec![Act::ok("done")]).await;
    let plan = limited(|limits| limits.requests = 2);
    let scene = scene_with(settings(&[origin.address]), plan).await;
    let mut client = Client::new(&scene).await;
    assert_eq!(client.get("/1").await.field("Connection"), None);
    let answer = client.get("/2").await;
    assert_eq!(answer.text(), "done");
    assert_eq!(answer.field("Connection"), Some("close"));
    assert!(client.is_closed().await);
    // So does one of HTTP/2.
    let stream = TcpStream::connect(scene.address).await.unwrap();
    let (send, connection) = h2::client::handshake(stream).await.unwrap();
    let connection = tokio::spawn(connection);
    let mut send = send.ready().await.unwrap();
    for number in 0..2 {
        let request = http::Request::get(format!("http://a/{number}"))
            .body(())
            .unwrap();
        let (response, _) = send.send_request(request, true).unwrap();
        assert_eq!(within(5, response).await.unwrap().status(), 200);
    }
    drop(send);
    assert!(within(5, connection).await.unwrap().is_ok());
    assert_eq!(origin.seen().len(), 4);
}

#[tokio::test]
async fn a_date_is_told_where_the_origin_tells_none() {
    const EARLIER: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    let origin = Origin::start(|request| match request.line() {
        "GET /dated" => vec![Act::say(format!(
            "HTTP/1.1 200 OK\r\nDate: {EARLIER}\r\nContent-Length: 0\r\n\r\n"
        ))],
        _ => vec![Act::ok("done")],
    })
    .await;
    let scene = scene(&[origin.address]).await;
    let mut client = Client::new(&scene).await;
    assert_eq!(client.get("/dated").await.field("Date"), Some(EARLIER));
    let answer = client.get("/").await;
    let date = answer.field("Date").unwrap();
    assert!(date.ends_with(" GMT") && date != EARLIER, "{date}");
}

#[tokio::test]
async fn a_body_that_trickles_is_refused_and_one_that_is_only_large_is_not() {
    let origin = Origin::start(|request| vec![Act::ok(request.body.len().to_string())]).await;
    let plan = limited(|limits| limits.body_rate = 1000);
    let scene = scene_with(settings(&[origin.address]), plan).await;
    let head = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n";
    let (mut slow, mut steady) = (Client::new(&scene).await, Client::new(&scene).await);
    slow.send(head).await;
    steady.send(head).await;
    let trickle = async {
        for _ in 0..200 {
            tokio::time::sleep(100 * MILLISECOND).await;
            slow.send("x").await;
            if slow.has_come() {
                break;
            }
        }
        slow.answer().await
    };
    let stream = async {
        for _ in 0..125 {
            steady.send(vec![b'y'; 8000]).await;
            tokio::time::sleep(100 * MILLISECOND).await;
        }
        steady.answer().await
    };
    let (trickled, streamed) = within(40, async { tokio::join!(trickle, stream) }).await;
    assert_eq!(trickled.status, 408);
    assert_eq!((streamed.status, streamed.text()), (200, "1000000"));
}

#[tokio::test]
async fn who_waits_for_one_endpoint_is_not_called_for_another() {
    let bells = [Arc::new(Notify::new()), Arc::new(Notify::new())];
    let mut origins = Vec::new();
    for (at, bell) in bells.iter().enumerate() {
        let bell = Arc::clone(bell);
        let origin = Origin::start(move |request| match request.line() {
            "GET /long" => vec![Act::Wait(Arc::clone(&bell)), Act::ok("long")],
            _ => vec![Act::ok(at.to_string())],
        });
        origins.push(origin.await);
    }
    let places = [origins[0].address, origins[1].address];
    let (mut settings, mut plan) = bounded(1, Duration::from_secs(20), &places);
    settings.balance = Policy::Hash;
    for place in &mut settings.places {
        place.priority = 0;
    }
    let http = plan.settings.as_mut().unwrap();
    http.hash_on = HashOn::Field("x-key".into());
    http.hedge = Hedge::Off;
    let scene = scene_of(1, settings, plan).await;
    until("all are up", || {
        let status = scene.origin.status();
        let mut endpoints = status.endpoints.iter();
        endpoints.all(|one| one.health == ipreconnect::core::origin::Health::Up)
    })
    .await;
    let ask = async |client: &mut Client, path: &str, key: u32| {
        let head = format!("GET {path} HTTP/1.1\r\nHost: a\r\nX-Key: {key}\r\n\r\n");
        client.send(head).await;
    };
    // A key that leads to each of them.
    let mut keys = [None, None];
    for key in 0..100 {
        let mut client = Client::new(&scene).await;
        ask(&mut client, "/", key).await;
        let at: usize = client.answer().await.text().parse().unwrap();
        keys[at] = Some(key);
    }
    let keys = keys.map(Option::unwrap);
    let mut busy = [Client::new(&scene).await, Client::new(&scene).await];
    for at in 0..2 {
        let before = origins[at].seen().len();
        ask(&mut busy[at], "/long", keys[at]).await;
        until("it is there", || origins[at].seen().len() > before).await;
    }
    // Two wait for one of them, and then one for the other, which is free first.
    let mut waiting = Vec::new();
    for at in [1, 1, 0] {
        let mut client = Client::new(&scene).await;
        ask(&mut client, "/", keys[at]).await;
        // It waits when a request that comes later is answered.
        let mut other = Client::new(&scene).await;
        other.send("nonsense\r\n\r\n").await;
        assert_eq!(other.answer().await.status, 400);
        waiting.push(client);
    }
    bells[0].notify_one();
    assert_eq!(busy[0].answer().await.text(), "long");
    assert_eq!(waiting[2].answer().await.text(), "0");
    bells[1].notify_one();
    for client in &mut waiting[..2] {
        assert_eq!(client.answer().await.text(), "1");
    }
}

#[tokio::test]
async fn however_many_wait_for_an_origin_that_is_away_it_gets_no_more_than_it_takes() {
    let origin = ScriptedOrigin::start(Script::Http { name: "one".into() }).unwrap();
    let (settings, plan) = bounded(2, Duration::from_secs(20), &[origin.address()]);
    let scene = scene_of(1, settings, plan).await;
    assert_eq!(Client::new(&scene).await.get("/").await.status, 200);
    origin.kill();
    until("it is down", || !scene.origin.status().is_up()).await;
    let mut waiting = Vec::new();
    for _ in 0..40 {
        let mut client = Client::new(&scene).await;
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        waiting.push(client);
    }
    origin.slow(5 * MILLISECOND);
    origin.revive().unwrap();
    let mut most = 0;
    let answers = waiting.iter_mut().map(Client::answer);
    for answer in within(20, futures_util::future::join_all(answers)).await {
        assert_eq!(answer.status, 200);
        most = most.max(origin.open());
    }
    // Checks, and connections that are kept ready, come and go beside them.
    assert!(most < 10, "{most}");
}

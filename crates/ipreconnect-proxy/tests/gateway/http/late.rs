//! Second tries of what is late, and requests that say themselves that they may be repeated.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use ipreconnect_proxy::Hedge;
use tokio::sync::Notify;

use super::*;

async fn eager(origins: &[SocketAddr]) -> Scene {
    let mut plan = plan();
    let settings_of_http = plan.settings.as_mut().unwrap();
    settings_of_http.hedge = Hedge::Outlier;
    // One worker, so that all it learns is learned in one place.
    scene_of(1, settings(origins), plan).await
}

/// Answers at once, or after so long.
async fn origin_with(late: impl Fn(usize, &str) -> Duration + Send + Sync + 'static) -> Origin {
    let count = AtomicUsize::new(0);
    Origin::start(move |request| {
        let pause = late(count.fetch_add(1, SeqCst), request.line());
        if pause.is_zero() {
            return vec![Act::ok("one")];
        }
        let bell = Arc::new(Notify::new());
        let rings = Arc::clone(&bell);
        tokio::spawn(async move {
            tokio::time::sleep(pause).await;
            rings.notify_one();
        });
        vec![Act::Wait(bell), Act::ok("one")]
    })
    .await
}

#[tokio::test]
async fn what_is_late_gets_a_second_try_elsewhere() {
    const KNOWN: usize = 60;
    let one = origin_with(|count, _| Duration::from_secs(u64::from(count == KNOWN) * 60)).await;
    let two = Origin::start(|_| vec![Act::ok("two")]).await;
    let scene = eager(&[one.address, two.address]).await;
    let mut client = Client::new(&scene).await;
    for _ in 0..KNOWN {
        assert_eq!(client.get("/page").await.text(), "one");
    }
    assert_eq!(within(5, client.get("/page")).await.text(), "two");
    assert_eq!(client.get("/page").await.text(), "one");
    assert_eq!(two.seen().len(), 1);
}

#[tokio::test]
async fn reports_and_long_polls_are_not_repeated() {
    let one = origin_with(|count, line| match line {
        "GET /report" => 60 * MILLISECOND,
        "GET /poll" => MILLISECOND * u32::try_from(1 + count * 37 % 80).unwrap(),
        "GET /page" => Duration::ZERO,
        _ => 400 * MILLISECOND,
    })
    .await;
    let two = Origin::start(|_| vec![Act::ok("two")]).await;
    let scene = eager(&[one.address, two.address]).await;
    let clients = ["/report", "/poll", "/page"].map(|path| {
        let scene = &scene;
        async move {
            let mut client = Client::new(scene).await;
            for _ in 0..120 {
                assert_eq!(client.get(path).await.text(), "one");
            }
        }
    });
    within(60, futures_util::future::join_all(clients)).await;
    // A report that nobody has asked for before.
    let mut client = Client::new(&scene).await;
    assert_eq!(client.get("/yearly").await.text(), "one");
    assert_eq!(one.seen().len(), 361);
    assert_eq!(two.seen().len(), 0);
}

const PAY: &str =
    "POST /pay HTTP/1.1\r\nHost: a\r\nIdempotency-Key: 7\r\nContent-Length: 3\r\n\r\n100";

#[tokio::test]
async fn a_key_allows_a_repetition_where_it_counts() {
    for (trusts, wanted) in [(true, 200), (false, 502)] {
        let origin = Origin::start(|request| match request.connection {
            0 => vec![Act::Close],
            _ => vec![Act::ok("paid")],
        })
        .await;
        let mut plan = plan();
        plan.settings.as_mut().unwrap().trusts_keys = trusts;
        let scene = scene_with(settings(&[origin.address]), plan).await;
        let mut client = Client::new(&scene).await;
        client.send(PAY).await;
        assert_eq!(client.answer().await.status, wanted);
        assert_eq!(client.post("/pay", "100").await.status, 200);
    }
}

#[tokio::test]
async fn a_key_counts_for_the_endpoint_that_may_know_it_and_no_other() {
    let one = Origin::start(|_| vec![Act::Close]).await;
    let two = Origin::start(|_| vec![Act::ok("paid twice")]).await;
    let mut plan = plan();
    plan.settings.as_mut().unwrap().trusts_keys = true;
    let scene = scene_with(settings(&[one.address, two.address]), plan).await;
    let mut client = Client::new(&scene).await;
    client.send(PAY).await;
    let answer = client.answer().await;
    assert_eq!(answer.status, 502);
    assert!(answer.field("Proxy-Status").unwrap().contains("unknown"));
    assert_eq!(two.seen().len(), 0);
}

//! The hold: callers that wait, and how their waiting ends.

use std::error::Error as _;
use std::time::Duration;

use ipreconnect::core::failure::{Cause, Layer};
use ipreconnect::{Error, Kind, Link, Origin, Retry};
use tokio::task::JoinHandle;

use crate::scene::{ask, origin, server, settings, until, with, within};

fn caller(origin: &Origin) -> JoinHandle<Result<Link, Error>> {
    let origin = origin.clone();
    tokio::spawn(async move { origin.connect().await })
}

#[tokio::test]
async fn callers_wait_until_the_origin_is_there() {
    let blue = server("blue");
    blue.kill();
    let origin = origin(&[blue.address()]);
    let callers: Vec<_> = (0..200).map(|_| caller(&origin)).collect();
    until("all wait", || origin.status().waiting == 200).await;
    assert!(!origin.status().is_up());

    blue.revive().unwrap();
    for caller in callers {
        let mut link = within(10, caller).await.unwrap().unwrap();
        assert_eq!(ask(&mut link).await.unwrap(), "blue");
    }
    assert_eq!(origin.status().waiting, 0);
}

#[tokio::test]
async fn patience_ends_with_the_reason() {
    let blue = server("blue");
    blue.kill();
    let mut settings = settings(&[blue.address()]);
    settings.hold.patience = Duration::from_millis(200);
    let origin = with(settings.clone());
    let error = within(5, origin.connect()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::HoldTimedOut);
    assert_eq!(error.stage(), Layer::Transport);
    assert_eq!(error.retry(), Retry::Later);
    assert_eq!(error.failure().unwrap().cause, Cause::Refused);
    assert!(error.waited() >= Duration::from_millis(200));
    let words = error.to_string();
    assert!(
        words.starts_with("origin \"test\" is still down after 2"),
        "{words}"
    );
    assert_eq!(error.source().unwrap().to_string(), "connection refused");

    settings.hold.patience = Duration::ZERO;
    origin.reconfigure(settings).await.unwrap();
    let error = within(5, origin.connect()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Down);
}

#[tokio::test]
async fn the_hold_is_bounded_and_places_are_given_back() {
    let blue = server("blue");
    blue.kill();
    let mut settings = settings(&[blue.address()]);
    settings.hold.clients = 1;
    let origin = with(settings);
    let first = caller(&origin);
    until("the first waits", || origin.status().waiting == 1).await;
    let error = within(5, origin.connect()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::HoldFull);

    first.abort();
    until("its place is free", || origin.status().waiting == 0).await;
    let second = caller(&origin);
    until("the second waits", || origin.status().waiting == 1).await;
    blue.revive().unwrap();
    within(5, second).await.unwrap().unwrap();
}

#[tokio::test]
async fn closing_sends_everybody_away() {
    let blue = server("blue");
    blue.kill();
    let origin = origin(&[blue.address()]);
    let waiting = caller(&origin);
    until("it waits", || origin.status().waiting == 1).await;
    origin.close();
    let error = within(5, waiting).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), Kind::Closed);
    assert_eq!(error.retry(), Retry::Never);
}

#[tokio::test]
async fn a_drained_origin_takes_no_new_work_and_its_links_stay() {
    let blue = server("blue");
    let origin = origin(&[blue.address()]);
    let mut link = within(5, origin.connect()).await.unwrap();
    origin.drain().await.unwrap();
    let drained = origin.watch(|status| !status.is_up());
    within(5, drained).await.unwrap();
    let error = within(5, origin.connect()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Draining);
    assert_eq!(ask(&mut link).await.unwrap(), "blue");

    origin.reconnect().await.unwrap();
    within(5, origin.watch(|status| status.is_up()))
        .await
        .unwrap();
    within(5, origin.connect()).await.unwrap();
}

/// RFC 6761 reserves `.invalid`: it never resolves.
#[tokio::test]
async fn a_name_that_does_not_resolve_is_a_reason_and_heals() {
    let blue = server("blue");
    let origin = Origin::builder("test")
        .address("no-such-host.invalid:5432")
        .hold(Duration::ZERO)
        .start()
        .unwrap();
    let down = origin.watch(|status| status.failure.is_some());
    let status = within(20, down).await.unwrap();
    assert_eq!(status.failure.unwrap().layer(), Layer::Dns);
    let error = within(5, origin.connect()).await.unwrap_err();
    assert_eq!((error.kind(), error.stage()), (Kind::Down, Layer::Dns));

    origin
        .reconfigure(settings(&[blue.address()]))
        .await
        .unwrap();
    within(5, origin.connect()).await.unwrap();
}

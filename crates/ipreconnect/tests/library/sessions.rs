//! One connection that is kept, with a handshake of the user's own.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use ipreconnect::core::failure::{Cause, Layer};
use ipreconnect::{Kind, Link};
use ipreconnect_lab::origin::{Script, ScriptedOrigin};

use crate::scene::{ask, origin, server, settings, with, within};

/// Accepts only a server of that name.
async fn only(name: &'static str, mut link: Link) -> io::Result<Link> {
    match ask(&mut link).await? {
        found if found == name => Ok(link),
        found => Err(io::Error::other(format!("{found} is not {name}"))),
    }
}

#[tokio::test]
async fn a_lost_session_is_made_again() {
    let blue = server("blue");
    let origin = origin(&[blue.address()]);
    let handshakes = Arc::new(AtomicU32::new(0));
    let mut session = origin.reconnecting({
        let handshakes = Arc::clone(&handshakes);
        move |link| {
            handshakes.fetch_add(1, Ordering::Relaxed);
            only("blue", link)
        }
    });
    assert!(session.session().is_none());
    ask(within(5, session.ready()).await.unwrap())
        .await
        .unwrap();
    ask(within(5, session.ready()).await.unwrap())
        .await
        .unwrap();
    assert_eq!(handshakes.load(Ordering::Relaxed), 1);

    blue.kill();
    assert!(ask(session.session().unwrap()).await.is_err());
    session.lost();
    blue.revive().unwrap();
    ask(within(5, session.ready()).await.unwrap())
        .await
        .unwrap();
    assert_eq!(handshakes.load(Ordering::Relaxed), 2);
}

/// The race ends on proof, not on a connection.
#[tokio::test]
async fn an_endpoint_that_fails_the_handshake_loses_to_the_next() {
    let (wrong, right) = (server("wrong"), server("right"));
    let origin = origin(&[wrong.address(), right.address()]);
    let mut session = origin.reconnecting(|link| only("right", link));
    let link = within(5, session.ready()).await.unwrap();
    assert_eq!(ask(link).await.unwrap(), "right");
}

/// One that connects and then says nothing must not hold the race up.
#[tokio::test]
async fn an_endpoint_that_stays_silent_in_the_handshake_is_overtaken() {
    let silent = ScriptedOrigin::start(Script::Silent).unwrap();
    let right = server("right");
    let origin = origin(&[silent.address(), right.address()]);
    let mut session = origin.reconnecting(|link| only("right", link));
    let link = within(5, session.ready()).await.unwrap();
    assert_eq!(ask(link).await.unwrap(), "right");
}

#[tokio::test]
async fn a_handshake_that_fails_everywhere_is_told_as_such() {
    let wrong = server("wrong");
    let mut settings = settings(&[wrong.address()]);
    settings.hold.patience = Duration::from_millis(100);
    let origin = with(settings);
    let mut session = origin.reconnecting(|link| only("right", link));
    let error = within(5, session.ready()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Handshake);
    assert_eq!(error.stage(), Layer::Protocol);
    let failure = error.failure().unwrap();
    assert_eq!(failure.cause, Cause::Handshake);
    assert!(
        failure.to_string().contains("wrong is not right"),
        "{failure}"
    );
}

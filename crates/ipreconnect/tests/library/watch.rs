//! Watching an origin come and go.

use ipreconnect::core::failure::Cause;
use ipreconnect::core::origin::{Health, Phase};

use crate::scene::{ask, origin, server, within};

#[tokio::test]
async fn each_phase_is_seen_with_its_reason() {
    let (blue, green) = (server("blue"), server("green"));
    let origin = origin(&[blue.address(), green.address()]);
    let both = origin.watch(|status| {
        status.endpoints.len() == 2 && status.endpoints.iter().all(|e| e.health == Health::Up)
    });
    let status = within(5, both).await.unwrap();
    assert_eq!((status.phase, status.failure), (Phase::Up, None));

    blue.kill();
    // Without traffic a heartbeat finds out; a caller finds out at once.
    let mut link = within(5, origin.connect()).await.unwrap();
    assert_eq!(ask(&mut link).await.unwrap(), "green");
    let one = origin.watch(|status| status.endpoints.iter().any(|e| e.health == Health::Down));
    let status = within(10, one).await.unwrap();
    assert_eq!(status.phase, Phase::Up);
    let lost = &status.endpoints[0];
    assert_eq!(lost.failure.as_ref().unwrap().cause, Cause::Refused);
    assert_eq!(
        (status.endpoints[1].open, status.endpoints[1].served),
        (1, 1)
    );

    green.kill();
    let down = origin.watch(|status| status.phase == Phase::Down);
    let status = within(20, down).await.unwrap();
    assert_eq!(status.failure.unwrap().cause, Cause::Refused);

    green.revive().unwrap();
    within(20, origin.watch(|status| status.is_up()))
        .await
        .unwrap();
}

#[tokio::test]
async fn watching_ends_with_the_origin() {
    let blue = server("blue");
    let origin = origin(&[blue.address()]);
    let watching = tokio::spawn({
        let origin = origin.clone();
        async move { origin.watch(|status| status.given_up).await }
    });
    within(5, origin.watch(|status| status.is_up()))
        .await
        .unwrap();
    origin.close();
    let error = within(5, watching).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ipreconnect::Kind::Closed);
}

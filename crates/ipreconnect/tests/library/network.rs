//! The machine around the origins: its network changes, it sleeps.

use std::time::Duration;

use ipreconnect::core::backoff::{BackoffSettings, Jitter};
use ipreconnect::{Origin, Signal, Surroundings};
use ipreconnect_lab::namespace::{inside, run};
use ipreconnect_lab::origin::ScriptedOrigin;
use tokio::runtime::Handle;

use crate::scene::{server, settings, within};

/// An origin that was lost, is there again, and would not be looked at for an hour.
async fn waiting_for_an_hour() -> (ScriptedOrigin, Origin, Surroundings) {
    let blue = server("blue");
    blue.kill();
    let hour = Duration::from_secs(3600);
    let mut settings = settings(&[blue.address()]);
    settings.supervisor.reconnect = BackoffSettings::new(hour, 1.0, hour, Jitter::None, 0).unwrap();
    let runtime = Handle::current();
    let surroundings = Surroundings::watch(&runtime);
    let origin = Origin::start("test", settings, &surroundings, &runtime);
    let down = origin.watch(|status| status.failure.is_some() && !status.is_up());
    within(5, down).await.unwrap();
    // The first attempt is immediate; the hour begins after it.
    tokio::time::sleep(Duration::from_millis(200)).await;
    blue.revive().unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!origin.status().is_up());
    (blue, origin, surroundings)
}

#[tokio::test]
async fn waking_from_sleep_ends_the_backoff() {
    let (_blue, origin, surroundings) = waiting_for_an_hour().await;
    surroundings.signal(Signal::Resumed);
    within(5, origin.watch(|status| status.is_up()))
        .await
        .unwrap();
}

#[test]
fn a_change_of_the_network_is_noticed_and_ends_the_backoff() {
    if !inside(
        "network::a_change_of_the_network_is_noticed_and_ends_the_backoff",
        &[],
    ) {
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let (_blue, origin, _surroundings) = waiting_for_an_hour().await;
        run("ip", &["address", "add", "192.0.2.7/32", "dev", "lo"]);
        within(5, origin.watch(|status| status.is_up()))
            .await
            .unwrap();
    });
}

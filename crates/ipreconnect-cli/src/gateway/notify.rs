//! The service manager: what it has opened for us, and what it is told (sd_listen_fds(3), sd_notify(3)).

use std::os::fd::OwnedFd;
use std::time::Duration;

use ipreconnect_proxy::Passed;
use listenfd::ListenFd;
use sd_notify::NotifyState;
use tokio::time::{Interval, MissedTickBehavior};

use crate::exit::{Exit, Refusal};

/// Sockets that were opened for us. What cannot be used is an error: whoever passed it meant it.
pub(super) fn passed() -> Result<Vec<Passed>, Refusal> {
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':');
    let mut sockets = ListenFd::from_env();
    let mut passed = Vec::new();
    for at in 0..sockets.len() {
        // What systemd says of a socket without a name.
        let name = names.next().filter(|name| !matches!(*name, "" | "unknown"));
        let taken = match sockets.take_tcp_listener(at) {
            Ok(taken) => Ok(taken.map(OwnedFd::from)),
            Err(_) => sockets
                .take_unix_listener(at)
                .map(|taken| taken.map(OwnedFd::from)),
        };
        let taken = taken.and_then(|taken| match taken {
            Some(socket) => Passed::new(socket, name.map(str::to_owned)).map(Some),
            None => Ok(None),
        });
        match taken {
            Ok(socket) => passed.extend(socket),
            Err(error) => {
                let message = format!(
                    "the socket {at} of LISTEN_FDS cannot be listened on: it is no listening socket of TCP or Unix"
                );
                return Err(Refusal::new(Exit::Wrong, message).because(&error));
            }
        }
    }
    Ok(passed)
}

/// It runs, and takes clients.
pub(super) fn ready() {
    tell(&[NotifyState::Ready]);
}

/// It takes another configuration, and is ready again when that is done.
pub(super) fn reloading() {
    if let Ok(now) = NotifyState::monotonic_usec_now() {
        tell(&[NotifyState::Reloading, now]);
    }
}

/// It takes no more clients.
pub(super) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Nobody is told where nobody asked.
fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "the service manager cannot be told how it is");
    }
}

/// How often the service manager wants to hear that it lives, if it does.
pub(super) fn watchdog() -> Option<Interval> {
    let limit = sd_notify::watchdog_enabled()?;
    let mut interval = tokio::time::interval((limit / 2).max(Duration::from_millis(10)));
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    Some(interval)
}

/// Tells that it lives, when it is time for that.
///
/// Cancel safety: nothing is lost.
pub(super) async fn bark(interval: &mut Option<Interval>) {
    match interval {
        Some(interval) => {
            interval.tick().await;
            tell(&[NotifyState::Watchdog]);
        }
        None => std::future::pending().await,
    }
}

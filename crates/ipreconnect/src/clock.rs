//! The only reading of the clock.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// The present.
#[must_use]
pub fn now() -> Instant {
    Instant::now()
}

/// The present for what outlives this process: since the beginning of 1970, by the system's clock.
#[must_use]
pub fn since_unix() -> Duration {
    let now = std::time::SystemTime::now();
    // A clock before 1970 is as good as none.
    now.duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default()
}

fn base() -> Instant {
    static BASE: OnceLock<Instant> = OnceLock::new();
    *BASE.get_or_init(Instant::now)
}

/// How long after this process first looked at its clock.
#[must_use]
pub fn since_start(at: Instant) -> Duration {
    at.saturating_duration_since(base())
}

/// Milliseconds since this process first looked at its clock, plus one: fits an atomic, and 0 is free
/// to mean "never".
#[must_use]
pub fn stamp(at: Instant) -> u64 {
    let since = since_start(at).as_millis();
    u64::try_from(since).unwrap_or(u64::MAX - 1) + 1
}

/// The instant of a [`stamp`]; `None` for 0.
#[must_use]
pub fn instant(stamp: u64) -> Option<Instant> {
    stamp
        .checked_sub(1)
        .and_then(|millis| base().checked_add(Duration::from_millis(millis)))
}

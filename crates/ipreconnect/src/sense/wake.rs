//! Waking from sleep: the clock that counts it against the one that does not.

use std::time::Duration;

use rustix::time::{ClockId, Timespec, clock_gettime};

/// More than this between the two clocks is a sleep, not jitter.
const ASLEEP: Duration = Duration::from_secs(1);

/// Notices that the machine slept (`CLOCK_BOOTTIME` against `CLOCK_MONOTONIC`, clock_gettime(2)).
#[derive(Debug)]
pub struct SleepWatch {
    offset: Duration,
}

impl Default for SleepWatch {
    fn default() -> Self {
        Self::new()
    }
}

impl SleepWatch {
    /// Begins to watch.
    #[must_use]
    pub fn new() -> Self {
        Self { offset: offset() }
    }

    /// How long the machine slept since the last call, if it did.
    pub fn slept(&mut self) -> Option<Duration> {
        let offset = offset();
        let slept = offset.saturating_sub(self.offset);
        self.offset = offset;
        (slept >= ASLEEP).then_some(slept)
    }
}

fn offset() -> Duration {
    let boot = duration(clock_gettime(ClockId::Boottime));
    boot.saturating_sub(duration(clock_gettime(ClockId::Monotonic)))
}

fn duration(time: Timespec) -> Duration {
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or(0),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    )
}

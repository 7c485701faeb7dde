//! A latency that remembers peaks.

use std::time::{Duration, Instant};

/// How fast the past fades.
const DECAY: Duration = Duration::from_secs(10);

/// An exponentially weighted moving average that jumps up to a peak at once, and comes down slowly
/// (finagle's Peak EWMA).
#[derive(Clone, Copy, Debug)]
pub struct PeakEwma {
    value: f64,
    at: Instant,
}

impl PeakEwma {
    /// An average that begins with one measurement.
    #[must_use]
    pub fn new(now: Instant, first: Duration) -> Self {
        Self {
            value: first.as_secs_f64(),
            at: now,
        }
    }

    /// Takes one measurement.
    pub fn observe(&mut self, now: Instant, took: Duration) {
        let took = took.as_secs_f64();
        let elapsed = now.saturating_duration_since(self.at).as_secs_f64();
        self.at = self.at.max(now);
        if took > self.value {
            self.value = took;
            return;
        }
        let keep = (-elapsed / DECAY.as_secs_f64()).exp();
        self.value = self.value * keep + took * (1.0 - keep);
    }

    /// The average.
    #[must_use]
    pub fn value(&self) -> Duration {
        Duration::try_from_secs_f64(self.value).unwrap_or(Duration::MAX)
    }
}

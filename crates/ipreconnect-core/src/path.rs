//! What a path has shown so far: its round trips, and so how long a dial may hang before it is odd.

use std::time::Duration;

/// Below this nothing counts as slow: schedulers and delayed acknowledgements live there.
pub const HANG_FLOOR: Duration = Duration::from_millis(100);

/// Without any history a dial is odd after this: the attempt delay of RFC 8305, section 5.
pub const HANG_UNKNOWN: Duration = Duration::from_millis(250);

/// Measured round trips of one path, smoothed as TCP does it (RFC 6298, section 2).
#[derive(Clone, Copy, Debug, Default)]
pub struct PathHistory {
    smoothed: Option<Duration>,
    variation: Duration,
}

impl PathHistory {
    /// Takes one measured round trip.
    pub fn observe(&mut self, took: Duration) {
        let Some(smoothed) = self.smoothed else {
            self.smoothed = Some(took);
            self.variation = took / 2;
            return;
        };
        let deviation = smoothed.abs_diff(took);
        self.variation = self.variation.saturating_mul(3).saturating_add(deviation) / 4;
        self.smoothed = Some(smoothed.saturating_mul(7).saturating_add(took) / 8);
    }

    /// The smoothed round trip, if any was measured.
    #[must_use]
    pub fn smoothed(&self) -> Option<Duration> {
        self.smoothed
    }

    /// How long a dial may take before it counts as hanging: the retransmission timeout of RFC 6298
    /// (smoothed + 4 × variation), at least [`HANG_FLOOR`]; [`HANG_UNKNOWN`] without history.
    #[must_use]
    pub fn hangs_after(&self) -> Duration {
        self.smoothed.map_or(HANG_UNKNOWN, |smoothed| {
            smoothed
                .saturating_add(self.variation.saturating_mul(4))
                .max(HANG_FLOOR)
        })
    }
}

#[cfg(test)]
mod tests;

//! When a preferred endpoint that came back is preferred again.
//!
//! Coming back is proven by the detector; this is about not flapping: an endpoint that comes and
//! goes waits longer each time before it takes new work while another one serves.

use std::time::{Duration, Instant};

/// The quiet period after the first return.
const FIRST_QUIET: Duration = Duration::from_secs(1);
/// The longest quiet period.
const LONGEST_QUIET: Duration = Duration::from_secs(60);
/// An endpoint that stayed up for this long is forgiven its past.
const FORGIVEN_AFTER: Duration = Duration::from_secs(300);

/// The quiet period of one endpoint.
#[derive(Clone, Copy, Debug, Default)]
pub struct Quiet {
    losses: u32,
    returned: Option<Instant>,
    ended: bool,
}

impl Quiet {
    /// The endpoint was lost.
    pub fn lost(&mut self, now: Instant) {
        let forgiven = self
            .returned
            .is_some_and(|returned| now.saturating_duration_since(returned) >= FORGIVEN_AFTER);
        self.losses = if forgiven { 1 } else { self.losses + 1 };
        self.returned = None;
        self.ended = false;
    }

    /// The endpoint was proven good again; it keeps quiet from now on.
    pub fn returned(&mut self, now: Instant) {
        self.returned.get_or_insert(now);
    }

    /// Until when another endpoint that serves stays preferred.
    #[must_use]
    pub fn until(&self) -> Option<Instant> {
        let returned = self.returned?;
        let doublings = self.losses.checked_sub(1)?.min(6);
        Some(returned + (FIRST_QUIET * (1 << doublings)).min(LONGEST_QUIET))
    }

    /// Until when another endpoint stays preferred, as long as the end was not noticed.
    #[must_use]
    pub fn pending(&self) -> Option<Instant> {
        self.until().filter(|_| !self.ended)
    }

    /// Whether the quiet period is over; true once.
    pub fn ends(&mut self, now: Instant) -> bool {
        let over = self.pending().is_some_and(|until| now >= until);
        self.ended |= over;
        over
    }

    /// When it takes work again, for a slow start: not before its quiet period is over.
    #[must_use]
    pub fn returned_at(&self) -> Option<Instant> {
        self.until()
    }
}

#[cfg(test)]
mod tests;

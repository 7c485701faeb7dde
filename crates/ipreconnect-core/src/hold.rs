//! The hold: how clients that wait for an origin leave when it is back.
//!
//! They leave in the order of their tickets, and paced: a server that has just started is not met by
//! ten thousand connections in one instant. The pace doubles for as long as the origin serves, and
//! falls back to the beginning when it does not.

use std::time::{Duration, Instant};

/// The first batch. Small enough for any listen backlog.
const FIRST_BATCH: u32 = 64;
/// The largest batch.
const LARGEST_BATCH: u32 = 2048;
/// Between two batches while the origin serves.
const PACE: Duration = Duration::from_millis(2);
/// Between two batches while nothing is known of the last one.
const UNPROVEN_PACE: Duration = Duration::from_millis(50);
/// After a batch of which a client came back, and between answered failures of held clients.
pub const RETRY: Duration = Duration::from_millis(25);
/// Between fresh attempts to a silent origin while somebody waits.
pub const FRESH: Duration = Duration::from_millis(250);

/// Paces the release of held clients of one origin.
#[derive(Debug)]
pub struct Release {
    batch: u32,
    next: Option<Instant>,
    served: bool,
}

impl Default for Release {
    fn default() -> Self {
        Self::new()
    }
}

impl Release {
    /// A release that has not begun.
    #[must_use]
    pub fn new() -> Self {
        Self {
            batch: FIRST_BATCH,
            next: None,
            served: false,
        }
    }

    /// The origin served a client: the next batch may come soon, and be larger.
    pub fn served(&mut self, now: Instant) {
        self.served = true;
        if let Some(next) = self.next {
            self.next = Some(next.min(now + PACE));
        }
    }

    /// A client could not be served after all: begin again, slowly.
    pub fn failed(&mut self, now: Instant) {
        self.batch = FIRST_BATCH;
        self.served = false;
        self.next = Some(now + RETRY);
    }

    /// How many of `waiting` clients leave now, while the origin can be dialled.
    pub fn release(&mut self, now: Instant, waiting: u32) -> u32 {
        if waiting == 0 {
            *self = Self::new();
            return 0;
        }
        if self.next.is_some_and(|next| now < next) {
            return 0;
        }
        if self.served {
            self.batch = self.batch.saturating_mul(2).min(LARGEST_BATCH);
        }
        let pace = if self.served { PACE } else { UNPROVEN_PACE };
        self.served = false;
        self.next = Some(now + pace);
        self.batch.min(waiting)
    }

    /// When to ask again, with clients waiting.
    #[must_use]
    pub fn wakeup(&self) -> Option<Instant> {
        self.next
    }
}

#[cfg(test)]
mod tests;

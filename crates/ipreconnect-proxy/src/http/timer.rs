//! One timer for a whole connection.
//!
//! Its deadline moves with every phase of every request; the runtime's timer is moved only when the
//! deadline comes earlier than it would ring. When it rings too early it is wound again.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use ipreconnect::clock;
use tokio::time::Sleep;

/// Farther away than anybody waits.
const FAR: Duration = Duration::from_secs(365 * 24 * 3600);

/// A deadline that can be moved for next to nothing.
#[derive(Debug)]
pub(super) struct Timer {
    sleep: Pin<Box<Sleep>>,
    rings: Instant,
    deadline: Instant,
}

impl Timer {
    pub(super) fn new(now: Instant, after: Duration) -> Self {
        let deadline = now + after.min(FAR);
        Self {
            sleep: Box::pin(tokio::time::sleep_until(deadline.into())),
            rings: deadline,
            deadline,
        }
    }

    /// Moves the deadline.
    pub(super) fn set(&mut self, now: Instant, after: Duration) {
        self.deadline = now + after.min(FAR);
        if self.deadline < self.rings {
            self.wind();
        }
    }

    fn wind(&mut self) {
        self.rings = self.deadline;
        self.sleep.as_mut().reset(self.rings.into());
    }

    /// Waits for the deadline.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            ready!(self.sleep.as_mut().poll(cx));
            if clock::now() >= self.deadline {
                return Poll::Ready(());
            }
            self.wind();
        }
    }
}

//! The one trait behind which every fault lives, and what a fault decides about.
//!
//! A part holds no socket and reads no clock: it is told what passes and when, and says what becomes
//! of it. What it says depends on its settings and its seed alone.

mod bandwidth;
mod blackhole;
mod dice;
mod freeze;
mod half_open;
mod jitter;
mod latency;
mod loss;
mod refuse;
mod reset;
mod slow_close;
#[cfg(test)]
mod tests;

pub(super) use bandwidth::Bandwidth;
pub(super) use blackhole::Blackhole;
pub(super) use freeze::Freeze;
pub(super) use half_open::HalfOpen;
pub(super) use jitter::Jitter;
pub(super) use latency::Latency;
pub(super) use loss::Loss;
pub(super) use refuse::Refuse;
pub(super) use reset::Reset;
pub(super) use slow_close::SlowClose;

use super::Way;
use std::time::Duration;
use tokio::time::Instant;

/// The most a link reads at once.
pub(super) const PIECE: usize = 16 * 1024;

/// Stands for "never" in sums of times that would overflow.
const AGES: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// A fault at work. A part overrides what its fault is about.
pub(super) trait Part: Send {
    /// What a new connection meets.
    fn opening(&self) -> Opening {
        Opening::Carried
    }

    /// What the way is like at this moment.
    fn gate(&self, _way: Way) -> Gate {
        Gate::Open
    }

    /// The most bytes to read at once.
    fn bite(&self) -> usize {
        PIECE
    }

    /// Decides what becomes of one passage, on top of what the parts before it have decided.
    fn pass(&mut self, _passage: &mut Passage) {}
}

/// What a new connection meets; of several parts, the last in this order decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Opening {
    /// It is carried to the origin.
    Carried,
    /// It is accepted, and waits.
    Held,
    /// It is accepted, and reset.
    Reset,
    /// The port is closed.
    Refused,
}

/// What a way is like; of several parts, the last in this order decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Gate {
    /// It carries.
    Open,
    /// What goes in never comes out.
    Cut,
    /// Nothing goes in, nothing comes out, and nothing is lost.
    Shut,
}

/// What carries the passage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Carrier {
    Stream,
    Datagrams,
}

/// What passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Freight {
    /// So many bytes.
    Bytes(usize),
    /// The end of a stream.
    End,
}

/// What becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Carried,
    Lost,
}

/// One piece on its way through the parts of a link.
#[derive(Debug)]
pub(super) struct Passage {
    pub(super) way: Way,
    pub(super) carrier: Carrier,
    pub(super) freight: Freight,
    /// When it arrived.
    pub(super) now: Instant,
    /// When it goes out.
    pub(super) due: Instant,
    /// From when on the link may read the next piece of a stream.
    pub(super) resume: Instant,
    pub(super) fate: Fate,
}

impl Passage {
    /// A passage that nothing has touched.
    pub(super) fn new(now: Instant, way: Way, carrier: Carrier, freight: Freight) -> Self {
        Self {
            way,
            carrier,
            freight,
            now,
            due: now,
            resume: now,
            fate: Fate::Carried,
        }
    }

    fn delay(&mut self, by: Duration) {
        self.due = later(self.due, by);
    }
}

fn later(at: Instant, by: Duration) -> Instant {
    at + by.min(AGES)
}

/// One of something for each way, so that what happens one way never changes what happens the other.
#[derive(Default)]
pub(super) struct EachWay<T> {
    pub(super) to_origin: T,
    pub(super) to_client: T,
}

impl<T> EachWay<T> {
    pub(super) fn of(&mut self, way: Way) -> &mut T {
        match way {
            Way::ToOrigin => &mut self.to_origin,
            Way::ToClient => &mut self.to_client,
        }
    }
}

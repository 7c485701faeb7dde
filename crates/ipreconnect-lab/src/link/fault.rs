//! The faults a link can have, as its owner names them.

use super::part::{
    Bandwidth, Blackhole, Freeze, HalfOpen, Jitter, Latency, Loss, Part, Refuse, Reset, SlowClose,
};
use std::num::NonZeroU64;
use std::time::Duration;

/// One of the two ways through a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Way {
    /// From the client to the origin.
    ToOrigin,
    /// From the origin to the client.
    ToClient,
}

impl Way {
    /// The other way.
    #[must_use]
    pub fn opposite(self) -> Self {
        match self {
            Way::ToOrigin => Way::ToClient,
            Way::ToClient => Way::ToOrigin,
        }
    }
}

/// The ways that a fault is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From the client to the origin.
    ToOrigin,
    /// From the origin to the client.
    ToClient,
    /// Both ways.
    Both,
}

impl Direction {
    /// Whether the direction has this way in it.
    #[must_use]
    pub fn includes(self, way: Way) -> bool {
        match self {
            Direction::ToOrigin => way == Way::ToOrigin,
            Direction::ToClient => way == Way::ToClient,
            Direction::Both => true,
        }
    }
}

/// What can be wrong with a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Everything comes later by this much, each way: a round trip by twice as much.
    Latency(Duration),
    /// Everything comes later by a random time, each way. Streams stay in order, datagrams do not.
    Jitter {
        /// The largest delay.
        up_to: Duration,
        /// Decides the delays.
        seed: u64,
    },
    /// A token bucket over all connections of the link, one for each way, with room for 20 ms.
    Bandwidth {
        /// The rate at which it fills.
        bytes_per_second: NonZeroU64,
    },
    /// A share of the datagrams is dropped, each way.
    ///
    /// A stream loses nothing by it, as TCP sends again: the part that was hit, and all behind it,
    /// comes 200 ms later, the smallest retransmission time-out of Linux.
    Loss {
        /// The share that is hit; 100 and more is everything.
        percent: u8,
        /// Decides which.
        seed: u64,
    },
    /// Open connections are reset at once, on both sides, and new ones as soon as they are accepted.
    /// No effect on datagrams.
    Reset,
    /// Whatever passes in this direction vanishes; connections stay open and hear of nothing.
    ///
    /// New connections are accepted, but hang: no handshake gets through a hole, so they reach the
    /// origin once the fault is lifted. A stream out of which bytes were swallowed stays cut in that way for
    /// good: TCP never delivers a stream with a gap.
    Blackhole(Direction),
    /// The link neither reads nor forwards. Once lifted it goes on, with nothing lost.
    ///
    /// New connections are accepted and wait. Of datagrams, the kernel keeps what its socket buffer
    /// holds.
    Freeze,
    /// The port is closed: connects, and datagrams, are refused. Open connections go on.
    Refuse,
    /// One way is cut, ends and resets included, while the other goes on: the peer never learns.
    ///
    /// New connections are established before they are cut. A stream that lost something stays cut,
    /// as in [`Fault::Blackhole`].
    HalfOpen(Way),
    /// The end of a stream is held back for this long. No effect on datagrams.
    SlowClose(Duration),
}

/// The kinds of [`Fault`]; a link has at most one fault of each.
///
/// In the order in which they meet what passes: the bottleneck of a path comes before its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// [`Fault::Refuse`]
    Refuse,
    /// [`Fault::Reset`]
    Reset,
    /// [`Fault::Freeze`]
    Freeze,
    /// [`Fault::Blackhole`]
    Blackhole,
    /// [`Fault::HalfOpen`]
    HalfOpen,
    /// [`Fault::Bandwidth`]
    Bandwidth,
    /// [`Fault::Loss`]
    Loss,
    /// [`Fault::Latency`]
    Latency,
    /// [`Fault::Jitter`]
    Jitter,
    /// [`Fault::SlowClose`]
    SlowClose,
}

impl Fault {
    /// The kind of this fault, by which it is lifted.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Fault::Latency(_) => Kind::Latency,
            Fault::Jitter { .. } => Kind::Jitter,
            Fault::Bandwidth { .. } => Kind::Bandwidth,
            Fault::Loss { .. } => Kind::Loss,
            Fault::Reset => Kind::Reset,
            Fault::Blackhole(_) => Kind::Blackhole,
            Fault::Freeze => Kind::Freeze,
            Fault::Refuse => Kind::Refuse,
            Fault::HalfOpen(_) => Kind::HalfOpen,
            Fault::SlowClose(_) => Kind::SlowClose,
        }
    }

    /// What carries the fault out.
    pub(super) fn part(&self) -> Box<dyn Part> {
        match *self {
            Fault::Latency(by) => Box::new(Latency::new(by)),
            Fault::Jitter { up_to, seed } => Box::new(Jitter::new(up_to, seed)),
            Fault::Bandwidth { bytes_per_second } => Box::new(Bandwidth::new(bytes_per_second)),
            Fault::Loss { percent, seed } => Box::new(Loss::new(percent, seed)),
            Fault::Reset => Box::new(Reset),
            Fault::Blackhole(direction) => Box::new(Blackhole::new(direction)),
            Fault::Freeze => Box::new(Freeze),
            Fault::Refuse => Box::new(Refuse),
            Fault::HalfOpen(way) => Box::new(HalfOpen::new(way)),
            Fault::SlowClose(by) => Box::new(SlowClose::new(by)),
        }
    }
}

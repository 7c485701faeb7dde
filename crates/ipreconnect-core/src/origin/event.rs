//! Facts about an origin, in the past tense.

use std::time::{Duration, Instant};

use super::Order;
use crate::address::{Address, EndpointId, EntryId};
use crate::failure::Failure;
use crate::freeze::Answers;
use crate::names::Knowledge;

/// Where one entry's name leads, as it is known at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The places, in the resolver's order (RFC 6724), as far as they may be used.
    pub places: Vec<FoundPlace>,
    /// Addresses of the answer that must not be dialled.
    pub denied: Vec<Address>,
    /// The time to live of the answer.
    pub ttl: Duration,
    /// What they are worth.
    pub knowledge: Knowledge,
    /// What is wrong, while something is.
    pub failure: Option<Failure>,
}

/// One place that a name leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundPlace {
    /// Where it is.
    pub address: Address,
    /// Its priority among the places of the name; 0 is preferred.
    pub tier: u32,
    /// Its weight among those of its tier; at least 1.
    pub weight: u32,
    /// Whether clients are to be drawn by weight, as the servers of a service are (RFC 2782).
    pub by_weight: bool,
}

impl FoundPlace {
    /// A place like any other.
    #[must_use]
    pub fn plain(address: Address) -> Self {
        Self {
            address,
            tier: 0,
            weight: 1,
            by_weight: false,
        }
    }
}

/// One fact.
#[derive(Clone, Debug)]
pub enum Event {
    /// Supervision begins.
    Started,
    /// What is known of an entry's name changed.
    Named {
        /// The entry.
        entry: EntryId,
        /// What is known now.
        found: Found,
    },
    /// A probe was answered.
    ProbeAnswered {
        /// The order it carried out.
        order: Order,
        /// From its first packet to the answer.
        took: Duration,
    },
    /// A probe failed.
    ProbeFailed {
        /// The order it carried out.
        order: Order,
        /// Why.
        failure: Failure,
    },
    /// A hang-up probe was not answered within its patience; it stays open.
    ProbeSilent {
        /// The order it carries out.
        order: Order,
    },
    /// A client's dial was proven.
    Dialled {
        /// The endpoint.
        endpoint: EndpointId,
        /// From its first packet to the proof.
        took: Duration,
    },
    /// A client's dial failed.
    DialFailed {
        /// The endpoint.
        endpoint: EndpointId,
        /// Why.
        failure: Failure,
    },
    /// A client's dial takes longer than the path's history allows.
    DialHung {
        /// The endpoint.
        endpoint: EndpointId,
    },
    /// A client's established link ended with an error of the endpoint.
    LinkLost {
        /// The endpoint.
        endpoint: EndpointId,
        /// How.
        failure: Failure,
    },
    /// On an established link, bytes stayed unacknowledged or unsent with the peer's window open, for
    /// longer than the path's history allows.
    PathSilent {
        /// The endpoint.
        endpoint: EndpointId,
    },
    /// Bytes came from the endpoint on a client's link.
    Traffic {
        /// The endpoint.
        endpoint: EndpointId,
        /// When the last one came.
        at: Instant,
    },
    /// What one worker saw of requests and answers.
    Answers {
        /// The endpoint.
        endpoint: EndpointId,
        /// The worker.
        worker: u16,
        /// What it saw.
        answers: Answers,
    },
    /// The number of clients that wait changed.
    Held {
        /// How many wait now.
        waiting: u32,
    },
    /// A released client came back without a link.
    ReleaseFailed,
    /// The machine's addresses or routes changed.
    NetworkChanged,
    /// The machine woke from sleep, or this process was stopped and goes on.
    Resumed,
    /// The operator asks for an attempt now.
    ReconnectAsked,
    /// The operator asks for no new work.
    DrainAsked,
    /// The operator wants new work to go to this address as long as it is up, or, without one, as the settings say.
    PreferAsked {
        /// Where to.
        address: Option<Address>,
    },
    /// Time passed: see [`Supervisor::wakeup`](super::Supervisor::wakeup).
    Elapsed,
}

//! Orders of a supervisor, in the imperative.

use std::time::Duration;

use super::Phase;
use crate::address::{Address, EndpointId, EntryId};
use crate::failure::Failure;
use crate::names::Knowledge;
use crate::outlier::Offence;

/// The number of an order; its answer carries it back, so that a late answer to a cancelled order is
/// recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Order(pub u64);

/// How to look at an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeKind {
    /// A half-open check: SYN, SYN-ACK, reset. The server's application never sees it.
    Handshake,
    /// A connection that is half-closed at once: a living process closes it or says something. When
    /// the patience ends it is reported silent and left open.
    HangUp,
    /// A whole connection, proven as a client's is before its first byte: by the TLS handshake and the
    /// server's identity.
    Proof,
    /// The same, and the endpoint is asked what the settings say.
    Question,
}

impl ProbeKind {
    /// Whether its success disproves a failure that takes `needs` to be disproved. What hangs up stands
    /// for itself.
    pub(super) fn disproves(self, needs: Self) -> bool {
        match needs {
            Self::Handshake | Self::HangUp => true,
            Self::Proof => matches!(self, Self::Proof | Self::Question),
            Self::Question => self == Self::Question,
        }
    }
}

/// One order.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Look the entry's name up past its time to live: something that came of it failed.
    LookUp {
        /// The entry.
        entry: EntryId,
    },
    /// Probe an endpoint; answer with `ProbeAnswered`, `ProbeFailed` or `ProbeSilent`.
    Probe {
        /// The number to answer with.
        order: Order,
        /// The endpoint.
        endpoint: EndpointId,
        /// The entry that led to it.
        entry: EntryId,
        /// Its address.
        address: Address,
        /// How.
        kind: ProbeKind,
        /// How long to wait for the answer.
        patience: Duration,
    },
    /// Forget a probe; no answer is wanted any more.
    Cancel {
        /// Its number.
        order: Order,
    },
    /// Publish [`Supervisor::view`](super::Supervisor::view): it changed.
    Publish,
    /// Let the clients with the lowest tickets go and dial.
    Release {
        /// How many.
        count: u32,
    },
    /// Tell every waiting client that it waits in vain: the origin is given up.
    Dismiss,
    /// Close the established links of an endpoint.
    CloseLinks {
        /// The endpoint.
        endpoint: EndpointId,
    },
    /// Tell people.
    Tell(Notice),
}

/// Something people want to know.
#[derive(Clone, Debug, PartialEq)]
pub enum Notice {
    /// New work goes there by the operator's wish, or again as the settings say.
    Preferred {
        /// Where to.
        address: Option<Address>,
    },
    /// The origin's phase changed.
    Phase {
        /// The phase before.
        from: Phase,
        /// The phase now.
        to: Phase,
        /// How long the one before had lasted.
        lasted: Duration,
        /// The last failure, if the phase is not a good one.
        failure: Option<Failure>,
    },
    /// One endpoint was lost.
    EndpointDown {
        /// Its address.
        address: Address,
        /// Why.
        failure: Failure,
        /// How long ago the first sign of it was.
        doubted: Duration,
    },
    /// One endpoint is back.
    EndpointUp {
        /// Its address.
        address: Address,
        /// How long it was away.
        away: Duration,
    },
    /// New work goes to a less preferred endpoint.
    FailedOver {
        /// Where it went before.
        from: Address,
        /// Where it goes now.
        to: Address,
        /// What is wrong with the former.
        failure: Option<Failure>,
    },
    /// New work goes to a more preferred endpoint again.
    Returned {
        /// Where it went before.
        from: Address,
        /// Where it goes now.
        to: Address,
    },
    /// A name could not be resolved, or has no address any more.
    NameFailed {
        /// The entry.
        entry: EntryId,
        /// Why.
        failure: Failure,
        /// What is known of it all the same.
        knowledge: Knowledge,
    },
    /// A name leads to other addresses than before. New work goes to them when one is proven.
    NameMoved {
        /// The entry.
        entry: EntryId,
        /// Where it leads now.
        to: Vec<Address>,
    },
    /// This machine has no port, descriptor or permission for dials to an endpoint. Told once, until
    /// ten seconds have passed without such a dial.
    NoRoom {
        /// The endpoint's address.
        address: Address,
        /// What is missing.
        failure: Failure,
    },
    /// An endpoint is set aside: its answers are far worse than those of the others.
    Ejected {
        /// Its address.
        address: Address,
        /// For what.
        offence: Offence,
        /// For how long.
        pause: Duration,
    },
    /// The time of an endpoint that was set aside is over; its share of requests grows again.
    Readmitted {
        /// Its address.
        address: Address,
    },
    /// The attempts are used up: nothing more is tried by itself.
    GivenUp {
        /// How many there were.
        attempts: u32,
    },
    /// The watchdog rebuilt what is known of the origin.
    Rebuilt,
}

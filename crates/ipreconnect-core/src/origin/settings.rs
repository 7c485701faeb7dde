//! What the configuration says about one origin, as the supervisor uses it.

use std::sync::Arc;
use std::time::Duration;

use crate::address::Address;
use crate::backoff::BackoffSettings;
use crate::detector::Thresholds;
use crate::outlier::Passive;
use crate::question::Question;

/// The heartbeat of idle endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Check {
    /// None; endpoints are judged by clients' dials and by the kernel's evidence.
    Off,
    /// The half-open check.
    HalfOpen,
    /// A connection that is proven as a client's is.
    Proof,
    /// The same, and the endpoint is asked something.
    Question(Question),
}

/// What happens to established links of an endpoint that is down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnDown {
    /// They stay.
    Keep,
    /// They are closed.
    Close,
}

/// What happens to established links of a backup when the preferred endpoint is back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnReturn {
    /// They stay.
    Keep,
    /// They are closed.
    Close,
}

/// Settings of one supervisor.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The heartbeat of idle endpoints.
    pub check: Check,
    /// Between two heartbeats of an idle endpoint.
    pub interval: Duration,
    /// How long a heartbeat waits.
    pub timeout: Duration,
    /// Failures and successes that turn an endpoint.
    pub thresholds: Thresholds,
    /// How endpoints are treated whose answers are far worse than those of the others; none, if answers
    /// are not judged.
    pub passive: Option<Passive>,
    /// How long one attempt to connect may take.
    pub connect_timeout: Duration,
    /// The schedule of attempts while the origin is down.
    pub reconnect: BackoffSettings,
    /// Links of an endpoint that is down.
    pub on_down: OnDown,
    /// Links of a backup when the preferred endpoint is back.
    pub on_return: OnReturn,
}

/// Where one entry of the `address` list leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntryAddress {
    /// To one address that needs no lookup.
    Fixed(Address),
    /// To whatever addresses this name resolves to. The text only tells names apart.
    Name(Arc<str>),
}

/// One entry of the `address` list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where it leads.
    pub address: EntryAddress,
    /// Its priority; 0 is preferred.
    pub priority: u32,
    /// Its weight among entries of the same priority; at least 1.
    pub weight: u32,
}

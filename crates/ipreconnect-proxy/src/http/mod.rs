//! HTTP: requests, from clients to endpoints and back, none of them lost that need not be.
//!
//! A request is sent again where it may be: it is idempotent, or it was provably not processed. While no
//! endpoint is up it waits. What may not be sent again is told truthfully.

mod answer;
mod associate;
mod body;
mod buffer;
mod cache;
mod client;
mod date;
mod encoder;
mod exchange;
mod forwarding;
mod guest;
mod h2;
mod line;
mod mirror;
pub(crate) mod pool;
mod reach;
mod record;
mod redirected;
mod relay;
mod render;
mod side;
mod site;
mod socks;
mod tally;
mod through;
mod timer;
mod trail;
mod trial;
mod tunnel;
mod waiting;
mod way;
mod window;
mod wire;
mod writing;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;
use std::time::Duration;

use ipreconnect::core::balance::Policy;
use ipreconnect::core::http::{RequestHead, cookie, path_of};
use ipreconnect::core::rate::Rate;
use ipreconnect::{Chooser, Origin};

use crate::number;

pub use cache::{Cache, CacheSettings, Purge};
pub use forwarding::{Chain, Forwarding};
pub use record::{AccessFormat, AccessLog, AccessSink};
pub use site::{Fallback, FieldRules, HttpBranch, HttpPlan, HttpRoute, Page, Pages, Rewrite};
pub use tally::BranchStatus;

pub(crate) use client::serve;
pub(crate) use guest::drain;
pub(crate) use record::{flush, open as open_log};
pub(crate) use site::{Site, ThroughRoute};
pub use trail::Tracing;
pub(crate) use trail::open as open_traces;
pub(crate) use tunnel::Tale;

/// The longest head of a request that is read.
const HEAD: usize = 64 * 1024;

/// Whether an idempotent request gets a second try elsewhere before the first has failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Hedge {
    /// Never.
    Off,
    /// When its endpoint is in doubt.
    #[default]
    Suspect,
    /// Also when it takes far longer than the endpoint usually does for what is asked.
    Outlier,
}

/// The host that the origin is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum AskedHost {
    /// The one that the client named.
    #[default]
    Client,
    /// This one.
    Fixed(Box<str>),
}

/// What requests are kept to one endpoint by, where the policy is to hash.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum HashOn {
    /// The client's address.
    #[default]
    Source,
    /// A field; the client's address where a request has none.
    Field(Box<str>),
    /// A cookie; the client's address where a request has none.
    Cookie(Box<str>),
    /// The path.
    Path,
}

/// What requests to an origin go by.
#[derive(Clone, Debug, PartialEq)]
pub struct HttpSettings {
    /// How often one request may be sent.
    pub attempts: u32,
    /// The share of live traffic that may be retries, beside ten a second.
    pub budget: f64,
    /// Second tries.
    pub hedge: Hedge,
    /// Whether a request with an `Idempotency-Key` may be sent twice to the same endpoint.
    pub trusts_keys: bool,
    /// From the last byte of a request to the first of its answer.
    pub first_byte: Duration,
    /// An answer may pause for so long.
    pub idle: Duration,
    /// How long a connection is kept without a request.
    pub pool_idle: Duration,
    /// How many connections there may be to each endpoint, those aside that are kept ready; each worker
    /// has its part of them, and at least one.
    pub pool_max: Option<u32>,
    /// Bytes of bodies that may have come of the requests that wait in the hold.
    pub hold_bytes: u64,
    /// The host that the origin is asked for.
    pub host: AskedHost,
    /// What requests are kept to one endpoint by.
    pub hash_on: HashOn,
    /// Whether the origin is asked in HTTP/2: inside TLS as it agrees to it (ALPN), else as is known of it
    /// (RFC 9113, section 3.3).
    pub is_h2: bool,
}

impl Default for HttpSettings {
    fn default() -> Self {
        Self {
            attempts: 3,
            budget: 0.2,
            hedge: Hedge::default(),
            trusts_keys: false,
            first_byte: Duration::from_secs(60),
            idle: Duration::from_secs(3600),
            pool_idle: Duration::from_secs(60),
            pool_max: None,
            hold_bytes: 64 * 1024 * 1024,
            host: AskedHost::default(),
            hash_on: HashOn::default(),
            is_h2: false,
        }
    }
}

/// What clients may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HttpLimits {
    /// Requests of one connection; it ends in order after that many.
    pub requests: u32,
    /// Requests of one connection at once, in HTTP/2.
    pub streams: u32,
    /// Requests of one client.
    pub rate: Option<Rate>,
    /// The least that must come of a body in each second, after ten seconds.
    pub body_rate: u64,
    /// From the first byte of a head to its last.
    pub head: Duration,
    /// Without a request.
    pub idle: Duration,
    /// Without a byte of a body that is to come, or that the client is to take.
    pub stall: Duration,
    /// The longest body of a request, as it stands on the wire.
    pub body: u64,
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self {
            requests: u32::MAX,
            streams: 128,
            rate: None,
            body_rate: 0,
            head: Duration::from_secs(10),
            idle: Duration::from_secs(75),
            stall: Duration::from_secs(60),
            body: u64::MAX,
        }
    }
}

/// An origin, and what requests to it go by.
#[derive(Debug)]
pub(crate) struct Behind {
    origin: Origin,
    settings: HttpSettings,
    /// Whether a request's hash is needed at all.
    hashes: bool,
    choosers: Box<[Chooser]>,
}

/// Choosers made in advance; workers beyond share.
const CHOOSERS: u64 = 16;

impl Behind {
    fn new(origin: Origin, settings: HttpSettings) -> Self {
        let policy = origin.settings().balance;
        Self {
            choosers: (0..CHOOSERS)
                .map(|seed| Chooser::new(policy, seed))
                .collect(),
            hashes: policy == Policy::Hash,
            origin,
            settings,
        }
    }

    /// One that is made on the fly: workers share what chooses among its addresses.
    fn light(origin: Origin, settings: HttpSettings) -> Self {
        let policy = origin.settings().balance;
        Self {
            choosers: [Chooser::new(policy, 0)].into(),
            hashes: false,
            origin,
            settings,
        }
    }

    fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The host that the origin is asked for, where that is not the client's; else nothing.
    fn asked_host(&self) -> &[u8] {
        match &self.settings.host {
            AskedHost::Fixed(host) => host.as_bytes(),
            AskedHost::Client => b"",
        }
    }

    fn settings(&self) -> &HttpSettings {
        &self.settings
    }

    /// What a request is kept to one endpoint by; `source` is the client's address.
    fn hash(&self, head: &RequestHead, text: &[u8], source: Option<IpAddr>) -> Option<u64> {
        if !self.hashes {
            return None;
        }
        let named = |name: &str| {
            let mut fields = head.fields.iter();
            let field =
                fields.find(|field| field.name.of(text).eq_ignore_ascii_case(name.as_bytes()))?;
            Some(field.value.of(text))
        };
        let subject = match &self.settings.hash_on {
            HashOn::Source => None,
            HashOn::Field(name) => named(name),
            HashOn::Cookie(name) => {
                named("cookie").and_then(|field| cookie(field, name.as_bytes()))
            }
            HashOn::Path => Some(path_of(head.target.of(text))),
        };
        let mut hasher = DefaultHasher::new();
        match subject {
            Some(subject) => subject.hash(&mut hasher),
            None => source?.hash(&mut hasher),
        }
        Some(hasher.finish())
    }

    /// What the time of a request is compared by; `None` if it never gets a second try for it.
    fn pace(&self, head: &RequestHead, text: &[u8]) -> Option<u64> {
        if self.settings.hedge != Hedge::Outlier || !head.method.is_idempotent() {
            return None;
        }
        let mut hasher = DefaultHasher::new();
        head.method_text.of(text).hash(&mut hasher);
        path_of(head.target.of(text)).hash(&mut hasher);
        Some(hasher.finish())
    }

    fn chooser(&self) -> &Chooser {
        let at = usize::from(number::get()) % self.choosers.len().max(1);
        match self.choosers.get(at) {
            Some(chooser) => chooser,
            None => unreachable!("there is at least one chooser"),
        }
    }
}

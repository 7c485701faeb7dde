//! The planes of ipreconnect: listeners, workers, and the proxies behind them.
//!
//! A [`Gateway`] has one thread per worker, each with a runtime and a listening socket of its own.
//! What comes in is carried by a plane; [`l4`] carries raw TCP, Unix
//! streams and UDP; the other one speaks HTTP.

mod accept;
mod access;
mod counters;
mod crowd;
mod door;
mod forward;
mod gateway;
mod http;
pub mod l4;
mod notice;
mod number;
mod places;
mod socket;
mod tap;
mod throttle;
mod turn;
mod watch;
mod worker;

pub use access::{
    Access, AccessSettings, Asked, Asking, Explanation, Step, Users, UsersMistake, source, verifier,
};
pub use counters::Totals;
pub use crowd::{Bandwidth, ClientLimits};
pub use door::{
    ACME_TLS, Certify, ClientAuth, Door, HostPattern, HostPatternError, MinVersion, Named, Proxied,
    ProxyProtocol, Termination, TerminationError, TerminationSettings, Unmatched,
};
pub use forward::{
    Direction, Directions, ForwardPlan, Headers, Parent, Speaks, Via, Way as ForwardWay,
};
pub use gateway::{Gateway, GatewaySettings, ListenAt, ListenerStatus, Opened};
pub use http::{
    AccessFormat, AccessLog, AccessSink, AskedHost, BranchStatus, Cache, CacheSettings, Chain,
    Fallback, FieldRules, Forwarding, HashOn, Hedge, HttpBranch, HttpLimits, HttpPlan, HttpRoute,
    HttpSettings, Page, Pages, Purge, Rewrite, Tracing,
};
pub use l4::{End, HalfClose, ListenerSettings, Timeouts};
pub use socket::{FileAccess, ListenAddress, OpenError, OpenErrorKind, Passed};
pub use tap::{Seen, Tap, TapSink, Towards, What};

/// What carries the clients of a listener.
#[derive(Clone, Debug, Default)]
pub enum Plane {
    /// Bytes, or datagrams, as they are.
    #[default]
    Stream,
    /// Requests.
    Http(Box<HttpPlan>),
}

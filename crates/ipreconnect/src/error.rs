//! The library's error: what failed, at which layer, and whether trying again makes sense.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ipreconnect_core::failure::{Failure, Layer};

/// What kind of failure it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// The origin is down, and its hold is off.
    Down,
    /// The origin stayed down for as long as a client may wait.
    HoldTimedOut,
    /// Too many clients wait already.
    HoldFull,
    /// The attempts to reconnect are used up.
    GivenUp,
    /// The origin takes no new work.
    Draining,
    /// The origin was closed by its owner.
    Closed,
    /// What was handed in to prove a connection refused it.
    Handshake,
    /// An address could not be understood.
    Address,
}

/// Whether trying again makes sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Retry {
    /// Later, as it is.
    Later,
    /// Never, unless something else changes.
    Never,
}

/// An error of one origin.
///
/// `Display` prints one level, without a full stop; what the origin itself failed of is its source.
#[derive(Clone, Debug)]
pub struct Error(Box<Inner>);

#[derive(Clone, Debug)]
struct Inner {
    kind: Kind,
    origin: Arc<str>,
    failure: Option<Failure>,
    waited: Duration,
    detail: Option<String>,
}

impl Error {
    pub(crate) fn new(kind: Kind, origin: &Arc<str>) -> Self {
        Self(Box::new(Inner {
            kind,
            origin: Arc::clone(origin),
            failure: None,
            waited: Duration::ZERO,
            detail: None,
        }))
    }

    pub(crate) fn because(mut self, failure: Option<Failure>) -> Self {
        self.0.failure = failure;
        self
    }

    pub(crate) fn after(mut self, waited: Duration) -> Self {
        self.0.waited = waited;
        self
    }

    pub(crate) fn with_detail(mut self, detail: impl Into<String>) -> Self {
        self.0.detail = Some(detail.into());
        self
    }

    /// What kind of failure it is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// The layer at which the origin failed, as far as it is known.
    #[must_use]
    pub fn stage(&self) -> Layer {
        match (&self.0.failure, self.0.kind) {
            (Some(failure), _) => failure.layer(),
            (None, Kind::Handshake) => Layer::Protocol,
            (None, Kind::Address) => Layer::Dns,
            (None, _) => Layer::Transport,
        }
    }

    /// Whether trying again makes sense.
    #[must_use]
    pub fn retry(&self) -> Retry {
        match self.0.kind {
            Kind::Down | Kind::HoldTimedOut | Kind::HoldFull | Kind::Handshake => Retry::Later,
            Kind::GivenUp | Kind::Draining | Kind::Closed | Kind::Address => Retry::Never,
        }
    }

    /// The origin's name.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.0.origin
    }

    /// The failure of the origin that is behind it.
    #[must_use]
    pub fn failure(&self) -> Option<&Failure> {
        self.0.failure.as_ref()
    }

    /// How long the caller had waited.
    #[must_use]
    pub fn waited(&self) -> Duration {
        self.0.waited
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = &self.0;
        write!(f, "origin {:?} ", &*inner.origin)?;
        match inner.kind {
            Kind::Down => f.write_str("is down")?,
            Kind::HoldTimedOut => write!(f, "is still down after {:.1?}", inner.waited)?,
            Kind::HoldFull => f.write_str("is down and too many clients wait for it already")?,
            Kind::GivenUp => f.write_str("is given up: its attempts are used up")?,
            Kind::Draining => f.write_str("is being drained")?,
            Kind::Closed => f.write_str("was closed")?,
            Kind::Handshake => f.write_str("refused the handshake")?,
            Kind::Address => f.write_str("has an address that cannot be used")?,
        }
        if let Some(detail) = &inner.detail {
            write!(f, ": {detail}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        let failure = self.0.failure.as_ref()?;
        Some(failure)
    }
}

//! What happens at the door, before an origin is chosen: TLS is opened, or only read for the name that
//! the client asks for.

mod certificates;
mod peek;
pub(crate) mod postgres;
mod proxied;
mod termination;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use ipreconnect::Origin;
use ipreconnect::core::hello::Hello;
use ipreconnect::core::http::HostRule;
use ipreconnect::socket::Socket;
use ipreconnect::tls::Session as Tls;
use rustix::net::{SendFlags, send};

pub use certificates::{ACME_TLS, Certify};
pub use proxied::{Proxied, ProxyProtocol};
pub use termination::{ClientAuth, MinVersion, Termination, TerminationError, TerminationSettings};

use crate::access::Access;
use crate::crowd::ClientLimits;
use crate::l4::{ListenerSettings, Route};

/// A client that has not said who it wants within this time is not served.
const PATIENCE: Duration = Duration::from_secs(10);

/// The alert that tells a client that nobody here has that name (RFC 6066, section 3).
const UNRECOGNIZED_NAME: [u8; 7] = [21, 3, 1, 0, 2, 2, 112];

/// A name that clients ask for: a host, or `*.` before one, which stands for one label or more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPattern {
    host: String,
    is_wild: bool,
}

/// Why a text is no [`HostPattern`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostPatternError;

impl fmt::Display for HostPatternError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("this is neither a host name nor `*.` before one")
    }
}

impl std::error::Error for HostPatternError {}

impl FromStr for HostPattern {
    type Err = HostPatternError;

    fn from_str(text: &str) -> Result<Self, HostPatternError> {
        let (host, is_wild) = match text.strip_prefix("*.") {
            Some(host) => (host, true),
            None => (text, false),
        };
        let host = host.strip_suffix('.').unwrap_or(host);
        let label = |label: &str| {
            (1..=63).contains(&label.len())
                && label
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
        };
        if host.len() > 253 || !host.split('.').all(label) {
            return Err(HostPatternError);
        }
        Ok(Self {
            host: host.to_ascii_lowercase(),
            is_wild,
        })
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_wild { "*." } else { "" })?;
        f.write_str(&self.host)
    }
}

impl HostPattern {
    /// The same, for requests.
    #[must_use]
    pub fn rule(&self) -> HostRule {
        if self.is_wild {
            HostRule::below(&self.host)
        } else {
            HostRule::exact(&self.host)
        }
    }

    /// Whether a name, in lower case, is meant.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        if !self.is_wild {
            return name == self.host;
        }
        name.strip_suffix(&self.host)
            .and_then(|labels| labels.strip_suffix('.'))
            .is_some_and(|labels| !labels.is_empty())
    }
}

/// What becomes of a client that asks for no name, or for one that nobody has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unmatched {
    /// It goes to the listener's origin.
    #[default]
    Served,
    /// It is refused.
    Refused,
}

/// Where clients go that ask for a name.
#[derive(Clone, Debug)]
pub struct Named {
    /// The name.
    pub pattern: HostPattern,
    /// The origin.
    pub origin: Origin,
    /// What their streams go by.
    pub settings: ListenerSettings,
}

/// How clients come in.
#[derive(Clone, Debug, Default)]
pub struct Door {
    /// TLS is opened here; without it, it passes through.
    pub tls: Option<Termination>,
    /// Origins by the name that the client asks for; the first match decides.
    pub names: Vec<Named>,
    /// What becomes of the others.
    pub unmatched: Unmatched,
    /// Who may come in at all.
    pub access: Access,
    /// How proxies before this one say whose connections they bring.
    pub proxied: Proxied,
    /// What clients may do, whatever they speak.
    pub limits: ClientLimits,
}

/// A door as its listener uses it.
#[derive(Debug)]
pub(crate) struct Entrance {
    tls: Option<Termination>,
    names: Vec<(HostPattern, Arc<Route>)>,
    unmatched: Unmatched,
}

/// A client that came in.
pub(crate) struct Guest {
    /// Its TLS, if that was opened here.
    pub(crate) tls: Option<Box<Tls>>,
    /// Where it goes, if not to the listener's own origin.
    pub(crate) route: Option<Arc<Route>>,
}

impl Entrance {
    /// `None` if every client is simply let in.
    pub(crate) fn new(
        door: Door,
        route: impl Fn(Origin, ListenerSettings) -> Route,
    ) -> Option<Box<Self>> {
        if door.tls.is_none() && door.names.is_empty() {
            return None;
        }
        let names = door.names.into_iter();
        Some(Box::new(Self {
            tls: door.tls,
            names: names
                .map(|named| {
                    let route = route(named.origin, named.settings);
                    (named.pattern, Arc::new(route))
                })
                .collect(),
            unmatched: door.unmatched,
        }))
    }

    /// Where clients go that ask for a name.
    pub(crate) fn routes(&self) -> impl Iterator<Item = &Arc<Route>> {
        self.names.iter().map(|(_, route)| route)
    }

    /// Whether nobody comes in who asks for no name.
    pub(crate) fn refuses_nameless(&self) -> bool {
        !self.names.is_empty() && self.unmatched == Unmatched::Refused
    }

    /// Whether nobody comes in without a certificate.
    pub(crate) fn demands_certificate(&self) -> bool {
        self.tls
            .as_ref()
            .is_some_and(Termination::demands_certificate)
    }

    /// Lets a client in, or says why not.
    ///
    /// Cancel safety: the connection is of no use afterwards.
    pub(crate) async fn enter(&self, client: &Socket) -> Result<Guest, String> {
        match tokio::time::timeout(PATIENCE, self.open(client)).await {
            Ok(result) => result,
            Err(_) => Err(format!("no complete TLS handshake within {PATIENCE:?}")),
        }
    }

    async fn open(&self, client: &Socket) -> Result<Guest, String> {
        let route = if self.names.is_empty() {
            None
        } else {
            self.choose(client).await?
        };
        let tls = match &self.tls {
            Some(termination) => Some(termination.open(client).await?),
            None => None,
        };
        Ok(Guest { tls, route })
    }

    async fn choose(&self, client: &Socket) -> Result<Option<Arc<Route>>, String> {
        let name = match peek::hello(client).await {
            Hello::Tls(hello) => hello.name,
            Hello::Broken => return Err("its ClientHello is broken or too long".to_owned()),
            Hello::More => return Err("it left before its ClientHello was complete".to_owned()),
            Hello::NotTls => None,
        };
        let wanted = name.as_deref();
        let mut routes = self.names.iter();
        let found = routes.find(|(pattern, _)| wanted.is_some_and(|name| pattern.matches(name)));
        if let Some((_, route)) = found {
            return Ok(Some(Arc::clone(route)));
        }
        match self.unmatched {
            Unmatched::Served => Ok(None),
            Unmatched::Refused => {
                // A client that is gone already needs no alert.
                let _ = send(client.get_ref(), &UNRECOGNIZED_NAME, SendFlags::NOSIGNAL);
                Err(match wanted {
                    Some(name) => format!("no route has the name {name:?}"),
                    None => {
                        "it asks for no name, and the listener has no origin of its own".to_owned()
                    }
                })
            }
        }
    }
}

#[cfg(test)]
mod tests;

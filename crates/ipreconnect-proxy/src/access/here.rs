//! What is known of a client, and of this machine.

use std::cell::OnceCell;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ipreconnect::clock;
use ipreconnect::core::access::{Host, Method, Rule, Source, World};
use ipreconnect::core::postgres::StartUp;
use ipreconnect::sense::peer_user;
use ipreconnect::tls::Holder;
use ipreconnect_ports::{Interface, interfaces, owner, user};
use rustix::net::{AddressFamily, getpeername, getsockname};

use super::Inner;

/// The addresses of this machine are looked up once in so long.
const LOOK: Duration = Duration::from_secs(1);

/// A client at the door.
pub(crate) struct Entering<'e> {
    pub(crate) source: Source,
    /// Its connection.
    pub(crate) socket: &'e OwnedFd,
    /// That is a proxy's, who brings it.
    pub(crate) is_brought: bool,
    /// What it says before it is asked, where that is heard.
    pub(crate) said: Option<&'e StartUp>,
    /// It is inside TLS.
    pub(crate) is_tls: bool,
    /// The certificate that it has shown.
    pub(crate) holder: Option<&'e Holder>,
}

/// Where a connection comes from; `None` if that cannot be told.
pub(crate) fn source_of(socket: &OwnedFd, from: Option<IpAddr>) -> Option<Source> {
    if let Some(from) = from {
        return Some(Source::Ip(from));
    }
    let local = getsockname(socket).ok()?;
    (local.address_family() == AddressFamily::UNIX).then_some(Source::Local)
}

/// Of whom something is known.
#[derive(Clone, Copy)]
pub(super) enum Who<'w> {
    /// Of nobody but an address.
    Stranger,
    /// Of a client at the door.
    Entering(&'w Entering<'w>),
    /// Of one that is said to be this user of this machine, if it is any.
    Told(Option<&'w [u8]>),
}

/// What is known of one client.
pub(super) struct Here<'h> {
    inner: &'h Inner,
    who: Who<'h>,
    /// The user of this machine that it is.
    system: OnceCell<Option<Vec<u8>>>,
    /// The name of its host, when that was looked up.
    host: Option<Option<Arc<str>>>,
}

impl<'h> Here<'h> {
    pub(super) fn new(inner: &'h Inner, who: Who<'h>) -> Self {
        Self {
            inner,
            who,
            system: OnceCell::new(),
            host: match who {
                Who::Stranger => Some(None),
                Who::Entering(_) | Who::Told(_) => None,
            },
        }
    }

    /// Its host was looked up.
    pub(super) fn is_named(&mut self, host: Option<Arc<str>>) {
        self.host = Some(host);
    }

    fn system(&self) -> Option<&[u8]> {
        let system = self.system.get_or_init(|| match self.who {
            Who::Stranger => None,
            Who::Entering(entering) => Some(user(uid(entering)?).into_bytes()),
            Who::Told(user) => user.map(<[u8]>::to_vec),
        });
        system.as_deref()
    }

    /// The names of its certificate that count for a rule. A file of PostgreSQL's means the subject alone.
    fn certified(&self, rule: &Rule) -> Vec<&[u8]> {
        let Who::Entering(Entering {
            holder: Some(holder),
            ..
        }) = self.who
        else {
            return Vec::new();
        };
        if rule.by_subject {
            return vec![&holder.subject];
        }
        let others = holder.names.iter().map(|name| name.as_bytes());
        let others = others.filter(|_| rule.by_alternative);
        holder
            .common_name
            .as_deref()
            .into_iter()
            .chain(others)
            .collect()
    }

    /// Whether a certificate was shown, and verified.
    pub(super) fn has_certificate(&self) -> bool {
        matches!(self.who, Who::Entering(entering) if entering.holder.is_some())
    }

    /// Whether its certificate allows a name that it says is its own; any that it proves, if it says none.
    pub(super) fn is_certified(&self, rule: &Rule, user: Option<&[u8]>) -> bool {
        let mut names = self.certified(rule).into_iter();
        names.any(|name| self.may_be(rule, name, user))
    }

    /// The same, by the user of this machine that it is.
    pub(super) fn is_peer(&self, rule: &Rule, user: Option<&[u8]>) -> bool {
        self.system()
            .is_some_and(|system| self.may_be(rule, system, user))
    }

    fn may_be(&self, rule: &Rule, system: &[u8], user: Option<&[u8]>) -> bool {
        let (maps, map) = (&self.inner.maps, rule.map.as_deref());
        let is_member = |user: &[u8], role: &str| self.is_member(user, role);
        match user {
            Some(user) => maps.permit(map, system, user, &is_member),
            None => maps.name(map, system).is_some(),
        }
    }
}

/// The user at the other end, if that is on this machine and can be known.
fn uid(entering: &Entering<'_>) -> Option<u32> {
    match entering.source {
        // The owner of the connection is the proxy.
        _ if entering.is_brought => None,
        Source::Local => peer_user(entering.socket).ok(),
        Source::Ip(address) if address.is_loopback() => {
            let peer = SocketAddr::try_from(getpeername(entering.socket).ok()??).ok()?;
            let here = SocketAddr::try_from(getsockname(entering.socket).ok()?).ok()?;
            owner(peer, here).ok()?
        }
        Source::Ip(_) => None,
    }
}

impl World for Here<'_> {
    fn is_own_address(&self, address: IpAddr) -> bool {
        known(|all| all.iter().any(|one| one.address == address))
    }

    fn is_own_network(&self, address: IpAddr) -> bool {
        known(|all| all.iter().any(|one| one.is_in_network(address)))
    }

    fn is_member(&self, user: &[u8], role: &str) -> bool {
        self.inner.roles.is_member(user, role)
    }

    fn proves(&self, rule: &Rule, is_meant: &dyn Fn(&[u8]) -> bool) -> bool {
        let (maps, map) = (&self.inner.maps, rule.map.as_deref());
        let proves = |system: &[u8]| maps.name(map, system).is_some_and(|name| is_meant(&name));
        match rule.method {
            Method::Peer => self.system().is_some_and(proves),
            Method::Cert => self.certified(rule).into_iter().any(proves),
            // Whoever shows in whichever way to be the one that is refused is.
            Method::Reject => {
                self.system().is_some_and(proves) || self.certified(rule).into_iter().any(proves)
            }
            _ => false,
        }
    }

    fn host(&self) -> Host<'_> {
        match &self.host {
            None => Host::Unknown,
            Some(None) => Host::None,
            Some(Some(host)) => Host::Named(host),
        }
    }
}

/// Looks at the addresses of this machine. While they cannot be read, nothing is its own.
fn known(look: impl FnOnce(&[Interface]) -> bool) -> bool {
    static KNOWN: Mutex<Option<(Instant, Vec<Interface>)>> = Mutex::new(None);
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let now = clock::now();
    let is_old = |at: Instant| now.saturating_duration_since(at) >= LOOK;
    if known.as_ref().is_none_or(|(at, _)| is_old(*at)) {
        // What was known is better than nothing.
        let before = known.take().map(|(_, all)| all);
        *known = Some((now, interfaces().unwrap_or(before.unwrap_or_default())));
    }
    known.as_ref().is_some_and(|(_, all)| look(all))
}

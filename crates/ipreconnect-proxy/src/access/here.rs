//! What is known of a client, and of this machine.

use std::cell::OnceCell;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ipreconnect::clock;
use ipreconnect::core::access::{Host, Maps, Method, Rule, Source, World};
use ipreconnect::sense::peer_user;
use ipreconnect_ports::{Interface, interfaces, owner, user};
use rustix::net::{AddressFamily, getpeername, getsockname};

/// The addresses of this machine are looked up once in so long.
const LOOK: Duration = Duration::from_secs(1);

/// A client at the door.
pub(crate) struct Entering<'e> {
    pub(crate) source: Source,
    /// Its connection.
    pub(crate) socket: &'e OwnedFd,
    /// That is a proxy's, who brings it.
    pub(crate) is_brought: bool,
}

/// Where a connection comes from; `None` if that cannot be told.
pub(crate) fn source_of(socket: &OwnedFd, from: Option<IpAddr>) -> Option<Source> {
    if let Some(from) = from {
        return Some(Source::Ip(from));
    }
    let local = getsockname(socket).ok()?;
    (local.address_family() == AddressFamily::UNIX).then_some(Source::Local)
}

/// What is known of one client.
pub(super) struct Here<'h> {
    entering: &'h Entering<'h>,
    maps: &'h Maps,
    /// The user of this machine that it is.
    system: OnceCell<Option<Vec<u8>>>,
    /// The name of its host, when that was looked up.
    host: Option<Option<Arc<str>>>,
}

impl<'h> Here<'h> {
    pub(super) fn new(entering: &'h Entering<'h>, maps: &'h Maps) -> Self {
        Self {
            entering,
            maps,
            system: OnceCell::new(),
            host: None,
        }
    }

    /// Its host was looked up.
    pub(super) fn is_named(&mut self, host: Option<Arc<str>>) {
        self.host = Some(host);
    }

    fn system(&self) -> Option<&[u8]> {
        let system = self.system.get_or_init(|| {
            let uid = uid(self.entering)?;
            Some(user(uid).into_bytes())
        });
        system.as_deref()
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
        is_own_address(address)
    }

    fn is_own_network(&self, address: IpAddr) -> bool {
        is_own_network(address)
    }

    fn is_member(&self, user: &[u8], role: &str) -> bool {
        user == role.as_bytes()
    }

    fn proven(&self, rule: &Rule) -> Option<Vec<u8>> {
        match rule.method {
            Method::Peer => self.maps.name(rule.map.as_deref(), self.system()?),
            _ => None,
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

/// A client of whom nothing is known but its address.
pub(super) struct Strange;

impl World for Strange {
    fn is_own_address(&self, address: IpAddr) -> bool {
        is_own_address(address)
    }

    fn is_own_network(&self, address: IpAddr) -> bool {
        is_own_network(address)
    }

    fn is_member(&self, _: &[u8], _: &str) -> bool {
        false
    }

    fn proven(&self, _: &Rule) -> Option<Vec<u8>> {
        None
    }

    fn host(&self) -> Host<'_> {
        Host::None
    }
}

/// A client that somebody asks about.
pub(super) struct Imagined<'i> {
    pub(super) user: Option<Vec<u8>>,
    pub(super) maps: &'i Maps,
    pub(super) host: Option<Arc<str>>,
}

impl World for Imagined<'_> {
    fn is_own_address(&self, address: IpAddr) -> bool {
        is_own_address(address)
    }

    fn is_own_network(&self, address: IpAddr) -> bool {
        is_own_network(address)
    }

    fn is_member(&self, user: &[u8], role: &str) -> bool {
        user == role.as_bytes()
    }

    fn proven(&self, rule: &Rule) -> Option<Vec<u8>> {
        match rule.method {
            Method::Peer => self.maps.name(rule.map.as_deref(), self.user.as_deref()?),
            _ => None,
        }
    }

    fn host(&self) -> Host<'_> {
        self.host.as_deref().map_or(Host::None, Host::Named)
    }
}

fn is_own_address(address: IpAddr) -> bool {
    known(|all| all.iter().any(|one| one.address == address))
}

fn is_own_network(address: IpAddr) -> bool {
    known(|all| all.iter().any(|one| one.is_in_network(address)))
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

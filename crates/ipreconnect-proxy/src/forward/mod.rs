//! The forward proxy: on behalf of clients, who say where they want to go.
//!
//! A host is read once, judged as it is written, looked up once, and judged by the very address that is dialled.
//! Every host is an origin that is made on the fly; nothing of it is kept longer than its connections are of use.

mod explain;
mod judge;
mod parent;
mod places;
mod refusal;
mod stay;

use std::hash::{BuildHasher, RandomState};
use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use ipreconnect::OriginSettings;
use ipreconnect::core::forward::{Allowance, Denial, ForwardPolicy, Over, Target, pac};
use ipreconnect::resolve::Names;
use ipreconnect::tls::TlsSettings;

use crate::http::{Cache, FieldRules, Page};

pub use explain::{Direction, Directions};
pub(crate) use parent::{Failed, Leg};
pub use parent::{Parent, Speaks, Via, Way};
pub(crate) use places::{Errand, Place, Speech};
pub(crate) use refusal::{Refusal, Whose};
pub(crate) use stay::{Stay, nameless};

use judge::Judge;
use parent::Ways;
use places::Places;
use stay::Users;

/// What such proxies are known by begins so.
const PSEUDONYM: &str = "ipreconnect-";
/// Before it stands which HTTP they speak.
const VERSION: &str = "1.1 ";

/// What origins are told of clients, and of the proxy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Headers {
    /// Nothing; and what a client says of those before it is taken away.
    #[default]
    Hide,
    /// Who the client is, and that it comes through a proxy.
    Tell,
    /// What the client says, and no more.
    Untouched,
}

/// How a listener is a forward proxy.
#[derive(Clone, Debug)]
pub struct ForwardPlan {
    /// Where clients may go.
    pub policy: Arc<ForwardPolicy>,
    /// Whether they may go nowhere else; what they may not is only told, if not.
    pub is_enforced: bool,
    /// Whether the kernel leads clients here that wanted to go elsewhere.
    pub is_transparent: bool,
    /// What origins are told.
    pub headers: Headers,
    /// Fields of requests over plain HTTP.
    pub request: FieldRules,
    /// Fields of their answers.
    pub response: FieldRules,
    /// What keeps answers over plain HTTP.
    pub cache: Option<Cache>,
    /// Where the PAC file is that tells browsers of it.
    pub pac: Option<Box<str>>,
    /// How much each user may have; whoever has shown no name is known by his address.
    pub allowance: Allowance,
    /// The ways to hosts: those of the first that is for one; straight there, if there is none.
    pub via: Vec<Via>,
    /// What looks hosts up.
    pub names: Names,
    /// How hosts are dialled.
    pub dialling: OriginSettings,
    /// How servers prove who they are to whom clients have us speak TLS (`https` in the absolute form).
    pub tls: TlsSettings,
}

/// A forward proxy as its listener uses it.
#[derive(Debug)]
pub(crate) struct Forward {
    pub(crate) plan: ForwardPlan,
    places: Places,
    ways: Vec<Ways>,
    own: Arc<Own>,
    users: Users,
    via: Box<str>,
}

/// Where the listener itself is.
#[derive(Debug, Default)]
pub(crate) struct Own(ArcSwap<Vec<SocketAddr>>);

impl Own {
    /// Whether that is the listener.
    fn is(&self, address: SocketAddr) -> bool {
        self.0.load().iter().any(|own| {
            own.port() == address.port()
                && (own.ip().to_canonical() == address.ip().to_canonical()
                    || own.ip().is_unspecified() && is_here(address))
        })
    }
}

/// Whether an address is one of this machine's: only those can be bound.
fn is_here(address: SocketAddr) -> bool {
    std::net::UdpSocket::bind((address.ip(), 0)).is_ok()
}

impl Forward {
    pub(crate) fn new(plan: ForwardPlan) -> Self {
        let own = Arc::default();
        Self {
            places: Places::default(),
            ways: Ways::all(&plan, &own),
            own,
            users: Users::default(),
            via: format!("{VERSION}{}", pseudonym()).into(),
            plan,
        }
    }

    /// It takes the place of another one: what users have had of that, they have had, and it is known as that was.
    pub(crate) fn take_over(&mut self, before: &Self) {
        self.users = before.users.clone();
        self.via.clone_from(&before.via);
    }

    /// By what other proxies, and this one, know it: no other listener has the same.
    pub(crate) fn pseudonym(&self) -> &str {
        self.via.strip_prefix(VERSION).unwrap_or_default()
    }

    /// The same with the version of HTTP that it speaks (RFC 9110, section 7.6.3).
    pub(crate) fn via(&self) -> &str {
        &self.via
    }

    /// The PAC file, for a client that has named us so, if that is the path of it.
    pub(crate) fn pac(&self, path: &[u8], host: &[u8], is_tls: bool) -> Option<Page> {
        let own = self.plan.pac.as_deref()?;
        if path != own.as_bytes() {
            return None;
        }
        let named = std::str::from_utf8(host)
            .ok()
            .filter(|host| !host.is_empty());
        let own = self.own.0.load();
        let own = own.first().map(ToString::to_string);
        let proxy = named.map(str::to_owned).or(own)?;
        Some(Page {
            content_type: "application/x-ns-proxy-autoconfig",
            body: pac(&self.plan.policy, &proxy, is_tls).into(),
            fields: "Cache-Control: max-age=300\r\n",
        })
    }

    /// Whether its listener is at that port.
    pub(crate) fn has_port(&self, port: u16) -> bool {
        self.own.0.load().iter().any(|own| own.port() == port)
    }

    /// A user begins a request or a tunnel, if he may; nothing is kept of it where nothing is bounded.
    pub(crate) fn enter(&self, who: impl FnOnce() -> String) -> Result<Option<Stay>, Over> {
        if !self.plan.allowance.is_bounded() {
            return Ok(None);
        }
        self.users.open(&who(), self.plan.allowance).map(Some)
    }

    /// Its listener is at these addresses.
    pub(crate) fn listens_at(&self, addresses: Vec<SocketAddr>) {
        self.own.0.store(Arc::new(addresses));
    }

    /// Where somebody wanted to go who was led here: what he names is judged, and the address.
    pub(crate) fn place_at(&self, target: &Target, to: SocketAddr) -> Result<Place, Refusal> {
        let judge = Judge::new(&self.plan, target, Arc::clone(&self.own))?;
        let ways = self.ways_to(target, &judge)?;
        let at = (target, Some(to.ip()), Speech::Plain);
        Ok(Place::new(&self.plan, at, judge, ways))
    }

    /// The ways there. What is allowed by its address alone goes by no other proxy: that would look it up anew.
    fn ways_to(&self, target: &Target, judge: &Judge) -> Result<Arc<[Leg]>, Refusal> {
        let ways = Ways::to(&self.ways, target);
        if !judge.needs_address() || !self.plan.is_enforced {
            return Ok(ways);
        }
        let is_direct = |way: &Leg| matches!(way, Leg::Direct);
        match ways.iter().any(is_direct) {
            true => Ok(Ways::direct()),
            false => Err(Refusal::denied(target, &Denial::NotAllowed)),
        }
    }

    /// Where somebody wants to go, if he may go there as far as can be said before it is looked up.
    pub(crate) fn place(&self, target: &Target) -> Result<Arc<Place>, Refusal> {
        self.place_by(target, Speech::Plain)
    }

    /// The same, where it is we who speak TLS, if that is wanted.
    pub(crate) fn place_by(&self, target: &Target, speech: Speech) -> Result<Arc<Place>, Refusal> {
        if let Some(place) = self.places.find(target, speech) {
            return Ok(place);
        }
        let judge = Judge::new(&self.plan, target, Arc::clone(&self.own))?;
        let ways = self.ways_to(target, &judge)?;
        let place = Place::new(&self.plan, (target, None, speech), judge, ways);
        Ok(self.places.keep(place))
    }
}

/// Whether that is what such a proxy is known by.
pub(crate) fn is_pseudonym(name: &str) -> bool {
    let drawn = name.strip_prefix(PSEUDONYM).unwrap_or_default();
    drawn.len() == 8 && drawn.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// By what other proxies, and itself, know a listener.
fn pseudonym() -> String {
    let drawn = RandomState::new().hash_one(PSEUDONYM);
    format!("{PSEUDONYM}{:08x}", drawn >> 32)
}

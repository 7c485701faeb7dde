//! Layer 4: bytes, from a client to an endpoint and back.
//!
//! A client is held until an endpoint is proven; nothing is read from it before. Then bytes are
//! carried in both directions, a half-close is passed on as one, and a reset as a reset, so that
//! nobody takes a torn stream for a complete one.

mod carrier;
mod flow;
mod limits;
mod pace;
mod pipes;
mod relay;
mod sealed;
mod session;
mod stream;
pub(crate) mod udp;

use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use arc_swap::ArcSwap;
use ipreconnect::{Chooser, Origin};

use crate::Plane;
use crate::access::Access;
use crate::crowd::{ClientLimits, Limiter};
use crate::door::{Door, Entrance, Proxied};
use crate::http::Site;

pub(crate) use session::{Carried, Session, carry};

/// How long a stream may be silent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Nothing moves in either direction, and nobody waits for anything.
    pub idle: Duration,
    /// Bytes wait to be sent, the peer's window is open, and nothing moves.
    pub stall: Duration,
}

/// Settings of one listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListenerSettings {
    /// Time limits of its streams.
    pub timeouts: Timeouts,
    /// What a held client's half-close means.
    pub half_close: HalfClose,
}

/// What it means when a held client sends FIN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HalfClose {
    /// It has gone away.
    Leaves,
    /// It has said all it wants to say, and waits for the answer.
    Waits,
}

/// How a stream ended: one value, counted once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The client closed first, in order.
    ByClient,
    /// The origin closed first, in order.
    ByOrigin,
    /// The client's connection failed.
    ResetByClient,
    /// The origin's connection failed.
    ResetByOrigin,
    /// Nothing moved for the idle time.
    Idle,
    /// Bytes waited for the stall time.
    Stalled,
    /// Closed by order: `on_down = "close"` or `on_return = "close"`.
    Closed,
    /// The gateway ended.
    Drained,
    /// A UDP session made room for another one.
    Evicted,
}

impl End {
    /// In a word or two.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::ByClient => "by the client",
            Self::ByOrigin => "by the origin",
            Self::ResetByClient => "reset by the client",
            Self::ResetByOrigin => "reset by the origin",
            Self::Idle => "idle for too long",
            Self::Stalled => "stalled",
            Self::Closed => "by order",
            Self::Drained => "the gateway ends",
            Self::Evicted => "made room for another one",
        }
    }
}

/// Where the clients of one listener go.
#[derive(Debug)]
pub(crate) struct Route {
    name: Arc<str>,
    origin: Origin,
    settings: ListenerSettings,
    choosers: Vec<Chooser>,
    /// Who may come in.
    access: Access,
    /// How proxies before this one say whose connections they bring.
    proxied: Proxied,
    /// How many may come, and how often.
    limiter: Limiter,
    /// What stands before it, if clients are not simply let in.
    entrance: Option<Box<Entrance>>,
    /// How it speaks HTTP, if it does.
    site: Option<Arc<Site>>,
    /// The same route for what is carried as it is: a tunnel that lasts for days keeps no lists of yesterday.
    plain: Option<Arc<Self>>,
    /// Set when another one has taken its place: where the listener keeps the current one, or nowhere.
    next: OnceLock<Weak<ArcSwap<Self>>>,
}

/// Choosers made in advance; workers beyond share.
const CHOOSERS: u64 = 16;

impl Route {
    pub(crate) fn new(
        name: &str,
        origin: Origin,
        settings: ListenerSettings,
        door: Door,
        plane: Plane,
    ) -> Self {
        let (access, proxied) = (door.access.clone(), door.proxied.clone());
        let limiter = Limiter::new(door.limits.clone());
        // Whoever comes in by a name is paced, too; all else was looked at before.
        let limits = ClientLimits {
            bandwidth: door.limits.bandwidth,
            ..ClientLimits::default()
        };
        let entrance = Entrance::new(door, |origin, settings| {
            let inner = Door {
                limits: limits.clone(),
                ..Door::default()
            };
            Self::new(name, origin, settings, inner, Plane::Stream)
        });
        let site = match plane {
            Plane::Stream => None,
            Plane::Http(plan) => Some(Arc::new(Site::new(&origin, *plan))),
        };
        let plain = site.as_ref().map(|_| {
            let (origin, settings) = (origin.clone(), settings);
            Arc::new(Self::new(
                name,
                origin,
                settings,
                Door::default(),
                Plane::Stream,
            ))
        });
        let policy = origin.settings().balance;
        Self {
            name: name.into(),
            choosers: (0..CHOOSERS)
                .map(|seed| Chooser::new(policy, seed))
                .collect(),
            origin,
            settings,
            access,
            proxied,
            limiter,
            entrance,
            site,
            plain,
            next: OnceLock::new(),
        }
    }

    /// It is to take the place of another one.
    pub(crate) fn take_over(&mut self, before: &Self) {
        let own = self.site.as_mut().and_then(Arc::get_mut);
        if let (Some(own), Some(before)) = (own, before.site()) {
            own.take_over(before);
        }
    }

    /// Another one has taken its place there, or its listener is closed.
    pub(crate) fn give_way(&self, current: Option<&Arc<ArcSwap<Self>>>) {
        // It gives way once.
        let _ = self
            .next
            .set(current.map(Arc::downgrade).unwrap_or_default());
        for route in self.entrance.iter().flat_map(|entrance| entrance.routes()) {
            route.give_way(None);
        }
    }

    /// Whether no other one has taken its place.
    pub(crate) fn is_current(&self) -> bool {
        self.next.get().is_none()
    }

    /// The one that has taken its place, where clients of HTTP may go on who are here already.
    pub(crate) fn next(&self) -> Option<(Arc<Self>, Arc<Site>)> {
        let next = self.next.get()?.upgrade()?.load_full();
        let site = Arc::clone(next.site()?);
        let entrances = [self.entrance(), next.entrance()];
        let mut entrances = entrances.iter().flatten();
        let asks_more = entrances.any(|entrance| entrance.routes().next().is_some())
            || next.entrance().is_some_and(Entrance::demands_certificate);
        (!asks_more).then_some((next, site))
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn shared_name(&self) -> Arc<str> {
        Arc::clone(&self.name)
    }

    pub(crate) fn site(&self) -> Option<&Arc<Site>> {
        self.site.as_ref()
    }

    /// What streams go by that have come out of HTTP.
    pub(crate) fn plain(&self) -> Option<Arc<Self>> {
        self.plain.clone()
    }

    pub(crate) fn access(&self) -> &Access {
        &self.access
    }

    pub(crate) fn proxied(&self) -> &Proxied {
        &self.proxied
    }

    pub(crate) fn limiter(&self) -> &Limiter {
        &self.limiter
    }

    pub(crate) fn half_close(&self) -> HalfClose {
        self.settings.half_close
    }

    pub(crate) fn entrance(&self) -> Option<&Entrance> {
        self.entrance.as_deref()
    }

    pub(crate) fn origin(&self) -> &Origin {
        &self.origin
    }

    fn chooser(&self, worker: u16) -> Option<&Chooser> {
        let count = self.choosers.len();
        self.choosers.get(usize::from(worker) % count.max(1))
    }
}

impl Route {
    pub(crate) fn timeouts(&self) -> Timeouts {
        self.settings.timeouts
    }
}

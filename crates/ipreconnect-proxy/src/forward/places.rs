//! The hosts that clients went to of late, each an origin that is made on the fly. There are so many of them and no
//! more; who was not asked for longest makes room.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use ipreconnect::core::forward::{Denial, Host, Target};
use ipreconnect::{Host as OriginHost, Origin, OriginSettings, Target as OriginTarget};

use super::ForwardPlan;
use super::judge::Judge;
use super::parent::{Leg, Tunnelled};
use crate::http::ThroughRoute;

/// Hosts that are remembered, each with its port.
const PLACES: usize = 4096;

/// Who speaks TLS with a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Speech {
    /// Its clients, or nobody.
    Plain,
    /// We do, for requests of `https`.
    Sealed,
}

/// One host, at one port.
#[derive(Debug)]
pub(crate) struct Place {
    target: Target,
    /// The same as proxies are told it, and as it stands in URLs.
    authority: Box<str>,
    speech: Speech,
    origin: Origin,
    judge: Arc<Judge>,
    ways: Arc<[Leg]>,
    /// What requests to it go by, by each of the ways.
    routes: Box<[OnceLock<ThroughRoute>]>,
    /// Somebody has asked for it since it was last looked at.
    is_wanted: AtomicBool,
}

/// What a request goes by, on one of the ways.
#[derive(Clone, Copy)]
pub(crate) struct Errand<'p> {
    pub(crate) route: &'p ThroughRoute,
    /// The proxy by which it goes.
    pub(crate) proxy: Option<&'p str>,
    /// That it is asked to carry it out, and what shows it who we are.
    pub(crate) asked: Option<Option<&'p str>>,
}

impl Place {
    pub(super) fn new(
        plan: &ForwardPlan,
        (target, at, speech): (&Target, Option<IpAddr>, Speech),
        judge: Arc<Judge>,
        ways: Arc<[Leg]>,
    ) -> Self {
        let host = match (at, &target.host) {
            (Some(ip), _) => OriginHost::Ip(ip),
            (None, Host::Ip(ip)) => OriginHost::Ip(*ip),
            (None, Host::Name(name)) => OriginHost::Name(name.as_ref().into()),
        };
        let vet: Arc<Judge> = Arc::clone(&judge);
        let at = (host, target.port);
        let mut dialling = plan.dialling.clone();
        if speech == Speech::Sealed {
            dialling.tls = Some(plan.tls.clone());
            // By this its server proves who it is.
            dialling.places = OriginSettings::new(named(target)).places;
        }
        Self {
            origin: Origin::light(at, dialling, vet, &plan.names),
            speech,
            authority: match (target.port, speech) {
                (80, Speech::Plain) | (443, Speech::Sealed) => target.host.to_string().into(),
                _ => target.to_string().into(),
            },
            target: target.clone(),
            judge,
            routes: ways.iter().map(|_| OnceLock::new()).collect(),
            ways,
            is_wanted: AtomicBool::new(false),
        }
    }

    pub(crate) fn target(&self) -> &Target {
        &self.target
    }

    /// The same as proxies are told it, and as it stands in URLs: without the port that everybody knows.
    pub(crate) fn authority(&self) -> &str {
        &self.authority
    }

    pub(crate) fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The ways to it with their numbers, in the order in which they are to be tried: those that are known to lead nowhere come last.
    pub(crate) fn ways(&self) -> impl Iterator<Item = (usize, &Leg)> {
        let ways = || self.ways.iter().enumerate();
        let open = ways().filter(|(_, way)| way.is_open());
        open.chain(ways().filter(|(_, way)| !way.is_open()))
    }

    /// Whether it may be gone to without any other proxy.
    pub(crate) fn is_direct(&self) -> bool {
        self.ways.iter().any(|way| matches!(way, Leg::Direct))
    }

    /// What a request goes by, on the way with that number.
    pub(crate) fn errand(&self, plan: &ForwardPlan, at: usize) -> Option<Errand<'_>> {
        let asked = match self.ways.get(at)? {
            Leg::Direct => None,
            Leg::Parent(asked) => Some(asked),
        };
        // Whoever prefers a proxy does not want us to go there past it.
        let mut before = self.ways.iter().take(at + 1);
        if self.speech == Speech::Sealed && before.any(|way| !matches!(way, Leg::Direct)) {
            return None;
        }
        if let Some((asked, route)) = asked.and_then(|asked| Some((asked, asked.route()?))) {
            return Some(Errand {
                route,
                proxy: Some(asked.origin().name()),
                asked: Some(asked.authorization()),
            });
        }
        let route = self.routes.get(at)?.get_or_init(|| match asked {
            None => ThroughRoute::new(&self.origin, (&self.target, self.speech), plan),
            Some(asked) => {
                let way = Arc::new(Tunnelled {
                    asked: Arc::clone(asked),
                    target: self.target.clone(),
                });
                let name = self.origin.name();
                let origin = Origin::beyond(name, plan.dialling.clone(), way);
                ThroughRoute::new(&origin, (&self.target, self.speech), plan)
            }
        });
        Some(Errand {
            route,
            proxy: asked.map(|asked| asked.origin().name()),
            asked: None,
        })
    }

    /// Whether it is known where it is.
    pub(crate) fn is_found(&self) -> bool {
        self.origin.is_found()
    }

    /// Why nobody might go there, where that is only told.
    pub(crate) fn would_be(&self) -> Option<&Denial> {
        self.judge.would_be()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // What its workers keep of it goes with it.
        self.origin.close();
        for route in &self.routes {
            if let Some(route) = route.get() {
                route.close();
            }
        }
    }
}

/// A host as an origin has it.
fn named(target: &Target) -> Option<OriginTarget> {
    target.to_string().parse().ok()
}

#[derive(Debug, Default)]
pub(super) struct Places(Mutex<Shelf>);

#[derive(Debug, Default)]
struct Shelf {
    plain: HashMap<Target, Arc<Place>>,
    sealed: HashMap<Target, Arc<Place>>,
    /// In the order in which they are looked at when there has to be room.
    order: VecDeque<(Target, Speech)>,
}

impl Places {
    pub(super) fn find(&self, target: &Target, speech: Speech) -> Option<Arc<Place>> {
        let mut shelf = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let place = shelf.of(speech).get(target)?;
        place.is_wanted.store(true, Relaxed);
        Some(Arc::clone(place))
    }

    /// Keeps one, unless somebody else has come first; then it is that one.
    pub(super) fn keep(&self, place: Place) -> Arc<Place> {
        let mut out = None;
        let mut shelf = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (target, speech) = (place.target.clone(), place.speech);
        if let Some(known) = shelf.of(speech).get(&target) {
            return Arc::clone(known);
        }
        if shelf.order.len() >= PLACES {
            out = shelf.make_room();
        }
        let place = Arc::new(place);
        shelf.order.push_back((target.clone(), speech));
        shelf.of(speech).insert(target, Arc::clone(&place));
        drop(shelf);
        drop(out);
        place
    }
}

impl Shelf {
    fn of(&mut self, speech: Speech) -> &mut HashMap<Target, Arc<Place>> {
        match speech {
            Speech::Plain => &mut self.plain,
            Speech::Sealed => &mut self.sealed,
        }
    }

    /// Takes one out that nobody has asked for since it was looked at last.
    fn make_room(&mut self) -> Option<Arc<Place>> {
        while let Some((target, speech)) = self.order.pop_front() {
            let is_wanted = |place: &Arc<Place>| place.is_wanted.swap(false, Relaxed);
            if self.of(speech).get(&target).is_some_and(is_wanted) {
                self.order.push_back((target, speech));
            } else {
                return self.of(speech).remove(&target);
            }
        }
        None
    }
}

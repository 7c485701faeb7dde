//! Origins that are made on the fly: nobody watches over them, and their endpoints are found by who connects.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipreconnect_core::address::{Address, EndpointId, EntryId};
use ipreconnect_core::balance::Standing;
use ipreconnect_core::failure::{Cause, Failure};
use ipreconnect_core::names::Whereabouts;
use ipreconnect_core::origin::{EndpointView, Health, Phase, View};
use tokio::sync::Mutex;

use crate::clock;
use crate::link::Link;
use crate::meter::Meter;
use crate::resolve::Names;
use crate::shared::Shared;
use crate::snapshot::Snapshot;

/// A dial that takes longer hangs, as far as is known of a path that nobody looks after.
const HANGS_AFTER: Duration = Duration::from_secs(1);

/// The host of an origin that is made on the fly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// A name to look up.
    Name(Arc<str>),
    /// An address.
    Ip(IpAddr),
}

/// Says which addresses may be dialled. It must not wait.
pub trait Vet: Send + Sync + fmt::Debug {
    /// Whether this one may be.
    ///
    /// # Errors
    /// Why not, in words.
    fn vet(&self, ip: IpAddr) -> Result<(), String>;
}

/// Opens connections to an origin in a way of its own.
pub trait Open: Send + Sync + fmt::Debug {
    /// Opens one.
    ///
    /// # Errors
    /// Why there is none.
    fn open(&self) -> Pin<Box<dyn Future<Output = Result<Link, Failure>> + Send + '_>>;
}

/// How such an origin finds its endpoints.
#[derive(Debug)]
pub(crate) enum Way {
    /// It looks its host up.
    Light(Box<Light>),
    /// Somebody else knows.
    Beyond(Arc<dyn Open>),
}

/// How such an origin finds its endpoints by itself.
#[derive(Debug)]
pub(crate) struct Light {
    host: Host,
    port: u16,
    vet: Arc<dyn Vet>,
    names: Names,
    /// One looks it up; who comes meanwhile waits for that.
    known: Mutex<Known>,
}

#[derive(Debug)]
struct Known {
    whereabouts: Whereabouts,
    endpoints: BTreeMap<IpAddr, (EndpointId, Arc<Meter>)>,
    next: u32,
}

impl Light {
    pub(crate) fn new((host, port): (Host, u16), vet: Arc<dyn Vet>, names: Names) -> Self {
        let whereabouts = match &host {
            Host::Name(_) => Whereabouts::default(),
            Host::Ip(ip) => Whereabouts::fixed(*ip),
        };
        Self {
            host,
            port,
            vet,
            names,
            known: Mutex::new(Known {
                whereabouts,
                endpoints: BTreeMap::new(),
                next: 0,
            }),
        }
    }

    /// Has the state of the origin say where it is, and that it was looked up now if it was. Returns how long that
    /// took. The turn is that of the source that it is for.
    ///
    /// Cancel safety: nothing is lost.
    pub(crate) async fn find(
        &self,
        shared: &Shared,
        source: Option<IpAddr>,
    ) -> Result<Option<Duration>, Failure> {
        let mut known = self.known.lock().await;
        let mut turn = None;
        if let (Host::Name(name), true) = (&self.host, known.whereabouts.is_due(clock::now())) {
            turn = self.names.try_turn(source);
            if turn.is_none() {
                // Whoever has to wait for a turn of his own holds up nobody else who wants to go there, and what becomes
                // of that says nothing of the host.
                drop(known);
                turn = Some(self.names.turn(name, source).await?);
                known = self.known.lock().await;
            }
        }
        let now = clock::now();
        let mut took = None;
        if known.whereabouts.is_due(now) {
            if let (Host::Name(name), Some(turn)) = (&self.host, turn) {
                let found = self.names.visit_in(name, turn).await;
                known.whereabouts.take(clock::now(), found);
                took = Some(now.elapsed());
            }
        } else if !shared.snapshot.load().view().endpoints.is_empty() {
            return Ok(None);
        }
        self.publish(shared, &mut known)?;
        Ok(took)
    }

    /// Whether it is known where it is, as far as can be said without waiting.
    pub(crate) fn is_found(&self, shared: &Shared) -> bool {
        let known = self.known.try_lock();
        known.is_ok_and(|known| !known.whereabouts.is_due(clock::now()))
            && !shared.snapshot.load().view().endpoints.is_empty()
    }

    /// This address was reached.
    pub(crate) fn reached(&self, shared: &Shared, address: &Address) {
        let is_first = |snapshot: &Snapshot| {
            let first = snapshot.view().endpoints.first();
            first.is_some_and(|first| first.address == *address)
        };
        if is_first(&shared.snapshot.load()) {
            return;
        }
        // Who looks it up at this moment finds out by itself.
        if let (Address::Tcp(address), Ok(mut known)) = (address, self.known.try_lock()) {
            known.whereabouts.reached(address.ip());
            // What was published before is still there.
            let _ = self.publish(shared, &mut known);
        }
    }

    /// None of its addresses could be reached.
    pub(crate) async fn lost(&self) {
        self.known.lock().await.whereabouts.lost(clock::now());
    }

    fn publish(&self, shared: &Shared, known: &mut Known) -> Result<(), Failure> {
        let now = clock::now();
        let ips = match known.whereabouts.ips() {
            Ok(ips) => ips,
            Err(failure) => {
                shared.publish(empty());
                return Err(failure);
            }
        };
        let mut views = Vec::with_capacity(ips.len());
        let mut endpoints = BTreeMap::new();
        // Why the first of those that may not be dialled may not.
        let mut refused = None;
        for ip in ips {
            if let Err(why) = self.vet.vet(*ip) {
                refused.get_or_insert(why);
                continue;
            }
            let (id, meter) = known.endpoints.remove(ip).unwrap_or_else(|| {
                known.next = known.next.wrapping_add(1);
                (EndpointId(known.next), Arc::default())
            });
            endpoints.insert(*ip, (id, meter));
            let address = Address::Tcp(SocketAddr::new(*ip, self.port));
            views.push(view(id, address, now));
        }
        known.endpoints = endpoints;
        if views.is_empty() {
            shared.publish(empty());
            let why = refused.unwrap_or_default();
            return Err(Failure::with_detail(Cause::NotAllowed, why));
        }
        let meters = known.endpoints.values();
        let meters = meters.map(|(id, meter)| (*id, Arc::clone(meter)));
        shared.publish(snapshot(views, &meters.collect(), now));
        Ok(())
    }
}

/// The endpoint of an origin that somebody else finds.
const BEYOND: EndpointId = EndpointId(1);

/// Opens a connection to an origin that somebody else finds.
pub(crate) async fn beyond(shared: &Shared, way: &dyn Open) -> Result<Link, Failure> {
    let link = way.open().await?.of(BEYOND);
    let is_known = !shared.snapshot.load().view().endpoints.is_empty();
    if !is_known {
        let now = clock::now();
        let views = vec![view(BEYOND, link.address().clone(), now)];
        let meters = BTreeMap::from([(BEYOND, Arc::default())]);
        shared.publish(snapshot(views, &meters, now));
    }
    Ok(link)
}

fn snapshot(
    endpoints: Vec<EndpointView>,
    meters: &BTreeMap<EndpointId, Arc<Meter>>,
    now: Instant,
) -> Snapshot {
    let view = View {
        phase: Phase::Up,
        endpoints,
        ..View::empty(now)
    };
    Snapshot::new(view, meters, Arc::default())
}

fn view(id: EndpointId, address: Address, now: Instant) -> EndpointView {
    EndpointView {
        id,
        entry: EntryId(0),
        address,
        priority: 0,
        weight: 1,
        health: Health::Unknown,
        standing: Standing::Good,
        since: now,
        failure: None,
        latency: None,
        hangs_after: HANGS_AFTER,
        returned: None,
        ejected: None,
        by_weight: false,
    }
}

fn empty() -> Snapshot {
    Snapshot::new(View::empty(clock::now()), &BTreeMap::new(), Arc::default())
}

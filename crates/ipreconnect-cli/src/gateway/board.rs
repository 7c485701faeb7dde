//! What runs, for those who show it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

use ipreconnect::core::balance::Standing;
use ipreconnect::core::failure::Failure;
use ipreconnect::core::identity::Sighting;
use ipreconnect::core::origin::{Health, Phase};
use ipreconnect::resolve::NameStatus;
use ipreconnect::tls::Day;
use ipreconnect::{EndpointStatus, Identity, Origin, Status, clock};
use ipreconnect_admin::Pulse;
use ipreconnect_admin::moment::millis;
use ipreconnect_proxy::{Access, BranchStatus, Directions, Gateway, ListenAddress, ListenerStatus};

use super::caches::Caches;
use crate::admin::view::{
    BranchView, EjectedView, EndpointView, FailureView, IdentityView, ListenerView, NameView,
    OriginView, Readiness, RefusalView, SCHEMA, SightingView,
};

/// The running origins and the gateway in front of them.
#[derive(Debug)]
pub(crate) struct Board {
    origins: RwLock<BTreeMap<String, Resident>>,
    gateway: Mutex<Option<Gateway>>,
    caches: Caches,
}

/// One running origin, and what the configuration says about it.
#[derive(Clone, Debug)]
pub(crate) struct Resident {
    /// The origin.
    pub(crate) origin: Origin,
    /// Whether the application cannot do without it.
    pub(crate) required: bool,
    /// What an application should switch off while it is down.
    pub(crate) feature: Option<String>,
}

impl Board {
    /// A board with a gateway and no origins.
    pub(crate) fn new(gateway: Gateway, state: &Path) -> Arc<Self> {
        Arc::new(Self {
            origins: RwLock::default(),
            gateway: Mutex::new(Some(gateway)),
            caches: Caches::new(&state.join("cache")),
        })
    }

    /// The caches of routes.
    pub(crate) fn caches(&self) -> &Caches {
        &self.caches
    }

    /// Puts an origin on the board, in place of one of the same name.
    pub(crate) fn put(&self, name: &str, resident: Resident) {
        self.origins
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(name.to_owned(), resident);
    }

    /// Takes an origin off the board.
    pub(crate) fn take(&self, name: &str) -> Option<Resident> {
        let mut origins = self.origins.write().unwrap_or_else(PoisonError::into_inner);
        origins.remove(name)
    }

    /// The origin of that name.
    pub(crate) fn origin(&self, name: &str) -> Option<Origin> {
        self.read()
            .get(name)
            .map(|resident| resident.origin.clone())
    }

    /// Works with the gateway; `None` when it has ended.
    pub(crate) fn with_gateway<T>(&self, work: impl FnOnce(&mut Gateway) -> T) -> Option<T> {
        self.gateway().as_mut().map(work)
    }

    /// Takes the gateway, to end it.
    pub(crate) fn take_gateway(&self) -> Option<Gateway> {
        self.gateway().take()
    }

    /// All origins, as they are shown.
    pub(crate) fn origins(&self) -> Vec<OriginView> {
        self.read().values().map(show_origin).collect()
    }

    /// How all origins are, for those who keep it.
    pub(crate) fn pulses(&self) -> Vec<Pulse> {
        let pulse = |(name, resident): (&String, &Resident)| {
            let status = resident.origin.status();
            let endpoints = status.endpoints.iter();
            let failed_here = status.endpoints.iter().map(|one| one.failed_here);
            Pulse {
                origin: name.clone(),
                is_down: status.phase == Phase::Down,
                is_up: matches!(status.phase, Phase::Up | Phase::Suspect | Phase::Draining),
                endpoints: endpoints
                    .map(|one| (one.address.to_string(), one.health == Health::Up))
                    .collect(),
                waiting: status.waiting,
                hold: u32::try_from(resident.origin.settings().hold.clients).unwrap_or(u32::MAX),
                is_doubtful: matches!(status.identity, Identity::Changed | Identity::Impersonated),
                failed_here: failed_here.sum(),
                counts: resident.origin.stats().counts(),
            }
        };
        self.read().iter().map(pulse).collect()
    }

    /// One origin, as it is shown.
    pub(crate) fn origin_view(&self, name: &str) -> Option<OriginView> {
        self.read().get(name).map(show_origin)
    }

    /// Whether the required origins are up, and which are not.
    pub(crate) fn readiness(&self) -> Readiness {
        let missing: Vec<String> = self
            .read()
            .iter()
            .filter(|(_, resident)| resident.required && !resident.origin.status().is_up())
            .map(|(name, _)| name.clone())
            .collect();
        Readiness {
            schema: SCHEMA,
            ready: missing.is_empty(),
            missing,
        }
    }

    /// Who may come in at a listener.
    pub(crate) fn access(&self, listener: &str) -> Option<Access> {
        self.with_gateway(|gateway| gateway.access(listener))
            .flatten()
    }

    /// Where clients of a forward proxy may go.
    pub(crate) fn directions(&self, listener: &str) -> Option<Directions> {
        self.with_gateway(|gateway| gateway.directions(listener))
            .flatten()
    }

    /// Where a listener listens.
    pub(crate) fn addresses(&self, listener: &str) -> Vec<ListenAddress> {
        let listeners = self.with_gateway(|gateway| gateway.listeners());
        let mut listeners = listeners.unwrap_or_default().into_iter();
        let found = listeners.find(|one| one.name == listener);
        found.map(|one| one.addresses).unwrap_or_default()
    }

    /// All listeners, as they are shown.
    pub(crate) fn listeners(&self) -> Vec<ListenerView> {
        let listeners = self.with_gateway(|gateway| gateway.listeners());
        let listeners = listeners.unwrap_or_default().into_iter();
        listeners.map(show_listener).collect()
    }

    /// What was seen of the identity of each origin's servers.
    pub(crate) async fn identities(&self) -> Vec<IdentityView> {
        let residents: Vec<(String, Origin)> = self
            .read()
            .iter()
            .map(|(name, resident)| (name.clone(), resident.origin.clone()))
            .collect();
        let mut origins = Vec::with_capacity(residents.len());
        for (name, origin) in residents {
            let found = origin.identities().await;
            let failure = found.as_ref().err().map(ToString::to_string);
            let sightings = found.unwrap_or_default();
            origins.push(IdentityView {
                name,
                identity: origin.status().identity.to_string(),
                failure,
                sightings: sightings.iter().map(show_sighting).collect(),
            });
        }
        origins
    }

    fn read(&self) -> RwLockReadGuard<'_, BTreeMap<String, Resident>> {
        self.origins.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn gateway(&self) -> MutexGuard<'_, Option<Gateway>> {
        self.gateway.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn show_origin(resident: &Resident) -> OriginView {
    let status: Status = resident.origin.status();
    OriginView {
        name: status.origin.to_string(),
        phase: status.phase.to_string(),
        for_ms: millis(status.lasted),
        required: resident.required,
        feature: resident.feature.clone(),
        waiting: status.waiting,
        given_up: status.given_up,
        preferred: status.preferred.as_ref().map(ToString::to_string),
        failure: status.failure.as_ref().map(show_failure),
        identity: status.identity.to_string(),
        endpoints: show_endpoints(&status.endpoints),
        names: status.names.iter().map(show_name).collect(),
    }
}

fn show_sighting(sighting: &Sighting) -> SightingView {
    SightingView {
        entry: sighting.entry.to_string(),
        address: sighting.address.to_string(),
        key: sighting.key.to_string(),
        issuer: sighting.issuer.to_string(),
        names: sighting.names.to_vec(),
        valid_until: Day(sighting.not_after).to_string(),
        tls: sighting.version.to_string(),
        dnssec: sighting.dnssec.to_string(),
        first_seen: Day(sighting.first_seen).to_string(),
        last_seen: Day(sighting.last_seen).to_string(),
        acceptance: sighting.acceptance.to_string(),
    }
}

fn show_name(name: &NameStatus) -> NameView {
    NameView {
        name: name.name.clone(),
        knowledge: name.knowledge.to_string(),
        dnssec: name.security.to_string(),
        turned_insecure: name.turned_insecure,
        addresses: name.addresses,
        denied: name.denied.clone(),
        ttl_ms: millis(name.ttl),
        resolver: name.server.as_ref().map(ToString::to_string),
        failure: name.failure.as_ref().map(show_failure),
    }
}

fn show_endpoints(endpoints: &[EndpointStatus]) -> Vec<EndpointView> {
    let best = |standing| {
        let matching = endpoints.iter().filter(move |e| e.standing == standing);
        matching
            .map(|endpoint| endpoint.priority)
            .min()
            .map(|priority| (standing, priority))
    };
    let working = best(Standing::Good).or_else(|| best(Standing::Doubtful));
    endpoints
        .iter()
        .map(|endpoint| EndpointView {
            address: endpoint.address.to_string(),
            priority: endpoint.priority,
            health: endpoint.health.to_string(),
            for_ms: millis(endpoint.lasted),
            takes_work: working == Some((endpoint.standing, endpoint.priority)),
            connect_us: endpoint
                .latency
                .map(|latency| u64::try_from(latency.as_micros()).unwrap_or(u64::MAX)),
            warm: endpoint.warm,
            open: endpoint.open,
            served: endpoint.served,
            ejected: endpoint.ejected.map(|ejected| EjectedView {
                why: ejected.offence.to_string(),
                for_ms: millis(ejected.until.saturating_duration_since(clock::now())),
            }),
            failed_here: endpoint.failed_here,
            failure: endpoint.failure.as_ref().map(show_failure),
        })
        .collect()
}

fn show_failure(failure: &Failure) -> FailureView {
    FailureView {
        layer: failure.layer().to_string(),
        cause: failure.to_string(),
        advice: failure.cause.advice().to_owned(),
    }
}

fn show_listener(listener: ListenerStatus) -> ListenerView {
    let totals = listener.totals;
    ListenerView {
        name: listener.name,
        exposure: exposure(&listener.addresses),
        addresses: listener.addresses.iter().map(ToString::to_string).collect(),
        origin: listener.origin,
        carrying: totals.carrying,
        accepted: totals.accepted,
        denied: totals.denied,
        unserved: totals.unserved,
        dropped: totals.dropped,
        ended: totals.ended,
        failed: totals.failed,
        bytes_to_origin: totals.to_origin,
        bytes_to_client: totals.to_client,
        refusals: listener.refusals.into_iter().map(show_refusal).collect(),
        branches: listener.branches.into_iter().map(show_branch).collect(),
    }
}

/// Who can reach a listener, before any rule decides.
fn exposure(addresses: &[ListenAddress]) -> String {
    let mut others: Vec<String> = Vec::new();
    for ip in addresses
        .iter()
        .filter_map(|address| Some(address.ip()?.ip()))
    {
        if ip.to_canonical().is_loopback() {
            continue;
        }
        others.push(match ip.is_unspecified() {
            true => "every network of this machine".to_owned(),
            false => format!("the network of {ip}"),
        });
    }
    if others.is_empty() {
        return "this machine only".to_owned();
    }
    others.sort();
    others.dedup();
    others.join(", ")
}

fn show_refusal((rule, count): (Option<(String, String)>, u64)) -> RefusalView {
    let (place, rule) = rule.unzip();
    RefusalView { place, rule, count }
}

fn show_branch(branch: BranchStatus) -> BranchView {
    BranchView {
        route: branch.route,
        origin: branch.origin,
        weight: branch.weight,
        requests: branch.requests,
        client_errors: branch.client_errors,
        server_errors: branch.server_errors,
        cut_off: branch.cut_off,
        first_byte_ms: branch.first_byte.map(|time| time.as_secs_f64() * 1000.0),
    }
}

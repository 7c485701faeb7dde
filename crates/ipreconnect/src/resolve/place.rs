//! The names of one origin: where its entries lead now.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use ipreconnect_core::address::{Address, EntryId};
use ipreconnect_core::failure::{Cause, Failure};
use ipreconnect_core::names::{Knowledge, Security};
use ipreconnect_core::origin::{Found, FoundPlace};
use ipreconnect_core::policy::{AddressPolicy, Via};
use tokio::sync::Notify;

use super::answer::{Question, Record, RecordKind, Service};
use super::names::{Follower, NameStatus, Names};
use super::table::Known;
use crate::settings::OriginSettings;
use crate::target::{Target, Transport};

/// Servers of a service that are followed.
const SERVERS: usize = 32;

/// Follows the names of one origin.
#[derive(Debug)]
pub(crate) struct Places {
    names: Names,
    bell: Arc<Notify>,
    policy: AddressPolicy,
    places: Vec<Place>,
}

#[derive(Debug)]
struct Place {
    target: Target,
    leads: Leads,
    found: Option<Found>,
    status: Option<NameStatus>,
}

#[derive(Debug)]
enum Leads {
    Fixed,
    Host {
        host: Host,
        port: u16,
        transport: Transport,
    },
    Service {
        service: Follower,
        hosts: BTreeMap<Arc<str>, Host>,
        transport: Transport,
    },
}

/// A host's addresses: two names as far as lookups are concerned, so that neither waits for the other.
#[derive(Debug)]
struct Host {
    v6: Follower,
    v4: Follower,
}

/// What is known of a host, both families together.
struct Addresses {
    ips: Vec<IpAddr>,
    /// Those that must not be dialled, and why.
    denied: Vec<(IpAddr, String)>,
    knowledge: Knowledge,
    security: Security,
    turned_insecure: bool,
    ttl: Duration,
    server: Option<Arc<str>>,
    failure: Option<Failure>,
}

impl Places {
    pub(crate) fn new(names: Names, settings: &OriginSettings) -> Self {
        let mut places = Self {
            names,
            bell: Arc::new(Notify::new()),
            policy: AddressPolicy::default(),
            places: Vec::new(),
        };
        places.reconfigure(settings);
        places
    }

    /// Follows the names of other settings; those that stay are followed on.
    pub(crate) fn reconfigure(&mut self, settings: &OriginSettings) {
        self.policy = settings.addresses.clone();
        let mut before = std::mem::take(&mut self.places);
        for place in &settings.places {
            let known = before.iter().position(|old| old.target == place.target);
            self.places.push(match known {
                Some(at) => {
                    let mut known = before.swap_remove(at);
                    known.found = None;
                    known
                }
                None => Place {
                    leads: self.lead(&place.target),
                    target: place.target.clone(),
                    found: None,
                    status: None,
                },
            });
        }
        self.bell.notify_one();
    }

    fn lead(&self, target: &Target) -> Leads {
        match target {
            Target::Fixed(_) => Leads::Fixed,
            Target::Name {
                host,
                port,
                transport,
            } => Leads::Host {
                host: Host::follow(&self.names, &self.bell, host),
                port: *port,
                transport: *transport,
            },
            Target::Service { name, transport } => Leads::Service {
                service: self
                    .names
                    .follow(Question::new(name, RecordKind::Srv), &self.bell),
                hosts: BTreeMap::new(),
                transport: *transport,
            },
        }
    }

    /// Waits until what is known of some name may have changed.
    ///
    /// Cancel safety: nothing is lost.
    pub(crate) async fn changed(&self) {
        self.bell.notified().await;
    }

    /// What changed since it was asked for last.
    pub(crate) fn news(&mut self) -> Vec<(EntryId, Found)> {
        let mut news = Vec::new();
        for (index, place) in self.places.iter_mut().enumerate() {
            let Some((found, status)) = place.look(&self.names, &self.bell, &self.policy) else {
                continue;
            };
            place.status = Some(status);
            if place.found.as_ref() != Some(&found) {
                place.found = Some(found.clone());
                news.push((EntryId(u32::try_from(index).unwrap_or(u32::MAX)), found));
            }
        }
        news
    }

    /// Asks for a fresh lookup of an entry's name.
    pub(crate) fn doubt(&self, entry: EntryId) {
        match self.places.get(entry.0 as usize).map(|place| &place.leads) {
            Some(Leads::Host { host, .. }) => host.doubt(),
            Some(Leads::Service { service, hosts, .. }) => {
                service.doubt();
                hosts.values().for_each(Host::doubt);
            }
            Some(Leads::Fixed) | None => {}
        }
    }

    /// All names, as people read them.
    pub(crate) fn status(&self) -> Arc<[NameStatus]> {
        let known = self.places.iter().filter_map(|place| place.status.clone());
        known.collect()
    }
}

impl Place {
    fn look(
        &mut self,
        names: &Names,
        bell: &Arc<Notify>,
        policy: &AddressPolicy,
    ) -> Option<(Found, NameStatus)> {
        let (places, forbidden, known) = match &mut self.leads {
            Leads::Fixed => return None,
            Leads::Host {
                host,
                port,
                transport,
            } => {
                let via = Via::name(&host.v4.question().name);
                let known = host.known(policy, via)?;
                let to = |ip: &IpAddr| transport.to(SocketAddr::new(*ip, *port));
                let places = known.ips.iter().map(|ip| FoundPlace::plain(to(ip)));
                let forbidden = known.denied.iter().map(|(ip, _)| to(ip));
                (places.collect(), forbidden.collect(), known)
            }
            Leads::Service {
                service,
                hosts,
                transport,
            } => {
                let known = service.known()?;
                let servers = servers(&known);
                follow_hosts(names, bell, hosts, &servers);
                service_places(known, &servers, hosts, policy, *transport)
            }
        };
        let status = NameStatus {
            name: self.target.to_string(),
            knowledge: known.knowledge,
            security: known.security,
            turned_insecure: known.turned_insecure,
            addresses: places.len(),
            denied: known.denied.into_iter().map(|(_, why)| why).collect(),
            ttl: known.ttl,
            server: known.server,
            failure: known.failure.clone(),
        };
        let found = Found {
            places,
            denied: forbidden,
            ttl: known.ttl,
            knowledge: known.knowledge,
            failure: known.failure,
        };
        Some((found, status))
    }
}

impl Host {
    fn follow(names: &Names, bell: &Arc<Notify>, host: &str) -> Self {
        Self {
            v6: names.follow(Question::new(host, RecordKind::Aaaa), bell),
            v4: names.follow(Question::new(host, RecordKind::A), bell),
        }
    }

    fn doubt(&self) {
        self.v6.doubt();
        self.v4.doubt();
    }

    fn known(&self, policy: &AddressPolicy, via: Via) -> Option<Addresses> {
        Some(join(self.v6.known()?, self.v4.known()?, policy, via))
    }
}

/// Both families together. A family that has no records, or is slow, takes nothing from the other.
fn join(v6: Known, v4: Known, policy: &AddressPolicy, via: Via) -> Addresses {
    let mut denied = Vec::new();
    let mut refused = None;
    let mut allowed = |known: &Known| -> Vec<IpAddr> {
        let ips = known.records.iter().filter_map(|record| match record {
            Record::Address(ip) => Some(*ip),
            Record::Service(_) => None,
        });
        ips.filter(|ip| match policy.judge(*ip, via) {
            Ok(()) => true,
            Err(why) => {
                denied.push((*ip, why.to_string()));
                refused.get_or_insert(why);
                false
            }
        })
        .collect()
    };
    let mut ips = allowed(&v6);
    ips.extend(allowed(&v4));
    let ips = reachable(ips);
    let is_first = |known: &Known| known.knowledge == Knowledge::Unknown && known.failure.is_none();
    let has = |known: &Known| !known.records.is_empty();
    let (knowledge, failure) = match (has(&v6), has(&v4)) {
        // The one that is worth more speaks for the name.
        (true, true) if v6.knowledge <= v4.knowledge => (v6.knowledge, v6.failure),
        (false, true) | (true, true) => (v4.knowledge, v4.failure),
        (true, false) => (v6.knowledge, v6.failure),
        (false, false) if is_first(&v6) || is_first(&v4) => (Knowledge::Unknown, None),
        (false, false) => (
            v6.knowledge.min(v4.knowledge),
            // A resolver that failed says more than a name that has no address of one family.
            match (v4.knowledge, v4.failure) {
                (Knowledge::Gone, failure) if v6.knowledge == Knowledge::Gone => failure,
                (Knowledge::Gone, failure) => v6.failure.or(failure),
                (_, failure) => failure.or(v6.failure),
            },
        ),
    };
    let refused = refused.map(|why| Failure::with_detail(Cause::NotAllowed, why.to_string()));
    let (security, ttl) = match (v6.records.is_empty(), v4.records.is_empty()) {
        (true, _) => (v4.security, v4.ttl),
        (false, true) => (v6.security, v6.ttl),
        (false, false) => (v6.security.min(v4.security), v6.ttl.min(v4.ttl)),
    };
    Addresses {
        ips,
        denied,
        knowledge,
        security,
        turned_insecure: v6.turned_insecure || v4.turned_insecure,
        ttl,
        server: v4.server.or(v6.server),
        failure: failure.or(refused),
    }
}

/// The addresses that this machine has a route to; all of them if it has none to any. The kernel
/// decides, without sending anything (RFC 6724, section 5, rule 1).
pub(super) fn reachable(ips: Vec<IpAddr>) -> Vec<IpAddr> {
    let (routed, unrouted): (Vec<IpAddr>, Vec<IpAddr>) = ips.into_iter().partition(|ip| {
        let any: IpAddr = match ip {
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        UdpSocket::bind((any, 0)).is_ok_and(|socket| socket.connect((*ip, 9)).is_ok())
    });
    if routed.is_empty() { unrouted } else { routed }
}

/// The servers of a service, the preferred ones first.
fn servers(known: &Known) -> Vec<Service> {
    let services = known.records.iter().filter_map(|record| match record {
        Record::Service(service) => Some(service.clone()),
        Record::Address(_) => None,
    });
    let mut servers: Vec<Service> = services.take(SERVERS).collect();
    servers.sort_by_key(|service| service.priority);
    servers
}

fn follow_hosts(
    names: &Names,
    bell: &Arc<Notify>,
    hosts: &mut BTreeMap<Arc<str>, Host>,
    servers: &[Service],
) {
    hosts.retain(|host, _| servers.iter().any(|server| server.host == *host));
    for server in servers {
        hosts
            .entry(Arc::clone(&server.host))
            .or_insert_with(|| Host::follow(names, bell, &server.host));
    }
}

fn service_places(
    service: Known,
    servers: &[Service],
    hosts: &BTreeMap<Arc<str>, Host>,
    policy: &AddressPolicy,
    transport: Transport,
) -> (Vec<FoundPlace>, Vec<Address>, Addresses) {
    let mut places = Vec::new();
    let mut forbidden = Vec::new();
    let mut whole = Addresses {
        ips: Vec::new(),
        denied: Vec::new(),
        knowledge: service.knowledge,
        security: service.security,
        turned_insecure: service.turned_insecure,
        ttl: service.ttl,
        server: service.server,
        failure: service.failure,
    };
    let (mut tier, mut priority) = (0, None);
    for server in servers {
        if priority.is_some_and(|last| last != server.priority) {
            tier += 1;
        }
        priority = Some(server.priority);
        // Whoever gives out the service's records chooses the host, even if it is localhost.
        let host = hosts.get(&server.host);
        let Some(host) = host.and_then(|host| host.known(policy, Via::Name)) else {
            continue;
        };
        whole.security = whole.security.min(host.security);
        whole.ttl = whole.ttl.min(host.ttl);
        whole.turned_insecure |= host.turned_insecure;
        let to = |ip: &IpAddr| transport.to(SocketAddr::new(*ip, server.port));
        forbidden.extend(host.denied.iter().map(|(ip, _)| to(ip)));
        whole.denied.extend(host.denied);
        whole.failure = whole.failure.or(host.failure);
        places.extend(host.ips.iter().map(|ip| FoundPlace {
            address: to(ip),
            tier,
            weight: u32::from(server.weight).max(1),
            by_weight: true,
        }));
    }
    if places.is_empty() && !servers.is_empty() {
        whole.knowledge = Knowledge::Unknown;
    }
    (places, forbidden, whole)
}

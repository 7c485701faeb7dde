//! What is published of an origin: enough to choose an endpoint, and to tell people.

use std::fmt;
use std::time::{Duration, Instant};

use super::endpoint::Endpoint;
use super::names::Name;
use super::{Health, Supervisor};
use crate::address::{Address, EndpointId, EntryId, interleave};
use crate::balance::Standing;
use crate::failure::Failure;
use crate::outlier::Ejected;

/// The state of an origin as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Nothing was tried yet.
    Unknown,
    /// The first attempts are under way.
    Connecting,
    /// At least one endpoint is proven.
    Up,
    /// No endpoint is proven, at least one is in doubt.
    Suspect,
    /// No endpoint can be used.
    Down,
    /// No new work is taken, by order.
    Draining,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unknown => "unknown",
            Self::Connecting => "connecting",
            Self::Up => "up",
            Self::Suspect => "suspect",
            Self::Down => "down",
            Self::Draining => "draining",
        })
    }
}

/// One endpoint as published.
#[derive(Clone, Debug)]
pub struct EndpointView {
    /// Its stable number.
    pub id: EndpointId,
    /// The entry it came from.
    pub entry: EntryId,
    /// Where it is.
    pub address: Address,
    /// Its priority; 0 is preferred.
    pub priority: u32,
    /// Its weight.
    pub weight: u32,
    /// What is known of its health.
    pub health: Health,
    /// Whether it may be dialled, and how gladly.
    pub standing: Standing,
    /// Since when its health is what it is.
    pub since: Instant,
    /// Its last failure, while it is not up.
    pub failure: Option<Failure>,
    /// The smoothed time to connect.
    pub latency: Option<Duration>,
    /// How long a dial may take before it counts as hanging.
    pub hangs_after: Duration,
    /// When it began to take work again, after it was lost or set aside.
    pub returned: Option<Instant>,
    /// That it is set aside for its answers, if it is.
    pub ejected: Option<Ejected>,
    /// Whether clients are drawn by weight among the endpoints of its priority.
    pub by_weight: bool,
}

/// An origin as published.
#[derive(Clone, Debug)]
pub struct View {
    /// Its phase.
    pub phase: Phase,
    /// Since when.
    pub since: Instant,
    /// The last failure, while the phase is not up.
    pub failure: Option<Failure>,
    /// Whether the attempts are used up.
    pub given_up: bool,
    /// Where new work goes by the operator's wish.
    pub preferred: Option<Address>,
    /// Its endpoints: by priority, inside one priority in the order of a race.
    pub endpoints: Vec<EndpointView>,
}

impl View {
    /// The view of an origin of which nothing is known.
    #[must_use]
    pub fn empty(now: Instant) -> Self {
        Self {
            phase: Phase::Unknown,
            since: now,
            failure: None,
            given_up: false,
            preferred: None,
            endpoints: Vec::new(),
        }
    }

    /// Whether a client may dial now instead of waiting.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        self.phase != Phase::Draining
            && self
                .endpoints
                .iter()
                .any(|endpoint| endpoint.standing != Standing::Bad)
    }

    /// The endpoint that takes new work by order of preference.
    #[must_use]
    pub fn leader(&self) -> Option<&EndpointView> {
        let with = |standing| {
            self.endpoints
                .iter()
                .find(|endpoint| endpoint.standing == standing)
        };
        with(Standing::Good).or_else(|| with(Standing::Doubtful))
    }

    /// Whether the difference matters to anybody; times that only drift do not.
    pub(super) fn differs(&self, other: &Self) -> bool {
        self.phase != other.phase
            || self.given_up != other.given_up
            || self.preferred != other.preferred
            || self.failure != other.failure
            || self.endpoints.len() != other.endpoints.len()
            || self
                .endpoints
                .iter()
                .zip(&other.endpoints)
                .any(|(a, b)| a.differs(b))
    }
}

impl EndpointView {
    fn differs(&self, other: &Self) -> bool {
        let doubled = |a: Duration, b: Duration| a > b.saturating_mul(2) || b > a.saturating_mul(2);
        self.id != other.id
            || self.health != other.health
            || self.standing != other.standing
            || self.priority != other.priority
            || self.weight != other.weight
            || self.by_weight != other.by_weight
            || self.failure != other.failure
            || self.ejected != other.ejected
            || self.returned != other.returned
            || self.latency.is_some() != other.latency.is_some()
            || doubled(self.hangs_after, other.hangs_after)
    }
}

impl Supervisor {
    pub(super) fn current_phase(&self) -> Phase {
        if self.draining {
            return Phase::Draining;
        }
        if !self.started {
            return Phase::Unknown;
        }
        let any = |health| self.endpoints.values().any(|e| e.health == health);
        if any(Health::Up) {
            return if self.is_nameless() {
                Phase::Suspect
            } else {
                Phase::Up
            };
        }
        if any(Health::Suspect) {
            return Phase::Suspect;
        }
        let lookups = self.names.iter().any(|name| name.is_first_lookup());
        if any(Health::Unknown) || (lookups && !any(Health::Down)) {
            return Phase::Connecting;
        }
        Phase::Down
    }

    /// Whether all that serves comes of names that are suddenly empty.
    fn is_nameless(&self) -> bool {
        let mut serving = self.endpoints.values().filter(|e| e.health == Health::Up);
        serving.all(|endpoint| {
            let name = self.names.get(endpoint.entry.0 as usize);
            name.is_some_and(Name::is_doubtful)
        })
    }

    pub(super) fn current_view(&self, now: Instant) -> View {
        let mut endpoints: Vec<EndpointView> = Vec::with_capacity(self.endpoints.len());
        for priority in self.priorities() {
            for id in self.race_order(priority) {
                if let Some(endpoint) = self.endpoints.get(&id) {
                    endpoints.push(endpoint.view(priority, self.standing(now, endpoint)));
                }
            }
        }
        View {
            phase: self.phase,
            since: self.since,
            failure: self.failure.clone().filter(|_| self.phase != Phase::Up),
            given_up: self.round.is_given_up(),
            preferred: self.preferred.clone(),
            endpoints,
        }
    }

    fn priorities(&self) -> Vec<u32> {
        let mut priorities: Vec<u32> = self
            .endpoints
            .values()
            .map(|endpoint| self.priority_at(endpoint))
            .collect();
        priorities.sort_unstable();
        priorities.dedup();
        priorities
    }

    /// Endpoints of one priority as a race dials them: the winner of the last one first, the families
    /// in turns (RFC 8305, sections 4 and 5).
    fn race_order(&self, priority: u32) -> Vec<EndpointId> {
        let mut members: Vec<_> = self
            .endpoints
            .values()
            .filter(|endpoint| self.priority_at(endpoint) == priority)
            .collect();
        members.sort_by_key(|endpoint| (endpoint.entry, endpoint.rank, endpoint.id));
        if let Some(winner) = members
            .iter()
            .filter(|endpoint| endpoint.health == Health::Up)
            .max_by_key(|endpoint| (endpoint.won, std::cmp::Reverse(endpoint.rank)))
            .filter(|endpoint| endpoint.won.is_some())
            .map(|endpoint| endpoint.id)
        {
            members.sort_by_key(|endpoint| endpoint.id != winner);
        }
        let addresses: Vec<_> = members.iter().map(|e| e.address.clone()).collect();
        interleave(&addresses)
            .iter()
            .filter_map(|address| self.endpoint_at(address))
            .collect()
    }

    /// The priority of one endpoint: the operator's wish goes before the settings.
    pub(super) fn priority_at(&self, endpoint: &Endpoint) -> u32 {
        match &self.preferred {
            Some(preferred) if *preferred == endpoint.address => 0,
            Some(_) => self
                .priority_of((endpoint.entry, endpoint.tier))
                .saturating_add(1),
            None => self.priority_of((endpoint.entry, endpoint.tier)),
        }
    }

    /// The priority of an entry's places of one tier. The tiers of an entry come one after the other,
    /// and what is less preferred than the entry comes after them all.
    fn priority_of(&self, (entry, tier): (EntryId, u32)) -> u32 {
        let own = self.entry(entry).map_or(u32::MAX, |entry| entry.priority);
        let before = self.tiers.partition_point(|other| *other <= (own, tier));
        own.saturating_add(u32::try_from(before).unwrap_or(u32::MAX))
    }

    /// Notes which tiers beyond the first there are.
    pub(super) fn refresh_tiers(&mut self) {
        let others = self.endpoints.values().filter(|other| other.tier > 0);
        let mut tiers: Vec<(u32, u32)> = others
            .map(|other| {
                (
                    self.entry(other.entry).map_or(u32::MAX, |e| e.priority),
                    other.tier,
                )
            })
            .collect();
        tiers.sort_unstable();
        tiers.dedup();
        self.tiers = tiers;
    }

    pub(super) fn weight_of(&self, entry: EntryId) -> u32 {
        self.entry(entry).map_or(1, |entry| entry.weight.max(1))
    }
}

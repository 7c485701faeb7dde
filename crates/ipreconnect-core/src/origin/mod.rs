//! The supervisor of one origin: facts in, orders out.
//!
//! It decides which endpoints may be dialled, when to look at them, when to try again and when
//! clients that wait may leave. It never fails, never waits and never looks at a clock: a failure is
//! a fact, and [`Supervisor::wakeup`] says when time itself is the next one.

mod action;
mod endpoint;
mod event;
mod facts;
mod names;
mod outliers;
mod round;
mod settings;
mod tick;
mod view;
mod watch;

use std::collections::BTreeMap;
use std::time::Instant;

pub use action::{Action, Notice, Order, ProbeKind};
pub use endpoint::Health;
pub use event::{Event, Found, FoundPlace};
pub use settings::{Check, Entry, EntryAddress, OnDown, OnReturn, Settings};
pub use view::{EndpointView, Phase, View};

use crate::address::{Address, EndpointId, EntryId};
use crate::dice::Dice;
use crate::failure::Failure;
use crate::hold::Release;
use crate::watchdog::Watchdog;
use endpoint::Endpoint;
use names::Name;
use round::{Demand, Round};

/// When time itself is the next fact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wakeup {
    /// The instant at which to hand in [`Event::Elapsed`].
    pub at: Instant,
    /// What is due then.
    pub why: &'static str,
}

/// What an outstanding order was for.
#[derive(Clone, Copy, Debug)]
struct Pending {
    endpoint: EndpointId,
    kind: ProbeKind,
    purpose: Purpose,
    expires: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    /// To learn the endpoint's health.
    Health,
    /// To learn how the endpoint answers the counter-check.
    Learn,
    /// The counter-check itself.
    Convict,
    /// A check that was not answered, left open: its answer is the thaw.
    Canary,
    /// Asked by the watchdog.
    Watchdog,
}

/// Keeps one origin connected.
#[derive(Debug)]
pub struct Supervisor {
    settings: Settings,
    dice: Dice,
    entries: Vec<Entry>,
    names: Vec<Name>,
    /// Priorities that come of a name's places alone: an entry's priority, and the tier.
    tiers: Vec<(u32, u32)>,
    endpoints: BTreeMap<EndpointId, Endpoint>,
    pending: BTreeMap<Order, Pending>,
    round: Round,
    release: Release,
    watchdog: Watchdog,
    /// When answers were judged last, and whether any have come since.
    judged: Option<Instant>,
    has_answers: bool,
    /// How often the watchdog looked at an endpoint.
    watched: usize,
    waiting: u32,
    last_demand: Demand,
    next_endpoint: u32,
    next_order: u64,
    started: bool,
    draining: bool,
    /// Where the operator wants new work to go.
    preferred: Option<Address>,
    phase: Phase,
    since: Instant,
    failure: Option<Failure>,
    published: View,
}

impl Supervisor {
    /// A supervisor for an origin with these entries. `seed` determines all its jitter. It does
    /// nothing before [`Event::Started`].
    #[must_use]
    pub fn new(settings: Settings, entries: Vec<Entry>, seed: u64, now: Instant) -> Self {
        let names = entries.iter().map(|_| Name::default()).collect();
        Self {
            round: Round::new(settings.reconnect.clone()),
            settings,
            dice: Dice::new(seed),
            entries,
            names,
            tiers: Vec::new(),
            endpoints: BTreeMap::new(),
            pending: BTreeMap::new(),
            release: Release::new(),
            watchdog: Watchdog::default(),
            judged: None,
            has_answers: false,
            watched: 0,
            waiting: 0,
            last_demand: Demand::Idle,
            next_endpoint: 0,
            next_order: 0,
            started: false,
            draining: false,
            preferred: None,
            phase: Phase::Unknown,
            since: now,
            failure: None,
            published: View::empty(now),
        }
    }

    /// Takes one fact and appends what to do about it.
    pub fn handle(&mut self, now: Instant, event: Event, out: &mut Vec<Action>) {
        self.apply(now, event, out);
        if self.started {
            self.tick(now, out);
        }
        self.settle(now, out);
    }

    /// Changes settings and entries; endpoints that stay keep all that is known of them.
    pub fn reconfigure(
        &mut self,
        now: Instant,
        settings: Settings,
        entries: Vec<Entry>,
        out: &mut Vec<Action>,
    ) {
        self.round = Round::new(settings.reconnect.clone());
        self.settings = settings;
        self.replace_entries(now, entries, out);
        let thresholds = self.settings.thresholds;
        for endpoint in self.endpoints.values_mut() {
            endpoint.detector.set_thresholds(thresholds);
            if !matches!(self.settings.check, Check::Question(_)) {
                endpoint.excuse();
            }
            endpoint.check_by(now);
        }
        if self.settings.passive.is_none() {
            self.readmit_all();
        }
        if self.started {
            self.tick(now, out);
        }
        self.settle(now, out);
    }

    /// Says when to hand in [`Event::Elapsed`] if nothing happens before, and why.
    #[must_use]
    pub fn wakeup(&self) -> Option<Wakeup> {
        self.due()
    }

    /// What may be published of the origin's state.
    #[must_use]
    pub fn view(&self) -> &View {
        &self.published
    }

    /// The phase, compared with the last one, told and published if it changed.
    fn settle(&mut self, now: Instant, out: &mut Vec<Action>) {
        let phase = self.current_phase();
        if phase == Phase::Suspect && self.failure.is_none() {
            let suspects = self
                .endpoints
                .values()
                .filter(|e| e.health == Health::Suspect);
            self.failure = suspects.filter_map(|e| e.failure.clone()).next();
        }
        if phase == Phase::Down && self.failure.is_none() {
            self.failure = self.names.iter().find_map(Name::failure).cloned();
        }
        if phase != self.phase {
            let notice = Notice::Phase {
                from: self.phase,
                to: phase,
                lasted: now.saturating_duration_since(self.since),
                failure: self.failure.clone(),
            };
            self.phase = phase;
            self.since = now;
            out.push(Action::Tell(notice));
        }
        if phase == Phase::Up {
            self.failure = None;
        }
        let view = self.current_view(now);
        if view.differs(&self.published) {
            self.tell_change_of_endpoint(&view, out);
            self.published = view;
            out.push(Action::Publish);
        }
    }

    fn tell_change_of_endpoint(&self, view: &View, out: &mut Vec<Action>) {
        let (before, after) = (self.published.leader(), view.leader());
        let (Some(before), Some(after)) = (before, after) else {
            return;
        };
        // By the operator's order no server has failed over to another one.
        let is_ordered = self.published.preferred != view.preferred;
        if before.priority == after.priority || before.id == after.id || is_ordered {
            return;
        }
        let (from, to) = (before.address.clone(), after.address.clone());
        out.push(Action::Tell(if after.priority > before.priority {
            let known = view.endpoints.iter().find(|e| e.id == before.id);
            let failure = known.and_then(|e| e.failure.clone());
            Notice::FailedOver { from, to, failure }
        } else {
            Notice::Returned { from, to }
        }));
    }

    /// New work goes elsewhere; what is carried stays where it is.
    fn prefer(&mut self, address: Option<Address>, out: &mut Vec<Action>) {
        if self.preferred != address {
            out.push(Action::Tell(Notice::Preferred {
                address: address.clone(),
            }));
            self.preferred = address;
        }
    }

    fn endpoint_at(&self, address: &Address) -> Option<EndpointId> {
        self.endpoints
            .values()
            .find(|endpoint| endpoint.address == *address)
            .map(|endpoint| endpoint.id)
    }

    fn entry(&self, id: EntryId) -> Option<&Entry> {
        self.entries.get(id.0 as usize)
    }

    fn order(&mut self) -> Order {
        self.next_order += 1;
        Order(self.next_order)
    }
}

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

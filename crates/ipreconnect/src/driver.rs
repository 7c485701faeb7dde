//! The one loop of an origin: facts to the machine, its orders to the world.

mod orders;
mod tell;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipreconnect_core::address::{Address, EndpointId};
use ipreconnect_core::origin::{
    Action, Check, EndpointView, Event, Health, Notice, Order, Phase, ProbeKind, Supervisor,
};
use tokio::sync::{broadcast, mpsc};

use crate::clock;
use crate::meter::Meter;
use crate::resolve::{NameStatus, Places};
use crate::settings::OriginSettings;
use crate::shared::{Fact, Shared};
use crate::snapshot::Snapshot;
use crate::surroundings::{Resident, Signal, reach};
use crate::waiters::Word;
use crate::witness::News;
use orders::Orders;

/// Facts taken in one turn before anything is published.
const BATCH: usize = 256;
/// A turn that comes so much too late means that this process was stopped.
const STOPPED: Duration = Duration::from_secs(1);
/// The shortest sleep, so that no mistake in a machine can make a busy loop.
const SHORTEST_SLEEP: Duration = Duration::from_micros(500);

pub(crate) struct Driver {
    supervisor: Supervisor,
    settings: OriginSettings,
    shared: Arc<Shared>,
    facts: mpsc::Receiver<Fact>,
    signals: broadcast::Receiver<Signal>,
    resident: Resident,
    orders: Orders,
    places: Places,
    names: Arc<[NameStatus]>,
    meters: BTreeMap<EndpointId, Arc<Meter>>,
    proofs: BTreeMap<EndpointId, Instant>,
    /// Hang-up checks under way: their answer is a sign of life.
    hang_ups: BTreeMap<Order, EndpointId>,
    actions: Vec<Action>,
    waiting: u32,
}

impl Driver {
    pub(crate) fn new(
        shared: Arc<Shared>,
        settings: OriginSettings,
        facts: mpsc::Receiver<Fact>,
        resident: Resident,
        seed: u64,
    ) -> Self {
        let now = clock::now();
        Self {
            supervisor: Supervisor::new(settings.supervisor.clone(), settings.entries(), seed, now),
            orders: Orders::new(&settings),
            places: Places::new(resident.names(), &settings),
            names: Arc::default(),
            signals: resident.subscribe(),
            settings,
            shared,
            facts,
            resident,
            meters: BTreeMap::new(),
            proofs: BTreeMap::new(),
            hang_ups: BTreeMap::new(),
            actions: Vec::new(),
            waiting: 0,
        }
    }

    /// Runs until its task is ended.
    pub(crate) async fn run(mut self) {
        self.hear(Event::Started);
        self.hear_names();
        loop {
            let wakeup = self.supervisor.wakeup();
            let due = wakeup.map_or_else(
                || clock::now() + Duration::from_secs(3600),
                |wakeup| wakeup.at.max(clock::now() + SHORTEST_SLEEP),
            );
            tokio::select! {
                biased;
                fact = self.facts.recv() => match fact {
                    Some(fact) => self.take(fact),
                    None => return,
                },
                Some(event) = self.orders.next() => {
                    self.note_life(&event);
                    self.hear(event);
                }
                () = self.shared.waiters.doorbell.notified() => {}
                () = self.places.changed() => self.hear_names(),
                signal = self.signals.recv() => self.hear_signal(signal.ok()),
                () = tokio::time::sleep_until(due.into()) => self.wake(due),
            }
            self.take_more();
            self.look_around();
        }
    }

    /// Carriers of links need not suspect what was heard of just now.
    fn note_life(&mut self, event: &Event) {
        let (order, answered) = match event {
            Event::ProbeAnswered { order, .. } => (order, true),
            Event::ProbeFailed { order, .. } => (order, false),
            _ => return,
        };
        if let Some(endpoint) = self.hang_ups.remove(order)
            && answered
            && let Some(meter) = self.meters.get(&endpoint)
        {
            meter.answer(clock::now());
        }
    }

    fn take(&mut self, fact: Fact) {
        match fact {
            Fact::Event(event) => self.hear(event),
            Fact::Reconfigure(settings) => self.reconfigure(*settings),
        }
    }

    /// Takes what else has come meanwhile, bounded.
    fn take_more(&mut self) {
        for _ in 0..BATCH {
            let Ok(fact) = self.facts.try_recv() else {
                return;
            };
            self.take(fact);
        }
    }

    fn wake(&mut self, due: Instant) {
        if clock::now().saturating_duration_since(due) >= STOPPED {
            self.hear(Event::Resumed);
        }
        self.hear(Event::Elapsed);
    }

    /// What is known of the origin's names now.
    fn hear_names(&mut self) {
        for (entry, found) in self.places.news() {
            self.hear(Event::Named { entry, found });
        }
        let names = self.places.status();
        if names != self.names {
            self.names = names;
            self.publish();
        }
    }

    fn hear_signal(&mut self, signal: Option<Signal>) {
        match signal {
            // Too many signals at once to be kept: the machine certainly changed.
            Some(Signal::NetworkChanged) | None => self.hear(Event::NetworkChanged),
            Some(Signal::Resumed) => self.hear(Event::Resumed),
        }
        // Routes to known addresses may be others.
        self.hear_names();
    }

    /// Facts that are read rather than told: who waits, and what traffic proved.
    fn look_around(&mut self) {
        let waiting = self.shared.waiters.len();
        if waiting != self.waiting || waiting > 0 {
            self.waiting = waiting;
            self.hear(Event::Held { waiting });
        }
        let proven: Vec<_> = self
            .meters
            .iter()
            .filter_map(|(id, meter)| Some((*id, meter.proven()?)))
            .collect();
        for (endpoint, at) in proven {
            if self.proofs.insert(endpoint, at) != Some(at) {
                self.hear(Event::Traffic { endpoint, at });
            }
        }
    }

    fn reconfigure(&mut self, settings: OriginSettings) {
        let mut actions = std::mem::take(&mut self.actions);
        self.orders.reconfigure(&settings);
        self.supervisor.reconfigure(
            clock::now(),
            settings.supervisor.clone(),
            settings.entries(),
            &mut actions,
        );
        self.places.reconfigure(&settings);
        self.settings = settings;
        self.carry_out(actions);
        self.hear_names();
    }

    fn hear(&mut self, event: Event) {
        let mut actions = std::mem::take(&mut self.actions);
        tracing::trace!(origin = %self.shared.name, ?event, "fact");
        self.supervisor.handle(clock::now(), event, &mut actions);
        self.carry_out(actions);
    }

    fn carry_out(&mut self, mut actions: Vec<Action>) {
        for action in actions.drain(..) {
            tracing::trace!(origin = %self.shared.name, ?action, "order");
            match action {
                Action::LookUp { entry } => self.places.doubt(entry),
                Action::Probe {
                    order,
                    endpoint,
                    entry,
                    address,
                    kind,
                    patience,
                } => {
                    if kind == ProbeKind::HangUp {
                        self.hang_ups.insert(order, endpoint);
                    }
                    let target = (endpoint, entry, address);
                    self.orders
                        .probe(&self.shared, order, target, kind, patience);
                }
                Action::Cancel { order } => {
                    self.hang_ups.remove(&order);
                    self.orders.cancel(order);
                }
                Action::Publish => self.publish(),
                Action::Release { count } => self.shared.waiters.tell(count, Word::Go),
                Action::Dismiss => self.shared.waiters.tell(u32::MAX, Word::GivenUp),
                Action::CloseLinks { endpoint } => {
                    if let Some(meter) = self.meters.get(&endpoint) {
                        meter.close_links(clock::now());
                    }
                }
                Action::Tell(notice) => self.tell(&notice),
            }
        }
        self.actions = actions;
    }

    fn tell(&self, notice: &Notice) {
        self.testify(notice);
        tell::tell(&self.shared.name, &self.settings, &self.resident, notice);
        let Some(witness) = self.resident.witness() else {
            return;
        };
        let name = match notice {
            Notice::NameFailed { entry, .. } | Notice::NameMoved { entry, .. } => {
                Some(tell::name_of(&self.settings, *entry))
            }
            _ => None,
        };
        let last_life = match notice {
            Notice::EndpointDown { address, .. } => {
                let mut endpoints = self.supervisor.view().endpoints.iter();
                let endpoint = endpoints.find(|endpoint| endpoint.address == *address);
                endpoint.and_then(|endpoint| self.meters.get(&endpoint.id)?.proven())
            }
            _ => None,
        };
        witness.hear(&News {
            origin: &self.shared.name,
            notice,
            name: name.as_deref(),
            blame: match notice {
                Notice::EndpointDown {
                    address, failure, ..
                } => self.resident.blame_for(address, failure),
                _ => self.resident.blame(),
            },
            last_life,
            stats: &self.shared.stats,
        });
    }

    /// Says what this origin's fortune tells about the network: that some of its servers are up, if they are looked at
    /// again and again, or that none is.
    fn testify(&self, notice: &Notice) {
        let view = self.supervisor.view();
        let endpoints = view.endpoints.iter();
        let phase = match notice {
            Notice::Phase { to, failure, .. } => (*to, failure.as_ref()),
            Notice::EndpointUp { .. } | Notice::EndpointDown { .. } => (view.phase, None),
            _ => return,
        };
        match phase {
            (Phase::Down, Some(failure)) => {
                let reach = reach(endpoints.map(|endpoint| &endpoint.address));
                self.resident.failed(reach, failure);
            }
            (Phase::Up, _) if self.is_looked_at() => {
                let up = endpoints.filter(|endpoint| endpoint.health == Health::Up);
                self.resident
                    .worked(reach(up.map(|endpoint| &endpoint.address)));
            }
            (Phase::Up | Phase::Draining, _) => self.resident.is_silent(),
            _ => {}
        }
    }

    /// Whether its servers are asked again and again: what is up otherwise may be gone long since.
    fn is_looked_at(&self) -> bool {
        let is_udp = |endpoint: &EndpointView| matches!(endpoint.address, Address::Udp(_));
        self.settings.supervisor.check != Check::Off
            && !self.supervisor.view().endpoints.iter().any(is_udp)
    }

    fn publish(&mut self) {
        let view = self.supervisor.view().clone();
        self.meters
            .retain(|id, meter| meter.open() > 0 || view.endpoints.iter().any(|e| e.id == *id));
        for endpoint in &view.endpoints {
            self.meters.entry(endpoint.id).or_default();
        }
        self.proofs.retain(|id, _| self.meters.contains_key(id));
        self.shared
            .publish(Snapshot::new(view, &self.meters, Arc::clone(&self.names)));
    }
}

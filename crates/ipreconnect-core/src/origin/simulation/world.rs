//! A world in virtual time: endpoints with faults, a name, clients, and a supervisor between them.

mod requests;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::address::{Address, EndpointId, EntryId};
use crate::backoff::{BackoffSettings, Jitter};
use crate::balance::Standing;
use crate::detector::Thresholds;
use crate::dice::Dice;
use crate::failure::{Cause, Failure};
use crate::freeze::Answers;
use crate::names::Knowledge;
use crate::origin::{
    Action, Check, Entry, EntryAddress, Event, Found, FoundPlace, OnDown, OnReturn, Order, Phase,
    ProbeKind, Settings, Supervisor,
};
use crate::outlier::Passive;
use crate::question::{Question, Words};

const MS: Duration = Duration::from_millis(1);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    None,
    Refusing,
    Silent,
    Frozen,
    /// Another server answers there, which proves nothing.
    Impostor,
    /// It serves, and answers the health check badly.
    Unwell,
    /// It answers every request with 500, and the check well.
    Failing,
    /// It answers late.
    Slow,
}

impl Fault {
    /// Whether a process answers there.
    fn serves(self) -> bool {
        matches!(self, Self::None | Self::Unwell | Self::Failing | Self::Slow)
    }
}

#[derive(Debug)]
enum Coming {
    Fact(Event),
    /// The name of an entry is looked up.
    Answered(EntryId),
    /// A probe's answer, unless it was cancelled.
    Answer(Order, Event),
    /// A client whose dial ends.
    DialEnds {
        endpoint: EndpointId,
        failure: Option<Failure>,
    },
}

pub(super) struct World {
    seed: u64,
    dice: Dice,
    now: Instant,
    supervisor: Supervisor,
    faults: Vec<Fault>,
    /// Whether the process leaves half-closed connections open.
    mute: Vec<bool>,
    entries: Vec<Entry>,
    /// Whether orders are lost altogether now and then, and processes replaced by others.
    is_rough: bool,
    name_works: bool,
    /// The endpoint to which the name leads, if there is one.
    name_leads_to: Option<usize>,
    /// The endpoint of the last answer.
    name_led_to: Option<usize>,
    queue: BTreeMap<(Instant, u64), Coming>,
    sequence: u64,
    waiting: u32,
    canaries: Vec<(Order, usize)>,
    underway: BTreeMap<Order, usize>,
    probe_log: VecDeque<(Instant, usize)>,
    probes: usize,
    transcript: VecDeque<String>,
    spins: u32,
}

fn address(index: usize) -> Address {
    Address::Tcp(format!("192.0.2.{}:1", index + 1).parse().unwrap())
}

/// Every other history is one of an origin with TLS, and every eighth one of an origin that is asked.
fn check_of(seed: u64) -> Check {
    match seed % 8 {
        6 => question(),
        even if even.is_multiple_of(2) => Check::HalfOpen,
        _ => Check::Proof,
    }
}

pub(super) fn question() -> Check {
    Check::Question(Question::Words(Arc::new(Words {
        send: (*b"PING").into(),
        expect: (*b"PONG").into(),
    })))
}

fn settings(attempts: u32, check: Check) -> Settings {
    Settings {
        check,
        interval: 5000 * MS,
        timeout: 500 * MS,
        thresholds: Thresholds {
            down_after: 2,
            up_after: 2,
        },
        passive: Some(Passive::default()),
        connect_timeout: 2000 * MS,
        reconnect: BackoffSettings::new(50 * MS, 2.0, 15_000 * MS, Jitter::Full, attempts).unwrap(),
        on_down: OnDown::Keep,
        on_return: OnReturn::Close,
    }
}

impl World {
    /// Random numbers of endpoints, some of them behind a name.
    pub(super) fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed ^ 0x5eed);
        let count = 1 + usize::try_from(dice.below(3)).unwrap();
        let named = dice.below(2) == 0;
        let mut world = Self::build(seed, dice, count, named, 0);
        world.is_rough = true;
        world
    }

    /// Fixed endpoints, all well.
    pub(super) fn calm(seed: u64, count: usize) -> Self {
        Self::build(seed, Dice::new(seed), count, false, 0)
    }

    /// The same, of an origin that is asked how it is.
    pub(super) fn asked(seed: u64, count: usize) -> Self {
        Self::calm(seed * 8 + 6, count)
    }

    /// Endpoints that share the work.
    pub(super) fn equals(seed: u64, count: usize) -> Self {
        let mut world = Self::calm(seed, count);
        for entry in &mut world.entries {
            entry.priority = 0;
        }
        world.configure();
        world.run_for(1000 * MS);
        world
    }

    pub(super) fn with_attempts(seed: u64, attempts: u32) -> Self {
        Self::build(seed, Dice::new(seed), 1, false, attempts)
    }

    fn build(seed: u64, dice: Dice, count: usize, named: bool, attempts: u32) -> Self {
        let now = crate::beginning();
        let entries: Vec<Entry> = (0..count)
            .map(|index| Entry {
                address: if named && index == 0 {
                    EntryAddress::Name("origin.test:1".into())
                } else {
                    EntryAddress::Fixed(address(index))
                },
                priority: u32::try_from(index).unwrap(),
                weight: 1,
            })
            .collect();
        // The last place is where the name may move to.
        let places = count + usize::from(named);
        let mut world = Self {
            seed,
            dice,
            now,
            supervisor: Supervisor::new(
                settings(attempts, check_of(seed)),
                entries.clone(),
                seed,
                now,
            ),
            faults: vec![Fault::None; places],
            mute: vec![false; places],
            entries,
            is_rough: false,
            name_works: true,
            name_leads_to: named.then_some(0),
            name_led_to: None,
            queue: BTreeMap::new(),
            sequence: 0,
            waiting: 0,
            canaries: Vec::new(),
            underway: BTreeMap::new(),
            probe_log: VecDeque::new(),
            probes: 0,
            transcript: VecDeque::new(),
            spins: 0,
        };
        world.hear(Event::Started);
        world.refresh_names();
        world
    }

    pub(super) fn random_step(&mut self) {
        match self.dice.below(13) {
            0..4 => {
                let index = usize::try_from(self.dice.below(self.faults.len() as u64)).unwrap();
                let fault = [
                    Fault::None,
                    Fault::Refusing,
                    Fault::Silent,
                    Fault::Frozen,
                    Fault::Impostor,
                    Fault::Unwell,
                ][usize::try_from(self.dice.below(6)).unwrap()];
                self.set(index, fault);
            }
            4 => self.name_works = !self.name_works,
            5 => {
                let event = [Event::NetworkChanged, Event::Resumed, Event::ReconnectAsked]
                    [usize::try_from(self.dice.below(3)).unwrap()]
                .clone();
                self.hear(event);
            }
            6 => {
                // A suspicion out of nowhere, and one about an endpoint that does not exist.
                let endpoint = EndpointId(u32::try_from(self.dice.below(4)).unwrap());
                self.hear(Event::PathSilent { endpoint });
                self.hear(Event::LinkLost {
                    endpoint,
                    failure: Failure::new(Cause::Reset),
                });
            }
            7 => {
                if let Some(place) = &mut self.name_leads_to {
                    *place = if *place == 0 {
                        self.faults.len() - 1
                    } else {
                        0
                    };
                }
            }
            8 => self.reconfigure(),
            // Long enough to learn what is usual, or to see that nothing is.
            9 => self.traffic(2000 * MS),
            _ => {
                let clients = u32::try_from(self.dice.below(50)).unwrap();
                self.arrive(clients);
            }
        }
        let pause = self.dice.between(Duration::ZERO, 3000 * MS);
        self.run_for(pause);
        if self.dice.below(2) == 0 {
            self.refresh_names();
        }
    }

    pub(super) fn set(&mut self, index: usize, fault: Fault) {
        self.note(format!("endpoint {index}: {fault:?}"));
        let before = std::mem::replace(&mut self.faults[index], fault);
        let was_away = matches!(before, Fault::Refusing | Fault::Silent);
        let replaced = self.is_rough && was_away && self.dice.below(2) == 0;
        if replaced {
            self.mute[index] = self.dice.below(2) == 0;
        }
        // The kernel of a replaced process resets what it does not know, as keepalive finds out.
        let resets = matches!(fault, Fault::Refusing | Fault::Impostor) || replaced;
        let speaks = fault.serves() && !self.mute[index];
        if fault == Fault::Silent || !(resets || speaks) {
            return;
        }
        let (woken, kept): (Vec<_>, Vec<_>) =
            self.canaries.drain(..).partition(|(_, at)| *at == index);
        self.canaries = kept;
        for (order, _) in woken {
            let event = if resets {
                Event::ProbeFailed {
                    order,
                    failure: Failure::new(Cause::Reset),
                }
            } else {
                Event::ProbeAnswered {
                    order,
                    took: 5 * MS,
                }
            };
            self.later(MS, Coming::Answer(order, event));
        }
    }

    pub(super) fn heal_one(&mut self) {
        let entry = usize::try_from(self.dice.below(self.entries.len() as u64)).unwrap();
        self.name_works = true;
        self.is_rough = false;
        let index = match &self.entries[entry].address {
            EntryAddress::Name(_) => self.name_leads_to.unwrap(),
            EntryAddress::Fixed(address) => self.index_of(address),
        };
        self.set(index, Fault::None);
        self.refresh_names();
    }

    /// The same entries in another order of preference.
    fn reconfigure(&mut self) {
        self.entries.reverse();
        for (entry, priority) in self.entries.iter_mut().zip(0..) {
            entry.priority = priority;
        }
        self.configure();
    }

    fn configure(&mut self) {
        self.note("reconfigured".into());
        let (entries, mut actions) = (self.entries.clone(), Vec::new());
        self.supervisor.reconfigure(
            self.now,
            settings(0, check_of(self.seed)),
            entries,
            &mut actions,
        );
        self.carry_out_all(actions);
    }

    /// Clients arrive and dial, or wait.
    pub(super) fn arrive(&mut self, count: u32) {
        for _ in 0..count {
            self.dial_or_wait();
        }
        self.tell_held();
    }

    fn dial_or_wait(&mut self) {
        let view = self.supervisor.view();
        let usable = |standing| view.endpoints.iter().find(|e| e.standing == standing);
        let Some(endpoint) = usable(Standing::Good).or_else(|| usable(Standing::Doubtful)) else {
            self.waiting += 1;
            return;
        };
        let (id, index) = (endpoint.id, self.index_of(&endpoint.address));
        match self.faults[index] {
            Fault::None | Fault::Frozen | Fault::Unwell | Fault::Failing | Fault::Slow => {
                self.later(
                    MS,
                    Coming::DialEnds {
                        endpoint: id,
                        failure: None,
                    },
                );
            }
            Fault::Refusing | Fault::Impostor => {
                let cause = match self.faults[index] {
                    Fault::Impostor => Cause::UnknownIssuer,
                    _ => Cause::Refused,
                };
                let failure = Some(Failure::new(cause));
                self.later(
                    MS,
                    Coming::DialEnds {
                        endpoint: id,
                        failure,
                    },
                );
            }
            Fault::Silent => {
                self.later(100 * MS, Coming::Fact(Event::DialHung { endpoint: id }));
                let failure = Some(Failure::new(Cause::TimedOut));
                self.later(
                    2000 * MS,
                    Coming::DialEnds {
                        endpoint: id,
                        failure,
                    },
                );
            }
        }
    }

    /// Steady requests: answered by living endpoints, unanswered by frozen ones.
    pub(super) fn traffic(&mut self, duration: Duration) {
        let end = self.now + duration;
        let mut unanswered: Vec<Instant> = Vec::new();
        while self.now < end {
            self.run_for(20 * MS);
            let Some(leader) = self.leader() else {
                continue;
            };
            let Some(endpoint) = self.id_of(leader) else {
                continue;
            };
            if self.faults[leader] == Fault::Impostor {
                let failure = Failure::new(Cause::UnknownIssuer);
                self.hear(Event::DialFailed { endpoint, failure });
                continue;
            }
            let mut answers = Answers::default();
            if self.faults[leader].serves() {
                unanswered.clear();
                answers = Answers {
                    answered: 5,
                    slowest: 2 * MS,
                    last_answer: Some(self.now),
                    ..answers
                };
            } else {
                unanswered.push(self.now);
                for (place, asked) in answers.waiting.iter_mut().zip(&unanswered) {
                    *place = Some(*asked);
                }
            }
            self.hear(Event::Dialled { endpoint, took: MS });
            self.hear(Event::Answers {
                endpoint,
                worker: 0,
                answers,
            });
        }
    }

    pub(super) fn ask(&mut self) {
        self.hear(Event::ReconnectAsked);
    }

    pub(super) fn run_for(&mut self, duration: Duration) {
        let end = self.now + duration;
        loop {
            let coming = self.queue.first_key_value().map(|((at, _), _)| *at);
            let wakeup = self
                .supervisor
                .wakeup()
                .map(|wakeup| wakeup.at.max(self.now));
            let next = [coming, wakeup].into_iter().flatten().min();
            match next {
                Some(next) if next <= end => {
                    self.spins = if next == self.now { self.spins + 1 } else { 0 };
                    self.check(self.spins < 20_000, "time stands still");
                    self.now = next;
                    self.advance();
                }
                _ => break,
            }
        }
        self.now = end;
    }

    fn advance(&mut self) {
        match self.queue.first_entry() {
            Some(entry) if entry.key().0 <= self.now => {
                let coming = entry.remove();
                self.arrived(coming);
            }
            _ => self.hear(Event::Elapsed),
        }
    }

    fn arrived(&mut self, coming: Coming) {
        match coming {
            Coming::Fact(event) => self.hear(event),
            Coming::Answered(entry) => self.answer_name(entry),
            Coming::Answer(order, event) => {
                // Late answers to cancelled orders arrive now and then; they must do no harm.
                self.underway.remove(&order);
                self.hear(event);
            }
            Coming::DialEnds {
                endpoint,
                failure: None,
            } => {
                self.hear(Event::Dialled { endpoint, took: MS });
            }
            Coming::DialEnds {
                endpoint,
                failure: Some(failure),
            } => {
                self.hear(Event::DialFailed { endpoint, failure });
                self.hear(Event::ReleaseFailed);
                self.dial_or_wait();
                self.tell_held();
            }
        }
    }

    /// What the name's memory knows after a lookup: without a resolver, what it knew before.
    fn answer_name(&mut self, entry: EntryId) {
        let kind = self.dice.below(20);
        let knowledge = match (self.name_works, self.is_rough && kind == 0) {
            (false, _) if self.name_led_to.is_none() => Knowledge::Unknown,
            (false, _) => Knowledge::Stale,
            (true, true) if self.name_led_to.is_some() => Knowledge::Doubtful,
            (true, true) => Knowledge::Gone,
            (true, false) => Knowledge::Fresh,
        };
        if knowledge == Knowledge::Fresh {
            self.name_led_to = self.name_leads_to;
        }
        let failure = match knowledge {
            Knowledge::Fresh => None,
            Knowledge::Doubtful | Knowledge::Gone => Some(Cause::NoSuchName),
            _ => Some(Cause::ResolverFailed),
        };
        let places = self.name_led_to.filter(|_| knowledge != Knowledge::Gone);
        let found = Found {
            places: places
                .map(|index| FoundPlace::plain(address(index)))
                .into_iter()
                .collect(),
            denied: Vec::new(),
            ttl: 5_000 * MS,
            knowledge,
            failure: failure.map(Failure::new),
        };
        self.hear(Event::Named { entry, found });
    }

    /// Looks every name up, as its memory does when the time to live is over.
    fn refresh_names(&mut self) {
        for (index, entry) in self.entries.clone().iter().enumerate() {
            if let EntryAddress::Name(_) = entry.address {
                self.answer_name(EntryId(u32::try_from(index).unwrap()));
            }
        }
    }

    fn tell_held(&mut self) {
        let waiting = self.waiting;
        self.hear(Event::Held { waiting });
    }

    fn hear(&mut self, event: Event) {
        self.note(format!("{event:?}"));
        let mut actions = Vec::new();
        self.supervisor.handle(self.now, event, &mut actions);
        self.carry_out_all(actions);
    }

    fn carry_out_all(&mut self, actions: Vec<Action>) {
        for action in actions {
            self.note(format!("  -> {action:?}"));
            self.carry_out(action);
        }
        let pending = self.underway.len();
        self.check(
            pending <= 40 * self.faults.len(),
            "too many orders under way",
        );
    }

    fn carry_out(&mut self, action: Action) {
        match action {
            Action::LookUp { entry } => {
                if !self.is_rough || self.dice.below(50) > 0 {
                    self.later(5 * MS, Coming::Answered(entry));
                }
            }
            Action::Probe {
                order,
                address,
                kind,
                patience,
                ..
            } => {
                self.probe(order, &address, kind, patience);
            }
            Action::Cancel { order } => {
                self.underway.remove(&order);
                self.canaries.retain(|(canary, _)| *canary != order);
            }
            Action::Release { count } => {
                self.check(count <= self.waiting, "more released than wait");
                self.waiting -= count;
                for _ in 0..count {
                    self.dial_or_wait();
                }
            }
            Action::Dismiss => self.waiting = 0,
            Action::Publish | Action::CloseLinks { .. } | Action::Tell(_) => {}
        }
    }

    fn probe(&mut self, order: Order, address: &Address, kind: ProbeKind, patience: Duration) {
        let index = self.index_of(address);
        self.probes += 1;
        if self.is_rough && self.dice.below(200) == 0 {
            return;
        }
        self.underway.insert(order, index);
        self.probe_log.push_back((self.now, index));
        while self
            .probe_log
            .front()
            .is_some_and(|(at, _)| self.now - *at > 1000 * MS)
        {
            self.probe_log.pop_front();
        }
        let recent = self.probe_log.iter().filter(|(_, at)| *at == index).count();
        self.check(recent <= 120, "a storm of probes");
        let answered = Event::ProbeAnswered { order, took: MS };
        let failed = |cause| Event::ProbeFailed {
            order,
            failure: Failure::new(cause),
        };
        let fault = match self.faults[index] {
            fault if fault.serves() && self.mute[index] && kind == ProbeKind::HangUp => {
                Fault::Frozen
            }
            fault => fault,
        };
        match (fault, kind) {
            (Fault::Unwell, ProbeKind::Question) => {
                self.later(MS, Coming::Answer(order, failed(Cause::Unhealthy)));
            }
            (Fault::Impostor, ProbeKind::Proof | ProbeKind::Question) => {
                self.later(MS, Coming::Answer(order, failed(Cause::UnknownIssuer)));
            }
            (Fault::Refusing, _) => self.later(MS, Coming::Answer(order, failed(Cause::Refused))),
            (Fault::Impostor, _) | (Fault::Frozen, ProbeKind::Handshake) => {
                self.later(MS, Coming::Answer(order, answered));
            }
            (fault, _) if fault.serves() => {
                self.later(MS, Coming::Answer(order, answered));
            }
            (Fault::Frozen, ProbeKind::HangUp) => {
                self.canaries.push((order, index));
                self.later(patience, Coming::Fact(Event::ProbeSilent { order }));
            }
            _ => self.later(patience, Coming::Answer(order, failed(Cause::TimedOut))),
        }
    }

    fn later(&mut self, delay: Duration, coming: Coming) {
        self.sequence += 1;
        self.queue.insert((self.now + delay, self.sequence), coming);
    }

    fn index_of(&self, wanted: &Address) -> usize {
        (0..self.faults.len())
            .find(|index| address(*index) == *wanted)
            .unwrap()
    }

    fn id_of(&self, index: usize) -> Option<EndpointId> {
        let view = self.supervisor.view();
        view.endpoints
            .iter()
            .find(|e| e.address == address(index))
            .map(|e| e.id)
    }

    pub(super) fn leader(&self) -> Option<usize> {
        self.supervisor
            .view()
            .leader()
            .map(|leader| self.index_of(&leader.address))
    }

    pub(super) fn waiting(&self) -> u32 {
        self.waiting
    }

    pub(super) fn probes(&self) -> usize {
        self.probes
    }

    pub(super) fn is_given_up(&self) -> bool {
        self.supervisor.view().given_up
    }

    pub(super) fn assert_healed(&mut self) {
        let phase = self.supervisor.view().phase;
        self.check(
            phase == Phase::Up,
            "an endpoint works, and the origin is not up",
        );
        self.check(self.waiting == 0, "an endpoint works, and clients wait");
    }

    fn note(&mut self, line: String) {
        if self.transcript.len() == 60 {
            self.transcript.pop_front();
        }
        self.transcript.push_back(line);
    }

    fn check(&self, holds: bool, invariant: &str) {
        assert!(
            holds,
            "{invariant}: seed {}\n{:#?}\n{:#?}\n{:#?}",
            self.seed, self.transcript, self.faults, self.supervisor
        );
    }
}

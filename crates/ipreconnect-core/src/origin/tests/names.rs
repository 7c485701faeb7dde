//! Entries that are names: moves, rotation, doubts, services.

use super::*;
use crate::names::Knowledge;

const SECOND: Duration = Duration::from_secs(1);

fn named(name: &str, priority: u32) -> Entry {
    Entry {
        address: EntryAddress::Name(name.into()),
        priority,
        weight: 1,
    }
}

fn address(last: u8) -> Address {
    Address::Tcp(format!("192.0.2.{last}:1").parse().unwrap())
}

fn known(knowledge: Knowledge, addresses: &[u8], failure: Option<Cause>) -> Found {
    Found {
        places: addresses
            .iter()
            .map(|last| FoundPlace::plain(address(*last)))
            .collect(),
        denied: Vec::new(),
        ttl: 5 * SECOND,
        knowledge,
        failure: failure.map(Failure::new),
    }
}

fn fresh(addresses: &[u8]) -> Found {
    known(Knowledge::Fresh, addresses, None)
}

impl Desk {
    /// An origin with these entries.
    fn of(entries: Vec<Entry>) -> Self {
        let mut desk = Self::new(&[]);
        desk.enter(entries);
        desk
    }

    fn enter(&mut self, entries: Vec<Entry>) {
        let settings = self.supervisor.settings.clone();
        self.supervisor
            .reconfigure(self.now, settings, entries, &mut self.actions);
        self.actions.clear();
    }

    fn name(&mut self, entry: u32, found: Found) -> Vec<Action> {
        let entry = EntryId(entry);
        self.hear(Event::Named { entry, found })
    }

    fn id(&self, last: u8) -> Option<u32> {
        let endpoints = &self.supervisor.view().endpoints;
        endpoints
            .iter()
            .find(|e| e.address == address(last))
            .map(|e| e.id.0)
    }

    /// A dial to that address is proven.
    fn prove(&mut self, last: u8) {
        self.dialled(self.id(last).unwrap());
    }

    fn standing(&self, last: u8) -> Option<Standing> {
        let endpoints = &self.supervisor.view().endpoints;
        endpoints
            .iter()
            .find(|e| e.address == address(last))
            .map(|e| e.standing)
    }

    fn leader(&self) -> Option<Address> {
        self.supervisor
            .view()
            .leader()
            .map(|leader| leader.address.clone())
    }

    /// Lets time pass, in which every probe of an endpoint that is not lost is answered.
    fn wait(&mut self, duration: Duration) -> Vec<Action> {
        let until = self.now + duration;
        let mut actions = self.answer_probes();
        while self.now < until {
            let wakeup = self.supervisor.wakeup().map_or(until, |wakeup| wakeup.at);
            self.now = wakeup.max(self.now + MS / 4).min(until);
            actions.extend(self.hear(Event::Elapsed));
            actions.extend(self.answer_probes());
        }
        actions
    }

    fn answer_probes(&mut self) -> Vec<Action> {
        let supervisor = &self.supervisor;
        let orders: Vec<Order> = supervisor
            .pending
            .iter()
            .filter(|(_, pending)| supervisor.endpoints[&pending.endpoint].health != Health::Down)
            .map(|(order, _)| *order)
            .collect();
        let answers = orders
            .into_iter()
            .map(|order| Event::ProbeAnswered { order, took: MS });
        let answers: Vec<Event> = answers.collect();
        answers
            .into_iter()
            .flat_map(|event| self.hear(event))
            .collect()
    }
}

fn lookups(actions: &[Action]) -> usize {
    let asked = |action: &&Action| matches!(action, Action::LookUp { .. });
    actions.iter().filter(asked).count()
}

#[test]
fn a_name_that_moves_is_followed_only_when_the_new_address_is_proven() {
    let mut desk = Desk::of(vec![named("a.test:1", 0)]);
    desk.name(0, fresh(&[1]));
    desk.prove(1);
    let actions = desk.name(0, fresh(&[2]));
    let told = actions.iter().any(|action| {
        matches!(action, Action::Tell(Notice::NameMoved { to, .. }) if *to == [address(2)])
    });
    assert!(told);
    // It is looked at at once, and the old address goes on serving.
    let probed = actions
        .iter()
        .any(|action| matches!(action, Action::Probe { address: to, .. } if *to == address(2)));
    assert!(probed);
    assert_eq!(desk.leader(), Some(address(1)));
    desk.prove(2);
    assert_eq!(desk.leader(), Some(address(2)));
    assert_eq!(desk.standing(1), Some(Standing::Doubtful));
    // No answer cuts a link.
    let closes = |action: &Action| matches!(action, Action::CloseLinks { .. });
    assert!(!desk.wait(59 * SECOND).iter().any(closes));
    desk.prove(1);
    desk.prove(2);
    assert!(desk.standing(1).is_some());
    desk.wait(2 * SECOND);
    assert_eq!(desk.standing(1), None);
}

#[test]
fn when_the_new_address_fails_the_old_one_takes_work_again() {
    let mut desk = Desk::of(vec![named("a.test:1", 0)]);
    desk.name(0, fresh(&[1]));
    desk.prove(1);
    desk.name(0, fresh(&[2]));
    let two = desk.id(2).unwrap();
    desk.refuse(two);
    desk.refuse(two);
    assert_eq!(desk.leader(), Some(address(1)));
    assert_eq!(desk.supervisor.view().phase, Phase::Up);
    desk.prove(2);
    desk.prove(2);
    desk.wait(10 * SECOND);
    assert_eq!(desk.leader(), Some(address(2)));
    desk.wait(20 * SECOND);
    desk.prove(1);
    desk.refuse(two);
    desk.refuse(two);
    assert_eq!(desk.leader(), Some(address(1)));
    // Until the new one is proven again, the old one is kept.
    for _ in 0..10 {
        desk.wait(20 * SECOND);
        desk.prove(1);
    }
    assert_eq!(desk.leader(), Some(address(1)));
}

#[test]
fn an_address_that_returns_to_its_name_is_good_again() {
    let mut desk = Desk::of(vec![named("a.test:1", 0)]);
    for (answer, standing) in [
        (vec![1], Standing::Good),
        (vec![2], Standing::Doubtful),
        (vec![1, 2], Standing::Good),
    ] {
        desk.name(0, fresh(&answer));
        for last in &answer {
            desk.prove(*last);
        }
        assert_eq!(desk.standing(1), Some(standing), "{answer:?}");
    }
}

#[test]
fn answers_that_rotate_only_widen_the_set() {
    let mut desk = Desk::of(vec![named("a.test:1", 0)]);
    for turn in 0..30u8 {
        let answer = [1 + turn % 5, 1 + (turn + 1) % 5];
        desk.name(0, fresh(&answer));
        for last in 1..=5 {
            if desk.id(last).is_some() {
                desk.prove(last);
            }
        }
        desk.wait(5 * SECOND);
    }
    let standings: Vec<_> = (1..=5).map(|last| desk.standing(last)).collect();
    assert_eq!(standings, [Some(Standing::Good); 5]);
    // One that is absent for good takes no new work after a while.
    for _ in 0..8 {
        desk.name(0, fresh(&[1, 2, 3, 4]));
        desk.wait(5 * SECOND);
    }
    assert_eq!(desk.standing(5), None);
}

#[test]
fn a_sudden_empty_answer_makes_the_origin_suspect_and_no_more() {
    let mut desk = Desk::of(vec![named("a.test:1", 0)]);
    desk.name(0, fresh(&[1]));
    desk.prove(1);
    assert_eq!(desk.supervisor.view().phase, Phase::Up);
    let doubtful = known(Knowledge::Doubtful, &[1], Some(Cause::NoSuchName));
    desk.name(0, doubtful);
    let view = desk.supervisor.view();
    assert_eq!(view.phase, Phase::Suspect);
    let cause = view.failure.as_ref().map(|failure| failure.cause);
    assert_eq!(cause, Some(Cause::NoSuchName));
    assert_eq!(desk.standing(1), Some(Standing::Good));
    desk.name(0, fresh(&[1]));
    assert_eq!(desk.supervisor.view().phase, Phase::Up);
}

#[test]
fn a_name_that_is_gone_takes_no_new_work_after_a_grace() {
    let mut desk = Desk::of(vec![named("a.test:1", 0)]);
    desk.name(0, fresh(&[1]));
    desk.prove(1);
    desk.name(0, known(Knowledge::Gone, &[], Some(Cause::NoSuchName)));
    desk.wait(29 * SECOND);
    desk.prove(1);
    assert_eq!(desk.standing(1), Some(Standing::Good));
    let actions = desk.wait(2 * SECOND);
    let closes = |action: &Action| matches!(action, Action::CloseLinks { .. });
    assert!(!actions.iter().any(closes));
    let view = desk.supervisor.view();
    assert_eq!(view.phase, Phase::Down);
    let cause = view.failure.as_ref().map(|failure| failure.cause);
    assert_eq!(cause, Some(Cause::NoSuchName));
}

/// Neither a grace nor a stale answer keeps what is forbidden.
#[test]
fn what_must_not_be_dialled_is_dropped_at_once() {
    let mut desk = Desk::of(vec![named("a.test:1", 0)]);
    desk.name(0, fresh(&[1, 2]));
    desk.prove(1);
    desk.prove(2);
    let denied = Found {
        denied: vec![address(1)],
        ..known(Knowledge::Fresh, &[2], Some(Cause::NotAllowed))
    };
    let actions = desk.name(0, denied);
    let closes = |action: &Action| matches!(action, Action::CloseLinks { .. });
    assert!(!actions.iter().any(closes));
    assert_eq!(
        (desk.standing(1), desk.standing(2)),
        (None, Some(Standing::Good))
    );
    // Nothing is known under stricter rules yet: that alone forbids nothing.
    desk.name(0, known(Knowledge::Unknown, &[], None));
    assert_eq!(desk.standing(2), Some(Standing::Good));
    desk.name(0, known(Knowledge::Unknown, &[], Some(Cause::Unsigned)));
    assert_eq!(desk.standing(2), None);
    assert_eq!(desk.supervisor.view().phase, Phase::Down);
}

#[test]
fn stale_addresses_serve_as_well_as_fresh_ones() {
    let mut desk = Desk::of(vec![named("a.test:1", 0)]);
    let stale = known(Knowledge::Stale, &[1], Some(Cause::ResolverFailed));
    for found in [fresh(&[1]), stale] {
        desk.name(0, found);
        desk.prove(1);
        assert_eq!(desk.standing(1), Some(Standing::Good));
        assert_eq!(desk.supervisor.view().phase, Phase::Up);
    }
}

#[test]
fn a_failure_asks_for_a_fresh_lookup_at_once() {
    let mut desk = Desk::of(vec![named("a.test:1", 0)]);
    desk.name(0, fresh(&[1]));
    desk.prove(1);
    assert_eq!(lookups(&desk.wait(SECOND)), 0);
    desk.prove(1);
    let one = desk.id(1).unwrap();
    assert_eq!(lookups(&desk.refuse(one)), 1);
    // However many fail, not more than twenty in a second.
    let mut asked = 0;
    for _ in 0..1_000 {
        asked += lookups(&desk.wait(MS));
        asked += lookups(&desk.refuse(one));
    }
    assert!((5..=20).contains(&asked), "{asked}");
}

/// A reset is a reason to look whether the name leads elsewhere by now.
#[test]
fn a_lost_link_asks_for_a_fresh_lookup() {
    let mut desk = Desk::of(vec![named("a.test:1", 0)]);
    desk.name(0, fresh(&[1]));
    desk.prove(1);
    desk.wait(SECOND);
    let endpoint = EndpointId(desk.id(1).unwrap());
    let failure = Failure::new(Cause::Reset);
    let actions = desk.hear(Event::LinkLost { endpoint, failure });
    assert_eq!(lookups(&actions), 1);
}

#[test]
fn an_outage_of_resolvers_is_told_once() {
    let mut desk = Desk::of(vec![named("a.test:1", 0)]);
    desk.name(0, fresh(&[1]));
    desk.prove(1);
    let mut told = 0;
    for n in 0..100 {
        let mut stale = known(Knowledge::Stale, &[1], None);
        let words = ["no answer in time", "refused"][n % 2];
        stale.failure = Some(Failure::with_detail(Cause::ResolverFailed, words));
        let actions = desk.name(0, stale);
        let is_told = |a: &&Action| matches!(a, Action::Tell(Notice::NameFailed { .. }));
        told += actions.iter().filter(is_told).count();
    }
    assert_eq!(told, 1);
}

#[test]
fn a_name_is_connecting_until_its_first_answer() {
    let mut desk = Desk::of(vec![named("a.test:1", 0)]);
    assert_eq!(desk.supervisor.view().phase, Phase::Connecting);
    desk.name(
        0,
        known(Knowledge::Unknown, &[], Some(Cause::ResolverFailed)),
    );
    assert_eq!(desk.supervisor.view().phase, Phase::Down);
    let failure = desk.supervisor.view().failure.clone();
    assert_eq!(failure.map(|f| f.cause), Some(Cause::ResolverFailed));
}

#[test]
fn places_of_a_service_have_priorities_of_their_own() {
    let mut desk = Desk::of(vec![named("srv:_db._tcp.test", 0), named("b.test:1", 1)]);
    let place = |last, tier, weight| FoundPlace {
        address: address(last),
        tier,
        weight,
        by_weight: true,
    };
    let service = Found {
        places: vec![place(1, 0, 3), place(2, 0, 1), place(3, 1, 1)],
        ..fresh(&[])
    };
    desk.name(0, service.clone());
    desk.name(1, fresh(&[9]));
    let shown = |desk: &Desk| -> Vec<(u32, u32)> {
        let endpoints = &desk.supervisor.view().endpoints;
        endpoints.iter().map(|e| (e.priority, e.weight)).collect()
    };
    assert_eq!(shown(&desk), [(0, 3), (0, 1), (1, 1), (2, 1)]);
    assert_eq!(desk.leader(), Some(address(1)));
    for last in [1, 2] {
        let id = desk.id(last).unwrap();
        desk.refuse(id);
        desk.refuse(id);
    }
    assert_eq!(desk.leader(), Some(address(3)));
    // Its tiers change with the answer.
    desk.name(
        0,
        Found {
            places: vec![place(3, 0, 1), place(1, 1, 1)],
            ..service
        },
    );
    let endpoints = &desk.supervisor.view().endpoints;
    let three = endpoints.iter().find(|e| e.address == address(3)).unwrap();
    assert_eq!(three.priority, 0);
}

#[test]
fn an_address_that_another_entry_leads_to_stays() {
    let mut desk = Desk::of(vec![named("a.test:1", 0), named("b.test:1", 1)]);
    desk.name(0, fresh(&[1]));
    desk.name(1, fresh(&[1]));
    desk.prove(1);
    desk.name(0, fresh(&[2]));
    let endpoints = &desk.supervisor.view().endpoints;
    let one = endpoints.iter().find(|e| e.address == address(1)).unwrap();
    assert_eq!((one.entry, one.health), (EntryId(1), Health::Up));
}

#[test]
fn reconfiguring_keeps_the_endpoints_of_a_name_that_stays() {
    let mut desk = Desk::of(vec![named("a.test:1", 0)]);
    desk.name(0, fresh(&[1]));
    desk.dialled(0);

    desk.enter(vec![named("b.test:1", 0), named("a.test:1", 1)]);
    let view = desk.supervisor.view();
    assert_eq!(view.endpoints.len(), 1);
    assert_eq!(view.endpoints[0].health, Health::Up);
    assert_eq!(view.endpoints[0].entry, EntryId(1));

    desk.enter(vec![named("b.test:1", 0)]);
    assert!(desk.supervisor.view().endpoints.is_empty());
}

/// What is known of a name must not be taken for an address of its own.
#[test]
fn an_answer_for_an_entry_that_is_no_name_is_ignored() {
    let mut desk = Desk::new(&["192.0.2.1:1"]);
    for entry in [0, 7] {
        desk.name(entry, fresh(&[2]));
    }
    assert_eq!(desk.supervisor.view().endpoints.len(), 1);
}

/// Garbage for a while must not leave an origin without room for its true address.
#[test]
fn addresses_that_led_nowhere_make_room() {
    let mut desk = Desk::of(vec![named("a.test:1", 0)]);
    for round in 0..10u8 {
        let garbage: Vec<u8> = (0..20).map(|n| round * 20 + n).collect();
        desk.name(0, fresh(&garbage));
        for last in garbage {
            let id = desk.id(last).unwrap();
            desk.refuse(id);
            desk.refuse(id);
        }
    }
    desk.name(0, fresh(&[250]));
    desk.prove(250);
    assert_eq!(desk.leader(), Some(address(250)));
    assert_eq!(desk.supervisor.view().endpoints.len(), 1);
}

#[test]
fn more_addresses_than_anybody_needs_are_not_dialled() {
    let mut desk = Desk::of(vec![named("a.test:1", 0)]);
    let many: Vec<u8> = (0..=255).collect();
    for part in many.chunks(100) {
        desk.name(0, fresh(part));
    }
    assert!(desk.supervisor.view().endpoints.len() <= 128);
}

use std::time::{Duration, Instant};

use super::*;
use crate::address::Address;
use crate::backoff::BackoffSettings;
use crate::balance::Standing;
use crate::detector::Thresholds;
use crate::failure::Cause;
use crate::freeze::Answers;

const MS: Duration = Duration::from_millis(1);

struct Desk {
    now: Instant,
    supervisor: Supervisor,
    actions: Vec<Action>,
}

impl Desk {
    fn new(addresses: &[&str]) -> Self {
        let entries = addresses.iter().zip(0..).map(|(text, priority)| Entry {
            address: EntryAddress::Fixed(Address::Tcp(text.parse().unwrap())),
            priority,
            weight: 1,
        });
        let settings = Settings {
            check: Check::HalfOpen,
            interval: 5000 * MS,
            timeout: 500 * MS,
            thresholds: Thresholds {
                down_after: 2,
                up_after: 2,
            },
            connect_timeout: 2000 * MS,
            reconnect: BackoffSettings::default(),
            on_down: OnDown::Close,
            on_return: OnReturn::Keep,
        };
        let now = crate::beginning();
        let mut desk = Self {
            now,
            supervisor: Supervisor::new(settings, entries.collect(), 1, now),
            actions: Vec::new(),
        };
        desk.hear(Event::Started);
        desk
    }

    fn hear(&mut self, event: Event) -> Vec<Action> {
        self.supervisor.handle(self.now, event, &mut self.actions);
        std::mem::take(&mut self.actions)
    }

    fn refuse(&mut self, endpoint: u32) -> Vec<Action> {
        self.hear(Event::DialFailed {
            endpoint: EndpointId(endpoint),
            failure: Failure::new(Cause::Refused),
        })
    }

    fn dialled(&mut self, endpoint: u32) -> Vec<Action> {
        self.hear(Event::Dialled {
            endpoint: EndpointId(endpoint),
            took: MS,
        })
    }

    fn standings(&self) -> Vec<Standing> {
        self.supervisor
            .view()
            .endpoints
            .iter()
            .map(|e| e.standing)
            .collect()
    }
}

#[test]
fn two_refusals_fail_over_and_close_the_links() {
    let mut desk = Desk::new(&["192.0.2.1:1", "192.0.2.2:1"]);
    desk.dialled(0);
    desk.dialled(1);
    desk.refuse(0);
    assert_eq!(desk.standings(), [Standing::Doubtful, Standing::Good]);
    let actions = desk.refuse(0);
    assert_eq!(desk.standings(), [Standing::Bad, Standing::Good]);
    assert!(actions.contains(&Action::CloseLinks {
        endpoint: EndpointId(0)
    }));
    assert!(
        actions
            .iter()
            .any(|a| matches!(a, Action::Tell(Notice::EndpointDown { .. })))
    );
    assert_eq!(desk.supervisor.view().phase, Phase::Up);
}

#[test]
fn a_fault_of_our_own_blames_no_endpoint() {
    let mut desk = Desk::new(&["192.0.2.1:1"]);
    desk.dialled(0);
    for _ in 0..5 {
        desk.hear(no_local_port());
    }
    assert_eq!(desk.standings(), [Standing::Good]);
}

fn no_local_port() -> Event {
    Event::DialFailed {
        endpoint: EndpointId(0),
        failure: Failure::new(Cause::NoLocalPort),
    }
}

#[test]
fn a_lack_of_room_is_told_once_until_it_has_passed() {
    let mut desk = Desk::new(&["192.0.2.1:1"]);
    desk.dialled(0);
    let mut told = 0;
    for (dials, pause) in [(100, 100 * MS), (1, 11_000 * MS), (100, 100 * MS)] {
        for _ in 0..dials {
            desk.now += pause;
            let actions = desk.hear(no_local_port());
            told += actions
                .iter()
                .filter(|action| matches!(action, Action::Tell(Notice::NoRoom { .. })))
                .count();
        }
    }
    assert_eq!(told, 2);
}

#[test]
fn real_traffic_replaces_heartbeats() {
    let mut desk = Desk::new(&["192.0.2.1:1"]);
    desk.dialled(0);
    let mut probes = 0;
    for _ in 0..100 {
        desk.now += 1000 * MS;
        let at = desk.now;
        desk.hear(Event::Traffic {
            endpoint: EndpointId(0),
            at,
        });
        let actions = desk.hear(Event::Elapsed);
        probes += actions
            .iter()
            .filter(|a| matches!(a, Action::Probe { .. }))
            .count();
    }
    assert_eq!(probes, 0);
    desk.now += 5000 * MS;
    let actions = desk.hear(Event::Elapsed);
    assert!(actions.iter().any(|a| matches!(a, Action::Probe { .. })));
}

#[test]
fn reconfiguring_keeps_what_is_known_of_endpoints_that_stay() {
    let mut desk = Desk::new(&["192.0.2.1:1", "192.0.2.2:1"]);
    desk.dialled(0);
    desk.dialled(1);
    let settings = desk.supervisor.settings.clone();
    let mut entries = desk.supervisor.entries.clone();
    entries.reverse();
    for (entry, priority) in entries.iter_mut().zip(0..) {
        entry.priority = priority;
    }
    desk.supervisor
        .reconfigure(desk.now, settings, entries, &mut desk.actions);
    let view = desk.supervisor.view();
    assert_eq!(view.phase, Phase::Up);
    let order: Vec<u32> = view.endpoints.iter().map(|e| e.id.0).collect();
    assert_eq!(order, [1, 0]);
    assert!(view.endpoints.iter().all(|e| e.health == Health::Up));
}

/// Clients of the first endpoint wait, and it does not close the half-closed connection.
fn convict(desk: &mut Desk) {
    let answers = Answers {
        answered: 20,
        slowest: MS,
        last_answer: Some(desk.now),
        latest_asked: Some(desk.now),
        ..Answers::default()
    };
    let hang_up = |actions: &[Action]| {
        actions.iter().find_map(|action| match action {
            Action::Probe {
                order,
                kind: ProbeKind::HangUp,
                ..
            } => Some(*order),
            _ => None,
        })
    };
    let report = |answers| Event::Answers {
        endpoint: EndpointId(0),
        worker: 0,
        answers,
    };
    let lesson = hang_up(&desk.hear(report(answers))).unwrap();
    desk.hear(Event::ProbeAnswered {
        order: lesson,
        took: MS,
    });
    desk.now += 10 * MS;
    desk.hear(report(Answers {
        waiting: [Some(desk.now); 3],
        ..Answers::default()
    }));
    desk.now += 200 * MS;
    let check = hang_up(&desk.hear(Event::Elapsed)).unwrap();
    desk.hear(Event::ProbeSilent { order: check });
    assert_eq!(desk.standings(), [Standing::Bad, Standing::Good]);
}

#[test]
fn an_answer_to_a_later_request_takes_the_verdict_back() {
    let mut desk = Desk::new(&["192.0.2.1:1", "192.0.2.2:1"]);
    desk.dialled(0);
    desk.dialled(1);
    convict(&mut desk);
    let verdict = desk.now;
    let mut answered = |asked: Instant, now: Instant| {
        desk.now = now;
        desk.hear(Event::Answers {
            endpoint: EndpointId(0),
            worker: 0,
            answers: Answers {
                answered: 1,
                latest_asked: Some(asked),
                last_answer: Some(now),
                ..Answers::default()
            },
        });
        desk.supervisor.view().endpoints[0].health
    };
    // What was on its way already proves nothing.
    assert_eq!(answered(verdict - 5 * MS, verdict + 20 * MS), Health::Down);
    answered(verdict + 30 * MS, verdict + 40 * MS);
    // It takes two successes in a row, since the other one serves; its kernel's word is one again.
    desk.now += 250 * MS;
    let actions = desk.hear(Event::Elapsed);
    let order = actions.iter().find_map(|action| match action {
        Action::Probe {
            order,
            endpoint: EndpointId(0),
            kind: ProbeKind::Handshake,
            ..
        } => Some(*order),
        _ => None,
    });
    desk.hear(Event::ProbeAnswered {
        order: order.unwrap(),
        took: MS,
    });
    assert_eq!(desk.supervisor.view().endpoints[0].health, Health::Up);
}

/// With nobody else to serve, a doubtful endpoint is better than none.
#[test]
fn a_verdict_ends_when_the_other_endpoint_is_lost_too() {
    let mut desk = Desk::new(&["192.0.2.1:1", "192.0.2.2:1"]);
    desk.dialled(0);
    desk.dialled(1);
    convict(&mut desk);
    desk.refuse(1);
    desk.refuse(1);
    assert_eq!(desk.supervisor.view().phase, Phase::Down);
    let lost = desk.now;
    while desk.supervisor.view().phase == Phase::Down {
        desk.now = desk.supervisor.wakeup().unwrap().at;
        assert!(desk.now < lost + 20_000 * MS, "it stays down");
        for action in desk.hear(Event::Elapsed) {
            let Action::Probe {
                order, endpoint, ..
            } = action
            else {
                continue;
            };
            desk.hear(if endpoint == EndpointId(0) {
                Event::ProbeAnswered { order, took: MS }
            } else {
                let failure = Failure::new(Cause::Refused);
                Event::ProbeFailed { order, failure }
            });
        }
    }
    assert!(desk.now >= lost + 3000 * MS);
}

/// A process frozen while nobody used it passes every probe of its kernel; what its past taught is
/// needed then.
#[test]
fn what_was_learned_of_a_process_outlives_its_loss() {
    let mut desk = Desk::new(&["192.0.2.1:1", "192.0.2.2:1"]);
    desk.dialled(0);
    desk.dialled(1);
    convict(&mut desk);
    desk.hear(Event::ReconnectAsked);
    for endpoint in [0, 0, 1] {
        desk.dialled(endpoint);
    }
    desk.now += 1001 * MS;
    desk.hear(Event::Elapsed);
    assert_eq!(desk.standings(), [Standing::Good, Standing::Good]);
    desk.hear(Event::Answers {
        endpoint: EndpointId(0),
        worker: 0,
        answers: Answers {
            waiting: [Some(desk.now); 3],
            ..Answers::default()
        },
    });
    desk.now += 200 * MS;
    let actions = desk.hear(Event::Elapsed);
    let checks = actions.iter().any(|action| {
        matches!(
            action,
            Action::Probe {
                kind: ProbeKind::HangUp,
                ..
            }
        )
    });
    assert!(checks);
}

/// Nothing but time tells that an order is lost, or that a name should be looked up again.
#[test]
fn lost_orders_and_old_answers_have_their_wakeups() {
    let mut desk = Desk::new(&[]);
    let settings = Settings {
        check: Check::Off,
        ..desk.supervisor.settings.clone()
    };
    let (now, mut actions) = (desk.now, Vec::new());
    desk.supervisor
        .reconfigure(now, settings, vec![named("a.test:1", 0)], &mut actions);
    let order = lookup(&actions).unwrap();
    let addresses = vec![Address::Tcp("192.0.2.1:1".parse().unwrap())];
    desk.hear(Event::Resolved { order, addresses });

    let wakeup = desk.supervisor.wakeup().unwrap();
    assert_eq!(wakeup.why, "an order was never answered");
    desk.now = wakeup.at;
    let actions = desk.hear(Event::Elapsed);
    assert!(matches!(actions.as_slice(), [Action::Cancel { .. }, ..]));

    desk.dialled(0);
    let looked_up_again = (0..3).any(|_| {
        desk.now = desk.supervisor.wakeup().unwrap().at;
        lookup(&desk.hear(Event::Elapsed)).is_some()
    });
    assert!(looked_up_again);
}

fn named(name: &str, priority: u32) -> Entry {
    Entry {
        address: EntryAddress::Name(name.into()),
        priority,
        weight: 1,
    }
}

fn lookup(actions: &[Action]) -> Option<Order> {
    actions.iter().find_map(|action| match action {
        Action::Resolve { order, .. } => Some(*order),
        _ => None,
    })
}

#[test]
fn reconfiguring_keeps_the_endpoints_of_a_name_that_stays() {
    let mut desk = Desk::new(&[]);
    let settings = desk.supervisor.settings.clone();
    let mut actions = Vec::new();
    let reconfigure = |desk: &mut Desk, entries, actions: &mut Vec<Action>| {
        actions.clear();
        let now = desk.now;
        desk.supervisor
            .reconfigure(now, settings.clone(), entries, actions);
    };
    reconfigure(&mut desk, vec![named("a.test:1", 0)], &mut actions);
    let order = lookup(&actions).unwrap();
    let addresses = vec![Address::Tcp("192.0.2.1:1".parse().unwrap())];
    desk.hear(Event::Resolved { order, addresses });
    desk.dialled(0);

    let both = vec![named("b.test:1", 0), named("a.test:1", 1)];
    reconfigure(&mut desk, both, &mut actions);
    let view = desk.supervisor.view();
    assert_eq!(view.endpoints.len(), 1);
    assert_eq!(view.endpoints[0].health, Health::Up);
    assert_eq!(view.endpoints[0].entry, EntryId(1));

    reconfigure(&mut desk, vec![named("b.test:1", 0)], &mut actions);
    assert!(desk.supervisor.view().endpoints.is_empty());
    assert!(lookup(&actions).is_some());
}

#[test]
fn an_address_that_returns_to_its_name_is_good_again() {
    let mut desk = Desk::new(&[]);
    let settings = desk.supervisor.settings.clone();
    let mut actions = Vec::new();
    let entries = vec![named("a.test:1", 0)];
    desk.supervisor
        .reconfigure(desk.now, settings, entries, &mut actions);
    let mut order = lookup(&actions).unwrap();
    for (answer, standing) in [
        (vec!["192.0.2.1:1"], Standing::Good),
        (vec!["192.0.2.2:1"], Standing::Doubtful),
        (vec!["192.0.2.1:1", "192.0.2.2:1"], Standing::Good),
    ] {
        let addresses = answer
            .iter()
            .map(|text| Address::Tcp(text.parse().unwrap()));
        let addresses = addresses.collect();
        desk.hear(Event::Resolved { order, addresses });
        desk.dialled(0);
        let first = desk.supervisor.view().endpoints.iter();
        let first = first.filter(|e| e.id == EndpointId(0)).map(|e| e.standing);
        assert_eq!(first.collect::<Vec<_>>(), [standing], "{answer:?}");
        // A suspicion makes the name doubtful, and it is looked up again.
        desk.refuse(0);
        desk.dialled(0);
        desk.now += 1001 * MS;
        order = lookup(&desk.hear(Event::Elapsed)).unwrap();
    }
}

/// The first name's answer comes when another name stands in its place.
#[test]
fn an_answer_for_another_name_is_ignored() {
    let mut desk = Desk::new(&[]);
    let settings = desk.supervisor.settings.clone();
    let mut late = None;
    for name in ["a.test:1", "b.test:1"] {
        let mut actions = Vec::new();
        let entries = vec![named(name, 0)];
        desk.supervisor
            .reconfigure(desk.now, settings.clone(), entries, &mut actions);
        late = late.or(lookup(&actions));
    }
    desk.hear(Event::Resolved {
        order: late.unwrap(),
        addresses: vec![Address::Tcp("192.0.2.1:1".parse().unwrap())],
    });
    assert!(desk.supervisor.view().endpoints.is_empty());
}

#[test]
fn a_returning_endpoint_is_quiet_first() {
    let mut desk = Desk::new(&["192.0.2.1:1", "192.0.2.2:1"]);
    desk.dialled(0);
    desk.dialled(1);
    desk.refuse(0);
    desk.refuse(0);
    desk.dialled(0);
    assert_eq!(desk.standings(), [Standing::Bad, Standing::Good]);
    desk.dialled(0);
    assert_eq!(desk.standings(), [Standing::Doubtful, Standing::Good]);
    desk.now += 1001 * MS;
    desk.hear(Event::Elapsed);
    assert_eq!(desk.standings(), [Standing::Good, Standing::Good]);
}

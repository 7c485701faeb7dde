use std::time::{Duration, Instant};

use super::*;
use crate::address::Address;
use crate::backoff::BackoffSettings;
use crate::balance::Standing;
use crate::detector::Thresholds;
use crate::failure::Cause;
use crate::freeze::Answers;
use crate::outlier::Passive;

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
            passive: Some(Passive::default()),
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

/// Nothing but time tells that an order is lost.
#[test]
fn lost_orders_have_their_wakeup() {
    let mut desk = Desk::new(&["192.0.2.1:1"]);
    let settings = Settings {
        check: Check::Off,
        ..desk.supervisor.settings.clone()
    };
    let (now, entries) = (desk.now, desk.supervisor.entries.clone());
    desk.supervisor
        .reconfigure(now, settings, entries, &mut Vec::new());
    let wakeup = desk.supervisor.wakeup().unwrap();
    assert_eq!(wakeup.why, "an order was never answered");
    desk.now = wakeup.at;
    let actions = desk.hear(Event::Elapsed);
    assert!(matches!(actions.as_slice(), [Action::Cancel { .. }, ..]));
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

mod identity;
mod names;

#[test]
fn the_operators_wish_goes_before_the_settings_and_never_before_health() {
    let mut desk = Desk::new(&["192.0.2.1:1", "192.0.2.2:1", "192.0.2.3:1"]);
    (0..3).for_each(|endpoint| drop(desk.dialled(endpoint)));
    let leader = |desk: &Desk| desk.supervisor.view().leader().map(|leader| leader.id.0);
    let wish = |desk: &mut Desk, text: Option<&str>| {
        let address = text.map(|text| Address::Tcp(text.parse().unwrap()));
        desk.hear(Event::PreferAsked { address })
    };
    assert_eq!(leader(&desk), Some(0));
    let actions = wish(&mut desk, Some("192.0.2.3:1"));
    assert!(actions.contains(&Action::Publish));
    let told = actions.iter().filter(|one| matches!(one, Action::Tell(_)));
    assert_eq!(told.count(), 1, "it is no failover: {actions:?}");
    assert_eq!(leader(&desk), Some(2));
    // While it is down the others serve in their own order, and it is preferred again when it is back.
    desk.refuse(2);
    desk.refuse(2);
    assert_eq!(leader(&desk), Some(0));
    desk.dialled(2);
    desk.dialled(2);
    desk.now += 120_000 * MS;
    desk.hear(Event::Elapsed);
    (0..3).for_each(|endpoint| drop(desk.dialled(endpoint)));
    assert_eq!(leader(&desk), Some(2));
    wish(&mut desk, None);
    assert_eq!(leader(&desk), Some(0));
    assert_eq!(desk.supervisor.view().preferred, None);
    // An address that nothing leads to, and one that is down, change nothing, and nobody is said to have failed.
    desk.refuse(2);
    desk.refuse(2);
    for address in [Some("192.0.2.9:1"), Some("192.0.2.3:1"), None] {
        let actions = wish(&mut desk, address);
        assert_eq!(leader(&desk), Some(0), "{address:?}");
        let told = actions.iter().filter(|one| matches!(one, Action::Tell(_)));
        assert_eq!(told.count(), 1, "{address:?}: {actions:?}");
    }
}

use std::time::{Duration, Instant};

use super::*;
use crate::address::Address;
use crate::backoff::BackoffSettings;
use crate::balance::Standing;
use crate::detector::Thresholds;
use crate::failure::Cause;

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
        desk.hear(Event::DialFailed {
            endpoint: EndpointId(0),
            failure: Failure::new(Cause::NoLocalPort),
        });
    }
    assert_eq!(desk.standings(), [Standing::Good]);
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

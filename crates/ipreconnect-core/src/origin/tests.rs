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

use super::*;
use ipreconnect::core::failure::Cause;
use ipreconnect::stats::Counts;

/// Tells a chronicle what happens, by a clock of its own.
struct Desk {
    chronicle: Chronicle,
    now: Instant,
    wall: u64,
    counts: Counts,
}

impl Desk {
    fn new() -> Self {
        let now = Instant::now();
        Self {
            chronicle: Chronicle::new(now),
            now,
            wall: 1_000_000,
            counts: Counts::default(),
        }
    }

    fn after(&mut self, millis: u64) -> &mut Self {
        self.now += Duration::from_millis(millis);
        self.wall += millis;
        self
    }

    fn hear(&mut self, notice: Notice) -> Vec<Entry> {
        let fact = Fact {
            at: self.now,
            wall: self.wall,
            origin: "shop".into(),
            notice,
            blame: Blame::Origin,
            last_life: None,
            counts: self.counts.clone(),
        };
        let mut out = Vec::new();
        self.chronicle.hear(&fact, &mut out);
        out
    }

    fn phase(&mut self, to: Phase) -> Vec<Entry> {
        self.hear(Notice::Phase {
            from: Phase::Unknown,
            to,
            lasted: Duration::ZERO,
            failure: Some(Failure::new(Cause::Refused)),
        })
    }

    fn lose(&mut self, address: &str, doubted: u64) -> Vec<Entry> {
        self.hear(Notice::EndpointDown {
            address: at(address),
            failure: Failure::new(Cause::Silent),
            doubted: Duration::from_millis(doubted),
        })
    }

    fn find(&mut self, address: &str) -> Vec<Entry> {
        self.hear(Notice::EndpointUp {
            address: at(address),
            away: Duration::ZERO,
        })
    }
}

fn at(address: &str) -> Address {
    Address::Tcp(address.parse().unwrap())
}

fn begun(entries: &[Entry]) -> &Loss {
    match entries {
        [Entry::Begun(loss)] => loss,
        other => panic!("{other:?}"),
    }
}

fn over(entries: &[Entry]) -> (u64, Duration, &str) {
    match entries {
        [
            Entry::Over {
                id,
                lasted,
                healed_by,
            },
        ] => (*id, *lasted, healed_by),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_loss_is_told_from_its_first_sign_to_its_end_with_what_it_cost() {
    let mut desk = Desk::new();
    assert_eq!(desk.phase(Phase::Up), []);
    desk.after(5_000).phase(Phase::Suspect);
    let entries = desk.after(300).lose("10.0.0.1:80", 300);
    let server = begun(&entries).clone();
    assert_eq!(
        (server.first_sign, server.notice.as_millis()),
        (1_005_000, 300)
    );
    assert_eq!(server.scope, Scope::Endpoint);
    let entries = desk.phase(Phase::Down);
    let loss = begun(&entries).clone();
    assert_eq!((loss.first_sign, loss.notice.as_millis()), (1_005_000, 300));
    assert_eq!(loss.endpoint.as_deref(), Some("10.0.0.1:80"));
    desk.counts.held = 7;
    desk.counts.lost = 2;
    let entries = desk.after(1_700).find("10.0.0.1:80");
    assert_eq!(over(&entries).0, server.id);
    let entries = desk.phase(Phase::Up);
    let (id, lasted, healed_by) = over(&entries);
    assert_eq!((id, lasted.as_millis()), (loss.id, 2_000));
    assert_eq!(healed_by, "the server came back");
    // Who waited counts when it is served.
    desk.counts.held = 9;
    let counts = desk.counts.clone();
    let mut out = Vec::new();
    let settle = |desk: &mut Desk, out: &mut Vec<Entry>| {
        let now = Some(desk.now);
        desk.chronicle.settle(now, |_| Some(&counts), out);
    };
    settle(&mut desk, &mut out);
    assert_eq!(out, []);
    assert!(desk.chronicle.settles().is_some());
    desk.after(3_000);
    settle(&mut desk, &mut out);
    let toll = Toll {
        held: 9,
        retried: 0,
        lost: 2,
    };
    let cost = |id| Entry::Cost { id, toll };
    assert_eq!(out, [cost(server.id), cost(loss.id)]);
    assert_eq!(desk.chronicle.settles(), None);
    let down = desk.chronicle.take_down(desk.now);
    assert_eq!(down.values().next().unwrap().as_millis(), 2_000);
    assert!(desk.chronicle.take_down(desk.now).is_empty());
}

#[test]
fn what_is_down_is_counted_between_looks_however_short() {
    let mut desk = Desk::new();
    desk.phase(Phase::Down);
    desk.after(100).phase(Phase::Up);
    desk.after(50).phase(Phase::Down);
    desk.after(25);
    let mut down = || {
        let (now, chronicle) = (desk.now, &mut desk.chronicle);
        let down = chronicle.take_down(now);
        down.values().next().map(Duration::as_millis)
    };
    assert_eq!(down(), Some(125));
    desk.after(1_000);
    let down = desk.chronicle.take_down(desk.now);
    assert_eq!(down["shop"].as_millis(), 1_000);
    desk.after(10).phase(Phase::Up);
    let down = desk.chronicle.take_down(desk.now);
    assert_eq!(down["shop"].as_millis(), 10);
}

#[test]
fn a_failover_that_is_told_before_the_loss_belongs_to_it() {
    let mut desk = Desk::new();
    desk.phase(Phase::Up);
    let told = desk.hear(Notice::FailedOver {
        from: at("10.0.0.1:80"),
        to: at("10.0.0.2:80"),
        failure: None,
    });
    assert_eq!(told, []);
    let entries = desk.lose("10.0.0.1:80", 40);
    let [Entry::Begun(_), Entry::TakenOver { after, .. }] = entries.as_slice() else {
        panic!("{entries:?}");
    };
    assert_eq!(after.as_millis(), 40);
}

#[test]
fn a_backup_that_takes_over_is_told() {
    let mut desk = Desk::new();
    desk.phase(Phase::Up);
    let lost = begun(&desk.lose("10.0.0.1:80", 40)).id;
    let entries = desk.after(10).hear(Notice::FailedOver {
        from: at("10.0.0.1:80"),
        to: at("10.0.0.2:80"),
        failure: None,
    });
    let after = Duration::from_millis(50);
    let by = "10.0.0.2:80".to_owned();
    assert_eq!(
        entries,
        [Entry::TakenOver {
            id: lost,
            by,
            after
        }]
    );
    // The same loss, told again for another reason, is no other one.
    assert_eq!(desk.lose("10.0.0.1:80", 0), []);
}

#[test]
fn what_healed_it_is_found_out() {
    let heal = |with: &dyn Fn(&mut Desk)| {
        let mut desk = Desk::new();
        desk.phase(Phase::Up);
        desk.lose("10.0.0.1:80", 0);
        desk.phase(Phase::Down);
        with(&mut desk);
        let entries = desk.phase(Phase::Up);
        over(&entries).2.to_owned()
    };
    let found = heal(&|desk| drop(desk.find("10.0.0.2:80")));
    assert_eq!(found, "10.0.0.2:80 could be reached");
    let moved = heal(&|desk| {
        desk.hear(Notice::NameMoved {
            entry: ipreconnect::core::address::EntryId(0),
            to: vec![at("10.0.0.9:80")],
        });
        desk.find("10.0.0.9:80");
    });
    assert_eq!(moved, "its name led to 10.0.0.9:80");
    let rebuilt = heal(&|desk| {
        desk.hear(Notice::Rebuilt);
        desk.find("10.0.0.1:80");
    });
    assert_eq!(rebuilt, "all that was known of it was rebuilt");
}

fn pulse(is_down: bool, endpoints: &[(&str, bool)]) -> Pulse {
    Pulse {
        origin: "shop".to_owned(),
        is_down,
        is_up: !is_down,
        endpoints: endpoints
            .iter()
            .map(|(address, is_up)| ((*address).to_owned(), *is_up))
            .collect(),
        waiting: 0,
        hold: 10,
        is_doubtful: false,
        failed_here: 0,
        counts: Counts::default(),
    }
}

#[test]
fn what_is_not_there_any_more_does_not_last_for_ever() {
    let mut desk = Desk::new();
    desk.lose("10.0.0.1:80", 0);
    desk.lose("10.0.0.2:80", 0);
    desk.phase(Phase::Down);
    let mut out = Vec::new();
    let left = pulse(true, &[("10.0.0.2:80", false)]);
    let mut keep = |desk: &mut Desk, pulse: Option<&Pulse>| {
        let now = desk.now;
        out.clear();
        desk.chronicle.keep(now, |_| pulse, &mut out);
        std::mem::take(&mut out)
    };
    // What was told just now may be ahead of what is seen.
    assert_eq!(keep(&mut desk, Some(&left)), []);
    desk.after(6_000);
    let gone = keep(&mut desk, Some(&left));
    assert_eq!(over(&gone).2, "nothing leads there any more");
    assert_eq!(keep(&mut desk, None).len(), 2);
    assert!(desk.chronicle.take_down(desk.now).is_empty());
}

#[test]
fn an_end_that_nobody_heard_of_is_found_by_looking() {
    let mut desk = Desk::new();
    desk.lose("10.0.0.1:80", 0);
    desk.phase(Phase::Down);
    desk.after(6_000);
    let mut out = Vec::new();
    let (now, up) = (desk.now, pulse(false, &[("10.0.0.1:80", true)]));
    desk.chronicle.keep(now, |_| Some(&up), &mut out);
    assert_eq!(out.len(), 2, "{out:?}");
    // And the next loss is told again.
    assert_eq!(desk.lose("10.0.0.1:80", 0).len(), 1);
}

#[test]
fn a_failover_of_long_ago_is_not_told_of_another_loss() {
    let mut desk = Desk::new();
    desk.hear(Notice::FailedOver {
        from: at("10.0.0.1:80"),
        to: at("10.0.0.2:80"),
        failure: None,
    });
    desk.after(60_000);
    assert_eq!(desk.lose("10.0.0.1:80", 0).len(), 1);
}

#[test]
fn a_loss_is_told_once_however_often_the_phase_is() {
    let mut desk = Desk::new();
    assert_eq!(desk.phase(Phase::Down).len(), 1);
    assert_eq!(desk.phase(Phase::Connecting), []);
    assert_eq!(desk.after(10).phase(Phase::Down), []);
    assert_eq!(
        over(&desk.phase(Phase::Draining)).2,
        "the origin was drained"
    );
    assert_eq!(desk.phase(Phase::Up), []);
}

use std::sync::atomic::AtomicBool;

use async_trait::async_trait;
use ipreconnect::core::address::Address;
use ipreconnect::core::failure::{Cause, Failure};
use ipreconnect::core::locality::Blame;
use ipreconnect::core::origin::{Notice, Phase};

use super::chronicle::{Loss, Scope};
use super::*;
use crate::gateway::{Denial, Tapped};
use crate::view::{
    Acceptance, FindingView, GuardView, IdentityView, ListenerView, OriginView, Outcome, Ports,
    Preference, PurgeWish, Readiness, TapQuestion, UNSEEN, Why, WhyQuestion,
};

/// A gateway with one origin.
#[derive(Default)]
struct One {
    is_gone: AtomicBool,
}

#[async_trait]
impl Gateway for One {
    fn origins(&self) -> Vec<OriginView> {
        Vec::new()
    }

    fn origin(&self, _: &str) -> Option<OriginView> {
        None
    }

    fn listeners(&self) -> Vec<ListenerView> {
        Vec::new()
    }

    fn readiness(&self) -> Readiness {
        unreachable!("nobody asks")
    }

    fn guard(&self) -> GuardView {
        unreachable!("nobody asks")
    }

    fn findings(&self) -> Vec<FindingView> {
        Vec::new()
    }

    fn pulses(&self) -> Vec<Pulse> {
        if self.is_gone.load(Relaxed) {
            return Vec::new();
        }
        let mut counts = Counts {
            classes: [0, 10, 0, 0, 2],
            ..Counts::default()
        };
        counts.times.steps[5] = 12;
        vec![Pulse {
            origin: "shop".to_owned(),
            is_down: false,
            is_up: true,
            endpoints: vec![("10.0.0.1:80".to_owned(), false)],
            waiting: 0,
            hold: 10,
            is_doubtful: false,
            failed_here: 0,
            counts,
        }]
    }

    fn is_offline(&self) -> bool {
        false
    }

    fn stale(&self) -> Option<String> {
        None
    }

    async fn identities(&self) -> Vec<IdentityView> {
        Vec::new()
    }

    async fn reconnect(&self, _: &str) -> Result<Outcome, Denial> {
        unreachable!("nobody asks")
    }

    async fn drain(&self, _: &str) -> Result<Outcome, Denial> {
        unreachable!("nobody asks")
    }

    fn tap(&self, _: &str, _: TapQuestion) -> Result<Tapped, Denial> {
        unreachable!()
    }

    async fn prefer(&self, _: &str, _: Preference) -> Result<Outcome, Denial> {
        unreachable!()
    }

    async fn accept_identity(&self, _: &str, _: Acceptance) -> Result<Outcome, Denial> {
        unreachable!("nobody asks")
    }

    async fn why(&self, _: WhyQuestion) -> Result<Why, Denial> {
        unreachable!("nobody asks")
    }

    async fn ports(&self) -> Result<Ports, Denial> {
        unreachable!("nobody asks")
    }

    async fn purge(&self, _: PurgeWish) -> Result<Outcome, Denial> {
        unreachable!("nobody asks")
    }

    async fn reload(&self) -> Result<Outcome, Denial> {
        unreachable!("nobody asks")
    }
}

fn fact(notice: Notice) -> Message {
    Message::Fact(Box::new(Fact {
        at: clock::now(),
        wall: millis(clock::since_unix()),
        origin: "shop".into(),
        notice,
        blame: Blame::Origin,
        last_life: None,
        counts: Counts::default(),
    }))
}

fn down() -> Message {
    fact(Notice::Phase {
        from: Phase::Up,
        to: Phase::Down,
        lasted: Duration::ZERO,
        failure: Some(Failure::new(Cause::Refused)),
    })
}

fn up() -> Message {
    fact(Notice::Phase {
        from: Phase::Down,
        to: Phase::Up,
        lasted: Duration::ZERO,
        failure: None,
    })
}

fn tell(ledger: &Ledger, message: Message) {
    ledger.0.facts.send(message).unwrap();
}

fn all(ledger: &Ledger) -> History {
    ledger.history(&HistoryQuestion::default()).unwrap()
}

#[test]
fn what_the_guard_has_found_is_written_and_read() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = Ledger::begin(directory.path())
        .run(Arc::new(One::default()))
        .unwrap();
    for number in 1..=3 {
        ledger.note_finding(&FindingView {
            first_ms: number,
            kind: "beacon".to_owned(),
            port: 5432,
            user: (number == 2).then(|| "app".to_owned()),
            rule: (number == 3).then_some(7),
            told: format!("finding {number}"),
            ..FindingView::default()
        });
    }
    ledger.end();
    let findings = all(&ledger).findings;
    let told: Vec<&str> = findings.iter().map(|one| one.told.as_str()).collect();
    assert_eq!(told, ["finding 3", "finding 2", "finding 1"]);
    assert_eq!((findings[0].rule, findings[0].port), (Some(7), 5432));
    assert_eq!(findings[1].user.as_deref(), Some("app"));
    let question = HistoryQuestion {
        limit: Some(1),
        ..HistoryQuestion::default()
    };
    assert_eq!(ledger.history(&question).unwrap().findings.len(), 1);
    let question = HistoryQuestion {
        origin: Some("shop".to_owned()),
        ..HistoryQuestion::default()
    };
    assert!(ledger.history(&question).unwrap().findings.is_empty());
}

#[test]
fn losses_and_times_are_written_and_read() {
    let directory = tempfile::tempdir().unwrap();
    let begun = Ledger::begin(directory.path());
    let ledger = begun.run(Arc::new(One::default())).unwrap();
    tell(&ledger, down());
    tell(
        &ledger,
        fact(Notice::EndpointDown {
            address: Address::Tcp("10.0.0.1:80".parse().unwrap()),
            failure: Failure::new(Cause::Silent),
            doubted: Duration::from_millis(5),
        }),
    );
    tell(&ledger, up());
    ledger.end();
    let history = all(&ledger);
    let [endpoint, origin] = history.losses.as_slice() else {
        panic!("{history:?}");
    };
    assert_eq!(
        (origin.scope.as_str(), origin.cause.as_str()),
        ("origin", "connection refused")
    );
    assert!(origin.lasted_ms.is_some());
    assert_eq!(endpoint.endpoint.as_deref(), Some("10.0.0.1:80"));
    assert_eq!((endpoint.lasted_ms, endpoint.notice_ms), (None, 5));
    let [shop] = history.origins.as_slice() else {
        panic!("{history:?}");
    };
    assert_eq!(shop.name, "shop");
    assert_eq!(shop.response.map(|response| response.count), Some(12));
    assert_eq!(shop.days.len(), 1);
    assert!(shop.recent.iter().flatten().count() == 1);
    assert!(shop.day.percent.is_some_and(|percent| percent <= 100.0));
    assert_eq!((history.dropped, history.problem), (0, None));
    // The next run goes on after it, and closes what lasted.
    let again = Ledger::begin(directory.path())
        .run(Arc::new(One::default()))
        .unwrap();
    tell(&again, down());
    again.end();
    let history = all(&again);
    let ids: Vec<u64> = history.losses.iter().map(|loss| loss.id).collect();
    assert_eq!(ids, [3, 2, 1]);
    assert_eq!(history.losses[1].healed_by.as_deref(), Some(UNSEEN));
    let only = HistoryQuestion {
        origin: Some("none".to_owned()),
        samples: None,
        scope: None,
        limit: None,
    };
    let none = again.history(&only).unwrap();
    assert!(none.losses.is_empty() && none.origins.is_empty());
}

#[test]
fn a_damaged_file_is_moved_aside_and_begun_anew() {
    let directory = tempfile::tempdir().unwrap();
    for damage in [
        &b"this is no database, but long enough to be looked at"[..],
        &[0; 8192],
    ] {
        let path = directory.path().join("history.db");
        std::fs::write(&path, damage).unwrap();
        let ledger = Ledger::begin(directory.path())
            .run(Arc::new(One::default()))
            .unwrap();
        tell(&ledger, down());
        ledger.end();
        assert_eq!(all(&ledger).losses.len(), 1, "{damage:?}");
        std::fs::remove_file(&path).unwrap();
        for end in ["-wal", "-shm"] {
            let _ = std::fs::remove_file(directory.path().join(format!("history.db{end}")));
        }
    }
    let files = std::fs::read_dir(directory.path()).unwrap().flatten();
    let aside = files.filter(|file| file.file_name().to_string_lossy().contains(".damaged-"));
    assert!(aside.count() >= 1);
}

#[test]
fn a_disk_that_takes_nothing_is_waited_for_and_what_does_not_fit_is_counted() {
    let directory = tempfile::tempdir().unwrap();
    // Nothing can be made below a file.
    let blocked = directory.path().join("state");
    std::fs::write(&blocked, "").unwrap();
    let begun = Ledger::begin(&blocked);
    let mut writer = Writer::new(begun.ledger.clone(), Arc::new(One::default()));
    writer.open();
    assert!(writer.take(down()).is_none());
    writer.flush();
    assert!(begun.ledger.problem().is_some());
    for _ in 0..PENDING {
        writer.pending.push(Write::Alive(0));
    }
    writer.flush();
    assert!(writer.pending.len() <= PENDING);
    assert!(begun.ledger.dropped() > 0);
    let kept = writer.pending.iter();
    assert_eq!(
        kept.filter(|write| matches!(write, Write::Entry(_)))
            .count(),
        1
    );
    // There is room again.
    std::fs::remove_file(&blocked).unwrap();
    std::fs::create_dir(&blocked).unwrap();
    writer.retry = None;
    writer.flush();
    assert_eq!(begun.ledger.problem(), None);
    assert!(writer.pending.is_empty());
    assert_eq!(all(&begun.ledger).losses.len(), 1);
    // What goes on after an error does not end what lasts.
    writer.store = None;
    assert!(writer.take(up()).is_none());
    writer.flush();
    let history = all(&begun.ledger);
    assert_eq!(
        history.losses[0].healed_by.as_deref(),
        Some("the server came back")
    );
}

#[test]
fn a_file_that_is_taken_away_is_made_again() {
    let directory = tempfile::tempdir().unwrap();
    let begun = Ledger::begin(directory.path());
    let mut writer = Writer::new(begun.ledger.clone(), Arc::new(One::default()));
    writer.open();
    assert!(writer.take(down()).is_none());
    writer.flush();
    for file in std::fs::read_dir(directory.path()).unwrap().flatten() {
        std::fs::remove_file(file.path()).unwrap();
    }
    assert!(writer.take(up()).is_none());
    assert!(writer.take(down()).is_none());
    writer.flush();
    assert_eq!(
        (begun.ledger.problem(), all(&begun.ledger).losses.len()),
        (None, 1)
    );
}

#[test]
fn what_can_never_be_written_does_not_hold_up_the_rest() {
    let directory = tempfile::tempdir().unwrap();
    let begun = Ledger::begin(directory.path());
    let mut writer = Writer::new(begun.ledger.clone(), Arc::new(One::default()));
    writer.open();
    assert!(writer.take(down()).is_none());
    let twice = writer.pending.clone();
    writer.flush();
    writer.pending = twice;
    assert!(writer.take(up()).is_none());
    writer.flush();
    assert!(writer.pending.is_empty());
    assert_eq!(begun.ledger.dropped(), 1);
    assert!(all(&begun.ledger).losses[0].lasted_ms.is_some());
}

#[test]
fn a_clock_that_jumps_lets_nothing_go() {
    let directory = tempfile::tempdir().unwrap();
    let begun = Ledger::begin(directory.path());
    let writer = Writer::new(begun.ledger.clone(), Arc::new(One::default()));
    let (wall, now) = writer.clocks;
    let hour = Duration::from_secs(3600);
    assert!(writer.is_believed(now + hour, wall + 3_600_000));
    assert!(!writer.is_believed(now + hour, wall + 40 * JUMP));
    assert!(!writer.is_believed(now + hour, 0));
}

#[test]
fn a_year_of_many_origins_is_read() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("history.db");
    let now = millis(clock::since_unix());
    let opened = Store::open(&path, Opening::First, now).unwrap();
    let mut store = opened.store;
    let day = 24 * 3600;
    let today = now / 1000 / day * day;
    // A hundredth of what it is to be quick with; here it is only to be right.
    let mut writes = Vec::new();
    for origin in 0..10 {
        for back in 0..365 {
            writes.push(Write::Rollup(Box::new(Rollup {
                origin: format!("origin-{origin}"),
                grain: day,
                at: today - back * day,
                observed_ms: day * 1000,
                down_ms: if back % 30 == 0 { 8_640_000 } else { 0 },
                ..Rollup::default()
            })));
        }
        writes.push(Write::Entry(Entry::Begun(Box::new(Loss {
            id: origin + 1,
            origin: format!("origin-{origin}").into(),
            scope: Scope::Origin,
            endpoint: None,
            layer: "transport".to_owned(),
            cause: "silent".to_owned(),
            blame: "origin",
            first_sign: now,
            silent: None,
            notice: Duration::ZERO,
        }))));
        writes.push(Write::Entry(Entry::Over {
            id: origin + 1,
            lasted: Duration::from_secs(1),
            healed_by: "the server came back".to_owned(),
        }));
    }
    writes.push(Write::Trim(now / 1000));
    store.write(&writes, 0).unwrap();
    let history = read_history(&path, &HistoryQuestion::default()).unwrap();
    assert_eq!(history.origins.len(), 10);
    let one = &history.origins[0];
    assert_eq!(one.days.len(), 90);
    assert_eq!(one.year.observed_ms, 365 * day * 1000);
    let percent = one.month.percent.unwrap();
    assert!((99.6..99.7).contains(&percent), "{percent}");
}

#[test]
fn every_ten_seconds_are_kept_for_a_day_while_something_happens() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("history.db");
    let now = millis(clock::since_unix()) / 1000;
    let mut store = Store::open(&path, Opening::First, now * 1000)
        .unwrap()
        .store;
    let sample = |back: u64, requests: u64| {
        Write::Rollup(Box::new(Rollup {
            origin: "a".to_owned(),
            grain: SAMPLE,
            at: (now - back) / SAMPLE * SAMPLE,
            requests,
            ..Rollup::default()
        }))
    };
    let writes = [
        sample(20, 1),
        sample(20, 2),
        sample(3_000, 4),
        sample(2 * 86_400, 8),
        Write::Trim(now),
    ];
    store.write(&writes, 0).unwrap();
    let asked = |samples: u32| {
        let question = HistoryQuestion {
            origin: Some("a".to_owned()),
            samples: Some(samples),
            ..HistoryQuestion::default()
        };
        let history = read_history(&path, &question).unwrap();
        let samples = history.origins[0].samples.iter();
        samples.map(|sample| sample.requests).collect::<Vec<_>>()
    };
    assert_eq!(asked(60), [3], "those of the same ten seconds are one");
    assert_eq!(asked(86_400), [4, 3]);
    let nobody = read_history(&path, &HistoryQuestion::default()).unwrap();
    assert!(nobody.origins[0].samples.is_empty());
}

#[test]
fn a_look_writes_what_has_happened_since_the_one_before() {
    let directory = tempfile::tempdir().unwrap();
    let begun = Ledger::begin(directory.path());
    let mut writer = Writer::new(begun.ledger.clone(), Arc::new(One::default()));
    writer.open();
    let mut pulse = One::default().pulses().remove(0);
    pulse.is_down = false;
    pulse.waiting = 0;
    let look = |writer: &mut Writer, pulse: &Pulse, wall: u64| {
        let pulses = BTreeMap::from([(pulse.origin.as_str(), pulse)]);
        writer.pending.clear();
        writer.sample(&pulses, clock::now(), wall);
        let samples = writer.pending.iter().map(|write| match write {
            Write::Rollup(rollup) => (rollup.at, rollup.requests, rollup.held),
            _ => unreachable!(),
        });
        samples.collect::<Vec<_>>()
    };
    let before = pulse.counts.requests();
    let base = PLAUSIBLE / 1000;
    assert_eq!(
        look(&mut writer, &pulse, PLAUSIBLE + 1_005_000),
        [(base + 1_000, before, 0)]
    );
    pulse.counts.classes[1] += 5;
    pulse.counts.held = 2;
    assert_eq!(
        look(&mut writer, &pulse, PLAUSIBLE + 1_015_000),
        [(base + 1_010, 5, 2)]
    );
    assert_eq!(
        look(&mut writer, &pulse, PLAUSIBLE + 1_025_000),
        [],
        "nothing has happened since"
    );
    pulse.counts.classes[1] += 1;
    assert_eq!(
        look(&mut writer, &pulse, PLAUSIBLE + 1_035_000),
        [(base + 1_030, 1, 0)]
    );
}

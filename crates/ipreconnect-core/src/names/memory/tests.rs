use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;
use crate::failure::Cause;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

const LIMITS: Limits = Limits {
    min_ttl: SECOND,
    max_ttl: Duration::from_secs(3600),
    stale_for: Duration::from_secs(86_400),
    proof: Security::Unchecked,
};

struct Desk {
    now: Instant,
    memory: Memory<u8>,
}

impl Desk {
    fn new() -> Self {
        let now = crate::beginning();
        let memory = Memory::new(LIMITS, 7, now);
        Self { now, memory }
    }

    /// Waits for the next look, and says after how long it came.
    fn wait(&mut self) -> (Look, Duration) {
        let began = self.now;
        for _ in 0..100 {
            if let Some(look) = self.memory.look(self.now) {
                return (look, self.now - began);
            }
            self.now = self.memory.wakeup().unwrap().max(self.now);
            self.memory.age(self.now);
        }
        panic!("no look ever comes");
    }

    fn answer(&mut self, outcome: Outcome<u8>) -> Duration {
        let (look, waited) = self.wait();
        self.memory.take(self.now, look.id, outcome);
        waited
    }
}

fn found(records: &[u8], ttl: Duration) -> Outcome<u8> {
    Outcome::Found {
        records: records.to_vec(),
        ttl,
        security: Security::Unchecked,
    }
}

fn nothing() -> Outcome<u8> {
    Outcome::Nothing {
        failure: Failure::new(Cause::NoSuchName),
        ttl: None,
        is_confirmed: false,
    }
}

fn failed() -> Outcome<u8> {
    Outcome::Failed(Failure::new(Cause::ResolverFailed))
}

#[test]
fn an_answer_is_asked_for_again_just_before_its_time_is_over() {
    let mut desk = Desk::new();
    assert_eq!(desk.answer(found(&[1], 60 * SECOND)), Duration::ZERO);
    for _ in 0..50 {
        let waited = desk.answer(found(&[1], 60 * SECOND));
        assert!(waited >= 54 * SECOND && waited < 59 * SECOND, "{waited:?}");
        assert_eq!(desk.memory.knowledge(), Knowledge::Fresh);
    }
}

#[test]
fn the_time_to_live_has_a_floor_and_a_cap() {
    for (ttl, expected) in [
        (Duration::ZERO, SECOND),
        (7 * SECOND, 7 * SECOND),
        (86_400 * 365 * SECOND, 3600 * SECOND),
    ] {
        let mut desk = Desk::new();
        desk.answer(found(&[1], ttl));
        assert_eq!(desk.memory.ttl(), expected);
    }
}

#[test]
fn stale_records_are_used_while_resolvers_fail_and_not_for_ever() {
    let mut desk = Desk::new();
    desk.answer(found(&[1, 2], 5 * SECOND));
    let answered = desk.now;
    let mut lookups = 0;
    while desk.memory.knowledge() != Knowledge::Unknown {
        assert_eq!(desk.memory.records(), [1, 2]);
        let (look, _) = desk.wait();
        desk.memory.take(desk.now, look.id, failed());
        lookups += 1;
    }
    let lasted = desk.now - answered;
    let bound = 5 * SECOND + LIMITS.stale_for;
    assert!(lasted >= bound && lasted < bound + RETRY_LAST, "{lasted:?}");
    assert!(desk.memory.records().is_empty());
    // Never more often than once in 3.75 s for long.
    assert!(lookups < 24_000, "{lookups}");
    desk.answer(found(&[3], SECOND));
    assert_eq!(desk.memory.records(), [3]);
    assert_eq!(desk.memory.failure(), None);
}

#[test]
fn one_empty_answer_is_only_a_doubt_until_a_second_look_agrees() {
    let mut desk = Desk::new();
    desk.answer(found(&[1], 60 * SECOND));
    desk.answer(nothing());
    assert_eq!(desk.memory.knowledge(), Knowledge::Doubtful);
    assert_eq!(desk.memory.records(), [1]);
    // A look that somebody forces too soon after the first is no second opinion.
    desk.memory.doubt(desk.now);
    desk.answer(nothing());
    assert_eq!(desk.memory.knowledge(), Knowledge::Doubtful);
    let (look, _) = desk.wait();
    assert!(look.elsewhere);
    desk.memory.take(desk.now, look.id, nothing());
    assert_eq!(desk.memory.knowledge(), Knowledge::Gone);
    assert!(desk.memory.records().is_empty());
}

#[test]
fn an_empty_answer_that_was_a_mistake_changes_nothing() {
    let mut desk = Desk::new();
    desk.answer(found(&[1], 60 * SECOND));
    desk.answer(nothing());
    assert_eq!(desk.answer(found(&[1], 60 * SECOND)), SECOND);
    assert_eq!(desk.memory.knowledge(), Knowledge::Fresh);
    // The next empty answer is the first again.
    desk.answer(nothing());
    assert_eq!(desk.memory.knowledge(), Knowledge::Doubtful);
}

#[test]
fn two_servers_that_agree_are_believed_at_once() {
    let mut desk = Desk::new();
    desk.answer(found(&[1], 60 * SECOND));
    desk.answer(Outcome::Nothing {
        failure: Failure::new(Cause::NoSuchName),
        ttl: Some(30 * SECOND),
        is_confirmed: true,
    });
    assert_eq!(desk.memory.knowledge(), Knowledge::Gone);
    assert_eq!(desk.answer(found(&[1], SECOND)), 30 * SECOND);
}

#[test]
fn a_doubt_looks_at_once_and_doubts_on_end_look_once_a_second() {
    let mut desk = Desk::new();
    desk.answer(found(&[1], 3600 * SECOND));
    desk.now += 10 * SECOND;
    let began = desk.now;
    desk.memory.doubt(desk.now);
    assert!(desk.memory.look(desk.now).is_some());
    let mut looks = 1;
    while desk.now < began + 60 * SECOND {
        desk.now += 5 * MS;
        desk.memory.doubt(desk.now);
        if let Some((id, _)) = desk.memory.underway {
            desk.memory.take(desk.now, id, found(&[1], 3600 * SECOND));
        }
        looks += u32::from(desk.memory.look(desk.now).is_some());
    }
    assert!((60..=66).contains(&looks), "{looks}");
    // After a rest the next doubt is heard at once again.
    if let Some((id, _)) = desk.memory.underway {
        desk.memory.take(desk.now, id, found(&[1], 3600 * SECOND));
    }
    desk.memory.forced.wanted = false;
    desk.now += 10 * SECOND;
    desk.memory.doubt(desk.now);
    assert!(desk.memory.look(desk.now).is_some());
}

#[test]
fn before_the_first_answer_there_is_nothing_to_doubt() {
    let mut desk = Desk::new();
    desk.memory.doubt(desk.now);
    let look = desk.memory.look(desk.now).unwrap();
    desk.memory.doubt(desk.now);
    desk.memory
        .take(desk.now, look.id, found(&[1], 60 * SECOND));
    let (_, waited) = desk.wait();
    assert!(waited >= 54 * SECOND, "{waited:?}");
}

#[test]
fn a_doubt_during_a_lookup_makes_another_one() {
    let mut desk = Desk::new();
    desk.answer(found(&[1], 3600 * SECOND));
    desk.now += SECOND;
    desk.memory.doubt(desk.now);
    let look = desk.memory.look(desk.now).unwrap();
    desk.memory.doubt(desk.now);
    assert!(desk.memory.look(desk.now).is_none());
    desk.memory
        .take(desk.now, look.id, found(&[1], 3600 * SECOND));
    let (_, waited) = desk.wait();
    assert!(waited <= 100 * MS, "{waited:?}");
}

#[test]
fn a_lookup_that_never_ends_is_made_again_and_its_late_answer_ignored() {
    let mut desk = Desk::new();
    let (lost, _) = desk.wait();
    let (look, waited) = desk.wait();
    assert_eq!(waited, LOST);
    desk.memory
        .take(desk.now, lost.id, found(&[9], 60 * SECOND));
    assert_eq!(desk.memory.knowledge(), Knowledge::Unknown);
    desk.memory
        .take(desk.now, look.id, found(&[1], 60 * SECOND));
    assert_eq!(desk.memory.records(), [1]);
}

#[test]
fn what_is_remembered_serves_until_somebody_answers() {
    let mut desk = Desk::new();
    desk.memory
        .remember(desk.now, vec![4], Security::Secure, 3600 * SECOND);
    // The resolvers may well answer in a moment.
    assert_eq!(desk.memory.knowledge(), Knowledge::Unknown);
    desk.answer(failed());
    assert_eq!(desk.memory.knowledge(), Knowledge::Remembered);
    assert_eq!(desk.memory.records(), [4]);
    let mut old = Desk::new();
    old.memory
        .remember(old.now, vec![4], Security::Secure, 2 * LIMITS.stale_for);
    assert_eq!(old.memory.knowledge(), Knowledge::Unknown);
    desk.answer(found(&[5], 60 * SECOND));
    assert_eq!(desk.memory.knowledge(), Knowledge::Fresh);
    desk.memory
        .remember(desk.now, vec![4], Security::Secure, SECOND);
    assert_eq!(desk.memory.records(), [5]);
}

#[test]
fn what_is_remembered_serves_when_resolvers_are_silent() {
    let mut desk = Desk::new();
    desk.memory
        .remember(desk.now, vec![4], Security::Unchecked, SECOND);
    let began = desk.now;
    assert!(desk.memory.look(desk.now).is_some());
    while desk.memory.knowledge() == Knowledge::Unknown {
        desk.now = desk.memory.wakeup().unwrap();
        desk.memory.age(desk.now);
    }
    assert_eq!(desk.now - began, PATIENCE);
    assert_eq!(desk.memory.records(), [4]);
}

#[test]
fn a_name_that_was_secure_and_no_longer_is_is_told_once() {
    let mut desk = Desk::new();
    let answer = |security| Outcome::Found {
        records: vec![1],
        ttl: SECOND,
        security,
    };
    let told: Vec<Option<Turn>> = [
        Security::Insecure,
        Security::Secure,
        Security::Insecure,
        Security::Insecure,
    ]
    .map(|security| {
        let (look, _) = desk.wait();
        desk.memory.take(desk.now, look.id, answer(security))
    })
    .to_vec();
    assert_eq!(told, [None, None, Some(Turn::Insecure), None]);
}

#[test]
fn what_is_proven_too_little_is_not_used() {
    let strict = Limits {
        proof: Security::Secure,
        ..LIMITS
    };
    let mut desk = Desk::new();
    desk.answer(found(&[1], 60 * SECOND));
    desk.memory.set_limits(desk.now, strict);
    assert!(desk.memory.records().is_empty());
    assert!(!desk.memory.is_answered());
    // Neither is what an earlier run kept.
    for (security, expected) in [
        (Security::Unchecked, Knowledge::Unknown),
        (Security::Insecure, Knowledge::Unknown),
        (Security::Secure, Knowledge::Remembered),
    ] {
        let mut desk = Desk::new();
        desk.memory.set_limits(desk.now, strict);
        desk.memory.remember(desk.now, vec![4], security, SECOND);
        desk.answer(failed());
        assert_eq!(desk.memory.knowledge(), expected, "{security}");
    }
}

#[test]
fn ten_thousand_records_are_not_kept() {
    let mut desk = Desk::new();
    desk.answer(found(&[0; 10_000], SECOND));
    assert_eq!(desk.memory.records().len(), RECORDS);
}

proptest! {
    /// Whatever happens, a look always comes, never in a storm, and records are there exactly when
    /// the knowledge says so.
    #[test]
    fn looks_keep_coming_at_a_bounded_rate(
        steps in prop::collection::vec((0u8..5, 0u64..4_000), 1..200)
    ) {
        let mut desk = Desk::new();
        let began = desk.now;
        let mut looks = 0u32;
        for (kind, pause) in steps {
            match kind {
                0 => { desk.answer(found(&[1, 2], Duration::from_millis(pause))); looks += 1; }
                1 => { desk.answer(nothing()); looks += 1; }
                2 => { desk.answer(failed()); looks += 1; }
                3 => desk.memory.doubt(desk.now),
                // A lookup that is never answered.
                _ => { desk.wait(); looks += 1; }
            }
            desk.now += Duration::from_millis(pause);
            desk.memory.age(desk.now);
            let empty = matches!(desk.memory.knowledge(), Knowledge::Unknown | Knowledge::Gone);
            prop_assert_eq!(desk.memory.records().is_empty(), empty);
            prop_assert!(desk.memory.wakeup().is_some());
        }
        let seconds = (desk.now - began).as_secs_f64();
        prop_assert!(f64::from(looks) <= 30.0 + 8.0 * seconds, "{} in {}", looks, seconds);
    }
}

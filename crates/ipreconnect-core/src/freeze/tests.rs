use super::*;
use proptest::prelude::*;

const MS: Duration = Duration::from_millis(1);

fn healthy(now: Instant) -> Freeze {
    let mut freeze = Freeze::new();
    freeze.report(
        0,
        Answers {
            answered: SAMPLES,
            slowest: MS,
            last_answer: Some(now),
            ..Answers::default()
        },
    );
    assert_eq!(
        freeze.judge(now, Rivals::Some),
        Suspicion::Learn {
            patience: LEARN_PATIENCE
        }
    );
    freeze.closed(now, MS);
    freeze
}

fn waiting(since: Instant) -> Answers {
    Answers {
        waiting: [Some(since); WITNESSES],
        ..Answers::default()
    }
}

#[test]
fn a_frozen_process_is_convicted_by_the_check_only() {
    let now = crate::beginning();
    let mut freeze = healthy(now);
    freeze.report(0, waiting(now + MS));
    assert_eq!(freeze.judge(now + 100 * MS, Rivals::Some), Suspicion::None);
    assert_eq!(
        freeze.judge(now + 200 * MS, Rivals::Some),
        Suspicion::Check {
            patience: CHECK_FLOOR
        }
    );
    assert_eq!(freeze.unanswered(now + 350 * MS), Verdict::Frozen);
}

#[test]
fn clients_that_wait_on_purpose_are_acquitted_and_left_alone() {
    let now = crate::beginning();
    let mut freeze = healthy(now);
    freeze.report(0, waiting(now + MS));
    let mut checks = 0;
    for tenth in 2..6000 {
        let later = now + tenth * 100 * MS;
        match freeze.judge(later, Rivals::Some) {
            Suspicion::Check { .. } => {
                checks += 1;
                freeze.closed(later, MS);
            }
            Suspicion::None => {}
            Suspicion::Learn { .. } => panic!("already learned"),
        }
    }
    assert_eq!(checks, 1, "who waits on purpose is checked once");
}

#[test]
fn new_waiters_are_checked_now_and_then_and_a_later_frost_is_found() {
    let now = crate::beginning();
    let mut freeze = healthy(now);
    let mut checks = 0;
    for tenth in 2..6000 {
        let later = now + tenth * 100 * MS;
        // Every two seconds others begin to wait.
        if tenth % 20 == 0 {
            freeze.report(0, waiting(later));
        }
        if let Suspicion::Check { .. } = freeze.judge(later, Rivals::Some) {
            checks += 1;
            freeze.closed(later, MS);
        }
    }
    assert!(
        (10..=40).contains(&checks),
        "{checks} checks in ten minutes"
    );
    let frost = now + 600_000 * MS;
    freeze.report(0, waiting(frost + MS));
    let found = (0..400)
        .map(|tenth| frost + tenth * 100 * MS)
        .find(|later| matches!(freeze.judge(*later, Rivals::Some), Suspicion::Check { .. }));
    assert!(found.is_some());
}

#[test]
fn one_long_wait_does_not_hide_a_frost() {
    let now = crate::beginning();
    let mut freeze = healthy(now);
    let long = Answers {
        answered: 1,
        slowest: 10_000 * MS,
        last_answer: Some(now),
        ..Answers::default()
    };
    freeze.report(0, long);
    freeze.report(0, waiting(now + MS));
    assert!(matches!(
        freeze.judge(now + 200 * MS, Rivals::Some),
        Suspicion::Check { .. }
    ));
}

#[test]
fn any_answer_since_the_request_acquits() {
    let now = crate::beginning();
    let mut freeze = healthy(now);
    freeze.report(0, waiting(now + MS));
    freeze.report(
        1,
        Answers {
            answered: 1,
            slowest: MS,
            last_answer: Some(now + 5000 * MS),
            ..Answers::default()
        },
    );
    assert_eq!(freeze.judge(now + 6000 * MS, Rivals::Some), Suspicion::None);
}

#[test]
fn a_peer_that_never_closes_is_never_convicted() {
    let now = crate::beginning();
    let mut freeze = Freeze::new();
    freeze.report(
        0,
        Answers {
            answered: 100,
            slowest: MS,
            last_answer: Some(now),
            ..Answers::default()
        },
    );
    assert!(matches!(
        freeze.judge(now, Rivals::Some),
        Suspicion::Learn { .. }
    ));
    assert_eq!(freeze.unanswered(now), Verdict::Unknown);
    freeze.report(0, waiting(now + MS));
    assert_eq!(
        freeze.judge(now + 60_000 * MS, Rivals::Some),
        Suspicion::None
    );
}

#[test]
fn one_that_answers_again_is_asked_again() {
    let now = crate::beginning();
    let mut freeze = Freeze::new();
    let answers = |at| Answers {
        answered: 100,
        slowest: MS,
        last_answer: Some(at),
        ..Answers::default()
    };
    freeze.report(0, answers(now));
    assert!(matches!(
        freeze.judge(now, Rivals::Some),
        Suspicion::Learn { .. }
    ));
    freeze.unanswered(now + MS);
    freeze.report(0, answers(now + 6_000 * MS));
    assert_eq!(
        freeze.judge(now + 3_000 * MS, Rivals::Some),
        Suspicion::None
    );
    assert!(matches!(
        freeze.judge(now + 6_000 * MS, Rivals::Some),
        Suspicion::Learn { .. }
    ));
}

#[test]
fn witnesses_of_several_workers_add_up() {
    let now = crate::beginning();
    let mut freeze = healthy(now);
    for worker in 0..3 {
        freeze.report(
            worker,
            Answers {
                waiting: [Some(now + MS), None, None],
                ..Answers::default()
            },
        );
    }
    assert!(matches!(
        freeze.judge(now + 500 * MS, Rivals::Some),
        Suspicion::Check { .. }
    ));
}

proptest! {
    /// No conviction without history, witnesses, silence and a failed check, whatever is reported.
    #[test]
    fn no_conviction_without_all_the_evidence(
        reports in prop::collection::vec((0u16..3, 0u32..30, 0u64..500, 0u64..3000, prop::array::uniform3(prop::option::of(0u64..3000))), 0..40),
        rivals in any::<bool>(),
    ) {
        let start = crate::beginning();
        let mut freeze = Freeze::new();
        let (mut samples, mut last) = (0, None);
        for (worker, answered, slowest, at, waiting) in reports {
            let at = start + u32::try_from(at).unwrap() * MS;
            samples += answered;
            last = last.max((answered > 0).then_some(at));
            freeze.report(worker, Answers {
                answered, slowest: u32::try_from(slowest).unwrap() * MS,
                last_answer: (answered > 0).then_some(at),
                latest_asked: None,
                waiting: waiting.map(|w| w.map(|w| start + u32::try_from(w).unwrap() * MS)),
                ..Answers::default()
            });
            let now = start + 4000 * MS;
            match freeze.judge(now, if rivals { Rivals::Some } else { Rivals::None }) {
                Suspicion::None => {}
                Suspicion::Learn { .. } => { prop_assert!(rivals && samples >= SAMPLES); freeze.closed(now, MS); }
                Suspicion::Check { .. } => {
                    prop_assert!(rivals && samples >= SAMPLES);
                    prop_assert!(last.is_none_or(|last| last + SILENCE_FLOOR <= now));
                    freeze.closed(now, MS);
                }
            }
        }
    }
}

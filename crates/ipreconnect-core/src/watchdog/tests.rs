use super::*;
use proptest::prelude::*;

#[test]
fn no_progress_and_a_working_probe_rebuilds() {
    let now = crate::beginning();
    let mut watchdog = Watchdog::default();
    assert_eq!(watchdog.observe(now, 5), Verdict::Fine);
    assert_eq!(watchdog.wakeup(), Some(now + PATIENCE));
    assert_eq!(watchdog.observe(now + PATIENCE, 5), Verdict::Probe);
    assert_eq!(watchdog.observe(now + PATIENCE, 5), Verdict::Fine);
    assert_eq!(
        watchdog.probed(now + PATIENCE, Found::Reachable),
        Cure::Rebuild
    );
}

#[test]
fn an_origin_that_is_really_away_is_only_probed() {
    let mut now = crate::beginning();
    let mut watchdog = Watchdog::default();
    watchdog.observe(now, 1);
    for _ in 0..10 {
        now = watchdog.wakeup().unwrap();
        assert_eq!(watchdog.observe(now, 1), Verdict::Probe);
        assert_eq!(watchdog.probed(now, Found::Unreachable), Cure::None);
    }
}

#[test]
fn a_probe_that_is_never_answered_is_asked_for_again() {
    let mut now = crate::beginning();
    let mut watchdog = Watchdog::default();
    watchdog.observe(now, 1);
    for _ in 0..3 {
        now = watchdog.wakeup().unwrap();
        assert_eq!(watchdog.observe(now, 1), Verdict::Probe);
    }
}

proptest! {
    /// Rebuilds never come without waiting clients, and never in a storm.
    #[test]
    fn rebuilds_are_rare(facts in prop::collection::vec((0u8..4, 0u64..5_000), 0..300)) {
        let mut now = crate::beginning();
        let mut watchdog = Watchdog::default();
        let (mut probing, mut waiting, mut last) = (None::<Instant>, 0, None::<Instant>);
        for (fact, millis) in facts {
            now += Duration::from_millis(millis);
            match fact {
                0 => waiting = 0,
                1 => waiting = 3,
                2 => { watchdog.moved(); last = None; }
                _ if probing.is_some() => {
                    probing = None;
                    if watchdog.probed(now, Found::Reachable) == Cure::Rebuild {
                        prop_assert!(waiting > 0);
                        prop_assert!(last.is_none_or(|last| now - last >= PATIENCE));
                        last = Some(now);
                    }
                }
                _ => {}
            }
            if watchdog.observe(now, waiting) == Verdict::Probe {
                prop_assert!(waiting > 0);
                prop_assert!(probing.is_none_or(|asked| now - asked >= LOST));
                probing = Some(now);
            }
        }
    }
}

use super::*;
use proptest::prelude::*;

#[test]
fn one_that_never_failed_is_preferred_at_once() {
    let mut quiet = Quiet::default();
    quiet.returned(crate::beginning());
    assert_eq!(quiet.until(), None);
}

#[test]
fn each_loss_doubles_the_quiet_and_time_forgives() {
    let mut now = crate::beginning();
    let mut quiet = Quiet::default();
    for expected in [1, 2, 4, 8, 16, 32, 60, 60] {
        quiet.lost(now);
        quiet.returned(now);
        assert_eq!(quiet.until(), Some(now + Duration::from_secs(expected)));
        now += Duration::from_secs(expected);
    }
    now += FORGIVEN_AFTER;
    quiet.lost(now);
    quiet.returned(now);
    assert_eq!(quiet.until(), Some(now + FIRST_QUIET));
}

proptest! {
    #[test]
    fn quiet_is_bounded_whatever_happens(facts in prop::collection::vec((any::<bool>(), 0u64..400), 0..200)) {
        let mut now = crate::beginning();
        let mut quiet = Quiet::default();
        for (lost, seconds) in facts {
            now += Duration::from_secs(seconds);
            if lost { quiet.lost(now) } else { quiet.returned(now) }
            if let Some(until) = quiet.until() {
                prop_assert!(until <= now + LONGEST_QUIET);
            }
        }
    }
}

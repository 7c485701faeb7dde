use super::*;
use proptest::prelude::*;

#[test]
fn ten_thousand_leave_within_fifty_milliseconds_of_a_healthy_origin() {
    let start = crate::beginning();
    let (mut now, mut waiting, mut release) = (start, 10_000, Release::new());
    while waiting > 0 {
        waiting -= release.release(now, waiting);
        release.served(now);
        now = release.wakeup().unwrap();
    }
    assert!(
        now - start <= Duration::from_millis(50),
        "{:?}",
        now - start
    );
}

#[test]
fn a_failure_begins_again_slowly() {
    let now = crate::beginning();
    let mut release = Release::new();
    assert_eq!(release.release(now, 1000), FIRST_BATCH);
    release.served(now);
    assert_eq!(release.release(now + PACE, 1000), 2 * FIRST_BATCH);
    release.failed(now + PACE);
    assert_eq!(release.release(now + 2 * PACE, 1000), 0);
    assert_eq!(release.release(now + PACE + RETRY, 1000), FIRST_BATCH);
}

proptest! {
    /// Never more than wait, never a storm, and never stuck: asking again at `wakeup` empties it.
    #[test]
    fn everybody_leaves(waiting in 0u32..20_000, facts in prop::collection::vec(0u8..3, 0..64)) {
        let start = crate::beginning();
        let (mut now, mut left, mut release) = (start, waiting, Release::new());
        let mut facts = facts.into_iter();
        for _ in 0..2_000 {
            let leaving = release.release(now, left);
            prop_assert!(leaving <= left && leaving <= LARGEST_BATCH);
            left -= leaving;
            if left == 0 { break; }
            match facts.next() { Some(0) => release.failed(now), Some(1) => release.served(now), _ => {} }
            let next = release.wakeup().unwrap();
            prop_assert!(next > now);
            now = next;
        }
        prop_assert_eq!(left, 0);
    }
}

use proptest::prelude::*;

use super::*;

const MS: Duration = Duration::from_millis(1);

fn tally(good: u32, failed: u32, lost: u32, took: Duration) -> Tally {
    let mut tally = Tally {
        answered: good + failed,
        failed,
        lost,
        ..Tally::default()
    };
    for _ in 0..good + failed {
        tally.times.add(took);
    }
    tally
}

#[test]
fn one_that_fails_beside_others_that_do_not_is_an_outlier() {
    let well = tally(100, 2, 0, MS);
    let told = |own: &Tally| judge(own, &[well, well]).map(|offence| offence.to_string());
    assert_eq!(
        told(&tally(41, 71, 0, MS)).as_deref(),
        Some("63 % of 112 answers were 5xx")
    );
    assert_eq!(
        told(&tally(0, 0, 20, MS)).as_deref(),
        Some("100 % of 20 requests were lost")
    );
    assert_eq!(
        told(&tally(10, 10, 20, MS)).as_deref(),
        Some("75 % of 40 requests were answered with 5xx or lost")
    );
    assert_eq!(told(&tally(0, 19, 0, MS)), None, "too few to say");
    assert_eq!(told(&tally(51, 49, 0, MS)), None, "less than half");
}

#[test]
fn what_fails_everywhere_is_nobodys_fault() {
    let (well, bad) = (tally(100, 0, 0, MS), tally(0, 100, 0, MS));
    assert_eq!(judge(&bad, &[bad, bad]), None);
    assert_eq!(judge(&bad, &[]), None, "nobody to compare with");
    assert_eq!(judge(&bad, &[tally(9, 0, 0, MS)]), None, "too few");
    assert_eq!(judge(&bad, &[bad, well]), None, "half of them fail");
    assert!(judge(&bad, &[bad, well, well]).is_some());
    let shaky = tally(88, 12, 0, MS);
    assert_eq!(judge(&bad, &[shaky]), None, "not so far above");
}

#[test]
fn one_that_is_far_slower_is_an_outlier() {
    let quick = tally(100, 0, 0, 20 * MS);
    let told = |took| judge(&tally(100, 0, 0, took), &[quick, quick]);
    assert!(matches!(told(400 * MS), Some(Offence::Slow { .. })));
    assert_eq!(told(30 * MS), None);
    // Three times as slow is nothing among times that are nothing.
    let instant = tally(100, 0, 0, MS);
    assert_eq!(judge(&tally(100, 0, 0, 20 * MS), &[instant]), None);
    let all = tally(100, 0, 0, 900 * MS);
    assert_eq!(judge(&all, &[all, all]), None);
}

#[test]
fn the_window_forgets() {
    let start = crate::beginning();
    let mut window = Window::default();
    for second in 0..25 {
        window.add(start + 1000 * MS * second, &tally(1, 0, 0, MS));
    }
    let now = start + 24_000 * MS;
    assert_eq!(window.tally(now).answered, 10);
    assert_eq!(window.tally(now + WINDOW / 2).answered, 5);
    assert!(window.tally(now + WINDOW).is_empty());
    assert!(window.slots.len() <= 11);
}

#[test]
fn each_ejection_is_longer_until_the_past_is_forgiven() {
    let offence = Offence::Fails {
        failed: 1,
        lost: 0,
        of: 1,
    };
    let (mut ejection, mut now) = (Ejection::default(), crate::beginning());
    let mut pauses = Vec::new();
    for _ in 0..7 {
        let pause = ejection.begin(now, offence);
        pauses.push(pause.as_secs());
        assert!(!ejection.ends(now));
        now += pause;
        assert!(ejection.ends(now) && !ejection.ends(now));
        assert_eq!(ejection.returned_at(), Some(now));
    }
    assert_eq!(pauses, [10, 20, 40, 80, 160, 300, 300]);
    assert_eq!(ejection.begin(now + FORGIVEN, offence).as_secs(), 10);
}

#[test]
fn gateway_errors_are_failures_and_what_is_not_there_is_none() {
    let failing: Vec<u16> = (100..600).filter(|status| is_failing(*status)).collect();
    assert!(
        [500, 502, 503, 504, 520]
            .iter()
            .all(|s| failing.contains(s))
    );
    assert!(
        [200, 404, 429, 499, 501, 505]
            .iter()
            .all(|s| !failing.contains(s))
    );
}

proptest! {
    /// However many offend, no more than the share is set aside, and never all.
    #[test]
    fn the_ceiling_holds(count in 0usize..50, share in 0.0f64..0.99) {
        let passive = Passive { max_ejected: share };
        let mut ejected = 0;
        while passive.allows(ejected, count) {
            ejected += 1;
        }
        prop_assert!(ejected as f64 <= share * count as f64);
        prop_assert!(count == 0 || ejected < count);
    }

    /// Endpoints that are alike are never told apart.
    #[test]
    fn equals_are_equal(good in 0u32..500, failed in 0u32..500, lost in 0u32..50, took in 0u64..10_000, others in 0usize..6) {
        let one = tally(good, failed, lost, Duration::from_millis(took));
        prop_assert_eq!(judge(&one, &vec![one; others]), None);
    }
}

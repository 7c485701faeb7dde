use super::*;
use proptest::prelude::*;

#[test]
fn a_quiet_origin_has_the_floor() {
    let now = crate::beginning();
    let mut budget = Budget::new(now, 0.2, 10);
    let granted = (0..1000)
        .filter(|_| budget.withdraw(now) == Permit::Granted)
        .count();
    assert_eq!(granted, 100);
    assert_eq!(budget.withdraw(now + WINDOW), Permit::Granted);
}

#[test]
fn a_share_that_is_no_number_is_none() {
    let now = crate::beginning();
    let mut budget = Budget::new(now, f64::NAN, 0);
    budget.deposit(now);
    assert_eq!(budget.withdraw(now), Permit::Refused);
}

proptest! {
    /// In any window, retries stay within the share of the requests and the floor.
    #[test]
    fn never_more_than_the_budget(share in 0.0f64..=1.0, floor in 0u32..5, facts in prop::collection::vec((any::<bool>(), 0u64..400), 0..400)) {
        let start = crate::beginning();
        let mut budget = Budget::new(start, share, floor);
        let (mut now, mut requests, mut retries) = (start, Vec::new(), Vec::new());
        for (request, millis) in facts {
            now += Duration::from_millis(millis);
            if request {
                budget.deposit(now);
                requests.push(now);
            } else if budget.withdraw(now) == Permit::Granted {
                retries.push(now);
                let recent = |list: &[Instant], window| list.iter().filter(|at| now - **at < window).count() as f64;
                // Whole slots are counted: up to one slot less than the window.
                let made = recent(&retries, WINDOW - WINDOW / SLOTS as u32);
                prop_assert!(made <= recent(&requests, WINDOW) * share + f64::from(floor) * WINDOW.as_secs_f64() + 1e-9);
            }
        }
    }
}

use super::*;
use crate::beginning;

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

#[test]
fn what_is_said_now_and_then_is_said() {
    let (mut storms, mut now) = (Storms::default(), beginning());
    for count in 0..100 {
        assert_eq!(storms.admit(now, 1, count), Some(count));
        now += seconds(3);
        assert_eq!(storms.due(now), []);
    }
}

#[test]
fn a_storm_becomes_one_line_with_a_count_and_that_less_and_less_often() {
    let (mut storms, began) = (Storms::default(), beginning());
    let (mut said, mut told) = (0, Vec::new());
    for tenth in 0..36_000_u64 {
        let now = began + Duration::from_millis(tenth * 100);
        told.extend(storms.due(now));
        said += u32::from(storms.admit(now, 7, tenth).is_some());
    }
    assert_eq!(said, SAID);
    assert!((12..30).contains(&told.len()), "{}", told.len());
    assert_eq!((told[0].count, told[0].within), (95, WINDOW));
    let left = storms.end(began + seconds(3600));
    let counted: u64 = told.iter().chain(&left).map(|summary| summary.count).sum();
    assert_eq!(counted + u64::from(said), 36_000, "nothing is missing");
    assert_eq!(told.last().map(|summary| summary.within), Some(LONGEST));
}

#[test]
fn after_a_calm_it_is_said_again() {
    let (mut storms, began) = (Storms::default(), beginning());
    for _ in 0..10 {
        storms.admit(began, 7, ());
    }
    let wakeup = storms.wakeup();
    assert_eq!(wakeup, Some(began + WINDOW));
    assert_eq!(storms.due(began + WINDOW).len(), 1);
    assert_eq!(storms.wakeup(), None);
    let later = began + WINDOW * 4;
    assert_eq!(storms.due(later), []);
    assert_eq!(storms.admit(later, 7, ()), Some(()));
}

#[test]
fn what_differs_is_no_storm_and_the_table_has_a_bound() {
    let (mut storms, began) = (Storms::default(), beginning());
    for key in 0..10_000 {
        assert_eq!(storms.admit(began, key, ()), Some(()));
    }
    assert_eq!(storms.cases.len(), KINDS);
    let later = began + WINDOW;
    for key in 20_000..20_010 {
        assert_eq!(storms.admit(later, key, ()), Some(()));
    }
    assert_eq!(storms.cases.len(), 10);
}

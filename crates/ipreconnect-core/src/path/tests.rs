use super::*;
use proptest::prelude::*;

#[test]
fn a_fast_path_has_the_floor() {
    let mut path = PathHistory::default();
    assert_eq!(path.hangs_after(), HANG_UNKNOWN);
    for _ in 0..10 {
        path.observe(Duration::from_micros(80));
    }
    assert_eq!(path.hangs_after(), HANG_FLOOR);
}

#[test]
fn a_slow_path_is_given_its_time() {
    let mut path = PathHistory::default();
    for _ in 0..50 {
        path.observe(Duration::from_millis(300));
    }
    assert!(path.hangs_after() >= Duration::from_millis(300));
    assert!(path.hangs_after() <= Duration::from_millis(350));
}

proptest! {
    #[test]
    fn never_below_the_floor_nor_the_steady_round_trip(times in prop::collection::vec(0u64..u64::MAX / 2, 1..50)) {
        let mut path = PathHistory::default();
        for nanos in &times {
            path.observe(Duration::from_nanos(*nanos));
        }
        prop_assert!(path.hangs_after() >= HANG_FLOOR);
        let (low, high) = (times.iter().min().unwrap(), times.iter().max().unwrap());
        let smoothed = path.smoothed().unwrap();
        prop_assert!(smoothed <= Duration::from_nanos(*high));
        prop_assert!(smoothed + Duration::from_nanos(8 * times.len() as u64) >= Duration::from_nanos(*low));
    }
}

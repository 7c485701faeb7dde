use proptest::prelude::*;

use super::*;

#[test]
fn nothing_has_no_median() {
    assert_eq!(Times::default().median(), None);
}

proptest! {
    /// The median is right to half an octave, whatever is counted.
    #[test]
    fn the_median_is_near(mut micros in proptest::collection::vec(1_024u64..30_000_000, 1..200)) {
        let mut times = Times::default();
        for took in &micros {
            times.add(Duration::from_micros(*took));
        }
        micros.sort_unstable();
        let exact = micros[micros.len().div_ceil(2) - 1] as f64;
        let found = times.median().unwrap().as_micros() as f64;
        prop_assert!(found >= exact / 1.5 - 1.0 && found <= exact * 1.5 + 1.0, "{} {}", found, exact);
        prop_assert_eq!(times.count() as usize, micros.len());
    }

    /// Every time has its step, and steps do not overlap.
    #[test]
    fn steps_follow_each_other(micros in 0u64..40_000_000) {
        let took = Duration::from_micros(micros);
        let step = step(took);
        prop_assert!(begin(step) <= took);
        prop_assert!(step == STEPS - 1 || took < begin(step + 1));
    }
}

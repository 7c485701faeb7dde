use super::*;
use proptest::prelude::*;

proptest! {
    /// The opinion is exactly what the last run of equal facts says.
    #[test]
    fn opinion_follows_the_last_run(down_after in 0u32..5, up_after in 0u32..5, facts in prop::collection::vec(any::<bool>(), 0..40)) {
        let mut detector = Detector::new(Thresholds { down_after, up_after });
        for fact in &facts {
            if *fact { detector.succeeded(); } else { detector.failed(); }
        }
        let run = facts.iter().rev().take_while(|fact| Some(*fact) == facts.last()).count() as u32;
        let expected = match facts.last() {
            None => Opinion::None,
            Some(true) if run >= up_after.max(1) => Opinion::Good,
            Some(true) => Opinion::Better,
            Some(false) if run >= down_after.max(1) => Opinion::Bad,
            Some(false) => Opinion::Doubtful,
        };
        prop_assert_eq!(detector.opinion(), expected);
    }
}

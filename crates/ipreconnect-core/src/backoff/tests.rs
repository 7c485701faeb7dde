use super::*;
use proptest::prelude::*;

const MS: Duration = Duration::from_millis(1);

fn jitters() -> impl Strategy<Value = Jitter> {
    prop::sample::select(vec![
        Jitter::Full,
        Jitter::Equal,
        Jitter::Decorrelated,
        Jitter::None,
    ])
}

#[test]
fn without_jitter_it_doubles_to_the_cap() {
    let settings = BackoffSettings::new(50 * MS, 2.0, 500 * MS, Jitter::None, 7).unwrap();
    let (mut backoff, mut dice) = (Backoff::new(settings), Dice::new(1));
    let delays: Vec<_> = std::iter::from_fn(|| backoff.next(&mut dice))
        .map(|d| d.as_millis())
        .collect();
    assert_eq!(delays, [0, 50, 100, 200, 400, 500, 500]);
    assert!(backoff.is_exhausted());
    backoff.reset();
    assert_eq!(backoff.next(&mut dice), Some(Duration::ZERO));
}

#[test]
fn settings_that_cannot_work_are_refused() {
    let new =
        |first, factor, max| BackoffSettings::new(first, factor, max, Jitter::Full, 0).unwrap_err();
    assert_eq!(new(50 * MS, 0.5, 100 * MS), BackoffError::Factor);
    assert_eq!(new(50 * MS, f64::NAN, 100 * MS), BackoffError::Factor);
    assert_eq!(new(Duration::ZERO, 2.0, 100 * MS), BackoffError::First);
    assert_eq!(new(50 * MS, 2.0, 40 * MS), BackoffError::Max);
}

proptest! {
    /// Whatever the settings: at once first, never beyond the cap nor below what the jitter allows,
    /// exactly as many as asked, and no overflow.
    #[test]
    fn delays_keep_their_bounds(
        seed: u64, jitter in jitters(), first in 1u64..u64::MAX / 4, factor in 1.0f64..1e300,
        more in 0u64..u64::MAX / 4, attempts in 0u32..50,
    ) {
        let (first, max) = (Duration::from_nanos(first), Duration::from_nanos(first + more));
        let settings = BackoffSettings::new(first, factor, max, jitter, attempts).unwrap();
        let (mut backoff, mut dice) = (Backoff::new(settings), Dice::new(seed));
        let delays: Vec<_> = std::iter::from_fn(|| backoff.next(&mut dice)).take(200).collect();
        prop_assert_eq!(delays.len(), if attempts == 0 { 200 } else { attempts as usize });
        if let Some((at_once, rest)) = delays.split_first() {
            prop_assert!(at_once.is_zero());
            for delay in rest {
                prop_assert!(*delay <= max);
                match jitter {
                    Jitter::Full => {}
                    Jitter::Equal => prop_assert!(*delay >= first / 2),
                    Jitter::Decorrelated | Jitter::None => prop_assert!(*delay >= first),
                }
            }
        }
    }
}

//! The randomness of a part, by way.

use super::EachWay;

pub(super) type Dice = EachWay<fastrand::Rng>;

/// Dice whose throws are determined by `seed`, different each way.
pub(super) fn dice(seed: u64) -> Dice {
    let mut first = fastrand::Rng::with_seed(seed);
    let second = first.fork();
    EachWay {
        to_origin: first,
        to_client: second,
    }
}

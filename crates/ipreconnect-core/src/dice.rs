//! Dice: the only randomness of the core, seeded from outside.

use std::time::Duration;

/// A seeded random number generator.
///
/// It is deliberately not `Clone`: a copied generator repeats its throws, and two schedules that
/// were meant to spread out would then fire together.
#[derive(Debug)]
pub struct Dice(fastrand::Rng);

impl Dice {
    /// Dice whose throws are determined by `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(fastrand::Rng::with_seed(seed))
    }

    /// A number in `0..bound`; 0 if `bound` is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        if bound == 0 { 0 } else { self.0.u64(0..bound) }
    }

    /// A number in `[0, 1)`.
    pub fn unit(&mut self) -> f64 {
        self.0.f64()
    }

    /// A duration between the two, both included, in whatever order they are given.
    pub fn between(&mut self, a: Duration, b: Duration) -> Duration {
        let (low, high) = if a <= b { (a, b) } else { (b, a) };
        let span = u64::try_from((high - low).as_nanos()).unwrap_or(u64::MAX);
        low.saturating_add(Duration::from_nanos(self.0.u64(0..=span)))
    }

    /// A seed for other dice.
    pub fn seed(&mut self) -> u64 {
        self.0.u64(..)
    }
}

use super::dice::{Dice, dice};
use super::{Part, Passage};
use std::time::Duration;

/// Everything comes later, each piece by another time.
///
/// It says nothing of order: a stream keeps it in its own queue.
pub(in crate::link) struct Jitter {
    up_to: Duration,
    dice: Dice,
}

impl Jitter {
    pub(in crate::link) fn new(up_to: Duration, seed: u64) -> Self {
        Self {
            up_to,
            dice: dice(seed),
        }
    }
}

impl Part for Jitter {
    fn pass(&mut self, passage: &mut Passage) {
        let span = u64::try_from(self.up_to.as_nanos()).unwrap_or(u64::MAX);
        let by = self.dice.of(passage.way).u64(0..=span);
        passage.delay(Duration::from_nanos(by));
    }
}

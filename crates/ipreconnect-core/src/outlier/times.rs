//! Times in steps of half an octave: enough to tell three times as slow, and cheap to count.

use std::time::Duration;

/// Steps: all below a millisecond, then two an octave, up to 46 seconds.
const STEPS: usize = 32;
/// The first step ends at two to this many microseconds.
const FIRST: u32 = 10;

/// How many took how long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Times([u32; STEPS]);

impl Times {
    /// Counts one.
    pub fn add(&mut self, took: Duration) {
        if let Some(count) = self.0.get_mut(step(took)) {
            *count = count.saturating_add(1);
        }
    }

    /// Adds what was counted elsewhere.
    pub fn merge(&mut self, other: &Self) {
        for (count, more) in self.0.iter_mut().zip(&other.0) {
            *count = count.saturating_add(*more);
        }
    }

    /// How many.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.0
            .iter()
            .fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// What half of them took at least, exact to a step and nearer where many are in it.
    #[must_use]
    pub fn median(&self) -> Option<Duration> {
        let wanted = self.count().div_ceil(2);
        let mut before = 0u32;
        for (step, count) in self.0.iter().enumerate() {
            let after = before.saturating_add(*count);
            if *count > 0 && after >= wanted {
                let (from, to) = (begin(step), begin(step + 1));
                return Some(
                    from + (to - from).mul_f64(f64::from(wanted - before) / f64::from(*count)),
                );
            }
            before = after;
        }
        None
    }
}

fn step(took: Duration) -> usize {
    let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
    let Some(octave) = micros
        .checked_ilog2()
        .and_then(|log| log.checked_sub(FIRST))
    else {
        return 0;
    };
    let half = (micros >> (octave + FIRST - 1)) & 1;
    let step = 1 + 2 * octave as usize + usize::from(half == 1);
    step.min(STEPS - 1)
}

/// The shortest time of a step.
fn begin(step: usize) -> Duration {
    let Some(step) = step.checked_sub(1) else {
        return Duration::ZERO;
    };
    let octave = 1u64 << (FIRST as usize + step / 2);
    Duration::from_micros(octave + if step % 2 == 1 { octave / 2 } else { 0 })
}

#[cfg(test)]
mod tests;

//! How long an endpoint takes for what it is asked, each by itself: a report that always takes its time is
//! not late, and what is late for a page is nothing for a report.

use std::time::Duration;

/// What is remembered at once; of more, those that are asked for most often.
const SLOTS: usize = 128;
/// Two for each doubling of time.
const BUCKETS: usize = 52;
/// The first bucket ends here.
const FINEST: Duration = Duration::from_micros(64);
/// Answers until anything can be said.
const FEWEST: u32 = 50;
/// Answers after which older ones count half.
const MOST: u32 = 1000;
/// Nothing is late before this.
const FLOOR: Duration = Duration::from_millis(20);
/// What is late, in parts of the 99th percentile: the wider the times lie anyway, the more.
const FACTORS: (f64, f64) = (1.5, 4.0);

/// The times of one endpoint's answers.
#[derive(Clone, Debug, Default)]
pub struct Pace {
    slots: Vec<Slot>,
}

#[derive(Clone, Debug)]
struct Slot {
    key: u64,
    /// How often others may ask for its place before it is theirs.
    credit: u32,
    count: u32,
    buckets: [u16; BUCKETS],
}

impl Slot {
    fn new(key: u64) -> Self {
        Self {
            key,
            credit: 1,
            count: 0,
            buckets: [0; BUCKETS],
        }
    }

    fn add(&mut self, took: Duration) {
        if let Some(bucket) = self.buckets.get_mut(bucket_of(took)) {
            *bucket = bucket.saturating_add(1);
        }
        self.count += 1;
        self.credit = self.credit.saturating_add(1).min(MOST);
        if self.count >= MOST {
            for bucket in &mut self.buckets {
                *bucket /= 2;
            }
            self.count = self.buckets.iter().map(|count| u32::from(*count)).sum();
        }
    }

    /// What this share of the answers took at most.
    fn quantile(&self, share: f64) -> Duration {
        let wanted = f64::from(self.count) * share;
        let mut sum = 0;
        let reached = self.buckets.iter().position(|count| {
            sum += u32::from(*count);
            f64::from(sum) >= wanted
        });
        end_of(reached.unwrap_or(BUCKETS - 1))
    }
}

fn bucket_of(took: Duration) -> usize {
    let parts = took.as_secs_f64() / FINEST.as_secs_f64();
    if parts <= 1.0 {
        return 0;
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a logarithm of a time is small, and not negative beyond 1"
    )]
    let bucket = (parts.log2() * 2.0).ceil() as usize;
    bucket.min(BUCKETS - 1)
}

fn end_of(bucket: usize) -> Duration {
    let halves = u32::try_from(bucket).unwrap_or(u32::MAX);
    FINEST.mul_f64((f64::from(halves) / 2.0).exp2())
}

impl Pace {
    /// An answer to `key` took so long, or was waited for so long in vain.
    pub fn add(&mut self, key: u64, took: Duration) {
        let Some(at) = place_of(key) else { return };
        if self.slots.is_empty() {
            self.slots = (0..SLOTS).map(|_| Slot::new(0)).collect();
        }
        let Some(slot) = self.slots.get_mut(at) else {
            return;
        };
        if slot.key != key {
            slot.credit = slot.credit.saturating_sub(1);
            if slot.credit > 0 {
                return;
            }
            *slot = Slot::new(key);
        }
        slot.add(took);
    }

    /// After how long the answer to `key` is later than any that is usual; `None` while too little is
    /// known of it.
    #[must_use]
    pub fn late_after(&self, key: u64) -> Option<Duration> {
        let slot = self.slots.get(place_of(key)?)?;
        if slot.key != key || slot.count < FEWEST {
            return None;
        }
        let (middle, high) = (slot.quantile(0.5), slot.quantile(0.99));
        let spread = high.as_secs_f64() / middle.as_secs_f64();
        let factor = spread.clamp(FACTORS.0, FACTORS.1);
        Some(high.mul_f64(factor).max(FLOOR))
    }
}

fn place_of(key: u64) -> Option<usize> {
    usize::try_from(key % SLOTS as u64).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MILLISECOND: Duration = Duration::from_millis(1);

    #[test]
    fn what_is_late_depends_on_what_is_usual() {
        let mut pace = Pace::default();
        assert_eq!(pace.late_after(1), None);
        for count in 0..FEWEST {
            assert_eq!(pace.late_after(1), None, "{count}");
            pace.add(1, MILLISECOND);
            pace.add(2, 300 * MILLISECOND);
            pace.add(3, 20 * MILLISECOND * (1 + count));
        }
        assert_eq!(pace.late_after(1), Some(FLOOR));
        let report = pace.late_after(2).unwrap();
        assert!(report > 400 * MILLISECOND, "{report:?}");
        let poll = pace.late_after(3).unwrap();
        assert!(poll > 1500 * MILLISECOND, "{poll:?}");
    }

    #[test]
    fn what_is_asked_for_often_keeps_its_place() {
        let (often, other) = (7, 7 + SLOTS as u64);
        let mut pace = Pace::default();
        for _ in 0..200 {
            pace.add(often, MILLISECOND);
        }
        for once in 0..100 {
            pace.add(other + once * SLOTS as u64, MILLISECOND);
        }
        assert!(pace.late_after(often).is_some());
        for _ in 0..500 {
            pace.add(other, 50 * MILLISECOND);
        }
        assert_eq!(pace.late_after(often), None);
        assert!(pace.late_after(other).unwrap() > 50 * MILLISECOND);
    }

    #[test]
    fn a_change_of_pace_is_learned() {
        let mut pace = Pace::default();
        for _ in 0..5000 {
            pace.add(1, 500 * MILLISECOND);
        }
        for _ in 0..10_000 {
            pace.add(1, MILLISECOND);
        }
        assert!(pace.late_after(1).unwrap() < 100 * MILLISECOND);
    }

    proptest! {
        #[test]
        fn nothing_usual_is_late(times in prop::collection::vec(0_u64..10_000_000, 60..400)) {
            let mut pace = Pace::default();
            for time in &times {
                pace.add(9, Duration::from_micros(*time));
            }
            let late = pace.late_after(9).unwrap();
            let beyond = times.iter().filter(|time| Duration::from_micros(**time) > late).count();
            prop_assert!(beyond * 50 <= times.len(), "{beyond} of {} are late", times.len());
        }
    }
}

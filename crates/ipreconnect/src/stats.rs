//! What is counted of the clients of an origin.
//!
//! Each worker counts in cache lines of its own; sums are made by those who want them.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Workers that count apart; those beyond share.
const DESKS: usize = 16;

/// The upper ends of the steps that response times are counted in; the last step has none.
pub const STEPS: [Duration; 20] = [
    Duration::from_micros(100),
    Duration::from_micros(250),
    Duration::from_micros(500),
    Duration::from_millis(1),
    Duration::from_micros(2_500),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(25),
    Duration::from_millis(50),
    Duration::from_millis(75),
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_millis(750),
    Duration::from_secs(1),
    Duration::from_millis(2_500),
    Duration::from_secs(5),
    Duration::from_secs(10),
    Duration::from_secs(30),
    Duration::from_secs(60),
];

/// Counters of one origin.
#[derive(Debug)]
pub struct Stats {
    desks: Box<[Desk]>,
}

/// The counters of one worker, written by it alone as long as there are no more than 16.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Desk {
    classes: [AtomicU64; 5],
    held: AtomicU64,
    retried: AtomicU64,
    lost: AtomicU64,
    steps: [AtomicU64; STEPS.len() + 1],
    micros: AtomicU64,
}

/// How a request or a stream went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The status of the answer over HTTP; 0 of everything else.
    pub status: u16,
    /// It waited for the origin, which was away.
    pub was_held: bool,
    /// It was sent again.
    pub was_retried: bool,
    /// It came to nothing because of the origin.
    pub was_lost: bool,
    /// From the first byte of the request to the first one of the answer.
    pub first_byte: Option<Duration>,
}

/// What was counted since the origin began.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Answers over HTTP by the first digit of their status, from 1.
    pub classes: [u64; 5],
    /// Requests and connections that waited for the origin.
    pub held: u64,
    /// Requests that were sent again.
    pub retried: u64,
    /// Requests and streams that came to nothing because of the origin.
    pub lost: u64,
    /// Response times, by the [`STEPS`].
    pub times: Times,
}

/// Response times, by the [`STEPS`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Times {
    /// How many were in each step.
    pub steps: [u64; STEPS.len() + 1],
    /// The sum of all of them.
    pub sum: Duration,
}

impl Stats {
    pub(crate) fn new() -> Self {
        Self::with(DESKS)
    }

    /// With so many desks, and at least one.
    pub(crate) fn with(desks: usize) -> Self {
        Self {
            desks: (0..desks.max(1)).map(|_| Desk::default()).collect(),
        }
    }

    /// Where a worker counts.
    #[must_use]
    pub fn desk(&self, worker: u16) -> &Desk {
        match self.desks.get(usize::from(worker) % self.desks.len()) {
            Some(desk) => desk,
            None => unreachable!("a remainder is a desk"),
        }
    }

    /// The sum over all workers.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for desk in &self.desks {
            desk.add_to(&mut counts);
        }
        counts
    }
}

impl Desk {
    /// Counts a request, or a stream, when it is over.
    pub fn count(&self, outcome: &Outcome) {
        let class = usize::from(outcome.status / 100).checked_sub(1);
        if let Some(class) = class.and_then(|class| self.classes.get(class)) {
            class.fetch_add(1, Relaxed);
        }
        for (is_so, counter) in [
            (outcome.was_held, &self.held),
            (outcome.was_retried, &self.retried),
            (outcome.was_lost, &self.lost),
        ] {
            if is_so {
                counter.fetch_add(1, Relaxed);
            }
        }
        if let Some(time) = outcome.first_byte {
            self.answered(time);
        }
    }

    /// Counts an answer.
    pub fn answered(&self, after: Duration) {
        let step = STEPS.partition_point(|end| *end < after);
        if let Some(step) = self.steps.get(step) {
            step.fetch_add(1, Relaxed);
        }
        let micros = u64::try_from(after.as_micros()).unwrap_or(u64::MAX);
        self.micros.fetch_add(micros, Relaxed);
    }

    fn add_to(&self, counts: &mut Counts) {
        for (sum, class) in counts.classes.iter_mut().zip(&self.classes) {
            *sum += class.load(Relaxed);
        }
        for (sum, step) in counts.times.steps.iter_mut().zip(&self.steps) {
            *sum += step.load(Relaxed);
        }
        counts.held += self.held.load(Relaxed);
        counts.retried += self.retried.load(Relaxed);
        counts.lost += self.lost.load(Relaxed);
        counts.times.sum += Duration::from_micros(self.micros.load(Relaxed));
    }
}

impl Times {
    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        let steps = self.steps.iter();
        steps.fold(0, |sum, step| sum.saturating_add(*step))
    }

    /// The time that this part of them, from 0 to 1, did not exceed: within its step taken to grow evenly.
    /// `None` of none. What is beyond the last step is told as its beginning.
    #[must_use]
    pub fn quantile(&self, part: f64) -> Option<Duration> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        #[expect(clippy::cast_precision_loss, reason = "steps are far less exact")]
        let wanted = part.clamp(0.0, 1.0) * count as f64;
        let mut before = 0.0;
        for (at, in_step) in self.steps.iter().enumerate() {
            #[expect(clippy::cast_precision_loss, reason = "as above")]
            let in_step = *in_step as f64;
            if in_step > 0.0 && before + in_step >= wanted {
                let begin = at.checked_sub(1).and_then(|at| STEPS.get(at).copied());
                let begin = begin.unwrap_or_default();
                let Some(end) = STEPS.get(at) else {
                    return Some(begin);
                };
                let within = ((wanted - before) / in_step).clamp(0.0, 1.0);
                return Some(begin + (*end - begin).mul_f64(within));
            }
            before += in_step;
        }
        None
    }

    /// Adds others.
    pub fn add(&mut self, others: &Self) {
        for (sum, step) in self.steps.iter_mut().zip(&others.steps) {
            *sum = sum.saturating_add(*step);
        }
        self.sum = self.sum.saturating_add(others.sum);
    }
}

impl Counts {
    /// What was counted since `before`.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        let mut since = self.clone();
        for (now, before) in since.classes.iter_mut().zip(&before.classes) {
            *now = now.saturating_sub(*before);
        }
        for (now, before) in since.times.steps.iter_mut().zip(&before.times.steps) {
            *now = now.saturating_sub(*before);
        }
        since.held = since.held.saturating_sub(before.held);
        since.retried = since.retried.saturating_sub(before.retried);
        since.lost = since.lost.saturating_sub(before.lost);
        since.times.sum = since.times.sum.saturating_sub(before.times.sum);
        since
    }

    /// Answers over HTTP.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.classes.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_workers_count_is_summed_up() {
        let stats = Stats::new();
        let outcome = Outcome {
            status: 200,
            was_retried: true,
            first_byte: Some(Duration::from_millis(3)),
            ..Outcome::default()
        };
        for worker in 0..4 {
            stats.desk(worker).count(&outcome);
        }
        let before = stats.counts();
        assert_eq!(before.classes, [0, 4, 0, 0, 0]);
        assert_eq!((before.retried, before.held, before.lost), (4, 0, 0));
        assert_eq!(before.times.sum, Duration::from_millis(12));
        stats.desk(0).count(&Outcome {
            status: 999,
            was_lost: true,
            ..Outcome::default()
        });
        let since = stats.counts().since(&before);
        assert_eq!(
            (since.requests(), since.lost, since.times.count()),
            (0, 1, 0)
        );
    }

    #[test]
    fn quantiles_are_within_their_step() {
        let stats = Stats::new();
        assert_eq!(stats.counts().times.quantile(0.5), None);
        for millis in 1..=100 {
            stats.desk(0).answered(Duration::from_millis(millis));
        }
        let times = stats.counts().times;
        let median = times.quantile(0.5).unwrap();
        assert!((45..=55).contains(&median.as_millis()), "{median:?}");
        let most = times.quantile(0.99).unwrap();
        assert!((95..=100).contains(&most.as_millis()), "{most:?}");
        stats.desk(0).answered(Duration::from_secs(900));
        let all = stats.counts().times.quantile(1.0);
        assert_eq!(all, STEPS.last().copied());
    }
}

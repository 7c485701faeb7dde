//! Outliers: endpoints whose real answers are far worse than those of their equals.
//!
//! One endpoint's failures say little: the requests may be at fault, or something behind all of them. So
//! an endpoint is set aside (*ejected*) only beside others that do well with the same work at the same
//! time, never more than a share of them, and for a time. It costs no request of our own.

mod times;

use std::collections::VecDeque;
use std::fmt;
use std::time::{Duration, Instant};

pub use times::Times;

/// What counts is what was seen within this time.
pub const WINDOW: Duration = Duration::from_secs(10);
/// The window moves by this much.
const STEP: Duration = Duration::from_secs(1);
/// Requests without which nobody is convicted.
pub const ENOUGH: u32 = 20;
/// Requests without which another one says nothing.
const WITNESS: u32 = 10;
/// An outlier fails at least this share of its requests, in per cent,
const FAILING: u32 = 50;
/// while more than half of the others fail less than this one.
const WELL: u32 = 10;
/// An outlier takes at least so many times as long as the others, and so much longer.
const SLOWER: u32 = 3;
const SLOWER_BY: Duration = Duration::from_millis(50);
/// The first ejection, which doubles with every further one up to the last.
const FIRST: Duration = Duration::from_secs(10);
const LAST: Duration = Duration::from_secs(300);
/// An endpoint that stayed for so long is forgiven its past.
const FORGIVEN: Duration = Duration::from_secs(300);

/// How outliers are treated.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Passive {
    /// The most that is set aside of an origin's endpoints, as a share of them.
    pub max_ejected: f64,
}

impl Default for Passive {
    fn default() -> Self {
        Self { max_ejected: 0.5 }
    }
}

impl Passive {
    /// Whether one more of `count` endpoints may be set aside beside those that are.
    #[must_use]
    pub fn allows(self, ejected: usize, count: usize) -> bool {
        let (after, count) = (ejected.saturating_add(1) as f64, count as f64);
        after <= self.max_ejected * count
    }
}

/// Whether a status tells of a server that fails: 5xx, but not that it lacks a method or a version.
#[must_use]
pub fn is_failing(status: u16) -> bool {
    matches!(status, 500..=599) && !matches!(status, 501 | 505)
}

/// What became of the requests to one endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Answers.
    pub answered: u32,
    /// Those of them that tell of a server that fails.
    pub failed: u32,
    /// Requests whose connection was lost before the end of their answer, or that were never answered.
    pub lost: u32,
    /// How long answers took to begin.
    pub times: Times,
}

impl Tally {
    /// Adds what was counted elsewhere.
    pub fn merge(&mut self, other: &Self) {
        self.answered = self.answered.saturating_add(other.answered);
        self.failed = self.failed.saturating_add(other.failed);
        self.lost = self.lost.saturating_add(other.lost);
        self.times.merge(&other.times);
    }

    /// Whether nothing was counted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.requests() == 0
    }

    fn requests(&self) -> u32 {
        self.answered.saturating_add(self.lost)
    }

    fn failures(&self) -> u32 {
        self.failed.saturating_add(self.lost)
    }

    /// The failures, in per cent.
    fn share(&self) -> u32 {
        share(self.failures(), self.requests())
    }
}

fn share(part: u32, whole: u32) -> u32 {
    let share = u64::from(part) * 100 / u64::from(whole.max(1));
    u32::try_from(share).unwrap_or(u32::MAX)
}

/// What was counted of late.
#[derive(Debug, Default)]
pub struct Window {
    slots: VecDeque<(Instant, Tally)>,
}

impl Window {
    /// Takes what was counted since the last time.
    pub fn add(&mut self, now: Instant, tally: &Tally) {
        if tally.is_empty() {
            return;
        }
        let is_old =
            |(since, _): &(Instant, Tally)| now.saturating_duration_since(*since) >= WINDOW;
        while self.slots.front().is_some_and(is_old) {
            self.slots.pop_front();
        }
        match self.slots.back_mut() {
            Some((since, slot)) if now.saturating_duration_since(*since) < STEP => {
                slot.merge(tally);
            }
            _ => self.slots.push_back((now, *tally)),
        }
    }

    /// All of the window.
    #[must_use]
    pub fn tally(&self, now: Instant) -> Tally {
        let mut all = Tally::default();
        for (since, slot) in &self.slots {
            if now.saturating_duration_since(*since) < WINDOW {
                all.merge(slot);
            }
        }
        all
    }

    /// Forgets all of it.
    pub fn clear(&mut self) {
        self.slots.clear();
    }
}

/// What an endpoint is set aside for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offence {
    /// It fails where others do not.
    Fails {
        /// Answers that told so.
        failed: u32,
        /// Requests that were lost.
        lost: u32,
        /// Of so many requests.
        of: u32,
    },
    /// It is slow where others are not.
    Slow {
        /// What half of its answers take at least.
        takes: Duration,
        /// The same of the others.
        others: Duration,
        /// Answers.
        of: u32,
    },
}

impl Offence {
    /// How bad it is, compared with others.
    #[must_use]
    pub fn gravity(&self) -> u32 {
        match *self {
            // Who is slow serves all the same.
            Self::Fails { failed, lost, of } => 1_000_000 + share(failed.saturating_add(lost), of),
            Self::Slow { takes, others, .. } => {
                let times = takes.as_millis() / others.as_millis().max(1);
                u32::try_from(times).unwrap_or(u32::MAX).min(999_999)
            }
        }
    }
}

impl fmt::Display for Offence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Fails {
                failed,
                lost: 0,
                of,
            } => write!(f, "{} % of {of} answers were 5xx", share(failed, of)),
            Self::Fails {
                failed: 0,
                lost,
                of,
            } => write!(f, "{} % of {of} requests were lost", share(lost, of)),
            Self::Fails { failed, lost, of } => write!(
                f,
                "{} % of {of} requests were answered with 5xx or lost",
                share(failed.saturating_add(lost), of)
            ),
            Self::Slow { takes, others, of } => write!(
                f,
                "half of {of} answers took longer than {} ms, elsewhere {} ms",
                takes.as_millis(),
                others.as_millis()
            ),
        }
    }
}

/// Judges an endpoint by its own tally and those of the others that take work.
#[must_use]
pub fn judge(own: &Tally, others: &[Tally]) -> Option<Offence> {
    fails(own, others).or_else(|| slow(own, others))
}

fn fails(own: &Tally, others: &[Tally]) -> Option<Offence> {
    let of = own.requests();
    if of < ENOUGH || own.share() < FAILING {
        return None;
    }
    let witnesses = others.iter().filter(|other| other.requests() >= WITNESS);
    let usual = middle(witnesses.map(Tally::share).collect())?;
    (usual < WELL).then_some(Offence::Fails {
        failed: own.failed,
        lost: own.lost,
        of,
    })
}

fn slow(own: &Tally, others: &[Tally]) -> Option<Offence> {
    let of = own.times.count();
    if of < ENOUGH {
        return None;
    }
    let takes = own.times.median()?;
    let witnesses = others.iter().map(|other| &other.times);
    let witnesses = witnesses.filter(|times| times.count() >= WITNESS);
    let others = middle(witnesses.filter_map(Times::median).collect())?;
    let is_slow = takes > others.saturating_mul(SLOWER) && takes >= others + SLOWER_BY;
    is_slow.then_some(Offence::Slow { takes, others, of })
}

/// The one in the middle, and of two the worse: more than half are no worse than it.
fn middle<T: Ord + Copy>(mut values: Vec<T>) -> Option<T> {
    values.sort_unstable();
    values.get(values.len() / 2).copied()
}

/// How often an endpoint was set aside, and until when it is.
#[derive(Debug, Default)]
pub struct Ejection {
    count: u32,
    current: Option<Ejected>,
    ended: Option<Instant>,
}

/// That an endpoint is set aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ejected {
    /// Until when.
    pub until: Instant,
    /// For what.
    pub offence: Offence,
}

impl Ejection {
    /// Sets it aside; returns for how long.
    pub fn begin(&mut self, now: Instant, offence: Offence) -> Duration {
        let is_forgiven = self
            .ended
            .is_some_and(|ended| now.saturating_duration_since(ended) >= FORGIVEN);
        self.count = if is_forgiven { 0 } else { self.count };
        let pause = FIRST.saturating_mul(1 << self.count.min(8)).min(LAST);
        self.count = self.count.saturating_add(1);
        self.current = Some(Ejected {
            until: now + pause,
            offence,
        });
        pause
    }

    /// Whether its time is over; true once.
    pub fn ends(&mut self, now: Instant) -> bool {
        let is_over = self.current.is_some_and(|ejected| now >= ejected.until);
        if is_over {
            self.ended = Some(now);
            self.current = None;
        }
        is_over
    }

    /// Whether it is set aside, and for what.
    #[must_use]
    pub fn current(&self) -> Option<Ejected> {
        self.current
    }

    /// When it came back last, for a slow start.
    #[must_use]
    pub fn returned_at(&self) -> Option<Instant> {
        self.ended
    }
}

#[cfg(test)]
mod tests;

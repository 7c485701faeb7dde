//! When the same is said again and again: a storm of it becomes one line with a count.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// As often as this the same is said within a [`WINDOW`]; what comes beyond is counted.
const SAID: u32 = 5;
/// What is compared, and the time until what was counted is told for the first time.
const WINDOW: Duration = Duration::from_secs(10);
/// While a storm goes on, it is told less and less often.
const LONGEST: Duration = Duration::from_secs(300);
/// Different things that are compared; when there are more, what is new is said without being compared.
const KINDS: usize = 256;

/// What is said, compared with what was said before.
#[derive(Debug)]
pub struct Storms<T> {
    cases: BTreeMap<u64, Case<T>>,
}

#[derive(Debug)]
struct Case<T> {
    /// Since when it is counted.
    since: Instant,
    /// For how long.
    window: Duration,
    said: u32,
    counted: u64,
    /// What was not said, the last of it.
    last: Option<T>,
}

impl<T> Case<T> {
    fn ends(&self) -> Instant {
        self.since + self.window
    }
}

/// What was not said one by one.
#[derive(Debug, PartialEq, Eq)]
pub struct Summary<T> {
    /// The last of it.
    pub last: T,
    /// How often.
    pub count: u64,
    /// Within which time.
    pub within: Duration,
}

impl<T> Default for Storms<T> {
    fn default() -> Self {
        Self {
            cases: BTreeMap::new(),
        }
    }
}

impl<T> Storms<T> {
    /// Gives back what is to be said now, or keeps it. Things with the same key are the same.
    pub fn admit(&mut self, now: Instant, key: u64, thing: T) -> Option<T> {
        if let Some(case) = self.cases.get_mut(&key) {
            if case.window == WINDOW && case.said < SAID && now < case.ends() {
                case.said += 1;
                return Some(thing);
            }
            if case.counted > 0 || now < case.ends() {
                case.counted += 1;
                case.last = Some(thing);
                return None;
            }
        }
        if self.cases.len() >= KINDS && !self.cases.contains_key(&key) {
            self.cases
                .retain(|_, case| case.counted > 0 || now < case.ends());
            if self.cases.len() >= KINDS {
                return Some(thing);
            }
        }
        let case = Case {
            since: now,
            window: WINDOW,
            said: 1,
            counted: 0,
            last: None,
        };
        self.cases.insert(key, case);
        Some(thing)
    }

    /// What was counted long enough and is to be told now.
    pub fn due(&mut self, now: Instant) -> Vec<Summary<T>> {
        let mut due = Vec::new();
        self.cases.retain(|_, case| {
            if now < case.ends() {
                return true;
            }
            let Some(last) = case.last.take() else {
                return false;
            };
            due.push(Summary {
                last,
                count: std::mem::take(&mut case.counted),
                within: now.saturating_duration_since(case.since),
            });
            case.since = now;
            case.window = (case.window * 2).min(LONGEST);
            true
        });
        due
    }

    /// When [`Storms::due`] has something next, if nothing more comes.
    #[must_use]
    pub fn wakeup(&self) -> Option<Instant> {
        let waiting = self.cases.values().filter(|case| case.counted > 0);
        waiting.map(Case::ends).min()
    }

    /// All that was counted and not told yet: for the end of a process.
    pub fn end(&mut self, now: Instant) -> Vec<Summary<T>> {
        let cases = std::mem::take(&mut self.cases).into_values();
        let counted = cases.filter_map(|case| {
            Some(Summary {
                last: case.last?,
                count: case.counted,
                within: now.saturating_duration_since(case.since),
            })
        });
        counted.collect()
    }
}

#[cfg(test)]
mod tests;

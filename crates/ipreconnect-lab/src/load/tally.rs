//! The counters of a running load, and the records of its requests.

use super::{Outcome, Report, Request};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The most names that are told apart.
const MOST_NAMES: usize = 64;
/// What the others are counted under.
const OTHERS: &str = "(others)";

/// The counters of a running load. Each is true by itself; they are not read in one instant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Live {
    /// Requests that the schedule called for.
    pub offered: u64,
    /// Those that were answered.
    pub answered: u64,
    /// Those that ended in any other way.
    pub failed: u64,
}

impl Live {
    /// Requests whose outcome is open.
    #[must_use]
    pub fn in_flight(self) -> u64 {
        self.offered.saturating_sub(self.answered + self.failed)
    }
}

#[derive(Default)]
pub(super) struct Tally {
    offered: AtomicU64,
    answered: AtomicU64,
    failed: AtomicU64,
    records: Mutex<Records>,
}

#[derive(Default)]
struct Records {
    requests: Vec<Request>,
    answers_by_name: BTreeMap<Arc<str>, u64>,
}

impl Tally {
    pub(super) fn offered(&self) {
        self.offered.fetch_add(1, Ordering::Relaxed);
    }

    /// Records how a request ended, and who answered it.
    pub(super) fn record(&self, mut request: Request, name: Option<String>) {
        let counter = match request.outcome {
            Outcome::Answered => &self.answered,
            _ => &self.failed,
        };
        counter.fetch_add(1, Ordering::Relaxed);

        let mut records = self.records();
        if let Some(name) = name {
            let names = &mut records.answers_by_name;
            let known = names
                .get_key_value(&*name)
                .map(|(name, _)| Arc::clone(name));
            let name = known.unwrap_or_else(|| {
                if names.len() < MOST_NAMES {
                    name.into()
                } else {
                    OTHERS.into()
                }
            });
            *names.entry(Arc::clone(&name)).or_default() += 1;
            request.answered_by = Some(name);
        }
        records.requests.push(request);
    }

    pub(super) fn live(&self) -> Live {
        // The outcomes come first, so that there are never more of them than were offered.
        let answered = self.answered.load(Ordering::Relaxed);
        let failed = self.failed.load(Ordering::Relaxed);
        Live {
            offered: self.offered.load(Ordering::Relaxed),
            answered,
            failed,
        }
    }

    /// Hands over the records. `ended` is when the schedule ended, from its start.
    pub(super) fn report(&self, ended: Duration) -> Report {
        let Records {
            requests,
            answers_by_name,
        } = std::mem::take(&mut *self.records());
        let answers_by_name = answers_by_name
            .into_iter()
            .map(|(name, count)| (name.to_string(), count))
            .collect();
        Report::new(requests, answers_by_name, ended)
    }

    fn records(&self) -> MutexGuard<'_, Records> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

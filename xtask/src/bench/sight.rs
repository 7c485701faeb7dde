//! What the clients of one round saw of the fault.

use std::collections::BTreeMap;
use std::time::Duration;

use ipreconnect_lab::load::{Outcome, Report, Request};
use serde::{Deserialize, Serialize};

/// The course of the fault, from the start of the load.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Course {
    /// The last moment before it.
    pub(crate) began: Duration,
    /// The first moment after it was complete: the process was gone, the rules were in force.
    pub(crate) complete: Duration,
    /// When it was mended.
    pub(crate) mended: Option<Duration>,
    /// When the preferred origin answered again after that.
    pub(crate) used_again: Option<Duration>,
}

/// What the clients of one round saw. Times in milliseconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Sight {
    pub(crate) offered: u64,
    pub(crate) answered: u64,
    /// Lost, and in flight when the fault struck: the struck origin may have had them.
    pub(crate) lost_in_flight: u64,
    /// Lost, and begun after the fault.
    pub(crate) lost_after: u64,
    /// The losses by kind.
    pub(crate) kinds: BTreeMap<String, u64>,
    /// The longest time between two consecutive answers.
    pub(crate) longest_stall: f64,
    /// From the fault to the first answer to a request that began after it.
    pub(crate) first_new_answer: Option<f64>,
    /// The slowest answer, from its scheduled time.
    pub(crate) slowest: f64,
    /// How long the fault lasted, if it was mended.
    pub(crate) outage: Option<f64>,
    /// From mending it to the first answer of the preferred origin.
    pub(crate) used_again: Option<f64>,
}

impl Sight {
    pub(crate) fn new(report: &Report, course: &Course) -> Self {
        let lost = || report.requests.iter().filter(|request| !answered(request));
        let new = |request: &&Request| request.scheduled > course.complete;
        let first = report.requests.iter().filter(new).filter(|r| answered(r));
        let first = first.map(Request::ended).min();
        Self {
            offered: report.offered(),
            answered: report.answered(),
            lost_in_flight: lost().filter(|request| !new(request)).count() as u64,
            lost_after: lost().filter(new).count() as u64,
            kinds: kinds(lost()),
            longest_stall: milliseconds(report.longest_stall),
            first_new_answer: first.map(|at| milliseconds(at.saturating_sub(course.complete))),
            slowest: milliseconds(report.max().unwrap_or_default()),
            outage: course
                .mended
                .map(|at| milliseconds(at.saturating_sub(course.began))),
            used_again: course
                .used_again
                .zip(course.mended)
                .map(|(used, mended)| milliseconds(used.saturating_sub(mended))),
        }
    }

    /// The share of the offered requests that was answered, in percent.
    pub(crate) fn share(&self) -> f64 {
        100.0 * self.answered as f64 / self.offered.max(1) as f64
    }
}

fn answered(request: &Request) -> bool {
    request.outcome == Outcome::Answered
}

fn kinds<'a>(lost: impl Iterator<Item = &'a Request>) -> BTreeMap<String, u64> {
    let mut kinds = BTreeMap::new();
    for request in lost {
        *kinds.entry(request.outcome.to_string()).or_default() += 1;
    }
    kinds
}

fn milliseconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 10_000.0).round() / 10.0
}

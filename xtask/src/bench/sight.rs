//! What the clients of one round saw of the fault.

use std::collections::BTreeMap;
use std::time::Duration;

use ipreconnect_lab::load::{Outcome, Request};
use serde::{Deserialize, Serialize};

/// The name of the preferred origin in its answers.
pub(crate) const PREFERRED: &str = "a";
/// The name of the one that a name moves to.
pub(crate) const MOVED: &str = "b";

/// The course of the fault, from the start of the load.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Course {
    /// The last moment before it.
    pub(crate) began: Duration,
    /// The first moment after it was complete: the process was gone, the rules were in force.
    pub(crate) complete: Duration,
    /// When it was mended.
    pub(crate) mended: Option<Duration>,
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
    /// From mending it to the preferred origin's first answer to a request that began after it.
    pub(crate) used_again: Option<f64>,
    /// From the fault to the last request that the preferred origin answered, if another one answered
    /// later.
    pub(crate) left_after: Option<f64>,
}

impl Sight {
    /// `longest_stall` as the load tells it.
    pub(crate) fn new(requests: &[Request], longest_stall: Duration, course: &Course) -> Self {
        let answered = || requests.iter().filter(|request| is_answered(request));
        let lost = || requests.iter().filter(|request| !is_answered(request));
        let is_new = |request: &&Request| request.scheduled > course.complete;
        let first_new = answered().filter(is_new).map(Request::ended).min();
        let slowest = answered().map(|request| request.latency).max();
        Self {
            offered: requests.len() as u64,
            answered: answered().count() as u64,
            lost_in_flight: lost().filter(|request| !is_new(request)).count() as u64,
            lost_after: lost().filter(is_new).count() as u64,
            kinds: kinds(lost()),
            longest_stall: milliseconds(longest_stall),
            first_new_answer: first_new.map(|at| between(course.complete, at)),
            slowest: milliseconds(slowest.unwrap_or_default()),
            outage: course.mended.map(|mended| between(course.began, mended)),
            used_again: course.mended.and_then(|mended| {
                let by_preferred =
                    |request: &&Request| request.answered_by.as_deref() == Some(PREFERRED);
                let after = answered().filter(|request| request.scheduled > mended);
                let used = after.filter(by_preferred).map(Request::ended).min()?;
                Some(between(mended, used))
            }),
            left_after: left_after(requests, course),
        }
    }

    /// The share of the offered requests that was answered, in percent.
    pub(crate) fn share(&self) -> f64 {
        100.0 * self.answered as f64 / self.offered.max(1) as f64
    }
}

/// From the fault to the last request that still went to the preferred origin, if the other one had the
/// last word.
fn left_after(requests: &[Request], course: &Course) -> Option<f64> {
    let last = |name: &str| {
        let by = |request: &&Request| request.answered_by.as_deref() == Some(name);
        let of = requests.iter().filter(|request| is_answered(request));
        of.filter(by).map(|request| request.scheduled).max()
    };
    let (old, new) = (last(PREFERRED), last(MOVED)?);
    match old {
        Some(old) if old > new => None,
        old => Some(between(course.complete, old.unwrap_or_default())),
    }
}

fn is_answered(request: &Request) -> bool {
    request.outcome == Outcome::Answered
}

fn kinds<'a>(lost: impl Iterator<Item = &'a Request>) -> BTreeMap<String, u64> {
    let mut kinds = BTreeMap::new();
    for request in lost {
        *kinds.entry(request.outcome.to_string()).or_default() += 1;
    }
    kinds
}

fn between(from: Duration, to: Duration) -> f64 {
    milliseconds(to.saturating_sub(from))
}

fn milliseconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 10_000.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    const COURSE: Course = Course {
        began: Duration::from_millis(2000),
        complete: Duration::from_millis(2010),
        mended: Some(Duration::from_millis(4000)),
    };

    fn request(scheduled: u64, outcome: Outcome, latency: u64) -> Request {
        Request {
            client: 0,
            number: 0,
            scheduled: Duration::from_millis(scheduled),
            outcome,
            latency: Duration::from_millis(latency),
            answered_by: None,
        }
    }

    fn answered_by(name: &str, scheduled: u64) -> Request {
        Request {
            answered_by: Some(name.into()),
            ..request(scheduled, Outcome::Answered, 50)
        }
    }

    #[test]
    fn what_was_in_flight_is_told_from_what_came_later() {
        let requests = [
            request(1000, Outcome::Answered, 1),
            request(1999, Outcome::Reset, 2),
            request(2005, Outcome::Reset, 1),
            request(2020, Outcome::TimedOut, 5000),
            request(2030, Outcome::Answered, 480),
            request(2040, Outcome::Answered, 490),
            answered_by("a", 3990),
            answered_by("b", 4100),
            answered_by("a", 4200),
        ];
        let sight = Sight::new(&requests, Duration::from_micros(1_509_940), &COURSE);
        assert_eq!((sight.offered, sight.answered), (9, 6));
        assert_eq!((sight.lost_in_flight, sight.lost_after), (2, 1));
        assert_eq!(sight.kinds["reset"], 2);
        assert_eq!(sight.kinds["timed out"], 1);
        assert_eq!(sight.first_new_answer, Some(500.0));
        assert_eq!(sight.longest_stall, 1509.9);
        assert_eq!(sight.slowest, 490.0);
        assert_eq!(sight.outage, Some(2000.0));
        assert_eq!(sight.used_again, Some(250.0));
        assert_eq!(sight.share().floor(), 66.0);
    }

    #[test]
    fn without_answers_there_is_no_first_one() {
        let requests = [request(2500, Outcome::Refused, 0)];
        let sight = Sight::new(&requests, Duration::from_secs(8), &COURSE);
        assert_eq!(sight.first_new_answer, None);
        assert_eq!(sight.share(), 0.0);
    }
}

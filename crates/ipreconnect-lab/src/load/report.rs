//! What the clients of a load saw.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outcome {
    /// With the right answer.
    Answered,
    /// The connect was refused.
    Refused,
    /// The connection was reset.
    Reset,
    /// The connection ended before the answer was complete.
    ClosedEarly,
    /// No answer came before the deadline.
    TimedOut,
    /// Something came that was no answer to this request.
    Garbled,
    /// Nothing was sent: too many requests were in flight, or this machine had no descriptor, port
    /// or route for it.
    Unsent,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Outcome::Answered => "answered",
            Outcome::Refused => "refused",
            Outcome::Reset => "reset",
            Outcome::ClosedEarly => "closed early",
            Outcome::TimedOut => "timed out",
            Outcome::Garbled => "garbled",
            Outcome::Unsent => "unsent",
        })
    }
}

/// One request and its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Whose it was, from 0.
    pub client: u32,
    /// Which of that client's it was, from 0.
    pub number: u64,
    /// When it was to be sent, from the start of the load.
    pub scheduled: Duration,
    /// How it ended.
    pub outcome: Outcome,
    /// How long that took, from the scheduled time.
    pub latency: Duration,
    /// Who answered it.
    pub answered_by: Option<Arc<str>>,
}

impl Request {
    pub(super) fn new(
        client: u32,
        number: u64,
        scheduled: Duration,
        outcome: Outcome,
        ended: Duration,
    ) -> Self {
        Self {
            client,
            number,
            scheduled,
            outcome,
            latency: ended.saturating_sub(scheduled),
            answered_by: None,
        }
    }

    /// When it ended, from the start of the load.
    #[must_use]
    pub fn ended(&self) -> Duration {
        self.scheduled + self.latency
    }
}

/// What the clients of a load saw.
#[derive(Clone, Debug)]
pub struct Report {
    /// Every request, in the order of the schedule.
    pub requests: Vec<Request>,
    /// Answers by the name of the origin that gave them; beyond 64 names, the others together.
    pub answers_by_name: BTreeMap<String, u64>,
    /// How many requests ended in which way; ways that did not occur are left out.
    pub outcomes: BTreeMap<Outcome, u64>,
    /// The longest time without an answer: the largest of the gaps between consecutive answers, from
    /// the start of the schedule to the first answer, and from the last answer to the end of the
    /// schedule, where it ran out or was stopped. Without any answer it is the whole run.
    ///
    /// Clients ask evenly spread, so that a run without faults shows about `every / clients`, and the
    /// millisecond by which the runtime's clock rounds up.
    pub longest_stall: Duration,
    /// The latencies of the answers, in ascending order.
    latencies: Vec<Duration>,
}

impl Report {
    pub(super) fn new(
        mut requests: Vec<Request>,
        answers_by_name: BTreeMap<String, u64>,
        ended: Duration,
    ) -> Self {
        requests.sort_by_key(|request| (request.scheduled, request.client));
        let mut outcomes = BTreeMap::new();
        for request in &requests {
            *outcomes.entry(request.outcome).or_default() += 1;
        }
        let answers = || {
            let all = requests.iter();
            all.filter(|request| request.outcome == Outcome::Answered)
        };
        let mut latencies: Vec<_> = answers().map(|request| request.latency).collect();
        latencies.sort_unstable();
        Self {
            longest_stall: longest_stall(answers().map(Request::ended).collect(), ended),
            latencies,
            outcomes,
            answers_by_name,
            requests,
        }
    }

    /// How many requests the schedule called for.
    #[must_use]
    pub fn offered(&self) -> u64 {
        self.requests.len() as u64
    }

    /// How many were answered.
    #[must_use]
    pub fn answered(&self) -> u64 {
        self.count(Outcome::Answered)
    }

    /// How many ended in any other way.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.offered() - self.answered()
    }

    /// How many ended this way.
    #[must_use]
    pub fn count(&self, outcome: Outcome) -> u64 {
        self.outcomes.get(&outcome).copied().unwrap_or(0)
    }

    /// The latency that half of the answers did not exceed. None without answers.
    #[must_use]
    pub fn p50(&self) -> Option<Duration> {
        self.percentile(50)
    }

    /// The latency that 99 of 100 answers did not exceed. None without answers.
    #[must_use]
    pub fn p99(&self) -> Option<Duration> {
        self.percentile(99)
    }

    /// The latency of the slowest answer. None without answers.
    #[must_use]
    pub fn max(&self) -> Option<Duration> {
        self.percentile(100)
    }

    /// By nearest rank.
    fn percentile(&self, percent: usize) -> Option<Duration> {
        let rank = (self.latencies.len() * percent).div_ceil(100);
        self.latencies.get(rank.checked_sub(1)?).copied()
    }
}

/// The largest gap in the answers of a schedule that began at zero.
fn longest_stall(mut answers: Vec<Duration>, ended: Duration) -> Duration {
    answers.sort_unstable();
    if answers.last().is_none_or(|last| *last < ended) {
        answers.push(ended);
    }
    let from = std::iter::once(&Duration::ZERO).chain(&answers);
    let gaps = from.zip(&answers).map(|(from, to)| *to - *from);
    gaps.max().unwrap_or(ended)
}

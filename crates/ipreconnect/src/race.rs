//! The race of one connect, carried out.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use ipreconnect_core::failure::{Cause, Failure};
use ipreconnect_core::origin::EndpointView;
use ipreconnect_core::race::{Entrant, Race, Step, rank};

use crate::clock;
use crate::meter::Meter;
use crate::snapshot::Snapshot;

/// Endpoints that one race may have.
const RUNNERS: usize = 256;

/// A boxed future that stays on its runtime's thread or not, as its maker says.
pub(crate) type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// An endpoint as it was known when it entered the race.
#[derive(Clone, Debug)]
pub(crate) struct Runner {
    snapshot: Arc<Snapshot>,
    index: usize,
}

impl Runner {
    /// The endpoints of a snapshot in the order in which they are to be dialled.
    pub(crate) fn line_up<'a>(
        snapshot: &'a Arc<Snapshot>,
        order: impl IntoIterator<Item = usize> + 'a,
    ) -> impl Iterator<Item = Self> + 'a {
        let known = snapshot.view().endpoints.len();
        let indices = order.into_iter().filter(move |index| *index < known);
        indices.map(|index| Self {
            snapshot: Arc::clone(snapshot),
            index,
        })
    }

    pub(crate) fn endpoint(&self) -> &EndpointView {
        match self.snapshot.view().endpoints.get(self.index) {
            Some(endpoint) => endpoint,
            None => unreachable!("runners are lined up by indices that exist"),
        }
    }

    /// The counters of the endpoint.
    pub(crate) fn meter(&self) -> Option<&Arc<Meter>> {
        self.snapshot.meter(self.endpoint().id)
    }

    fn entrant(&self) -> Entrant {
        let endpoint = self.endpoint();
        Entrant {
            rank: rank(endpoint.standing, endpoint.priority),
            hangs_after: endpoint.hangs_after,
        }
    }
}

/// What a race is run on.
pub(crate) trait Course {
    fn dial_failed(&self, runner: &Runner, failure: &Failure);
    fn dial_hung(&self, runner: &Runner);
    fn proven(&self, runner: &Runner, took: Duration);
    /// Waits until other endpoints may be there, and returns all that are worth dialling.
    ///
    /// Cancel safety: nothing is lost.
    fn arrivals(&mut self) -> impl Future<Output = Vec<Runner>> + Send;
}

struct Attempt<'a, T> {
    index: usize,
    began: Instant,
    deadline: Instant,
    hangs_at: Option<Instant>,
    future: Boxed<'a, Result<T, Failure>>,
}

/// Dials the runners, sorted by preference, until one is proven. Endpoints that arrive meanwhile join.
///
/// Cancel safety: dropping the future ends all attempts.
pub(crate) async fn run<'a, T>(
    mut runners: Vec<Runner>,
    attempt_delay: Duration,
    timeout: Duration,
    course: &mut impl Course,
    mut dial: impl FnMut(Runner) -> Boxed<'a, Result<T, Failure>>,
) -> Result<T, Failure> {
    let entrants = runners.iter().map(Runner::entrant).collect();
    let mut race = Race::new(entrants, attempt_delay, clock::now());
    let mut attempts: Vec<Attempt<'a, T>> = Vec::with_capacity(2);
    let mut last = Failure::new(Cause::TimedOut);
    loop {
        let now = clock::now();
        let until = match race.step(now) {
            Step::Dial(index) => {
                let Some(runner) = runners.get(index) else {
                    return Err(last);
                };
                attempts.push(Attempt {
                    index,
                    began: now,
                    deadline: now + timeout,
                    hangs_at: Some(now + runner.endpoint().hangs_after),
                    future: dial(runner.clone()),
                });
                // Most dials on a short path end before anything else can happen.
                now
            }
            Step::Wait(until) => until,
            Step::WaitForAttempts => now + timeout,
            Step::Lost => return Err(last),
        };
        match wait(&mut attempts, until, course).await {
            Ended::Nothing => {}
            Ended::Won(index, took, value) => {
                if let Some(runner) = runners.get(index) {
                    course.proven(runner, took);
                }
                return Ok(value);
            }
            Ended::Failed(index, failure) => {
                if failure.cause.is_refusal() {
                    race.refused(index);
                } else {
                    race.failed(index);
                }
                if let Some(runner) = runners.get(index) {
                    course.dial_failed(runner, &failure);
                }
                last = failure;
            }
            Ended::Arrived(arrivals) => let_in(&mut race, &mut runners, arrivals),
        }
        tell_hanging(&mut attempts, &runners, course);
    }
}

/// Lets those into the race who are not in it yet.
fn let_in(race: &mut Race, runners: &mut Vec<Runner>, arrivals: Vec<Runner>) {
    for arrival in arrivals {
        let is_known = |known: &Runner| known.endpoint().id == arrival.endpoint().id;
        if runners.len() < RUNNERS && !runners.iter().any(is_known) {
            race.join(clock::now(), arrival.entrant());
            runners.push(arrival);
        }
    }
}

/// Tells of each attempt once when it begins to hang.
fn tell_hanging<T>(attempts: &mut [Attempt<'_, T>], runners: &[Runner], course: &impl Course) {
    let now = clock::now();
    for attempt in attempts {
        if attempt.hangs_at.is_some_and(|at| now >= at) {
            attempt.hangs_at = None;
            if let Some(runner) = runners.get(attempt.index) {
                course.dial_hung(runner);
            }
        }
    }
}

enum Ended<T> {
    Nothing,
    Won(usize, Duration, T),
    Failed(usize, Failure),
    Arrived(Vec<Runner>),
}

/// Waits for the first attempt to end, or until something else is due.
async fn wait<T>(
    attempts: &mut Vec<Attempt<'_, T>>,
    until: Instant,
    course: &mut impl Course,
) -> Ended<T> {
    let now = clock::now();
    if let Some(ended) = poll_fn(|cx| Poll::Ready(poll_attempts(attempts, cx))).await {
        return ended;
    }
    if until <= now {
        return Ended::Nothing;
    }
    let due = attempts
        .iter()
        .flat_map(|attempt| attempt.hangs_at.into_iter().chain([attempt.deadline]))
        .fold(until, Instant::min);
    let mut sleep = std::pin::pin!(tokio::time::sleep_until(due.into()));
    let mut arrivals = std::pin::pin!(course.arrivals());
    let ended = poll_fn(|cx| {
        if let Some(ended) = poll_attempts(attempts, cx) {
            return Poll::Ready(Some(ended));
        }
        if let Poll::Ready(arrived) = arrivals.as_mut().poll(cx) {
            return Poll::Ready(Some(Ended::Arrived(arrived)));
        }
        sleep.as_mut().poll(cx).map(|()| None)
    })
    .await;
    if let Some(ended) = ended {
        return ended;
    }
    let now = clock::now();
    match attempts.iter().position(|attempt| now >= attempt.deadline) {
        Some(at) => {
            let attempt = attempts.swap_remove(at);
            Ended::Failed(attempt.index, Failure::new(Cause::TimedOut))
        }
        None => Ended::Nothing,
    }
}

fn poll_attempts<T>(
    attempts: &mut Vec<Attempt<'_, T>>,
    cx: &mut std::task::Context<'_>,
) -> Option<Ended<T>> {
    for at in 0..attempts.len() {
        let attempt = attempts.get_mut(at)?;
        if let Poll::Ready(result) = attempt.future.as_mut().poll(cx) {
            let attempt = attempts.swap_remove(at);
            return Some(match result {
                Ok(value) => Ended::Won(attempt.index, attempt.began.elapsed(), value),
                Err(failure) => Ended::Failed(attempt.index, failure),
            });
        }
    }
    None
}

//! The race of one connect, carried out.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use ipreconnect_core::failure::{Cause, Failure};
use ipreconnect_core::origin::EndpointView;
use ipreconnect_core::race::{Entrant, Race, Step};

use crate::clock;

/// A boxed future that stays on its runtime's thread or not, as its maker says.
pub(crate) type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What a race tells while it runs.
pub(crate) trait Spectator {
    fn dial_failed(&self, endpoint: &EndpointView, failure: &Failure);
    fn dial_hung(&self, endpoint: &EndpointView);
    fn proven(&self, endpoint: &EndpointView, took: Duration);
}

struct Attempt<'a, T> {
    index: usize,
    began: Instant,
    deadline: Instant,
    hangs_at: Option<Instant>,
    future: Boxed<'a, Result<T, Failure>>,
}

/// Dials `endpoints`, sorted by preference, until one is proven.
///
/// Cancel safety: dropping the future ends all attempts.
pub(crate) async fn run<'a, T>(
    endpoints: &'a [&'a EndpointView],
    attempt_delay: Duration,
    timeout: Duration,
    spectator: &impl Spectator,
    mut dial: impl FnMut(&'a EndpointView) -> Boxed<'a, Result<T, Failure>>,
) -> Result<T, Failure> {
    let entrants = endpoints
        .iter()
        .map(|endpoint| Entrant {
            priority: endpoint.priority,
            hangs_after: endpoint.hangs_after,
        })
        .collect();
    let mut race = Race::new(entrants, attempt_delay, clock::now());
    let mut attempts: Vec<Attempt<'a, T>> = Vec::with_capacity(2);
    let mut last = Failure::new(Cause::TimedOut);
    loop {
        let now = clock::now();
        let until = match race.step(now) {
            Step::Dial(index) => {
                let Some(endpoint) = endpoints.get(index) else {
                    return Err(last);
                };
                attempts.push(Attempt {
                    index,
                    began: now,
                    deadline: now + timeout,
                    hangs_at: Some(now + endpoint.hangs_after),
                    future: dial(endpoint),
                });
                // Most dials on a short path end before anything else can happen.
                now
            }
            Step::Wait(until) => until,
            Step::WaitForAttempts => now + timeout,
            Step::Lost => return Err(last),
        };
        match wait(&mut attempts, until).await {
            Ended::Nothing => {}
            Ended::Won(index, took, value) => {
                if let Some(endpoint) = endpoints.get(index) {
                    spectator.proven(endpoint, took);
                }
                return Ok(value);
            }
            Ended::Failed(index, failure) => {
                race.failed(index);
                if let Some(endpoint) = endpoints.get(index) {
                    spectator.dial_failed(endpoint, &failure);
                }
                last = failure;
            }
        }
        let now = clock::now();
        for attempt in &mut attempts {
            if attempt.hangs_at.is_some_and(|at| now >= at) {
                attempt.hangs_at = None;
                if let Some(endpoint) = endpoints.get(attempt.index) {
                    spectator.dial_hung(endpoint);
                }
            }
        }
    }
}

enum Ended<T> {
    Nothing,
    Won(usize, Duration, T),
    Failed(usize, Failure),
}

/// Waits for the first attempt to end, or until something else is due.
async fn wait<T>(attempts: &mut Vec<Attempt<'_, T>>, until: Instant) -> Ended<T> {
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
    let ended = poll_fn(|cx| {
        if let Some(ended) = poll_attempts(attempts, cx) {
            return Poll::Ready(Some(ended));
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

//! The judgement on frozen processes: the kernel accepts, acknowledges, and nobody answers.
//!
//! A stopped process looks exactly like one whose clients wait on purpose (a blocking pop, a
//! notification channel), so silence alone never convicts. Three things must come together:
//!
//! 1. history: at least [`SAMPLES`] answered requests say how fast this endpoint answers;
//! 2. silence far beyond it: at least [`WITNESSES`] requests, acknowledged by the peer's kernel and
//!    older than the history allows, while *nothing at all* came from that endpoint since;
//! 3. a counter-check that a living process passes and a stopped one cannot: a connection of our own
//!    that is half-closed at once. A living server closes it, or says something; a stopped one
//!    does neither. It is only believed where it was seen to work before on that very endpoint.

use std::time::{Duration, Instant};

use crate::outlier::Tally;

/// Answered requests needed before silence means anything.
pub const SAMPLES: u32 = 20;
/// Concurrent unanswered requests needed.
pub const WITNESSES: usize = 3;
/// Unanswered for less than this is never far beyond any history.
const SILENCE_FLOOR: Duration = Duration::from_millis(150);
/// How much longer than slow answers of late.
const BEYOND_SLOW: u32 = 4;
/// The counter-check waits at least so long, and this many times what it took when it worked.
const CHECK_FLOOR: Duration = Duration::from_millis(150);
const CHECK_BEYOND: u32 = 4;
/// While learning, a counter-check may take so long.
const LEARN_PATIENCE: Duration = Duration::from_secs(1);
/// After an acquittal there is no other check for so long, doubling up to the last while acquittals
/// follow each other.
const ACQUITTED_FIRST: Duration = Duration::from_secs(1);
const ACQUITTED_LAST: Duration = Duration::from_secs(30);
/// An endpoint that did not pass the check while healthy is asked again so much later, doubling up to
/// the last: it may have been frozen at that very moment.
const LEARN_AGAIN_FIRST: Duration = Duration::from_secs(5);
const LEARN_AGAIN_LAST: Duration = Duration::from_secs(600);
/// Workers whose reports are kept.
const WORKERS: usize = 64;

/// What one worker saw of one endpoint since its last report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Answers {
    /// Requests answered since the last report.
    pub answered: u32,
    /// The slowest of them.
    pub slowest: Duration,
    /// When the latest of the answered requests began.
    pub latest_asked: Option<Instant>,
    /// When the last byte came from the endpoint, over all connections.
    pub last_answer: Option<Instant>,
    /// When the oldest acknowledged and unanswered requests that are younger than the last answer were
    /// sent.
    pub waiting: [Option<Instant>; WITNESSES],
    /// What became of the requests since the last report, as far as it is known of that protocol.
    pub tally: Tally,
}

/// What to do about an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suspicion {
    /// Nothing.
    None,
    /// Learn, now that it is healthy, whether it closes a half-closed connection.
    Learn {
        /// How long to wait for the end.
        patience: Duration,
    },
    /// Make the counter-check.
    Check {
        /// How long a living process may take.
        patience: Duration,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lesson {
    Unknown,
    Underway,
    /// It closes half-closed connections, within this time.
    Closes(Duration),
    /// It does not, so silence cannot be told from patience.
    Mute {
        since: Instant,
    },
}

/// The judgement on one endpoint.
#[derive(Debug)]
pub struct Freeze {
    samples: u32,
    /// What counts as a slow answer: follows the slowest of each report, but never jumps, so that a
    /// single client that waited on purpose says little.
    slow: Duration,
    last_answer: Option<Instant>,
    waiting: Vec<(u16, [Option<Instant>; WITNESSES])>,
    lesson: Lesson,
    checking: bool,
    acquitted: Option<(Instant, Duration)>,
    rivals: Rivals,
    learn_again: Duration,
}

impl Default for Freeze {
    fn default() -> Self {
        Self::new()
    }
}

impl Freeze {
    /// Knows nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            samples: 0,
            slow: Duration::ZERO,
            last_answer: None,
            waiting: Vec::new(),
            lesson: Lesson::Unknown,
            checking: false,
            acquitted: None,
            rivals: Rivals::None,
            learn_again: LEARN_AGAIN_FIRST,
        }
    }

    /// Takes one worker's report.
    pub fn report(&mut self, worker: u16, answers: Answers) {
        self.samples = self.samples.saturating_add(answers.answered);
        if answers.answered > 0 {
            let widened = self.slow + self.slow / 4 + Duration::from_millis(5);
            let faded = self.slow - self.slow / 32;
            self.slow = answers.slowest.clamp(faded, widened);
        }
        self.last_answer = self.last_answer.max(answers.last_answer);
        let room = self.waiting.len() < WORKERS;
        match self.waiting.iter_mut().find(|(w, _)| *w == worker) {
            Some((_, waiting)) => *waiting = answers.waiting,
            None if room => self.waiting.push((worker, answers.waiting)),
            None => {}
        }
    }

    /// Looks at what is known. `rivals` says whether another endpoint could take over: without one, a
    /// verdict would help nobody, and no check is made.
    pub fn judge(&mut self, now: Instant, rivals: Rivals) -> Suspicion {
        self.rivals = rivals;
        if self.samples < SAMPLES || self.checking || rivals == Rivals::None {
            return Suspicion::None;
        }
        match self.lesson {
            Lesson::Underway => Suspicion::None,
            Lesson::Unknown => self.learn(),
            Lesson::Mute { since }
                if self.last_answer > Some(since)
                    && now.saturating_duration_since(since) >= self.learn_again =>
            {
                self.learn_again = self.learn_again.saturating_mul(2).min(LEARN_AGAIN_LAST);
                self.learn()
            }
            Lesson::Mute { .. } => Suspicion::None,
            Lesson::Closes(took) if self.is_silent(now) => {
                self.checking = true;
                Suspicion::Check {
                    patience: CHECK_FLOOR.max(took.saturating_mul(CHECK_BEYOND)),
                }
            }
            Lesson::Closes(_) => Suspicion::None,
        }
    }

    fn learn(&mut self) -> Suspicion {
        self.lesson = Lesson::Underway;
        Suspicion::Learn {
            patience: LEARN_PATIENCE,
        }
    }

    /// The peer closed or spoke on the connection of the check, after that time.
    pub fn closed(&mut self, now: Instant, took: Duration) {
        let longest = match self.lesson {
            Lesson::Closes(before) => before.max(took),
            Lesson::Unknown | Lesson::Underway | Lesson::Mute { .. } => took,
        };
        self.lesson = Lesson::Closes(longest.min(LEARN_PATIENCE));
        if std::mem::take(&mut self.checking) {
            let pause = match self.acquitted {
                Some((since, pause)) if now.saturating_duration_since(since) < pause * 4 => {
                    (pause * 2).min(ACQUITTED_LAST)
                }
                _ => ACQUITTED_FIRST,
            };
            self.acquitted = Some((now, pause));
        }
    }

    /// The check was not answered in time. Says whether that convicts.
    pub fn unanswered(&mut self, now: Instant) -> Verdict {
        if std::mem::take(&mut self.checking) {
            return Verdict::Frozen;
        }
        self.lesson = Lesson::Mute { since: now };
        Verdict::Unknown
    }

    /// The check could not be made: nothing follows from it.
    pub fn inconclusive(&mut self) {
        self.checking = false;
        if self.lesson == Lesson::Underway {
            self.lesson = Lesson::Unknown;
        }
    }

    /// Drops what was seen of requests, keeps what was learned: after a change of the endpoint's
    /// state, or when this machine was not looking for a while.
    pub fn forget_requests(&mut self) {
        self.waiting.clear();
        self.acquitted = None;
    }

    /// A process that was found frozen answered a request that began after the verdict, and still has
    /// not closed the connection of the check: it never does, whatever its predecessor did.
    pub fn disproved(&mut self, now: Instant) {
        self.lesson = Lesson::Mute { since: now };
        self.checking = false;
    }

    /// When silence that is known of becomes odd.
    #[must_use]
    pub fn wakeup(&self) -> Option<Instant> {
        let judged = matches!(self.lesson, Lesson::Closes(_)) && self.rivals == Rivals::Some;
        if self.samples < SAMPLES || self.checking || !judged {
            return None;
        }
        let mut asked: Vec<Instant> = self.witnesses().collect();
        asked.sort_unstable();
        let third = *asked.get(WITNESSES - 1)?;
        let acquitted = self.acquitted.map(|(since, pause)| since + pause);
        Some((third + self.allowed()).max(acquitted.unwrap_or(third)))
    }

    fn allowed(&self) -> Duration {
        SILENCE_FLOOR.max(self.slow.saturating_mul(BEYOND_SLOW))
    }

    fn witnesses(&self) -> impl Iterator<Item = Instant> + '_ {
        self.waiting
            .iter()
            .flat_map(|(_, waiting)| waiting.iter().flatten().copied())
            .filter(|asked| self.last_answer.is_none_or(|answer| *asked > answer))
            // A process that passed the check has had these, and lets them wait on purpose.
            .filter(|asked| self.acquitted.is_none_or(|(since, _)| *asked > since))
    }

    fn is_silent(&self, now: Instant) -> bool {
        let allowed = self.allowed();
        if let Some((since, pause)) = self.acquitted
            && now.saturating_duration_since(since) < pause
        {
            return false;
        }
        self.witnesses()
            .filter(|asked| now.saturating_duration_since(*asked) >= allowed)
            .count()
            >= WITNESSES
    }
}

/// Whether another endpoint could take over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rivals {
    /// None.
    None,
    /// At least one.
    Some,
}

/// The verdict of an unanswered check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The process is frozen.
    Frozen,
    /// This endpoint cannot be judged that way.
    Unknown,
}

#[cfg(test)]
mod tests;

//! What is known of one kind of record of one name, and when to ask again.
//!
//! An answer is used for its time to live and is asked for again shortly before. While the resolvers
//! fail it is used beyond that time, up to a bound; a resolver that fails is no reason to forget. A
//! name that suddenly has no records any more is believed only when a second look agrees.

use std::fmt;
use std::time::{Duration, Instant};

use crate::dice::Dice;
use crate::failure::Failure;

/// Between a name's first empty answer and the second look.
const SECOND_LOOK: Duration = Duration::from_secs(1);
/// After a lookup that failed, doubling.
const RETRY_FIRST: Duration = Duration::from_millis(250);
const RETRY_LAST: Duration = Duration::from_secs(5);
/// Between lookups that somebody asked for past the time to live: the second one soon, later ones
/// rarer, until nobody asks for a while.
const FORCED_FIRST: Duration = Duration::from_millis(50);
const FORCED_LAST: Duration = Duration::from_secs(1);
const FORCED_REST: Duration = Duration::from_secs(5);
/// The time to live of a negative answer that does not say it (RFC 2308, section 5), and the longest.
const NEGATIVE: Duration = Duration::from_secs(5);
const NEGATIVE_LAST: Duration = Duration::from_secs(300);
/// Records of an earlier run are used when the first lookup failed, or took so long.
const PATIENCE: Duration = Duration::from_millis(500);
/// A lookup that was not answered by then is lost.
const LOST: Duration = Duration::from_secs(15);
/// Records of one kind that are kept.
const RECORDS: usize = 64;

/// What the configuration says about every name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// A shorter time to live is taken for this.
    pub min_ttl: Duration,
    /// A longer time to live is taken for this.
    pub max_ttl: Duration,
    /// For how long an answer is used after its time to live, while no resolver answers.
    pub stale_for: Duration,
    /// Records that are proven less than this are not used, whenever they were answered.
    pub proof: Security,
}

/// Whether an answer was proven by DNSSEC (RFC 4033, section 5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Security {
    /// Nobody looked.
    #[default]
    Unchecked,
    /// The zone is not signed, provably.
    Insecure,
    /// Signed, and the chain to a trust anchor holds.
    Secure,
}

impl fmt::Display for Security {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unchecked => "unchecked",
            Self::Insecure => "insecure",
            Self::Secure => "secure",
        })
    }
}

/// What a lookup brought.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome<T> {
    /// Records.
    Found {
        /// The records, in the resolver's order.
        records: Vec<T>,
        /// Their time to live.
        ttl: Duration,
        /// Whether they are proven.
        security: Security,
    },
    /// The name does not exist, or has no such records.
    Nothing {
        /// Which of the two.
        failure: Failure,
        /// For how long that holds (RFC 2308).
        ttl: Option<Duration>,
        /// Whether more than one server said so.
        is_confirmed: bool,
    },
    /// No server gave an answer that can be used.
    Failed(Failure),
}

/// What the records are worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Knowledge {
    /// They are answered, and their time has not passed.
    Fresh,
    /// The last answer was empty; they are used until a second look agrees.
    Doubtful,
    /// Their time has passed, and no resolver answers.
    Stale,
    /// They come from an earlier run of this program, and nobody has answered yet.
    Remembered,
    /// There are none: nobody has answered yet, or not for too long.
    Unknown,
    /// There are none: the name has no such records.
    Gone,
}

impl fmt::Display for Knowledge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fresh => "fresh",
            Self::Doubtful => "doubtful",
            Self::Stale => "stale",
            Self::Remembered => "remembered",
            Self::Unknown => "unknown",
            Self::Gone => "gone",
        })
    }
}

/// The number of a lookup; what it brought carries it back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LookId(u64);

/// A lookup to be made now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// Its number.
    pub id: LookId,
    /// Whether another server than the last one should be asked first.
    pub elsewhere: bool,
}

/// Something that an answer changed and people want to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// The name was proven by DNSSEC, and provably is not signed any more.
    Insecure,
}

/// What is known of one kind of record of one name.
#[derive(Debug)]
pub struct Memory<T> {
    limits: Limits,
    dice: Dice,
    records: Vec<T>,
    knowledge: Knowledge,
    security: Security,
    ttl: Duration,
    /// Until when the records are fresh.
    expires: Instant,
    /// Since when answers are empty.
    emptied: Option<Instant>,
    failure: Option<Failure>,
    failures: u32,
    /// When to look.
    next: Option<Instant>,
    elsewhere: bool,
    underway: Option<(LookId, Instant)>,
    asked: Option<Instant>,
    last_id: u64,
    forced: Forced,
    remembered: Option<Old<T>>,
}

/// Records of an earlier run, not used yet.
#[derive(Debug)]
struct Old<T> {
    records: Vec<T>,
    security: Security,
    expired: Instant,
    used_at: Instant,
}

/// Lookups past the time to live.
#[derive(Debug, Default)]
struct Forced {
    wanted: bool,
    gap: Duration,
    last: Option<Instant>,
}

impl<T: Clone + PartialEq> Memory<T> {
    /// Nothing is known, and the first look is due at once. `seed` determines all jitter.
    #[must_use]
    pub fn new(limits: Limits, seed: u64, now: Instant) -> Self {
        Self {
            limits,
            dice: Dice::new(seed),
            records: Vec::new(),
            knowledge: Knowledge::Unknown,
            security: Security::Unchecked,
            ttl: limits.min_ttl,
            expires: now,
            emptied: None,
            failure: None,
            failures: 0,
            next: Some(now),
            elsewhere: false,
            underway: None,
            asked: None,
            last_id: 0,
            forced: Forced::default(),
            remembered: None,
        }
    }

    /// Takes records of an earlier run, answered `age` ago. They are used when the first lookup of
    /// this run fails or takes long; any answer counts more.
    pub fn remember(
        &mut self,
        now: Instant,
        mut records: Vec<T>,
        security: Security,
        age: Duration,
    ) {
        let Some(left) = self.limits.stale_for.checked_sub(age) else {
            return;
        };
        let is_proven = security >= self.limits.proof;
        if self.knowledge != Knowledge::Unknown || records.is_empty() || !is_proven {
            return;
        }
        records.truncate(RECORDS);
        // As if they had expired when they were saved.
        let expired = (now + left).checked_sub(self.limits.stale_for);
        self.remembered = Some(Old {
            records,
            security,
            expired: expired.unwrap_or(now),
            used_at: if self.failure.is_some() {
                now
            } else {
                now + PATIENCE
            },
        });
    }

    fn use_remembered(&mut self) {
        if let Some(old) = self.remembered.take() {
            self.records = old.records;
            self.security = old.security;
            self.expires = old.expired;
            self.knowledge = Knowledge::Remembered;
        }
    }

    /// Begins again with other limits; what is known stays as far as it is proven enough, and is looked
    /// up at once.
    pub fn set_limits(&mut self, now: Instant, limits: Limits) {
        self.limits = limits;
        if self.security < limits.proof && !self.records.is_empty() {
            self.records.clear();
            self.knowledge = Knowledge::Unknown;
            self.failure = None;
        }
        self.remembered.take_if(|old| old.security < limits.proof);
        self.next = Some(now);
        self.underway = None;
    }

    /// Asks for a lookup past the time to live: something that came of the last answer failed. Before
    /// the first answer there is nothing to doubt.
    pub fn doubt(&mut self, now: Instant) {
        if !self.is_answered() {
            return;
        }
        let rested = self
            .forced
            .last
            .is_none_or(|last| now.saturating_duration_since(last) >= FORCED_REST);
        if rested {
            self.forced.gap = Duration::ZERO;
        }
        self.forced.last = Some(now);
        self.forced.wanted = true;
    }

    /// The lookup that is due now, if one is.
    pub fn look(&mut self, now: Instant) -> Option<Look> {
        if self.due().is_none_or(|due| now < due) {
            return None;
        }
        if std::mem::take(&mut self.forced.wanted) {
            let doubled = self.forced.gap.saturating_mul(2);
            self.forced.gap = doubled.clamp(FORCED_FIRST, FORCED_LAST);
        }
        self.last_id += 1;
        let id = LookId(self.last_id);
        self.asked = Some(now);
        self.underway = Some((id, now));
        self.next = None;
        Some(Look {
            id,
            elsewhere: self.elsewhere,
        })
    }

    /// Takes what a lookup brought. What comes too late, or of another lookup, changes nothing.
    pub fn take(&mut self, now: Instant, id: LookId, outcome: Outcome<T>) -> Option<Turn> {
        if self.underway.is_none_or(|(underway, _)| underway != id) {
            return None;
        }
        self.underway = None;
        match outcome {
            Outcome::Found {
                records,
                ttl,
                security,
            } => self.found(now, records, ttl, security),
            Outcome::Nothing {
                failure,
                ttl,
                is_confirmed,
            } => {
                self.nothing(now, failure, ttl, is_confirmed);
                None
            }
            Outcome::Failed(failure) => {
                self.failed(now, failure);
                None
            }
        }
    }

    fn found(
        &mut self,
        now: Instant,
        mut records: Vec<T>,
        ttl: Duration,
        security: Security,
    ) -> Option<Turn> {
        records.truncate(RECORDS);
        self.remembered = None;
        let turned = self.security == Security::Secure && security == Security::Insecure;
        self.ttl = ttl.clamp(self.limits.min_ttl, self.limits.max_ttl);
        self.records = records;
        self.knowledge = Knowledge::Fresh;
        self.security = security;
        self.expires = now + self.ttl;
        self.next = Some(now + self.ttl.mul_f64(0.9 + 0.07 * self.dice.unit()));
        self.well();
        turned.then_some(Turn::Insecure)
    }

    fn nothing(
        &mut self,
        now: Instant,
        failure: Failure,
        ttl: Option<Duration>,
        is_confirmed: bool,
    ) {
        self.remembered = None;
        let since = *self.emptied.get_or_insert(now);
        let agreed = is_confirmed || now.saturating_duration_since(since) >= SECOND_LOOK;
        if !self.records.is_empty() && !agreed {
            self.knowledge = Knowledge::Doubtful;
            self.failure = Some(failure);
            self.failures = 0;
            self.elsewhere = true;
            self.next = Some(since + SECOND_LOOK);
            return;
        }
        self.well();
        self.emptied = Some(since);
        self.records.clear();
        self.knowledge = Knowledge::Gone;
        self.failure = Some(failure);
        let ttl = ttl.unwrap_or(NEGATIVE);
        let longest = NEGATIVE_LAST.min(self.limits.max_ttl);
        self.ttl = ttl.clamp(self.limits.min_ttl.min(longest), longest);
        self.next = Some(now + self.ttl);
    }

    fn failed(&mut self, now: Instant, failure: Failure) {
        self.failure = Some(failure);
        self.failures = self.failures.saturating_add(1);
        let doublings = (self.failures - 1).min(8);
        let pause = (RETRY_FIRST * (1 << doublings)).min(RETRY_LAST);
        let pause = self.dice.between(pause.mul_f64(0.75), pause);
        self.next = Some(now + pause);
        self.elsewhere = false;
        self.use_remembered();
    }

    fn well(&mut self) {
        self.emptied = None;
        self.failure = None;
        self.failures = 0;
        self.elsewhere = false;
    }

    /// When to call [`look`](Self::look), or [`age`](Self::age), next.
    #[must_use]
    pub fn wakeup(&self) -> Option<Instant> {
        self.due().into_iter().chain(self.ages_at()).min()
    }

    fn due(&self) -> Option<Instant> {
        if let Some((_, asked)) = self.underway {
            return Some(asked + LOST);
        }
        let forced = self.forced.wanted.then(|| {
            let asked = self.asked.map(|asked| asked + self.forced.gap);
            asked.unwrap_or(self.expires)
        });
        self.next.into_iter().chain(forced).min()
    }

    /// When the records grow stale, when they are too old, and when those of an earlier run are used.
    fn ages_at(&self) -> Option<Instant> {
        match self.knowledge {
            Knowledge::Fresh => Some(self.expires),
            Knowledge::Stale | Knowledge::Remembered | Knowledge::Doubtful => {
                Some(self.expires + self.limits.stale_for)
            }
            Knowledge::Unknown => self.remembered.as_ref().map(|old| old.used_at),
            Knowledge::Gone => None,
        }
    }

    /// Lets time pass. True if it changed what the records are worth.
    pub fn age(&mut self, now: Instant) -> bool {
        let mut changed = false;
        while self.ages_at().is_some_and(|at| now >= at) {
            changed = true;
            match self.knowledge {
                Knowledge::Fresh => self.knowledge = Knowledge::Stale,
                Knowledge::Unknown => self.use_remembered(),
                _ => {
                    self.records.clear();
                    self.knowledge = Knowledge::Unknown;
                }
            }
        }
        changed
    }

    /// The records.
    #[must_use]
    pub fn records(&self) -> &[T] {
        &self.records
    }

    /// What they are worth.
    #[must_use]
    pub fn knowledge(&self) -> Knowledge {
        self.knowledge
    }

    /// Whether they are proven.
    #[must_use]
    pub fn security(&self) -> Security {
        self.security
    }

    /// The time to live of the last answer, within the limits.
    #[must_use]
    pub fn ttl(&self) -> Duration {
        self.ttl
    }

    /// What is wrong, while something is.
    #[must_use]
    pub fn failure(&self) -> Option<&Failure> {
        self.failure.as_ref()
    }

    /// Whether any lookup has ended.
    #[must_use]
    pub fn is_answered(&self) -> bool {
        self.knowledge != Knowledge::Unknown || self.failure.is_some()
    }
}

#[cfg(test)]
mod tests;

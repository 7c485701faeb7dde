//! Whether an answer may be stored, and how long it is good for.

use std::time::Duration;

use super::date::http_date;
use super::directives::{Directives, elements, seconds};
use super::fields::Fields;
use super::variant::Variant;

/// What nobody said is assumed for no longer.
const GUESSED: u64 = 24 * 60 * 60;

/// An answer and the request that it is for.
#[derive(Clone, Copy, Debug)]
pub struct Stored<'a> {
    /// The fields of the request, which was a GET without a range.
    pub request: Fields<'a>,
    /// The status of the answer.
    pub status: u16,
    /// Its fields.
    pub fields: Fields<'a>,
    /// When it came, in seconds since the beginning of 1970.
    pub now: u64,
    /// How long it was asked for.
    pub delay: Duration,
}

/// How long an answer is good for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// It is fresh until it is so old.
    lifetime: Duration,
    /// So old it was when it came.
    age: Duration,
    while_revalidating: Duration,
    if_error: Option<Duration>,
    forbids_stale: bool,
    no_cache: bool,
    /// The origin means it for everybody: it says how long it is good, or that it is public.
    is_for_all: bool,
    variant: Variant,
    /// Fields that are not to be stored.
    pub withheld: Vec<Box<[u8]>>,
}

/// What a stored answer is good for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It is served, for so long yet.
    Fresh(Duration),
    /// It is served, and asked for anew meanwhile.
    Refreshable,
    /// It has to be asked for first.
    Stale,
}

impl Policy {
    /// How old an answer is that was here for so long.
    #[must_use]
    pub fn age(&self, resident: Duration) -> Duration {
        self.age.saturating_add(resident)
    }

    /// Takes the age of another answer, which has confirmed the stored one.
    #[must_use]
    pub fn confirmed_by(self, answer: &Stored<'_>) -> Self {
        Self {
            age: initial_age(answer),
            ..self
        }
    }

    /// Whether it answers this request. Whoever shows a cookie may be somebody in particular, and gets nothing
    /// of which it is only a guess that it is for all.
    #[must_use]
    pub fn answers(&self, request: Fields<'_>) -> bool {
        (self.is_for_all || !request.has(b"cookie")) && self.variant.matches(request)
    }

    /// The requests that it answers.
    #[must_use]
    pub fn variant(&self) -> &Variant {
        &self.variant
    }

    /// Whether there is a time for which it is served without being asked for.
    #[must_use]
    pub fn is_ever_fresh(&self) -> bool {
        !self.no_cache && self.lifetime > self.age
    }

    /// What it is good for after so long.
    #[must_use]
    pub fn state(&self, resident: Duration) -> State {
        let age = self.age(resident);
        if self.no_cache {
            return State::Stale;
        }
        if let Some(left) = self.lifetime.checked_sub(age)
            && !left.is_zero()
        {
            return State::Fresh(left);
        }
        if !self.forbids_stale && self.late(resident) < self.while_revalidating {
            State::Refreshable
        } else {
            State::Stale
        }
    }

    /// Whether it may be served where the origin answers with an error; `ours` is how long that is good
    /// where the origin does not say.
    #[must_use]
    pub fn covers_error(&self, resident: Duration, ours: Duration) -> bool {
        self.covers(resident, self.if_error.unwrap_or(ours))
    }

    /// Whether it may be served where there is no answer to be had.
    #[must_use]
    pub fn covers_silence(&self, resident: Duration, ours: Duration) -> bool {
        self.covers(resident, self.if_error.unwrap_or_default().max(ours))
    }

    fn covers(&self, resident: Duration, window: Duration) -> bool {
        !self.forbids_stale && self.late(resident) < window
    }

    /// How long it has not been fresh any more.
    #[must_use]
    pub fn late(&self, resident: Duration) -> Duration {
        self.age(resident).saturating_sub(self.lifetime)
    }
}

/// What an answer is good for; none if it may not be stored, or storing it is of no use.
#[must_use]
pub fn policy(stored: &Stored<'_>) -> Option<Policy> {
    let directives = Directives::read(stored.fields);
    if !may_store(stored, &directives) {
        return None;
    }
    let variant = Variant::of(stored.fields, stored.request)?;
    let explicit = explicit(stored, &directives);
    // A cookie that goes to everybody has to be meant: many servers that say how long an answer is good do
    // not think of the cookie beside it.
    if stored.fields.has(b"set-cookie") && !directives.public {
        return None;
    }
    let is_for_all =
        directives.public || directives.s_maxage.is_some() || explicit.is_some_and(|time| time > 0);
    if stored.request.has(b"cookie") && !is_for_all {
        return None;
    }
    let lifetime = explicit.or_else(|| guessed(stored, &directives));
    let has_validator = stored.fields.has(b"etag") || stored.fields.has(b"last-modified");
    let may_be_used = lifetime.is_some() || (has_validator && is_plain(stored.status));
    if !may_be_used {
        return None;
    }
    let time = |seconds: Option<u64>| seconds.map(Duration::from_secs);
    let policy = Policy {
        lifetime: Duration::from_secs(lifetime.unwrap_or(0)),
        age: initial_age(stored),
        while_revalidating: time(directives.while_revalidating).unwrap_or_default(),
        if_error: time(directives.if_error),
        forbids_stale: directives.forbids_stale(),
        no_cache: directives.no_cache,
        is_for_all,
        variant,
        withheld: directives.withheld,
    };
    let is_useful = has_validator
        || policy.state(Duration::ZERO) != State::Stale
        || policy.if_error.is_some_and(|time| !time.is_zero());
    is_useful.then_some(policy)
}

fn may_store(stored: &Stored<'_>, directives: &Directives) -> bool {
    if stored.status < 200 || matches!(stored.status, 206 | 304) {
        return false;
    }
    let is_understood = !directives.must_understand || is_understood(stored.status);
    // Who understands the status need not mind what is said to those who do not.
    let no_store = directives.no_store && !(directives.must_understand && is_understood);
    // What is for one user alone (RFC 9111, section 3.5).
    let is_open = !stored.request.has(b"authorization")
        || directives.public
        || directives.must_revalidate
        || directives.s_maxage.is_some();
    is_understood && !no_store && !directives.private && is_open
}

/// How long the origin says that it is fresh.
fn explicit(stored: &Stored<'_>, directives: &Directives) -> Option<u64> {
    if let Some(time) = directives.s_maxage.or(directives.max_age) {
        return Some(time);
    }
    let mut expires = stored.fields.values(b"expires");
    let first = expires.next().filter(|_| !directives.is_targeted)?;
    let is_one = expires.all(|other| other == first);
    let expires = http_date(first, stored.now).filter(|_| is_one);
    Some(expires.unwrap_or(0).saturating_sub(date(stored)))
}

/// A tenth of the time for which it did not change (RFC 9111, section 4.2.2).
fn guessed(stored: &Stored<'_>, directives: &Directives) -> Option<u64> {
    if !is_plain(stored.status) && !directives.public {
        return None;
    }
    let modified = stored.fields.first(b"last-modified")?;
    let modified = http_date(modified, stored.now)?;
    Some((date(stored).saturating_sub(modified) / 10).min(GUESSED))
}

fn date(stored: &Stored<'_>) -> u64 {
    let date = stored.fields.first(b"date");
    date.and_then(|date| http_date(date, stored.now))
        .unwrap_or(stored.now)
}

/// How old it was when it came (RFC 9111, section 4.2.3).
fn initial_age(stored: &Stored<'_>) -> Duration {
    let apparent = Duration::from_secs(stored.now.saturating_sub(date(stored)));
    let told = stored.fields.first(b"age");
    let told = told.and_then(|age| elements(age).next()).and_then(seconds);
    let corrected = Duration::from_secs(told.unwrap_or(0)).saturating_add(stored.delay);
    apparent.max(corrected)
}

/// Statuses that may be stored where nothing is said of it (RFC 9110, section 15.1).
fn is_plain(status: u16) -> bool {
    matches!(
        status,
        200 | 203 | 204 | 300 | 301 | 308 | 404 | 405 | 410 | 414 | 501
    )
}

/// Statuses whose meaning for caches is known here.
fn is_understood(status: u16) -> bool {
    is_plain(status) || matches!(status, 302 | 303 | 307 | 400 | 403 | 500 | 502 | 503 | 504)
}

//! When to tell people: what lasts, what comes and goes, what failed together, what is still so.
//!
//! A trouble is told when it has lasted for a while, together with what else is due by then; it is told again from
//! time to time, and resolved when it has been over for a while. One that comes and goes is told as that, once, and
//! summed up. While this machine itself is cut off nothing is told; afterwards one message says what was.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How a machine tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AlertSettings {
    /// A trouble must have lasted so long before it is told.
    pub after: Duration,
    /// It must have been over for so long before that is told.
    pub clear: Duration,
    /// What still lasts is told again after so long; zero is never.
    pub repeat: Duration,
}

impl Default for AlertSettings {
    fn default() -> Self {
        Self {
            after: Duration::from_secs(5),
            clear: Duration::from_secs(10),
            repeat: Duration::from_secs(4 * 3600),
        }
    }
}

/// What fails together is told together: who is due waits so long for others.
const GATHER: Duration = Duration::from_secs(2);
/// So many times within [`FLAP_WITHIN`] are no accident any more.
const FLAPS: usize = 4;
/// See [`FLAPS`].
const FLAP_WITHIN: Duration = Duration::from_secs(30 * 60);
/// What came and went is well again when it has been quiet for so long, and is summed up that often.
const CALM: Duration = Duration::from_secs(15 * 60);
/// A machine that seems to be cut off for longer tells all the same: it may be the servers after all, and what
/// cannot be told waits.
const CUT_OFF: Duration = Duration::from_secs(5 * 60);
/// Troubles that are watched; more are one.
const MOST: usize = 10_000;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Somebody should look some time.
    Warning,
    /// Somebody must look now.
    Critical,
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// What it is about: the name of an origin.
    pub subject: Arc<str>,
    /// What kind of trouble: `origin_down`.
    pub kind: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong, in a line.
    pub summary: String,
    /// What a person can look at.
    pub advice: String,
    /// Whether it is told as soon as it is known: what will not go away by itself.
    pub at_once: bool,
}

/// What a trouble is known by.
pub type Key = (Arc<str>, &'static str);

impl Trouble {
    /// What it is known by.
    #[must_use]
    pub fn key(&self) -> Key {
        (Arc::clone(&self.subject), self.kind)
    }
}

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// What it says.
    pub kind: PageKind,
    /// Of what, the worst first.
    pub items: Vec<Item>,
}

/// What a message says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageKind {
    /// Something is wrong.
    Firing,
    /// It is still wrong.
    Reminder,
    /// It is over.
    Resolved,
    /// It comes and goes; what follows is summed up.
    Flapping,
    /// This machine was cut off; what was wrong meanwhile.
    WasOffline,
}

/// One trouble in a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// The trouble.
    pub trouble: Trouble,
    /// For how long it has been so, or was.
    pub lasted: Duration,
    /// How often it came, where it comes and goes.
    pub times: usize,
    /// Whether it is so now.
    pub is_on: bool,
}

/// Decides when to tell. A plain value.
#[derive(Debug)]
pub struct Pager {
    settings: AlertSettings,
    cases: BTreeMap<Key, Case>,
    /// Since when this machine has been cut off.
    offline: Option<Instant>,
}

#[derive(Debug)]
struct Case {
    trouble: Trouble,
    state: State,
    /// Since when it has been in doubt, on or over.
    since: Instant,
    /// When it began, while it is on.
    began: Instant,
    told: Option<Instant>,
    /// When it came, lately.
    came: Vec<Instant>,
    flaps_since: Option<Instant>,
    was_offline: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It is wrong, and not told.
    Pending,
    /// It is wrong, and told.
    Firing,
    /// It is over, and that is not told.
    Clearing,
    /// It was never told, or all is told; kept for what comes and goes.
    Quiet,
}

impl Pager {
    /// Nothing is wrong.
    #[must_use]
    pub fn new(settings: AlertSettings) -> Self {
        Self {
            settings,
            cases: BTreeMap::new(),
            offline: None,
        }
    }

    /// Other settings, for what is told from now on.
    pub fn reconfigure(&mut self, settings: AlertSettings) {
        self.settings = settings;
    }

    /// Something was wrong, and told, before this value was made.
    pub fn restore(&mut self, now: Instant, trouble: Trouble, began: Instant) {
        self.cases.insert(
            trouble.key(),
            Case {
                trouble,
                state: State::Firing,
                since: now,
                began,
                told: Some(now),
                came: Vec::new(),
                flaps_since: None,
                was_offline: false,
            },
        );
    }

    /// Something is wrong, or still is: what is said of it is kept.
    pub fn wrong(&mut self, now: Instant, trouble: Trouble) {
        let key = trouble.key();
        if !self.cases.contains_key(&key) && self.cases.len() >= MOST {
            return;
        }
        let case = self.cases.entry(key).or_insert_with(|| Case {
            trouble: trouble.clone(),
            state: State::Quiet,
            since: now,
            began: now,
            told: None,
            came: Vec::new(),
            flaps_since: None,
            was_offline: false,
        });
        case.trouble = trouble;
        match case.state {
            State::Pending | State::Firing => {}
            // It was told, and not yet that it is over: it is the same.
            State::Clearing => {
                case.comes(now);
                (case.state, case.since) = (State::Firing, now);
            }
            State::Quiet => {
                case.comes(now);
                (case.state, case.since, case.began) = (State::Pending, now, now);
            }
        }
        if self.offline.is_some() && case.state == State::Pending {
            case.was_offline = true;
        }
    }

    /// It is over.
    pub fn well(&mut self, now: Instant, key: &Key) {
        let Some(case) = self.cases.get_mut(key) else {
            return;
        };
        match case.state {
            State::Pending => (case.state, case.since) = (State::Quiet, now),
            State::Firing => (case.state, case.since) = (State::Clearing, now),
            State::Clearing | State::Quiet => {}
        }
    }

    /// What is not wrong any more, of all that is: everything but these.
    pub fn only(&mut self, now: Instant, kind: &'static str, wrong: &[Key]) {
        let keys = self.cases.keys();
        let others = keys.filter(|key| key.1 == kind && !wrong.contains(key));
        let others: Vec<Key> = others.cloned().collect();
        for key in others {
            self.well(now, &key);
        }
    }

    /// Whether this machine is cut off.
    pub fn set_offline(&mut self, now: Instant, is_offline: bool, out: &mut Vec<Page>) {
        match (self.offline, is_offline) {
            (None, true) => {
                self.offline = Some(now);
                for case in self.cases.values_mut() {
                    case.was_offline |= case.state == State::Pending;
                }
            }
            (Some(since), false) => {
                self.offline = None;
                self.tell_offline(now, since, out);
            }
            _ => {}
        }
    }

    fn tell_offline(&mut self, now: Instant, since: Instant, out: &mut Vec<Page>) {
        let is_told = now.saturating_duration_since(since) >= self.settings.after;
        let mut items = Vec::new();
        for case in self.cases.values_mut() {
            // What is short, or is told already, is told like anything else.
            if !std::mem::take(&mut case.was_offline) || !is_told || case.told.is_some() {
                continue;
            }
            let is_on = case.state == State::Pending;
            items.push(case.item(case.ended(now), is_on));
            if is_on {
                (case.state, case.told) = (State::Firing, Some(now));
            }
        }
        if !items.is_empty() {
            out.push(page(PageKind::WasOffline, items));
        }
    }

    /// What is to be told now.
    pub fn tick(&mut self, now: Instant, out: &mut Vec<Page>) {
        let is_cut_off = |since| now.saturating_duration_since(since) < CUT_OFF;
        if self.offline.is_some_and(is_cut_off) {
            return;
        }
        self.tell_flapping(now, out);
        self.tell_firing(now, out);
        self.tell_resolved(now, out);
        self.remind(now, out);
        let calm = |case: &Case| {
            let rests = now.saturating_duration_since(case.since);
            case.state == State::Quiet && case.flaps_since.is_none() && rests > FLAP_WITHIN
        };
        self.cases.retain(|_, case| !calm(case));
    }

    fn tell_flapping(&mut self, now: Instant, out: &mut Vec<Page>) {
        let mut begun = Vec::new();
        let mut settled = Vec::new();
        for case in self.cases.values_mut() {
            match case.flaps_since {
                None if case.came_lately(now) >= FLAPS && !case.trouble.at_once => {
                    case.flaps_since = Some(now);
                    case.told = Some(now);
                    begun.push(case.item(now, case.is_on()));
                }
                Some(_) if now.saturating_duration_since(case.since) < CALM => {}
                // It stays: that is told like any other.
                Some(_) if case.is_on() => {
                    (case.flaps_since, case.state) = (None, State::Pending);
                    case.came.clear();
                }
                Some(_) => {
                    settled.push(case.item(case.since, false));
                    (case.flaps_since, case.told, case.state) = (None, None, State::Quiet);
                    case.came.clear();
                }
                _ => {}
            }
        }
        if !begun.is_empty() {
            out.push(page(PageKind::Flapping, begun));
        }
        if !settled.is_empty() {
            out.push(page(PageKind::Resolved, settled));
        }
    }

    /// When a case is to be told that is not.
    fn due(settings: &AlertSettings, case: &Case) -> Option<Instant> {
        if case.flaps_since.is_some() {
            return None;
        }
        let after = match case.state {
            State::Pending if case.trouble.at_once => Duration::ZERO,
            State::Pending => settings.after,
            State::Clearing => settings.clear,
            State::Firing | State::Quiet => return None,
        };
        Some(case.since + after)
    }

    fn tell_firing(&mut self, now: Instant, out: &mut Vec<Page>) {
        let (settings, is_due) = (self.settings, |due: Instant| due <= now);
        let gathered = |case: &Case, spare: Duration| {
            let due = Self::due(&settings, case).filter(|_| case.state == State::Pending);
            due.is_some_and(|due| is_due(due + spare))
        };
        // The first one waits for others, and then all go that are due.
        if !self.cases.values().any(|case| gathered(case, GATHER)) {
            return;
        }
        let mut items = Vec::new();
        for case in self.cases.values_mut() {
            if gathered(case, Duration::ZERO) {
                (case.state, case.told) = (State::Firing, Some(now));
                items.push(case.item(now, true));
            }
        }
        out.push(page(PageKind::Firing, items));
    }

    fn tell_resolved(&mut self, now: Instant, out: &mut Vec<Page>) {
        let settings = self.settings;
        let mut items = Vec::new();
        for case in self.cases.values_mut() {
            let due = Self::due(&settings, case).filter(|_| case.state == State::Clearing);
            if due.is_some_and(|due| due <= now) {
                items.push(case.item(case.since, false));
                (case.state, case.since, case.told) = (State::Quiet, now, None);
            }
        }
        if !items.is_empty() {
            out.push(page(PageKind::Resolved, items));
        }
    }

    fn remind(&mut self, now: Instant, out: &mut Vec<Page>) {
        if self.settings.repeat.is_zero() {
            return;
        }
        let is_due = |case: &Case| {
            let lasts = case.state == State::Firing && case.flaps_since.is_none();
            let told = case.told.filter(|_| lasts);
            told.is_some_and(|told| told + self.settings.repeat <= now)
        };
        if !self.cases.values().any(is_due) {
            return;
        }
        let mut items = Vec::new();
        for case in self.cases.values_mut() {
            if case.state == State::Firing && case.flaps_since.is_none() {
                case.told = Some(now);
                items.push(case.item(now, true));
            }
        }
        if !items.is_empty() {
            out.push(page(PageKind::Reminder, items));
        }
    }

    /// What is told and lasts: for those who want to hear it again and again.
    #[must_use]
    pub fn firing(&self, now: Instant) -> Vec<Item> {
        let told = self
            .cases
            .values()
            .filter(|case| matches!(case.state, State::Firing | State::Clearing));
        told.map(|case| case.item(now, true)).collect()
    }

    /// When to [`tick`](Self::tick) if nothing happens before.
    #[must_use]
    pub fn wakeup(&self) -> Option<Instant> {
        if self.cases.is_empty() {
            return None;
        }
        let earliest = self.offline.map(|since| since + CUT_OFF);
        let cases = self.cases.values().filter_map(|case| {
            let due = match case.state {
                State::Pending => Self::due(&self.settings, case).map(|due| due + GATHER),
                _ => Self::due(&self.settings, case),
            };
            let lasts = case.state == State::Firing && case.flaps_since.is_none();
            let reminder = case.told.filter(|_| lasts);
            let reminder = reminder.filter(|_| !self.settings.repeat.is_zero());
            let reminder = reminder.map(|told| told + self.settings.repeat);
            let flaps =
                case.flaps_since.is_none() && case.came.len() >= FLAPS && !case.trouble.at_once;
            let calm = case.flaps_since.map(|_| case.since + CALM);
            let calm = calm.or_else(|| case.came.last().copied().filter(|_| flaps));
            due.into_iter().chain(reminder).chain(calm).min()
        });
        cases
            .min()
            .map(|at| earliest.map_or(at, |earliest| at.max(earliest)))
    }
}

impl Case {
    fn comes(&mut self, now: Instant) {
        self.came
            .retain(|came| now.saturating_duration_since(*came) < FLAP_WITHIN);
        if self.came.len() < 2 * FLAPS {
            self.came.push(now);
        }
    }

    fn came_lately(&self, now: Instant) -> usize {
        let lately = self.came.iter();
        lately
            .filter(|came| now.saturating_duration_since(**came) < FLAP_WITHIN)
            .count()
    }

    fn is_on(&self) -> bool {
        matches!(self.state, State::Pending | State::Firing)
    }

    fn ended(&self, now: Instant) -> Instant {
        match self.state {
            State::Pending | State::Firing => now,
            State::Clearing | State::Quiet => self.since,
        }
    }

    fn item(&self, until: Instant, is_on: bool) -> Item {
        Item {
            trouble: self.trouble.clone(),
            lasted: until.saturating_duration_since(self.began),
            times: self.came.len().max(1),
            is_on,
        }
    }
}

fn page(kind: PageKind, mut items: Vec<Item>) -> Page {
    items.sort_by_key(|item| std::cmp::Reverse(item.trouble.severity));
    Page { kind, items }
}

#[cfg(test)]
mod tests;

//! Facts about origins made into losses: a pure value, told the time.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipreconnect::core::address::Address;
use ipreconnect::core::failure::Failure;
use ipreconnect::core::locality::Blame;
use ipreconnect::core::origin::{Notice, Phase};
use ipreconnect::stats::Counts;

use crate::gateway::Pulse;

/// One thing that happened to an origin.
#[derive(Clone, Debug)]
pub(crate) struct Fact {
    pub(crate) at: Instant,
    /// Milliseconds since the beginning of 1970.
    pub(crate) wall: u64,
    pub(crate) origin: Arc<str>,
    pub(crate) notice: Notice,
    pub(crate) blame: Blame,
    pub(crate) last_life: Option<Instant>,
    pub(crate) counts: Counts,
}

/// What is to be written.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Entry {
    /// A loss has begun.
    Begun(Box<Loss>),
    /// New work goes elsewhere.
    TakenOver {
        id: u64,
        by: String,
        after: Duration,
    },
    /// It is over.
    Over {
        id: u64,
        lasted: Duration,
        healed_by: String,
    },
    /// What it has cost.
    Cost { id: u64, toll: Toll },
}

impl Entry {
    /// The number of the loss that it is about.
    pub(crate) fn id(&self) -> u64 {
        match self {
            Self::Begun(loss) => loss.id,
            Self::TakenOver { id, .. } | Self::Over { id, .. } | Self::Cost { id, .. } => *id,
        }
    }
}

/// A loss, as it begins.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Loss {
    pub(crate) id: u64,
    pub(crate) origin: Arc<str>,
    pub(crate) scope: Scope,
    pub(crate) endpoint: Option<String>,
    pub(crate) layer: String,
    pub(crate) cause: String,
    pub(crate) blame: &'static str,
    /// Milliseconds since the beginning of 1970.
    pub(crate) first_sign: u64,
    pub(crate) silent: Option<Duration>,
    pub(crate) notice: Duration,
}

/// What was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    Origin,
    Endpoint,
}

impl Scope {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Origin => "origin",
            Self::Endpoint => "endpoint",
        }
    }
}

/// What it did to clients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Toll {
    pub(crate) held: u64,
    pub(crate) retried: u64,
    pub(crate) lost: u64,
}

/// Clients that waited count when they are served, which is some moments after the end of a loss.
const SETTLES: Duration = Duration::from_secs(3);
/// What is told of a loss, and what a look at its origin shows, may be so far apart.
const APART: Duration = Duration::from_secs(5);

/// All that lasts.
#[derive(Debug)]
pub(crate) struct Chronicle {
    next: u64,
    /// When it was last asked how long origins were down.
    looked: Instant,
    cases: BTreeMap<Arc<str>, Case>,
    /// Losses that are over, and whose toll is not known yet.
    settling: VecDeque<Settling>,
}

#[derive(Debug)]
struct Settling {
    due: Instant,
    id: u64,
    origin: Arc<str>,
    before: Counts,
}

#[derive(Debug, Default)]
struct Case {
    origin: Option<Open>,
    endpoints: BTreeMap<String, Open>,
    /// The counters before the first sign.
    before: Counts,
    suspected: Option<Instant>,
    /// The servers that were lost last, and that came last.
    lost: Option<String>,
    came: Option<String>,
    has_moved: bool,
    was_rebuilt: bool,
    /// From which server to which one new work went, and when, if that was told before the loss.
    failed_over: Option<(String, String, Instant)>,
    /// How long it was down since the last look, without what lasts.
    down: Duration,
}

#[derive(Debug)]
struct Open {
    id: u64,
    first_sign: Instant,
    /// When it was certain.
    since: Instant,
    before: Counts,
}

impl Open {
    fn over(&self, at: Instant, healed_by: String) -> Entry {
        Entry::Over {
            id: self.id,
            lasted: at.saturating_duration_since(self.first_sign),
            healed_by,
        }
    }
}

const BACK: &str = "the server came back";

impl Chronicle {
    /// Losses are numbered from 1.
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            next: 1,
            looked: now,
            cases: BTreeMap::new(),
            settling: VecDeque::new(),
        }
    }

    /// What becomes of a fact.
    pub(crate) fn hear(&mut self, fact: &Fact, out: &mut Vec<Entry>) {
        let next = &mut self.next;
        let case = self.cases.entry(Arc::clone(&fact.origin)).or_default();
        let mut over = Vec::new();
        match &fact.notice {
            Notice::Phase { to, failure, .. } => {
                let phase = (*to, failure.as_ref());
                case.phase(fact, phase, self.looked, next, (out, &mut over));
            }
            Notice::EndpointDown {
                address,
                failure,
                doubted,
            } => case.endpoint_down(fact, (address, failure, *doubted), next, out),
            Notice::EndpointUp { address, .. } => case.endpoint_up(fact, address, (out, &mut over)),
            Notice::FailedOver { from, to, .. } => {
                let (from, to) = (from.to_string(), to.to_string());
                match case.endpoints.get(&from) {
                    Some(open) => out.push(taken_over(open, to, fact.at)),
                    None => case.failed_over = Some((from, to, fact.at)),
                }
            }
            Notice::NameMoved { .. } => case.has_moved = true,
            Notice::Rebuilt => case.was_rebuilt = true,
            Notice::Returned { .. } => case.failed_over = None,
            Notice::NameFailed { .. }
            | Notice::Preferred { .. }
            | Notice::NoRoom { .. }
            | Notice::Ejected { .. }
            | Notice::Readmitted { .. }
            | Notice::GivenUp { .. } => {}
        }
        for open in over {
            self.settle_later(fact.at, &fact.origin, open);
        }
    }

    fn settle_later(&mut self, now: Instant, origin: &Arc<str>, open: Open) {
        self.settling.push_back(Settling {
            due: now + SETTLES,
            id: open.id,
            origin: Arc::clone(origin),
            before: open.before,
        });
    }

    /// When the toll of a loss is known, if one waits to be.
    pub(crate) fn settles(&self) -> Option<Instant> {
        self.settling.front().map(|one| one.due)
    }

    /// Tells the toll of losses whose time has come, or of all.
    pub(crate) fn settle<'c>(
        &mut self,
        now: Option<Instant>,
        counts: impl Fn(&str) -> Option<&'c Counts>,
        out: &mut Vec<Entry>,
    ) {
        let is_due = |one: &Settling| now.is_none_or(|now| one.due <= now);
        while self.settling.front().is_some_and(is_due) {
            let Some(one) = self.settling.pop_front() else {
                return;
            };
            if let Some(counts) = counts(&one.origin) {
                let since = counts.since(&one.before);
                let toll = Toll {
                    held: since.held,
                    retried: since.retried,
                    lost: since.lost,
                };
                out.push(Entry::Cost { id: one.id, toll });
            }
        }
    }

    /// Closes what lasts of origins and servers that are not there any more, or that are up: what tells of them is
    /// lost where it is too much at once.
    pub(crate) fn keep<'p>(
        &mut self,
        now: Instant,
        pulse: impl Fn(&str) -> Option<&'p Pulse>,
        out: &mut Vec<Entry>,
    ) {
        let mut over = Vec::new();
        let mut close = |origin: &Arc<str>, open: Open, why: &str| {
            out.push(open.over(now, why.to_owned()));
            over.push((Arc::clone(origin), open));
        };
        let is_settled = |open: &mut Open| now.saturating_duration_since(open.since) > APART;
        self.cases.retain(|origin, case| {
            let Some(pulse) = pulse(origin) else {
                let open = case.origin.take().into_iter();
                for open in open.chain(std::mem::take(&mut case.endpoints).into_values()) {
                    close(
                        origin,
                        open,
                        "the origin was taken out of the configuration",
                    );
                }
                return false;
            };
            if pulse.is_up
                && let Some(open) = case.origin.take_if(is_settled)
            {
                close(origin, open, "it was up when it was looked at");
            }
            let addresses: Vec<String> = case.endpoints.keys().cloned().collect();
            for address in addresses {
                let mut endpoints = pulse.endpoints.iter();
                let why = match endpoints.find(|(one, _)| *one == address) {
                    None => "nothing leads there any more",
                    Some((_, true)) => "it was up when it was looked at",
                    Some((_, false)) => continue,
                };
                let is_settled = case.endpoints.get_mut(&address).is_some_and(is_settled);
                if is_settled && let Some(open) = case.endpoints.remove(&address) {
                    close(origin, open, why);
                }
            }
            true
        });
        for (origin, open) in over {
            self.settle_later(now, &origin, open);
        }
    }

    /// How long each origin was down since this was asked last.
    pub(crate) fn take_down(&mut self, now: Instant) -> BTreeMap<Arc<str>, Duration> {
        let looked = std::mem::replace(&mut self.looked, now);
        let down = |(origin, case): (&Arc<str>, &mut Case)| {
            let lasts = case.origin.as_ref().map(|open| {
                let since = open.first_sign.max(looked);
                now.saturating_duration_since(since)
            });
            let down = std::mem::take(&mut case.down) + lasts.unwrap_or_default();
            (!down.is_zero()).then(|| (Arc::clone(origin), down))
        };
        self.cases.iter_mut().filter_map(down).collect()
    }
}

impl Case {
    fn phase(
        &mut self,
        fact: &Fact,
        (to, failure): (Phase, Option<&Failure>),
        looked: Instant,
        next: &mut u64,
        (out, over): (&mut Vec<Entry>, &mut Vec<Open>),
    ) {
        match to {
            // A server is up, though something else is in doubt.
            Phase::Suspect if self.origin.is_some() => self.end(fact, to, looked, (out, over)),
            Phase::Suspect => {
                self.suspected.get_or_insert(fact.at);
                self.before = fact.counts.clone();
            }
            Phase::Down if self.origin.is_none() => {
                let before = match self.suspected {
                    Some(_) => std::mem::take(&mut self.before),
                    None => fact.counts.clone(),
                };
                let first_sign = self.suspected.take().unwrap_or(fact.at);
                let open = Open {
                    id: take(next),
                    first_sign,
                    since: fact.at,
                    before,
                };
                let mut loss = loss(fact, &open, Scope::Origin, failure);
                loss.endpoint.clone_from(&self.lost);
                self.origin = Some(open);
                (self.came, self.has_moved, self.was_rebuilt) = (None, false, false);
                out.push(Entry::Begun(Box::new(loss)));
            }
            Phase::Up | Phase::Draining => self.end(fact, to, looked, (out, over)),
            Phase::Down | Phase::Unknown | Phase::Connecting => {}
        }
    }

    /// Nothing is down any more.
    fn end(
        &mut self,
        fact: &Fact,
        to: Phase,
        looked: Instant,
        (out, over): (&mut Vec<Entry>, &mut Vec<Open>),
    ) {
        self.suspected = None;
        let Some(open) = self.origin.take() else {
            return;
        };
        let healed_by = if to == Phase::Draining {
            "the origin was drained".to_owned()
        } else {
            self.healer()
        };
        let since = open.first_sign.max(looked);
        self.down += fact.at.saturating_duration_since(since);
        out.push(open.over(fact.at, healed_by));
        over.push(open);
    }

    /// What brought the origin back.
    fn healer(&self) -> String {
        match &self.came {
            _ if self.was_rebuilt => "all that was known of it was rebuilt".to_owned(),
            Some(came) if self.has_moved => format!("its name led to {came}"),
            Some(came) if self.lost.as_ref() != Some(came) => format!("{came} could be reached"),
            _ => BACK.to_owned(),
        }
    }

    fn endpoint_down(
        &mut self,
        fact: &Fact,
        (address, failure, doubted): (&Address, &Failure, Duration),
        next: &mut u64,
        out: &mut Vec<Entry>,
    ) {
        let address = address.to_string();
        self.lost = Some(address.clone());
        // What is lost already may turn out to be an impostor: that is no other loss.
        if self.endpoints.contains_key(&address) {
            return;
        }
        let open = Open {
            id: take(next),
            first_sign: fact.at.checked_sub(doubted).unwrap_or(fact.at),
            since: fact.at,
            before: fact.counts.clone(),
        };
        let mut loss = loss(fact, &open, Scope::Endpoint, Some(failure));
        loss.endpoint = Some(address.clone());
        out.push(Entry::Begun(Box::new(loss)));
        // What was told long before belongs to a doubt that has passed.
        if let Some((_, to, at)) = self.failed_over.take_if(|(from, ..)| *from == address)
            && at + APART > open.first_sign
        {
            out.push(taken_over(&open, to, at));
        }
        self.endpoints.insert(address, open);
    }

    fn endpoint_up(
        &mut self,
        fact: &Fact,
        address: &Address,
        (out, over): (&mut Vec<Entry>, &mut Vec<Open>),
    ) {
        let address = address.to_string();
        if let Some(open) = self.endpoints.remove(&address) {
            out.push(open.over(fact.at, BACK.to_owned()));
            over.push(open);
        }
        self.failed_over.take_if(|(from, ..)| *from == address);
        self.came = Some(address);
    }
}

fn taken_over(open: &Open, by: String, at: Instant) -> Entry {
    Entry::TakenOver {
        id: open.id,
        by,
        after: at.saturating_duration_since(open.first_sign),
    }
}

fn take(next: &mut u64) -> u64 {
    let id = *next;
    *next += 1;
    id
}

fn loss(fact: &Fact, open: &Open, scope: Scope, failure: Option<&Failure>) -> Loss {
    let notice = fact.at.saturating_duration_since(open.first_sign);
    let silent = fact
        .last_life
        .map(|life| fact.at.saturating_duration_since(life));
    Loss {
        id: open.id,
        origin: Arc::clone(&fact.origin),
        scope,
        endpoint: None,
        layer: failure.map_or_else(
            || "unknown".to_owned(),
            |failure| failure.layer().to_string(),
        ),
        cause: failure.map_or_else(|| "unknown".to_owned(), ToString::to_string),
        blame: match fact.blame {
            Blame::Origin => "origin",
            Blame::OwnNetwork => "own network",
        },
        first_sign: fact
            .wall
            .saturating_sub(u64::try_from(notice.as_millis()).unwrap_or_default()),
        silent,
        notice,
    }
}

#[cfg(test)]
mod tests;

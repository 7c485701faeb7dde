//! Facts about origins made into losses: a pure value, told the time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipreconnect::core::address::Address;
use ipreconnect::core::failure::Failure;
use ipreconnect::core::locality::Blame;
use ipreconnect::core::origin::{Notice, Phase};
use ipreconnect::stats::Counts;

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
        toll: Toll,
    },
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

/// All that lasts.
#[derive(Debug)]
pub(crate) struct Chronicle {
    next: u64,
    /// When it was last asked how long origins were down.
    looked: Instant,
    cases: BTreeMap<Arc<str>, Case>,
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
    before: Counts,
}

impl Open {
    fn toll(&self, now: &Counts) -> Toll {
        let since = now.since(&self.before);
        Toll {
            held: since.held,
            retried: since.retried,
            lost: since.lost,
        }
    }
}

impl Chronicle {
    /// Losses are numbered from 1.
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            next: 1,
            looked: now,
            cases: BTreeMap::new(),
        }
    }

    /// What becomes of a fact.
    pub(crate) fn hear(&mut self, fact: &Fact, out: &mut Vec<Entry>) {
        let next = &mut self.next;
        let case = self.cases.entry(Arc::clone(&fact.origin)).or_default();
        match &fact.notice {
            Notice::Phase { to, failure, .. } => {
                case.phase(fact, (*to, failure.as_ref()), self.looked, next, out);
            }
            Notice::EndpointDown {
                address,
                failure,
                doubted,
            } => case.endpoint_down(fact, (address, failure, *doubted), next, out),
            Notice::EndpointUp { address, .. } => case.endpoint_up(fact, address, out),
            Notice::FailedOver { from, to, .. } => {
                let (from, to) = (from.to_string(), to.to_string());
                match case.endpoints.get(&from) {
                    Some(open) => out.push(taken_over(open, to, fact.at)),
                    None => case.failed_over = Some((from, to, fact.at)),
                }
            }
            Notice::NameMoved { .. } => case.has_moved = true,
            Notice::Rebuilt => case.was_rebuilt = true,
            Notice::Returned { .. }
            | Notice::NameFailed { .. }
            | Notice::NoRoom { .. }
            | Notice::Ejected { .. }
            | Notice::Readmitted { .. }
            | Notice::GivenUp { .. } => {}
        }
    }

    /// Closes what lasts of origins, and of servers, that are not there any more. `servers` tells the servers of
    /// an origin, if it is there.
    pub(crate) fn keep<'s>(
        &mut self,
        at: Instant,
        servers: impl Fn(&str) -> Option<&'s [String]>,
        out: &mut Vec<Entry>,
    ) {
        let mut end = |open: Open, why: &str| {
            out.push(Entry::Over {
                id: open.id,
                lasted: at.saturating_duration_since(open.first_sign),
                healed_by: why.to_owned(),
                toll: Toll::default(),
            });
        };
        self.cases.retain(|origin, case| {
            let Some(servers) = servers(origin) else {
                let open = case.origin.take().into_iter();
                for open in open.chain(std::mem::take(&mut case.endpoints).into_values()) {
                    end(open, "the origin was taken out of the configuration");
                }
                return false;
            };
            let gone: Vec<String> = case
                .endpoints
                .keys()
                .filter(|address| !servers.contains(address))
                .cloned()
                .collect();
            for address in gone {
                if let Some(open) = case.endpoints.remove(&address) {
                    end(open, "nothing leads there any more");
                }
            }
            true
        });
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
        out: &mut Vec<Entry>,
    ) {
        match to {
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
                    before,
                };
                let mut loss = loss(fact, &open, Scope::Origin, failure);
                loss.endpoint.clone_from(&self.lost);
                self.origin = Some(open);
                (self.came, self.has_moved, self.was_rebuilt) = (None, false, false);
                out.push(Entry::Begun(Box::new(loss)));
            }
            Phase::Up | Phase::Draining => {
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
                out.push(Entry::Over {
                    id: open.id,
                    lasted: fact.at.saturating_duration_since(open.first_sign),
                    healed_by,
                    toll: open.toll(&fact.counts),
                });
            }
            Phase::Down | Phase::Unknown | Phase::Connecting => {}
        }
    }

    /// What brought the origin back.
    fn healer(&self) -> String {
        match &self.came {
            _ if self.was_rebuilt => "all that was known of it was rebuilt".to_owned(),
            Some(came) if self.has_moved => format!("its name led to {came}"),
            Some(came) if self.lost.as_ref() != Some(came) => format!("{came} could be reached"),
            _ => "the server came back".to_owned(),
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
            before: fact.counts.clone(),
        };
        let mut loss = loss(fact, &open, Scope::Endpoint, Some(failure));
        loss.endpoint = Some(address.clone());
        out.push(Entry::Begun(Box::new(loss)));
        if let Some((_, to, at)) = self.failed_over.take_if(|(from, ..)| *from == address) {
            out.push(taken_over(&open, to, at));
        }
        self.endpoints.insert(address, open);
    }

    fn endpoint_up(&mut self, fact: &Fact, address: &Address, out: &mut Vec<Entry>) {
        let address = address.to_string();
        if let Some(open) = self.endpoints.remove(&address) {
            out.push(Entry::Over {
                id: open.id,
                lasted: fact.at.saturating_duration_since(open.first_sign),
                healed_by: "the server came back".to_owned(),
                toll: open.toll(&fact.counts),
            });
        }
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

//! How somebody talks to a port: a rhythm that only a program keeps, and more bytes than ever before.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

/// Who talks to which port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Parties {
    /// The listening port.
    pub port: u16,
    /// The user, if known.
    pub user: Option<u32>,
    /// The program, as far as known.
    pub program: Box<str>,
    /// Where the peer is, if its user is not known: those of other machines are as many as their addresses.
    pub address: Option<IpAddr>,
}

/// What is worth a look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Habit {
    /// It comes again and again after the same time, as no person does.
    Beacon {
        /// That time.
        every: Duration,
        /// How often it came so.
        times: usize,
    },
    /// Far more bytes within an hour than in any hour before.
    Volume {
        /// Bytes that the peer was sent.
        taken: u64,
        /// Bytes that it has sent.
        given: u64,
    },
}

/// A habit that was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Noticed {
    /// Which one.
    pub habit: Habit,
    /// It was not told within a day before.
    pub is_news: bool,
    /// It is taken to go on for so long, if no more is seen of it.
    pub lasts: Duration,
}

/// Comings that are looked at, and how few are no rhythm.
const COMINGS: usize = 12;
const FEW: usize = 6;
/// Who comes more often talks, and does not call home.
const SHORTEST: Duration = Duration::from_secs(4);
/// Part of the usual time that the middle half may be apart.
const APART: f64 = 0.1;
/// Bytes that are much within an hour, whatever was before.
const MUCH: u64 = 256 * 1024 * 1024;
/// So many times what was most.
const TIMES: u64 = 4;
/// The time over which bytes are counted.
const HOUR: Duration = Duration::from_secs(3600);
/// A rhythm is over when nobody came for so many times its pause.
const MISSED: u32 = 3;
/// A habit is told again after so long.
const AGAIN: Duration = Duration::from_secs(24 * 3600);
/// So many are watched; of more the one that was quiet for longest is forgotten.
const MOST: usize = 4096;

/// The habits of all who talk.
#[derive(Clone, Debug, Default)]
pub struct Habits {
    pub(super) flows: BTreeMap<Parties, Flow>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Flow {
    comings: VecDeque<Duration>,
    told_rhythm: Option<Duration>,
    told_volume: Option<Duration>,
    /// It was noticed within the hour of now that it is too much.
    is_much: bool,
    /// Since when the hour of now is counted.
    hour: Duration,
    taken: u64,
    given: u64,
    /// The most within one hour before; none before there was one.
    most: Option<u64>,
    last: Duration,
}

impl Habits {
    /// Somebody has come, at a time since some beginning: the rhythm that there is in it.
    pub fn came(&mut self, now: Duration, parties: &Parties) -> Option<Noticed> {
        let flow = self.flow(now, parties);
        if flow.comings.len() >= COMINGS {
            flow.comings.pop_front();
        }
        flow.comings.push_back(now);
        let (every, times) = flow.rhythm()?;
        Some(Noticed {
            habit: Habit::Beacon { every, times },
            is_news: is_news(&mut flow.told_rhythm, now),
            lasts: every.saturating_mul(MISSED),
        })
    }

    /// So many more bytes were carried for somebody: how many they are within the hour, once those are too many.
    pub fn carried(
        &mut self,
        now: Duration,
        parties: &Parties,
        taken: u64,
        given: u64,
    ) -> Option<Noticed> {
        let flow = self.flow(now, parties);
        if now.saturating_sub(flow.hour) >= HOUR {
            let all = flow.taken.saturating_add(flow.given);
            flow.most = Some(flow.most.unwrap_or_default().max(all));
            (flow.taken, flow.given, flow.hour) = (0, 0, now);
            flow.is_much = false;
        }
        flow.taken = flow.taken.saturating_add(taken);
        flow.given = flow.given.saturating_add(given);
        let limit = flow
            .most
            .unwrap_or_default()
            .saturating_mul(TIMES)
            .max(MUCH);
        if flow.is_much || flow.taken.saturating_add(flow.given) < limit {
            return None;
        }
        flow.is_much = true;
        Some(Noticed {
            habit: Habit::Volume {
                taken: flow.taken,
                given: flow.given,
            },
            is_news: is_news(&mut flow.told_volume, now),
            lasts: HOUR.saturating_sub(now.saturating_sub(flow.hour)),
        })
    }

    fn flow(&mut self, now: Duration, parties: &Parties) -> &mut Flow {
        if !self.flows.contains_key(parties) && self.flows.len() >= MOST {
            let quiet = self.flows.iter().min_by_key(|(_, flow)| flow.last);
            if let Some(quiet) = quiet.map(|(parties, _)| parties.clone()) {
                self.flows.remove(&quiet);
            }
        }
        let flow = self.flows.entry(parties.clone()).or_insert_with(|| Flow {
            hour: now,
            ..Flow::default()
        });
        flow.last = now;
        flow
    }
}

fn is_news(told: &mut Option<Duration>, now: Duration) -> bool {
    let is_news = told.is_none_or(|told| now.saturating_sub(told) >= AGAIN);
    if is_news {
        *told = Some(now);
    }
    is_news
}

impl Flow {
    /// The time between comings, if it is nearly always the same. A missed one, or one too many, does not hide it: the
    /// middle half decides.
    fn rhythm(&self) -> Option<(Duration, usize)> {
        let pairs = self.comings.iter().zip(self.comings.iter().skip(1));
        let mut pauses: Vec<f64> = pairs
            .map(|(one, next)| next.saturating_sub(*one).as_secs_f64())
            .collect();
        if pauses.len() + 1 < FEW {
            return None;
        }
        pauses.sort_by(f64::total_cmp);
        let at = |part: usize| pauses.get(pauses.len() * part / 4).copied();
        let (low, middle, high) = (at(1)?, at(2)?, at(3)?);
        let every = Duration::try_from_secs_f64(middle).ok()?;
        (every >= SHORTEST && high - low <= middle * APART).then_some((every, self.comings.len()))
    }
}

//! In which order endpoints are tried for a new link.
//!
//! Good endpoints come before doubtful ones, preferred before backups; the policy decides only among
//! equals. What is bad is not tried at all.

mod choose;
mod ewma;

use std::time::{Duration, Instant};

pub use ewma::PeakEwma;

use crate::dice::Dice;
use choose::RoundRobin;

/// How one is chosen among endpoints of one priority.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// In the order given.
    Failover,
    /// In turns, by weight, evenly spread.
    RoundRobin,
    /// The one with the fewest links for its weight.
    LeastConnections,
    /// The better of two chosen by chance: latency times load.
    P2cEwma,
    /// By chance, by weight.
    Random,
    /// Always the same one for the same hash, for as long as it is there.
    Hash,
}

/// Whether an endpoint may be tried, and how gladly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// Gladly.
    Good,
    /// If nothing better is left.
    Doubtful,
    /// Not at all.
    Bad,
}

/// One endpoint to choose from.
#[derive(Clone, Copy, Debug)]
pub struct Candidate {
    /// Its stable number.
    pub key: u32,
    /// 0 is preferred.
    pub priority: u32,
    /// At least 1.
    pub weight: u32,
    /// Links open now.
    pub open: u32,
    /// Its smoothed latency, if known.
    pub latency: Option<Duration>,
    /// Whether it may be tried.
    pub usable: Standing,
    /// When it began to take work again, after it was lost or set aside.
    pub returned: Option<Instant>,
    /// Whether its name wants it chosen by weight among those of its priority, whatever the policy
    /// (RFC 2782).
    pub by_weight: bool,
}

/// One worker's own chooser. Not `Clone`: two choosers must not throw the same dice.
#[derive(Debug)]
pub struct Balance {
    policy: Policy,
    dice: Dice,
    slow_start: Duration,
    round_robin: RoundRobin,
    scores: Vec<(usize, f64)>,
}

impl Balance {
    /// A chooser by `policy`. An endpoint that came back reaches its full share after `slow_start`.
    #[must_use]
    pub fn new(policy: Policy, seed: u64, slow_start: Duration) -> Self {
        Self {
            policy,
            dice: Dice::new(seed),
            slow_start,
            round_robin: RoundRobin::default(),
            scores: Vec::new(),
        }
    }

    /// Fills `out` with the indices of all candidates worth trying, the best first.
    pub fn order(
        &mut self,
        now: Instant,
        candidates: &[Candidate],
        hash: Option<u64>,
        out: &mut Vec<usize>,
    ) {
        out.clear();
        out.extend(0..candidates.len());
        let rank = |index: &usize| {
            candidates
                .get(*index)
                .map_or((Standing::Bad, u32::MAX), |c| (c.usable, c.priority))
        };
        out.retain(|index| rank(index).0 != Standing::Bad);
        out.sort_by_key(rank);
        let by_weight = |index: &usize| candidates.get(*index).is_some_and(|c| c.by_weight);
        if self.policy == Policy::Failover && !out.iter().any(by_weight) {
            return;
        }
        let mut start = 0;
        while let Some(first) = out.get(start) {
            let group = rank(first);
            let length = out
                .iter()
                .skip(start)
                .take_while(|i| rank(i) == group)
                .count();
            // Only the first group is chosen from for good; the rest is for the case that it fails.
            if let Some(members) = out.get_mut(start..start + length)
                && (self.policy != Policy::Failover || members.iter().all(by_weight))
            {
                self.arrange(now, candidates, hash, members);
            }
            start += length;
        }
    }

    fn arrange(
        &mut self,
        now: Instant,
        candidates: &[Candidate],
        hash: Option<u64>,
        members: &mut [usize],
    ) {
        if members.len() < 2 {
            return;
        }
        if self.policy == Policy::RoundRobin {
            let weight = |candidate: &Candidate| self.ramp(now, candidate);
            let weighted = members.iter().filter_map(|index| {
                let candidate = candidates.get(*index)?;
                Some((candidate.key, weight(candidate)))
            });
            let weighted: Vec<(u32, f64)> = weighted.collect();
            let winner = self.round_robin.next(&weighted);
            members.sort_by_key(|index| candidates.get(*index).map(|c| c.key) != winner);
            return;
        }
        let mut scores = std::mem::take(&mut self.scores);
        scores.clear();
        for index in members.iter() {
            if let Some(candidate) = candidates.get(*index) {
                scores.push((*index, self.score(now, candidate, hash)));
            }
        }
        scores.sort_by(|a, b| a.1.total_cmp(&b.1));
        if self.policy == Policy::P2cEwma {
            better_of_two(candidates, &mut scores);
        }
        for (place, (index, _)) in members.iter_mut().zip(&scores) {
            *place = *index;
        }
        self.scores = scores;
    }

    /// Lower is better.
    fn score(&mut self, now: Instant, candidate: &Candidate, hash: Option<u64>) -> f64 {
        let weight = self.ramp(now, candidate);
        match (self.policy, hash) {
            // Each hash moves to one that came back once, and stays there.
            (Policy::Hash, Some(hash)) => choose::rendezvous(hash, candidate, weight),
            // The weight counts in the comparison of the two, not in the draw.
            (Policy::P2cEwma, _) => self.dice.unit() + self.sits_out(now, candidate),
            (Policy::LeastConnections, _) => {
                // The fraction breaks ties by chance.
                let open = f64::from(candidate.open) + 1.0 + self.dice.unit() * 1e-3;
                open / f64::from(candidate.weight.max(1))
                    + f64::from(u32::MAX) * self.sits_out(now, candidate)
            }
            _ => choose::exponential(self.dice.unit(), weight),
        }
    }

    /// Where the least loaded one is taken, a weight would keep one that came back from all work until
    /// there is much, and then give it all at once. So it sits out a share of the turns: 1 if this one.
    fn sits_out(&mut self, now: Instant, candidate: &Candidate) -> f64 {
        let share = self.share(now, candidate);
        if share < 1.0 && self.dice.unit() >= share {
            1.0
        } else {
            0.0
        }
    }

    /// The weight of a candidate now.
    fn ramp(&self, now: Instant, candidate: &Candidate) -> f64 {
        f64::from(candidate.weight.max(1)) * self.share(now, candidate)
    }

    /// What a candidate takes of its work now: from a tenth to the whole over the slow start.
    fn share(&self, now: Instant, candidate: &Candidate) -> f64 {
        let Some(returned) = candidate.returned else {
            return 1.0;
        };
        let since = now.saturating_duration_since(returned);
        if since >= self.slow_start {
            return 1.0;
        }
        let share = since.as_secs_f64() / self.slow_start.as_secs_f64();
        0.1 + 0.9 * share
    }
}

/// Puts the better of the first two in front; chance has put them there. Who sits this turn out stays
/// behind who does not.
fn better_of_two(candidates: &[Candidate], drawn: &mut [(usize, f64)]) {
    let cost = |index: usize| {
        let candidate = candidates.get(index);
        candidate.map_or(f64::INFINITY, choose::cost)
    };
    if let [first, second, ..] = drawn
        && (second.1 < 1.0 || first.1 >= 1.0)
        && cost(second.0) < cost(first.0)
    {
        std::mem::swap(first, second);
    }
}

#[cfg(test)]
mod tests;

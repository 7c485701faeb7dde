//! The single policies.

use std::time::Duration;

use super::Candidate;

/// An endpoint of unknown latency is taken for a quick one, so that it is tried, but not for a free
/// one, so that it is not flooded (as finagle and linkerd do).
const UNKNOWN: Duration = Duration::from_millis(1);
/// Endpoints that a round robin remembers beyond those it chooses from.
const REMEMBERED: usize = 1024;

/// Smooth weighted round robin, as nginx does it: each turn everybody gains its weight, and who has
/// most pays for all.
#[derive(Debug, Default)]
pub(super) struct RoundRobin {
    credit: Vec<(u32, f64)>,
}

impl RoundRobin {
    pub(super) fn next(&mut self, members: &[(u32, f64)]) -> Option<u32> {
        if self.credit.len() > members.len() + REMEMBERED {
            self.credit
                .retain(|(known, _)| members.iter().any(|(key, _)| key == known));
        }
        let mut total = 0.0;
        let mut best: Option<(usize, f64)> = None;
        for (key, weight) in members {
            total += weight;
            let place = match self.credit.iter().position(|(known, _)| known == key) {
                Some(place) => place,
                None => {
                    self.credit.push((*key, 0.0));
                    self.credit.len() - 1
                }
            };
            if let Some((_, credit)) = self.credit.get_mut(place) {
                *credit += weight;
                if best.is_none_or(|(_, most)| *credit > most) {
                    best = Some((place, *credit));
                }
            }
        }
        let (key, credit) = self.credit.get_mut(best?.0)?;
        *credit -= total;
        Some(*key)
    }
}

/// Latency times load, for its weight.
pub(super) fn cost(candidate: &Candidate) -> f64 {
    let weight = f64::from(candidate.weight.max(1));
    let latency = candidate.latency.unwrap_or(UNKNOWN).as_secs_f64();
    latency * (f64::from(candidate.open) + 1.0) / weight
}

/// The time of the first event of a process of that rate: ordering by it draws without replacement
/// by weight (Efraimidis and Spirakis).
pub(super) fn exponential(unit: f64, rate: f64) -> f64 {
    -(1.0 - unit).ln() / rate
}

/// Weighted rendezvous hashing: the same draw, thrown by the hash instead of dice.
pub(super) fn rendezvous(hash: u64, candidate: &Candidate, weight: f64) -> f64 {
    let mixed = mix(hash ^ mix(u64::from(candidate.key).wrapping_add(0x9e37_79b9_7f4a_7c15)));
    // 53 bits fill the mantissa of a float in [0, 1).
    let unit = (mixed >> 11) as f64 / (1u64 << 53) as f64;
    exponential(unit, weight)
}

/// The finaliser of SplitMix64.
fn mix(mut value: u64) -> u64 {
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

//! Which addresses a name led to of late: whether an answer means that it moved.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// An answer that old says nothing about the next one.
const LATELY: Duration = Duration::from_secs(600);
/// So many returns of addresses that were absent mean that the answers rotate.
const ROTATES: u32 = 2;
/// Addresses that are kept in mind.
const KEPT: usize = 512;

/// What an answer means, compared with those before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing new: addresses joined or are absent for a while.
    Widened,
    /// The name moved: its addresses are others than before.
    Moved,
}

/// The addresses of late answers.
#[derive(Clone, Debug)]
pub struct Sightings<A> {
    seen: BTreeMap<A, Instant>,
    last: Vec<A>,
    /// How often an absent address came back, and when it last did.
    returns: u32,
    returned: Option<Instant>,
}

impl<A> Default for Sightings<A> {
    fn default() -> Self {
        Self {
            seen: BTreeMap::new(),
            last: Vec::new(),
            returns: 0,
            returned: None,
        }
    }
}

impl<A: Ord + Clone> Sightings<A> {
    /// An answer, and what it means.
    pub fn observe(&mut self, now: Instant, answer: &[A]) -> Change {
        let old = |at: Instant| now.saturating_duration_since(at) >= LATELY;
        self.seen.retain(|_, at| !old(*at));
        if self.returned.is_some_and(old) {
            self.returns = 0;
        }
        let has_before = !self.last.is_empty() && !answer.is_empty();
        let is_disjoint = has_before && !answer.iter().any(|one| self.last.contains(one));
        let returned = answer
            .iter()
            .any(|one| self.seen.contains_key(one) && !self.last.contains(one));
        if returned {
            self.returns = self.returns.saturating_add(1);
            self.returned = Some(now);
        }
        for one in answer {
            if self.seen.len() < KEPT || self.seen.contains_key(one) {
                self.seen.insert(one.clone(), now);
            }
        }
        if !answer.is_empty() {
            self.last = answer.to_vec();
        }
        if is_disjoint && !(returned && self.returns >= ROTATES) {
            Change::Moved
        } else {
            Change::Widened
        }
    }
}

#[cfg(test)]
mod tests;

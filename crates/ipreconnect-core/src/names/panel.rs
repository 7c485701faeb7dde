//! The servers that can be asked, and which of them failed of late.

use std::time::{Duration, Instant};

/// Set aside for so long after the first failure, doubling with each one that follows.
const ASIDE_FIRST: Duration = Duration::from_secs(1);
const ASIDE_LAST: Duration = Duration::from_secs(60);
/// A lie counts as so many failures.
const LIE: u32 = 4;

/// What a server did wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It gave no answer, or said that it cannot.
    Failed,
    /// It gave an answer that is provably false.
    Lied,
}

/// What is known of one server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seat {
    /// Failures since the last answer.
    pub failures: u32,
    /// Asked only if nobody else is left, until then.
    pub aside_until: Option<Instant>,
}

/// All servers, in the order of the configuration.
#[derive(Clone, Debug)]
pub struct Panel {
    seats: Vec<Seat>,
}

impl Panel {
    /// So many servers, all well.
    #[must_use]
    pub fn new(count: usize) -> Self {
        Self {
            seats: vec![Seat::default(); count],
        }
    }

    /// A server answered.
    pub fn worked(&mut self, server: usize) {
        if let Some(seat) = self.seats.get_mut(server) {
            *seat = Seat::default();
        }
    }

    /// A server failed, or lied.
    pub fn failed(&mut self, now: Instant, server: usize, fault: Fault) {
        let Some(seat) = self.seats.get_mut(server) else {
            return;
        };
        // Lookups that failed together are one failure.
        if seat.aside_until.is_some_and(|until| now < until) && fault == Fault::Failed {
            return;
        }
        seat.failures = seat.failures.saturating_add(match fault {
            Fault::Failed => 1,
            Fault::Lied => LIE,
        });
        let doublings = (seat.failures - 1).min(10);
        seat.aside_until = Some(now + (ASIDE_FIRST * (1 << doublings)).min(ASIDE_LAST));
    }

    /// Forgets all failures: the network is another one.
    pub fn forgive(&mut self) {
        self.seats.fill(Seat::default());
    }

    /// The servers in the order in which they are to be asked: those set aside last, the one that is
    /// back soonest first. `last` is the one that should not be the first, if there is another.
    #[must_use]
    pub fn order(&self, now: Instant, last: Option<usize>) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.seats.len()).collect();
        order.sort_by_key(|server| {
            let aside = self
                .seats
                .get(*server)
                .and_then(|seat| seat.aside_until.filter(|until| now < *until));
            (aside.is_some(), aside, last == Some(*server))
        });
        order
    }

    /// What is known of each server.
    #[must_use]
    pub fn seats(&self) -> &[Seat] {
        &self.seats
    }
}

#[cfg(test)]
mod tests;

//! The retry budget: how much of the live traffic may be retries.
//!
//! Why a budget and not a number of retries for each request? Because retries hurt when everybody
//! needs them: three for each request make a failing server's load four times what it was. A share of
//! live traffic is generous to single failures and mean to an avalanche. A small floor lets quiet
//! origins retry at all.

use std::time::{Duration, Instant};

/// The window over which traffic is counted.
const WINDOW: Duration = Duration::from_secs(10);
const SLOTS: usize = 10;

/// Whether a retry may be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permit {
    /// Yes; it is counted.
    Granted,
    /// No: the budget is used up.
    Refused,
}

/// The retry budget of one origin.
#[derive(Debug)]
pub struct Budget {
    share: f64,
    floor: f64,
    began: Instant,
    /// Requests and retries of each slot, with the number of the slot they belong to.
    slots: [(u64, u64, u64); SLOTS],
}

impl Budget {
    /// Retries may be `share` of the requests (0 to 1; what is not a number is 0), and `floor` a second
    /// in any case, both counted over ten seconds in steps of one.
    #[must_use]
    pub fn new(now: Instant, share: f64, floor: u32) -> Self {
        Self {
            share: if share.is_nan() {
                0.0
            } else {
                share.clamp(0.0, 1.0)
            },
            floor: f64::from(floor),
            began: now,
            slots: [(0, 0, 0); SLOTS],
        }
    }

    /// A request of live traffic was made.
    pub fn deposit(&mut self, now: Instant) {
        let slot = self.slot(now);
        slot.1 = slot.1.saturating_add(1);
    }

    /// Asks for a retry.
    pub fn withdraw(&mut self, now: Instant) -> Permit {
        let current = self.number(now);
        let counted = self
            .slots
            .iter()
            .filter(|(number, _, _)| current.saturating_sub(*number) < SLOTS as u64);
        let (requests, retries) = counted.fold((0u64, 0u64), |(requests, retries), slot| {
            (requests + slot.1, retries + slot.2)
        });
        let allowed = requests as f64 * self.share + self.floor * WINDOW.as_secs_f64();
        if (retries as f64) + 1.0 > allowed {
            return Permit::Refused;
        }
        self.slot(now).2 += 1;
        Permit::Granted
    }

    fn number(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.began).as_millis();
        let length = (WINDOW / SLOTS as u32).as_millis();
        u64::try_from(since / length).unwrap_or(u64::MAX)
    }

    fn slot(&mut self, now: Instant) -> &mut (u64, u64, u64) {
        let number = self.number(now);
        let slot = &mut self.slots[(number % SLOTS as u64) as usize];
        // A caller whose clock was read a little earlier counts in the newer slot.
        if slot.0 < number {
            *slot = (number, 0, 0);
        }
        slot
    }
}

#[cfg(test)]
mod tests;

//! The failure detector of one endpoint: thresholds both ways.

/// How many failures and successes in a row turn an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thresholds {
    /// Failures in a row until it is down; at least 1.
    pub down_after: u32,
    /// Successes in a row until a preferred endpoint may return; at least 1.
    pub up_after: u32,
}

/// What the last facts add up to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opinion {
    /// Nothing known yet.
    None,
    /// Enough successes in a row.
    Good,
    /// Some successes in a row, not enough to return.
    Better,
    /// Some failures in a row, not enough to give up.
    Doubtful,
    /// Enough failures in a row.
    Bad,
}

/// Counts facts about one endpoint. A plain value: it neither waits nor asks.
#[derive(Clone, Copy, Debug)]
pub struct Detector {
    thresholds: Thresholds,
    failures: u32,
    successes: u32,
}

impl Detector {
    /// A detector that knows nothing; thresholds of 0 count as 1.
    #[must_use]
    pub fn new(thresholds: Thresholds) -> Self {
        Self {
            thresholds: Thresholds {
                down_after: thresholds.down_after.max(1),
                up_after: thresholds.up_after.max(1),
            },
            failures: 0,
            successes: 0,
        }
    }

    /// Takes a success.
    pub fn succeeded(&mut self) -> Opinion {
        self.failures = 0;
        self.successes = self.successes.saturating_add(1);
        self.opinion()
    }

    /// Takes a failure.
    pub fn failed(&mut self) -> Opinion {
        self.successes = 0;
        self.failures = self.failures.saturating_add(1);
        self.opinion()
    }

    /// Forgets everything but the thresholds.
    pub fn reset(&mut self) {
        self.failures = 0;
        self.successes = 0;
    }

    /// Changes the thresholds, and keeps what was counted.
    pub fn set_thresholds(&mut self, thresholds: Thresholds) {
        *self = Self {
            failures: self.failures,
            successes: self.successes,
            ..Self::new(thresholds)
        };
    }

    /// What the facts add up to.
    #[must_use]
    pub fn opinion(&self) -> Opinion {
        match (self.failures, self.successes) {
            (0, 0) => Opinion::None,
            (0, n) if n >= self.thresholds.up_after => Opinion::Good,
            (0, _) => Opinion::Better,
            (n, _) if n >= self.thresholds.down_after => Opinion::Bad,
            _ => Opinion::Doubtful,
        }
    }
}

#[cfg(test)]
mod tests;

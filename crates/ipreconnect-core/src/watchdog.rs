//! The progress watchdog: nothing may ever need a restart to heal.
//!
//! If clients wait, none of them moves, and yet a fresh and independent probe works, then something
//! that is remembered must be wrong, whatever it is: it is forgotten and built anew, in place.

use std::time::{Duration, Instant};

/// Waiting without any progress for this long is looked into, and the first pause after a rebuild.
const PATIENCE: Duration = Duration::from_secs(3);
/// The longest pause between two rebuilds.
const LONGEST: Duration = Duration::from_secs(60);
/// A probe of which nothing was heard for so long is lost; another one is asked for.
const LOST: Duration = Duration::from_secs(30);

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing.
    Fine,
    /// Probe the origin independently of all that is known, and tell the result.
    Probe,
}

/// What the independent probe found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// The origin can be reached.
    Reachable,
    /// It cannot: waiting is right.
    Unreachable,
}

/// What follows from the independent probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cure {
    /// Nothing.
    None,
    /// Forget everything and begin anew.
    Rebuild,
}

/// Watches whether what is wanted moves.
#[derive(Debug)]
pub struct Watchdog {
    /// Since when clients wait without progress.
    stuck_since: Option<Instant>,
    /// When the probe that is under way was asked for.
    probing: Option<Instant>,
    pause: Duration,
    not_before: Option<Instant>,
}

impl Default for Watchdog {
    fn default() -> Self {
        Self {
            stuck_since: None,
            probing: None,
            pause: PATIENCE,
            not_before: None,
        }
    }
}

impl Watchdog {
    /// So many clients wait now.
    pub fn observe(&mut self, now: Instant, waiting: u32) -> Verdict {
        if waiting == 0 {
            self.stuck_since = None;
            return Verdict::Fine;
        }
        self.stuck_since.get_or_insert(now);
        if self.wakeup().is_none_or(|due| now < due) {
            return Verdict::Fine;
        }
        self.probing = Some(now);
        Verdict::Probe
    }

    /// A client was served: all is well.
    pub fn moved(&mut self) {
        *self = Self {
            probing: self.probing,
            ..Self::default()
        };
    }

    /// The probe ended.
    pub fn probed(&mut self, now: Instant, found: Found) -> Cure {
        self.probing = None;
        self.not_before = Some(now + self.pause);
        let stuck = self
            .stuck_since
            .is_some_and(|since| now.saturating_duration_since(since) >= PATIENCE);
        if found == Found::Unreachable || !stuck {
            return Cure::None;
        }
        self.pause = self.pause.saturating_mul(2).min(LONGEST);
        self.not_before = Some(now + self.pause);
        self.stuck_since = Some(now);
        Cure::Rebuild
    }

    /// When to observe again, while clients wait.
    #[must_use]
    pub fn wakeup(&self) -> Option<Instant> {
        if let Some(asked) = self.probing {
            return Some(asked + LOST);
        }
        let patient_until = self.stuck_since? + PATIENCE;
        Some(
            self.not_before
                .map_or(patient_until, |at| at.max(patient_until)),
        )
    }
}

#[cfg(test)]
mod tests;

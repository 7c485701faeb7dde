//! How long to wait before the next attempt.

use std::fmt;
use std::time::Duration;

use crate::dice::Dice;

/// How chance spreads the attempts of many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Jitter {
    /// Anything from nothing to the whole delay.
    Full,
    /// Half the delay, and anything up to the other half.
    Equal,
    /// Anything from the first delay to three times the last one.
    Decorrelated,
    /// None: for tests, and for one client alone.
    None,
}

/// Checked settings of a [`Backoff`].
#[derive(Clone, Debug, PartialEq)]
pub struct BackoffSettings {
    first: Duration,
    factor: f64,
    max: Duration,
    jitter: Jitter,
    attempts: u32,
}

/// What is wrong with settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackoffError {
    /// The factor is below 1, or no number.
    Factor,
    /// The first delay is zero.
    First,
    /// The longest delay is shorter than the first.
    Max,
}

impl fmt::Display for BackoffError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Factor => "the factor must be a number of at least 1",
            Self::First => "the first delay must be longer than zero",
            Self::Max => "the longest delay must be at least the first",
        })
    }
}

impl std::error::Error for BackoffError {}

impl BackoffSettings {
    /// Attempts after `first`, `first × factor`, … up to `max`; `attempts` of them, 0 for no end.
    ///
    /// # Errors
    /// If the delays could shrink or never begin.
    pub fn new(
        first: Duration,
        factor: f64,
        max: Duration,
        jitter: Jitter,
        attempts: u32,
    ) -> Result<Self, BackoffError> {
        if !factor.is_finite() || factor < 1.0 {
            Err(BackoffError::Factor)
        } else if first.is_zero() {
            Err(BackoffError::First)
        } else if max < first {
            Err(BackoffError::Max)
        } else {
            Ok(Self {
                first,
                factor,
                max,
                jitter,
                attempts,
            })
        }
    }
}

impl Default for BackoffSettings {
    /// 50 ms, doubling to 15 s, full jitter, without end.
    fn default() -> Self {
        Self {
            first: Duration::from_millis(50),
            factor: 2.0,
            max: Duration::from_secs(15),
            jitter: Jitter::Full,
            attempts: 0,
        }
    }
}

/// One schedule of attempts: the first at once, then exponential with jitter up to a cap.
#[derive(Debug)]
pub struct Backoff {
    settings: BackoffSettings,
    attempt: u32,
    last: Duration,
}

impl Backoff {
    /// A schedule that has not begun.
    #[must_use]
    pub fn new(settings: BackoffSettings) -> Self {
        Self {
            last: settings.first,
            settings,
            attempt: 0,
        }
    }

    /// The delay before the next attempt; `None` when they are used up.
    pub fn next(&mut self, dice: &mut Dice) -> Option<Duration> {
        if self.is_exhausted() {
            return None;
        }
        let before = self.attempt;
        self.attempt = before.saturating_add(1);
        match before {
            0 => Some(Duration::ZERO),
            before => Some(self.delay(before - 1, dice)),
        }
    }

    fn delay(&mut self, exponent: u32, dice: &mut Dice) -> Duration {
        let BackoffSettings { first, max, .. } = self.settings;
        let grown = first.as_secs_f64() * self.settings.factor.powf(f64::from(exponent));
        // Beyond what a duration holds, and for NaN, the cap is meant.
        let delay = Duration::try_from_secs_f64(grown).map_or(max, |grown| grown.clamp(first, max));
        match self.settings.jitter {
            Jitter::None => delay,
            Jitter::Full => dice.between(Duration::ZERO, delay),
            Jitter::Equal => dice.between(delay / 2, delay),
            Jitter::Decorrelated => {
                let widest = self.last.saturating_mul(3).clamp(first, max);
                self.last = dice.between(first, widest);
                self.last
            }
        }
    }

    /// Begins again, with an immediate attempt.
    pub fn reset(&mut self) {
        self.attempt = 0;
        self.last = self.settings.first;
    }

    /// Attempts since the last reset.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Whether the attempts are used up.
    #[must_use]
    pub fn is_exhausted(&self) -> bool {
        self.settings.attempts > 0 && self.attempt >= self.settings.attempts
    }
}

#[cfg(test)]
mod tests;

//! Which statuses are good: `200-399`, `200,204`, `200-299,404`.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

/// Ranges of one list.
const RANGES: usize = 16;

/// Some statuses of HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statuses(Vec<RangeInclusive<u16>>);

/// Why a list of statuses is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatusesError {
    /// There is nothing between two commas, or too much altogether.
    Length,
    /// That is no number from 200 to 599.
    Number,
    /// A range ends before it begins.
    Backwards,
}

impl fmt::Display for StatusesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Length => "it has from 1 to 16 parts",
            Self::Number => "a status is a number from 200 to 599",
            Self::Backwards => "a range ends before it begins",
        })
    }
}

impl std::error::Error for StatusesError {}

impl Statuses {
    /// Whether this one is among them.
    #[must_use]
    pub fn contains(&self, status: u16) -> bool {
        self.0.iter().any(|range| range.contains(&status))
    }
}

impl Default for Statuses {
    /// `200-399`.
    fn default() -> Self {
        Self(vec![200..=399])
    }
}

impl FromStr for Statuses {
    type Err = StatusesError;

    fn from_str(text: &str) -> Result<Self, StatusesError> {
        let ranges: Result<Vec<_>, _> = text.split(',').map(|part| range(part.trim())).collect();
        let ranges = ranges?;
        if ranges.len() > RANGES {
            return Err(StatusesError::Length);
        }
        Ok(Self(ranges))
    }
}

fn range(part: &str) -> Result<RangeInclusive<u16>, StatusesError> {
    if part.is_empty() {
        return Err(StatusesError::Length);
    }
    let (first, last) = part.split_once('-').unwrap_or((part, part));
    let (first, last) = (status(first)?, status(last)?);
    if last < first {
        return Err(StatusesError::Backwards);
    }
    Ok(first..=last)
}

fn status(text: &str) -> Result<u16, StatusesError> {
    let text = text.trim();
    let is_digits = text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.parse().ok().filter(|_| is_digits);
    number
        .filter(|number| (200..=599).contains(number))
        .ok_or(StatusesError::Number)
}

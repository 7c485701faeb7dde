//! A name's last answer as it is kept between two runs: a few lines of text.

use std::fmt;

use super::Security;

const HEAD: &str = "ipreconnect name 1";
/// Records that are read at most, and the longest line.
const RECORDS: usize = 64;
const LINE: usize = 512;

/// A name's last answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remembered {
    /// Seconds since 1970, when it was answered.
    pub saved: u64,
    /// Whether it was proven.
    pub security: Security,
    /// Its records, one line each.
    pub records: Vec<String>,
}

/// Why a text is not a remembered answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RememberedError {
    /// It begins otherwise.
    Head,
    /// A line is not what it must be, counted from 1.
    Line(usize),
    /// It has more records than are ever written.
    TooLong,
}

impl fmt::Display for RememberedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Head => write!(f, "it does not begin with {HEAD:?}"),
            Self::Line(line) => write!(f, "line {line} cannot be read"),
            Self::TooLong => write!(f, "it has more than {RECORDS} records"),
        }
    }
}

impl std::error::Error for RememberedError {}

impl Remembered {
    /// Reads what [`Display`](fmt::Display) wrote.
    ///
    /// # Errors
    /// If it is anything else.
    pub fn parse(text: &str) -> Result<Self, RememberedError> {
        let mut lines = text.lines().zip(1..);
        let (Some((HEAD, _)), Some((saved, at)), Some((security, and))) =
            (lines.next(), lines.next(), lines.next())
        else {
            return Err(RememberedError::Head);
        };
        let saved = saved.strip_prefix("saved ").and_then(|n| n.parse().ok());
        let security = match security.strip_prefix("dnssec ") {
            Some("unchecked") => Security::Unchecked,
            Some("insecure") => Security::Insecure,
            Some("secure") => Security::Secure,
            Some(_) | None => return Err(RememberedError::Line(and)),
        };
        let mut records = Vec::new();
        for (line, at) in lines {
            let is_sound = |record: &&str| {
                record.len() <= LINE && record.bytes().all(|b| b == b' ' || b.is_ascii_graphic())
            };
            let record = line.strip_prefix("record ").filter(is_sound);
            let record = record.ok_or(RememberedError::Line(at))?;
            if records.len() == RECORDS {
                return Err(RememberedError::TooLong);
            }
            records.push(record.to_owned());
        }
        Ok(Self {
            saved: saved.ok_or(RememberedError::Line(at))?,
            security,
            records,
        })
    }
}

impl fmt::Display for Remembered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{HEAD}\nsaved {}\ndnssec {}", self.saved, self.security)?;
        for record in &self.records {
            writeln!(f, "record {record}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;

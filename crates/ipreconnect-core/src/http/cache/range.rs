//! A part of a stored answer (RFC 9110, section 14).

use super::super::text::decimal;

/// What a client wants of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// All of it, or more parts than one.
    Whole,
    /// From the first of these bytes to the last, included.
    Bytes(u64, u64),
    /// Something that is not there.
    Missing,
}

/// Reads a `Range` for an answer of so many bytes. What cannot be read is not asked for.
#[must_use]
pub fn part(range: &[u8], length: u64) -> Part {
    let Some(set) = range.strip_prefix(b"bytes=") else {
        return Part::Whole;
    };
    let mut ends = set.splitn(2, |byte| *byte == b'-');
    let (Some(first), Some(last)) = (ends.next(), ends.next()) else {
        return Part::Whole;
    };
    match (decimal(first), decimal(last)) {
        (Some(first), Some(last)) if last < first => Part::Whole,
        (Some(first), _) if first >= length && (last.is_empty() || decimal(last).is_some()) => {
            Part::Missing
        }
        (Some(first), Some(last)) => Part::Bytes(first, last.min(length - 1)),
        (Some(first), None) if last.is_empty() => Part::Bytes(first, length - 1),
        (None, Some(0)) if first.is_empty() => Part::Missing,
        (None, Some(_)) if first.is_empty() && length == 0 => Part::Missing,
        (None, Some(last)) if first.is_empty() => {
            Part::Bytes(length.saturating_sub(last), length - 1)
        }
        _ => Part::Whole,
    }
}

//! Conditions of a client, as a stored answer meets them (RFC 9110, section 13; RFC 9111, section 4.3.2).

use super::date::http_date;
use super::directives::elements;
use super::fields::Fields;

/// What a client is to be told that has an answer already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// It has this one.
    Unchanged,
    /// It has none, or another one.
    Whole,
}

/// Whether a client's conditions are met by a stored answer.
#[must_use]
pub fn condition(request: Fields<'_>, stored: Fields<'_>, now: u64) -> Condition {
    let is_unchanged = if request.has(b"if-none-match") {
        let own = stored.first(b"etag");
        let mut tags = request.values(b"if-none-match").flat_map(elements);
        tags.any(|tag| tag == b"*" || own.is_some_and(|own| opaque(own) == opaque(tag)))
    } else {
        let since = request.first(b"if-modified-since");
        let modified = stored.first(b"last-modified");
        let modified = modified.or_else(|| stored.first(b"date"));
        let since = since.and_then(|since| http_date(since, now));
        let modified = modified.and_then(|modified| http_date(modified, now));
        matches!((since, modified), (Some(since), Some(modified)) if modified <= since)
    };
    if is_unchanged {
        Condition::Unchanged
    } else {
        Condition::Whole
    }
}

/// A tag without its weakness.
fn opaque(tag: &[u8]) -> &[u8] {
    tag.strip_prefix(b"W/").unwrap_or(tag)
}

/// Whether the range that a client asks for is one of this answer (RFC 9110, section 13.1.5).
#[must_use]
pub fn if_range(request: Fields<'_>, stored: Fields<'_>) -> bool {
    let Some(wanted) = request.first(b"if-range") else {
        return true;
    };
    // A weak tag does not tell whether bytes are the same, nor does a date that may have had two answers.
    wanted.starts_with(b"\"") && stored.first(b"etag") == Some(wanted)
}

//! Heads as they are stored.

use super::date::write_date;
use super::directives::Directives;
use super::fields::Fields;

/// What no cache stores (RFC 9111, section 3.1), beside what is for one hop; the age is told anew each time,
/// and the length is that of what is stored.
const NEVER: [&[u8]; 5] = [
    b"age",
    b"content-length",
    b"proxy-authenticate",
    b"proxy-authentication-info",
    b"proxy-authorization",
];

fn line(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

fn begun(status: u16, reason: &[u8]) -> Vec<u8> {
    let mut out = format!("HTTP/1.1 {status} ").into_bytes();
    out.extend_from_slice(reason);
    out.extend_from_slice(b"\r\n");
    out
}

fn is_never(name: &[u8], withheld: &[Box<[u8]>]) -> bool {
    let is_it = |other: &[u8]| name.eq_ignore_ascii_case(other);
    NEVER.iter().any(|other| is_it(other)) || withheld.iter().any(|other| is_it(other))
}

fn ended(mut out: Vec<u8>, status: u16, length: usize, date: Option<u64>) -> Vec<u8> {
    if let Some(now) = date {
        line(&mut out, b"Date", write_date(now).as_bytes());
    }
    if status != 204 {
        line(&mut out, b"Content-Length", length.to_string().as_bytes());
    }
    out.extend_from_slice(b"\r\n");
    out
}

/// The head of an answer with a body of `length` bytes, as it is stored. One that does not say when it was
/// made was made `now`.
#[must_use]
pub fn kept(
    (status, reason): (u16, &[u8]),
    fields: Fields<'_>,
    withheld: &[Box<[u8]>],
    length: usize,
    now: u64,
) -> Vec<u8> {
    let mut out = begun(status, reason);
    for (name, value) in fields.passed_on() {
        if !is_never(name, withheld) {
            line(&mut out, name, value);
        }
    }
    ended(out, status, length, (!fields.has(b"date")).then_some(now))
}

/// A stored head after another answer has confirmed what it is the head of (RFC 9111, section 3.2): what
/// that one says counts, except of the length.
#[must_use]
pub fn merged(
    (status, reason): (u16, &[u8]),
    stored: Fields<'_>,
    fresh: Fields<'_>,
    length: usize,
    now: u64,
) -> Vec<u8> {
    let mut out = begun(status, reason);
    let says = if fresh.has(b"cache-control") {
        fresh
    } else {
        stored
    };
    let withheld = Directives::read(says).withheld;
    for (name, value) in stored.passed_on() {
        let is_told = fresh.has(name) || name.eq_ignore_ascii_case(b"date");
        if !is_told && !is_never(name, &withheld) {
            line(&mut out, name, value);
        }
    }
    for (name, value) in fresh.passed_on() {
        if !is_never(name, &withheld) {
            line(&mut out, name, value);
        }
    }
    ended(out, status, length, (!fresh.has(b"date")).then_some(now))
}

/// The head of an answer that says no more than that nothing changed (RFC 9110, section 15.4.5).
#[must_use]
pub fn brief(stored: Fields<'_>) -> Vec<u8> {
    const TOLD: [&[u8]; 7] = [
        b"cache-control",
        b"content-location",
        b"date",
        b"etag",
        b"expires",
        b"last-modified",
        b"vary",
    ];
    let mut out = begun(304, b"Not Modified");
    for (name, value) in stored.passed_on() {
        if TOLD.iter().any(|told| name.eq_ignore_ascii_case(told)) {
            line(&mut out, name, value);
        }
    }
    out.extend_from_slice(b"\r\n");
    out
}

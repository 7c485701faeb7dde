//! Heads of HTTP.

use super::{MASK, is_secret, plain};

/// The lines of a head, without what is secret in them.
#[must_use]
pub fn masked(head: &[u8]) -> Vec<String> {
    let mut lines = head
        .split(|byte| *byte == b'\n')
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
        .filter(|line| !line.is_empty())
        .map(plain);
    let first = lines.next().map(|line| start_line(&line));
    first
        .into_iter()
        .chain(lines.map(|line| field(&line)))
        .collect()
}

/// Parameters of the target may be secret.
fn start_line(line: &str) -> String {
    let words: Vec<String> = line.split(' ').map(parameters).collect();
    words.join(" ")
}

/// An address, without what is secret in its parameters.
fn parameters(text: &str) -> String {
    let Some(at) = text.find(['?', '#']) else {
        return text.to_owned();
    };
    let (before, rest) = text.split_at(at);
    let mut out = before.to_owned();
    for part in rest.split_inclusive(['?', '#', '&', ';']) {
        let (part, end) = match part.char_indices().last() {
            Some((last, end)) if matches!(end, '?' | '#' | '&' | ';') => (&part[..last], Some(end)),
            _ => (part, None),
        };
        match part.split_once('=') {
            Some((name, value)) if is_secret(&decoded(name)) && !value.is_empty() => {
                out.push_str(name);
                out.push('=');
                out.push_str(MASK);
            }
            _ => out.push_str(part),
        }
        out.extend(end);
    }
    out
}

/// A name as whoever reads it takes it.
fn decoded(name: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = name.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let digit = |at: usize| char::from(*after.get(at)?).to_digit(16);
        match (first, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => {
                bytes.push(u8::try_from(high * 16 + low).unwrap_or_default());
                rest = after.get(2..).unwrap_or_default();
            }
            _ => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Schemes of credentials; another word may be a credential itself.
const SCHEMES: [&str; 7] = [
    "basic",
    "bearer",
    "digest",
    "negotiate",
    "ntlm",
    "hawk",
    "aws4-hmac-sha256",
];

/// Of credentials the scheme is told, of a cookie its name and what it may be used for.
fn field(line: &str) -> String {
    let Some((name, value)) = line.split_once(':') else {
        return line.to_owned();
    };
    let value = value.trim();
    if !is_secret(name) {
        return format!("{name}: {}", start_line(value));
    }
    let length = value.len();
    if let Some((scheme, _)) = value.split_once(' ')
        && SCHEMES.contains(&scheme.to_ascii_lowercase().as_str())
    {
        return format!("{name}: {scheme} {MASK} ({length} bytes)");
    }
    if name.eq_ignore_ascii_case("set-cookie") || name.eq_ignore_ascii_case("cookie") {
        let parts: Vec<String> = value
            .split(';')
            .zip(0..)
            .map(|(part, at)| cookie(name, part.trim(), at))
            .collect();
        return format!("{name}: {}", parts.join("; "));
    }
    format!("{name}: {MASK} ({length} bytes)")
}

fn cookie(field: &str, part: &str, at: usize) -> String {
    // What follows the first one of `Set-Cookie` says what it may be used for.
    let is_cookie = field.len() == "cookie".len() || at == 0;
    match part.split_once('=') {
        _ if !is_cookie => part.to_owned(),
        Some((name, _)) if !name.is_empty() => format!("{name}={MASK}"),
        _ => MASK.to_owned(),
    }
}

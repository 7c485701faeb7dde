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
    let Some((before, rest)) = line.split_once('?') else {
        return line.to_owned();
    };
    let (query, after) = match rest.split_once(' ') {
        Some((query, after)) => (query, Some(after)),
        None => (rest, None),
    };
    let parts: Vec<String> = query
        .split('&')
        .map(|part| match part.split_once('=') {
            Some((name, value)) if is_secret(name) && !value.is_empty() => format!("{name}={MASK}"),
            _ => part.to_owned(),
        })
        .collect();
    let mut line = format!("{before}?{}", parts.join("&"));
    if let Some(after) = after {
        line.push(' ');
        line.push_str(after);
    }
    line
}

/// Of credentials the scheme is told, of a cookie its name and what it may be used for.
fn field(line: &str) -> String {
    let Some((name, value)) = line.split_once(':') else {
        return line.to_owned();
    };
    if !is_secret(name) {
        return line.to_owned();
    }
    let value = value.trim();
    let length = value.len();
    let is_credential = name.to_ascii_lowercase().ends_with("authorization");
    if let (true, Some((scheme, _))) = (is_credential, value.split_once(' ')) {
        return format!("{name}: {scheme} {MASK} ({length} bytes)");
    }
    if name.eq_ignore_ascii_case("set-cookie") || name.eq_ignore_ascii_case("cookie") {
        let parts: Vec<String> = value
            .split("; ")
            .zip(0..)
            .map(|(part, at)| cookie(name, part, at))
            .collect();
        return format!("{name}: {}", parts.join("; "));
    }
    format!("{name}: {MASK} ({length} bytes)")
}

fn cookie(field: &str, part: &str, at: usize) -> String {
    // What follows the first one of `Set-Cookie` says what it may be used for.
    let is_cookie = field.len() == "cookie".len() || at == 0;
    match part.split_once('=') {
        Some((name, _)) if is_cookie => format!("{name}={MASK}"),
        _ => part.to_owned(),
    }
}

//! Paths, in the one spelling that routes are matched by (RFC 3986, section 6.2.2).
//!
//! `/%61dmin`, `/x/../admin` and `//admin` are `/admin` to most servers. If a route took them for
//! something else, what is meant to go one way would go another.

use std::borrow::Cow;

/// The path of a target, without the query.
#[must_use]
pub fn path_of(target: &[u8]) -> &[u8] {
    let end = memchr::memchr(b'?', target).unwrap_or(target.len());
    target.get(..end).unwrap_or_default()
}

/// The query of a target, with its question mark; empty if there is none.
#[must_use]
pub fn query_of(target: &[u8]) -> &[u8] {
    let start = memchr::memchr(b'?', target).unwrap_or(target.len());
    target.get(start..).unwrap_or_default()
}

/// Whether a percent sign stands before something else than two hexadecimal digits. Whoever decodes what
/// follows it may bring forth what was not there.
#[must_use]
pub fn has_broken_escape(path: &[u8]) -> bool {
    memchr::memchr_iter(b'%', path).any(|at| {
        let digits = path.get(at + 1..at + 3).unwrap_or_default();
        digits.len() < 2 || !digits.iter().all(u8::is_ascii_hexdigit)
    })
}

/// The spelling that routes are matched by: what may stand in a path is not encoded, everything else is, in
/// capital letters; segments of dots are resolved, and slashes that follow each other are one.
#[must_use]
pub fn normal(path: &[u8]) -> Cow<'_, [u8]> {
    let is_normal = path.is_ascii()
        && !path.contains(&b'%')
        && !path.windows(2).any(|pair| matches!(pair, b"//" | b"/."));
    if is_normal {
        return Cow::Borrowed(path);
    }
    Cow::Owned(resolve(&decode(path)))
}

/// What may stand in a path as it is (RFC 3986, section 3.3), but for the semicolon, before which some
/// servers end a segment.
fn is_plain(octet: u8) -> bool {
    octet.is_ascii_alphanumeric() || b"-._~!$&'()*+,=:@".contains(&octet)
}

fn encode(octet: u8, out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let digit = |four: u8| DIGITS.get(usize::from(four)).copied().unwrap_or_default();
    out.extend_from_slice(&[b'%', digit(octet >> 4), digit(octet & 15)]);
}

/// Decodes what need not be encoded, and encodes what must be.
fn decode(path: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        if *byte == b'%'
            && let Some(([high, low], after)) = after.split_at_checked(2).and_then(pair)
            && let (Some(high), Some(low)) = (hex(high), hex(low))
        {
            let octet = high << 4 | low;
            rest = after;
            if is_plain(octet) {
                decoded.push(octet);
            } else {
                encode(octet, &mut decoded);
            }
        } else if *byte == b'%' || !byte.is_ascii() {
            encode(*byte, &mut decoded);
        } else {
            decoded.push(*byte);
        }
    }
    decoded
}

fn pair<'b>((two, after): (&'b [u8], &'b [u8])) -> Option<([u8; 2], &'b [u8])> {
    Some((two.try_into().ok()?, after))
}

fn hex(byte: u8) -> Option<u8> {
    let digit = char::from(byte).to_digit(16)?;
    u8::try_from(digit).ok()
}

/// Resolves segments of dots (RFC 3986, section 5.2.4), and joins slashes.
fn resolve(path: &[u8]) -> Vec<u8> {
    let mut resolved: Vec<u8> = Vec::with_capacity(path.len());
    let mut segments = path.split(|byte| *byte == b'/').peekable();
    // Before the first slash there is nothing.
    segments.next();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        match segment {
            b"" | b"." => {}
            b".." => {
                let parent = resolved.iter().rposition(|byte| *byte == b'/');
                resolved.truncate(parent.unwrap_or(0));
            }
            segment => {
                resolved.push(b'/');
                resolved.extend_from_slice(segment);
                continue;
            }
        }
        if is_last {
            resolved.push(b'/');
        }
    }
    if resolved.is_empty() {
        resolved.push(b'/');
    }
    resolved
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(path: &str) -> String {
        String::from_utf8(normal(path.as_bytes()).into_owned()).unwrap()
    }

    #[test]
    fn every_spelling_is_the_same() {
        for (path, wanted) in [
            ("/", "/"),
            ("/a/b", "/a/b"),
            ("/a/b/", "/a/b/"),
            ("/%61dmin", "/admin"),
            ("/%41%2d%7E", "/A-~"),
            ("/a%2Fb", "/a%2Fb"),
            ("/a%2fb%00", "/a%2Fb%00"),
            ("/a%zz%4", "/a%25zz%254"),
            ("/a%%32e%%32e", "/a%252e%252e"),
            ("/%40fs%3a%3b%3F", "/@fs:%3B%3F"),
            ("/café/caf%c3%a9", "/caf%C3%A9/caf%C3%A9"),
            ("//admin", "/admin"),
            ("/a//b///c", "/a/b/c"),
            ("/a/./b", "/a/b"),
            ("/a/../b", "/b"),
            ("/a/%2e%2E/b", "/b"),
            ("/../../b", "/b"),
            ("/a/..", "/"),
            ("/a/b/..", "/a/"),
            ("/a/.", "/a/"),
            ("/..", "/"),
            ("/.hidden", "/.hidden"),
            ("/a/...", "/a/..."),
        ] {
            assert_eq!(text(path), wanted, "{path}");
        }
    }

    #[test]
    fn a_target_is_a_path_and_a_query() {
        assert_eq!(path_of(b"/a?b?c"), b"/a");
        assert_eq!(query_of(b"/a?b?c"), b"?b?c");
        assert_eq!(query_of(b"/a"), b"");
    }

    proptest! {
        #[test]
        fn what_is_normal_stays_so(path in "/[a-zé%./0-9A-F]{0,30}") {
            let once = normal(path.as_bytes()).into_owned();
            let twice = normal(&once).into_owned();
            prop_assert_eq!(&once, &twice);
            prop_assert!(!has_broken_escape(&once));
            prop_assert_eq!(once.first(), Some(&b'/'));
            let text = String::from_utf8(once).unwrap();
            let mut segments = text.split('/');
            prop_assert!(!segments.any(|segment| segment == ".." || segment == "."));
        }
    }
}

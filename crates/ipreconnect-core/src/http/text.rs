//! The small grammar: tokens, lists, numbers.

/// Whether a text is a token (RFC 9110, section 5.6.2).
#[must_use]
pub fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|byte| is_token_byte(*byte))
}

pub(super) fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        )
}

/// The elements of a list of tokens (RFC 9110, section 5.6.1); empty ones are passed over.
pub fn list(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|byte| *byte == b',')
        .map(<[u8]>::trim_ascii)
        .filter(|element| !element.is_empty())
}

/// The value of a cookie in a `Cookie` field (RFC 6265, section 5.4).
#[must_use]
pub fn cookie<'f>(field: &'f [u8], name: &[u8]) -> Option<&'f [u8]> {
    field.split(|byte| *byte == b';').find_map(|pair| {
        let pair = pair.trim_ascii();
        let (own, value) = pair.split_at_checked(name.len())?;
        (own == name).then_some(value.strip_prefix(b"=")?)
    })
}

/// A number of digits and nothing else.
pub(super) fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() || text.len() > 19 || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Why lines are none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BareLineFeed;

/// Where a head ends, behind its empty line; `None` while that has not come.
///
/// A line that ends with LF alone is no line: others may take it for one.
pub(super) fn end_of_head(bytes: &[u8]) -> Result<Option<usize>, BareLineFeed> {
    let mut line = 0;
    for at in memchr::memchr_iter(b'\n', bytes) {
        if at == 0 || bytes.get(at - 1) != Some(&b'\r') {
            return Err(BareLineFeed);
        }
        if at - 1 == line {
            return Ok(Some(at + 1));
        }
        line = at + 1;
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_is_found_by_its_whole_name() {
        let field = b"ab=1; a=2;b=3; c; d=4=5";
        let value = |name: &str| {
            let value = cookie(field, name.as_bytes())?;
            Some(String::from_utf8(value.to_vec()).unwrap())
        };
        assert_eq!(value("a").as_deref(), Some("2"));
        assert_eq!(value("b").as_deref(), Some("3"));
        assert_eq!(value("d").as_deref(), Some("4=5"));
        assert_eq!(value("c"), None);
        assert_eq!(value("x"), None);
    }
}

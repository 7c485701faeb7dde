//! Where a request belongs in a trace (W3C Trace Context, `traceparent`).

/// Bytes of a `traceparent` of version 00.
pub const TRACEPARENT: usize = 55;

/// A place in a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    /// The trace: not all zero.
    pub trace: [u8; 16],
    /// The span: not all zero.
    pub id: [u8; 8],
    /// Whether whoever began the trace records it.
    pub is_sampled: bool,
}

impl TraceContext {
    /// Reads a `traceparent`: what is not right to the letter is none. Of a later version only what is known is read.
    #[must_use]
    pub fn parse(value: &[u8]) -> Option<Self> {
        let value = value.trim_ascii();
        let part = |from: usize, to: usize| value.get(from..to);
        let version = byte(part(0, 2)?)?;
        let is_known = version == 0 && value.len() == TRACEPARENT;
        let is_later = (1..=0xfe).contains(&version)
            && (value.len() == TRACEPARENT || value.get(TRACEPARENT) == Some(&b'-'));
        let is_divided = [2, 35, 52].iter().all(|at| value.get(*at) == Some(&b'-'));
        if !(is_known || is_later) || !is_divided {
            return None;
        }
        let context = Self {
            trace: bytes(part(3, 35)?)?,
            id: bytes(part(36, 52)?)?,
            is_sampled: byte(part(53, 55)?)? & 1 == 1,
        };
        (context.trace != [0; 16] && context.id != [0; 8]).then_some(context)
    }

    /// As it is written, in version 00.
    #[must_use]
    pub fn render(&self) -> [u8; TRACEPARENT] {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut out = [b'-'; TRACEPARENT];
        let flags = [u8::from(self.is_sampled)];
        let parts: [(usize, &[u8]); 4] =
            [(0, &[0]), (3, &self.trace), (36, &self.id), (53, &flags)];
        for (from, part) in parts {
            let places = out.iter_mut().skip(from);
            let nibbles = part.iter().flat_map(|byte| [byte >> 4, byte & 15]);
            for (place, nibble) in places.zip(nibbles) {
                *place = DIGITS[usize::from(nibble & 15)];
            }
        }
        out
    }
}

fn bytes<const COUNT: usize>(digits: &[u8]) -> Option<[u8; COUNT]> {
    let mut out = [0; COUNT];
    for (to, pair) in out.iter_mut().zip(digits.chunks(2)) {
        *to = byte(pair)?;
    }
    Some(out)
}

/// Of two digits, in small letters.
fn byte(pair: &[u8]) -> Option<u8> {
    let digit = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    match pair {
        [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn read(text: &str) -> Option<TraceContext> {
        TraceContext::parse(text.as_bytes())
    }

    #[test]
    fn what_is_read_is_written_the_same() {
        let context = read(GOOD).unwrap();
        assert!(context.is_sampled);
        assert_eq!(context.render(), GOOD.as_bytes());
        let unsampled = GOOD.replace("-01", "-00");
        assert!(!read(&unsampled).unwrap().is_sampled);
        assert_eq!(read(&unsampled).unwrap().render(), unsampled.as_bytes());
    }

    #[test]
    fn later_versions_are_read_as_far_as_they_are_known() {
        for text in [
            GOOD.replacen("00", "cc", 1),
            format!("{}-more", GOOD.replacen("00", "01", 1)),
        ] {
            assert_eq!(read(&text).unwrap().render(), GOOD.as_bytes(), "{text}");
        }
    }

    #[test]
    fn what_is_not_right_is_none() {
        let wrong = [
            String::new(),
            "00".to_owned(),
            GOOD.replacen("00", "ff", 1),
            GOOD.to_uppercase(),
            format!("{GOOD}-more"),
            format!("{}more", GOOD.replacen("00", "01", 1)),
            GOOD.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
            GOOD.replace("00f067aa0ba902b7", &"0".repeat(16)),
            GOOD.replace('-', "_"),
            GOOD.replace("4b", "4g"),
            GOOD.chars().take(54).collect(),
        ];
        for text in wrong {
            assert_eq!(read(&text), None, "{text}");
        }
    }
}

//! `Cache-Control` of an answer (RFC 9111, section 5.2.2), and `CDN-Cache-Control` in its place (RFC 9213).

use super::fields::Fields;
use super::structured::{Item, dictionary};

/// Longer than anything is kept (RFC 9111, section 1.2.2).
const LONGEST: u64 = 1 << 31;

/// What an answer says of its storing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Directives {
    /// `no-store`.
    pub no_store: bool,
    /// `no-cache`, of the whole answer.
    pub no_cache: bool,
    /// `private`, of the whole answer.
    pub private: bool,
    /// `public`.
    pub public: bool,
    /// `must-revalidate`.
    pub must_revalidate: bool,
    /// `proxy-revalidate`.
    pub proxy_revalidate: bool,
    /// `must-understand`.
    pub must_understand: bool,
    /// `max-age`; one that cannot be read is none at all.
    pub max_age: Option<u64>,
    /// `s-maxage`, read as `max-age` is.
    pub s_maxage: Option<u64>,
    /// `stale-while-revalidate` (RFC 5861).
    pub while_revalidating: Option<u64>,
    /// `stale-if-error` (RFC 5861).
    pub if_error: Option<u64>,
    /// The fields that `no-cache` and `private` name: they are not to be stored.
    pub withheld: Vec<Box<[u8]>>,
    /// Whether this is said to caches in front of the origin in particular.
    pub is_targeted: bool,
}

impl Directives {
    /// Reads what an answer says to this cache: `CDN-Cache-Control` where that is there and sound, else
    /// `Cache-Control`.
    #[must_use]
    pub fn read(fields: Fields<'_>) -> Self {
        Self::targeted(fields).unwrap_or_else(|| Self::plain(fields))
    }

    fn targeted(fields: Fields<'_>) -> Option<Self> {
        let lines: Vec<&[u8]> = fields.values(b"cdn-cache-control").collect();
        let text = lines.join(&b", "[..]);
        let members = dictionary(&text).filter(|members| !members.is_empty())?;
        let mut directives = Self {
            is_targeted: true,
            ..Self::default()
        };
        for (name, item) in members {
            let number = match item {
                Item::Integer(number) => Some(u64::try_from(number).unwrap_or(0).min(LONGEST)),
                Item::True | Item::Other => None,
            };
            match number {
                Some(_) if directives.take_time(name, number) => {}
                None if is_time(name) => return None,
                _ => directives.take_word(name),
            }
        }
        Some(directives)
    }

    fn plain(fields: Fields<'_>) -> Self {
        let mut directives = Self::default();
        for line in fields.values(b"cache-control") {
            for element in elements(line) {
                let mut parts = element.splitn(2, |byte| *byte == b'=');
                let name = parts.next().unwrap_or_default();
                let value = parts.next();
                // A space before the sign is no part of the grammar; what is meant is clear enough.
                let (name, value) = (name.trim_ascii().to_ascii_lowercase(), value.map(unquoted));
                match (&name[..], value) {
                    (b"no-cache" | b"private", Some(names)) => {
                        let names = super::super::text::list(names);
                        directives
                            .withheld
                            .extend(names.map(|name| name.to_ascii_lowercase().into()));
                    }
                    (name, value) => {
                        if !directives.take_time(name, value.and_then(seconds)) {
                            directives.take_word(name);
                        }
                    }
                }
            }
        }
        directives
    }

    /// Takes a directive that has a number; what cannot be read, or is said twice and differently, counts
    /// as no time at all (RFC 9111, section 4.2.1).
    fn take_time(&mut self, name: &[u8], number: Option<u64>) -> bool {
        let time = match name {
            b"max-age" => &mut self.max_age,
            b"s-maxage" => &mut self.s_maxage,
            b"stale-while-revalidate" => &mut self.while_revalidating,
            b"stale-if-error" => &mut self.if_error,
            _ => return false,
        };
        let number = number.unwrap_or(0);
        *time = match *time {
            Some(before) if before != number => Some(0),
            _ => Some(number),
        };
        true
    }

    fn take_word(&mut self, name: &[u8]) {
        match name {
            b"no-store" => self.no_store = true,
            b"no-cache" => self.no_cache = true,
            b"private" => self.private = true,
            b"public" => self.public = true,
            b"must-revalidate" => self.must_revalidate = true,
            b"proxy-revalidate" => self.proxy_revalidate = true,
            b"must-understand" => self.must_understand = true,
            _ => {}
        }
    }

    /// Whether nothing may be served that is not fresh, for whatever reason (RFC 9111, section 4.2.4).
    #[must_use]
    pub fn forbids_stale(&self) -> bool {
        self.must_revalidate
            || self.proxy_revalidate
            || self.no_cache
            || (self.s_maxage.is_some() && !self.is_targeted)
    }
}

fn is_time(name: &[u8]) -> bool {
    Directives::default().take_time(name, None)
}

/// The elements of a list whose commas may stand in quotes.
pub(super) fn elements(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    text.split(move |byte| {
        let was_escaped = std::mem::take(&mut is_escaped);
        match byte {
            b'"' if !was_escaped => is_quoted = !is_quoted,
            b'\\' if is_quoted && !was_escaped => is_escaped = true,
            _ => {}
        }
        *byte == b',' && !is_quoted
    })
    .map(<[u8]>::trim_ascii)
    .filter(|element| !element.is_empty())
}

fn unquoted(value: &[u8]) -> &[u8] {
    let inner = value.strip_prefix(b"\"");
    let inner = inner.and_then(|value| value.strip_suffix(b"\""));
    inner.unwrap_or(value)
}

/// Digits and nothing else; more than fits is the longest time.
pub(super) fn seconds(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = text.iter().fold(0_u64, |number, digit| {
        number
            .saturating_mul(10)
            .saturating_add(u64::from(digit - b'0'))
    });
    Some(number.min(LONGEST))
}

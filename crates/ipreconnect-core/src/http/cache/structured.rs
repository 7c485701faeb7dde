//! Dictionaries of structured fields (RFC 9651), as far as a cache needs them: what cannot be parsed is
//! known for it, of what can be only whole numbers and plain keys are kept.

/// A value, as far as a cache is interested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Item {
    /// A key alone, or `?1`.
    True,
    /// A whole number.
    Integer(i64),
    /// Anything else.
    Other,
}

/// The members of a dictionary; none if it is not one. The last value of a key counts.
pub(super) fn dictionary(text: &[u8]) -> Option<Vec<(&[u8], Item)>> {
    let mut at = Cursor(text.trim_ascii());
    let mut members: Vec<(&[u8], Item)> = Vec::new();
    while !at.0.is_empty() {
        let key = at.key()?;
        let item = if at.skip(b'=') {
            at.item_or_list()?
        } else {
            Item::True
        };
        at.parameters()?;
        members.retain(|(other, _)| *other != key);
        members.push((key, item));
        at.space();
        if at.0.is_empty() {
            return Some(members);
        }
        at.skip(b',').then_some(())?;
        at.space();
        // A comma in the end has nothing behind it.
        (!at.0.is_empty()).then_some(())?;
    }
    Some(members)
}

struct Cursor<'t>(&'t [u8]);

impl<'t> Cursor<'t> {
    fn peek(&self) -> Option<u8> {
        self.0.first().copied()
    }

    fn take(&mut self, count: usize) -> &'t [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }

    fn take_while(&mut self, is_it: impl Fn(u8) -> bool) -> &'t [u8] {
        let count = self.0.iter().position(|byte| !is_it(*byte));
        self.take(count.unwrap_or(self.0.len()))
    }

    fn skip(&mut self, byte: u8) -> bool {
        let is_it = self.peek() == Some(byte);
        if is_it {
            self.take(1);
        }
        is_it
    }

    fn space(&mut self) {
        self.take_while(|byte| matches!(byte, b' ' | b'\t'));
    }

    fn key(&mut self) -> Option<&'t [u8]> {
        let first = self.peek()?;
        (first.is_ascii_lowercase() || first == b'*').then_some(())?;
        let in_key = |byte: u8| {
            byte.is_ascii_lowercase()
                || byte.is_ascii_digit()
                || matches!(byte, b'_' | b'-' | b'.' | b'*')
        };
        Some(self.take_while(in_key))
    }

    fn parameters(&mut self) -> Option<()> {
        while self.skip(b';') {
            self.space();
            self.key()?;
            if self.skip(b'=') {
                self.item()?;
            }
        }
        Some(())
    }

    fn item_or_list(&mut self) -> Option<Item> {
        if !self.skip(b'(') {
            return self.item();
        }
        loop {
            self.space();
            if self.skip(b')') {
                return Some(Item::Other);
            }
            self.item()?;
            self.parameters()?;
            matches!(self.peek()?, b' ' | b')').then_some(())?;
        }
    }

    fn item(&mut self) -> Option<Item> {
        match self.peek()? {
            b'"' => self.string(),
            b'?' => match self.take(2) {
                b"?1" => Some(Item::True),
                b"?0" => Some(Item::Other),
                _ => None,
            },
            b':' => {
                self.take(1);
                self.take_while(|byte| {
                    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=')
                });
                self.skip(b':').then_some(Item::Other)
            }
            b'@' => {
                self.take(1);
                matches!(self.number()?, Item::Integer(_)).then_some(Item::Other)
            }
            b'-' | b'0'..=b'9' => self.number(),
            first if first.is_ascii_alphabetic() || first == b'*' => {
                self.take_while(|byte| {
                    super::super::text::is_token_byte(byte) || matches!(byte, b':' | b'/')
                });
                Some(Item::Other)
            }
            _ => None,
        }
    }

    fn number(&mut self) -> Option<Item> {
        let sign = if self.skip(b'-') { -1 } else { 1 };
        let whole = self.take_while(|byte| byte.is_ascii_digit());
        (!whole.is_empty() && whole.len() <= 15).then_some(())?;
        if self.skip(b'.') {
            let part = self.take_while(|byte| byte.is_ascii_digit());
            return (matches!(part.len(), 1..=3) && whole.len() <= 12).then_some(Item::Other);
        }
        let number: i64 = std::str::from_utf8(whole).ok()?.parse().ok()?;
        Some(Item::Integer(sign * number))
    }

    fn string(&mut self) -> Option<Item> {
        self.take(1);
        loop {
            match self.take(1) {
                b"\"" => return Some(Item::Other),
                b"\\" => matches!(self.take(1), b"\"" | b"\\").then_some(())?,
                [b' '..=b'~'] => {}
                _ => return None,
            }
        }
    }
}

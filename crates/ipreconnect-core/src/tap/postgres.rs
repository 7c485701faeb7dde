//! Messages of PostgreSQL (protocol version 3), one direction of one connection.

use super::{MASK, plain};

/// The longest message of which more than its name and its length is told.
pub(super) const WHOLE: usize = 64 * 1024;
/// A longer one is none.
const LONGEST: usize = 1 << 30;
/// The longest text of one message that is told.
const TOLD: usize = 2_000;

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The client.
    Frontend,
    /// The server.
    Backend,
}

/// Reads what one side says. It may begin to listen in the middle.
#[derive(Debug)]
pub struct Reader {
    side: Side,
    /// The beginning of a message that has not come whole.
    begun: Vec<u8>,
    /// So much of a long message is still to come, and is not looked at.
    skipping: usize,
    /// Rows that were counted, and their bytes.
    rows: (u64, u64),
    /// Whether it is known where messages begin.
    is_in_step: bool,
}

impl Reader {
    /// For what this side says, from a message on.
    #[must_use]
    pub fn new(side: Side) -> Self {
        Self {
            side,
            begun: Vec::new(),
            skipping: 0,
            rows: (0, 0),
            is_in_step: false,
        }
    }

    /// The messages that have come whole, one text each. Rows that follow each other are counted. Nothing is told before
    /// it is certain where messages begin: what is taken for a message in the middle of one would be anybody's data.
    pub fn read(&mut self, bytes: &[u8]) -> Vec<String> {
        if !self.is_in_step {
            if !self.is_chain(bytes) {
                return Vec::new();
            }
            self.is_in_step = true;
        }
        let skipped = self.skipping.min(bytes.len());
        self.skipping -= skipped;
        self.begun
            .extend_from_slice(bytes.get(skipped..).unwrap_or_default());
        let mut told = Vec::new();
        let begun = std::mem::take(&mut self.begun);
        let mut rest = begun.as_slice();
        while let Some((kind, length)) = header(rest) {
            let whole = length.saturating_add(1);
            let is_long = whole > WHOLE;
            if !self.is_known(kind)
                || !(4..=LONGEST).contains(&length)
                || is_long && !may_be_long(kind)
            {
                told.extend(self.tell_rows());
                told.push(
                    "what follows is not understood; the next message that is will be told"
                        .to_owned(),
                );
                self.loses_step();
                return told;
            }
            if rest.len() < whole && !is_long {
                break;
            }
            let (message, after) = rest.split_at(rest.len().min(whole));
            self.skipping = whole - message.len();
            rest = after;
            let body = message.get(5..).unwrap_or_default();
            if (self.side, kind) == (Side::Backend, b'D') {
                self.rows.0 += 1;
                self.rows.1 += length as u64;
                continue;
            }
            told.extend(self.tell_rows());
            // Of what is not whole nothing but its name is certain.
            let body = if is_long { &[] } else { body };
            told.push(self.tell(kind, body, length));
        }
        self.begun = rest.to_vec();
        told.extend(self.tell_rows());
        told
    }

    /// Something was not heard: where messages begin has to be found again.
    pub fn loses_step(&mut self) {
        self.begun = Vec::new();
        (self.skipping, self.rows, self.is_in_step) = (0, (0, 0), false);
    }

    /// Whether these bytes are whole messages and nothing else, of which the last one ends something.
    fn is_chain(&self, mut bytes: &[u8]) -> bool {
        let mut last = 0;
        while let Some((kind, length)) = header(bytes) {
            let Some(after) = bytes.get(length.saturating_add(1)..) else {
                return false;
            };
            if !self.is_known(kind) || length < 4 {
                return false;
            }
            (last, bytes) = (kind, after);
        }
        let ends = match self.side {
            Side::Frontend => b"QSXp",
            Side::Backend => b"ZRZR",
        };
        bytes.is_empty() && ends.contains(&last)
    }

    /// Bytes that are kept of messages that have not come whole.
    #[cfg(test)]
    pub(super) fn kept(&self) -> usize {
        self.begun.len()
    }

    fn tell_rows(&mut self) -> Option<String> {
        let (rows, bytes) = std::mem::take(&mut self.rows);
        match rows {
            0 => None,
            1 => Some(format!("DataRow ({bytes} bytes)")),
            _ => Some(format!("DataRow × {rows} ({bytes} bytes)")),
        }
    }

    fn is_known(&self, kind: u8) -> bool {
        match self.side {
            Side::Frontend => b"BCDEFHPQSXcdfp".contains(&kind),
            Side::Backend => b"123ACDEGHIKNRSTVWZcdnstv".contains(&kind),
        }
    }

    fn tell(&self, kind: u8, body: &[u8], length: usize) -> String {
        match self.side {
            Side::Frontend => frontend(kind, body, length),
            Side::Backend => backend(kind, body, length),
        }
    }
}

/// Messages that carry as much as people put into them.
fn may_be_long(kind: u8) -> bool {
    b"DdBQPFV".contains(&kind)
}

fn header(bytes: &[u8]) -> Option<(u8, usize)> {
    let (kind, rest) = bytes.split_first()?;
    let length = rest.first_chunk::<4>()?;
    Some((*kind, u32::from_be_bytes(*length) as usize))
}

fn frontend(kind: u8, body: &[u8], length: usize) -> String {
    let mut fields = Fields(body);
    match kind {
        b'Q' => format!("Query  {}", query(fields.text())),
        b'P' => {
            let name = named(fields.text());
            format!("Parse {name} {}", query(fields.text()))
        }
        b'B' => {
            let (portal, statement) = (named(fields.text()), named(fields.text()));
            let formats = fields.count();
            fields.skip(formats * 2);
            let count = fields.count();
            let sizes: Vec<String> = (0..count.min(100)).map(|_| fields.value()).collect();
            format!(
                "Bind {portal} of {statement}, values: [{}]",
                sizes.join(", ")
            )
        }
        b'D' | b'C' => {
            let verb = if kind == b'D' { "Describe" } else { "Close" };
            let what = match fields.byte() {
                Some(b'S') => "statement",
                _ => "portal",
            };
            format!("{verb} {what} {}", named(fields.text()))
        }
        b'E' => format!("Execute {}", named(fields.text())),
        b'S' => "Sync".to_owned(),
        b'H' => "Flush".to_owned(),
        b'X' => "Terminate".to_owned(),
        b'p' => format!("authentication {MASK} ({length} bytes)"),
        b'd' => format!("CopyData ({length} bytes)"),
        b'c' => "CopyDone".to_owned(),
        b'f' => format!("CopyFail  {}", cut(fields.text())),
        _ => format!("FunctionCall ({length} bytes)"),
    }
}

fn backend(kind: u8, body: &[u8], length: usize) -> String {
    let mut fields = Fields(body);
    match kind {
        b'R' => format!("Authentication: {}", authentication(fields.number())),
        b'S' => {
            let name = cut(fields.text());
            format!("ParameterStatus {name} = {}", cut(fields.text()))
        }
        b'K' => format!("BackendKeyData, process {}, key {MASK}", fields.number()),
        b'Z' => match fields.byte() {
            Some(b'I') => "ReadyForQuery, idle".to_owned(),
            Some(b'T') => "ReadyForQuery, in a transaction".to_owned(),
            _ => "ReadyForQuery, in a failed transaction".to_owned(),
        },
        b'T' => {
            let count = fields.count();
            let names: Vec<String> = (0..count.min(100))
                .map(|_| {
                    let name = cut(fields.text());
                    fields.skip(18);
                    name
                })
                .collect();
            format!("RowDescription: {}", names.join(", "))
        }
        b'C' => format!("CommandComplete {}", cut(fields.text())),
        b'E' | b'N' => {
            let what = if kind == b'E' {
                "ErrorResponse"
            } else {
                "NoticeResponse"
            };
            format!("{what}: {}", complaint(&mut fields))
        }
        b'A' => {
            let process = fields.number();
            format!(
                "NotificationResponse of {process} by {}",
                cut(fields.text())
            )
        }
        b'1' => "ParseComplete".to_owned(),
        b'2' => "BindComplete".to_owned(),
        b'3' => "CloseComplete".to_owned(),
        b'n' => "NoData".to_owned(),
        b's' => "PortalSuspended".to_owned(),
        b'I' => "EmptyQueryResponse".to_owned(),
        b't' => format!("ParameterDescription, {} parameters", fields.count()),
        b'G' => "CopyInResponse".to_owned(),
        b'H' => "CopyOutResponse".to_owned(),
        b'W' => "CopyBothResponse".to_owned(),
        b'd' => format!("CopyData ({length} bytes)"),
        b'c' => "CopyDone".to_owned(),
        b'v' => "NegotiateProtocolVersion".to_owned(),
        _ => format!("FunctionCallResponse ({length} bytes)"),
    }
}

fn authentication(kind: u32) -> &'static str {
    match kind {
        0 => "ok",
        2 => "Kerberos is asked for",
        3 => "a password in clear text is asked for",
        5 => "a password by MD5 is asked for",
        7 | 8 => "GSSAPI",
        9 => "SSPI",
        10 => "SASL is asked for",
        11 => "SASL goes on",
        12 => "SASL ends",
        _ => "of an unknown kind",
    }
}

/// Severity, code and message, as they are in fields with letters.
fn complaint(fields: &mut Fields<'_>) -> String {
    let (mut severity, mut code, mut message) = (String::new(), String::new(), String::new());
    while let Some(letter) = fields.byte().filter(|letter| *letter != 0) {
        let text = cut(fields.text());
        match letter {
            b'S' => severity = text,
            b'C' => code = text,
            b'M' => message = text,
            _ => {}
        }
    }
    // Of data that is wrong the message has the data.
    if code.starts_with("22") {
        let parts = message.split('"').zip(0..);
        let masked: Vec<&str> = parts
            .map(|(part, at)| if at % 2 == 1 { MASK } else { part })
            .collect();
        message = masked.join("\"");
    }
    format!("{severity} {code}: {message}")
}

/// The parts of a message.
struct Fields<'b>(&'b [u8]);

impl<'b> Fields<'b> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    /// Up to the next zero.
    fn text(&mut self) -> &'b [u8] {
        let all = self.0;
        let end = all.iter().position(|byte| *byte == 0).unwrap_or(all.len());
        self.0 = all.get(end + 1..).unwrap_or_default();
        all.get(..end).unwrap_or_default()
    }

    fn count(&mut self) -> usize {
        let Some((count, rest)) = self.0.split_first_chunk::<2>() else {
            return 0;
        };
        self.0 = rest;
        usize::from(u16::from_be_bytes(*count))
    }

    fn number(&mut self) -> u32 {
        let Some((number, rest)) = self.0.split_first_chunk::<4>() else {
            return 0;
        };
        self.0 = rest;
        u32::from_be_bytes(*number)
    }

    fn skip(&mut self, count: usize) {
        self.0 = self.0.get(count..).unwrap_or_default();
    }

    /// What a value is, and never the value.
    fn value(&mut self) -> String {
        match self.number() {
            u32::MAX => "NULL".to_owned(),
            length => {
                self.skip(length as usize);
                format!("{length} bytes")
            }
        }
    }
}

fn named(name: &[u8]) -> String {
    if name.is_empty() {
        "(unnamed)".to_owned()
    } else {
        cut(name)
    }
}

/// A query. If there is a word of secrets in it, all that is quoted is masked.
fn query(text: &[u8]) -> String {
    let lower = text.to_ascii_lowercase();
    let has = |word: &[u8]| lower.windows(word.len()).any(|part| part == word);
    if SECRETS.iter().any(|word| has(word)) {
        cut(&without_literals(text))
    } else {
        cut(text)
    }
}

/// Words of statements that have secrets in them.
const SECRETS: [&[u8]; 8] = [
    b"password",
    b"passwd",
    b"secret",
    b"token",
    b"crypt",
    b"dblink",
    b"connection",
    b"credential",
];

/// Literals are masked: between quotes, which are doubled or escaped inside, and between dollars with a tag
/// (PostgreSQL's manual, section 4.1.2).
fn without_literals(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        let masked = match first {
            b'\'' => Some(quoted(after)),
            b'$' => tagged(rest),
            _ => None,
        };
        if let Some(behind) = masked {
            out.push(b'\'');
            out.extend_from_slice(MASK.as_bytes());
            out.push(b'\'');
            rest = behind;
        } else {
            out.push(*first);
            rest = after;
        }
    }
    out
}

/// What is behind a text in quotes; whether backslashes escape in it is not looked at, so that rather too much is
/// masked than too little.
fn quoted(mut rest: &[u8]) -> &[u8] {
    loop {
        match rest {
            [] => return rest,
            [b'\\', _, after @ ..] | [b'\'', b'\'', after @ ..] => rest = after,
            [b'\'', after @ ..] => return after,
            [_, after @ ..] => rest = after,
        }
    }
}

/// The same of `$tag$ … $tag$`; none if it is no such text.
fn tagged(text: &[u8]) -> Option<&[u8]> {
    let end = text.iter().skip(1).position(|byte| *byte == b'$')? + 2;
    let (tag, rest) = text.split_at(end);
    let name = tag.get(1..end - 1).unwrap_or_default();
    let is_tag = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_' || *byte >= 0x80;
    if !name.iter().all(is_tag) || name.first().is_some_and(u8::is_ascii_digit) {
        return None;
    }
    let at = rest.windows(tag.len()).position(|part| part == tag);
    Some(
        at.and_then(|at| rest.get(at + tag.len()..))
            .unwrap_or_default(),
    )
}

fn cut(text: &[u8]) -> String {
    let mut shown = plain(text.get(..TOLD).unwrap_or(text));
    if text.len() > TOLD {
        shown.push('…');
    }
    shown
}

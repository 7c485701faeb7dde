//! Messages of PostgreSQL (protocol version 3), one direction of one connection.

use super::{MASK, plain};

/// The longest message of which more than its name and its length is told.
const WHOLE: usize = 256 * 1024;
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
        }
    }

    /// The messages that have come whole, one text each. Rows that follow each other are counted. `total` is how much
    /// was said; what of it is not in `bytes` was not looked at.
    pub fn read(&mut self, bytes: &[u8], total: usize) -> Vec<String> {
        let mut told = Vec::new();
        let skipped = self.skipping.min(bytes.len());
        self.skipping -= skipped;
        self.begun
            .extend_from_slice(bytes.get(skipped..).unwrap_or_default());
        let begun = std::mem::take(&mut self.begun);
        let mut rest = begun.as_slice();
        while let Some((kind, length)) = header(rest) {
            if !self.is_known(kind) || !(4..=LONGEST).contains(&length) {
                told.extend(self.tell_rows());
                told.push(format!("{} bytes in the middle of something", rest.len()));
                rest = &[];
                break;
            }
            let whole = length + 1;
            if rest.len() < whole && whole <= WHOLE {
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
            told.push(self.tell(kind, body, length));
        }
        self.begun = rest.to_vec();
        told.extend(self.tell_rows());
        if let Some(missed) = total.checked_sub(bytes.len()).filter(|missed| *missed > 0) {
            told.push(format!(
                "{missed} bytes more, which were too many to look at"
            ));
            self.begun.clear();
            self.skipping = self.skipping.saturating_sub(missed);
        }
        told
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

/// A query, in which a password that is set is masked.
fn query(text: &[u8]) -> String {
    let mut rest = cut(text);
    let mut out = String::new();
    while let Some(at) = rest.to_ascii_lowercase().find("password") {
        let (before, after) = rest.split_at(at + "password".len());
        out.push_str(before);
        let literal = after.trim_start();
        let Some(quote) = literal.find('\'').filter(|quote| *quote <= 2) else {
            rest = after.to_owned();
            continue;
        };
        out.push_str(" '");
        out.push_str(MASK);
        let inside = literal.get(quote + 1..).unwrap_or_default();
        rest = inside.find('\'').map_or_else(String::new, |end| {
            inside.get(end..).unwrap_or_default().to_owned()
        });
    }
    out + &rest
}

fn cut(text: &[u8]) -> String {
    let mut shown = plain(text.get(..TOLD).unwrap_or(text));
    if text.len() > TOLD {
        shown.push('…');
    }
    shown
}

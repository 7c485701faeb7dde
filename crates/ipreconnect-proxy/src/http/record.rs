//! What is known of one request in the end, and the line that tells of it.

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipreconnect::clock;
use ipreconnect::core::http::{Known, RequestHead, Version};
use ipreconnect::stats::Outcome;

use super::guest::Guest;
use super::trail::Trail;

/// A worker's lines go out when there are so many bytes of them.
const BATCH: usize = 32 * 1024;
/// Or after so long.
const PAUSE: Duration = Duration::from_secs(1);

/// Takes the lines of the access log. It must not wait: whoever calls it carries requests.
pub trait AccessSink: Send + Sync + fmt::Debug {
    /// Takes whole lines, and gives back a buffer for more of them.
    fn take(&self, lines: Vec<u8>) -> Vec<u8>;
}

/// How a request is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AccessFormat {
    /// One object of JSON for each line.
    #[default]
    Json,
    /// As Apache httpd's `combined`.
    Combined,
    /// As Squid's own.
    Squid,
}

/// Where lines go, and what they look like.
#[derive(Clone, Debug)]
pub struct AccessLog {
    /// Where they go.
    pub sink: Arc<dyn AccessSink>,
    /// What they look like.
    pub format: AccessFormat,
}

#[derive(Default)]
struct Lines {
    log: Option<AccessLog>,
    /// Somebody flushes it from time to time.
    is_looked_after: bool,
    bytes: Vec<u8>,
    /// The second that is written, and how.
    second: u64,
    stamp: String,
}

thread_local! {
    static LINES: RefCell<Lines> = RefCell::default();
}

/// Where this worker's lines go from now on.
pub(crate) fn open(log: Option<AccessLog>) {
    LINES.with_borrow_mut(|lines| {
        lines.flush();
        lines.stamp.clear();
        lines.second = 0;
        if log.is_some() && !lines.is_looked_after {
            lines.is_looked_after = true;
            tokio::spawn(keep_flushing());
        }
        lines.log = log;
    });
}

/// Sends what was written.
pub(crate) fn flush() {
    LINES.with_borrow_mut(Lines::flush);
}

/// Sends what was written, from time to time, for as long as the worker runs.
async fn keep_flushing() {
    loop {
        tokio::time::sleep(PAUSE).await;
        flush();
    }
}

/// Who ended a request, and in which phase; in the letters of HAProxy's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct End(pub(super) [u8; 4]);

impl End {
    /// In order.
    pub(super) const FINE: Self = Self(*b"----");
}

/// Who ended it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Who {
    Client,
    Server,
    Proxy,
    /// Nobody: it was answered here.
    Local,
    ClientLate,
    ServerLate,
}

/// In which phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum When {
    Request,
    Queue,
    Connect,
    Headers,
    Data,
}

impl End {
    fn is_in(self, when: When) -> bool {
        self.0.get(1) == Self::by(Who::Local, when).0.get(1)
    }

    pub(super) fn by(who: Who, when: When) -> Self {
        let who = match who {
            Who::Client => b'C',
            Who::Server => b'S',
            Who::Proxy => b'P',
            Who::Local => b'L',
            Who::ClientLate => b'c',
            Who::ServerLate => b's',
        };
        let when = match when {
            When::Request => b'R',
            When::Queue => b'Q',
            When::Connect => b'C',
            When::Headers => b'H',
            When::Data => b'D',
        };
        Self([who, when, b'-', b'-'])
    }
}

/// An address as it is told.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shown {
    text: [u8; 54],
    length: u8,
}

impl Shown {
    pub(super) const NONE: Self = Self {
        text: [0; 54],
        length: 0,
    };

    /// Cuts off what does not fit: the longest path of a Unix socket does not.
    pub(super) fn new(text: &str) -> Self {
        let mut shown = Self::NONE;
        let length = text.len().min(shown.text.len());
        for (to, from) in shown.text.iter_mut().zip(text.as_bytes()) {
            *to = *from;
        }
        shown.length = u8::try_from(length).unwrap_or_default();
        shown
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        self.text
            .get(..usize::from(self.length))
            .unwrap_or_default()
    }
}

/// What is known of a request.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) began: Instant,
    /// The version of HTTP that the client speaks.
    pub(super) protocol: &'static str,
    /// Until a connection was there.
    pub(super) connected: Option<Duration>,
    /// Of that, spent waiting for an origin that was away.
    pub(super) held: Duration,
    /// Until the answer began.
    pub(super) first_byte: Option<Duration>,
    pub(super) status: u16,
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,
    /// How often it was sent.
    pub(super) sent: u32,
    pub(super) endpoint: Shown,
    /// What the cache has to do with the answer; empty without one.
    pub(super) cache: &'static str,
    pub(super) end: End,
    /// What is told to whoever follows it, if anybody does.
    pub(super) trail: Option<Box<Trail>>,
    /// What else is known of it where clients say who they are, or where they want to go.
    pub(super) journey: Option<Box<Journey>>,
}

/// What is known of a request of somebody who says who he is, or where he wants to go.
#[derive(Clone, Debug, Default)]
pub(super) struct Journey {
    /// Who asks, if he has shown that.
    pub(super) user: Box<str>,
    /// What the rules say, if they say anything but yes.
    pub(super) decision: &'static str,
    /// By which of them, or what else is wrong.
    pub(super) why: Option<Box<str>>,
    /// How long it took to look the host up.
    pub(super) found: Option<Duration>,
    /// The proxy by which it went, if it went by one.
    pub(super) via: Option<Box<str>>,
}

impl Record {
    pub(super) fn new(began: Instant, protocol: &'static str) -> Self {
        Self {
            began,
            protocol,
            connected: None,
            held: Duration::ZERO,
            first_byte: None,
            status: 0,
            bytes_in: 0,
            bytes_out: 0,
            sent: 0,
            endpoint: Shown::NONE,
            cache: "",
            end: End::FINE,
            trail: None,
            journey: None,
        }
    }

    pub(super) fn journey(&mut self) -> &mut Journey {
        self.journey.get_or_insert_default()
    }

    /// How it went, as its origin counts it.
    pub(super) fn outcome(&self) -> Outcome {
        let by_server = matches!(self.end.0.first(), Some(b'S' | b's'));
        // What is answered here in an origin's place came to nothing for want of it.
        let by_us = matches!(self.end.0.first(), Some(b'L'));
        let is_replaced = self.first_byte.is_none() && matches!(self.status, 502..=504) && !by_us;
        Outcome {
            status: self.status,
            was_held: !self.held.is_zero(),
            was_retried: self.sent > 1,
            was_lost: by_server || is_replaced,
            // What a cache answers says nothing about the origin.
            first_byte: self.first_byte.filter(|_| self.sent > 0),
        }
    }

    /// Whether the client did not get the whole answer.
    pub(super) fn is_cut_off(&self) -> bool {
        self.status == 0 || self.end.is_in(When::Data)
    }
}

/// What a line tells beside the record.
pub(super) struct Subject<'s> {
    pub(super) scheme: &'s str,
    pub(super) listener: &'s str,
    pub(super) origin: &'s str,
    pub(super) from: &'s str,
    pub(super) head: &'s RequestHead,
    pub(super) text: &'s [u8],
}

/// What was asked for, and of whom.
pub(super) struct Said<'s> {
    pub(super) listener: &'s str,
    pub(super) origin: &'s str,
    pub(super) from: &'s str,
    pub(super) method: &'s [u8],
    pub(super) host: &'s [u8],
    pub(super) target: &'s [u8],
    pub(super) protocol: &'s str,
    pub(super) referer: Option<&'s [u8]>,
    pub(super) agent: Option<&'s [u8]>,
}

/// Writes the line of a request, if lines are written.
pub(super) fn write(now: Instant, record: &Record, subject: &Subject<'_>) {
    if LINES.with_borrow(|lines| lines.log.is_none()) {
        return;
    }
    tell(now, record, &said(record, subject));
}

fn said<'s>(record: &Record, subject: &'s Subject<'_>) -> Said<'s> {
    let (head, text) = (subject.head, subject.text);
    let host = head.host.span().map_or(&b""[..], |host| host.of(text));
    Said {
        listener: subject.listener,
        origin: subject.origin,
        from: subject.from,
        method: head.method_text.of(text),
        host,
        target: head.target.of(text),
        protocol: protocol(record, head),
        referer: head.value(text, Known::Referer),
        agent: head.value(text, Known::UserAgent),
    }
}

/// The same of what has no head, or none any more.
pub(super) fn tell(now: Instant, record: &Record, said: &Said<'_>) {
    LINES.with_borrow_mut(|lines| {
        let Some(log) = &lines.log else {
            return;
        };
        let format = log.format;
        lines.tell_time(format);
        let millis = clock::since_unix().subsec_millis();
        let out = &mut lines.bytes;
        match format {
            AccessFormat::Json => json(out, &lines.stamp, millis, now, record, said),
            AccessFormat::Combined => combined(out, &lines.stamp, record, said),
            AccessFormat::Squid => squid(out, (lines.second, millis), now, record, said),
        }
        if lines.bytes.len() >= BATCH {
            lines.flush();
        }
    });
}

/// The same of what is no request of HTTP.
pub(super) fn tell_of(guest: &Guest, record: &Record, (method, target): (&[u8], &str)) {
    let said = Said {
        listener: guest.name(),
        origin: "",
        from: guest.from(),
        method,
        host: b"",
        target: target.as_bytes(),
        protocol: record.protocol,
        referer: None,
        agent: None,
    };
    tell(clock::now(), record, &said);
}

impl Lines {
    fn flush(&mut self) {
        if let (Some(log), false) = (&self.log, self.bytes.is_empty()) {
            self.bytes = log.sink.take(std::mem::take(&mut self.bytes));
        }
    }

    /// The second is written once for all lines of it.
    fn tell_time(&mut self, format: AccessFormat) {
        let second = clock::since_unix().as_secs();
        if second == self.second && !self.stamp.is_empty() {
            return;
        }
        self.second = second;
        let (year, month, day) = date(second / 86_400);
        let (hour, minute, second) = (second / 3600 % 24, second / 60 % 60, second % 60);
        self.stamp = match format {
            AccessFormat::Json | AccessFormat::Squid => {
                format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")
            }
            AccessFormat::Combined => {
                const MONTHS: [&str; 12] = [
                    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov",
                    "Dec",
                ];
                let month = MONTHS.get(month as usize - 1).copied().unwrap_or_default();
                format!("{day:02}/{month}/{year:04}:{hour:02}:{minute:02}:{second:02} +0000")
            }
        };
    }
}

/// The date of a day since the beginning of 1970, in the proleptic Gregorian calendar.
fn date(days: u64) -> (u64, u64, u64) {
    // Years begin in March here, so that the day that may be missing is the last one.
    let days = days + 719_468;
    let era = days / 146_097;
    let of_era = days % 146_097;
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    let year = year + era * 400 + u64::from(month <= 2);
    (year, month, day)
}

fn json(
    out: &mut Vec<u8>,
    stamp: &str,
    millis: u32,
    now: Instant,
    record: &Record,
    said: &Said<'_>,
) {
    out.extend_from_slice(b"{\"time\":\"");
    out.extend_from_slice(stamp.as_bytes());
    out.push(b'.');
    let digit = |number: u32| b'0' + u8::try_from(number % 10).unwrap_or_default();
    out.extend([digit(millis / 100), digit(millis / 10), digit(millis)]);
    out.extend_from_slice(b"Z\"");
    let journey = record.journey.as_deref();
    string(out, b"listener", said.listener.as_bytes());
    string(out, b"client", said.from.as_bytes());
    if let Some(journey) = journey {
        string(out, b"user", journey.user.as_bytes());
    }
    string(out, b"method", said.method);
    string(out, b"host", said.host);
    string(out, b"target", said.target);
    string(out, b"protocol", said.protocol.as_bytes());
    number(out, b"status", u64::from(record.status));
    number(out, b"bytes_in", record.bytes_in);
    number(out, b"bytes_out", record.bytes_out);
    string(out, b"origin", said.origin.as_bytes());
    string(out, b"endpoint", record.endpoint.as_bytes());
    number(out, b"sent", u64::from(record.sent));
    string(out, b"cache", record.cache.as_bytes());
    if let Some(journey) = journey {
        string(out, b"decision", journey.decision.as_bytes());
        let why = journey.why.as_deref().unwrap_or_default();
        let name: &[u8] = match journey.decision {
            "" => b"cause",
            _ => b"rule",
        };
        string(out, name, why.as_bytes());
        string(
            out,
            b"via",
            journey.via.as_deref().unwrap_or_default().as_bytes(),
        );
        if let Some(found) = journey.found {
            time(out, b"dns_ms", found);
        }
    }
    if let Some(connected) = record.connected {
        time(out, b"connect_ms", connected);
    }
    if !record.held.is_zero() {
        time(out, b"held_ms", record.held);
    }
    if let Some(first_byte) = record.first_byte {
        time(out, b"first_byte_ms", first_byte);
    }
    time(
        out,
        b"total_ms",
        now.saturating_duration_since(record.began),
    );
    string(out, b"end", &record.end.0);
    out.extend_from_slice(b"}\n");
}

fn protocol(record: &Record, head: &RequestHead) -> &'static str {
    match head.version {
        Version::Http10 => "HTTP/1.0",
        Version::Http11 => record.protocol,
    }
}

/// What is there, or a dash.
fn or_dash(text: &str) -> &str {
    if text.is_empty() { "-" } else { text }
}

/// Who asks, in one word.
fn user(out: &mut Vec<u8>, record: &Record) {
    let user = record.journey.as_deref().map(|journey| &*journey.user);
    word(out, or_dash(user.unwrap_or_default()).as_bytes());
}

/// In one word: what would be a space is none.
fn word(out: &mut Vec<u8>, text: &[u8]) {
    let from = out.len();
    escape(out, text);
    for byte in out.iter_mut().skip(from).filter(|byte| **byte == b' ') {
        *byte = b'_';
    }
}

/// As Squid's own format has it: `time elapsed remotehost code/status bytes method URL rfc931 peerstatus/peerhost type`.
fn squid(
    out: &mut Vec<u8>,
    (second, millis): (u64, u32),
    now: Instant,
    record: &Record,
    said: &Said<'_>,
) {
    let elapsed = now.saturating_duration_since(record.began).as_millis();
    let decision = record.journey.as_deref().map(|journey| journey.decision);
    let code = match (decision, record.cache, said.method) {
        (Some("denied"), ..) => "TCP_DENIED",
        (_, "hit", _) => "TCP_HIT",
        (_, "revalidated", _) => "TCP_REFRESH_UNMODIFIED",
        (_, "stale", _) => "TCP_STALE_HIT",
        (_, _, b"CONNECT") => "TCP_TUNNEL",
        (_, "", _) if record.sent == 0 => "NONE",
        _ => "TCP_MISS",
    };
    let from = or_dash(said.from);
    let status = record.status;
    let head = format!(
        "{second}.{millis:03} {elapsed:6} {from} {code}/{status:03} {} ",
        record.bytes_out
    );
    out.extend_from_slice(head.as_bytes());
    word(
        out,
        if said.method.is_empty() {
            b"NONE"
        } else {
            said.method
        },
    );
    out.push(b' ');
    if said.method != b"CONNECT" && !said.host.is_empty() {
        out.extend_from_slice(b"http://");
        word(out, said.host);
    }
    word(out, said.target);
    out.push(b' ');
    user(out, record);
    let endpoint = String::from_utf8_lossy(record.endpoint.as_bytes());
    let host = endpoint.rsplit_once(':').map_or("-", |(host, _)| host);
    let is_direct = record
        .journey
        .as_deref()
        .is_none_or(|journey| journey.via.is_none());
    let peer = match (host, is_direct) {
        ("-", _) => "HIER_NONE",
        (_, true) => "HIER_DIRECT",
        (_, false) => "FIRSTUP_PARENT",
    };
    out.extend_from_slice(format!(" {peer}/{host} -\n").as_bytes());
}

fn combined(out: &mut Vec<u8>, stamp: &str, record: &Record, said: &Said<'_>) {
    out.extend_from_slice(or_dash(said.from).as_bytes());
    out.extend_from_slice(b" - ");
    user(out, record);
    out.extend_from_slice(b" [");
    out.extend_from_slice(stamp.as_bytes());
    out.extend_from_slice(b"] \"");
    escape(out, said.method);
    out.push(b' ');
    escape(out, said.target);
    out.push(b' ');
    out.extend_from_slice(said.protocol.as_bytes());
    out.extend_from_slice(b"\" ");
    decimal(out, u64::from(record.status));
    out.push(b' ');
    decimal(out, record.bytes_out);
    for field in [said.referer, said.agent] {
        out.extend_from_slice(b" \"");
        escape(out, field.unwrap_or(b"-"));
        out.push(b'"');
    }
    out.push(b'\n');
}

fn name(out: &mut Vec<u8>, name: &[u8]) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name);
    out.extend_from_slice(b"\":");
}

fn string(out: &mut Vec<u8>, of: &[u8], value: &[u8]) {
    if value.is_empty() {
        return;
    }
    name(out, of);
    out.push(b'"');
    escape(out, value);
    out.push(b'"');
}

/// What clients say is written so that it can neither end a string nor a line.
fn escape(out: &mut Vec<u8>, value: &[u8]) {
    let is_plain = |byte: &u8| matches!(byte, 0x20..=0x7e) && !matches!(byte, b'"' | b'\\');
    if value.iter().all(is_plain) {
        out.extend_from_slice(value);
        return;
    }
    for character in String::from_utf8_lossy(value).chars() {
        match character {
            '"' => out.extend_from_slice(b"\\\""),
            '\\' => out.extend_from_slice(b"\\\\"),
            control if control.is_control() => {
                out.extend_from_slice(format!("\\u{:04x}", u32::from(control)).as_bytes());
            }
            other => out.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
}

fn number(out: &mut Vec<u8>, of: &[u8], value: u64) {
    name(out, of);
    decimal(out, value);
}

/// Milliseconds, to the microsecond.
fn time(out: &mut Vec<u8>, of: &[u8], value: Duration) {
    name(out, of);
    let micros = u64::try_from(value.as_micros()).unwrap_or(u64::MAX);
    decimal(out, micros / 1000);
    out.push(b'.');
    let digit = |number: u64| b'0' + u8::try_from(number % 10).unwrap_or_default();
    out.extend([digit(micros / 100), digit(micros / 10), digit(micros)]);
}

fn decimal(out: &mut Vec<u8>, mut value: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        if let Some(digit) = digits.get_mut(at) {
            *digit = b'0' + u8::try_from(value % 10).unwrap_or_default();
        }
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(at..).unwrap_or_default());
}

#[cfg(test)]
mod tests;

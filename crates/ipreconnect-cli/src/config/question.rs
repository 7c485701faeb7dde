//! Checks that speak: `"http:/healthz"` and `"send:PING\r\n expect:+PONG"`.

use std::sync::Arc;

use ipreconnect::core::origin::Check;
use ipreconnect::core::question::{HttpQuestion, Question, Statuses, WORDS, Words};

use super::plan::Protocol;
use super::section::{Field, Section};

const HTTP: &str = "http:";
const SEND: &str = "send:";
const EXPECT: &str = " expect:";
const LIKE_HTTP: &str = "a path, as in check = \"http:/healthz\"";
const LIKE_WORDS: &str = "check = \"send:PING\\r\\n expect:+PONG\"";

/// Whether a check is one that speaks.
pub(super) fn speaks(check: &str) -> bool {
    check.starts_with(HTTP) || check.starts_with(SEND)
}

/// Reads one. `host` is whom the origin is asked for.
pub(super) fn read(
    health: &Section<'_>,
    field: &Field<'_>,
    text: &str,
    protocol: Protocol,
    host: Option<&str>,
) -> Option<Check> {
    let question = match text.strip_prefix(HTTP) {
        Some(path) => Question::Http(Arc::new(http(health, field, path, protocol, host)?)),
        None => {
            status_is_of_http(health);
            Question::Words(Arc::new(words(field, text, protocol)?))
        }
    };
    Some(Check::Question(question))
}

/// Tells that `status` says nothing without a check of HTTP.
pub(super) fn status_is_of_http(health: &Section<'_>) {
    if let Some(field) = health.field("status") {
        let hint = "check = \"http:/healthz\"";
        field.wrong("goes with a check of HTTP only", hint);
    }
}

fn http(
    health: &Section<'_>,
    field: &Field<'_>,
    path: &str,
    protocol: Protocol,
    host: Option<&str>,
) -> Option<HttpQuestion> {
    if protocol == Protocol::Udp {
        let why = "cannot be a check of HTTP of an origin that speaks udp";
        field.wrong(why, "");
        return None;
    }
    let is_path = path.starts_with('/')
        && path.len() <= WORDS
        && path
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && byte != b'#');
    let is_target = format!("http://h{path}").parse::<hyper::Uri>().is_ok();
    if !(is_path && is_target) {
        field.wrong(&format!("cannot ask for {path:?}"), LIKE_HTTP);
        return None;
    }
    Some(HttpQuestion {
        path: path.into(),
        host: host.map(Into::into),
        good: statuses(health),
        is_h2: protocol == Protocol::H2,
    })
}

fn statuses(health: &Section<'_>) -> Statuses {
    let Some(field) = health.field("status") else {
        return Statuses::default();
    };
    let Some(text) = field.text() else {
        return Statuses::default();
    };
    text.parse().unwrap_or_else(|error| {
        let hint = "\"200-399\", \"200\", \"200-299,404\"";
        field.wrong(&format!("cannot be {text:?}: {error}"), hint);
        Statuses::default()
    })
}

fn words(field: &Field<'_>, text: &str, protocol: Protocol) -> Option<Words> {
    if protocol != Protocol::Tcp {
        let why = format!(
            "cannot send bytes to an origin that speaks {}",
            protocol.word()
        );
        field.wrong(&why, if protocol.is_http() { LIKE_HTTP } else { "" });
        return None;
    }
    let Some((send, expect)) = text
        .strip_prefix(SEND)
        .and_then(|text| text.split_once(EXPECT))
    else {
        field.wrong("needs ` expect:` and how the answer begins", LIKE_WORDS);
        return None;
    };
    let (Some(send), Some(expect)) = (bytes(send), bytes(expect)) else {
        let hint = "write \\r, \\n, \\t, \\\\, or two hexadecimal digits as in \\x00";
        field.wrong("has a backslash before something unknown", hint);
        return None;
    };
    if expect.is_empty() {
        field.wrong("expects nothing, which says nothing", LIKE_WORDS);
        return None;
    }
    if send.len().max(expect.len()) > WORDS {
        field.wrong(&format!("is too long: at most {WORDS} bytes each"), "");
        return None;
    }
    Some(Words { send, expect })
}

/// The bytes that a text stands for. TOML has read some of its escapes already, or none ('like this').
fn bytes(text: &str) -> Option<Box<[u8]>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        let (&kind, after) = rest.split_first()?;
        rest = after;
        bytes.push(match kind {
            b'r' => b'\r',
            b'n' => b'\n',
            b't' => b'\t',
            b'\\' => b'\\',
            b'x' => {
                let (digits, after) = rest.split_at_checked(2)?;
                rest = after;
                let is_hex = digits.iter().all(u8::is_ascii_hexdigit);
                let digits = std::str::from_utf8(digits).ok().filter(|_| is_hex)?;
                u8::from_str_radix(digits, 16).ok()?
            }
            _ => return None,
        });
    }
    Some(bytes.into())
}

//! Heads as they are passed on.
//!
//! What is passed on stands beside each other in most heads, and is copied as it is.

use ipreconnect::core::http::{
    Body, Field, Known, Method, RequestHead, ResponseBody, ResponseHead, Version,
};

use super::forwarding::Told;
use super::side::Lead;
use super::{AskedHost, FieldRules, Rewrite, date};

/// Conditions of ours, in place of the client's: names and values.
pub(super) type Conditions<'c> = [(&'static str, Option<&'c [u8]>); 2];

fn is_condition(field: &Field, text: &[u8]) -> bool {
    const NAMES: [&[u8]; 4] = [
        b"if-none-match",
        b"if-modified-since",
        b"if-range",
        b"range",
    ];
    let name = field.name.of(text);
    NAMES.iter().any(|other| name.eq_ignore_ascii_case(other))
}

/// Writes the head of a request for the origin.
pub(super) fn request(
    out: &mut Vec<u8>,
    text: &[u8],
    head: &RequestHead,
    host: &AskedHost,
    rewrite: &Rewrite,
    told: &Told<'_>,
    conditions: Option<Conditions<'_>>,
) {
    let target = head.target.of(text);
    let rewritten = rewrite.target(target);
    let target = rewritten.as_deref().unwrap_or(target);
    let asked = head.host.span().map(|span| span.of(text));
    out.extend_from_slice(head.method_text.of(text));
    out.push(b' ');
    if let Some(authority) = told.authority() {
        out.extend_from_slice(b"http://");
        out.extend_from_slice(authority.as_bytes());
    }
    match target.first() {
        // A proxy makes an asterisk of it for the server (RFC 9112, section 3.2.4).
        None if head.method == Method::Options && told.authority().is_some() => {}
        // Of a server as a whole nothing is asked but this (RFC 9112, section 3.2.4).
        None if head.method == Method::Options => out.push(b'*'),
        None | Some(b'?') => out.push(b'/'),
        Some(_) => {}
    }
    out.extend_from_slice(target);
    out.extend_from_slice(b" HTTP/1.1\r\nHost: ");
    out.extend_from_slice(match host {
        _ if told.authority().is_some() => told.authority().unwrap_or_default().as_bytes(),
        AskedHost::Client => asked.unwrap_or_default(),
        AskedHost::Fixed(host) => host.as_bytes(),
    });
    out.extend_from_slice(b"\r\n");
    let end = head.length.saturating_sub(2);
    lines(out, text, &head.fields, end, |field| {
        field.known != Known::Host
            && told.passes(field.known)
            && told.passes_name(field.name.of(text))
            && rewrite.request.pass(field, text)
            && (conditions.is_none() || !is_condition(field, text))
    });
    for (name, value) in conditions.into_iter().flatten() {
        if let Some(value) = value {
            line(out, name.as_bytes(), value);
        }
    }
    set(out, &rewrite.request);
    let other = match host {
        AskedHost::Fixed(_) => asked,
        AskedHost::Client => None,
    };
    told.write(out, head, text, other);
    if head.body == Body::Chunked {
        out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
    }
    if let Some(upgrade) = head.upgrade {
        out.extend_from_slice(b"Connection: upgrade\r\n");
        line(out, b"Upgrade", upgrade.of(text));
    }
    out.extend_from_slice(b"\r\n");
}

fn set(out: &mut Vec<u8>, rules: &FieldRules) {
    for (name, value) in &rules.set {
        line(out, name.as_bytes(), value.as_bytes());
    }
}

/// What leads back to the origin, and what is to be put in its place.
pub(super) struct Back<'b> {
    /// The origin, as it was asked, and as it is reached.
    pub(super) origin: [&'b [u8]; 2],
    /// The client's way here.
    pub(super) scheme: &'b str,
    pub(super) host: &'b [u8],
}

impl Back<'_> {
    /// Where a client is sent that the origin sends to itself.
    pub(super) fn location(&self, location: &[u8]) -> Option<Vec<u8>> {
        let rest = [&b"http://"[..], b"https://"]
            .iter()
            .find_map(|scheme| location.strip_prefix(*scheme))?;
        let end = rest
            .iter()
            .position(|byte| matches!(byte, b'/' | b'?' | b'#'));
        let (authority, rest) = rest.split_at(end.unwrap_or(rest.len()));
        let is_own = |own: &[u8]| !own.is_empty() && authority.eq_ignore_ascii_case(own);
        if self.host.is_empty()
            || authority == self.host
            || !self.origin.iter().any(|own| is_own(own))
        {
            return None;
        }
        let mut location = self.scheme.as_bytes().to_vec();
        location.extend_from_slice(b"://");
        location.extend_from_slice(self.host);
        location.extend_from_slice(rest);
        Some(location)
    }
}

/// How a body is written for the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coding {
    /// As it came.
    AsItIs,
    /// The data of it, in chunks.
    Chunks,
    /// The data of it, and the end of the connection.
    UntilClose,
    /// The data of it; where it ends is told beside it (HTTP/2).
    Frames,
}

/// How the body of a response is written for a client.
pub(super) fn coding(body: ResponseBody, client: Version) -> Coding {
    match (body, client) {
        (ResponseBody::None | ResponseBody::Length(_), _) => Coding::AsItIs,
        (ResponseBody::Chunked, Version::Http11) => Coding::AsItIs,
        (ResponseBody::UntilClose, Version::Http11) => Coding::Chunks,
        (ResponseBody::Chunked | ResponseBody::UntilClose, Version::Http10) => Coding::UntilClose,
    }
}

/// Whether the connection to the client goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Onward {
    /// It does, as it does by itself.
    Kept,
    /// It does, and the client has to be told.
    KeptAloud,
    /// It ends.
    Closed,
}

/// Writes the head of a response for the client; `request` is what the head of the request is a place of.
pub(super) fn response(out: &mut Vec<u8>, lead: &Lead<'_>, request: &[u8]) {
    let Lead {
        head, text, body, ..
    } = *lead;
    let back = lead.back(request);
    status_line(out, text, head);
    let end = head.length.saturating_sub(2);
    let location = head
        .value(text, Known::Location)
        .and_then(|location| back.location(location));
    lines(out, text, &head.fields, end, |field| {
        !(field.known == Known::Location && location.is_some())
            && lead.rules.pass(field, text)
            && lead.passes(field)
    });
    if let Some(location) = location {
        line(out, b"Location", &location);
    }
    if !head.fields.iter().any(|field| field.known == Known::Date) {
        date::with(|now| line(out, b"Date", now.as_bytes()));
    }
    lead.write_changed(|name, value| line(out, name, value));
    set(out, lead.rules);
    if let Some(cookie) = lead.cookie {
        line(out, b"Set-Cookie", cookie.as_bytes());
    }
    for (name, value) in lead.told {
        line(out, name.as_bytes(), value.as_bytes());
    }
    let is_chunked = matches!(
        (body, coding(body, lead.asked.version)),
        (_, Coding::Chunks) | (ResponseBody::Chunked, Coding::AsItIs)
    );
    if is_chunked {
        out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
    }
    out.extend_from_slice(match lead.onward {
        Onward::Kept => b"",
        Onward::KeptAloud => b"Connection: keep-alive\r\n",
        Onward::Closed => b"Connection: close\r\n",
    });
    out.extend_from_slice(b"\r\n");
}

/// Writes a response that only informs, or that goes on with another protocol.
pub(super) fn interim(out: &mut Vec<u8>, text: &[u8], head: &ResponseHead) {
    status_line(out, text, head);
    let end = head.length.saturating_sub(2);
    lines(out, text, &head.fields, end, |field| {
        field.known != Known::Server
    });
    if head.status == 101 {
        out.extend_from_slice(b"Connection: upgrade\r\n");
        if let Some(upgrade) = head.value(text, Known::Upgrade) {
            line(out, b"Upgrade", upgrade);
        }
    }
    out.extend_from_slice(b"\r\n");
}

fn status_line(out: &mut Vec<u8>, text: &[u8], head: &ResponseHead) {
    out.extend_from_slice(b"HTTP/1.1 ");
    let digit = |number: u16| b'0' + u8::try_from(number % 10).unwrap_or_default();
    out.extend([head.status / 100, head.status / 10, head.status].map(digit));
    out.push(b' ');
    out.extend_from_slice(head.reason.of(text));
    out.extend_from_slice(b"\r\n");
}

pub(super) fn line(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Copies the lines of fields that are passed on; `end` is where the last line ends.
fn lines(
    out: &mut Vec<u8>,
    text: &[u8],
    fields: &[Field],
    end: usize,
    is_passed: impl Fn(&Field) -> bool,
) {
    let mut run: Option<usize> = None;
    for field in fields {
        let start = field.name.start();
        if !field.is_hop && is_passed(field) {
            run.get_or_insert(start);
        } else if let Some(from) = run.take() {
            out.extend_from_slice(text.get(from..start).unwrap_or_default());
        }
    }
    if let Some(from) = run {
        out.extend_from_slice(text.get(from..end).unwrap_or_default());
    }
}

#[cfg(test)]
mod tests;

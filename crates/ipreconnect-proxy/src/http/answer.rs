//! Answers of our own: what went wrong, for people, and in `Proxy-Status` for programs (RFC 9209). Clients of
//! gRPC are told in the words of gRPC.

use std::time::Duration;

use ipreconnect::core::failure::{Cause, Failure, Layer};
use ipreconnect::core::http::{Foreign, RequestError, Role};
use ipreconnect::{Error, Kind};

use super::record::{End, When, Who};
use super::render::Onward;
use super::{Fallback, Page, date};
use crate::forward::Refusal;

/// Why a request is not answered by its origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// The request cannot be read.
    Request(RequestError),
    /// Its head is too long.
    TooLong,
    /// Its body is too long.
    TooMuch,
    /// Its client makes too many; it may make another one after so long.
    TooOften(Duration),
    /// It has to show who makes it, and does not, or not that somebody makes it who may.
    Unnamed,
    /// The same, of a proxy.
    UnnamedHere,
    /// No route is for it.
    NoRoute,
    /// Nothing here is asked for by its method.
    NotAsked,
    /// A browser has sent it for a page that has nothing to do with this.
    Foreign(Foreign),
    /// Something that it needs is down.
    Missing,
    /// Its head did not come in time.
    Slow,
    /// The body is broken.
    Body,
    /// No endpoint is there.
    Nobody(Away),
    /// The connection was lost, and the request may not be sent again.
    Lost(Fate),
    /// What the origin says is no HTTP.
    Nonsense,
    /// The origin does not speak the version that it is configured to.
    Another,
    /// The origin took too long.
    Late,
}

/// Why no endpoint is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Away {
    /// None could be reached.
    Down,
    /// Too many wait already.
    Full,
    /// It takes no new work.
    Draining,
    /// It could not prove who it is.
    Unproven,
    /// Its name leads nowhere.
    Nameless,
}

/// What became of a request whose connection was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It was not processed.
    NotProcessed,
    /// It may have been.
    Unknown,
}

/// What an answer of our own looks like.
#[derive(Clone, Copy, Debug)]
pub(super) enum Form<'f> {
    /// Our own words.
    Words,
    /// This page.
    Page(&'f str),
    /// A head with the status of a call, and no body; of this type.
    Grpc(&'f str),
}

impl<'f> Form<'f> {
    /// What `page` or our words are for people.
    pub(super) fn for_people(page: Option<&'f str>) -> Self {
        page.map_or(Self::Words, Self::Page)
    }

    /// By the head of the request, which may be one that cannot be.
    pub(super) fn of(head: &'f [u8], page: Option<&'f str>) -> Self {
        let lines = head.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
        let mut lines = lines.take_while(|line| !line.is_empty());
        let kind = lines.find_map(|line| {
            let (name, value) = line.split_at_checked(KIND.len())?;
            name.eq_ignore_ascii_case(KIND).then(|| value.trim_ascii())
        });
        let kind = kind.and_then(|kind| std::str::from_utf8(kind).ok());
        match kind.filter(|kind| is_grpc(kind)) {
            Some(kind) => Self::Grpc(kind),
            None => Self::for_people(page),
        }
    }
}

/// Of a field, with its colon.
const KIND: &[u8] = b"content-type:";

/// Whether a call of gRPC, or of gRPC-Web, has a body of this type.
fn is_grpc(kind: &str) -> bool {
    let rest = kind.strip_prefix("application/grpc");
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['+', ';', '-']))
        && kind
            .bytes()
            .all(|byte| byte.is_ascii_graphic() || byte == b' ')
}

impl Trouble {
    /// By the error of the origin.
    pub(super) fn of(error: &Error) -> Self {
        let failure = error.failure();
        Self::Nobody(match (error.kind(), failure) {
            (Kind::HoldFull, _) => Away::Full,
            (Kind::Draining | Kind::Closed, _) => Away::Draining,
            (_, Some(failure)) if is_unproven(failure) => Away::Unproven,
            (_, Some(failure)) if failure.layer() == Layer::Dns => Away::Nameless,
            _ => Away::Down,
        })
    }

    /// It has to show who makes it, and does not.
    pub(super) fn unnamed(role: Role) -> Self {
        match role {
            Role::Reverse => Self::Unnamed,
            Role::Forward => Self::UnnamedHere,
        }
    }

    /// Whether it is the origin that is of no use.
    pub(super) fn is_of_origin(self) -> bool {
        match self {
            Self::Nobody(_) | Self::Lost(_) | Self::Nonsense | Self::Another | Self::Late => true,
            Self::Request(_)
            | Self::TooLong
            | Self::TooMuch
            | Self::TooOften(_)
            | Self::Unnamed
            | Self::UnnamedHere
            | Self::NoRoute
            | Self::NotAsked
            | Self::Foreign(_)
            | Self::Missing
            | Self::Slow
            | Self::Body => false,
        }
    }

    pub(super) fn status(self) -> u16 {
        match self {
            Self::Request(error) => error.status(),
            Self::TooLong => 431,
            Self::TooMuch => 413,
            Self::TooOften(_) => 429,
            Self::Unnamed => 401,
            Self::UnnamedHere => 407,
            Self::NoRoute => 404,
            Self::NotAsked => 405,
            Self::Foreign(_) => 403,
            Self::Missing => 503,
            Self::Slow => 408,
            Self::Body => 400,
            Self::Nobody(Away::Unproven) | Self::Lost(_) | Self::Nonsense | Self::Another => 502,
            Self::Nobody(_) => 503,
            Self::Late => 504,
        }
    }

    /// The same as the status of a call of gRPC. `UNAVAILABLE` is an invitation to try again, and only
    /// for what was not processed.
    fn grpc_status(self) -> u8 {
        match self {
            Self::Missing | Self::Nobody(_) | Self::Another | Self::Lost(Fate::NotProcessed) => 14,
            Self::Lost(Fate::Unknown) => 2,
            Self::Slow | Self::Late => 4,
            Self::TooLong | Self::TooMuch | Self::TooOften(_) => 8,
            Self::NoRoute | Self::NotAsked => 12,
            Self::Unnamed | Self::UnnamedHere => 16,
            Self::Foreign(_) => 7,
            Self::Request(_) | Self::Body | Self::Nonsense => 13,
        }
    }

    /// The error type (RFC 9209, section 2.3), and what there is to add.
    fn proxy_status(self) -> Option<(&'static str, &'static str)> {
        Some(match self {
            Self::Request(_) | Self::TooLong | Self::TooMuch | Self::Body => {
                ("http_request_error", "")
            }
            Self::Slow
            | Self::NoRoute
            | Self::NotAsked
            | Self::TooOften(_)
            | Self::Unnamed
            | Self::UnnamedHere => return None,
            Self::Foreign(_) => ("http_request_denied", ""),
            Self::Missing => ("destination_unavailable", "something required is down"),
            Self::Nobody(Away::Down) => ("destination_unavailable", ""),
            Self::Nobody(Away::Full) => ("connection_limit_reached", "too many requests wait"),
            Self::Nobody(Away::Draining) => ("destination_unavailable", "taken out of service"),
            Self::Nobody(Away::Unproven) => ("tls_certificate_error", ""),
            Self::Nobody(Away::Nameless) => ("dns_error", ""),
            Self::Lost(Fate::NotProcessed) => ("connection_terminated", "not processed"),
            Self::Lost(Fate::Unknown) => ("connection_terminated", "outcome unknown"),
            Self::Nonsense => ("http_protocol_error", "outcome unknown"),
            Self::Another => (
                "http_protocol_error",
                "not processed: the origin does not speak HTTP/2",
            ),
            Self::Late => ("http_response_timeout", "outcome unknown"),
        })
    }

    /// For people.
    pub(super) fn words(self) -> String {
        let words = match self {
            Self::Request(error) => return format!("The request was refused: {error}."),
            Self::TooLong => "The request was refused: its head is too long.",
            Self::TooMuch => "The request was refused: its body is too long.",
            Self::TooOften(_) => {
                "You ask more often than is allowed here. The request was not processed; please wait a moment."
            }
            Self::Unnamed => "Who comes in here has to show who he is.",
            Self::UnnamedHere => {
                "Who goes through this proxy has to show who he is: by a user and a password in the proxy's address, as in http://user:password@proxy:3128."
            }
            Self::NoRoute => "There is nothing at this address.",
            Self::NotAsked => "This is only read: by GET or HEAD.",
            Self::Foreign(Foreign::Host) => {
                "The request was refused: it asks for a name that does not lead here, as a page does that has made its own name lead to this machine. Ask by address or by localhost; whoever runs this can allow the name: by `host` of a route, or by `shield_origins` of the listener."
            }
            Self::Foreign(Foreign::Origin | Foreign::Site) => {
                "The request was refused: a page of another site has sent it, and may not reach this from a browser. Whoever runs this can allow that site by `shield_origins` of the listener."
            }
            Self::Missing => {
                "Something that this needs is down at the moment. The request was not processed; please try again."
            }
            Self::Slow => "The request did not arrive in time.",
            Self::Body => "The request was refused: its body is broken.",
            Self::Nobody(Away::Down | Away::Nameless) => {
                "The server behind this address cannot be reached at the moment. The request was not processed; please try again."
            }
            Self::Nobody(Away::Full) => {
                "Too many requests wait for the server behind this address. This one was not processed; please try again."
            }
            Self::Nobody(Away::Draining) => {
                "The server behind this address is taken out of service. The request was not processed; please try again."
            }
            Self::Nobody(Away::Unproven) => {
                "What answers behind this address cannot prove that it is the right server. The request was not sent."
            }
            Self::Lost(Fate::NotProcessed) => {
                "The connection to the server was lost. The request was not processed; please try again."
            }
            Self::Lost(Fate::Unknown) => {
                "The connection to the server was lost before its answer. Nobody knows whether the request was processed; look before you send it again."
            }
            Self::Another => {
                "The server behind this address does not speak HTTP/2. The request was not sent."
            }
            Self::Nonsense => {
                "The server's answer cannot be understood. The request may have been processed."
            }
            Self::Late => "The server did not answer in time. The request may have been processed.",
        };
        words.to_owned()
    }

    /// Seconds after which another try makes sense.
    fn retry_after(self) -> Option<u64> {
        match self {
            Self::Nobody(Away::Unproven) => None,
            Self::Nobody(_) | Self::Missing => Some(1),
            Self::TooOften(wait) => Some(wait.as_secs().saturating_add(1)),
            _ => None,
        }
    }

    /// Who ended the request, and in which phase.
    pub(super) fn end(self) -> End {
        match self {
            Self::Request(_)
            | Self::TooLong
            | Self::TooMuch
            | Self::TooOften(_)
            | Self::Unnamed
            | Self::UnnamedHere
            | Self::Foreign(_)
            | Self::Body => End::by(Who::Proxy, When::Request),
            Self::NoRoute | Self::NotAsked | Self::Missing => End::by(Who::Local, When::Request),
            Self::Slow => End::by(Who::ClientLate, When::Request),
            Self::Nobody(Away::Full) => End::by(Who::Proxy, When::Queue),
            Self::Nobody(Away::Draining) => End::by(Who::Server, When::Queue),
            Self::Nobody(Away::Unproven) => End::by(Who::Proxy, When::Connect),
            Self::Nobody(Away::Down | Away::Nameless) => End::by(Who::Server, When::Connect),
            Self::Lost(_) => End::by(Who::Server, When::Headers),
            Self::Another => End::by(Who::Server, When::Connect),
            Self::Nonsense => End::by(Who::Proxy, When::Headers),
            Self::Late => End::by(Who::ServerLate, When::Headers),
        }
    }

    /// Writes the whole answer.
    pub(super) fn render(self, out: &mut Vec<u8>, onward: Onward, is_head: bool, form: Form<'_>) {
        let own = self.status();
        let (status, kind, words) = match form {
            Form::Words => {
                let words = format!("{own} {}\n\n{}\n", reason(own), self.words());
                (own, "text/plain; charset=utf-8", words)
            }
            Form::Page(page) => {
                let page = page.replace("{status}", &own.to_string());
                let page = page.replace("{reason}", reason(own));
                (own, "text/html; charset=utf-8", page)
            }
            Form::Grpc(kind) => (200, kind, String::new()),
        };
        let mut head = format!(
            "HTTP/1.1 {status} {}\r\nDate: {}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nCache-Control: no-store\r\n",
            reason(status),
            date::now(),
            words.len()
        );
        if let Form::Grpc(_) = form {
            let (status, words) = (self.grpc_status(), self.words());
            head.push_str(&format!(
                "Grpc-Status: {status}\r\nGrpc-Message: {words}\r\n"
            ));
        }
        if let Some((error, detail)) = self.proxy_status() {
            head.push_str("Proxy-Status: ipreconnect; error=");
            head.push_str(error);
            if !detail.is_empty() {
                head.push_str("; details=\"");
                head.push_str(detail);
                head.push('"');
            }
            head.push_str("\r\n");
        }
        if own == 401 {
            head.push_str("WWW-Authenticate: Basic realm=\"ipreconnect\", charset=\"UTF-8\"\r\n");
        }
        if own == 407 {
            head.push_str("Proxy-Authenticate: Basic realm=\"ipreconnect\", charset=\"UTF-8\"\r\n");
        }
        if own == 405 && self == Self::NotAsked {
            head.push_str("Allow: GET, HEAD\r\n");
        } else if status == 405 {
            head.push_str("Allow: GET, HEAD, POST, PUT, DELETE, OPTIONS, PATCH\r\n");
        }
        if let Some(seconds) = self.retry_after() {
            head.push_str(&format!("Retry-After: {seconds}\r\n"));
        }
        head.push_str(told(onward));
        head.push_str("\r\n");
        out.extend_from_slice(head.as_bytes());
        if !is_head {
            out.extend_from_slice(words.as_bytes());
        }
    }
}

/// Writes why a client does not get where it wants to go.
pub(super) fn refusal(out: &mut Vec<u8>, refusal: &Refusal, onward: Onward, is_head: bool) {
    let own = refusal.status;
    let words = format!("{own} {}\n\n{}\n", reason(own), refusal.words());
    let mut head = format!(
        "HTTP/1.1 {own} {}\r\nDate: {}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\nCache-Control: no-store\r\nProxy-Status: ipreconnect; error={}",
        reason(own),
        date::now(),
        words.len(),
        refusal.error,
    );
    head.push_str("; details=");
    quoted(&mut head, &refusal.why);
    head.push_str("\r\n");
    if let Some(wait) = refusal.wait {
        head.push_str(&format!(
            "Retry-After: {}\r\n",
            wait.as_secs().saturating_add(1)
        ));
    }
    head.push_str(told(onward));
    head.push_str("\r\n");
    out.extend_from_slice(head.as_bytes());
    if !is_head {
        out.extend_from_slice(words.as_bytes());
    }
}

/// A string of structured fields (RFC 9651, section 3.3.3), which has no other characters than these.
fn quoted(out: &mut String, text: &str) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => out.extend(['\\', character]),
            ' '..='~' => out.push(character),
            _ => out.push('?'),
        }
    }
    out.push('"');
}

/// Writes an answer that is given in place of an origin's.
pub(super) fn fallback(out: &mut Vec<u8>, fallback: &Fallback, onward: Onward, is_head: bool) {
    let Fallback {
        status,
        body,
        content_type,
    } = fallback;
    let head = format!(
        "HTTP/1.1 {status} {}\r\nDate: {}\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\nCache-Control: no-store\r\n{}\r\n",
        reason(*status),
        date::now(),
        body.len(),
        told(onward)
    );
    out.extend_from_slice(head.as_bytes());
    if !is_head {
        out.extend_from_slice(body.as_bytes());
    }
}

/// Writes a page of our own.
pub(super) fn page(out: &mut Vec<u8>, page: &Page, onward: Onward, is_head: bool) {
    let head = format!(
        "HTTP/1.1 200 OK\r\nDate: {}\r\nContent-Type: {}\r\nContent-Length: {}\r\n{}{}\r\n",
        date::now(),
        page.content_type,
        page.body.len(),
        page.fields,
        told(onward)
    );
    out.extend_from_slice(head.as_bytes());
    if !is_head {
        out.extend_from_slice(page.body.as_bytes());
    }
}

/// What the client is told of its connection.
fn told(onward: Onward) -> &'static str {
    match onward {
        Onward::Kept => "",
        Onward::KeptAloud => "Connection: keep-alive\r\n",
        Onward::Closed => "Connection: close\r\n",
    }
}

fn is_unproven(failure: &Failure) -> bool {
    matches!(failure.layer(), Layer::Tls | Layer::Identity) || failure.cause == Cause::Handshake
}

/// The words of a status (RFC 9110, section 15).
pub(super) fn reason(status: u16) -> &'static str {
    match status {
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        407 => "Proxy Authentication Required",
        408 => "Request Timeout",
        413 => "Content Too Large",
        417 => "Expectation Failed",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        508 => "Loop Detected",
        200 => "OK",
        _ => "Other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_of_grpc_are_known_by_their_type() {
        for (head, wanted) in [
            (
                "POST / HTTP/1.1\r\nContent-Type: application/grpc\r\n\r\n",
                "application/grpc",
            ),
            (
                "POST / HTTP/1.1\r\nA: b\r\ncontent-type:application/grpc+proto \r\n\r\n",
                "application/grpc+proto",
            ),
            (
                "POST / HTTP/1.1\r\nContent-Type: application/grpc-web-text; a=b\r\n\r\n",
                "application/grpc-web-text; a=b",
            ),
            (
                "POST / HTTP/1.1\r\nContent-Type: application/grpcs\r\n\r\n",
                "",
            ),
            (
                "POST / HTTP/1.1\r\nContent-Type: application/grpc;\u{e4}\r\n\r\n",
                "",
            ),
            (
                "POST / HTTP/1.1\r\n\r\nContent-Type: application/grpc\r\n\r\n",
                "",
            ),
            ("", ""),
        ] {
            let kind = match Form::of(head.as_bytes(), None) {
                Form::Grpc(kind) => kind,
                Form::Words | Form::Page(_) => "",
            };
            assert_eq!(kind, wanted, "{head:?}");
        }
    }
}

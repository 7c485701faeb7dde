//! The head of a request.

use std::fmt;
use std::mem::MaybeUninit;

use super::field::{self, FIELDS, Field, Known, Span};
use super::method::Method;
use super::path::{has_broken_escape, path_of};
use super::text::{decimal, end_of_head, list};

/// The minor version of HTTP/1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// HTTP/1.0.
    Http10,
    /// HTTP/1.1.
    #[default]
    Http11,
}

/// The body of a message, as it stands on the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Body {
    /// There is none.
    #[default]
    None,
    /// So many bytes.
    Length(u64),
    /// Chunks (RFC 9112, section 7.1).
    Chunked,
}

/// For whom requests are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// An origin, or what stands in front of one.
    #[default]
    Reverse,
    /// A proxy that stands in front of clients: they name where they want to go (RFC 9112, section 3.2).
    Forward,
}

/// How far parsing came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// The head is whole.
    Whole,
    /// More of it has to come.
    Partial,
}

/// The host that a request names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Host {
    /// None: HTTP/1.0 may do that.
    #[default]
    None,
    /// In the field `Host`.
    Field(Span),
    /// In the target itself, which counts more (RFC 9112, section 3.2.2).
    Target(Span),
}

impl Host {
    /// Where it stands, if anywhere.
    #[must_use]
    pub fn span(self) -> Option<Span> {
        match self {
            Self::None => None,
            Self::Field(span) | Self::Target(span) => Some(span),
        }
    }
}

/// The head of a request. All its spans are places in the bytes it was parsed from.
#[derive(Clone, Debug, Default)]
pub struct RequestHead {
    /// The method.
    pub method: Method,
    /// The method as it is written.
    pub method_text: Span,
    /// Path and query; empty where an absolute target has none, which means `/`.
    pub target: Span,
    /// The host.
    pub host: Host,
    /// The version.
    pub version: Version,
    /// The body that follows.
    pub body: Body,
    /// Whether the connection may be used for another request.
    pub is_persistent: bool,
    /// Whether the client waits for a word before it sends the body (RFC 9110, section 10.1.1).
    pub expects_continue: bool,
    /// The protocols that the client wants to go on with.
    pub upgrade: Option<Span>,
    /// Whether the client takes trailers.
    pub takes_trailers: bool,
    /// Whether the target is absolute, and of `https`.
    pub is_secure: bool,
    /// The fields, in order.
    pub fields: Vec<Field>,
    /// The bytes of the head.
    pub length: usize,
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestError {
    /// A line ends with LF alone.
    BareLineFeed,
    /// The request line is none.
    RequestLine,
    /// The version is not one of HTTP/1.
    Version,
    /// The target is none, or not one for this method.
    Target,
    /// A field's name is none: a space before the colon, a folded line, a forbidden byte.
    FieldName,
    /// A field's value has a forbidden byte.
    FieldValue,
    /// There are more fields than are read.
    TooManyFields,
    /// There is no host, more than one, or one that cannot be.
    Host,
    /// The length is no number, or there is more than one.
    ContentLength,
    /// A length stands beside a transfer coding, or the client's version has none.
    TransferEncoding,
    /// A transfer coding that is not known here.
    UnknownCoding,
    /// Another expectation than `100-continue`.
    Expectation,
    /// TRACE is for no proxy here, and CONNECT is not for a reverse proxy.
    Method,
}

impl RequestError {
    /// The status of the answer (RFC 9110, section 15.5).
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            Self::TooManyFields => 431,
            Self::Version => 505,
            Self::UnknownCoding => 501,
            Self::Expectation => 417,
            Self::Method => 405,
            Self::BareLineFeed
            | Self::RequestLine
            | Self::Target
            | Self::FieldName
            | Self::FieldValue
            | Self::Host
            | Self::ContentLength
            | Self::TransferEncoding => 400,
        }
    }
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BareLineFeed => "a line of the head ends with LF, not with CR LF",
            Self::RequestLine => "the first line is no request line",
            Self::Version => "this version of HTTP is not spoken here",
            Self::Target => "the target of the request is not one for this method",
            Self::FieldName => {
                "a header has a name that cannot be, a space before its colon, or is folded"
            }
            Self::FieldValue => "a header's value has a byte that must not be there",
            Self::TooManyFields => "there are too many headers",
            Self::Host => "there must be one Host, and it must be a host",
            Self::ContentLength => "Content-Length must be one number",
            Self::TransferEncoding => "Transfer-Encoding and Content-Length exclude each other",
            Self::UnknownCoding => "the only transfer coding that is known here is chunked",
            Self::Expectation => "the only expectation that is known here is 100-continue",
            Self::Method => "this method is not answered here",
        })
    }
}

impl std::error::Error for RequestError {}

impl RequestHead {
    /// Parses the head at the beginning of `bytes`. The fields of `self` are written over, so that one
    /// head serves for many requests without another allocation.
    ///
    /// # Errors
    /// If there is anything about it that can be read in two ways, or not at all.
    pub fn parse(&mut self, bytes: &[u8]) -> Result<Parsed, RequestError> {
        self.parse_up_to::<FIELDS>(bytes, Role::Reverse)
    }

    /// The same for one of the two kinds of proxies.
    ///
    /// # Errors
    /// As [`parse`](Self::parse).
    pub fn parse_for(&mut self, role: Role, bytes: &[u8]) -> Result<Parsed, RequestError> {
        self.parse_up_to::<FIELDS>(bytes, role)
    }

    /// The same of a head that was written here, with fields of ours beside those of the client.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn parse_own(&mut self, bytes: &[u8]) -> Result<Parsed, RequestError> {
        const ROOM: usize = 64;
        self.parse_up_to::<{ FIELDS + ROOM }>(bytes, Role::Reverse)
    }

    fn parse_up_to<const MOST: usize>(
        &mut self,
        bytes: &[u8],
        role: Role,
    ) -> Result<Parsed, RequestError> {
        let length = match end_of_head(bytes) {
            Err(_) => return Err(RequestError::BareLineFeed),
            Ok(None) => return Ok(Parsed::Partial),
            Ok(Some(length)) => length,
        };
        let head = bytes.get(..length).unwrap_or_default();
        let mut headers = [const { MaybeUninit::uninit() }; MOST];
        let mut request = httparse::Request::new(&mut []);
        match request.parse_with_uninit_headers(head, &mut headers) {
            Ok(httparse::Status::Complete(used)) if used == length => {}
            Ok(_) => return Err(RequestError::RequestLine),
            Err(error) => return Err(from_library(error)),
        }
        let (Some(method), Some(target), Some(minor)) =
            (request.method, request.path, request.version)
        else {
            return Err(RequestError::RequestLine);
        };
        self.length = length;
        self.method = Method::of(method.as_bytes());
        self.method_text = Span::within(head, method.as_bytes());
        self.version = if minor == 0 {
            Version::Http10
        } else {
            Version::Http11
        };
        let target = Span::within(head, target.as_bytes());
        field::take(head, request.headers, &mut self.fields);
        self.read_target(head, target, role)?;
        // No rule of a forward proxy goes by paths, which are between the client and where it goes.
        if role == Role::Reverse && has_broken_escape(path_of(self.target.of(head))) {
            return Err(RequestError::Target);
        }
        self.read_fields(head).map(|()| Parsed::Whole)
    }

    fn read_target(&mut self, head: &[u8], target: Span, role: Role) -> Result<(), RequestError> {
        let text = target.of(head);
        self.is_secure = false;
        self.host = Host::None;
        self.target = target;
        match (self.method, role) {
            (Method::Trace, _) | (Method::Connect, Role::Reverse) => Err(RequestError::Method),
            _ if text.contains(&b'#') => Err(RequestError::Target),
            // The authority form, and nothing else (RFC 9112, section 3.2.3).
            (Method::Connect, Role::Forward) => {
                self.host = Host::Target(target);
                Ok(())
            }
            _ if text.first() == Some(&b'/') => Ok(()),
            (Method::Options, _) if text == b"*" => Ok(()),
            _ => self.read_absolute(head, target, role),
        }
    }

    /// `http://host/path` (RFC 9112, section 3.2.2).
    fn read_absolute(&mut self, head: &[u8], target: Span, role: Role) -> Result<(), RequestError> {
        let text = target.of(head);
        let scheme = [&b"http://"[..], b"https://"].into_iter().find(|scheme| {
            text.get(..scheme.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(scheme))
        });
        let scheme = scheme.ok_or(RequestError::Target)?;
        self.is_secure = scheme.len() > b"http://".len();
        let start = target.start() + scheme.len();
        let rest = text.get(scheme.len()..).unwrap_or_default();
        let length = rest.iter().position(|byte| matches!(byte, b'/' | b'?'));
        let authority = Span::new(start, start + length.unwrap_or(rest.len()));
        self.host = Host::Target(authority);
        self.target = Span::new(authority.end(), target.end());
        // A query without a path has to be given one, which a reverse proxy's rules would not see.
        if self.target.of(head).first() == Some(&b'?') && role == Role::Reverse {
            return Err(RequestError::Target);
        }
        Ok(())
    }

    fn read_fields(&mut self, head: &[u8]) -> Result<(), RequestError> {
        let options = field::connection(head, &mut self.fields);
        self.is_persistent = match self.version {
            Version::Http11 => !options.close,
            Version::Http10 => options.keep_alive && !options.close,
        };
        let (mut length, mut coding, mut host) = (None, None, None);
        self.upgrade = None;
        self.expects_continue = false;
        self.takes_trailers = false;
        for field in &self.fields {
            let value = field.value.of(head);
            match field.known {
                Known::ContentLength => {
                    let number = decimal(value).ok_or(RequestError::ContentLength)?;
                    if length.replace(number).is_some() {
                        return Err(RequestError::ContentLength);
                    }
                }
                Known::TransferEncoding if coding.replace(value).is_some() => {
                    return Err(RequestError::TransferEncoding);
                }
                Known::Host if host.replace(field.value).is_some() => {
                    return Err(RequestError::Host);
                }
                Known::Expect if self.version == Version::Http11 => {
                    if !value.eq_ignore_ascii_case(b"100-continue") {
                        return Err(RequestError::Expectation);
                    }
                    self.expects_continue = true;
                }
                Known::Upgrade if options.upgrade && self.version == Version::Http11 => {
                    self.upgrade = Some(field.value);
                }
                Known::Te => {
                    self.takes_trailers |=
                        list(value).any(|element| element.eq_ignore_ascii_case(b"trailers"));
                }
                _ => {}
            }
        }
        self.body = body(self.version, length, coding)?;
        self.read_host(head, host)
    }

    fn read_host(&mut self, head: &[u8], field: Option<Span>) -> Result<(), RequestError> {
        // Who asks for a tunnel has said where to.
        if field.is_none() && self.version == Version::Http11 && self.method != Method::Connect {
            return Err(RequestError::Host);
        }
        if let (Host::None, Some(field)) = (self.host, field) {
            self.host = Host::Field(field);
        }
        for host in field.into_iter().chain(self.host.span()) {
            // It may be empty where a target has no authority (RFC 9112, section 3.2).
            if !host.is_empty() && !is_authority(host.of(head)) {
                return Err(RequestError::Host);
            }
        }
        if matches!(self.host, Host::Target(host) if host.is_empty()) {
            return Err(RequestError::Host);
        }
        Ok(())
    }

    /// The first value of a field, if it is there.
    #[must_use]
    pub fn value<'b>(&self, bytes: &'b [u8], known: Known) -> Option<&'b [u8]> {
        let field = self.fields.iter().find(|field| field.known == known)?;
        Some(field.value.of(bytes))
    }
}

/// The body of a request (RFC 9112, section 6.3).
fn body(
    version: Version,
    length: Option<u64>,
    coding: Option<&[u8]>,
) -> Result<Body, RequestError> {
    match (coding, length) {
        (None, None) => Ok(Body::None),
        (None, Some(0)) => Ok(Body::None),
        (None, Some(length)) => Ok(Body::Length(length)),
        (Some(_), Some(_)) => Err(RequestError::TransferEncoding),
        (Some(_), None) if version == Version::Http10 => Err(RequestError::TransferEncoding),
        (Some(coding), None) if coding.eq_ignore_ascii_case(b"chunked") => Ok(Body::Chunked),
        (Some(coding), None) => {
            let is_chunked = |element: &[u8]| element.eq_ignore_ascii_case(b"chunked");
            let chunked = list(coding).filter(|element| is_chunked(element)).count();
            let last = list(coding).last().is_some_and(is_chunked);
            // Where the last coding is not chunked, nobody can say where the body ends.
            if chunked == 1 && last {
                Err(RequestError::UnknownCoding)
            } else {
                Err(RequestError::TransferEncoding)
            }
        }
    }
}

/// Whether a text can be a host, with a port or without (RFC 3986, section 3.2). User names are not
/// for HTTP (RFC 9110, section 4.2.4).
fn is_authority(text: &[u8]) -> bool {
    let (host, port) = match text.first() {
        Some(b'[') => {
            let Some(end) = text.iter().position(|byte| *byte == b']') else {
                return false;
            };
            let (host, rest) = text.split_at(end + 1);
            let inner = host.get(1..end).unwrap_or_default();
            let is_address = !inner.is_empty()
                && inner
                    .iter()
                    .all(|byte| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.'));
            if !is_address {
                return false;
            }
            match rest.split_first() {
                None => return true,
                Some((b':', port)) => (host, port),
                Some(_) => return false,
            }
        }
        _ => match text.iter().position(|byte| *byte == b':') {
            Some(colon) => {
                let (host, port) = text.split_at(colon);
                (host, port.get(1..).unwrap_or_default())
            }
            None => (text, &b""[..]),
        },
    };
    let is_host = host.first() == Some(&b'[')
        || !host.is_empty()
            && host.len() <= 255
            && host.iter().all(|byte| {
                byte.is_ascii_alphanumeric()
                    || matches!(
                        byte,
                        b'-' | b'.'
                            | b'_'
                            | b'~'
                            | b'%'
                            | b'!'
                            | b'$'
                            | b'&'
                            | b'\''
                            | b'('
                            | b')'
                            | b'*'
                            | b'+'
                            | b','
                            | b';'
                            | b'='
                    )
            });
    let is_port = port.len() <= 5 && port.iter().all(u8::is_ascii_digit);
    is_host && is_port
}

fn from_library(error: httparse::Error) -> RequestError {
    match error {
        httparse::Error::HeaderName => RequestError::FieldName,
        httparse::Error::HeaderValue => RequestError::FieldValue,
        httparse::Error::TooManyHeaders => RequestError::TooManyFields,
        httparse::Error::Version => RequestError::Version,
        httparse::Error::NewLine | httparse::Error::Token | httparse::Error::Status => {
            RequestError::RequestLine
        }
    }
}

#[cfg(test)]
mod tests;

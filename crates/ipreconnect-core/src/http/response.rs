//! The head of a response.

use std::fmt;
use std::mem::MaybeUninit;
use std::time::Duration;

use super::field::{self, FIELDS, Field, Known, Span};
use super::method::Method;
use super::request::{Parsed, Version};
use super::text::{decimal, end_of_head, list};

/// The body of a response, as it stands on the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ResponseBody {
    /// There is none.
    #[default]
    None,
    /// So many bytes.
    Length(u64),
    /// Chunks.
    Chunked,
    /// All that comes until the connection ends.
    UntilClose,
}

/// The head of a response. All its spans are places in the bytes it was parsed from.
#[derive(Clone, Debug, Default)]
pub struct ResponseHead {
    /// The status.
    pub status: u16,
    /// The words behind it.
    pub reason: Span,
    /// The version.
    pub version: Version,
    /// The body, as the fields declare it.
    declared: ResponseBody,
    /// Whether the server lets the connection be used again.
    pub is_persistent: bool,
    /// How long the server keeps the connection without a request, if it says so (`Keep-Alive`).
    pub keeps_for: Option<Duration>,
    /// The fields, in order.
    pub fields: Vec<Field>,
    /// The bytes of the head.
    pub length: usize,
}

/// Why a response is of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseError {
    /// A line ends with LF alone.
    BareLineFeed,
    /// The status line is none.
    StatusLine,
    /// A field cannot be read.
    Field,
    /// There are more fields than are read.
    TooManyFields,
    /// The length is no number, there are two that differ, or it stands beside a transfer coding.
    Length,
    /// A transfer coding that was not asked for.
    UnknownCoding,
}

impl fmt::Display for ResponseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BareLineFeed => "a line of the answer's head ends with LF, not with CR LF",
            Self::StatusLine => "the answer does not begin with a status line",
            Self::Field => "a header of the answer cannot be read",
            Self::TooManyFields => "the answer has too many headers",
            Self::Length => "the answer's length is no number, or stands beside a transfer coding",
            Self::UnknownCoding => "the answer has a transfer coding other than chunked",
        })
    }
}

impl std::error::Error for ResponseError {}

impl ResponseHead {
    /// Parses the head at the beginning of `bytes`, writing over what `self` was before.
    ///
    /// # Errors
    /// If there is anything about it that can be read in two ways, or not at all.
    pub fn parse(&mut self, bytes: &[u8]) -> Result<Parsed, ResponseError> {
        let length = match end_of_head(bytes) {
            Err(_) => return Err(ResponseError::BareLineFeed),
            Ok(None) => return Ok(Parsed::Partial),
            Ok(Some(length)) => length,
        };
        let head = bytes.get(..length).unwrap_or_default();
        let mut headers = [const { MaybeUninit::uninit() }; FIELDS];
        let mut response = httparse::Response::new(&mut []);
        let parsed = httparse::ParserConfig::default().parse_response_with_uninit_headers(
            &mut response,
            head,
            &mut headers,
        );
        match parsed {
            Ok(httparse::Status::Complete(used)) if used == length => {}
            Ok(_) => return Err(ResponseError::StatusLine),
            Err(httparse::Error::HeaderName | httparse::Error::HeaderValue) => {
                return Err(ResponseError::Field);
            }
            Err(httparse::Error::TooManyHeaders) => return Err(ResponseError::TooManyFields),
            Err(_) => return Err(ResponseError::StatusLine),
        }
        let (Some(status), Some(minor)) = (response.code, response.version) else {
            return Err(ResponseError::StatusLine);
        };
        if !(100..=599).contains(&status) {
            return Err(ResponseError::StatusLine);
        }
        self.length = length;
        self.status = status;
        // An empty one is no part of the head's bytes.
        self.reason = match response.reason {
            Some(reason) if !reason.is_empty() => Span::within(head, reason.as_bytes()),
            _ => Span::default(),
        };
        self.version = if minor == 0 {
            Version::Http10
        } else {
            Version::Http11
        };
        field::take(head, response.headers, &mut self.fields);
        self.read_fields(head).map(|()| Parsed::Whole)
    }

    fn read_fields(&mut self, head: &[u8]) -> Result<(), ResponseError> {
        let options = field::connection(head, &mut self.fields);
        self.is_persistent = match self.version {
            Version::Http11 => !options.close,
            Version::Http10 => options.keep_alive && !options.close,
        };
        self.keeps_for = None;
        let (mut length, mut coding) = (None, None);
        for field in &self.fields {
            let value = field.value.of(head);
            match field.known {
                Known::ContentLength => {
                    let number = decimal(value).ok_or(ResponseError::Length)?;
                    if length
                        .replace(number)
                        .is_some_and(|before| before != number)
                    {
                        return Err(ResponseError::Length);
                    }
                }
                Known::TransferEncoding if coding.replace(value).is_some() => {
                    return Err(ResponseError::UnknownCoding);
                }
                Known::KeepAlive => self.keeps_for = keeps_for(value).or(self.keeps_for),
                _ => {}
            }
        }
        self.declared = match (coding, length) {
            (Some(_), Some(_)) => return Err(ResponseError::Length),
            (Some(coding), None) if coding.eq_ignore_ascii_case(b"chunked") => {
                ResponseBody::Chunked
            }
            (Some(_), None) => return Err(ResponseError::UnknownCoding),
            (None, Some(length)) => ResponseBody::Length(length),
            (None, None) => ResponseBody::UntilClose,
        };
        Ok(())
    }

    /// The body that follows, if this answers a request by `method` (RFC 9112, section 6.3).
    #[must_use]
    pub fn body(&self, method: Method) -> ResponseBody {
        let is_bodiless = method == Method::Head || matches!(self.status, 100..=199 | 204 | 304);
        match self.declared {
            _ if is_bodiless => ResponseBody::None,
            ResponseBody::Length(0) => ResponseBody::None,
            declared => declared,
        }
    }

    /// The length of the body, where that is told beforehand.
    #[must_use]
    pub fn declared_length(&self) -> Option<u64> {
        match self.declared {
            ResponseBody::Length(length) => Some(length),
            ResponseBody::None | ResponseBody::Chunked | ResponseBody::UntilClose => None,
        }
    }

    /// Whether it only informs, and the answer itself is still to come.
    #[must_use]
    pub fn is_informational(&self) -> bool {
        matches!(self.status, 100..=199) && self.status != 101
    }

    /// The first value of a field, if it is there.
    #[must_use]
    pub fn value<'b>(&self, bytes: &'b [u8], known: Known) -> Option<&'b [u8]> {
        let field = self.fields.iter().find(|field| field.known == known)?;
        Some(field.value.of(bytes))
    }
}

/// `timeout=5, max=100`.
fn keeps_for(value: &[u8]) -> Option<Duration> {
    list(value).find_map(|element| {
        let (name, number) = element.split_at_checked(8)?;
        if !name.eq_ignore_ascii_case(b"timeout=") {
            return None;
        }
        Some(Duration::from_secs(decimal(number)?))
    })
}

#[cfg(test)]
mod tests;

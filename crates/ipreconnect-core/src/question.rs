//! Checks that speak: what an endpoint is asked, and what its answer says.
//!
//! They go over a connection that is proven as a client's is, and see what no handshake shows: a
//! server that runs and does not work.

mod statuses;

use std::fmt;
use std::sync::Arc;

use crate::address::Address;
use crate::failure::{Cause, Failure};
use crate::http::{Parsed, ResponseHead};

pub use statuses::{Statuses, StatusesError};

/// The most that is read of an answer.
pub const ANSWER: usize = 16 * 1024;
/// The most that is sent or expected.
pub const WORDS: usize = 1024;
/// The most that is shown of an answer that was not expected.
const SHOWN: usize = 32;
/// Who asks.
pub const AGENT: &str = concat!("ipreconnect/", env!("CARGO_PKG_VERSION"), " health");

/// What an endpoint is asked. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// For a page.
    Http(Arc<HttpQuestion>),
    /// In the words of any protocol.
    Words(Arc<Words>),
}

/// A page that is asked for by GET.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpQuestion {
    /// The path, with its query.
    pub path: Box<str>,
    /// The host that is asked for; without one, the endpoint's own address.
    pub host: Option<Box<str>>,
    /// The answers that are good.
    pub good: Statuses,
    /// Whether it is asked in HTTP/2.
    pub is_h2: bool,
}

/// Bytes that are sent, and with which the answer begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Words {
    /// What is sent; nothing, where the server speaks first.
    pub send: Box<[u8]>,
    /// What the answer begins with.
    pub expect: Box<[u8]>,
}

/// What can be said of an answer so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// There must be more of it.
    Open,
    /// It is the one that was hoped for.
    Good,
    /// It is not.
    Bad(Failure),
}

impl Question {
    /// The bytes to send to an endpoint at `address`. A question in HTTP/2 has none of its own.
    #[must_use]
    pub fn bytes(&self, address: &Address) -> Vec<u8> {
        match self {
            Self::Http(question) => format!(
                "GET {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: {AGENT}\r\nAccept: */*\r\nConnection: close\r\n\r\n",
                question.path,
                question.host_at(address)
            )
            .into_bytes(),
            Self::Words(words) => words.send.to_vec(),
        }
    }

    /// Judges the answer by all of it that has come.
    #[must_use]
    pub fn judge(&self, answer: &[u8]) -> Judgement {
        let judgement = match self {
            Self::Http(question) => question.judge_bytes(answer),
            Self::Words(words) => words.judge(answer),
        };
        if judgement == Judgement::Open && answer.len() >= ANSWER {
            return Judgement::Bad(unhealthy("was answered at too great a length"));
        }
        judgement
    }

    /// Judges an answer that has ended and was still open.
    #[must_use]
    pub fn judge_end(&self, answer: &[u8]) -> Failure {
        match self {
            Self::Words(_) if !answer.is_empty() => {
                unhealthy(&format!("was answered with {}", shown(answer)))
            }
            _ => unhealthy("was not answered: the server closed the connection"),
        }
    }
}

impl HttpQuestion {
    /// The host that an endpoint at `address` is asked for.
    #[must_use]
    pub fn host_at(&self, address: &Address) -> String {
        match (&self.host, address) {
            (Some(host), _) => host.to_string(),
            (None, Address::Tcp(to) | Address::Udp(to)) => to.to_string(),
            (None, Address::Unix(_)) => "localhost".to_owned(),
        }
    }

    /// Judges a status.
    #[must_use]
    pub fn judge(&self, status: u16) -> Judgement {
        if self.good.contains(status) {
            return Judgement::Good;
        }
        Judgement::Bad(unhealthy(&format!("was answered with {status}")))
    }

    fn judge_bytes(&self, answer: &[u8]) -> Judgement {
        let mut head = ResponseHead::default();
        let mut rest = answer;
        loop {
            match head.parse(rest) {
                Ok(Parsed::Partial) => return Judgement::Open,
                Ok(Parsed::Whole) if head.is_informational() => {
                    rest = rest.get(head.length..).unwrap_or_default();
                }
                Ok(Parsed::Whole) => return self.judge(head.status),
                Err(error) => {
                    return Judgement::Bad(unhealthy(&format!(
                        "was not answered in HTTP: {error}"
                    )));
                }
            }
        }
    }
}

impl Words {
    fn judge(&self, answer: &[u8]) -> Judgement {
        let common = answer.len().min(self.expect.len());
        if answer.get(..common) != self.expect.get(..common) {
            return Judgement::Bad(unhealthy(&format!("was answered with {}", shown(answer))));
        }
        if common == self.expect.len() {
            Judgement::Good
        } else {
            Judgement::Open
        }
    }
}

/// A failure of the check: what became of it.
#[must_use]
pub fn unhealthy(what: &str) -> Failure {
    Failure::with_detail(Cause::Unhealthy, format!("the health check {what}"))
}

/// The beginning of an answer, for people.
fn shown(answer: &[u8]) -> String {
    let part = answer.get(..SHOWN).unwrap_or(answer);
    let more = if answer.len() > SHOWN { "…" } else { "" };
    format!("\"{}{more}\"", part.escape_ascii())
}

impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http(question) => write!(f, "http:{}", question.path),
            Self::Words(words) => write!(
                f,
                "send:{} expect:{}",
                words.send.escape_ascii(),
                words.expect.escape_ascii()
            ),
        }
    }
}

#[cfg(test)]
mod tests;

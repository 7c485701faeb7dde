//! Questions and records, free of any library's types.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

use crate::target::is_host;

/// What kind of record is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RecordKind {
    /// IPv4 addresses.
    A,
    /// IPv6 addresses.
    Aaaa,
    /// The servers of a service (RFC 2782).
    Srv,
}

impl fmt::Display for RecordKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::A => "A",
            Self::Aaaa => "AAAA",
            Self::Srv => "SRV",
        })
    }
}

/// One question.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Question {
    /// The name, in lower case. A dot at its end keeps the system's search domains away.
    pub name: Arc<str>,
    /// What is asked for.
    pub kind: RecordKind,
}

impl Question {
    /// A question, with its name in the one form in which all users share it.
    #[must_use]
    pub fn new(name: &str, kind: RecordKind) -> Self {
        Self {
            name: name.to_ascii_lowercase().into(),
            kind,
        }
    }
}

impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.kind)
    }
}

/// One server of a service (RFC 2782).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Service {
    /// 0 is preferred.
    pub priority: u16,
    /// Its share among those of its priority.
    pub weight: u16,
    /// Its port.
    pub port: u16,
    /// The name of its host.
    pub host: Arc<str>,
}

/// One record.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Record {
    /// An address.
    Address(IpAddr),
    /// A server of a service.
    Service(Service),
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(ip) => ip.fmt(f),
            Self::Service(service) => write!(
                f,
                "{} {} {} {}",
                service.priority, service.weight, service.port, service.host
            ),
        }
    }
}

/// A text is no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordError;

/// Reads what [`Display`](fmt::Display) wrote.
impl FromStr for Record {
    type Err = RecordError;

    fn from_str(text: &str) -> Result<Self, RecordError> {
        if let Ok(ip) = text.parse() {
            return Ok(Self::Address(ip));
        }
        let mut words = text.split(' ');
        let mut number = || words.next().and_then(|word| word.parse().ok());
        let (Some(priority), Some(weight), Some(port)) = (number(), number(), number()) else {
            return Err(RecordError);
        };
        match (words.next(), words.next()) {
            (Some(host), None) if is_host(host) && port != 0 => Ok(Self::Service(Service {
                priority,
                weight,
                port,
                host: host.into(),
            })),
            _ => Err(RecordError),
        }
    }
}

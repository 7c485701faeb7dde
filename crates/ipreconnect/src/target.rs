//! Addresses as people write them.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use ipreconnect_core::address::Address;

/// What carries the bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Transport {
    /// Streams, over TCP.
    #[default]
    Tcp,
    /// Datagrams, over UDP.
    Udp,
}

impl Transport {
    /// The address, reached this way.
    pub(crate) fn to(self, address: SocketAddr) -> Address {
        match self {
            Self::Tcp => Address::Tcp(address),
            Self::Udp => Address::Udp(address),
        }
    }
}

/// One entry of an origin's address list: `host:port`, `ip:port`, `[v6]:port` or `unix:/path`, over TCP
/// unless `udp://` stands before it; or `srv:_service._tcp.domain`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// An address that needs no lookup.
    Fixed(Address),
    /// A name to look up.
    Name {
        /// The name.
        host: String,
        /// The port.
        port: u16,
        /// How it is reached.
        transport: Transport,
    },
    /// A service whose servers are looked up (RFC 2782).
    Service {
        /// The service's name: `_service._tcp.domain` or `_service._udp.domain`.
        name: String,
        /// How its servers are reached.
        transport: Transport,
    },
}

impl Target {
    /// The same place, reached another way. A Unix socket has one way only.
    #[must_use]
    pub fn over(self, transport: Transport) -> Self {
        match self {
            Self::Fixed(Address::Tcp(address) | Address::Udp(address)) => {
                Self::Fixed(transport.to(address))
            }
            Self::Fixed(Address::Unix(path)) => Self::Fixed(Address::Unix(path)),
            Self::Name { host, port, .. } => Self::Name {
                host,
                port,
                transport,
            },
            Self::Service { name, .. } => Self::Service { name, transport },
        }
    }

    /// How it is reached; `None` of a Unix socket.
    #[must_use]
    pub fn transport(&self) -> Option<Transport> {
        match self {
            Self::Fixed(Address::Tcp(_)) => Some(Transport::Tcp),
            Self::Fixed(Address::Udp(_)) => Some(Transport::Udp),
            Self::Fixed(Address::Unix(_)) => None,
            Self::Name { transport, .. } | Self::Service { transport, .. } => Some(*transport),
        }
    }
}

/// Why an address cannot be understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetError {
    /// There is no `:port` at the end.
    NoPort,
    /// The port is not a number from 1 to 65535.
    BadPort,
    /// The host is empty, or has characters that no host name has.
    BadHost,
    /// The path of a Unix socket must be absolute, and shorter than 108 bytes (unix(7)).
    BadPath,
    /// The name of a service is not `_service._tcp.domain`.
    BadService,
}

impl fmt::Display for TargetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoPort => "the port is missing",
            Self::BadPort => "the port must be a number from 1 to 65535",
            Self::BadHost => "this is not a host name or IP address",
            Self::BadPath => {
                "the path of a unix socket must be absolute and at most 107 bytes long"
            }
            Self::BadService => "a service is written srv:_service._tcp.domain, without a port",
        })
    }
}

impl std::error::Error for TargetError {}

/// The longest path of a Unix socket, without the final zero (unix(7)).
const LONGEST_PATH: usize = 107;

impl FromStr for Target {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        if let Some(path) = text.strip_prefix("unix:") {
            let path = PathBuf::from(path);
            if !path.is_absolute() || path.as_os_str().len() > LONGEST_PATH {
                return Err(TargetError::BadPath);
            }
            return Ok(Self::Fixed(Address::Unix(path.into())));
        }
        if let Some(name) = text.strip_prefix("srv:") {
            let transport = service_transport(name).ok_or(TargetError::BadService)?;
            let name = name.to_owned();
            return Ok(Self::Service { name, transport });
        }
        let (transport, text) = match text.split_once("://") {
            Some(("tcp", rest)) => (Transport::Tcp, rest),
            Some(("udp", rest)) => (Transport::Udp, rest),
            _ => (Transport::Tcp, text),
        };
        let (host, port) = text.rsplit_once(':').ok_or(TargetError::NoPort)?;
        let literal = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
        if literal.is_none() && host.contains(':') {
            return Err(TargetError::NoPort);
        }
        let port = match port.parse() {
            Ok(0) | Err(_) => return Err(TargetError::BadPort),
            Ok(port) => port,
        };
        if let Ok(ip) = literal.unwrap_or(host).parse::<IpAddr>() {
            return Ok(Self::Fixed(transport.to(SocketAddr::new(ip, port))));
        }
        if literal.is_some() || !is_host(host) {
            return Err(TargetError::BadHost);
        }
        Ok(Self::Name {
            host: host.to_owned(),
            port,
            transport,
        })
    }
}

/// What carries a service, as its second label says it (RFC 2782).
fn service_transport(name: &str) -> Option<Transport> {
    let mut labels = name.split('.');
    let (service, transport) = (labels.next()?, labels.next()?);
    let has_domain = labels.next().is_some_and(|label| !label.is_empty());
    if !is_host(name) || !has_domain || service.len() < 2 || !service.starts_with('_') {
        return None;
    }
    match transport {
        "_tcp" => Some(Transport::Tcp),
        "_udp" => Some(Transport::Udp),
        _ => None,
    }
}

/// Letters, digits, hyphens and underscores between dots; at most 253 bytes (RFC 1123, section 2.1).
pub(crate) fn is_host(host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host);
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    host.len() <= 253 && host.split('.').all(label)
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(address) => address.fmt(f),
            // Hosts of these names would be taken for what the words mean otherwise.
            Self::Name {
                host,
                port,
                transport: Transport::Tcp,
            } if matches!(host.as_str(), "unix" | "srv") => write!(f, "tcp://{host}:{port}"),
            Self::Name {
                host,
                port,
                transport: Transport::Tcp,
            } => write!(f, "{host}:{port}"),
            Self::Name {
                host,
                port,
                transport: Transport::Udp,
            } => write!(f, "{host}:{port}/udp"),
            Self::Service { name, .. } => write!(f, "srv:{name}"),
        }
    }
}

impl From<SocketAddr> for Target {
    fn from(address: SocketAddr) -> Self {
        Self::Fixed(address.into())
    }
}

#[cfg(test)]
mod tests;

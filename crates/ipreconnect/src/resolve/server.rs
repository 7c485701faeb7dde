//! Resolvers as people write them.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;

use crate::target::is_host;

/// Where a resolver is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// At an address.
    Ip(IpAddr),
    /// At a name, which the operating system resolves.
    Name(Arc<str>),
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]"),
            Self::Ip(ip) => ip.fmt(f),
            Self::Name(name) => f.write_str(name),
        }
    }
}

/// What carries plain DNS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlainTransport {
    /// UDP, and TCP for what does not fit (RFC 7766).
    Both,
    /// TCP alone.
    Tcp,
}

/// A resolver over HTTPS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpsServer {
    /// Where it is.
    pub host: Host,
    /// Its port.
    pub port: u16,
    /// The path of its endpoint.
    pub path: Arc<str>,
    /// The name that its certificate must have.
    pub name: Arc<str>,
}

/// One entry of `[dns] servers`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DnsServer {
    /// The operating system's own resolution, NSS included. What it cannot do, as services and DNSSEC,
    /// is asked of the name servers that the system is configured with.
    System,
    /// Plain DNS.
    Plain(SocketAddr, PlainTransport),
    /// DNS over TLS (RFC 7858).
    Tls {
        /// Where it is.
        host: Host,
        /// Its port.
        port: u16,
        /// The name that its certificate must have.
        name: Arc<str>,
    },
    /// DNS over HTTPS (RFC 8484).
    Https(HttpsServer),
}

/// Why a text is no resolver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DnsServerError {
    /// There is no such scheme.
    Scheme,
    /// Plain DNS needs an address: the name could not be resolved.
    NeedsAddress,
    /// The host is neither an address nor a name.
    Host,
    /// The port is not a number from 1 to 65535.
    Port,
    /// The name of the certificate is none.
    Name,
    /// Only DNS over HTTPS has a path.
    Path,
}

impl fmt::Display for DnsServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Scheme => "a resolver is \"system\", an IP address, or begins with udp://, tcp://, tls:// or https://",
            Self::NeedsAddress => "plain DNS needs an IP address: who would resolve the name?",
            Self::Host => "this is not a host name or IP address",
            Self::Port => "the port must be a number from 1 to 65535",
            Self::Name => "only tls:// and https:// have a certificate, and after # comes the name in it",
            Self::Path => "only https:// has a path",
        })
    }
}

impl std::error::Error for DnsServerError {}

impl FromStr for DnsServer {
    type Err = DnsServerError;

    fn from_str(text: &str) -> Result<Self, DnsServerError> {
        if text == "system" {
            return Ok(Self::System);
        }
        let (scheme, rest) = text.split_once("://").unwrap_or(("udp", text));
        let (rest, name) = match rest.split_once('#') {
            Some((rest, name)) if is_host(name) && scheme != "udp" && scheme != "tcp" => {
                (rest, Some(name))
            }
            Some(_) => return Err(DnsServerError::Name),
            None => (rest, None),
        };
        let (authority, path) = match rest.find('/') {
            Some(at) if scheme == "https" => rest.split_at(at),
            Some(_) => return Err(DnsServerError::Path),
            None => (rest, "/dns-query"),
        };
        let default = match scheme {
            "udp" | "tcp" => 53,
            "tls" => 853,
            "https" => 443,
            _ => return Err(DnsServerError::Scheme),
        };
        let (host, port) = authority_of(authority, default)?;
        let name = name.map_or_else(|| certificate_name(&host), Arc::from);
        match (scheme, host) {
            ("tls", host) => Ok(Self::Tls { host, port, name }),
            ("https", host) => Ok(Self::Https(HttpsServer {
                host,
                port,
                path: path.into(),
                name,
            })),
            ("tcp", Host::Ip(ip)) => {
                Ok(Self::Plain(SocketAddr::new(ip, port), PlainTransport::Tcp))
            }
            (_, Host::Ip(ip)) => Ok(Self::Plain(SocketAddr::new(ip, port), PlainTransport::Both)),
            (_, Host::Name(_)) => Err(DnsServerError::NeedsAddress),
        }
    }
}

fn certificate_name(host: &Host) -> Arc<str> {
    match host {
        Host::Ip(ip) => ip.to_string().into(),
        Host::Name(name) => Arc::clone(name),
    }
}

/// `host`, `host:port`, `[v6]:port` or a bare IPv6 address.
fn authority_of(text: &str, default: u16) -> Result<(Host, u16), DnsServerError> {
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Ok((Host::Ip(ip), default));
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => {
            let port = port.parse().ok().filter(|port| *port != 0);
            (host, port.ok_or(DnsServerError::Port)?)
        }
        _ => (text, default),
    };
    let literal = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    let host = match (literal, host.parse::<IpAddr>()) {
        (Some(v6), _) => Host::Ip(IpAddr::V6(v6.parse().map_err(|_| DnsServerError::Host)?)),
        (None, Ok(ip @ IpAddr::V4(_))) => Host::Ip(ip),
        (None, _) if is_host(host) => Host::Name(host.into()),
        (None, _) => return Err(DnsServerError::Host),
    };
    Ok((host, port))
}

impl fmt::Display for DnsServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System => f.write_str("system"),
            Self::Plain(address, PlainTransport::Both) if address.port() == 53 => {
                address.ip().fmt(f)
            }
            Self::Plain(address, PlainTransport::Both) => address.fmt(f),
            Self::Plain(address, PlainTransport::Tcp) => write!(f, "tcp://{address}"),
            Self::Tls { host, port, name } => {
                write!(f, "tls://{host}")?;
                if *port != 853 {
                    write!(f, ":{port}")?;
                }
                if *name == certificate_name(host) {
                    Ok(())
                } else {
                    write!(f, "#{name}")
                }
            }
            Self::Https(server) => {
                write!(f, "https://{}", server.host)?;
                if server.port != 443 {
                    write!(f, ":{}", server.port)?;
                }
                f.write_str(&server.path)?;
                if server.name == certificate_name(&server.host) {
                    Ok(())
                } else {
                    write!(f, "#{}", server.name)
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;

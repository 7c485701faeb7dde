//! Addresses: where an origin may be found.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

/// One place that can be reached: an IP address and port, or a Unix socket.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Address {
    /// A TCP address.
    Tcp(SocketAddr),
    /// A UDP address.
    Udp(SocketAddr),
    /// A Unix stream socket by its path.
    Unix(Arc<Path>),
}

impl Address {
    /// Whether the address never leaves this machine: loopback, or a Unix socket.
    #[must_use]
    pub fn is_local(&self) -> bool {
        match self {
            Self::Tcp(address) | Self::Udp(address) => address.ip().to_canonical().is_loopback(),
            Self::Unix(_) => true,
        }
    }

    /// The family, as far as a race between families is concerned.
    #[must_use]
    pub fn family(&self) -> Family {
        match self {
            Self::Tcp(address) | Self::Udp(address) => match address.ip() {
                IpAddr::V4(_) => Family::V4,
                IpAddr::V6(_) => Family::V6,
            },
            Self::Unix(_) => Family::Unix,
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Udp(address) => write!(f, "{address}/udp"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp(address)
    }
}

/// The family of an [`Address`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// IPv6, the one a race begins with (RFC 8305, section 4).
    V6,
    /// IPv4.
    V4,
    /// A Unix socket.
    Unix,
}

/// One endpoint of an origin: stable for as long as the origin knows that address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EndpointId(pub u32);

/// One entry of an origin's `address` list, counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryId(pub u32);

/// Puts addresses in the order in which a race dials them: the families take turns, beginning with
/// the first address's family, each family in the order given (RFC 8305, section 4).
#[must_use]
pub fn interleave(addresses: &[Address]) -> Vec<Address> {
    let Some(first) = addresses.first().map(Address::family) else {
        return Vec::new();
    };
    let (mut one, mut other) = (Vec::new(), Vec::new());
    for address in addresses {
        let lane = if address.family() == first {
            &mut one
        } else {
            &mut other
        };
        if !lane.contains(address) {
            lane.push(address.clone());
        }
    }
    let (mut one, mut other) = (one.into_iter(), other.into_iter());
    let mut order = Vec::with_capacity(addresses.len());
    loop {
        match (one.next(), other.next()) {
            (None, None) => return order,
            (a, b) => order.extend(a.into_iter().chain(b)),
        }
    }
}

#[cfg(test)]
mod tests;

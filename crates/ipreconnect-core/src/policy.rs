//! Which addresses may be dialled.
//!
//! Judged after resolution, on the very address that is dialled: a name may lead anywhere, and who
//! controls a zone must not be able to point an application at its own machine. An address that
//! carries an IPv4 address in itself (RFC 4291, RFC 6052, RFC 3056, RFC 4380) is judged by that one
//! too.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// How an address came to be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    /// Written in the configuration as it is.
    Literal,
    /// From a name that means this machine: `localhost`, or below it (RFC 6761, section 6.3).
    LocalName,
    /// From any other name.
    Name,
}

impl Via {
    /// How the addresses of a name are known.
    #[must_use]
    pub fn name(host: &str) -> Self {
        let host = host.strip_suffix('.').unwrap_or(host).as_bytes();
        let tail = host.len().checked_sub(b"localhost".len());
        let is_local = tail.is_some_and(|at| {
            let (before, name) = host.split_at(at);
            name.eq_ignore_ascii_case(b"localhost") && matches!(before.last(), None | Some(b'.'))
        });
        if is_local {
            Self::LocalName
        } else {
            Self::Name
        }
    }
}

/// What kind of address it is, as far as a policy is concerned (RFC 6890 and its registries).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// No host: `0.0.0.0/8`, `::`.
    Unspecified,
    /// This machine.
    Loopback,
    /// This link only.
    LinkLocal,
    /// The metadata service of a cloud, which gives out credentials.
    Metadata,
    /// A group, or everybody.
    Multicast,
    /// A private network.
    Private,
    /// A carrier's network behind its address translation (RFC 6598).
    Shared,
    /// Reserved, for documentation or for tests of networks: no host of the Internet has it.
    Reserved,
    /// Any other.
    Global,
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unspecified => "an unspecified address",
            Self::Loopback => "a loopback address",
            Self::LinkLocal => "a link-local address",
            Self::Metadata => "the address of a cloud's metadata service",
            Self::Multicast => "a multicast address",
            Self::Private => "a private address",
            Self::Shared => "an address of a carrier's own network",
            Self::Reserved => "a reserved address",
            Self::Global => "a global address",
        })
    }
}

/// The scope of an address; of one that carries an IPv4 address, the scope of that.
#[must_use]
pub fn scope(ip: IpAddr) -> Scope {
    match ip {
        IpAddr::V4(ip) => scope_v4(ip),
        IpAddr::V6(ip) => carried(ip).map_or_else(|| scope_v6(ip), scope_v4),
    }
}

fn scope_v4(ip: Ipv4Addr) -> Scope {
    match ip.octets() {
        [0, ..] => Scope::Unspecified,
        [127, ..] => Scope::Loopback,
        // The clouds' services for their own machines: Alibaba's is in the shared range, Azure's looks global.
        [169, 254, 169, 254]
        | [169, 254, 170, 2 | 23]
        | [169, 254, 0, 23]
        | [169, 254, 42, 42]
        | [100, 100, 100, 200]
        | [192, 0, 0, 192]
        | [168, 63, 129, 16] => Scope::Metadata,
        [169, 254, ..] => Scope::LinkLocal,
        [224..=239, ..] | [255, 255, 255, 255] => Scope::Multicast,
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => Scope::Private,
        [100, 64..=127, ..] => Scope::Shared,
        [192, 0, 0 | 2, _]
        | [198, 18..=19, ..]
        | [198, 51, 100, _]
        | [203, 0, 113, _]
        | [240..=255, ..] => Scope::Reserved,
        _ => Scope::Global,
    }
}

fn scope_v6(ip: Ipv6Addr) -> Scope {
    match ip.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0] => Scope::Unspecified,
        [0, 0, 0, 0, 0, 0, 0, 1] => Scope::Loopback,
        [0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x0254 | 0x0023]
        | [0xfd20, 0x00ce, 0, 0, 0, 0, 0, 0x0254]
        | [0xfd00, 0x0042, 0, 0, 0, 0, 0, 0x0042] => Scope::Metadata,
        [0xfe80..=0xfebf, ..] => Scope::LinkLocal,
        [0xff00..=0xffff, ..] => Scope::Multicast,
        // Unique local, and the site-local addresses that they replaced.
        [0xfc00..=0xfdff | 0xfec0..=0xfeff, ..] => Scope::Private,
        // NAT64 by a prefix of one's own (RFC 8215) leads into a network of one's own.
        [0x0064, 0xff9b, 1, ..] => Scope::Private,
        [0x0100, 0, 0, 0, ..]
        | [0x2001, 0x0db8, ..]
        | [0x2001, 2, 0, ..]
        | [0x3fff, 0..=0x0fff, ..] => Scope::Reserved,
        _ => Scope::Global,
    }
}

/// The IPv4 address that an IPv6 address stands for.
#[must_use]
pub fn carried(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    let v4 = |high: u16, low: u16| {
        let [a, b] = high.to_be_bytes();
        let [c, d] = low.to_be_bytes();
        Ipv4Addr::new(a, b, c, d)
    };
    match ip.segments() {
        // Mapped, translated (RFC 2765), and through NAT64 by its well-known prefix.
        [0, 0, 0, 0, 0, 0xffff, high, low]
        | [0, 0, 0, 0, 0xffff, 0, high, low]
        | [0x0064, 0xff9b, 0, 0, 0, 0, high, low] => Some(v4(high, low)),
        // Compatible, which nobody uses but who wants to hide something.
        [0, 0, 0, 0, 0, 0, high @ 1..=u16::MAX, low] => Some(v4(high, low)),
        // 6to4 carries the relay's, Teredo the client's, inverted.
        [0x2002, high, low, ..] => Some(v4(high, low)),
        [0x2001, 0, _, _, _, _, high, low] => Some(v4(!high, !low)),
        _ => None,
    }
}

/// Which addresses of an origin may be dialled.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum AddressPolicy {
    /// All but those that no name of an origin should lead to: link-local ones, metadata services,
    /// groups, unspecified ones, and loopback through a name other than `localhost`.
    #[default]
    Usual,
    /// Those of these networks.
    Only(Vec<IpNet>),
}

/// Why an address is not dialled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// What it is.
    Scope(IpAddr, Scope),
    /// It is in none of the networks.
    Outside(IpAddr),
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Scope(ip, Scope::Loopback) => {
                write!(
                    f,
                    "{ip} is a loopback address, and the name is not localhost"
                )
            }
            Self::Scope(ip, scope) => write!(f, "{ip} is {scope}"),
            Self::Outside(ip) => write!(f, "{ip} is in none of the networks of allow_ips"),
        }
    }
}

impl AddressPolicy {
    /// Whether an address may be dialled.
    ///
    /// # Errors
    /// Why not.
    pub fn judge(&self, ip: IpAddr, via: Via) -> Result<(), Denied> {
        match self {
            Self::Only(networks) => {
                let canonical = ip.to_canonical();
                let allowed = networks.iter().any(|network| network.contains(&canonical));
                allowed.then_some(()).ok_or(Denied::Outside(ip))
            }
            Self::Usual => match (scope(ip), via) {
                (_, Via::Literal)
                | (Scope::Private | Scope::Shared | Scope::Reserved | Scope::Global, _)
                | (Scope::Loopback, Via::LocalName) => Ok(()),
                (scope, _) => Err(Denied::Scope(ip, scope)),
            },
        }
    }
}

#[cfg(test)]
mod tests;

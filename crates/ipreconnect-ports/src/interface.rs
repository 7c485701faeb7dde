//! The addresses of this machine, by `rtnetlink(7)`.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use rustix::net::{AddressFamily, Protocol, SocketType};

use crate::diag::{DUMP, ask, attribute};

/// `RTM_GETADDR` (`linux/rtnetlink.h`).
const GET_ADDRESSES: u16 = 22;
/// `RTM_GETLINK`.
const GET_LINKS: u16 = 18;
/// `IFA_ADDRESS`, which is the other end's where there is one, and `IFA_LOCAL` (`linux/if_addr.h`).
const ADDRESS: u16 = 1;
const LOCAL: u16 = 2;
/// `IFLA_IFNAME` (`linux/if_link.h`).
const NAME: u16 = 3;
/// `NETLINK_ROUTE` is 0, the protocol of a socket that asks for none in particular.
const ROUTE: Option<Protocol> = None;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

/// The name of an interface by its number.
#[must_use]
pub fn interface_name(index: u32) -> Option<String> {
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::DGRAM, None).ok()?;
    let name = rustix::net::netdevice::index_to_name(socket, index).ok()?;
    Some(crate::program::shown(&name))
}

/// The number of an interface by its name.
#[must_use]
pub fn interface_index(name: &str) -> Option<u32> {
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::DGRAM, None).ok()?;
    rustix::net::netdevice::name_to_index(socket, name).ok()
}

/// One address of an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// The interface's name.
    pub name: String,
    /// The address.
    pub address: IpAddr,
    /// How many of its bits are its network's.
    pub prefix: u8,
}

impl Interface {
    /// Whether an address is in the same network.
    #[must_use]
    pub fn is_in_network(&self, other: IpAddr) -> bool {
        let prefix = u32::from(self.prefix);
        match (self.address, other) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                let differ = own.to_bits() ^ other.to_bits();
                differ.checked_shr(32 - prefix.min(32)).unwrap_or(0) == 0
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                let differ = own.to_bits() ^ other.to_bits();
                differ.checked_shr(128 - prefix.min(128)).unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

/// Every address of every interface, in our own network namespace.
///
/// # Errors
/// If the kernel cannot be asked.
pub fn interfaces() -> io::Result<Vec<Interface>> {
    let mut names: Vec<(u32, String)> = Vec::new();
    // `struct ifinfomsg`, 16 bytes; its index is at 4.
    ask(ROUTE, (GET_LINKS, DUMP), &[0; 16], |payload| {
        let name = payload.get(16..).and_then(|rest| attribute(rest, NAME));
        let name = name.map(|name| name.strip_suffix(&[0]).unwrap_or(name));
        if let (Some(index), Some(name)) = (word(payload, 4), name) {
            names.push((index, String::from_utf8_lossy(name).into_owned()));
        }
    })?;
    let mut interfaces = Vec::new();
    // `struct ifaddrmsg`, 8 bytes; the length of the prefix is at 1, the index at 4.
    ask(ROUTE, (GET_ADDRESSES, DUMP), &[0; 8], |payload| {
        let Some(rest) = payload.get(8..) else {
            return;
        };
        let address = attribute(rest, LOCAL).or_else(|| attribute(rest, ADDRESS));
        let address = address.and_then(|bytes| ip(*payload.first()?, bytes));
        let name = word(payload, 4).and_then(|index| names.iter().find(|(own, _)| *own == index));
        if let (Some(address), Some((_, name)), Some(prefix)) = (address, name, payload.get(1)) {
            interfaces.push(Interface {
                name: name.clone(),
                address,
                prefix: *prefix,
            });
        }
    })?;
    Ok(interfaces)
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at + 4)?;
    Some(u32::from_ne_bytes(bytes.try_into().ok()?))
}

fn ip(family: u8, bytes: &[u8]) -> Option<IpAddr> {
    match family {
        AF_INET => {
            let octets: [u8; 4] = bytes.try_into().ok()?;
            Some(IpAddr::V4(Ipv4Addr::from(octets)))
        }
        AF_INET6 => {
            let octets: [u8; 16] = bytes.try_into().ok()?;
            Some(IpAddr::V6(Ipv6Addr::from(octets)))
        }
        _ => None,
    }
}

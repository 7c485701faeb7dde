//! Addresses, as rules say them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::words::{Mistake, Record, Word};

/// From where clients come that a rule is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum From {
    /// Any address.
    All,
    /// An address of this machine.
    SameHost,
    /// An address of a network that this machine is in.
    SameNet,
    /// Addresses that are the same under a mask, which may have holes.
    Net { address: IpAddr, mask: IpAddr },
    /// The host of this name, or one whose name ends with it if it begins with a dot.
    Host(String),
}

/// What one word says.
pub(super) enum Read {
    Whole(From),
    /// The mask of this address is another word.
    Address(IpAddr),
}

impl From {
    /// A network by the length of its prefix.
    pub(super) fn net(address: IpAddr, prefix: u32) -> Option<Self> {
        let mask = match address {
            IpAddr::V4(_) if prefix <= 32 => {
                let bits = u32::MAX.checked_shl(32 - prefix).unwrap_or(0);
                IpAddr::V4(Ipv4Addr::from_bits(bits))
            }
            IpAddr::V6(_) if prefix <= 128 => {
                let bits = u128::MAX.checked_shl(128 - prefix).unwrap_or(0);
                IpAddr::V6(Ipv6Addr::from_bits(bits))
            }
            _ => return None,
        };
        Some(Self::Net { address, mask })
    }

    /// One address.
    pub(super) fn one(address: IpAddr) -> Self {
        let mask = match address {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::BROADCAST),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::from_bits(u128::MAX)),
        };
        Self::Net { address, mask }
    }

    /// Reads a word (`hba.c`: `parse_hba_line`).
    pub(super) fn read(word: &Word, record: &Record) -> Result<Read, Mistake> {
        if !word.is_quoted {
            match word.text.as_str() {
                "all" => return Ok(Read::Whole(Self::All)),
                "samehost" => return Ok(Read::Whole(Self::SameHost)),
                "samenet" => return Ok(Read::Whole(Self::SameNet)),
                _ => {}
            }
        }
        let text = word.text.as_str();
        let (host, prefix) = match text.split_once('/') {
            Some((host, prefix)) => (host, Some(prefix)),
            None => (text, None),
        };
        match (numeric(host), prefix) {
            (Some(address), None) => Ok(Read::Address(address)),
            (None, None) => Ok(Read::Whole(Self::Host(host.to_owned()))),
            (None, Some(_)) => {
                let what =
                    format!("specifying both host name and CIDR mask is invalid: \"{text}\"");
                Err(record.mistake(&word.at, what))
            }
            (Some(address), Some(prefix)) => {
                let net = number(prefix).and_then(|prefix| Self::net(address, prefix));
                let what = || format!("invalid CIDR mask in address \"{text}\"");
                net.map(Read::Whole)
                    .ok_or_else(|| record.mistake(&word.at, what()))
            }
        }
    }

    /// The address whose mask is this word.
    pub(super) fn masked(address: IpAddr, word: &Word, record: &Record) -> Result<Self, Mistake> {
        let Some(mask) = numeric(&word.text) else {
            let what = format!(
                "invalid IP mask \"{}\": Name or service not known",
                word.text
            );
            return Err(record.mistake(&word.at, what));
        };
        if mask.is_ipv4() != address.is_ipv4() {
            return Err(record.mistake(&word.at, "IP address and mask do not match"));
        }
        Ok(Self::Net { address, mask })
    }
}

/// The length of a prefix, as `strtol` reads it.
fn number(text: &str) -> Option<u32> {
    let text = text.trim_start_matches([' ', '\t', '\n', '\x0b', '\x0c', '\r']);
    let digits = text.strip_prefix('+').unwrap_or(text);
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number {
        return (text == "-0").then_some(0);
    }
    digits.parse().ok()
}

/// An address in numbers, as `getaddrinfo` reads it: IPv4 with fewer parts, in octal or hexadecimal, too.
fn numeric(text: &str) -> Option<IpAddr> {
    if let Some(address) = four(text) {
        return Some(IpAddr::V4(address));
    }
    let text = text.split_once('%').map_or(text, |(address, _)| address);
    text.parse::<Ipv6Addr>().ok().map(IpAddr::V6)
}

/// `inet_aton(3)`.
fn four(text: &str) -> Option<Ipv4Addr> {
    let parts: Vec<&str> = text.split('.').collect();
    if parts.len() > 4 {
        return None;
    }
    let (last, first) = parts.split_last()?;
    let mut bits: u32 = 0;
    for (at, part) in first.iter().enumerate() {
        let octet = u8::try_from(part_of(part)?).ok()?;
        bits |= u32::from(octet) << (24 - 8 * at);
    }
    let last = part_of(last)?;
    let room = 32 - 8 * first.len();
    let fits = room == 32 || last < 1 << room;
    fits.then(|| Ipv4Addr::from_bits(bits | last))
}

fn part_of(text: &str) -> Option<u32> {
    let lower = text.to_ascii_lowercase();
    let (digits, base) = match lower.strip_prefix("0x") {
        Some(digits) => (digits, 16),
        None if lower.len() > 1 && lower.starts_with('0') => (&lower[1..], 8),
        None => (lower.as_str(), 10),
    };
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    u32::from_str_radix(digits, base).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_the_system_reads_them() {
        for (text, wanted) in [
            ("10.1.2.3", Some("10.1.2.3")),
            ("10.1", Some("10.0.0.1")),
            ("10.1.515", Some("10.1.2.3")),
            ("167837955", Some("10.1.1.3")),
            ("0x0a.010.1.3", Some("10.8.1.3")),
            ("256.1.1.1", None),
            ("1.2.3.256", None),
            ("1.2.3.4.5", None),
            ("1..2", None),
            ("09.1.1.1", None),
            ("::1", Some("::1")),
            ("fe80::1%eth0", Some("fe80::1")),
            ("::ffff:1.2.3.4", Some("::ffff:1.2.3.4")),
            ("host", None),
            ("", None),
        ] {
            let wanted = wanted.map(|wanted| wanted.parse::<IpAddr>().unwrap());
            assert_eq!(numeric(text), wanted, "{text}");
        }
        for (text, wanted) in [
            ("8", Some(8)),
            ("+8", Some(8)),
            (" 8", Some(8)),
            ("8x", None),
            ("", None),
            ("-1", None),
            ("99999999999", None),
        ] {
            assert_eq!(number(text), wanted, "{text}");
        }
    }
}

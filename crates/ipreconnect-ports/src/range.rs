//! Which ports the kernel gives to connections by itself, and which a listener had better have.

use std::fs;
use std::io;
use std::ops::RangeInclusive;

/// The dynamic ports (RFC 6335, section 6): nobody is assigned one of them.
const DYNAMIC: RangeInclusive<u16> = 49_152..=65_535;

/// The ports that the kernel gives to connections (ip(7), `ip_local_port_range`), of this network namespace.
///
/// # Errors
/// If it cannot be read.
pub fn ephemeral() -> io::Result<RangeInclusive<u16>> {
    let text = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range")?;
    read_range(&text)
        .ok_or_else(|| io::Error::other(format!("this is no range of ports: {text:?}")))
}

/// The ports that the kernel gives to nobody who does not name them (`ip_local_reserved_ports`).
///
/// # Errors
/// If they cannot be read.
pub fn reserved() -> io::Result<Vec<RangeInclusive<u16>>> {
    let text = fs::read_to_string("/proc/sys/net/ipv4/ip_local_reserved_ports")?;
    read_list(&text)
        .ok_or_else(|| io::Error::other(format!("these are no ranges of ports: {text:?}")))
}

fn read_range(text: &str) -> Option<RangeInclusive<u16>> {
    let mut ends = text.split_ascii_whitespace().map(str::parse);
    let (first, last) = (ends.next()?.ok()?, ends.next()?.ok()?);
    (first <= last && ends.next().is_none()).then_some(first..=last)
}

fn read_list(text: &str) -> Option<Vec<RangeInclusive<u16>>> {
    let parts = text.trim().split(',').filter(|part| !part.is_empty());
    let range = |part: &str| match part.split_once('-') {
        Some((first, last)) => Some(first.parse().ok()?..=last.parse().ok()?),
        None => part.parse().ok().map(|port| port..=port),
    };
    parts.map(range).collect()
}

/// At most `count` ports for a listener of this name, the first ones first. They are dynamic ones that the
/// kernel gives to no connection, where there are such, and nobody has reserved them; and they are the same for
/// the same name, whichever machine it is.
#[must_use]
pub fn candidates(
    name: &str,
    ephemeral: &RangeInclusive<u16>,
    reserved: &[RangeInclusive<u16>],
    count: usize,
) -> Vec<u16> {
    let is_free = |port: &u16| !reserved.iter().any(|range| range.contains(port));
    let outside: Vec<u16> = DYNAMIC
        .filter(|port| is_free(port) && !ephemeral.contains(port))
        .collect();
    let ports = match outside.is_empty() {
        false => outside,
        true => DYNAMIC.filter(is_free).collect(),
    };
    let length = ports.len();
    if length == 0 {
        return Vec::new();
    }
    let first = usize::try_from(hash(name) % length as u64).unwrap_or_default();
    let from_first = ports.iter().cycle().skip(first);
    from_first.take(count.min(length)).copied().collect()
}

/// FNV-1a: the same in every version of this program.
fn hash(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_says_is_read() {
        assert_eq!(read_range("32768\t60999\n"), Some(32_768..=60_999));
        assert_eq!(read_range("9 3"), None);
        assert_eq!(read_range("1"), None);
        assert_eq!(read_list("\n"), Some(Vec::new()));
        assert_eq!(
            read_list("8080,9000-9010\n"),
            Some(vec![8080..=8080, 9000..=9010])
        );
        assert_eq!(read_list("x"), None);
        assert!(!ephemeral().unwrap().is_empty());
        reserved().unwrap();
    }

    #[test]
    fn ports_are_outside_what_connections_get() {
        let ephemeral = 32_768..=60_999;
        let ports = candidates("orders", &ephemeral, &[], 64);
        assert_eq!(ports.len(), 64);
        assert!(ports.iter().all(|port| *port >= 61_000));
        assert_eq!(ports, candidates("orders", &ephemeral, &[], 64));
        assert_ne!(ports[0], candidates("search", &ephemeral, &[], 1)[0]);
        let first = ports[0];
        let without = candidates("orders", &ephemeral, &[first..=first], 64);
        assert!(!without.contains(&first));
        // Where connections may have all of them, they may be had as well.
        let all = candidates("orders", &(1024..=65_535), &[], 64);
        assert!(all.iter().all(|port| *port >= 49_152));
        assert!(candidates("orders", &(1024..=65_535), &[0..=65_535], 64).is_empty());
    }

    #[test]
    fn the_end_of_the_range_is_followed_by_its_beginning() {
        let ports = candidates("orders", &(49_152..=65_532), &[], 64);
        assert_eq!(ports.len(), 3);
        let mut sorted = ports.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, [65_533, 65_534, 65_535]);
    }
}

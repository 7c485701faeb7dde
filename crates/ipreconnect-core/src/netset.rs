//! A set of networks that may have many thousands of them: whether an address is in one.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net, Ipv4Subnets};

/// Networks. IPv4 that is written as IPv6 is IPv4.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetSet {
    four: Ranges,
    six: Ranges,
}

/// Ranges that do not touch each other, in order: their first and their last address.
type Ranges = Vec<(u128, u128)>;

impl NetSet {
    /// Whether nothing is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.four.is_empty() && self.six.is_empty()
    }

    /// Those of IPv4, as few as there can be.
    pub fn of_ipv4(&self) -> impl Iterator<Item = Ipv4Net> + '_ {
        let address = |bits: u128| Ipv4Addr::from_bits(u32::try_from(bits).unwrap_or(u32::MAX));
        let ranges = self.four.iter();
        ranges.flat_map(move |(first, last)| Ipv4Subnets::new(address(*first), address(*last), 0))
    }

    /// Whether an address is in one of the networks.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let (ranges, bits) = match address.to_canonical() {
            IpAddr::V4(address) => (&self.four, u128::from(address.to_bits())),
            IpAddr::V6(address) => (&self.six, address.to_bits()),
        };
        let behind = ranges.partition_point(|(first, _)| *first <= bits);
        let before = behind.checked_sub(1).and_then(|at| ranges.get(at));
        before.is_some_and(|(_, last)| bits <= *last)
    }
}

impl FromIterator<IpNet> for NetSet {
    fn from_iter<I: IntoIterator<Item = IpNet>>(networks: I) -> Self {
        let (mut four, mut six) = (Vec::new(), Vec::new());
        for network in networks {
            let (first, last) = (network.network(), network.broadcast());
            match (first.to_canonical(), last.to_canonical()) {
                (IpAddr::V4(first), IpAddr::V4(last)) => {
                    four.push((first.to_bits().into(), last.to_bits().into()));
                }
                _ => {
                    let bits = |address: IpAddr| match address {
                        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
                        IpAddr::V6(address) => address.to_bits(),
                    };
                    six.push((bits(first), bits(last)));
                }
            }
        }
        Self {
            four: joined(four),
            six: joined(six),
        }
    }
}

fn joined(mut ranges: Ranges) -> Ranges {
    ranges.sort_unstable();
    let mut joined: Ranges = Vec::with_capacity(ranges.len());
    for (first, last) in ranges {
        match joined.last_mut() {
            Some((_, end)) if first <= end.saturating_add(1) => *end = last.max(*end),
            _ => joined.push((first, last)),
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn set(networks: &[&str]) -> NetSet {
        networks
            .iter()
            .map(|text| text.parse::<IpNet>().unwrap())
            .collect()
    }

    #[test]
    fn networks_hold_their_addresses() {
        let set = set(&[
            "10.0.0.0/8",
            "192.0.2.7/32",
            "2001:db8::/32",
            "::ffff:198.51.100.0/120",
        ]);
        for inside in [
            "10.0.0.0",
            "10.255.255.255",
            "192.0.2.7",
            "::ffff:10.1.1.1",
            "198.51.100.9",
            "2001:db8::1",
        ] {
            assert!(set.contains(inside.parse().unwrap()), "{inside}");
        }
        for outside in [
            "11.0.0.0",
            "9.255.255.255",
            "192.0.2.8",
            "::1",
            "2001:db9::",
            "::a00:0",
        ] {
            assert!(!set.contains(outside.parse().unwrap()), "{outside}");
        }
        assert!(NetSet::default().is_empty());
        assert!(!NetSet::default().contains("127.0.0.1".parse().unwrap()));
    }

    proptest! {
        #[test]
        fn it_says_what_looking_at_each_says(
            networks in prop::collection::vec((any::<u32>(), 0_u8..=32), 0..30),
            addresses in prop::collection::vec(any::<u32>(), 0..30),
        ) {
            let networks: Vec<IpNet> = networks
                .into_iter()
                .map(|(bits, prefix)| IpNet::new(IpAddr::V4(bits.into()), prefix).unwrap())
                .collect();
            let set: NetSet = networks.iter().copied().collect();
            let edges = networks.iter().flat_map(|network| [network.network(), network.broadcast()]);
            let others = addresses.into_iter().map(|bits| IpAddr::V4(bits.into()));
            for address in edges.chain(others) {
                let expected = networks.iter().any(|network| network.contains(&address));
                prop_assert_eq!(set.contains(address), expected);
            }
        }
    }
}

//! Who the client is, where others stand between: the address that a trusted peer names.
//!
//! Each proxy adds the address of its own peer on the right of `X-Forwarded-For`, so that the chain is to
//! be believed from the right, for as long as those who wrote it are trusted. What stands to the left of
//! the first stranger is whatever that stranger wanted to be there.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

/// Whether one of these networks has an address.
#[must_use]
pub fn is_trusted(trust: &[IpNet], address: IpAddr) -> bool {
    let address = address.to_canonical();
    trust.iter().any(|network| network.contains(&address))
}

/// The client's address: `peer`, or, where that is trusted, the first stranger from the right of what the
/// `X-Forwarded-For` fields say. The fields are given in their order.
#[must_use]
pub fn client_of<'f>(
    peer: IpAddr,
    fields: impl DoubleEndedIterator<Item = &'f [u8]>,
    trust: &[IpNet],
) -> IpAddr {
    let mut client = peer.to_canonical();
    let hops = fields
        .rev()
        .flat_map(|field| field.rsplit(|byte| *byte == b','));
    for hop in hops {
        if !is_trusted(trust, client) {
            return client;
        }
        // What is no address says nothing of anything to the left of it.
        let Some(address) = address(hop) else {
            return client;
        };
        client = address;
    }
    client
}

/// One hop, as it is written by proxies: an address, in brackets or not, with a port or not.
fn address(hop: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(hop.trim_ascii()).ok()?;
    let inner = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'));
    let address = inner.unwrap_or(text).parse::<IpAddr>().ok();
    let address = address.or_else(|| Some(text.parse::<SocketAddr>().ok()?.ip()));
    address.map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn client(peer: &str, fields: &[&str]) -> String {
        let trust: Vec<IpNet> = ["10.0.0.0/8", "fd00::/8"]
            .iter()
            .map(|network| network.parse().unwrap())
            .collect();
        let fields = fields.iter().map(|field| field.as_bytes());
        client_of(peer.parse().unwrap(), fields, &trust).to_string()
    }

    #[test]
    fn strangers_are_not_believed() {
        assert_eq!(client("192.0.2.1", &["6.6.6.6"]), "192.0.2.1");
        assert_eq!(client("192.0.2.1", &[]), "192.0.2.1");
    }

    #[test]
    fn the_first_stranger_from_the_right_is_the_client() {
        assert_eq!(client("10.0.0.1", &["6.6.6.6, 192.0.2.1"]), "192.0.2.1");
        assert_eq!(
            client("10.0.0.1", &["6.6.6.6, 192.0.2.1, 10.0.0.2"]),
            "192.0.2.1"
        );
        assert_eq!(
            client("10.0.0.1", &["6.6.6.6", "192.0.2.1", "10.0.0.2"]),
            "192.0.2.1"
        );
        assert_eq!(client("fd00::1", &["[2001:db8::1]:443"]), "2001:db8::1");
        assert_eq!(client("::ffff:10.0.0.1", &["192.0.2.1:5000"]), "192.0.2.1");
        // All of them are ours: the farthest one began.
        assert_eq!(client("10.0.0.1", &["10.0.0.3, 10.0.0.2"]), "10.0.0.3");
    }

    #[test]
    fn what_is_no_address_ends_the_chain() {
        assert_eq!(client("10.0.0.1", &["192.0.2.1, unknown"]), "10.0.0.1");
        assert_eq!(client("10.0.0.1", &["192.0.2.1, "]), "10.0.0.1");
        assert_eq!(
            client("10.0.0.1", &["192.0.2.1, nonsense, 10.0.0.2"]),
            "10.0.0.2"
        );
    }

    proptest! {
        #[test]
        fn a_stranger_is_the_client_whatever_it_says(said in ".{0,60}") {
            prop_assert_eq!(client("192.0.2.1", &[&said]), "192.0.2.1");
        }

        #[test]
        fn what_a_stranger_says_does_not_count_behind_a_trusted_proxy(said in "[0-9a-f.:, ]{0,40}") {
            // The trusted proxy has added the stranger's address.
            let chain = format!("{said}, 192.0.2.1");
            prop_assert_eq!(client("10.0.0.1", &[&chain]), "192.0.2.1");
        }
    }
}

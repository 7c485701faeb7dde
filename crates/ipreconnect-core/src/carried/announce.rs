//! The header as it is written to an origin.

use std::net::{IpAddr, SocketAddr};

use super::{FIXED, SIGNATURE, SSL, SSL_CN, SSL_VERSION};

/// The values that are read by nobody here.
const ALPN: u8 = 0x01;
const SSL_CIPHER: u8 = 0x23;
/// `PP2_CLIENT_SSL`, `PP2_CLIENT_CERT_CONN`.
const OVER_TLS: u8 = 0x01;
const WITH_CERTIFICATE: u8 = 0x02;
/// The longest text that is told of a client.
const LONGEST: usize = 255;

/// The version of the protocol in which an origin is told whose connection it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Announce {
    /// A line of text, with addresses alone.
    V1,
    /// Binary, with what is known of the client's TLS.
    V2,
}

/// What is told of a client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Announced<'a> {
    /// Who has connected to whom; none of clients over Unix sockets.
    pub addresses: Option<(SocketAddr, SocketAddr)>,
    /// Its TLS, if it has any.
    pub tls: Option<AnnouncedTls<'a>>,
}

/// What is told of a client's TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AnnouncedTls<'a> {
    /// Its version, such as `TLSv1.3`.
    pub version: &'a str,
    /// Its cipher suite.
    pub cipher: Option<&'a str>,
    /// The protocol that was agreed upon inside.
    pub alpn: Option<&'a [u8]>,
    /// The common name of the client's certificate, which was verified; empty if it has none.
    pub certificate: Option<&'a [u8]>,
}

impl Announce {
    /// The header of a connection of our own.
    #[must_use]
    pub fn own(self) -> Vec<u8> {
        match self {
            Self::V1 => b"PROXY UNKNOWN\r\n".to_vec(),
            Self::V2 => [&SIGNATURE[..], &[0x20, 0, 0, 0]].concat(),
        }
    }

    /// The header of a client's connection.
    #[must_use]
    pub fn header(self, told: &Announced<'_>) -> Vec<u8> {
        let pair = told.addresses.and_then(|(from, to)| same_family(from, to));
        match self {
            Self::V1 => first(pair),
            Self::V2 => second(pair, told.tls.as_ref()),
        }
    }
}

/// Both in the family of the first. `None` if the second has no place in it.
fn same_family(from: SocketAddr, to: SocketAddr) -> Option<(SocketAddr, SocketAddr)> {
    let canonical =
        |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
    let (from, to) = (canonical(from), canonical(to));
    match (from.ip(), to.ip()) {
        (IpAddr::V4(_), IpAddr::V4(_)) | (IpAddr::V6(_), IpAddr::V6(_)) => Some((from, to)),
        (IpAddr::V4(four), IpAddr::V6(_)) => Some((
            SocketAddr::new(four.to_ipv6_mapped().into(), from.port()),
            to,
        )),
        (IpAddr::V6(_), IpAddr::V4(four)) => Some((
            from,
            SocketAddr::new(four.to_ipv6_mapped().into(), to.port()),
        )),
    }
}

fn first(pair: Option<(SocketAddr, SocketAddr)>) -> Vec<u8> {
    let Some((from, to)) = pair else {
        return b"PROXY UNKNOWN\r\n".to_vec();
    };
    let family = if from.is_ipv4() { "TCP4" } else { "TCP6" };
    let line = format!(
        "PROXY {family} {} {} {} {}\r\n",
        from.ip(),
        to.ip(),
        from.port(),
        to.port()
    );
    line.into_bytes()
}

fn second(pair: Option<(SocketAddr, SocketAddr)>, tls: Option<&AnnouncedTls<'_>>) -> Vec<u8> {
    let mut rest = Vec::new();
    let family = match pair {
        None => 0x00,
        Some((from, to)) => {
            for address in [from, to] {
                match address.ip() {
                    IpAddr::V4(ip) => rest.extend_from_slice(&ip.octets()),
                    IpAddr::V6(ip) => rest.extend_from_slice(&ip.octets()),
                }
            }
            for address in [from, to] {
                rest.extend_from_slice(&address.port().to_be_bytes());
            }
            if from.is_ipv4() { 0x11 } else { 0x21 }
        }
    };
    if let Some(tls) = tls {
        if let Some(alpn) = tls.alpn {
            value(&mut rest, ALPN, alpn);
        }
        let with = match tls.certificate {
            Some(_) => WITH_CERTIFICATE,
            None => 0,
        };
        // What follows is 0 where the certificate is good, or there is none.
        let mut inside = vec![OVER_TLS | with, 0, 0, 0, 0];
        value(&mut inside, SSL_VERSION, tls.version.as_bytes());
        if let Some(name) = tls.certificate.filter(|name| !name.is_empty()) {
            value(&mut inside, SSL_CN, name);
        }
        if let Some(cipher) = tls.cipher {
            value(&mut inside, SSL_CIPHER, cipher.as_bytes());
        }
        value(&mut rest, SSL, &inside);
    }
    let length = u16::try_from(rest.len()).unwrap_or(u16::MAX);
    let mut header = Vec::with_capacity(FIXED + rest.len());
    header.extend_from_slice(&SIGNATURE);
    header.extend_from_slice(&[0x21, family]);
    header.extend_from_slice(&length.to_be_bytes());
    header.extend_from_slice(&rest);
    header
}

/// A value; what is too long to be true is left out.
fn value(out: &mut Vec<u8>, kind: u8, value: &[u8]) {
    let longest = if kind == SSL {
        usize::from(u16::MAX)
    } else {
        LONGEST
    };
    if value.len() > longest {
        return;
    }
    let length = u16::try_from(value.len()).unwrap_or(u16::MAX);
    out.push(kind);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(value);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{Carried, CarriedTls, Header, read};
    use super::*;

    fn pair(from: &str, to: &str) -> Option<(SocketAddr, SocketAddr)> {
        Some((from.parse().unwrap(), to.parse().unwrap()))
    }

    #[test]
    fn our_own_connections_say_so() {
        let own = Announce::V2.own();
        let carried = Carried {
            is_own: true,
            ..Carried::default()
        };
        assert_eq!(read(&own), Header::Whole(own.len(), carried));
        let own = Announce::V1.own();
        assert_eq!(read(&own), Header::Whole(own.len(), Carried::default()));
    }

    #[test]
    fn lines_are_as_others_write_them() {
        let told = Announced {
            addresses: pair("192.0.2.1:56324", "10.0.0.1:443"),
            tls: None,
        };
        assert_eq!(
            Announce::V1.header(&told),
            b"PROXY TCP4 192.0.2.1 10.0.0.1 56324 443\r\n"
        );
        let mapped = Announced {
            addresses: pair("[::ffff:192.0.2.1]:1", "10.0.0.1:2"),
            tls: None,
        };
        assert_eq!(
            Announce::V1.header(&mapped),
            b"PROXY TCP4 192.0.2.1 10.0.0.1 1 2\r\n"
        );
        assert_eq!(
            Announce::V1.header(&Announced::default()),
            b"PROXY UNKNOWN\r\n"
        );
    }

    proptest! {
        /// What is written is read, and means the same.
        #[test]
        fn it_is_read_as_it_is_meant(
            (from, to) in prop_oneof![
                (any::<[u8; 4]>(), any::<[u8; 4]>()).prop_map(|(a, b)| (IpAddr::from(a), IpAddr::from(b))),
                (any::<[u8; 16]>(), any::<[u8; 16]>()).prop_map(|(a, b)| (IpAddr::from(a), IpAddr::from(b))),
                (any::<[u8; 4]>(), any::<[u8; 16]>()).prop_map(|(a, b)| (IpAddr::from(a), IpAddr::from(b))),
            ],
            ports in any::<(u16, u16)>(),
            name in "[a-z]{0,20}",
            has_certificate in any::<bool>(),
            is_sealed in any::<bool>(),
        ) {
            let (from, to) = (SocketAddr::new(from, ports.0), SocketAddr::new(to, ports.1));
            let told = Announced {
                addresses: Some((from, to)),
                tls: is_sealed.then(|| AnnouncedTls {
                    version: "TLSv1.3",
                    cipher: Some("TLS13_AES_128_GCM_SHA256"),
                    alpn: Some(b"h2"),
                    certificate: has_certificate.then_some(name.as_bytes()),
                }),
            };
            let header = Announce::V2.header(&told);
            let Header::Whole(length, carried) = read(&header) else {
                panic!("{header:?}");
            };
            prop_assert_eq!(length, header.len());
            prop_assert!(!carried.is_own);
            let shown = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
            let read_pair = carried.addresses.map(|(from, to)| (shown(from), shown(to)));
            prop_assert_eq!(read_pair, Some((shown(from), shown(to))));
            let expected = is_sealed.then(|| CarriedTls {
                is_verified: has_certificate,
                version: Some("TLSv1.3".into()),
                name: (has_certificate && !name.is_empty()).then(|| name.as_str().into()),
            });
            prop_assert_eq!(carried.tls, expected);
        }
    }
}

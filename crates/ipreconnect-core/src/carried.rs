//! The header of the PROXY protocol, versions 1 and 2: a proxy before this one says whose connection it is.
//!
//! (`proxy-protocol.txt` of HAProxy.) A header is read whole or not at all; whatever could be read in two ways
//! is broken.

mod announce;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

pub use announce::{Announce, Announced, AnnouncedTls};

/// The longest line of version 1, with its end.
const LINE: usize = 107;
/// What version 2 begins with.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// What version 1 begins with.
const WORD: &[u8; 6] = b"PROXY ";
/// The fixed part of version 2.
const FIXED: usize = 16;
/// The longest header that is read; proxies send some hundred bytes.
pub const LONGEST: usize = 4096;

/// What comes at the beginning of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Header {
    /// More bytes are needed.
    More,
    /// There is none.
    Absent,
    /// It cannot be read.
    Broken(&'static str),
    /// So many bytes are one that says this.
    Whole(usize, Carried),
}

/// What a header says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Carried {
    /// The proxy has connected for itself: nobody else is behind it.
    pub is_own: bool,
    /// Who has connected to whom; `None` if it is the proxy itself, or if it does not know.
    pub addresses: Option<(SocketAddr, SocketAddr)>,
    /// The connection's TLS, if it has any at the proxy.
    pub tls: Option<CarriedTls>,
    /// The name that the client asked for (SNI).
    pub authority: Option<Box<str>>,
}

/// What a header says of a client's TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CarriedTls {
    /// The client has shown a certificate, which the proxy has verified.
    pub is_verified: bool,
    /// Its version, such as `TLSv1.3`.
    pub version: Option<Box<str>>,
    /// The common name of the certificate.
    pub name: Option<Box<str>>,
}

/// Reads what has come.
#[must_use]
pub fn read(bytes: &[u8]) -> Header {
    let begins = |whole: &[u8]| {
        let known = bytes.len().min(whole.len());
        bytes.get(..known) == whole.get(..known)
    };
    if bytes.len() < WORD.len() && begins(WORD) || bytes.len() < FIXED && begins(&SIGNATURE) {
        return Header::More;
    }
    if begins(&SIGNATURE) {
        return second(bytes);
    }
    if begins(WORD) {
        return first(bytes);
    }
    Header::Absent
}

fn first(bytes: &[u8]) -> Header {
    let line = bytes.get(..bytes.len().min(LINE)).unwrap_or_default();
    let Some(end) = memchr::memchr(b'\n', line) else {
        return match line.len() {
            LINE => Header::Broken("its line is too long"),
            _ => Header::More,
        };
    };
    let text = line.get(..end).and_then(|line| line.strip_suffix(b"\r"));
    let Some(text) = text.and_then(|text| std::str::from_utf8(text).ok()) else {
        return Header::Broken("its line does not end as it must");
    };
    let mut words = text.split(' ').skip(1);
    let family = words.next().unwrap_or_default();
    let carried = match family {
        // Whatever follows means nothing.
        "UNKNOWN" => Some(Carried::default()),
        "TCP4" | "TCP6" => addresses(family == "TCP4", words),
        _ => None,
    };
    carried.map_or(Header::Broken("its line cannot be read"), |carried| {
        Header::Whole(end + 1, carried)
    })
}

fn addresses<'w>(is_four: bool, mut words: impl Iterator<Item = &'w str>) -> Option<Carried> {
    let mut ip = || -> Option<IpAddr> {
        let word = words.next()?;
        match is_four {
            true => word.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
            false => word.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        }
    };
    let (from, to) = (ip()?, ip()?);
    let mut port = || -> Option<u16> {
        let word = words.next()?;
        let is_plain = word == "0" || !word.starts_with(['0', '+']);
        word.parse().ok().filter(|_| is_plain)
    };
    let (from, to) = (SocketAddr::new(from, port()?), SocketAddr::new(to, port()?));
    words.next().is_none().then(|| Carried {
        addresses: Some((from, to)),
        ..Carried::default()
    })
}

fn second(bytes: &[u8]) -> Header {
    let byte = |at: usize| bytes.get(at).copied().unwrap_or_default();
    let length = usize::from(u16::from_be_bytes([byte(14), byte(15)]));
    let whole = FIXED + length;
    if byte(12) >> 4 != 2 {
        return Header::Broken("its version is neither 1 nor 2");
    }
    if whole > LONGEST {
        return Header::Broken("it is too long");
    }
    let Some(header) = bytes.get(..whole) else {
        return Header::More;
    };
    let rest = header.get(FIXED..).unwrap_or_default();
    let is_proxied = match byte(12) & 0xf {
        0 => false,
        1 => true,
        _ => return Header::Broken("its command is unknown"),
    };
    let (room, parse): (usize, fn(&[u8]) -> Pair) = match byte(13) {
        0x11 => (12, four),
        0x21 => (36, six),
        // Between Unix sockets, or nothing that is said.
        0x31 => (216, |_| None),
        0x00 => (0, |_| None),
        // Datagrams come in no stream.
        _ if is_proxied => {
            return Header::Broken("its family or its transport is none of a stream");
        }
        _ => (0, |_| None),
    };
    // Of a connection of the proxy itself nothing but the length means anything.
    if !is_proxied {
        let own = Carried {
            is_own: true,
            ..Carried::default()
        };
        return Header::Whole(whole, own);
    }
    let (Some(places), Some(more)) = (rest.get(..room), rest.get(room..)) else {
        return Header::Broken("it is shorter than its addresses");
    };
    let mut carried = Carried {
        addresses: parse(places),
        ..Carried::default()
    };
    match values(more, header, &mut carried) {
        Ok(()) => Header::Whole(whole, carried),
        Err(why) => Header::Broken(why),
    }
}

/// Who has connected to whom, where that is said.
type Pair = Option<(SocketAddr, SocketAddr)>;

fn four(bytes: &[u8]) -> Pair {
    let ip = |at: usize| {
        let octets: [u8; 4] = bytes.get(at..at + 4)?.try_into().ok()?;
        Some(IpAddr::V4(Ipv4Addr::from(octets)))
    };
    Some((
        SocketAddr::new(ip(0)?, port(bytes, 8)?),
        SocketAddr::new(ip(4)?, port(bytes, 10)?),
    ))
}

fn six(bytes: &[u8]) -> Pair {
    let ip = |at: usize| {
        let octets: [u8; 16] = bytes.get(at..at + 16)?.try_into().ok()?;
        Some(IpAddr::V6(Ipv6Addr::from(octets)))
    };
    Some((
        SocketAddr::new(ip(0)?, port(bytes, 32)?),
        SocketAddr::new(ip(16)?, port(bytes, 34)?),
    ))
}

fn port(bytes: &[u8], at: usize) -> Option<u16> {
    let bytes: [u8; 2] = bytes.get(at..at + 2)?.try_into().ok()?;
    Some(u16::from_be_bytes(bytes))
}

const AUTHORITY: u8 = 0x02;
const CRC32C: u8 = 0x03;
const SSL: u8 = 0x20;
const SSL_VERSION: u8 = 0x21;
const SSL_CN: u8 = 0x22;

/// Reads the values that follow the addresses.
fn values(more: &[u8], header: &[u8], carried: &mut Carried) -> Result<(), &'static str> {
    each(more, |kind, value| {
        match kind {
            AUTHORITY => carried.authority = text(value),
            CRC32C => {
                let told: [u8; 4] = value
                    .try_into()
                    .map_err(|_| "its checksum has no 4 bytes")?;
                let at = value.as_ptr().addr() - header.as_ptr().addr();
                if crc32c(header, at..at + 4) != u32::from_be_bytes(told) {
                    return Err("its checksum is another one");
                }
            }
            SSL => carried.tls = tls(value)?,
            _ => {}
        }
        Ok(())
    })
}

fn tls(value: &[u8]) -> Result<Option<CarriedTls>, &'static str> {
    let (Some(flags), Some(verify), Some(more)) = (value.first(), value.get(1..5), value.get(5..))
    else {
        return Err("what it says of TLS is too short");
    };
    // `PP2_CLIENT_SSL`, `PP2_CLIENT_CERT_CONN | PP2_CLIENT_CERT_SESS`.
    if flags & 0x1 == 0 {
        return Ok(None);
    }
    let mut tls = CarriedTls {
        is_verified: flags & 0x6 != 0 && verify == [0; 4],
        ..CarriedTls::default()
    };
    each(more, |kind, value| {
        match kind {
            SSL_VERSION => tls.version = text(value),
            SSL_CN => tls.name = text(value),
            _ => {}
        }
        Ok(())
    })?;
    Ok(Some(tls))
}

fn each(
    mut more: &[u8],
    mut take: impl FnMut(u8, &[u8]) -> Result<(), &'static str>,
) -> Result<(), &'static str> {
    while let Some(kind) = more.first().copied() {
        let length = port(more, 1).map(usize::from);
        let value = length.and_then(|length| more.get(3..3 + length));
        let value = value.ok_or("one of its values is longer than it")?;
        take(kind, value)?;
        more = more.get(3 + value.len()..).unwrap_or_default();
    }
    Ok(())
}

/// Text that may be shown.
fn text(value: &[u8]) -> Option<Box<str>> {
    let text = std::str::from_utf8(value).ok()?;
    let is_plain = !text.is_empty() && !text.chars().any(char::is_control);
    is_plain.then(|| text.into())
}

/// CRC-32C (RFC 3720, appendix B.4), with the bytes of the checksum itself taken for zero.
fn crc32c(bytes: &[u8], own: std::ops::Range<usize>) -> u32 {
    let mut crc = u32::MAX;
    for (at, byte) in bytes.iter().enumerate() {
        let byte = if own.contains(&at) { 0 } else { *byte };
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg());
        }
    }
    !crc
}

#[cfg(test)]
mod tests;

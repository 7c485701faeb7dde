//! Where a client of the forward proxy wants to go. There is one reading of each name and each address: whoever writes
//! 127.0.0.1 as 0x7f.1 or 2130706433 is judged as who wrote it plainly.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use url::Host as Parsed;

/// The longest name of a host.
const LONGEST: usize = 253;

/// A host.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Host {
    /// A name: in small letters, in punycode, without a dot at its end.
    Name(Box<str>),
    /// An address. IPv4 that is written as IPv6 is IPv4.
    Ip(IpAddr),
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Ip(IpAddr::V4(ip)) => write!(f, "{ip}"),
            Self::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]"),
        }
    }
}

/// A host and a port.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Target {
    /// The host.
    pub host: Host,
    /// The port; never 0.
    pub port: u16,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// Why there is no such place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetError {
    /// It is empty, or too long.
    Length,
    /// It has a character that no host has.
    Character,
    /// There is somebody's name before the host.
    UserInfo,
    /// The port is missing.
    NoPort,
    /// It is no port, or 0.
    Port,
    /// It is no host.
    Host,
    /// An address with a zone leads elsewhere on every machine.
    Zone,
}

impl fmt::Display for TargetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Length => "the target is empty or too long",
            Self::Character => "the target has a character that no host has",
            Self::UserInfo => "the target names a user, which is not passed on",
            Self::NoPort => "the target has no port",
            Self::Port => "the port is none from 1 to 65535",
            Self::Host => "the target is no name and no address of a host",
            Self::Zone => "the target is an address with a zone",
        })
    }
}

impl Target {
    /// Reads `host:port`, as CONNECT has it (RFC 9110, section 9.3.6).
    ///
    /// # Errors
    /// Why it is none.
    pub fn authority(text: &[u8]) -> Result<Self, TargetError> {
        let (host, port) = split(text)?;
        let port = port.ok_or(TargetError::NoPort)?;
        Ok(Self {
            host: Host::parse(host)?,
            port: number(port)?,
        })
    }

    /// Reads `host` or `host:port`, as the absolute form of a request's target has it (RFC 9112, section 3.2.2).
    ///
    /// # Errors
    /// Why it is none.
    pub fn or_port(text: &[u8], otherwise: u16) -> Result<Self, TargetError> {
        let (host, port) = split(text)?;
        let port = match port {
            None | Some(b"") => otherwise,
            Some(port) => number(port)?,
        };
        let host = Host::parse(host)?;
        Ok(Self { host, port })
    }
}

impl Host {
    /// Reads a name, an address, or an address of IPv6 in brackets.
    ///
    /// # Errors
    /// Why it is none.
    pub fn parse(text: &[u8]) -> Result<Self, TargetError> {
        if text.is_empty() || text.len() > LONGEST + 2 {
            return Err(TargetError::Length);
        }
        match plain(text) {
            Some(host) => Ok(host),
            None => Self::parse_any(text),
        }
    }

    /// The same, however it is written.
    fn parse_any(text: &[u8]) -> Result<Self, TargetError> {
        if let Some(inside) = text.strip_prefix(b"[") {
            let inside = inside.strip_suffix(b"]").ok_or(TargetError::Host)?;
            if inside.contains(&b'%') {
                return Err(TargetError::Zone);
            }
            let inside = std::str::from_utf8(inside).map_err(|_| TargetError::Host)?;
            let ip = inside.parse::<Ipv6Addr>().map_err(|_| TargetError::Host)?;
            return Ok(Self::Ip(IpAddr::V6(ip).to_canonical()));
        }
        // What a name has in hexadecimal would be read otherwise by whoever comes next.
        let is_sound =
            |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | 0x80..);
        if !text.iter().all(is_sound) {
            return Err(TargetError::Character);
        }
        let text = std::str::from_utf8(text).map_err(|_| TargetError::Character)?;
        let text = text.strip_suffix('.').unwrap_or(text);
        match Parsed::parse(text).map_err(|_| TargetError::Host)? {
            Parsed::Domain(name) => {
                let name = name.strip_suffix('.').unwrap_or(&name);
                let is_label = |label: &str| !label.is_empty() && label.len() <= 63;
                if name.len() > LONGEST || !name.split('.').all(is_label) {
                    return Err(TargetError::Host);
                }
                Ok(Self::Name(name.into()))
            }
            Parsed::Ipv4(ip) => Ok(Self::Ip(ip.into())),
            Parsed::Ipv6(ip) => Ok(Self::Ip(IpAddr::V6(ip).to_canonical())),
        }
    }

    /// An address of IPv4.
    #[must_use]
    pub fn v4(octets: [u8; 4]) -> Self {
        Self::Ip(Ipv4Addr::from(octets).into())
    }

    /// An address of IPv6.
    #[must_use]
    pub fn v6(octets: [u8; 16]) -> Self {
        Self::Ip(IpAddr::V6(Ipv6Addr::from(octets)).to_canonical())
    }
}

/// A host in the spelling that nearly all have, which leaves nothing to be understood in two ways: an address in four
/// decimal numbers, or a name of letters whose last label is no number. None says nothing of the others.
fn plain(text: &[u8]) -> Option<Host> {
    let last = text.rsplit(|byte| *byte == b'.').next()?;
    match last.first()? {
        b'0'..=b'9' => {
            let ip = std::str::from_utf8(text).ok()?.parse::<Ipv4Addr>().ok()?;
            return Some(Host::Ip(ip.into()));
        }
        b'a'..=b'z' | b'A'..=b'Z' => {}
        _ => return None,
    }
    // Two hyphens may be punycode, which has to be understood.
    let is_label = |label: &[u8]| {
        let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        (1..=63).contains(&label.len())
            && label.iter().all(is_plain)
            && label.get(2..4) != Some(b"--")
    };
    if text.len() > LONGEST || !text.split(|byte| *byte == b'.').all(is_label) {
        return None;
    }
    let mut name = String::from_utf8(text.to_vec()).ok()?;
    name.make_ascii_lowercase();
    Some(Host::Name(name.into()))
}

/// A name as lists have it; none if it is an address or nothing.
pub(super) fn name(text: &str) -> Option<String> {
    match Host::parse(text.as_bytes()) {
        Ok(Host::Name(name)) => Some(name.into()),
        Ok(Host::Ip(_)) | Err(_) => None,
    }
}

/// Host and port, which is what is behind the last colon that is in no brackets.
fn split(text: &[u8]) -> Result<(&[u8], Option<&[u8]>), TargetError> {
    if text.contains(&b'@') {
        return Err(TargetError::UserInfo);
    }
    let end = match text.first() {
        Some(b'[') => {
            let end = text.iter().position(|byte| *byte == b']');
            end.ok_or(TargetError::Host)? + 1
        }
        _ => text
            .iter()
            .position(|byte| *byte == b':')
            .unwrap_or(text.len()),
    };
    let (host, rest) = text.split_at(end);
    match rest {
        [] => Ok((host, None)),
        [b':', port @ ..] => Ok((host, Some(port))),
        _ => Err(TargetError::Character),
    }
}

/// A port: digits, and no sign.
fn number(text: &[u8]) -> Result<u16, TargetError> {
    let is_number = (1..=5).contains(&text.len()) && text.iter().all(u8::is_ascii_digit);
    let text = std::str::from_utf8(text).map_err(|_| TargetError::Port)?;
    let port = text
        .parse::<u16>()
        .ok()
        .filter(|port| is_number && *port > 0);
    port.ok_or(TargetError::Port)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Result<String, TargetError> {
        Target::authority(text.as_bytes()).map(|target| target.to_string())
    }

    #[test]
    fn an_address_is_itself_however_it_is_written() {
        for text in [
            "127.0.0.1",
            "0x7f.0.0.1",
            "0x7f000001",
            "2130706433",
            "017700000001",
            "127.1",
            "127.0.1",
            "0177.0.0.1",
            "127.0.0.1.",
            "[::ffff:127.0.0.1]",
            "[::ffff:7f00:1]",
            "127。0。0。1",
        ] {
            let wanted = Ok("127.0.0.1:80".to_owned());
            assert_eq!(shown(&format!("{text}:80")), wanted, "{text}");
        }
        assert_eq!(shown("[::1]:443").as_deref(), Ok("[::1]:443"));
        assert_eq!(shown("[0:0:0:0:0:0:0:1]:1").as_deref(), Ok("[::1]:1"));
    }

    #[test]
    fn a_name_is_itself_however_it_is_written() {
        for (text, wanted) in [
            ("Example.COM:443", "example.com:443"),
            ("example.com.:443", "example.com:443"),
            ("bücher.example:80", "xn--bcher-kva.example:80"),
            ("XN--BCHER-KVA.example:80", "xn--bcher-kva.example:80"),
            ("ｅｘａｍｐｌｅ.com:80", "example.com:80"),
            ("a_b.example:80", "a_b.example:80"),
            ("localhost:8080", "localhost:8080"),
        ] {
            assert_eq!(shown(text).as_deref(), Ok(wanted), "{text}");
        }
    }

    #[test]
    fn what_is_no_target_is_told() {
        for (text, wanted) in [
            ("", TargetError::NoPort),
            (":80", TargetError::Length),
            ("example.com", TargetError::NoPort),
            ("example.com:", TargetError::Port),
            ("example.com:0", TargetError::Port),
            ("example.com:65536", TargetError::Port),
            ("example.com:+80", TargetError::Port),
            ("example.com:80:80", TargetError::Port),
            ("example.com:8o", TargetError::Port),
            ("user:secret@example.com:80", TargetError::UserInfo),
            ("example.com@127.0.0.1:80", TargetError::UserInfo),
            ("[fe80::1%eth0]:80", TargetError::Zone),
            ("[fe80::1%25eth0]:80", TargetError::Zone),
            ("[::1:80", TargetError::Host),
            ("[::1]80", TargetError::Character),
            ("[127.0.0.1]:80", TargetError::Host),
            ("127.0.0.1%2e:80", TargetError::Character),
            ("127.0.0.%31:80", TargetError::Character),
            ("exa mple.com:80", TargetError::Character),
            ("example.com\r\nX: y:80", TargetError::Character),
            ("exam/ple:80", TargetError::Character),
            ("256.256.256.256:80", TargetError::Host),
            ("1.2.3.4.5:80", TargetError::Host),
            ("0x100000000:80", TargetError::Host),
            ("a..b:80", TargetError::Host),
            (".example:80", TargetError::Host),
            ("::1:80", TargetError::Length),
        ] {
            assert_eq!(shown(text), Err(wanted), "{text}");
        }
        assert_eq!(
            shown(&format!("{}:80", "x".repeat(64))),
            Err(TargetError::Host)
        );
        assert_eq!(
            shown(&format!("{}:80", "x.".repeat(200))),
            Err(TargetError::Length)
        );
    }

    #[test]
    fn a_port_may_be_left_out() {
        for (text, wanted) in [
            ("example.com", Ok("example.com:80")),
            ("Example.com:8080", Ok("example.com:8080")),
            ("example.com:", Ok("example.com:80")),
            ("[::1]", Ok("[::1]:80")),
            ("0x7f.1", Ok("127.0.0.1:80")),
            ("", Err(TargetError::Length)),
            ("user@example.com", Err(TargetError::UserInfo)),
            ("example.com:0", Err(TargetError::Port)),
            ("example.com\\.evil", Err(TargetError::Character)),
        ] {
            let read = Target::or_port(text.as_bytes(), 80).map(|target| target.to_string());
            assert_eq!(read.as_deref().map_err(|error| *error), wanted, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn the_plain_reading_is_the_whole_one(text in "[a-zA-Z0-9._x-]{1,24}(\\.[a-zA-Z0-9-]{1,5}){0,3}") {
            if let Some(host) = plain(text.as_bytes()) {
                proptest::prop_assert_eq!(Host::parse_any(text.as_bytes()), Ok(host));
            }
        }
    }

    #[test]
    fn what_is_plain_is_read_so() {
        for text in [
            "a.example",
            "WWW.Example.com",
            "localhost",
            "a_b.c-d.e",
            "192.0.2.1",
            "1.2.3.a4",
        ] {
            let host = plain(text.as_bytes());
            assert!(host.is_some(), "{text}");
            assert_eq!(host, Host::parse_any(text.as_bytes()).ok(), "{text}");
        }
        for text in [
            "xn--bcher-kva.example",
            "a.example.",
            "127.1",
            "0x7f.1",
            "a.0x7f",
            "a..b",
            "1.2.3.4.5",
            "-",
            "é.example",
        ] {
            assert_eq!(plain(text.as_bytes()), None, "{text}");
        }
    }
}

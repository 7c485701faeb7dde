//! SOCKS as it is read and written: versions 4, 4a and 5 (RFC 1928), with user and password (RFC 1929).

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use super::target::{Host, Target};

/// The longest that a client may say before its request is whole: two texts of 255 bytes, and what is around them.
pub const LONGEST: usize = 1024;
/// The version that a client begins with.
pub const V4: u8 = 4;
/// The same of version 5.
pub const V5: u8 = 5;

/// What has been read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read<T> {
    /// It is whole, and so many bytes of it.
    Whole(T, usize),
    /// There is more to come.
    Partial,
}

/// Why it is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocksError {
    /// Another version, or not SOCKS.
    Version,
    /// A length that cannot be.
    Length,
    /// A command that there is not.
    Command,
    /// A kind of address that there is not.
    AddressKind,
    /// No host, or no port.
    Target,
}

impl fmt::Display for SocksError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Version => "it is another version of SOCKS, or none",
            Self::Length => "a length is wrong",
            Self::Command => "the command is not known",
            Self::AddressKind => "the kind of address is not known",
            Self::Target => "it is no place that can be gone to",
        })
    }
}

/// How a client of version 5 may show who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Methods {
    /// Not at all.
    pub none: bool,
    /// By user and password.
    pub password: bool,
}

/// What a client wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// A connection to that place.
    Connect,
    /// A connection from that place.
    Bind,
    /// Datagrams; the place is where they will come from, if that is known.
    Associate,
}

/// A request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// What.
    pub command: Command,
    /// Where to; none of datagrams whose source is not known yet.
    pub target: Option<Target>,
    /// Who says to be asking (version 4).
    pub user: Vec<u8>,
}

/// What a client is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Go on.
    Granted,
    /// Something else failed.
    Failed,
    /// The rules forbid it.
    Denied,
    /// The network cannot be reached.
    NetworkUnreachable,
    /// The host cannot be reached, or has no address.
    HostUnreachable,
    /// It refuses.
    Refused,
    /// It took too long.
    Late,
    /// This command is not carried.
    Command,
    /// This kind of address is not.
    AddressKind,
}

impl Reply {
    fn v5(self) -> u8 {
        match self {
            Self::Granted => 0,
            Self::Failed => 1,
            Self::Denied => 2,
            Self::NetworkUnreachable => 3,
            Self::HostUnreachable => 4,
            Self::Refused => 5,
            Self::Late => 6,
            Self::Command => 7,
            Self::AddressKind => 8,
        }
    }
}

/// Reads the greeting of version 5: which methods the client has.
///
/// # Errors
/// If it is none.
pub fn greeting(bytes: &[u8]) -> Result<Read<Methods>, SocksError> {
    let [version, rest @ ..] = bytes else {
        return Ok(Read::Partial);
    };
    if *version != V5 {
        return Err(SocksError::Version);
    }
    let [count, rest @ ..] = rest else {
        return Ok(Read::Partial);
    };
    if *count == 0 {
        return Err(SocksError::Length);
    }
    let Some(methods) = rest.get(..usize::from(*count)) else {
        return Ok(Read::Partial);
    };
    let has = |method: u8| methods.contains(&method);
    let methods = Methods {
        none: has(0),
        password: has(2),
    };
    Ok(Read::Whole(methods, 2 + usize::from(*count)))
}

/// Says which method is to be used: `None` if none of them is any good.
#[must_use]
pub fn method(password: Option<bool>) -> [u8; 2] {
    match password {
        Some(true) => [V5, 2],
        Some(false) => [V5, 0],
        None => [V5, 0xff],
    }
}

/// Who a client says to be, and what it shows for that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// The user.
    pub user: Vec<u8>,
    /// The password.
    pub password: Vec<u8>,
}

/// A part, and what is behind it, if it is whole.
type Parted<'b, T> = Result<Option<(T, &'b [u8])>, SocksError>;

/// Reads user and password (RFC 1929).
///
/// # Errors
/// If it is none.
pub fn password(bytes: &[u8]) -> Result<Read<Credentials>, SocksError> {
    let [version, rest @ ..] = bytes else {
        return Ok(Read::Partial);
    };
    if *version != 1 {
        return Err(SocksError::Version);
    }
    let Some((user, rest)) = counted(rest)? else {
        return Ok(Read::Partial);
    };
    let Some((password, rest)) = counted(rest)? else {
        return Ok(Read::Partial);
    };
    let used = bytes.len() - rest.len();
    let credentials = Credentials {
        user: user.to_vec(),
        password: password.to_vec(),
    };
    Ok(Read::Whole(credentials, used))
}

/// Says whether they are right.
#[must_use]
pub fn password_reply(is_right: bool) -> [u8; 2] {
    [1, u8::from(!is_right)]
}

/// A text with its length before it, which is never 0.
fn counted(bytes: &[u8]) -> Parted<'_, &[u8]> {
    match bytes {
        [] => Ok(None),
        [0, ..] => Err(SocksError::Length),
        [length, rest @ ..] => Ok(rest.split_at_checked(usize::from(*length))),
    }
}

/// Reads a request of version 5.
///
/// # Errors
/// If it is none.
pub fn request(bytes: &[u8]) -> Result<Read<Request>, SocksError> {
    let Some(([version, command, reserved], rest)) = bytes.split_first_chunk::<3>() else {
        return match bytes.first() {
            Some(version) if *version != V5 => Err(SocksError::Version),
            _ => Ok(Read::Partial),
        };
    };
    if *version != V5 {
        return Err(SocksError::Version);
    }
    if *reserved != 0 {
        return Err(SocksError::Length);
    }
    let command = match command {
        1 => Command::Connect,
        2 => Command::Bind,
        3 => Command::Associate,
        _ => return Err(SocksError::Command),
    };
    let Some(((host, port), rest)) = place(rest)? else {
        return Ok(Read::Partial);
    };
    let used = bytes.len() - rest.len();
    let target = target(host, port, command)?;
    let request = Request {
        command,
        target,
        user: Vec::new(),
    };
    Ok(Read::Whole(request, used))
}

/// Reads a request of version 4, or 4a, where an address of 0.0.0.x says that a name follows.
///
/// # Errors
/// If it is none.
pub fn request_v4(bytes: &[u8]) -> Result<Read<Request>, SocksError> {
    match bytes.first() {
        None => return Ok(Read::Partial),
        Some(version) if *version != V4 => return Err(SocksError::Version),
        Some(_) => {}
    }
    let Some(([_, command, high, low, a, b, c, d], rest)) = bytes.split_first_chunk::<8>() else {
        return Ok(Read::Partial);
    };
    let command = match command {
        1 => Command::Connect,
        2 => Command::Bind,
        _ => return Err(SocksError::Command),
    };
    let Some((user, mut rest)) = ended(rest)? else {
        return Ok(Read::Partial);
    };
    let has_name = [*a, *b, *c] == [0, 0, 0] && *d != 0;
    let host = if has_name {
        let Some((name, after)) = ended(rest)? else {
            return Ok(Read::Partial);
        };
        rest = after;
        Place::Name(name.to_vec())
    } else {
        Place::Host(Host::v4([*a, *b, *c, *d]))
    };
    let target = target(host, u16::from_be_bytes([*high, *low]), command)?;
    let request = Request {
        command,
        target,
        user: user.to_vec(),
    };
    Ok(Read::Whole(request, bytes.len() - rest.len()))
}

/// A text up to the zero that ends it.
fn ended(bytes: &[u8]) -> Parted<'_, &[u8]> {
    match bytes.iter().position(|byte| *byte == 0) {
        Some(end) if end > 255 => Err(SocksError::Length),
        Some(end) => Ok(Some((
            bytes.get(..end).unwrap_or_default(),
            bytes.get(end + 1..).unwrap_or_default(),
        ))),
        None if bytes.len() > 255 => Err(SocksError::Length),
        None => Ok(None),
    }
}

enum Place {
    Host(Host),
    Name(Vec<u8>),
}

/// An address as version 5 has it.
fn place(bytes: &[u8]) -> Parted<'_, (Place, u16)> {
    let (host, rest) = match bytes {
        [] => return Ok(None),
        [1, rest @ ..] => match rest.split_first_chunk::<4>() {
            Some((octets, rest)) => (Place::Host(Host::v4(*octets)), rest),
            None => return Ok(None),
        },
        [4, rest @ ..] => match rest.split_first_chunk::<16>() {
            Some((octets, rest)) => (Place::Host(Host::v6(*octets)), rest),
            None => return Ok(None),
        },
        [3, rest @ ..] => match counted(rest)? {
            Some((name, rest)) => (Place::Name(name.to_vec()), rest),
            None => return Ok(None),
        },
        _ => return Err(SocksError::AddressKind),
    };
    let Some((port, rest)) = rest.split_first_chunk::<2>() else {
        return Ok(None);
    };
    Ok(Some(((host, u16::from_be_bytes(*port)), rest)))
}

fn target(place: Place, port: u16, command: Command) -> Result<Option<Target>, SocksError> {
    let host = match place {
        Place::Host(host) => host,
        Place::Name(name) => Host::parse(&name).map_err(|_| SocksError::Target)?,
    };
    if command == Command::Associate {
        let is_unknown = port == 0 || matches!(host, Host::Ip(ip) if ip.is_unspecified());
        return Ok((!is_unknown).then_some(Target { host, port }));
    }
    if port == 0 {
        return Err(SocksError::Target);
    }
    Ok(Some(Target { host, port }))
}

/// Writes what a client of version 5 is told, with the address that stands for it here.
pub fn reply(out: &mut Vec<u8>, reply: Reply, bound: SocketAddr) {
    out.extend_from_slice(&[V5, reply.v5(), 0]);
    address(out, bound);
}

/// The same of version 4.
#[must_use]
pub fn reply_v4(reply: Reply) -> [u8; 8] {
    let code = if reply == Reply::Granted { 90 } else { 91 };
    [0, code, 0, 0, 0, 0, 0, 0]
}

fn address(out: &mut Vec<u8>, address: SocketAddr) {
    match address.ip() {
        IpAddr::V4(ip) => {
            out.push(1);
            out.extend_from_slice(&ip.octets());
        }
        IpAddr::V6(ip) => {
            out.push(4);
            out.extend_from_slice(&ip.octets());
        }
    }
    out.extend_from_slice(&address.port().to_be_bytes());
}

/// Reads the head of a datagram: where it is to go, and what of it that gets. Fragments are not carried.
///
/// # Errors
/// If it is none, or a fragment.
pub fn datagram(bytes: &[u8]) -> Result<(Target, &[u8]), SocksError> {
    let Some(([0, 0, fragment], rest)) = bytes.split_first_chunk::<3>() else {
        return Err(SocksError::Length);
    };
    if *fragment != 0 {
        return Err(SocksError::Command);
    }
    let Some(((host, port), rest)) = place(rest)? else {
        return Err(SocksError::Length);
    };
    match target(host, port, Command::Connect)? {
        Some(target) => Ok((target, rest)),
        None => Err(SocksError::Target),
    }
}

/// Writes the head of a datagram that comes from there.
pub fn datagram_head(out: &mut Vec<u8>, from: SocketAddr) {
    out.extend_from_slice(&[0, 0, 0]);
    address(out, from);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn greetings_and_passwords_are_read() {
        let both = Methods {
            none: true,
            password: true,
        };
        assert_eq!(greeting(&[5, 3, 0, 1, 2, 9]), Ok(Read::Whole(both, 5)));
        for partial in [&[][..], &[5], &[5, 2, 0]] {
            assert_eq!(greeting(partial), Ok(Read::Partial));
        }
        assert_eq!(greeting(&[5, 0]), Err(SocksError::Length));
        assert_eq!(greeting(b"GET"), Err(SocksError::Version));
        let ann = Credentials {
            user: b"ann".to_vec(),
            password: b"hush".to_vec(),
        };
        assert_eq!(
            password(b"\x01\x03ann\x04hushMORE"),
            Ok(Read::Whole(ann, 10))
        );
        assert_eq!(password(b"\x01\x03ann\x04hu"), Ok(Read::Partial));
        assert_eq!(password(b"\x01\x00\x00"), Err(SocksError::Length));
        assert_eq!(password(b"\x05\x01a\x01b"), Err(SocksError::Version));
    }

    fn asked(bytes: &[u8]) -> Result<String, SocksError> {
        match request(bytes)? {
            Read::Partial => Ok("partial".to_owned()),
            Read::Whole(request, used) => {
                let target = request
                    .target
                    .map_or("-".to_owned(), |target| target.to_string());
                Ok(format!("{:?} {target} {used}", request.command))
            }
        }
    }

    #[test]
    fn requests_are_read() {
        let name = b"\x05\x01\x00\x03\x0bExample.com\x01\xbbrest";
        assert_eq!(asked(name).as_deref(), Ok("Connect example.com:443 18"));
        for end in 0..18 {
            assert_eq!(asked(&name[..end]).as_deref(), Ok("partial"), "{end}");
        }
        assert_eq!(
            asked(b"\x05\x01\x00\x01\x7f\x00\x00\x01\x00\x50").as_deref(),
            Ok("Connect 127.0.0.1:80 10")
        );
        let mapped = b"\x05\x01\x00\x04\0\0\0\0\0\0\0\0\0\0\xff\xff\x7f\0\0\x01\x00\x50";
        assert_eq!(asked(mapped).as_deref(), Ok("Connect 127.0.0.1:80 22"));
        assert_eq!(
            asked(b"\x05\x03\x00\x01\0\0\0\0\0\0").as_deref(),
            Ok("Associate - 10")
        );
        // An address as a name is an address.
        assert_eq!(
            asked(b"\x05\x01\x00\x03\x04127.\x00\x50").as_deref(),
            Ok("Connect 0.0.0.127:80 11")
        );
        assert_eq!(
            asked(b"\x05\x01\x00\x03\x0a2130706433\x00\x50").as_deref(),
            Ok("Connect 127.0.0.1:80 17")
        );
        for (bytes, wanted) in [
            (&b"\x04\x01\x00"[..], SocksError::Version),
            (
                b"\x05\x09\x00\x01\x7f\x00\x00\x01\x00\x50",
                SocksError::Command,
            ),
            (
                b"\x05\x01\x07\x01\x7f\x00\x00\x01\x00\x50",
                SocksError::Length,
            ),
            (
                b"\x05\x01\x00\x02\x7f\x00\x00\x01\x00\x50",
                SocksError::AddressKind,
            ),
            (b"\x05\x01\x00\x03\x00\x00\x50", SocksError::Length),
            (
                b"\x05\x01\x00\x01\x7f\x00\x00\x01\x00\x00",
                SocksError::Target,
            ),
            (b"\x05\x01\x00\x03\x03a\0b\x00\x50", SocksError::Target),
            (b"\x05\x01\x00\x03\x03a@b\x00\x50", SocksError::Target),
        ] {
            assert_eq!(asked(bytes), Err(wanted), "{bytes:?}");
        }
    }

    #[test]
    fn requests_of_version_4_are_read() {
        let read = |bytes: &[u8]| match request_v4(bytes) {
            Ok(Read::Whole(request, used)) => {
                let target = request
                    .target
                    .map_or(String::new(), |target| target.to_string());
                Ok(format!(
                    "{target} {} {used}",
                    String::from_utf8_lossy(&request.user)
                ))
            }
            Ok(Read::Partial) => Ok("partial".to_owned()),
            Err(error) => Err(error),
        };
        assert_eq!(
            read(b"\x04\x01\x00\x50\xc6\x33\x64\x07ann\0").as_deref(),
            Ok("198.51.100.7:80 ann 12")
        );
        assert_eq!(
            read(b"\x04\x01\x00\x50\0\0\0\x01ann\0example.com\0").as_deref(),
            Ok("example.com:80 ann 24")
        );
        assert_eq!(
            read(b"\x04\x01\x00\x50\0\0\0\x01ann\0example").as_deref(),
            Ok("partial")
        );
        assert_eq!(read(b"\x04\x01\x00\x50\xc6\x33").as_deref(), Ok("partial"));
        assert_eq!(
            read(&[&b"\x04\x01\x00\x50\xc6\x33\x64\x07"[..], &[b'x'; 300]].concat()),
            Err(SocksError::Length)
        );
        assert_eq!(read(b"\x05"), Err(SocksError::Version));
        assert_eq!(reply_v4(Reply::Granted)[..2], [0, 90]);
    }

    #[test]
    fn datagrams_have_a_head() {
        let (target, data) = datagram(b"\0\0\0\x01\xc6\x33\x64\x07\x00\x35data").unwrap();
        assert_eq!(
            (target.to_string().as_str(), data),
            ("198.51.100.7:53", &b"data"[..])
        );
        assert_eq!(
            datagram(b"\0\0\x01\x01\xc6\x33\x64\x07\x00\x35data"),
            Err(SocksError::Command)
        );
        assert_eq!(datagram(b"\0\0\0\x01\xc6"), Err(SocksError::Length));
        assert_eq!(
            datagram(b"\0\x01\0\x01\xc6\x33\x64\x07\x00\x35"),
            Err(SocksError::Length)
        );
        let mut head = Vec::new();
        datagram_head(&mut head, "198.51.100.7:53".parse().unwrap());
        assert_eq!(datagram(&head).unwrap().0.to_string(), "198.51.100.7:53");
        let mut out = Vec::new();
        reply(&mut out, Reply::Denied, "[::1]:80".parse().unwrap());
        assert_eq!((out.len(), out[1]), (22, 2));
    }
}

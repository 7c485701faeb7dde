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

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Granted => "it goes on",
            Self::Failed => "it failed",
            Self::Denied => "its rules forbid it",
            Self::NetworkUnreachable => "the network cannot be reached",
            Self::HostUnreachable => "the host cannot be reached",
            Self::Refused => "the host refuses",
            Self::Late => "it took too long",
            Self::Command => "it does not carry that",
            Self::AddressKind => "it does not know such addresses",
        })
    }
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
    let request = Request { command, target };
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
    // Who says to be asking proves nothing.
    let Some((_, mut rest)) = ended(rest)? else {
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
    let request = Request { command, target };
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

/// Asks a server of version 5 how a client is to show who it is; by password only if it has one.
#[must_use]
pub fn greet(has_password: bool) -> &'static [u8] {
    if has_password {
        &[V5, 2, 0, 2]
    } else {
        &[V5, 1, 0]
    }
}

/// Reads which method a server wants: whether it is the one by password.
///
/// # Errors
/// If it is none, or none that was offered.
pub fn chosen(bytes: &[u8]) -> Result<Read<bool>, SocksError> {
    match bytes {
        [V5, 0, ..] => Ok(Read::Whole(false, 2)),
        [V5, 2, ..] => Ok(Read::Whole(true, 2)),
        [V5, _, ..] => Err(SocksError::Command),
        [] | [V5] => Ok(Read::Partial),
        _ => Err(SocksError::Version),
    }
}

/// Writes user and password (RFC 1929); `None` if one of them is empty, or too long.
#[must_use]
pub fn show_password(user: &[u8], password: &[u8]) -> Option<Vec<u8>> {
    let mut out = vec![1];
    for part in [user, password] {
        let length = u8::try_from(part.len()).ok().filter(|length| *length > 0)?;
        out.push(length);
        out.extend_from_slice(part);
    }
    Some(out)
}

/// Reads whether a server takes them.
///
/// # Errors
/// If it does not say that.
pub fn password_taken(bytes: &[u8]) -> Result<Read<bool>, SocksError> {
    match bytes {
        // Some servers write their own version there.
        [1 | V5, status, ..] => Ok(Read::Whole(*status == 0, 2)),
        [] | [1 | V5] => Ok(Read::Partial),
        _ => Err(SocksError::Version),
    }
}

/// Asks a server of version 5 for a connection to there.
#[must_use]
pub fn ask(target: &Target) -> Vec<u8> {
    let mut out = vec![V5, 1, 0];
    match &target.host {
        Host::Ip(ip) => address(&mut out, SocketAddr::new(*ip, target.port)),
        Host::Name(name) => {
            out.push(3);
            // No name that was read is longer.
            out.push(u8::try_from(name.len()).unwrap_or(u8::MAX));
            out.extend(name.bytes().take(usize::from(u8::MAX)));
            out.extend_from_slice(&target.port.to_be_bytes());
        }
    }
    out
}

/// Reads what a server of version 5 says to that.
///
/// # Errors
/// If it is no reply.
pub fn answered(bytes: &[u8]) -> Result<Read<Reply>, SocksError> {
    let Some(([version, code, _], rest)) = bytes.split_first_chunk::<3>() else {
        return match bytes.first() {
            Some(version) if *version != V5 => Err(SocksError::Version),
            _ => Ok(Read::Partial),
        };
    };
    if *version != V5 {
        return Err(SocksError::Version);
    }
    let reply = match code {
        0 => Reply::Granted,
        2 => Reply::Denied,
        3 => Reply::NetworkUnreachable,
        4 => Reply::HostUnreachable,
        5 => Reply::Refused,
        6 => Reply::Late,
        7 => Reply::Command,
        8 => Reply::AddressKind,
        _ => Reply::Failed,
    };
    match place(rest)? {
        Some((_, rest)) => Ok(Read::Whole(reply, bytes.len() - rest.len())),
        None => Ok(Read::Partial),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_says_is_what_a_server_reads() {
        for has_password in [true, false] {
            let methods = Methods {
                none: true,
                password: has_password,
            };
            let said = greet(has_password);
            assert_eq!(greeting(said), Ok(Read::Whole(methods, said.len())));
        }
        let said = show_password(b"ann", b"hush").unwrap();
        let Ok(Read::Whole(read, 10)) = password(&said) else {
            panic!("{said:?}");
        };
        assert_eq!(
            (read.user.as_slice(), read.password.as_slice()),
            (&b"ann"[..], &b"hush"[..])
        );
        assert_eq!(show_password(b"", b"x"), None);
        assert_eq!(show_password(&[b'a'; 256], b"x"), None);
        for text in ["example.com:443", "192.0.2.7:80", "[2001:db8::1]:8080"] {
            let target = Target::authority(text.as_bytes()).unwrap();
            let said = ask(&target);
            let Ok(Read::Whole(read, used)) = request(&said) else {
                panic!("{said:?}");
            };
            assert_eq!((read.target, used), (Some(target), said.len()));
        }
    }

    #[test]
    fn what_a_server_says_is_what_a_client_reads() {
        for (wanted, by_password) in [(Some(true), true), (Some(false), false)] {
            assert_eq!(chosen(&method(wanted)), Ok(Read::Whole(by_password, 2)));
        }
        assert_eq!(chosen(&method(None)), Err(SocksError::Command));
        assert_eq!(chosen(b"HT"), Err(SocksError::Version));
        for is_right in [true, false] {
            assert_eq!(
                password_taken(&password_reply(is_right)),
                Ok(Read::Whole(is_right, 2))
            );
        }
        let bound = "[2001:db8::1]:80".parse().unwrap();
        for one in [
            Reply::Granted,
            Reply::Denied,
            Reply::Refused,
            Reply::Late,
            Reply::Failed,
        ] {
            let mut out = Vec::new();
            reply(&mut out, one, bound);
            assert_eq!(answered(&out), Ok(Read::Whole(one, 22)));
            for end in 0..out.len() {
                assert_eq!(answered(&out[..end]), Ok(Read::Partial));
            }
        }
        assert_eq!(answered(b"HTTP"), Err(SocksError::Version));
        assert_eq!(answered(&[5, 0, 0, 9, 0]), Err(SocksError::AddressKind));
    }

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
                Ok(format!("{target} {used}"))
            }
            Ok(Read::Partial) => Ok("partial".to_owned()),
            Err(error) => Err(error),
        };
        assert_eq!(
            read(b"\x04\x01\x00\x50\xc6\x33\x64\x07ann\0").as_deref(),
            Ok("198.51.100.7:80 12")
        );
        assert_eq!(
            read(b"\x04\x01\x00\x50\0\0\0\x01ann\0example.com\0").as_deref(),
            Ok("example.com:80 24")
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

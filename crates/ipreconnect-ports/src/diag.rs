//! Listening sockets by `sock_diag(7)`: requests, and the parsing of answers.

use std::ffi::OsStr;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use rustix::net::netlink::{SOCK_DIAG, SocketAddrNetlink};
use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, recv, sendto,
    socket_with,
};

/// `SOCK_DIAG_BY_FAMILY` of `linux/sock_diag.h`.
const BY_FAMILY: u16 = 20;
/// `NLM_F_REQUEST | NLM_F_DUMP` of `linux/netlink.h`.
pub(crate) const DUMP: u16 = 0x1 | 0x300;
/// `NLM_F_REQUEST`.
const ONE: u16 = 0x1;
const DONE: u16 = 3;
const ERROR: u16 = 2;
/// `TCPDIAG_GETSOCK` of `linux/inet_diag.h`, and `SOCK_DESTROY` of `linux/sock_diag.h`.
const GETSOCK: u16 = 18;
const DESTROY: u16 = 21;
/// `NLM_F_ACK` of `linux/netlink.h`.
const ACKNOWLEDGE: u16 = 0x4;
/// `INET_DIAG_INFO`, and the state `TCP_LISTEN`.
const TCP_INFO: u16 = 2;
const STATE_LISTEN: u8 = 10;
/// `1 << TCP_LISTEN`.
const LISTEN: u32 = 1 << 10;
/// `1 << TCP_ESTABLISHED` and the others in which a connection has its local port, up to
/// `1 << TCP_CLOSING`, but neither listens nor waits for stray packets (TIME_WAIT).
const CONNECTED: u32 = (1 << 1 | 1 << 2 | 1 << 3 | 1 << 4 | 1 << 5) | (1 << 8 | 1 << 9 | 1 << 11);
/// `1 << TCP_TIME_WAIT`, and `1 << TCP_NEW_SYN_RECV`.
const OVER: u32 = 1 << 6 | 1 << 12;
/// `1 << TCP_CLOSE`, the state of a UDP socket without a peer.
const UNCONNECTED: u32 = 1 << 7;
const AF_UNIX: u8 = 1;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const IPPROTO_TCP: u8 = 6;
const IPPROTO_UDP: u8 = 17;
/// `UDIAG_SHOW_NAME | UDIAG_SHOW_UID`, and the attributes that carry them.
const SHOW: u32 = 0x1 | 0x40;
const UNIX_NAME: u16 = 0;
const UNIX_UID: u16 = 7;
/// `INET_DIAG_SKV6ONLY`, which every listening IPv6 socket comes with.
const V6_ONLY: u16 = 11;
/// `INET_DIAG_SKMEMINFO`, and where in it the dropped ones are (`SK_MEMINFO_DROPS`).
const MEMORY: u16 = 7;
const DROPS: usize = 8;
/// Datagrams read for one answer at most.
const DATAGRAMS: usize = 1 << 20;

/// A socket, by what identifies its owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) inode: u64,
    /// Of a Unix socket it is told since Linux 5.3.
    pub(crate) uid: Option<u32>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FoundInet {
    pub(crate) found: Found,
    pub(crate) ip: IpAddr,
    pub(crate) port: u16,
    pub(crate) families: Families,
}

/// Which clients a socket serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Families {
    /// Those of its own address family.
    Own,
    /// An IPv6 wildcard without `IPV6_V6ONLY` serves IPv4 too (ipv6(7)).
    Both,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FoundUnix {
    pub(crate) found: Found,
    pub(crate) path: PathBuf,
}

/// All TCP sockets that listen on a port, of both families.
pub(crate) fn listening_tcp(port: u16) -> io::Result<Vec<FoundInet>> {
    on_port(IPPROTO_TCP, LISTEN, port)
}

/// All TCP connections whose local port it is, of both families.
pub(crate) fn connected_tcp(port: u16) -> io::Result<Vec<FoundInet>> {
    on_port(IPPROTO_TCP, CONNECTED, port)
}

/// All UDP sockets that receive from anybody on a port, of both families.
pub(crate) fn receiving_udp(port: u16) -> io::Result<Vec<FoundInet>> {
    on_port(IPPROTO_UDP, UNCONNECTED, port)
}

/// Which table of sockets is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Table {
    Tcp,
    Udp,
}

/// A socket that takes what comes from anybody, with its queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listening {
    pub(crate) socket: FoundInet,
    /// The interface that it is bound to; 0, if to none.
    pub(crate) interface: u32,
    /// What waits in its queue.
    pub(crate) waiting: u32,
    /// What its queue has room for.
    pub(crate) room: u32,
    /// What found no room.
    pub(crate) dropped: Option<u32>,
}

/// All sockets that take what comes from anybody, of both families.
pub(crate) fn listening(table: Table, mut each: impl FnMut(Listening)) -> io::Result<()> {
    let (protocol, states) = match table {
        Table::Tcp => (IPPROTO_TCP, LISTEN),
        Table::Udp => (IPPROTO_UDP, UNCONNECTED),
    };
    for family in [AF_INET, AF_INET6] {
        let mut request = inet_request(family, protocol, states);
        // `idiag_ext`: which attributes are wanted, counted from 1.
        if let Some(extensions) = request.get_mut(2) {
            *extensions = 1 << (MEMORY - 1);
        }
        dump(&request, |payload| {
            parse_listening(payload).into_iter().for_each(&mut each);
        })?;
    }
    Ok(())
}

/// One end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FoundConnection {
    pub(crate) socket: FoundInet,
    pub(crate) remote: SocketAddr,
    pub(crate) state: u8,
    pub(crate) cookie: [u8; 8],
}

/// All connections of TCP, of both families.
pub(crate) fn connections(mut each: impl FnMut(FoundConnection)) -> io::Result<()> {
    for family in [AF_INET, AF_INET6] {
        let request = inet_request(family, IPPROTO_TCP, CONNECTED | OVER);
        dump(&request, |payload| {
            parse_connection(payload).into_iter().for_each(&mut each);
        })?;
    }
    Ok(())
}

fn parse_connection(message: &[u8]) -> Option<FoundConnection> {
    let port = u16::from_be_bytes(message.get(6..8)?.try_into().ok()?);
    Some(FoundConnection {
        socket: parse_inet(message)?,
        remote: SocketAddr::new(address(*message.first()?, message.get(24..40)?)?, port),
        state: *message.get(1)?,
        cookie: message.get(44..52)?.try_into().ok()?,
    })
}

/// An address in the room that `struct inet_diag_sockid` has for it.
fn address(family: u8, room: &[u8]) -> Option<IpAddr> {
    match family {
        AF_INET => {
            let octets: [u8; 4] = room.get(..4)?.try_into().ok()?;
            Some(IpAddr::V4(Ipv4Addr::from(octets)))
        }
        AF_INET6 => {
            let octets: [u8; 16] = room.get(..16)?.try_into().ok()?;
            Some(IpAddr::V6(Ipv6Addr::from(octets)))
        }
        _ => None,
    }
}

fn parse_listening(message: &[u8]) -> Option<Listening> {
    let memory = attribute(message.get(72..)?, MEMORY);
    Some(Listening {
        socket: parse_inet(message)?,
        interface: word(message, 40)?,
        waiting: word(message, 56)?,
        room: word(message, 60)?,
        dropped: memory.and_then(|memory| word(memory, 4 * DROPS)),
    })
}

fn on_port(protocol: u8, states: u32, port: u16) -> io::Result<Vec<FoundInet>> {
    let mut found = Vec::new();
    for family in [AF_INET, AF_INET6] {
        dump(&inet_request(family, protocol, states), |payload| {
            found.extend(parse_inet(payload));
        })?;
    }
    found.retain(|socket| socket.port == port);
    Ok(found)
}

/// Who owns the TCP socket with this local and this remote address: its state, and its owner.
pub(crate) fn tcp_socket(local: SocketAddr, remote: SocketAddr) -> io::Result<Option<(u8, Found)>> {
    let mut request = inet_request(family_of(local.ip()), IPPROTO_TCP, u32::MAX);
    let id = [
        &local.port().to_be_bytes()[..],
        &remote.port().to_be_bytes(),
        &wide(local.ip()),
        &wide(remote.ip()),
        &[0; 4],
        // `INET_DIAG_NOCOOKIE`.
        &[0xff; 8],
    ]
    .concat();
    request.truncate(8);
    request.extend(id);
    let mut found = None;
    let asked = ask(Some(SOCK_DIAG), (BY_FAMILY, ONE), &request, |payload| {
        let state = payload.get(1).copied();
        found = state.zip(parse_inet(payload).map(|socket| socket.found));
    });
    match asked {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
        Ok(()) => Ok(found),
    }
}

fn family_of(ip: IpAddr) -> u8 {
    match ip {
        IpAddr::V4(_) => AF_INET,
        IpAddr::V6(_) => AF_INET6,
    }
}

/// An address in the room that `struct inet_diag_sockid` has for it.
fn wide(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(ip) => {
            let mut wide = [0; 16];
            wide[..4].copy_from_slice(&ip.octets());
            wide
        }
        IpAddr::V6(ip) => ip.octets(),
    }
}

/// All Unix sockets that listen on a path, or on a name without a file, which begins with a zero byte.
pub(crate) fn listening_unix() -> io::Result<Vec<FoundUnix>> {
    let mut found = Vec::new();
    dump(&unix_request(), |payload| found.extend(parse_unix(payload)))?;
    Ok(found)
}

/// A socket of TCP, with what it has carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Open {
    pub(crate) listens: bool,
    /// Of one that listens.
    pub(crate) families: Families,
    pub(crate) local: SocketAddr,
    pub(crate) remote: SocketAddr,
    pub(crate) uid: u32,
    pub(crate) inode: u64,
    pub(crate) acked: u64,
    pub(crate) received: u64,
    /// The interface that it is bound to; 0, if to none.
    pub(crate) interface: u32,
    pub(crate) cookie: [u8; 8],
}

/// All sockets of TCP that listen or are connected, of both families in one walk (`TCPDIAG_GETSOCK`).
pub(crate) fn open_tcp(mut each: impl FnMut(Open)) -> io::Result<()> {
    // `struct inet_diag_req` of `linux/inet_diag.h`, 60 bytes, with an empty socket id.
    let mut request = vec![0, 0, 0, 1 << (TCP_INFO - 1)];
    request.resize(52, 0);
    request.extend((LISTEN | CONNECTED).to_ne_bytes());
    request.resize(60, 0);
    ask(Some(SOCK_DIAG), (GETSOCK, DUMP), &request, |payload| {
        parse_open(payload).into_iter().for_each(&mut each);
    })
}

fn parse_open(message: &[u8]) -> Option<Open> {
    let connection = parse_connection(message)?;
    let (acked, received) = carried(message).unwrap_or_default();
    let canonical =
        |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
    Some(Open {
        listens: connection.state == STATE_LISTEN,
        families: connection.socket.families,
        local: canonical(SocketAddr::new(
            connection.socket.ip,
            connection.socket.port,
        )),
        remote: canonical(connection.remote),
        uid: connection.socket.found.uid?,
        inode: connection.socket.found.inode,
        acked,
        received,
        interface: word(message, 40)?,
        cookie: connection.cookie,
    })
}

/// Bytes that were acknowledged and that came (`tcpi_bytes_acked`, `tcpi_bytes_received` of `linux/tcp.h`).
fn carried(message: &[u8]) -> Option<(u64, u64)> {
    let info = attribute(message.get(72..)?, TCP_INFO)?;
    let long = |at: usize| Some(u64::from_ne_bytes(info.get(at..at + 8)?.try_into().ok()?));
    Some((long(120)?, long(128)?))
}

/// What a datagram of the kernel's news says of sockets that have ended. What cannot be read is left out: it is nobody's
/// answer.
pub(crate) fn ended(datagram: &[u8], mut each: impl FnMut(Open)) {
    let _ = messages(datagram, &mut |payload| {
        parse_open(payload).into_iter().for_each(&mut each);
    });
}

/// Ends a connection by one end of it, if it is still the one that has this cookie (`SOCK_DESTROY`).
pub(crate) fn destroy(
    (local, remote): (SocketAddr, SocketAddr),
    interface: u32,
    cookie: [u8; 8],
) -> io::Result<()> {
    // A socket of IPv6 that carries IPv4 is known to the kernel by either family.
    let mut request = inet_request(family_of(local.ip()), IPPROTO_TCP, u32::MAX);
    request.truncate(8);
    request.extend(local.port().to_be_bytes());
    request.extend(remote.port().to_be_bytes());
    request.extend(wide(local.ip()));
    request.extend(wide(remote.ip()));
    // One that is bound to an interface is found by that alone.
    request.extend(interface.to_ne_bytes());
    request.extend(cookie);
    ask(
        Some(SOCK_DIAG),
        (DESTROY, ONE | ACKNOWLEDGE),
        &request,
        |_| {},
    )
}

/// `struct inet_diag_req_v2` of `linux/inet_diag.h`, 56 bytes, with an empty socket id.
fn inet_request(family: u8, protocol: u8, states: u32) -> Vec<u8> {
    let mut request = vec![family, protocol, 0, 0];
    request.extend(states.to_ne_bytes());
    request.resize(56, 0);
    request
}

/// `struct unix_diag_req` of `linux/unix_diag.h`, 24 bytes.
fn unix_request() -> Vec<u8> {
    let mut request = vec![AF_UNIX, 0, 0, 0];
    for word in [LISTEN, 0, SHOW, u32::MAX, u32::MAX] {
        request.extend(word.to_ne_bytes());
    }
    request
}

/// Asks for sockets, and hands each answer's payload to `each`.
fn dump(request: &[u8], each: impl FnMut(&[u8])) -> io::Result<()> {
    ask(Some(SOCK_DIAG), (BY_FAMILY, DUMP), request, each)
}

/// Sends one request and hands each answer's payload to `each`.
pub(crate) fn ask(
    protocol: Option<Protocol>,
    (kind, flags): (u16, u16),
    request: &[u8],
    mut each: impl FnMut(&[u8]),
) -> io::Result<()> {
    let socket = socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        protocol,
    )?;
    let mut message = Vec::with_capacity(16 + request.len());
    let length = u32::try_from(16 + request.len()).unwrap_or(u32::MAX);
    message.extend(length.to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    message.extend([0; 8]);
    message.extend(request);
    sendto(
        &socket,
        &message,
        SendFlags::empty(),
        &SocketAddrNetlink::new(0, 0),
    )?;
    receive(&socket, flags, &mut each)
}

fn receive(socket: &OwnedFd, flags: u16, each: &mut impl FnMut(&[u8])) -> io::Result<()> {
    let mut buffer = vec![0u8; 64 * 1024];
    for _ in 0..DATAGRAMS {
        let (count, _) = recv(socket, &mut buffer[..], RecvFlags::empty())?;
        match messages(buffer.get(..count).unwrap_or_default(), each)? {
            Stream::Ended => return Ok(()),
            // A question about one thing has one answer.
            Stream::GoesOn if flags == ONE => return Ok(()),
            Stream::GoesOn => {}
        }
    }
    Err(io::Error::other("the kernel's table of sockets has no end"))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stream {
    GoesOn,
    Ended,
}

/// Walks the messages of one datagram (netlink(7)).
fn messages(mut datagram: &[u8], each: &mut impl FnMut(&[u8])) -> io::Result<Stream> {
    while let (Some(length), Some(kind)) = (word(datagram, 0), half(datagram, 4)) {
        let length = length as usize;
        let Some(payload) = datagram.get(16..length) else {
            return Err(io::Error::other("a malformed answer of the kernel"));
        };
        match kind {
            // Where a dump fails in its middle, its end says so.
            DONE => match errno(payload) {
                0 => return Ok(Stream::Ended),
                errno => return Err(io::Error::from_raw_os_error(errno)),
            },
            // An acknowledgement is an error that is none.
            ERROR if errno(payload) == 0 => return Ok(Stream::Ended),
            ERROR => return Err(io::Error::from_raw_os_error(errno(payload))),
            _ => each(payload),
        }
        let aligned = length.div_ceil(4) * 4;
        datagram = datagram.get(aligned..).unwrap_or_default();
    }
    Ok(Stream::GoesOn)
}

/// The error that a message begins with, or 0.
fn errno(payload: &[u8]) -> i32 {
    let told = word(payload, 0).map_or(0, |errno| errno as i32);
    told.min(0).saturating_neg()
}

/// `struct inet_diag_msg` of `linux/inet_diag.h`, 72 bytes, and its attributes.
fn parse_inet(message: &[u8]) -> Option<FoundInet> {
    let port = u16::from_be_bytes(message.get(4..6)?.try_into().ok()?);
    let ip = address(*message.first()?, message.get(8..24)?)?;
    let found = Found {
        uid: Some(word(message, 64)?),
        inode: word(message, 68)?.into(),
    };
    let v6_only = attribute(message.get(72..)?, V6_ONLY).is_some_and(|value| value != [0]);
    let families = match ip {
        IpAddr::V6(ip) if ip.is_unspecified() && !v6_only => Families::Both,
        _ => Families::Own,
    };
    Some(FoundInet {
        found,
        ip,
        port,
        families,
    })
}

/// `struct unix_diag_msg` of `linux/unix_diag.h`, 16 bytes, and its attributes.
fn parse_unix(message: &[u8]) -> Option<FoundUnix> {
    let inode = u64::from(word(message, 4)?);
    let attributes = message.get(16..)?;
    let name = attribute(attributes, UNIX_NAME)?;
    let name = name.strip_suffix(&[0]).unwrap_or(name);
    // A name without a file begins with a zero byte; a relative path leads nobody there.
    if !name.starts_with(b"/") && !name.starts_with(&[0]) {
        return None;
    }
    let uid = attribute(attributes, UNIX_UID).and_then(|value| word(value, 0));
    Some(FoundUnix {
        found: Found { inode, uid },
        path: OsStr::from_bytes(name).into(),
    })
}

/// The value of the first attribute of this kind (`struct nlattr` of `linux/netlink.h`).
pub(crate) fn attribute(mut attributes: &[u8], wanted: u16) -> Option<&[u8]> {
    while let (Some(length), Some(kind)) = (half(attributes, 0), half(attributes, 2)) {
        let length = usize::from(length);
        let value = attributes.get(4..length)?;
        if kind == wanted {
            return Some(value);
        }
        attributes = attributes.get(length.div_ceil(4) * 4..)?;
    }
    None
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

#[cfg(test)]
mod tests;

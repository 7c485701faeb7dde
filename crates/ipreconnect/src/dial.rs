//! Dialling one address: sockets, their options, and what their errors mean.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::Duration;

use crate::socket::{Socket, register};
use ipreconnect_core::address::Address;
use ipreconnect_core::carried::Announce;
use ipreconnect_core::failure::{Cause, Failure};
use rustix::io::Errno;
use socket2::{Domain, SockAddr, TcpKeepalive, Type};
use tokio::io::Interest;

/// A path that carries nothing for this long is asked whether it is still there.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(5);
/// Between two questions.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(1);
/// Questions without an answer until the connection is dead. A peer that answers is never cut,
/// however slowly it reads.
const KEEPALIVE_RETRIES: u32 = 5;

/// How to dial.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Dialer {
    /// The local address to dial from.
    pub(crate) source: Option<IpAddr>,
    /// The local ports to dial from, the first and the last.
    pub(crate) ports: Option<(u16, u16)>,
    /// How the other end is told whose connection it is.
    pub(crate) announce: Option<Announce>,
}

impl Dialer {
    /// Connects to `address`, on the runtime of the caller.
    ///
    /// Cancel safety: dropping the future closes the socket; nothing was sent but the handshake.
    pub(crate) async fn connect(self, address: &Address) -> Result<Socket, Failure> {
        self.connect_for(address, None).await
    }

    /// The same, for somebody whose header that is. It stands before everything else.
    ///
    /// Cancel safety: dropping the future closes the socket; nothing was sent but the handshake and the header.
    pub(crate) async fn connect_for(
        self,
        address: &Address,
        header: Option<&[u8]>,
    ) -> Result<Socket, Failure> {
        let socket = self.socket(address).map_err(|error| failure(&error))?;
        let peer = sock_addr(address).map_err(|error| failure(&error))?;
        match socket.connect(&peer) {
            Ok(()) => {}
            Err(error) if is_underway(&error) => {}
            Err(error) => return Err(failure(&error)),
        }
        let socket = register(OwnedFd::from(socket)).map_err(|error| failure(&error))?;
        established(&socket).await?;
        match (self.announce, header) {
            (None, _) => {}
            (Some(_), Some(header)) => announce(&socket, header)?,
            (Some(version), None) => announce(&socket, &version.own())?,
        }
        Ok(socket)
    }

    /// A fresh, non-blocking socket for `address`, with all options set.
    pub(crate) fn socket(self, address: &Address) -> io::Result<socket2::Socket> {
        let (domain, kind) = match address {
            Address::Tcp(to) => (Domain::for_address(*to), Type::STREAM),
            Address::Udp(to) => (Domain::for_address(*to), Type::DGRAM),
            Address::Unix(_) => (Domain::UNIX, Type::STREAM),
        };
        let socket = socket2::Socket::new(domain, kind.nonblocking().cloexec(), None)?;
        if let Address::Tcp(_) = address {
            socket.set_tcp_nodelay(true)?;
            // An urgent byte keeps its place among the others (RFC 6093, section 5).
            socket.set_out_of_band_inline(true)?;
            // Between two programs of one machine there is no path to lose.
            if !address.is_local() {
                socket.set_tcp_keepalive(
                    &TcpKeepalive::new()
                        .with_time(KEEPALIVE_IDLE)
                        .with_interval(KEEPALIVE_INTERVAL)
                        .with_retries(KEEPALIVE_RETRIES),
                )?;
            }
        }
        if let Some((first, last)) = self.ports.filter(|_| domain != Domain::UNIX) {
            crate::sense::options::local_port_range(&socket, first, last)?;
        }
        if let Some(source) = self.source.filter(|_| domain != Domain::UNIX) {
            // Without this the port is chosen before the destination is known, and all destinations
            // share one range (ip(7)).
            crate::sense::options::bind_address_no_port(&socket)?;
            socket.bind(&SockAddr::from(SocketAddr::new(source, 0)))?;
        }
        Ok(socket)
    }
}

/// Sends a header, for which a fresh socket always has room.
fn announce(socket: &Socket, header: &[u8]) -> Result<(), Failure> {
    let flags = rustix::net::SendFlags::NOSIGNAL;
    match rustix::net::send(socket.get_ref(), header, flags) {
        Ok(count) if count == header.len() => Ok(()),
        Ok(_) => Err(failure(&io::ErrorKind::WriteZero.into())),
        Err(error) => Err(failure(&error.into())),
    }
}

/// The address in the kernel's terms.
pub(crate) fn sock_addr(address: &Address) -> io::Result<SockAddr> {
    match address {
        Address::Tcp(address) | Address::Udp(address) => Ok(SockAddr::from(*address)),
        Address::Unix(path) => SockAddr::unix(path),
    }
}

pub(crate) fn is_underway(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::INPROGRESS.raw_os_error())
}

/// Waits until the handshake is over.
async fn established(socket: &Socket) -> Result<(), Failure> {
    loop {
        let mut guard = socket
            .ready(Interest::WRITABLE)
            .await
            .map_err(|error| failure(&error))?;
        // Asking for the peer's name fails until the handshake is over (getpeername(2)).
        if rustix::net::getpeername(socket.get_ref()).is_ok() {
            return Ok(());
        }
        match rustix::net::sockopt::socket_error(socket.get_ref()) {
            Ok(Ok(())) => {}
            Ok(Err(errno)) | Err(errno) => return Err(failure(&errno.into())),
        }
        guard.clear_ready();
    }
}

/// What an error of the socket layer says about the endpoint.
#[must_use]
pub(crate) fn failure(error: &io::Error) -> Failure {
    let cause = match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::CONNREFUSED | Errno::NOENT) => Cause::Refused,
        // A router that drops by rule, or a protocol that nobody has (icmp(7)).
        Some(Errno::NOPROTOOPT) => Cause::Unreachable,
        Some(Errno::CONNRESET | Errno::CONNABORTED | Errno::PIPE) => Cause::Reset,
        Some(Errno::TIMEDOUT) => Cause::TimedOut,
        Some(
            Errno::HOSTUNREACH
            | Errno::NETUNREACH
            | Errno::HOSTDOWN
            | Errno::NETDOWN
            | Errno::NONET,
        ) => Cause::Unreachable,
        Some(Errno::ADDRNOTAVAIL | Errno::ADDRINUSE) => Cause::NoLocalPort,
        Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => Cause::NoResources,
        Some(Errno::PERM | Errno::ACCESS) => Cause::Forbidden,
        // A Unix socket whose backlog is full says so instead of waiting.
        Some(Errno::AGAIN) => Cause::TimedOut,
        _ => return Failure::with_detail(Cause::Other, error.to_string()),
    };
    Failure::new(cause)
}

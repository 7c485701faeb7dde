//! A UDP port that can be closed without being given away.

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use std::io;
use std::net::{IpAddr, SocketAddr};
use tokio::net::UdpSocket;

/// A bound socket. Connected to itself it is closed to everybody else: the kernel finds no socket
/// for what they send, and answers that the port is unreachable.
pub(super) struct Port {
    socket: UdpSocket,
    address: SocketAddr,
}

impl Port {
    /// A free port of this address.
    pub(super) fn on(ip: IpAddr) -> io::Result<Self> {
        let found = bound(SocketAddr::new(ip, 0))?;
        let address = found
            .local_addr()?
            .as_socket()
            .ok_or(io::ErrorKind::AddrNotAvailable)?;
        // Dissolving an association gives up a port that the kernel chose, but not one that was
        // asked for: ask for the one that was found.
        let socket = bound(address)?;
        Ok(Self {
            socket: UdpSocket::from_std(socket.into())?,
            address,
        })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The socket, whose peer may be anybody.
    pub(super) fn socket(&self) -> &UdpSocket {
        &self.socket
    }

    pub(super) fn close(&self) -> io::Result<()> {
        SockRef::from(&self.socket).connect(&self.address.into())
    }

    pub(super) fn open(&self) -> io::Result<()> {
        Ok(rustix::net::connect_unspec(&self.socket)?)
    }
}

fn bound(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::DGRAM.nonblocking(),
        Some(Protocol::UDP),
    )?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

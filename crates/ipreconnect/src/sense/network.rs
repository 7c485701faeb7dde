//! Changes of this machine's addresses, links and routes, as rtnetlink(7) tells them.

use std::io;

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, bind, recv, socket_with};
use tokio::io::Interest;

use crate::socket::{Socket, register};

/// `RTMGRP_LINK`, `RTMGRP_IPV4_IFADDR`, `RTMGRP_IPV4_ROUTE`, `RTMGRP_IPV6_IFADDR` and
/// `RTMGRP_IPV6_ROUTE` of `linux/rtnetlink.h`.
const GROUPS: u32 = 0x1 | 0x10 | 0x40 | 0x100 | 0x400;

/// Tells that the network of this machine changed.
#[derive(Debug)]
pub struct NetworkWatch {
    socket: Socket,
}

impl NetworkWatch {
    /// Begins to watch, on the runtime of the caller.
    ///
    /// # Errors
    /// If this kernel or its sandbox gives no netlink socket.
    pub fn new() -> io::Result<Self> {
        let socket = socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::NONBLOCK | SocketFlags::CLOEXEC,
            None,
        )?;
        bind(&socket, &SocketAddrNetlink::new(0, GROUPS))?;
        Ok(Self {
            socket: register(socket)?,
        })
    }

    /// Waits for the next change. Several that come together are told once.
    ///
    /// Cancel safety: a change that came is told by the next call.
    ///
    /// # Errors
    /// If the socket fails; messages lost by an overrun count as a change.
    pub async fn changed(&self) -> io::Result<()> {
        loop {
            let mut guard = self.socket.ready(Interest::READABLE).await?;
            if self.drain()? {
                return Ok(());
            }
            guard.clear_ready();
        }
    }

    fn drain(&self) -> io::Result<bool> {
        let mut buffer = [0u8; 8192];
        let mut any = false;
        loop {
            match recv(self.socket.get_ref(), &mut buffer, RecvFlags::empty()) {
                Ok(_) | Err(rustix::io::Errno::NOBUFS) => any = true,
                Err(rustix::io::Errno::AGAIN) => return Ok(any),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

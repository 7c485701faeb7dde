//! One open connection to an endpoint.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use ipreconnect_core::address::{Address, EndpointId};
use rustix::net::{RecvFlags, SendFlags, Shutdown};

use crate::socket::Socket;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::meter::Usage;

/// An open connection to an endpoint of an origin, over TCP or a Unix socket.
///
/// Dropping it ends the connection in both directions by an explicit `shutdown(2)`.
#[derive(Debug)]
pub struct Link {
    socket: Option<Socket>,
    endpoint: EndpointId,
    address: Address,
    usage: Option<Usage>,
}

/// What a [`Link`] is made of, for those who carry bytes themselves.
#[derive(Debug)]
pub struct Parts {
    /// The connected, non-blocking socket, registered with the runtime it was dialled on.
    pub socket: Socket,
    /// The endpoint.
    pub endpoint: EndpointId,
    /// Its address.
    pub address: Address,
    /// Counts the link as open until dropped.
    pub usage: Usage,
}

impl Link {
    pub(crate) fn new(
        socket: Socket,
        endpoint: EndpointId,
        address: Address,
        usage: Usage,
    ) -> Self {
        Self {
            socket: Some(socket),
            endpoint,
            address,
            usage: Some(usage),
        }
    }

    /// The endpoint it leads to.
    #[must_use]
    pub fn endpoint(&self) -> EndpointId {
        self.endpoint
    }

    /// The address it leads to.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Takes it apart. Whoever does must end the socket by `shutdown(2)` in the end.
    ///
    /// # Panics
    /// Never: the parts leave only here, and this takes the link itself.
    #[must_use]
    pub fn into_parts(mut self) -> Parts {
        let (Some(socket), Some(usage)) = (self.socket.take(), self.usage.take()) else {
            unreachable!("the parts of a link leave only with the link itself")
        };
        Parts {
            socket,
            endpoint: self.endpoint,
            address: self.address.clone(),
            usage,
        }
    }

    fn socket(&self) -> io::Result<&Socket> {
        self.socket
            .as_ref()
            .ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        if let Some(socket) = &self.socket {
            // A peer that is gone already has nothing left to shut down.
            let _ = rustix::net::shutdown(socket.get_ref(), Shutdown::Both);
        }
    }
}

impl AsFd for Link {
    /// # Panics
    /// Never: the socket leaves only with the link itself.
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.socket {
            Some(socket) => socket.get_ref().as_fd(),
            None => unreachable!("the socket leaves only with the link itself"),
        }
    }
}

impl AsyncRead for Link {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let socket = self.socket()?;
        loop {
            let mut guard = ready!(socket.poll_read_ready(cx))?;
            let received = guard.try_io(|socket| {
                let free = buf.initialize_unfilled();
                Ok(rustix::net::recv(socket.get_ref(), free, RecvFlags::empty())?.1)
            });
            match received {
                Ok(Ok(count)) => {
                    buf.advance(count);
                    return Poll::Ready(Ok(()));
                }
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(Err(error)) => return Poll::Ready(Err(error)),
                Err(_would_block) => {}
            }
        }
    }
}

impl AsyncWrite for Link {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let socket = self.socket()?;
        loop {
            let mut guard = ready!(socket.poll_write_ready(cx))?;
            let sent = guard.try_io(|socket| {
                Ok(rustix::net::send(
                    socket.get_ref(),
                    bytes,
                    SendFlags::NOSIGNAL,
                )?)
            });
            match sent {
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(result) => return Poll::Ready(result),
                Err(_would_block) => {}
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let socket = self.socket()?;
        match rustix::net::shutdown(socket.get_ref(), Shutdown::Write) {
            Ok(()) | Err(rustix::io::Errno::NOTCONN) => Poll::Ready(Ok(())),
            Err(error) => Poll::Ready(Err(error.into())),
        }
    }
}

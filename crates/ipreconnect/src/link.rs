//! One open connection to an endpoint.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use ipreconnect_core::address::{Address, EndpointId};
use rustix::net::{RecvFlags, SendFlags, Shutdown};

use crate::socket::Socket;
use crate::tls::{Received, Session};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::meter::Usage;

/// An open connection to an endpoint of an origin, over TCP or a Unix socket, and inside TLS where the
/// origin has it. An end of the connection that TLS was not told of is an error of reading, since
/// something may be missing.
///
/// Dropping it ends the connection in both directions by an explicit `shutdown(2)`.
#[derive(Debug)]
pub struct Link {
    socket: Option<Socket>,
    tls: Option<Box<Session>>,
    /// What has come and is not yet read: decrypted, or put back.
    plain: Vec<u8>,
    endpoint: EndpointId,
    address: Address,
    usage: Option<Usage>,
}

/// What a [`Link`] is made of, for those who carry bytes themselves.
#[derive(Debug)]
pub struct Parts {
    /// The connected, non-blocking socket, registered with the runtime it was dialled on.
    pub socket: Socket,
    /// TLS on it, open and its server proven; all that goes through the socket goes through this.
    pub tls: Option<Box<Session>>,
    /// The endpoint.
    pub endpoint: EndpointId,
    /// Its address.
    pub address: Address,
    /// Counts the link as open until dropped.
    pub usage: Usage,
    /// What has come already, and comes before everything else.
    pub early: Vec<u8>,
}

impl Link {
    pub(crate) fn new(
        socket: Socket,
        tls: Option<Box<Session>>,
        endpoint: EndpointId,
        address: Address,
        usage: Usage,
    ) -> Self {
        Self {
            socket: Some(socket),
            tls,
            plain: Vec::new(),
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

    /// TLS on it, if its origin has it.
    #[must_use]
    pub fn tls(&self) -> Option<&Session> {
        self.tls.as_deref()
    }

    /// Puts back what was read and belongs to somebody else: it is read first.
    pub fn put_back(&mut self, bytes: &[u8]) {
        self.plain.splice(..0, bytes.iter().copied());
    }

    /// The same link, as one of another origin's.
    pub(crate) fn of(mut self, endpoint: EndpointId) -> Self {
        self.endpoint = endpoint;
        self
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
            tls: self.tls.take(),
            endpoint: self.endpoint,
            address: self.address.clone(),
            usage,
            early: std::mem::take(&mut self.plain),
        }
    }

    fn socket(&self) -> io::Result<&Socket> {
        self.socket
            .as_ref()
            .ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

/// Plaintext that is written to TLS at once.
const CHUNK: usize = 16 * 1024;

fn read_plain(
    tls: &mut Session,
    plain: &mut Vec<u8>,
    socket: &Socket,
    cx: &mut Context<'_>,
    buf: &mut ReadBuf<'_>,
) -> Poll<io::Result<()>> {
    while plain.is_empty() {
        match ready!(tls.poll_receive(cx, socket, &mut |bytes| plain.extend_from_slice(bytes)))? {
            Received::Bytes(_) => {
                // An answer of TLS itself; what is left of it goes with the next flush.
                let _ = tls.poll_flush(cx, socket)?;
            }
            Received::Closed => return Poll::Ready(Ok(())),
            Received::Truncated => {
                let why = "the connection ended without TLS's close_notify";
                let error = io::Error::new(io::ErrorKind::UnexpectedEof, why);
                return Poll::Ready(Err(error));
            }
        }
    }
    take_plain(plain, buf);
    Poll::Ready(Ok(()))
}

fn take_plain(plain: &mut Vec<u8>, buf: &mut ReadBuf<'_>) {
    let count = plain.len().min(buf.remaining());
    buf.put_slice(plain.get(..count).unwrap_or_default());
    plain.drain(..count);
}

impl Drop for Link {
    fn drop(&mut self) {
        if let Some(socket) = &self.socket {
            if let Some(tls) = &mut self.tls {
                // The peer that does not take it learns by the end of the connection.
                let _ = tls.close(socket);
            }
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
        let link = self.get_mut();
        if !link.plain.is_empty() {
            take_plain(&mut link.plain, buf);
            return Poll::Ready(Ok(()));
        }
        if let (Some(tls), Some(socket)) = (&mut link.tls, &link.socket) {
            return read_plain(tls, &mut link.plain, socket, cx, buf);
        }
        let socket = link.socket()?;
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
        let link = self.get_mut();
        if let (Some(tls), Some(socket)) = (&mut link.tls, &link.socket) {
            ready!(tls.poll_flush(cx, socket))?;
            let bytes = bytes.get(..CHUNK).unwrap_or(bytes);
            tls.send(socket, bytes)?;
            return Poll::Ready(Ok(bytes.len()));
        }
        let socket = link.socket()?;
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

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let link = self.get_mut();
        match (&mut link.tls, &link.socket) {
            (Some(tls), Some(socket)) => tls.poll_flush(cx, socket),
            _ => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let link = self.get_mut();
        if let (Some(tls), Some(socket)) = (&mut link.tls, &link.socket) {
            return tls.poll_shutdown(cx, socket);
        }
        let socket = link.socket()?;
        match rustix::net::shutdown(socket.get_ref(), Shutdown::Write) {
            Ok(()) | Err(rustix::io::Errno::NOTCONN) => Poll::Ready(Ok(())),
            Err(error) => Poll::Ready(Err(error.into())),
        }
    }
}

//! Looking at an endpoint without a client: the half-open check, and the hang-up check.

use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use crate::socket::{Socket, register};
use ipreconnect_core::address::Address;
use ipreconnect_core::failure::{Cause, Failure};
use rustix::net::{RecvFlags, Shutdown, recv, shutdown};
use tokio::io::Interest;

use crate::clock;
use crate::dial::{Dialer, failure, is_underway, sock_addr};

/// The half-open check: SYN, SYN-ACK, reset.
///
/// With quick acknowledgements off the kernel delays the last packet of the handshake, and closing
/// with a linger time of zero sends a reset in its place: the server's kernel never hands the
/// connection to its application. A Unix socket has no such thing and sees one accept.
///
/// Cancel safety: dropping the future ends the probe.
pub(crate) async fn handshake(
    dialer: Dialer,
    address: &Address,
    patience: Duration,
) -> Result<Duration, Failure> {
    let began = clock::now();
    let attempt = async {
        let socket = dialer.socket(address).map_err(|error| failure(&error))?;
        if let Address::Tcp(_) = address {
            rustix::net::sockopt::set_tcp_quickack(&socket, false)
                .map_err(|error| failure(&error.into()))?;
            socket
                .set_linger(Some(Duration::ZERO))
                .map_err(|error| failure(&error))?;
        }
        let peer = sock_addr(address).map_err(|error| failure(&error))?;
        match socket.connect(&peer) {
            Ok(()) => return Ok(()),
            Err(error) if is_underway(&error) => {}
            Err(error) => return Err(failure(&error)),
        }
        let socket = register(OwnedFd::from(socket)).map_err(|error| failure(&error))?;
        let _writable = socket
            .ready(Interest::WRITABLE)
            .await
            .map_err(|error| failure(&error))?;
        match rustix::net::sockopt::socket_error(socket.get_ref()) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(errno)) | Err(errno) => Err(failure(&errno.into())),
        }
    };
    match tokio::time::timeout(patience, attempt).await {
        Ok(Ok(())) => Ok(began.elapsed()),
        Ok(Err(failure)) => Err(failure),
        Err(_) => Err(Failure::new(Cause::TimedOut)),
    }
}

/// A connection that was half-closed at once, and whose end is awaited.
#[derive(Debug)]
pub(crate) struct HangUp {
    socket: Socket,
    began: Instant,
}

impl HangUp {
    /// Connects and half-closes.
    pub(crate) async fn begin(
        dialer: Dialer,
        address: &Address,
        patience: Duration,
    ) -> Result<Self, Failure> {
        let began = clock::now();
        let socket = match tokio::time::timeout(patience, dialer.connect(address)).await {
            Ok(connected) => connected?,
            Err(_) => return Err(Failure::new(Cause::TimedOut)),
        };
        shutdown(socket.get_ref(), Shutdown::Write).map_err(|error| failure(&error.into()))?;
        Ok(Self { socket, began })
    }

    /// Waits until the peer's application closes the connection or says something.
    ///
    /// Cancel safety: can be called again.
    pub(crate) async fn answered(&self) -> Result<Duration, Failure> {
        loop {
            let mut guard = self
                .socket
                .ready(Interest::READABLE)
                .await
                .map_err(|error| failure(&error))?;
            let mut bytes = [0u8; 64];
            match recv(self.socket.get_ref(), &mut bytes, RecvFlags::empty()) {
                Ok(_) => return Ok(self.began.elapsed()),
                Err(rustix::io::Errno::AGAIN) => guard.clear_ready(),
                Err(error) => return Err(failure(&io::Error::from(error))),
            }
        }
    }
}

impl Drop for HangUp {
    fn drop(&mut self) {
        let _ = shutdown(self.socket.get_ref(), Shutdown::Both);
    }
}

//! Looking at an endpoint without a client: the half-open check, the hang-up check, and
//! the proof, with a question or without.

mod question;

use std::future::poll_fn;
use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use crate::socket::{Socket, register};
use ipreconnect_core::address::{Address, EntryId};
use ipreconnect_core::failure::{Cause, Failure};
use rustix::net::{RecvFlags, Shutdown, recv, shutdown};
use tokio::io::Interest;

use crate::clock;
use crate::dial::{Dialer, failure, is_underway, sock_addr};
use crate::shared::Shared;
use crate::tls::{self, Session};

pub(crate) use question::question;

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

/// A server that refuses our certificate, or the lack of one, says so behind a handshake that was
/// complete for us (RFC 8446, section 4.4.2.4).
const LATE_REFUSAL: Duration = Duration::from_millis(50);

/// A whole connection, proven as a client's is before its first byte, and ended in order.
///
/// Cancel safety: dropping the future ends the probe.
pub(crate) async fn proof(
    shared: &Shared,
    dialer: Dialer,
    entry: EntryId,
    address: &Address,
    patience: Duration,
) -> Result<Duration, Failure> {
    let began = clock::now();
    let attempt = open(shared, dialer, entry, address);
    let (socket, session) = match tokio::time::timeout(patience, attempt).await {
        Ok(opened) => opened?,
        Err(_) => return Err(Failure::new(Cause::TimedOut)),
    };
    let took = began.elapsed();
    let Some(mut session) = session else {
        return Ok(took);
    };
    let late = poll_fn(|cx| session.poll_receive(cx, &socket, &mut |_| {}));
    if let Ok(Err(error)) = tokio::time::timeout(LATE_REFUSAL, late).await
        && let Ok(error) = error.downcast::<rustls::Error>()
    {
        return Err(tls::failure_of(&error));
    }
    // The proof stands, whether the server hears of its end or not.
    let _ = session.close(&socket);
    let _ = shutdown(socket.get_ref(), Shutdown::Both);
    Ok(took)
}

/// Connects, and proves the server where the origin has TLS.
async fn open(
    shared: &Shared,
    dialer: Dialer,
    entry: EntryId,
    address: &Address,
) -> Result<(Socket, Option<Box<Session>>), Failure> {
    let socket = dialer.connect(address).await?;
    let connector = shared.tls.load_full();
    let session = match &connector {
        Some(connector) => Some(shared.open(connector, &socket, entry, address).await?.0),
        None => None,
    };
    Ok((socket, session))
}

/// A datagram may be lost, and its refusal too: so long after it, silence means that nobody refused.
const NOT_REFUSED: Duration = Duration::from_millis(250);

/// The look at a UDP endpoint that was refused: an empty datagram, and no ICMP error within a quarter
/// of a second. Nothing more can be known of a protocol that is not known; a server that is back sees
/// one empty datagram.
///
/// Cancel safety: dropping the future ends the probe.
pub(crate) async fn knock(
    dialer: Dialer,
    address: &Address,
    patience: Duration,
) -> Result<Duration, Failure> {
    let socket = dialer.connect(address).await?;
    rustix::net::send(socket.get_ref(), &[], rustix::net::SendFlags::NOSIGNAL)
        .map_err(|error| failure(&error.into()))?;
    let refused = async {
        loop {
            let mut guard = match socket.ready(Interest::READABLE | Interest::ERROR).await {
                Ok(guard) => guard,
                Err(error) => return Err(failure(&error)),
            };
            match recv(socket.get_ref(), &mut [0u8; 16], RecvFlags::empty()) {
                Ok(_) => return Ok(()),
                Err(rustix::io::Errno::AGAIN) => guard.clear_ready(),
                Err(error) => return Err(failure(&io::Error::from(error))),
            }
        }
    };
    match tokio::time::timeout(patience.min(NOT_REFUSED), refused).await {
        Ok(Err(failure)) => Err(failure),
        // How long an answer takes is not known by this.
        Ok(Ok(())) | Err(_) => Ok(Duration::ZERO),
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

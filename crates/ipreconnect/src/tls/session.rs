//! One TLS connection over one socket, on either side of it.
//!
//! Nothing is buffered that need not be: ciphertext is read into a buffer that the whole thread shares
//! and decrypted there, plaintext is encrypted into another one and sent from it. A session keeps what
//! is not a whole record yet, and what its socket did not take.

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown};
use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::EncryptError;
use rustls::{ClientConfig, CommonState, Error, HandshakeKind, ServerConfig};

use super::records::{Step, Writer, step, write};
use crate::socket::Socket;

/// The shared buffer of what comes in: the longest message of a handshake (64 KiB, by rustls), its
/// records' headers, and more than one record of data.
const INCOMING: usize = 128 * 1024;
/// Plaintext that is encrypted at once.
const CHUNK: usize = 64 * 1024;
/// What the records of a chunk need beside it: header, tag, nonce, type, padding (RFC 8446, section 5).
const OVERHEAD: usize = 1024;

thread_local! {
    static IN: RefCell<Box<[u8]>> = RefCell::new(vec![0; INCOMING].into());
    static OUT: RefCell<Box<[u8]>> = RefCell::new(vec![0; CHUNK + OVERHEAD].into());
}

/// A TLS connection. It owns no socket: every call is handed the one it belongs to.
pub struct Session {
    connection: Connection,
    /// Ciphertext that is not a whole record, or not a whole message of the handshake.
    incoming: Vec<u8>,
    /// Ciphertext that the socket did not take.
    outgoing: Vec<u8>,
    sent: usize,
    /// What the peer said right behind its handshake.
    early: Vec<u8>,
    peer_closed: bool,
    closed: bool,
}

enum Connection {
    Client(Box<UnbufferedClientConnection>),
    Server(Box<UnbufferedServerConnection>),
}

/// What came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// So many bytes of ciphertext; what they hold was delivered, and may be nothing.
    Bytes(usize),
    /// The peer said that nothing more comes.
    Closed,
    /// The connection ended without that word: something may be missing (RFC 8446, section 6.1).
    Truncated,
}

/// Why a handshake failed.
#[derive(Debug)]
pub enum Trouble {
    /// The socket failed.
    Socket(io::Error),
    /// The peer closed the connection.
    Closed,
    /// TLS itself.
    Tls(Error),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Tls(error)
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(error) => error.fmt(f),
            Self::Closed => f.write_str("the peer closed the connection during the handshake"),
            Self::Tls(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Trouble {}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("version", &self.version())
            .field("peer_closed", &self.peer_closed)
            .field("closed", &self.closed)
            .finish_non_exhaustive()
    }
}

impl Session {
    /// The client's side.
    ///
    /// # Errors
    /// If the configuration allows nothing.
    pub(crate) fn client(
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
    ) -> Result<Self, Error> {
        let connection = UnbufferedClientConnection::new(config, name)?;
        Ok(Self::new(Connection::Client(Box::new(connection))))
    }

    /// The server's side.
    ///
    /// # Errors
    /// If the configuration allows nothing.
    pub fn server(config: Arc<ServerConfig>) -> Result<Self, Error> {
        let connection = UnbufferedServerConnection::new(config)?;
        Ok(Self::new(Connection::Server(Box::new(connection))))
    }

    fn new(connection: Connection) -> Self {
        Self {
            connection,
            incoming: Vec::new(),
            outgoing: Vec::new(),
            sent: 0,
            early: Vec::new(),
            peer_closed: false,
            closed: false,
        }
    }

    fn state(&self) -> &CommonState {
        match &self.connection {
            Connection::Client(connection) => connection,
            Connection::Server(connection) => connection,
        }
    }

    /// The chain that the peer presented, its own certificate first.
    #[must_use]
    pub fn peer_certificates(&self) -> &[CertificateDer<'static>] {
        self.state().peer_certificates().unwrap_or_default()
    }

    /// The protocol that was agreed upon (ALPN, RFC 7301).
    #[must_use]
    pub fn alpn(&self) -> Option<&[u8]> {
        self.state().alpn_protocol()
    }

    /// The version, as people call it.
    #[must_use]
    pub fn version(&self) -> &'static str {
        match self.state().protocol_version() {
            Some(rustls::ProtocolVersion::TLSv1_3) => "TLS 1.3",
            Some(rustls::ProtocolVersion::TLSv1_2) => "TLS 1.2",
            _ => "none",
        }
    }

    /// The suite of ciphers and the group of the key exchange, as they are registered.
    #[must_use]
    pub fn suite(&self) -> Option<String> {
        let suite = self.state().negotiated_cipher_suite()?.suite();
        let group = self.state().negotiated_key_exchange_group();
        Some(match group {
            Some(group) => format!("{suite:?}, {:?}", group.name()),
            None => format!("{suite:?}"),
        })
    }

    /// Whether an earlier session was resumed.
    #[must_use]
    pub fn is_resumed(&self) -> bool {
        self.state().handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// Keeps plaintext that came already for whoever reads first.
    pub(crate) fn keep_early(&mut self, bytes: Vec<u8>) {
        if self.early.is_empty() {
            self.early = bytes;
        } else {
            self.early.extend(bytes);
        }
    }

    /// Makes the handshake.
    ///
    /// # Errors
    /// Whatever is in the way. The peer was told, as far as the socket took it.
    ///
    /// # Cancel safety
    /// Can be called again.
    pub async fn handshake(&mut self, socket: &Socket) -> Result<(), Trouble> {
        loop {
            if let Err(error) = self.advance() {
                // A full socket is no reason to wait: the peer learns of it by the end, too.
                let _ = self.push(socket);
                return Err(error.into());
            }
            std::future::poll_fn(|cx| self.poll_flush(cx, socket))
                .await
                .map_err(Trouble::Socket)?;
            if !self.state().is_handshaking() {
                return Ok(());
            }
            let mut early = std::mem::take(&mut self.early);
            let received = std::future::poll_fn(|cx| {
                self.poll_receive(cx, socket, &mut |bytes| early.extend_from_slice(bytes))
            })
            .await;
            self.early = early;
            match received {
                Ok(Received::Bytes(_)) => {}
                Ok(Received::Closed | Received::Truncated) => return Err(Trouble::Closed),
                Err(error) => {
                    let _ = self.push(socket);
                    return Err(match error.downcast::<Error>() {
                        Ok(error) => Trouble::Tls(error),
                        Err(error) => Trouble::Socket(error),
                    });
                }
            }
        }
    }

    /// Works with what has come already.
    fn advance(&mut self) -> Result<(), Error> {
        let mut incoming = std::mem::take(&mut self.incoming);
        let mut early = std::mem::take(&mut self.early);
        let (used, result) = self.process(&mut incoming, &mut |bytes| {
            early.extend_from_slice(bytes);
        });
        self.early = early;
        incoming.drain(..used);
        self.incoming = incoming;
        result
    }

    /// Works with ciphertext; returns how much of it is done with.
    fn process(
        &mut self,
        bytes: &mut [u8],
        deliver: &mut dyn FnMut(&[u8]),
    ) -> (usize, Result<(), Error>) {
        let mut used = 0;
        loop {
            let rest = bytes.get_mut(used..).unwrap_or_default();
            let (discard, step) = match &mut self.connection {
                Connection::Client(connection) => step(
                    connection.process_tls_records(rest),
                    &mut self.outgoing,
                    deliver,
                ),
                Connection::Server(connection) => step(
                    connection.process_tls_records(rest),
                    &mut self.outgoing,
                    deliver,
                ),
            };
            used += discard;
            match step {
                Ok(Step::More) => {}
                Ok(Step::PeerClosed) => self.peer_closed = true,
                Ok(Step::Rest) => return (used, Ok(())),
                Err(error) => {
                    let rest = bytes.get_mut(used..).unwrap_or_default();
                    used += self.take_alert(rest);
                    return (used, Err(error));
                }
            }
        }
    }

    /// After an error there may be an alert that tells the peer of it; once, since what was wrong would
    /// be found again. Returns how much more of the ciphertext is done with: the positions that rustls
    /// keeps in it must stay true.
    fn take_alert(&mut self, bytes: &mut [u8]) -> usize {
        let (discard, _) = match &mut self.connection {
            Connection::Client(connection) => step(
                connection.process_tls_records(bytes),
                &mut self.outgoing,
                &mut |_| {},
            ),
            Connection::Server(connection) => step(
                connection.process_tls_records(bytes),
                &mut self.outgoing,
                &mut |_| {},
            ),
        };
        discard
    }

    /// Receives once, and delivers what the records hold.
    ///
    /// # Errors
    /// Those of the socket; those of TLS as [`rustls::Error`] inside.
    pub fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        socket: &Socket,
        deliver: &mut dyn FnMut(&[u8]),
    ) -> Poll<io::Result<Received>> {
        if !self.early.is_empty() && !self.state().is_handshaking() {
            let early = std::mem::take(&mut self.early);
            deliver(&early);
            return Poll::Ready(Ok(Received::Bytes(early.len())));
        }
        if self.peer_closed {
            return Poll::Ready(Ok(Received::Closed));
        }
        loop {
            let mut guard = ready!(socket.poll_read_ready(cx))?;
            match self.receive(socket, deliver) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => guard.clear_ready(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return Poll::Ready(result),
            }
        }
    }

    /// Like [`poll_receive`](Self::poll_receive), whatever the runtime knows of the socket.
    ///
    /// # Errors
    /// As there; [`io::ErrorKind::WouldBlock`] if nothing has come.
    pub fn try_receive(
        &mut self,
        socket: &Socket,
        deliver: &mut dyn FnMut(&[u8]),
    ) -> io::Result<Received> {
        if !self.early.is_empty() {
            let early = std::mem::take(&mut self.early);
            deliver(&early);
            return Ok(Received::Bytes(early.len()));
        }
        if self.peer_closed {
            return Ok(Received::Closed);
        }
        self.receive(socket, deliver)
    }

    fn receive(&mut self, socket: &Socket, deliver: &mut dyn FnMut(&[u8])) -> io::Result<Received> {
        IN.with_borrow_mut(|shared| {
            let kept = self.incoming.len();
            let room = shared
                .get_mut(kept..)
                .filter(|room| !room.is_empty())
                .ok_or_else(|| io::Error::other(Error::PeerSentOversizedRecord))?;
            let count = recv(socket.get_ref(), room, RecvFlags::empty())?.1;
            if count == 0 {
                return Ok(Received::Truncated);
            }
            let all = shared.get_mut(..kept + count).unwrap_or_default();
            if let Some(front) = all.get_mut(..kept) {
                front.copy_from_slice(&self.incoming);
            }
            let (used, result) = self.process(all, deliver);
            let rest = all.get(used..).unwrap_or_default();
            if rest.is_empty() {
                // An idle session keeps no buffer.
                self.incoming = Vec::new();
            } else {
                self.incoming.clear();
                self.incoming.extend_from_slice(rest);
            }
            result.map_err(io::Error::other)?;
            Ok(Received::Bytes(count))
        })
    }

    /// Encrypts all of `bytes` and sends what the socket takes; the rest is kept until it is flushed.
    /// Whoever calls it bounds what it keeps by flushing in between.
    ///
    /// # Errors
    /// Those of the socket; those of TLS as [`rustls::Error`] inside.
    pub fn send(&mut self, socket: &Socket, bytes: &[u8]) -> io::Result<()> {
        for chunk in bytes.chunks(CHUNK) {
            OUT.with_borrow_mut(|shared| {
                let count = self.encrypt(chunk, shared)?;
                let sealed = shared.get(..count).unwrap_or_default();
                let sent = if self.outgoing.is_empty() {
                    send_some(socket, sealed)?
                } else {
                    0
                };
                self.outgoing
                    .extend_from_slice(sealed.get(sent..).unwrap_or_default());
                Ok::<_, io::Error>(())
            })?;
        }
        Ok(())
    }

    fn encrypt(&mut self, bytes: &[u8], into: &mut [u8]) -> io::Result<usize> {
        self.write(&mut |writer| writer.encrypt(bytes, into))
    }

    /// Says that nothing more comes. The rest of it is sent by flushing.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn close(&mut self, socket: &Socket) -> io::Result<()> {
        if std::mem::replace(&mut self.closed, true) {
            return Ok(());
        }
        let mut alert = [0; 128];
        let count = self.write(&mut |writer| writer.queue_close_notify(&mut alert))?;
        self.outgoing
            .extend_from_slice(alert.get(..count).unwrap_or_default());
        self.push(socket)
    }

    fn write(
        &mut self,
        work: &mut dyn FnMut(&mut dyn Writer) -> Result<usize, EncryptError>,
    ) -> io::Result<usize> {
        let mut incoming = std::mem::take(&mut self.incoming);
        let result = loop {
            let (discard, written) = match &mut self.connection {
                Connection::Client(connection) => write(
                    connection.process_tls_records(&mut incoming),
                    &mut self.outgoing,
                    work,
                ),
                Connection::Server(connection) => write(
                    connection.process_tls_records(&mut incoming),
                    &mut self.outgoing,
                    work,
                ),
            };
            incoming.drain(..discard);
            match written {
                Ok(None) => {}
                Ok(Some(count)) => break Ok(count),
                Err(error) => break Err(error),
            }
        };
        self.incoming = incoming;
        result
    }

    /// Sends what the socket did not take before.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>, socket: &Socket) -> Poll<io::Result<()>> {
        loop {
            self.push(socket)?;
            if self.outgoing.is_empty() {
                return Poll::Ready(Ok(()));
            }
            let mut guard = ready!(socket.poll_write_ready(cx))?;
            self.push(socket)?;
            if !self.outgoing.is_empty() {
                guard.clear_ready();
            }
        }
    }

    /// Whether ciphertext waits for the socket.
    #[must_use]
    pub fn is_full(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// How much of it.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.outgoing.len().saturating_sub(self.sent)
    }

    fn push(&mut self, socket: &Socket) -> io::Result<()> {
        while let Some(rest) = self
            .outgoing
            .get(self.sent..)
            .filter(|rest| !rest.is_empty())
        {
            match send_some(socket, rest)? {
                0 => return Ok(()),
                count => self.sent += count,
            }
        }
        self.sent = 0;
        self.outgoing = Vec::new();
        Ok(())
    }

    /// Says that nothing more comes, sends it, and ends the socket's own direction.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn poll_shutdown(&mut self, cx: &mut Context<'_>, socket: &Socket) -> Poll<io::Result<()>> {
        self.close(socket)?;
        ready!(self.poll_flush(cx, socket))?;
        match shutdown(socket.get_ref(), Shutdown::Write) {
            Ok(()) | Err(Errno::NOTCONN) => Poll::Ready(Ok(())),
            Err(errno) => Poll::Ready(Err(errno.into())),
        }
    }
}

/// Sends what fits; 0 if nothing does.
fn send_some(socket: &Socket, bytes: &[u8]) -> io::Result<usize> {
    loop {
        match send(socket.get_ref(), bytes, SendFlags::NOSIGNAL) {
            Ok(count) => return Ok(count),
            Err(Errno::AGAIN) => return Ok(0),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

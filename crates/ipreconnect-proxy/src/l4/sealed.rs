//! A stream of which at least one side is inside TLS.

use std::cell::RefCell;
use std::io;
use std::task::{Context, Poll, ready};

use ipreconnect::socket::Socket;
use ipreconnect::tls::{Received, Session};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown};

use super::carrier::{Broken, Carrier, Progress};
use super::pace;
use super::stream::Stream;
use crate::tap;

/// The worker's shared buffer: four records of TLS.
const BUFFER: usize = 64 * 1024;
/// Whoever says so much at once sends in bulk: a whole record.
const BULK: usize = 16 * 1024;
/// Receipts in one turn, before other connections have theirs.
const BUDGET: u32 = 16;

thread_local! {
    static SHARED: RefCell<Box<[u8]>> = RefCell::new(vec![0; BUFFER].into());
}

/// Carries bytes through TLS.
pub(super) struct Sealed {
    client: Half,
    origin: Half,
}

/// One side of the stream.
#[derive(Default)]
struct Half {
    tls: Option<Box<Session>>,
    /// Plaintext for this side that its socket did not take; a session keeps its own.
    rest: Vec<u8>,
    sent: usize,
    /// It said all that it has to say.
    ended: bool,
    /// Whether it sends without pacing where that is of no use.
    unpaced: bool,
    /// Its readiness may have been used up while the client was held.
    is_fresh: bool,
}

impl Half {
    fn new(tls: Option<Box<Session>>) -> Self {
        Self {
            tls,
            is_fresh: true,
            ..Self::default()
        }
    }

    /// Sends what waits for this side.
    fn poll_flush(&mut self, cx: &mut Context<'_>, socket: &Socket) -> Poll<io::Result<()>> {
        if let Some(tls) = &mut self.tls {
            return tls.poll_flush(cx, socket);
        }
        while let Some(rest) = self.rest.get(self.sent..).filter(|rest| !rest.is_empty()) {
            let mut guard = ready!(socket.poll_write_ready(cx))?;
            match send(socket.get_ref(), rest, SendFlags::NOSIGNAL) {
                Ok(count) => self.sent += count,
                Err(Errno::AGAIN) => guard.clear_ready(),
                Err(Errno::INTR) => {}
                Err(errno) => return Poll::Ready(Err(errno.into())),
            }
        }
        self.sent = 0;
        self.rest = Vec::new();
        Poll::Ready(Ok(()))
    }

    /// Hands plaintext to this side. What its socket does not take is kept, and bounded by flushing
    /// before more is read.
    fn put(&mut self, socket: &Socket, bytes: &[u8]) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        if bytes.len() >= BULK && !std::mem::replace(&mut self.unpaced, true) {
            pace::lift(socket);
        }
        if let Some(tls) = &mut self.tls {
            return tls.send(socket, bytes);
        }
        let sent = if self.rest.is_empty() {
            match send(socket.get_ref(), bytes, SendFlags::NOSIGNAL) {
                Ok(count) => count,
                Err(Errno::AGAIN | Errno::INTR) => 0,
                Err(errno) => return Err(errno.into()),
            }
        } else {
            0
        };
        self.rest
            .extend_from_slice(bytes.get(sent..).unwrap_or_default());
        Ok(())
    }

    /// Takes what this side says, once.
    fn poll_take(
        &mut self,
        cx: &mut Context<'_>,
        socket: &Socket,
        deliver: &mut dyn FnMut(&[u8]),
    ) -> Poll<io::Result<Received>> {
        let fresh = std::mem::take(&mut self.is_fresh);
        if let Some(tls) = &mut self.tls {
            if fresh {
                match tls.try_receive(socket, deliver) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    result => return Poll::Ready(result),
                }
            }
            return tls.poll_receive(cx, socket, deliver);
        }
        if fresh {
            match take(socket, deliver) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                result => return Poll::Ready(result.map_err(Into::into)),
            }
        }
        loop {
            let mut guard = ready!(socket.poll_read_ready(cx))?;
            match take(socket, deliver) {
                Err(Errno::AGAIN) => guard.clear_ready(),
                Err(Errno::INTR) => {}
                result => return Poll::Ready(result.map_err(Into::into)),
            }
        }
    }

    /// Passes on that nothing more comes.
    fn poll_end(&mut self, cx: &mut Context<'_>, socket: &Socket) -> Poll<io::Result<()>> {
        if let Some(tls) = &mut self.tls {
            return tls.poll_shutdown(cx, socket);
        }
        match shutdown(socket.get_ref(), Shutdown::Write) {
            Ok(()) | Err(Errno::NOTCONN) => Poll::Ready(Ok(())),
            Err(errno) => Poll::Ready(Err(errno.into())),
        }
    }
}

fn take(socket: &Socket, deliver: &mut dyn FnMut(&[u8])) -> Result<Received, Errno> {
    SHARED.with_borrow_mut(|shared| {
        let count = recv(socket.get_ref(), &mut shared[..], RecvFlags::empty())?.1;
        if count == 0 {
            return Ok(Received::Closed);
        }
        deliver(shared.get(..count).unwrap_or_default());
        Ok(Received::Bytes(count))
    })
}

impl Sealed {
    /// Each side with what has come for it already.
    pub(super) fn new(
        (client, for_client): (Option<Box<Session>>, Vec<u8>),
        (origin, for_origin): (Option<Box<Session>>, Vec<u8>),
        stream: &Stream,
    ) -> Self {
        let mut sealed = Self {
            client: Half::new(client),
            origin: Half::new(origin),
        };
        // What is wrong with a side is found when it is read from.
        let _ = sealed.client.put(&stream.client, &for_client);
        let _ = sealed.origin.put(&stream.origin, &for_origin);
        sealed
    }
}

/// Carries one direction.
fn poll_direction(
    cx: &mut Context<'_>,
    (source, source_socket): (&mut Half, &Socket),
    (sink, sink_socket): (&mut Half, &Socket),
    mut allowance: usize,
    mut moved: impl FnMut(usize),
) -> Poll<Result<Progress, Broken>> {
    for _ in 0..BUDGET {
        if ready!(sink.poll_flush(cx, sink_socket)).is_err() {
            return Poll::Ready(Err(Broken::Sink));
        }
        if source.ended {
            let told = ready!(sink.poll_end(cx, sink_socket));
            return Poll::Ready(match told {
                Ok(()) => Ok(Progress::Done),
                Err(_) => Err(Broken::Sink),
            });
        }
        let (mut count, mut failed) = (0, false);
        let taken = source.poll_take(cx, source_socket, &mut |bytes| {
            count += bytes.len();
            tap::carried(bytes);
            failed |= sink.put(sink_socket, bytes).is_err();
        });
        if count > 0 {
            moved(count);
        }
        if failed {
            return Poll::Ready(Err(Broken::Sink));
        }
        // An answer of TLS itself goes with the other direction, if it does not go now.
        if let Some(tls) = &mut source.tls
            && tls.is_full()
            && let Poll::Ready(Err(_)) = tls.poll_flush(cx, source_socket)
        {
            return Poll::Ready(Err(Broken::Source));
        }
        match ready!(taken) {
            Ok(Received::Bytes(_)) => {}
            Ok(Received::Closed) => source.ended = true,
            Ok(Received::Truncated) => return Poll::Ready(Err(Broken::Torn)),
            Err(_) => return Poll::Ready(Err(Broken::Source)),
        }
        allowance = allowance.saturating_sub(count);
        if allowance == 0 {
            break;
        }
    }
    Poll::Ready(Ok(Progress::More))
}

impl Carrier for Sealed {
    fn poll_up(
        &mut self,
        cx: &mut Context<'_>,
        stream: &Stream,
        allowance: usize,
        moved: impl FnMut(usize),
    ) -> Poll<Result<Progress, Broken>> {
        let (source, sink) = (&mut self.client, &mut self.origin);
        let (source, sink) = ((source, &stream.client), (sink, &stream.origin));
        poll_direction(cx, source, sink, allowance, moved)
    }

    fn poll_down(
        &mut self,
        cx: &mut Context<'_>,
        stream: &Stream,
        allowance: usize,
        moved: impl FnMut(usize),
    ) -> Poll<Result<Progress, Broken>> {
        let (source, sink) = (&mut self.origin, &mut self.client);
        let (source, sink) = ((source, &stream.origin), (sink, &stream.client));
        poll_direction(cx, source, sink, allowance, moved)
    }
}

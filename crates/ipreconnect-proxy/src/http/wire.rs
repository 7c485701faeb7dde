//! One connection, whichever way it leads: its socket, TLS on it, and what neither has taken yet.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::task::{Context, Poll, Waker, ready};

use ipreconnect::socket::Socket;
use ipreconnect::tls::{Received, Session};
use rustix::io::Errno;
use rustix::net::{
    RecvFlags, SendAncillaryBuffer, SendFlags, Shutdown, recv, send, sendmsg, shutdown,
};

use crate::throttle::Throttle;

/// The worker's shared buffer.
const BUFFER: usize = 64 * 1024;

thread_local! {
    static SHARED: RefCell<Box<[u8]>> = RefCell::new(vec![0; BUFFER].into());
}

/// A connection. It holds a buffer only for what could not be sent at once. Dropping it ends it.
#[derive(Debug)]
pub(super) struct Wire {
    socket: Arc<Socket>,
    /// Somebody else has it now.
    is_taken: bool,
    tls: Option<Box<Session>>,
    /// What the socket did not take; TLS keeps its own.
    rest: Vec<u8>,
    sent: usize,
    /// What holds it to the rates that it shares with others: what comes, and what goes.
    throttles: Option<Box<[Throttle; 2]>>,
}

impl Wire {
    pub(super) fn new(socket: Arc<Socket>, tls: Option<Box<Session>>) -> Self {
        Self {
            socket,
            is_taken: false,
            tls,
            rest: Vec::new(),
            sent: 0,
            throttles: None,
        }
    }

    /// The same, which is held to rates that it shares with others.
    pub(super) fn throttled(mut self, throttles: Option<Box<[Throttle; 2]>>) -> Self {
        self.throttles = throttles;
        self
    }

    /// Its socket, for those who want to know whose it is.
    pub(super) fn socket(&self) -> &OwnedFd {
        self.socket.get_ref()
    }

    /// Takes it apart, for those who carry bytes another way; what was not sent comes with it.
    pub(super) fn take_parts(&mut self) -> (Arc<Socket>, Option<Box<Session>>, Vec<u8>) {
        self.is_taken = true;
        self.rest.drain(..self.sent);
        let rest = std::mem::take(&mut self.rest);
        (Arc::clone(&self.socket), self.tls.take(), rest)
    }

    /// Takes what has come, and hands it to `with`; nothing at all means that the peer has said all
    /// that it had to say.
    pub(super) fn poll_take<T>(
        &mut self,
        cx: &mut Context<'_>,
        with: impl FnOnce(&[u8]) -> T,
    ) -> Poll<io::Result<T>> {
        if let Some([comes, _]) = self.throttles.as_deref_mut() {
            ready!(comes.poll(cx));
        }
        self.poll_take_at_once(cx, with)
    }

    /// The same, whatever is owed by the rates that it shares with others.
    pub(super) fn poll_take_at_once<T>(
        &mut self,
        cx: &mut Context<'_>,
        with: impl FnOnce(&[u8]) -> T,
    ) -> Poll<io::Result<T>> {
        let Some([comes, _]) = self.throttles.as_deref() else {
            return self.poll_receive(cx, BUFFER, with);
        };
        let most = comes.allowance();
        let mut count = 0;
        let taken = self.poll_receive(cx, most, |bytes| {
            count = bytes.len();
            with(bytes)
        });
        if let Some([comes, _]) = self.throttles.as_deref_mut() {
            comes.charge(count);
        }
        taken
    }

    fn poll_receive<T>(
        &mut self,
        cx: &mut Context<'_>,
        most: usize,
        with: impl FnOnce(&[u8]) -> T,
    ) -> Poll<io::Result<T>> {
        if let Some(tls) = &mut self.tls {
            return poll_sealed(tls, &self.socket, cx, with);
        }
        let mut with = Some(with);
        loop {
            let mut guard = ready!(self.socket.poll_read_ready(cx))?;
            let taken = SHARED.with_borrow_mut(|shared| {
                let room = most.min(shared.len());
                let room = shared.get_mut(..room).unwrap_or_default();
                let (_, count) = recv(self.socket.get_ref(), &mut *room, RecvFlags::empty())?;
                // Less than was asked for is all there was: what comes later rings again.
                if count < room.len() {
                    guard.clear_ready();
                }
                let bytes = shared.get(..count).unwrap_or_default();
                Ok(with.take().map(|with| with(bytes)))
            });
            match taken {
                Ok(Some(taken)) => return Poll::Ready(Ok(taken)),
                Err(Errno::AGAIN) => guard.clear_ready(),
                Ok(None) | Err(Errno::INTR) => {}
                Err(errno) => return Poll::Ready(Err(errno.into())),
            }
        }
    }

    /// Sends what the connection takes of it at once, and keeps the rest. Whoever writes bounds that by
    /// writing nothing while [`is_blocked`](Self::is_blocked).
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_both(bytes, &[])
    }

    /// The same of two parts that follow each other.
    pub(super) fn write_both(&mut self, one: &[u8], two: &[u8]) -> io::Result<()> {
        if let Some([_, goes]) = self.throttles.as_deref_mut() {
            goes.charge(one.len() + two.len());
        }
        if let Some(tls) = &mut self.tls {
            for part in [one, two] {
                if !part.is_empty() {
                    tls.send(&self.socket, part)?;
                }
            }
            return Ok(());
        }
        let sent = if self.rest.is_empty() {
            send_some(&self.socket, one, two)?
        } else {
            0
        };
        let first = sent.min(one.len());
        for (part, sent) in [(one, first), (two, sent - first)] {
            self.rest
                .extend_from_slice(part.get(sent..).unwrap_or_default());
        }
        Ok(())
    }

    /// Whether something waits for the peer to take it.
    pub(super) fn is_blocked(&self) -> bool {
        !self.rest.is_empty()
            || self.tls.as_ref().is_some_and(|tls| tls.is_full())
            || self.is_throttled()
    }

    /// Whether nothing is read for now because of a rate that it shares with others.
    pub(super) fn is_unread(&self) -> bool {
        let comes = self.throttles.as_deref().map(|[comes, _]| comes);
        comes.is_some_and(Throttle::is_waiting)
    }

    /// Whether nothing is written for now because of a rate that it shares with others, and for no other reason.
    pub(super) fn is_throttled(&self) -> bool {
        let goes = self.throttles.as_deref().map(|[_, goes]| goes);
        goes.is_some_and(Throttle::is_waiting)
            && self.rest.is_empty()
            && !self.tls.as_ref().is_some_and(|tls| tls.is_full())
    }

    /// Waits until both what has come and what was sent are paid for.
    pub(super) fn poll_paid(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some([comes, goes]) = self.throttles.as_deref_mut() {
            let (come, gone) = (comes.poll(cx), goes.poll(cx));
            ready!(come);
            ready!(gone);
        }
        Poll::Ready(())
    }

    /// Whether it waits for such rates: what comes, and what goes.
    pub(super) fn waits(&self) -> Option<[Arc<AtomicBool>; 2]> {
        let [comes, goes] = self.throttles.as_deref()?;
        Some([comes.waits(), goes.waits()])
    }

    /// The bytes that wait.
    pub(super) fn waiting(&self) -> usize {
        let sealed = self.tls.as_ref().map_or(0, |tls| tls.waiting());
        self.rest.len() - self.sent + sealed
    }

    /// Sends what waits, and waits until more may be written.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let may = match self.throttles.as_deref_mut() {
            Some([_, goes]) => goes.poll(cx),
            None => Poll::Ready(()),
        };
        ready!(self.poll_send(cx))?;
        may.map(Ok)
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(tls) = &mut self.tls {
            return tls.poll_flush(cx, &self.socket);
        }
        while let Some(rest) = self.rest.get(self.sent..).filter(|rest| !rest.is_empty()) {
            let mut guard = ready!(self.socket.poll_write_ready(cx))?;
            match send(self.socket.get_ref(), rest, SendFlags::NOSIGNAL) {
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

    /// Whether the peer has gone, as far as the runtime has heard. `half` says that a peer that only
    /// says nothing more counts as gone.
    pub(super) fn poll_gone(&self, cx: &mut Context<'_>, half: Half) -> Poll<()> {
        let Ok(guard) = ready!(self.socket.poll_read_ready(cx)) else {
            return Poll::Ready(());
        };
        let ready = guard.ready();
        let is_gone = match half {
            Half::Gone => ready.is_read_closed(),
            Half::Listens => ready.is_read_closed() && ready.is_write_closed(),
        };
        if is_gone || ready.is_error() {
            return Poll::Ready(());
        }
        Poll::Pending
    }

    /// Whether an idle connection is still of use: the peer has neither closed it nor said anything that
    /// nobody asked for.
    pub(super) fn is_quiet(&mut self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        match self.socket.poll_read_ready(&mut cx) {
            Poll::Pending => return true,
            Poll::Ready(Err(_)) => return false,
            Poll::Ready(Ok(guard)) => {
                let ready = guard.ready();
                if ready.is_read_closed() || ready.is_error() || self.tls.is_none() {
                    return false;
                }
            }
        }
        // Inside TLS it may be a ticket to resume with, which is nobody's answer.
        let mut said = false;
        loop {
            let Some(tls) = &mut self.tls else {
                return false;
            };
            let taken = tls.poll_receive(&mut cx, &self.socket, &mut |bytes| {
                said |= !bytes.is_empty();
            });
            match taken {
                Poll::Pending => return true,
                Poll::Ready(Ok(Received::Bytes(_))) if !said => {}
                Poll::Ready(_) => return false,
            }
        }
    }

    /// Ends it in both directions, in order.
    pub(super) fn end(&mut self) {
        if let Some(tls) = &mut self.tls {
            // The peer that does not take it learns by the end of the connection.
            let _ = tls.close(&self.socket);
        }
        // A peer that is gone already has nothing left to shut down.
        let _ = shutdown(self.socket.get_ref(), Shutdown::Both);
    }

    /// Says that nothing more comes; the peer may still speak.
    pub(super) fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(tls) = &mut self.tls {
            return tls.poll_shutdown(cx, &self.socket);
        }
        ready!(self.poll_send(cx))?;
        match shutdown(self.socket.get_ref(), Shutdown::Write) {
            Ok(()) | Err(Errno::NOTCONN) => Poll::Ready(Ok(())),
            Err(errno) => Poll::Ready(Err(errno.into())),
        }
    }

    /// Ends it by a reset, so that nobody takes what came for complete.
    pub(super) fn abort(&mut self) {
        // A socket that has no connection any more has nothing to reset (connect(2)).
        let _ = rustix::net::connect_unspec(self.socket.get_ref());
        let _ = shutdown(self.socket.get_ref(), Shutdown::Both);
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        if !self.is_taken {
            self.end();
        }
    }
}

/// What it means when a client says nothing more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Half {
    /// It has gone.
    Gone,
    /// It still listens.
    Listens,
}

fn poll_sealed<T>(
    tls: &mut Session,
    socket: &Socket,
    cx: &mut Context<'_>,
    with: impl FnOnce(&[u8]) -> T,
) -> Poll<io::Result<T>> {
    let mut plain = Vec::new();
    while plain.is_empty() {
        let received = ready!(tls.poll_receive(cx, socket, &mut |bytes| {
            plain.extend_from_slice(bytes);
        }))?;
        // An answer of TLS itself; what is left of it goes with the next flush.
        if tls.is_full() {
            let _ = tls.poll_flush(cx, socket)?;
        }
        match received {
            Received::Bytes(_) => {}
            Received::Closed => break,
            Received::Truncated if plain.is_empty() => {
                let why = "the connection ended without TLS's close_notify";
                let error = io::Error::new(io::ErrorKind::UnexpectedEof, why);
                return Poll::Ready(Err(error));
            }
            Received::Truncated => break,
        }
    }
    Poll::Ready(Ok(with(&plain)))
}

/// Sends what fits of both parts.
fn send_some(socket: &Socket, one: &[u8], two: &[u8]) -> io::Result<usize> {
    loop {
        let sent = if two.is_empty() {
            send(socket.get_ref(), one, SendFlags::NOSIGNAL)
        } else {
            let parts = [IoSlice::new(one), IoSlice::new(two)];
            let mut control = SendAncillaryBuffer::default();
            sendmsg(socket.get_ref(), &parts, &mut control, SendFlags::NOSIGNAL)
        };
        match sent {
            Ok(count) => return Ok(count),
            Err(Errno::AGAIN) => return Ok(0),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

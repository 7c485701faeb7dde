//! One direction of a stream.
//!
//! Small bursts are copied through one buffer that the whole worker shares; when a read fills it, a
//! pipe is taken from the pool and the rest of the burst is spliced. An idle or chatty connection
//! holds neither. A burst that moved at least a buffer lets the next one begin with the pipe.

use std::cell::RefCell;
use std::task::{Context, Poll, ready};

use ipreconnect::socket::Socket;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown};
use rustix::pipe::{SpliceFlags, splice};

use super::carrier::{Broken, Progress};
use super::pace;
use super::pipes::{PIPE, Pipe};
use crate::tap;

/// The worker's shared buffer.
const BUFFER: usize = 16 * 1024;
/// Reads in one turn, before other connections have theirs.
const BUDGET: u32 = 16;

thread_local! {
    static SHARED: RefCell<Box<[u8]>> = RefCell::new(vec![0; BUFFER].into());
}

/// Carries bytes from one socket to another.
#[derive(Debug, Default)]
pub(super) struct Flow {
    pipe: Option<Box<Pipe>>,
    /// Bytes that were read and did not fit into the sink.
    rest: Option<Box<Rest>>,
    in_pipe: u32,
    burst: u32,
    sticky: bool,
    ended: bool,
    started: bool,
    unpaced: bool,
}

#[derive(Debug)]
struct Rest {
    bytes: Box<[u8]>,
    sent: usize,
}

impl Flow {
    /// The flow of a source whose readiness nobody has used up.
    pub(super) fn fresh() -> Self {
        let mut flow = Self::default();
        flow.started = true;
        flow
    }

    /// The flow of a source that has said something already.
    pub(super) fn after(early: Vec<u8>) -> Self {
        let mut flow = Self::default();
        if !early.is_empty() {
            flow.rest = Some(Box::new(Rest {
                bytes: early.into(),
                sent: 0,
            }));
        }
        flow
    }

    /// Carries what can be carried, in one turn no more than `allowance`; `moved` hears of every arrival.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        (source, sink): (&Socket, &Socket),
        mut allowance: usize,
        mut moved: impl FnMut(usize),
    ) -> Poll<Result<Progress, Broken>> {
        for _ in 0..BUDGET {
            ready!(self.deliver(cx, sink))?;
            if self.ended {
                self.release_pipe();
                return Poll::Ready(match shutdown(sink.get_ref(), Shutdown::Write) {
                    Ok(()) | Err(Errno::NOTCONN) => Ok(Progress::Done),
                    Err(_) => Err(Broken::Sink),
                });
            }
            let count = ready!(self.receive(cx, source, sink, allowance))?;
            if count == 0 {
                self.ended = true;
            } else {
                moved(count);
                allowance = allowance.saturating_sub(count);
                if allowance == 0 {
                    break;
                }
            }
        }
        Poll::Ready(Ok(Progress::More))
    }

    fn deliver(&mut self, cx: &mut Context<'_>, sink: &Socket) -> Poll<Result<(), Broken>> {
        while let Some(rest) = &mut self.rest {
            let bytes = rest.bytes.get(rest.sent..).unwrap_or_default();
            let sent = ready!(poll_write(cx, sink, || send(
                sink.get_ref(),
                bytes,
                SendFlags::NOSIGNAL
            )))?;
            rest.sent += sent;
            if rest.sent >= rest.bytes.len() {
                self.rest = None;
            }
        }
        while self.in_pipe > 0 {
            let Some(pipe) = &self.pipe else {
                return Poll::Ready(Err(Broken::Sink));
            };
            let (read, length) = (&pipe.read, self.in_pipe as usize);
            let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
            let sent = ready!(poll_write(cx, sink, || splice(
                read,
                None,
                sink.get_ref(),
                None,
                length,
                flags
            )))?;
            self.in_pipe = self.in_pipe.saturating_sub(narrow(sent));
        }
        Poll::Ready(Ok(()))
    }

    /// Takes the next bytes from the source; 0 is its end.
    fn receive(
        &mut self,
        cx: &mut Context<'_>,
        source: &Socket,
        sink: &Socket,
        most: usize,
    ) -> Poll<Result<usize, Broken>> {
        if !std::mem::replace(&mut self.started, true) {
            // Its readiness may have been used up while the client was held.
            match self.take_in(source, sink, most) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                result => return Poll::Ready(result.map_err(|_| Broken::Source)),
            }
        }
        loop {
            let Ok(mut guard) = ready!(source.poll_read_ready(cx)) else {
                return Poll::Ready(Err(Broken::Source));
            };
            match self.take_in(source, sink, most) {
                Err(Errno::AGAIN) => {
                    guard.clear_ready();
                    self.end_burst();
                }
                Err(Errno::INTR) => {}
                result => return Poll::Ready(result.map_err(|_| Broken::Source)),
            }
        }
    }

    fn take_in(&mut self, source: &Socket, sink: &Socket, most: usize) -> Result<usize, Errno> {
        if tap::is_watching() {
            return self.copy(source, sink, most);
        }
        if self.sticky {
            self.take_pipe(sink);
        }
        if let Some(pipe) = &self.pipe {
            let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
            match splice(
                source.get_ref(),
                None,
                &pipe.write,
                None,
                PIPE.min(most),
                flags,
            ) {
                // Not every kind of socket can be spliced.
                Err(Errno::INVAL) => {
                    self.release_pipe();
                    self.sticky = false;
                }
                Ok(count) => {
                    self.in_pipe = narrow(count);
                    self.burst = self.burst.saturating_add(narrow(count));
                    return Ok(count);
                }
                // Urgent data stops splicing, and only splicing.
                Err(Errno::AGAIN) => {}
                Err(errno) => return Err(errno),
            }
        }
        self.copy(source, sink, most)
    }

    fn copy(&mut self, source: &Socket, sink: &Socket, most: usize) -> Result<usize, Errno> {
        SHARED.with_borrow_mut(|buffer| {
            let room = most.min(buffer.len());
            let room = buffer.get_mut(..room).unwrap_or_default();
            let count = recv(source.get_ref(), room, RecvFlags::empty())?.0;
            if count == 0 {
                return Ok(0);
            }
            self.burst = self.burst.saturating_add(narrow(count));
            let bytes = buffer.get(..count).unwrap_or_default();
            tap::carried(bytes);
            // What is wrong with the sink is found when the rest is delivered.
            let sent = send(sink.get_ref(), bytes, SendFlags::NOSIGNAL).unwrap_or_default();
            if let Some(left) = bytes.get(sent..).filter(|left| !left.is_empty()) {
                self.rest = Some(Box::new(Rest {
                    bytes: left.into(),
                    sent: 0,
                }));
            }
            if count == buffer.len() {
                self.take_pipe(sink);
            }
            Ok(count)
        })
    }

    fn take_pipe(&mut self, sink: &Socket) {
        if self.pipe.is_none() {
            self.pipe = Pipe::take();
            if !std::mem::replace(&mut self.unpaced, true) {
                pace::lift(sink);
            }
        }
    }

    fn end_burst(&mut self) {
        self.sticky = self.burst as usize >= BUFFER;
        self.burst = 0;
        self.release_pipe();
    }

    fn release_pipe(&mut self) {
        if self.in_pipe == 0
            && let Some(pipe) = self.pipe.take()
        {
            pipe.give();
        }
    }
}

impl Drop for Flow {
    fn drop(&mut self) {
        // A pipe with bytes in it is closed with them.
        self.release_pipe();
    }
}

/// What one call moves fits; an idle stream keeps these numbers for hours, so they are small.
fn narrow(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn poll_write(
    cx: &mut Context<'_>,
    sink: &Socket,
    mut write: impl FnMut() -> Result<usize, Errno>,
) -> Poll<Result<usize, Broken>> {
    loop {
        let Ok(mut guard) = ready!(sink.poll_write_ready(cx)) else {
            return Poll::Ready(Err(Broken::Sink));
        };
        match write() {
            Ok(count) => return Poll::Ready(Ok(count)),
            Err(Errno::AGAIN) => guard.clear_ready(),
            Err(Errno::INTR) => {}
            Err(_) => return Poll::Ready(Err(Broken::Sink)),
        }
    }
}

#[cfg(test)]
mod tests;

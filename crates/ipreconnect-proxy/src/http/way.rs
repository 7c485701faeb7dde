//! What carries a request to an endpoint: a connection of its own, or a part of a shared one.

use std::io;
use std::task::{Context, Poll};

use super::h2::{Call, Word};
use super::wire::Wire;

/// The way of one request. Both kinds speak the words of HTTP/1.
#[derive(Debug)]
pub(super) enum Way {
    /// A connection that carries one request after the other.
    Wire(Wire),
    /// A stream of a connection of HTTP/2.
    Call(Box<Call>),
}

impl Way {
    /// Hands over what has come; nothing at all means that this is the end.
    pub(super) fn poll_take<T>(
        &mut self,
        cx: &mut Context<'_>,
        with: impl FnOnce(&[u8]) -> T,
    ) -> Poll<io::Result<T>> {
        match self {
            Self::Wire(wire) => wire.poll_take(cx, with),
            Self::Call(call) => call.poll_take(cx, with),
        }
    }

    /// Sends the head of a request and what is there of its body, or keeps what is not taken at once.
    pub(super) fn write_both(&mut self, head: &[u8], body: &[u8]) -> io::Result<()> {
        match self {
            Self::Wire(wire) => wire.write_both(head, body),
            Self::Call(call) => call.write_both(head, body),
        }
    }

    /// Sends more of the body, or keeps it.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Wire(wire) => wire.write(bytes),
            Self::Call(call) => call.write(bytes),
        }
    }

    /// Whether something waits to be taken.
    pub(super) fn is_blocked(&self) -> bool {
        match self {
            Self::Wire(wire) => wire.is_blocked(),
            Self::Call(call) => call.is_blocked(),
        }
    }

    /// Sends what waits.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Wire(wire) => wire.poll_flush(cx),
            Self::Call(call) => call.poll_flush(cx),
        }
    }

    /// Whether an idle connection is still of use.
    pub(super) fn is_quiet(&mut self) -> bool {
        match self {
            Self::Wire(wire) => wire.is_quiet(),
            Self::Call(call) => !call.mux().is_leaving(),
        }
    }

    /// The connection was found to have ended: nobody is to take it for another request.
    pub(super) fn ends(&self) {
        match self {
            Self::Wire(_) => {}
            Self::Call(call) => call.mux().end(),
        }
    }

    /// What the origin has said of a request that it does not answer.
    pub(super) fn word(&self) -> Word {
        match self {
            Self::Wire(_) => Word::None,
            Self::Call(call) => call.word(),
        }
    }

    /// The trailers of an answer whose end has come, where they do not stand in its body.
    pub(super) fn trailers(&self) -> &[u8] {
        match self {
            Self::Wire(_) => &[],
            Self::Call(call) => call.trailers(),
        }
    }

    /// Whether a loss is the first that was noticed of its connection.
    pub(super) fn is_news(&self) -> bool {
        match self {
            Self::Wire(_) => true,
            Self::Call(call) => call.mux().is_news(),
        }
    }
}

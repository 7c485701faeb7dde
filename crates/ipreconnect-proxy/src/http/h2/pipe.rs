//! A connection as the library of HTTP/2 reads and writes it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::http::wire::Wire;

/// Both directions of a connection.
pub(super) struct Pipe {
    wire: Wire,
    /// What has come and is not read yet.
    unread: Vec<u8>,
}

impl Pipe {
    /// A connection of which something was read already.
    pub(super) fn new(wire: Wire, unread: Vec<u8>) -> Self {
        Self { wire, unread }
    }
}

impl AsyncRead for Pipe {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let pipe = self.get_mut();
        if pipe.unread.is_empty() {
            let unread = &mut pipe.unread;
            return pipe.wire.poll_take(cx, |bytes| {
                let (now, later) = bytes.split_at(bytes.len().min(buf.remaining()));
                buf.put_slice(now);
                unread.extend_from_slice(later);
            });
        }
        let count = pipe.unread.len().min(buf.remaining());
        buf.put_slice(pipe.unread.get(..count).unwrap_or_default());
        pipe.unread.drain(..count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let pipe = self.get_mut();
        ready!(pipe.wire.poll_flush(cx))?;
        pipe.wire.write(bytes)?;
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().wire.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().wire.poll_finish(cx)
    }
}

//! What goes out on one stream of HTTP/2, as far as the other side takes it.

use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use h2::SendStream;
use http::HeaderMap;

/// Data that is not taken yet, and what comes after it.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    unsent: BytesMut,
    /// What is sent when all else was: trailers, or only the end.
    last: Option<HeaderMap>,
}

impl Outbox {
    pub(super) fn push(&mut self, data: &[u8]) {
        self.unsent.extend_from_slice(data);
    }

    /// Nothing comes behind what is there but these.
    pub(super) fn finish(&mut self, trailers: HeaderMap) {
        self.last = Some(trailers);
    }

    /// Whether the bare end was told, and is not sent yet.
    pub(super) fn is_ending(&self) -> bool {
        self.last.as_ref().is_some_and(HeaderMap::is_empty)
    }

    pub(super) fn len(&self) -> usize {
        self.unsent.len() + usize::from(self.last.is_some())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.unsent.is_empty() && self.last.is_none()
    }

    /// Sends what there is, or all but the end; says whether the end was sent. The error is none where the stream
    /// is closed.
    pub(super) fn poll_flush(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut SendStream<Bytes>,
        may_end: bool,
    ) -> Poll<Result<bool, Option<h2::Error>>> {
        while !self.unsent.is_empty() {
            let room = stream.capacity();
            if room == 0 {
                stream.reserve_capacity(self.unsent.len());
                match ready!(stream.poll_capacity(cx)) {
                    Some(Ok(_)) => continue,
                    Some(Err(error)) => return Poll::Ready(Err(Some(error))),
                    None => return Poll::Ready(Err(None)),
                }
            }
            let part = self.unsent.split_to(room.min(self.unsent.len())).freeze();
            let is_last = may_end && self.unsent.is_empty() && self.is_ending();
            stream.send_data(part, is_last)?;
            if is_last {
                self.last = None;
                return Poll::Ready(Ok(true));
            }
        }
        let Some(last) = self.last.take_if(|_| may_end) else {
            return Poll::Ready(Ok(false));
        };
        if last.is_empty() {
            stream.send_data(Bytes::new(), true)?;
        } else {
            stream.send_trailers(last)?;
        }
        Poll::Ready(Ok(true))
    }
}

//! What carries the bytes of a stream: from socket to socket, or through TLS.

use std::task::{Context, Poll};

use super::flow::Flow;
use super::stream::Stream;

/// Which side failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Broken {
    Source,
    /// The source's TLS ended without a word; what it said before was delivered, as far as that goes.
    Torn,
    Sink,
}

/// What one turn of a direction did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// The source has ended, everything was delivered, and the sink was told.
    Done,
    /// Its budget is used up; there may be more.
    More,
}

/// Carries both directions of a stream; `moved` hears of every arrival.
pub(super) trait Carrier: Unpin {
    fn poll_up(
        &mut self,
        cx: &mut Context<'_>,
        stream: &Stream,
        moved: impl FnMut(usize),
    ) -> Poll<Result<Progress, Broken>>;

    fn poll_down(
        &mut self,
        cx: &mut Context<'_>,
        stream: &Stream,
        moved: impl FnMut(usize),
    ) -> Poll<Result<Progress, Broken>>;
}

/// From socket to socket.
pub(super) struct Plain {
    up: Flow,
    down: Flow,
}

impl Plain {
    /// With what has come already, for the origin and for the client.
    pub(super) fn new(up: Vec<u8>, down: Vec<u8>) -> Self {
        let is_fresh = down.is_empty();
        Self {
            up: Flow::after(up),
            down: if is_fresh {
                Flow::fresh()
            } else {
                Flow::after(down)
            },
        }
    }
}

impl Carrier for Plain {
    fn poll_up(
        &mut self,
        cx: &mut Context<'_>,
        stream: &Stream,
        moved: impl FnMut(usize),
    ) -> Poll<Result<Progress, Broken>> {
        self.up.poll(cx, &stream.client, &stream.origin, moved)
    }

    fn poll_down(
        &mut self,
        cx: &mut Context<'_>,
        stream: &Stream,
        moved: impl FnMut(usize),
    ) -> Poll<Result<Progress, Broken>> {
        self.down.poll(cx, &stream.origin, &stream.client, moved)
    }
}

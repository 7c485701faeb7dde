//! What carries the bytes of a stream: from socket to socket, or through TLS.

use std::task::{Context, Poll, ready};

use ipreconnect::clock;

use super::flow::Flow;
use super::stream::Stream;
use crate::throttle::Throttle;
use crate::watch::Watched;

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

/// Carries both directions of a stream, in one turn no more than about `allowance`; `moved` hears of every
/// arrival.
pub(super) trait Carrier: Unpin {
    fn poll_up(
        &mut self,
        cx: &mut Context<'_>,
        stream: &Stream,
        allowance: usize,
        moved: impl FnMut(usize),
    ) -> Poll<Result<Progress, Broken>>;

    fn poll_down(
        &mut self,
        cx: &mut Context<'_>,
        stream: &Stream,
        allowance: usize,
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
        allowance: usize,
        moved: impl FnMut(usize),
    ) -> Poll<Result<Progress, Broken>> {
        self.up
            .poll(cx, (&stream.client, &stream.origin), allowance, moved)
    }

    fn poll_down(
        &mut self,
        cx: &mut Context<'_>,
        stream: &Stream,
        allowance: usize,
        moved: impl FnMut(usize),
    ) -> Poll<Result<Progress, Broken>> {
        self.down
            .poll(cx, (&stream.origin, &stream.client), allowance, moved)
    }
}

/// By a rate that others share.
pub(super) struct Throttled<C> {
    inner: C,
    up: Throttle,
    down: Throttle,
}

impl<C> Throttled<C> {
    pub(super) fn new(inner: C, [up, down]: [Throttle; 2]) -> Self {
        Self { inner, up, down }
    }
}

impl<C: Carrier> Carrier for Throttled<C> {
    fn poll_up(
        &mut self,
        cx: &mut Context<'_>,
        stream: &Stream,
        allowance: usize,
        mut moved: impl FnMut(usize),
    ) -> Poll<Result<Progress, Broken>> {
        // Whoever was condemned waits for nothing.
        if stream.verdict().is_none() {
            ready!(self.up.poll(cx));
        }
        let allowance = allowance.min(self.up.allowance());
        let mut carried = 0;
        let polled = self.inner.poll_up(cx, stream, allowance, |bytes| {
            carried += bytes;
            moved(bytes);
        });
        self.up.charge(carried);
        polled
    }

    fn poll_down(
        &mut self,
        cx: &mut Context<'_>,
        stream: &Stream,
        allowance: usize,
        mut moved: impl FnMut(usize),
    ) -> Poll<Result<Progress, Broken>> {
        if self.down.is_waiting() && stream.verdict().is_none() {
            stream.listens(false);
            ready!(self.down.poll(cx));
            stream.excuse(clock::now());
            stream.listens(true);
        }
        let allowance = allowance.min(self.down.allowance());
        let mut carried = 0;
        let polled = self.inner.poll_down(cx, stream, allowance, |bytes| {
            carried += bytes;
            moved(bytes);
        });
        self.down.charge(carried);
        polled
    }
}

//! Both directions of a stream, in one small task.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use ipreconnect::clock;
use ipreconnect::core::failure::{Cause, Failure};
use ipreconnect::core::origin::Event;
use ipreconnect::socket::Socket;

use super::flow::{Broken, Flow, Progress};
use super::stream::Stream;
use super::watch::{self, Key};
use super::{End, turn};

/// Carries a stream until both directions have ended.
pub(super) struct Relay {
    stream: Arc<Stream>,
    key: Key,
    up: Direction,
    down: Direction,
    first: Option<End>,
}

#[derive(Default)]
struct Direction {
    flow: Flow,
    /// Nothing is carried any more.
    done: bool,
    /// It ended in order: its end was passed on.
    finished: bool,
}

impl Relay {
    pub(super) fn new(stream: Arc<Stream>, key: Key) -> Self {
        Self {
            stream,
            key,
            up: Direction::default(),
            down: Direction {
                flow: Flow::fresh(),
                ..Direction::default()
            },
            first: None,
        }
    }

    fn poll_up(&mut self, cx: &mut Context<'_>) -> Poll<Result<Progress, Broken>> {
        let (stream, key) = (&self.stream, self.key);
        self.up
            .flow
            .poll(cx, &stream.client, &stream.origin, |bytes| {
                let now = clock::now();
                if stream.asks(now, bytes) {
                    watch::asked(key, now);
                }
            })
    }

    fn poll_down(&mut self, cx: &mut Context<'_>) -> Poll<Result<Progress, Broken>> {
        let stream = &self.stream;
        self.down
            .flow
            .poll(cx, &stream.origin, &stream.client, |bytes| {
                let now = clock::now();
                let asked = stream.answers(now, bytes);
                stream.usage.meter().answer(now);
                watch::answered(stream, asked, now);
            })
    }

    fn turn(&mut self, cx: &mut Context<'_>) -> Result<Turn, End> {
        let mut more = false;
        if !self.up.done {
            match self.poll_up(cx) {
                Poll::Ready(Ok(Progress::Done)) => {
                    (self.up.done, self.up.finished) = (true, true);
                    self.first.get_or_insert(End::ByClient);
                }
                Poll::Ready(Ok(Progress::More)) => more = true,
                Poll::Ready(Err(Broken::Source)) => return Err(End::ResetByClient),
                // The origin may have said why before it stopped listening.
                Poll::Ready(Err(Broken::Sink)) => self.up.done = true,
                Poll::Pending => {}
            }
        }
        if !self.down.done {
            match self.poll_down(cx) {
                Poll::Ready(Ok(Progress::Done)) => {
                    (self.down.done, self.down.finished) = (true, true);
                    self.first.get_or_insert(End::ByOrigin);
                }
                Poll::Ready(Ok(Progress::More)) => more = true,
                Poll::Ready(Err(Broken::Source)) => return Err(End::ResetByOrigin),
                Poll::Ready(Err(Broken::Sink)) => return Err(End::ResetByClient),
                Poll::Pending => {}
            }
        }
        Ok(if self.up.done && self.down.done {
            Turn::Ended
        } else if more {
            Turn::Again
        } else {
            Turn::Wait
        })
    }

    fn end(&mut self, end: End) {
        let end = self.stream.verdict().unwrap_or(end);
        watch::leave(self.key);
        match end {
            // A torn stream must not look complete to the other side.
            End::ResetByClient | End::Stalled | End::Closed => abort(&self.stream.origin),
            End::ResetByOrigin => {
                abort(&self.stream.client);
                self.stream.route.origin().report(Event::LinkLost {
                    endpoint: self.stream.endpoint,
                    failure: Failure::new(Cause::Reset),
                });
            }
            End::ByClient | End::ByOrigin | End::Idle | End::Drained | End::Evicted => {}
        }
        if matches!(end, End::Stalled | End::Closed) {
            abort(&self.stream.client);
        }
        // A FIN went each way already, where both directions ended in order.
        if !(self.up.finished && self.down.finished) {
            self.stream.shut();
        }
        self.stream.counters.ended(end);
        tracing::debug!(
            listener = self.stream.route.name(),
            endpoint = self.stream.endpoint.0,
            ?end,
            "stream ended"
        );
    }
}

enum Turn {
    Wait,
    Again,
    Ended,
}

impl Future for Relay {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let end = match self.turn(cx) {
            Ok(Turn::Wait) => return Poll::Pending,
            Ok(Turn::Again) => {
                turn::later(cx);
                return Poll::Pending;
            }
            Ok(Turn::Ended) => self.first.unwrap_or(End::ByOrigin),
            Err(end) => end,
        };
        self.end(end);
        Poll::Ready(())
    }
}

/// Ends a TCP connection by a reset, whoever else holds its descriptor: connecting to nowhere
/// dissolves the association (connect(2)).
fn abort(socket: &Socket) {
    // A socket that has no connection any more has nothing to reset.
    let _ = rustix::net::connect_unspec(socket.get_ref());
}

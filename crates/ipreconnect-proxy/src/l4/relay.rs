//! Both directions of a stream, in one small task.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use ipreconnect::clock;
use ipreconnect::core::failure::{Cause, Failure};
use ipreconnect::core::origin::Event;
use ipreconnect::sense::tcp::TcpPath;
use ipreconnect::socket::Socket;
use rustix::net::Shutdown;

use super::End;
use super::carrier::{Broken, Carrier, Progress};
use super::stream::Stream;
use crate::number;
use crate::tap::{self, Towards, Watching};
use crate::turn;
use crate::watch::{self, Key, Said, Watched};

/// What was read of a torn stream is delivered for so long before the other side is torn too.
const LAST_BYTES: Duration = Duration::from_secs(5);

/// Carries a stream until both directions have ended.
pub(super) struct Relay<C> {
    stream: Arc<Stream>,
    key: Key,
    carrier: C,
    up: Direction,
    down: Direction,
    first: Option<End>,
    /// The origin's TLS ended without a word: what came before is still to be delivered.
    is_torn: bool,
}

#[derive(Default)]
struct Direction {
    /// Nothing is carried any more.
    done: bool,
    /// It ended in order: its end was passed on.
    finished: bool,
}

impl<C: Carrier> Relay<C> {
    pub(super) fn new(stream: Arc<Stream>, key: Key, carrier: C) -> Self {
        Self {
            stream,
            key,
            carrier,
            up: Direction::default(),
            down: Direction::default(),
            first: None,
            is_torn: false,
        }
    }

    fn poll_up(&mut self, cx: &mut Context<'_>) -> Poll<Result<Progress, Broken>> {
        let (stream, key) = (&self.stream, self.key);
        let _watching = watched(stream, Towards::Origin);
        self.carrier.poll_up(cx, stream, usize::MAX, |bytes| {
            let now = clock::now();
            if stream.asks(now, bytes) {
                watch::asked(key, now);
            }
        })
    }

    fn poll_down(&mut self, cx: &mut Context<'_>) -> Poll<Result<Progress, Broken>> {
        let stream = &self.stream;
        let was_deaf = stream.is_deaf();
        let _watching = watched(stream, Towards::Client);
        let polled = self.carrier.poll_down(cx, stream, usize::MAX, |bytes| {
            let now = clock::now();
            let asked = stream.answers(now, bytes);
            if let Some(asked) = asked {
                let stats = stream.route.origin().stats();
                stats
                    .desk(number::get())
                    .answered(now.saturating_duration_since(asked));
            }
            stream.usage.meter().answer(now);
            watch::answered(&**stream, asked, now, Said::Bytes);
        });
        // What was asked meanwhile is awaited from now on.
        if was_deaf
            && !stream.is_deaf()
            && let Some(asked) = stream.asked()
        {
            watch::asked(self.key, asked);
        }
        polled
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
                Poll::Ready(Err(Broken::Source | Broken::Torn)) => return Err(End::ResetByClient),
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
                Poll::Ready(Err(Broken::Torn)) => {
                    self.is_torn = true;
                    return Err(End::ResetByOrigin);
                }
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
            End::Stalled | End::Closed => {
                self.stream.counts_lost();
                abort(&self.stream.origin);
            }
            End::ResetByClient => abort(&self.stream.origin),
            End::ResetByOrigin => {
                self.stream.counts_lost();
                if self.is_torn {
                    tokio::spawn(abort_at_last(Arc::clone(&self.stream)));
                } else {
                    abort(&self.stream.client);
                }
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
        if end == End::ResetByOrigin && self.is_torn {
            let _ = rustix::net::shutdown(self.stream.origin.get_ref(), Shutdown::Both);
            // A FIN went each way already, where both directions ended in order.
        } else if !(self.up.finished && self.down.finished) {
            self.stream.shut();
        }
        if tap::is_on() {
            let name = self.stream.route.name();
            tap::closed(
                (name, number_of(&self.stream)),
                &self.stream.client,
                end.word(),
            );
        }
        self.stream.ended(end);
        tracing::debug!(
            listener = self.stream.route.name(),
            endpoint = self.stream.endpoint.0,
            ?end,
            "stream ended"
        );
    }
}

/// For as long as it lives, somebody looks at what this stream carries.
fn watched(stream: &Stream, towards: Towards) -> Option<Watching> {
    if !tap::is_on() {
        return None;
    }
    let subject = (stream.route.name(), number_of(stream));
    tap::watch(subject, &stream.client, towards)
}

/// No other stream that lives has it.
pub(super) fn number_of(stream: &Stream) -> usize {
    std::ptr::from_ref(stream).addr()
}

enum Turn {
    Wait,
    Again,
    Ended,
}

impl<C: Carrier> Future for Relay<C> {
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

/// Tears the client's side when it has taken all that came.
async fn abort_at_last(stream: Arc<Stream>) {
    const PAUSE: Duration = Duration::from_millis(5);
    let deadline = clock::now() + LAST_BYTES;
    let waits = || {
        TcpPath::of(stream.client.get_ref()).is_ok_and(|path| path.unacked > 0 || path.unsent > 0)
    };
    while waits() && clock::now() < deadline {
        tokio::time::sleep(PAUSE).await;
    }
    abort(&stream.client);
    stream.shut();
}

/// Ends a TCP connection by a reset, whoever else holds its descriptor: connecting to nowhere
/// dissolves the association (connect(2)).
fn abort(socket: &Socket) {
    // A socket that has no connection any more has nothing to reset.
    let _ = rustix::net::connect_unspec(socket.get_ref());
}

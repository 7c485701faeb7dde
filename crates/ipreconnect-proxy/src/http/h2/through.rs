//! Tunnels inside a connection of HTTP/2 (RFC 9113, section 8.5): the data of one stream, to where its client wants to
//! go and back.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream};
use http::header::HeaderMap;
use ipreconnect::clock;

use super::UNSENT;
use super::outbox::Outbox;
use crate::http::guest::Guest;
use crate::http::timer::Timer;
use crate::http::tunnel::{Tale, Tunnel};
use crate::http::wire::Wire;
use crate::l4::End;

/// Turns of one tunnel, before others have theirs.
const BUDGET: u32 = 16;

/// Both ends of a tunnel.
struct Flow<'f> {
    guest: &'f Guest,
    tale: Option<&'f Tale>,
    wire: Wire,
    from: Option<RecvStream>,
    to: SendStream<Bytes>,
    out: Outbox,
    /// The client has said all that it had to say, and the other end knows.
    is_up_over: bool,
    /// The same the other way.
    is_down_over: bool,
    has_read_all: bool,
    /// What came last of the client was nothing.
    has_heard_all: bool,
    timer: Timer,
    idle: Duration,
}

/// Carries a tunnel until both directions have ended.
pub(super) async fn carry(
    guest: &Guest,
    tunnel: Tunnel,
    from: Option<RecvStream>,
    to: SendStream<Bytes>,
) {
    let (taken, mut tale) = tunnel.into_parts();
    if let Some(tale) = &mut tale {
        tale.is_of(guest);
        tale.comes_down(taken.input.len());
    }
    let idle = guest.idle();
    let mut out = Outbox::default();
    out.push(&taken.input);
    let mut flow = Flow {
        guest,
        tale: tale.as_deref(),
        wire: Wire::new(Arc::new(taken.socket), taken.tls),
        from,
        to,
        out,
        is_up_over: false,
        is_down_over: false,
        has_read_all: false,
        has_heard_all: false,
        timer: Timer::new(clock::now(), idle),
        idle,
    };
    let end = poll_fn(|cx| flow.poll(cx)).await;
    match end {
        End::ByClient | End::ByOrigin => {}
        // Nobody may take a part of it for the whole.
        End::ResetByClient => flow.wire.abort(),
        _ => {
            flow.wire.abort();
            flow.to.send_reset(Reason::CONNECT_ERROR);
        }
    }
    drop(flow);
    if let Some(tale) = tale {
        tale.tell(end);
    }
}

impl Flow<'_> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        for _ in 0..BUDGET {
            if self.to.poll_reset(cx).is_ready() {
                return Poll::Ready(End::ResetByClient);
            }
            let moved = match (self.poll_up(cx), self.poll_down(cx)) {
                (Err(end), _) | (_, Err(end)) => return Poll::Ready(end),
                (Ok(up), Ok(down)) => up || down,
            };
            if self.is_up_over && self.is_down_over {
                return Poll::Ready(End::ByClient);
            }
            if !moved {
                return self.timer.poll(cx).map(|()| End::Idle);
            }
            self.timer.set(clock::now(), self.idle);
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Says whether anything moved.
    fn poll_up(&mut self, cx: &mut Context<'_>) -> Result<bool, End> {
        if self.is_up_over {
            return Ok(false);
        }
        if self.wire.is_blocked() {
            return match self.wire.poll_flush(cx) {
                Poll::Ready(Ok(())) => Ok(true),
                Poll::Ready(Err(_)) => Err(End::ResetByOrigin),
                Poll::Pending => Ok(false),
            };
        }
        if self.has_heard_all {
            return match self.wire.poll_finish(cx) {
                Poll::Ready(Ok(())) => {
                    self.is_up_over = true;
                    Ok(true)
                }
                Poll::Ready(Err(_)) => Err(End::ResetByOrigin),
                Poll::Pending => Ok(false),
            };
        }
        let Some(from) = &mut self.from else {
            self.has_heard_all = true;
            return Ok(true);
        };
        match from.poll_data(cx) {
            Poll::Ready(Some(Ok(data))) => {
                // The window of the stream opens again for what was taken.
                let _ = from.flow_control().release_capacity(data.len());
                self.guest.counts_up(data.len());
                self.wire.write(&data).map_err(|_| End::ResetByOrigin)?;
                if self.tale.is_some_and(|tale| !tale.goes_up(data.len())) {
                    return Err(End::Closed);
                }
                Ok(true)
            }
            Poll::Ready(Some(Err(_))) => Err(End::ResetByClient),
            Poll::Ready(None) => {
                self.from = None;
                Ok(true)
            }
            Poll::Pending => Ok(false),
        }
    }

    fn poll_down(&mut self, cx: &mut Context<'_>) -> Result<bool, End> {
        let mut moved = false;
        if !self.has_read_all && self.out.len() < UNSENT {
            let out = &mut self.out;
            let taken = self.wire.poll_take(cx, |bytes| {
                out.push(bytes);
                bytes.len()
            });
            match taken {
                Poll::Ready(Ok(0)) => {
                    self.has_read_all = true;
                    self.out.finish(HeaderMap::new());
                    moved = true;
                }
                Poll::Ready(Ok(count)) => {
                    self.guest.counts_down(count);
                    if self.tale.is_some_and(|tale| !tale.comes_down(count)) {
                        return Err(End::Closed);
                    }
                    moved = true;
                }
                Poll::Ready(Err(_)) => return Err(End::ResetByOrigin),
                Poll::Pending => {}
            }
        }
        if self.out.is_empty() {
            return Ok(moved);
        }
        match self.out.poll_flush(cx, &mut self.to, true) {
            Poll::Ready(Ok(is_over)) => {
                self.is_down_over |= is_over;
                Ok(true)
            }
            Poll::Ready(Err(_)) => Err(End::ResetByClient),
            Poll::Pending => Ok(moved),
        }
    }
}

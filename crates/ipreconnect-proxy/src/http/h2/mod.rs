//! HTTP/2: clients that make many requests at once over one connection, and origins that take them so.

mod call;
mod fields;
mod mux;
mod outbox;
mod pipe;
mod stream;
mod through;

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use h2::server::{Builder, Connection, SendResponse};
use h2::{Reason, RecvStream};
use http::Request;
use ipreconnect::clock;

use super::HttpLimits;
use super::client::Client;
use super::guest::{Guest, Place};
use super::timer::Timer;
use crate::l4::End;
pub(super) use call::{Call, Word, takes_trailers};
pub(super) use mux::{Mux, Refusal, STREAMS as ALLOWED};
use pipe::Pipe;

/// The longest head, as HTTP/2 counts it (RFC 9113, section 6.5.2).
const HEAD: u32 = 64 * 1024;
/// What a client may send of one body, and of all together, before we have taken it.
const STREAM_WINDOW: u32 = 128 * 1024;
const CONNECTION_WINDOW: u32 = 32 * 1024 * 1024;
/// What we keep of one answer that the client does not take.
const UNSENT: usize = 64 * 1024;
/// Requests that were taken back before they were answered: more than these within some time, and more than
/// were answered, are no accident (CVE-2023-44487).
const TAKEN_BACK: u32 = 100;
const WITHIN: Duration = Duration::from_secs(30);

/// What the requests of one connection count together.
#[derive(Debug, Default)]
pub(super) struct Tally {
    open: AtomicU32,
    answered: AtomicU32,
    taken_back: AtomicU32,
    /// Whether the connection waits for rates that it shares with others: what comes, and what goes.
    waits: Option<[Arc<AtomicBool>; 2]>,
}

impl Tally {
    pub(super) fn is_unread(&self) -> bool {
        let waits = self.waits.as_ref();
        waits.is_some_and(|[comes, _]| comes.load(Relaxed))
    }

    pub(super) fn is_throttled(&self) -> bool {
        let waits = self.waits.as_ref();
        waits.is_some_and(|[_, goes]| goes.load(Relaxed))
    }
}

/// Serves a client until it goes.
pub(super) async fn serve(mut client: Client, mut guest: Guest, place: Place) {
    // Until the connection ends, whatever the listener becomes meanwhile.
    let _counts = guest.take_counts();
    let limits = *guest.limits();
    let early = std::mem::take(&mut client.input);
    let tally = Arc::new(Tally {
        waits: client.wire.waits(),
        ..Tally::default()
    });
    let pipe = Pipe::new(client.wire, early);
    let mut guest = Arc::new(guest);
    let mut timer = Timer::new(clock::now(), limits.head);
    let mut handshake = Box::pin(builder(&limits).handshake(pipe));
    let opened = poll_fn(|cx| match handshake.as_mut().poll(cx) {
        Poll::Ready(opened) => Poll::Ready(opened.ok()),
        Poll::Pending => timer.poll(cx).map(|()| None),
    })
    .await;
    if let Some(mut connection) = opened {
        carry(&mut connection, &mut guest, (&place, &tally), &mut timer).await;
    }
    guest.ended(End::ByClient);
}

fn builder(limits: &HttpLimits) -> Builder {
    let mut builder = Builder::new();
    builder
        .max_concurrent_streams(limits.streams)
        .max_header_list_size(HEAD)
        .initial_window_size(STREAM_WINDOW)
        // So much that bodies which wait for one origin never hold up those for another.
        .initial_connection_window_size(
            limits
                .streams
                .saturating_mul(STREAM_WINDOW)
                .clamp(STREAM_WINDOW, CONNECTION_WINDOW),
        )
        .max_send_buffer_size(UNSENT);
    builder
}

/// Takes requests until the client has no more, or is sent away.
async fn carry(
    connection: &mut Connection<Pipe, Bytes>,
    guest: &mut Arc<Guest>,
    (place, tally): (&Place, &Arc<Tally>),
    timer: &mut Timer,
) {
    let mut counted_since = clock::now();
    let mut is_leaving = false;
    let idle = guest.limits().idle;
    timer.set(clock::now(), idle);
    loop {
        let accepted = poll_fn(|cx| {
            place.waker.register(cx.waker());
            if !guest.is_current() {
                *guest = Arc::new(guest.renewed());
            }
            if guest.is_last() && !std::mem::replace(&mut is_leaving, true) {
                connection.graceful_shutdown();
            }
            // Asked first: whoever never stops talking would leave it no turn.
            while timer.poll(cx).is_ready() {
                timer.set(clock::now(), idle);
                if tally.open.load(Relaxed) == 0 {
                    if is_leaving {
                        return Poll::Ready(None);
                    }
                    // It may take back what it has not heard yet.
                    is_leaving = true;
                    connection.graceful_shutdown();
                }
            }
            connection.poll_accept(cx).map(Some)
        })
        .await;
        match accepted {
            Some(Some(Ok((request, respond)))) => {
                let now = clock::now();
                timer.set(now, idle);
                if now.saturating_duration_since(counted_since) > WITHIN {
                    counted_since = now;
                    tally.answered.store(0, Relaxed);
                    tally.taken_back.store(0, Relaxed);
                }
                if is_abusive(tally) {
                    tracing::warn!(
                        listener = guest.name(),
                        client = guest.from(),
                        "a client takes its requests back as fast as it makes them; it is sent away"
                    );
                    connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
                    // What is said last is sent before the connection ends.
                    let _ = poll_fn(|cx| connection.poll_closed(cx)).await;
                    return;
                }
                begin(request, respond, guest, tally);
            }
            Some(Some(Err(error))) => {
                tracing::debug!(listener = guest.name(), %error, "client of HTTP/2 sent away");
                return;
            }
            Some(None) | None => return,
        }
    }
}

fn is_abusive(tally: &Tally) -> bool {
    let taken_back = tally.taken_back.load(Relaxed);
    taken_back > TAKEN_BACK && taken_back > tally.answered.load(Relaxed)
}

/// Carries out one request, in a task of its own.
fn begin(
    request: Request<RecvStream>,
    respond: SendResponse<Bytes>,
    guest: &Arc<Guest>,
    tally: &Arc<Tally>,
) {
    let (guest, tally) = (Arc::clone(guest), Arc::clone(tally));
    tally.open.fetch_add(1, Relaxed);
    let work: Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(async move {
        stream::serve(request, respond, &guest, &tally).await;
        tally.open.fetch_sub(1, Relaxed);
    });
    tokio::spawn(work);
}

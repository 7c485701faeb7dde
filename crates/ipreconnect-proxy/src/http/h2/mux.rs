//! A connection to an origin that speaks HTTP/2, and takes many requests at once.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::client::{Builder, SendRequest};
use ipreconnect::core::address::{Address, EndpointId};
use ipreconnect::socket::Socket;
use ipreconnect::{Link, Usage, clock};

use super::pipe::Pipe;
use super::{HEAD, UNSENT};
use crate::http::record::Shown;
use crate::http::wire::Wire;

/// Requests of ours at once over one connection, whatever the origin allows.
pub(in crate::http) const STREAMS: u32 = 128;
/// What an origin may send of one answer before its client has taken it.
const STREAM_WINDOW: u32 = 256 * 1024;
/// The same of all together: so much that one slow client never holds up another.
const CONNECTION_WINDOW: u32 = STREAMS * STREAM_WINDOW;
/// Answers that we did not want: so many are remembered of one connection, and for so long.
const FORGOTTEN: usize = 1024;
const FORGET: Duration = Duration::from_secs(10);

/// Why a fresh connection is of no use.
#[derive(Debug)]
pub(in crate::http) enum Refusal {
    /// The origin did not agree to HTTP/2 (ALPN).
    Another,
    /// It was lost at once.
    Lost(io::Error),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Another => f.write_str("the origin did not agree to HTTP/2 (ALPN)"),
            Self::Lost(error) => write!(f, "the connection was lost at once: {error}"),
        }
    }
}

/// A connection, shared by the requests of one worker.
#[derive(Debug)]
pub(in crate::http) struct Mux {
    sender: SendRequest<Bytes>,
    pub(in crate::http) socket: Arc<Socket>,
    pub(in crate::http) usage: Arc<Usage>,
    pub(in crate::http) endpoint: EndpointId,
    pub(in crate::http) is_tcp: bool,
    pub(in crate::http) shown: Shown,
    pub(in crate::http) opened: Instant,
    pub(super) is_tls: bool,
    /// Its requests at the moment, and those that are done.
    open: AtomicU32,
    served: AtomicU32,
    /// Stamp of the end of the last request.
    rests: AtomicU64,
    /// Its task has ended.
    is_over: Arc<AtomicBool>,
    /// Its loss was told.
    is_told: AtomicBool,
}

impl Mux {
    /// Begins to speak HTTP/2 over a fresh connection; `allowed` is how many requests at once the origin
    /// is expected to allow, until it says so.
    pub(in crate::http) async fn open(link: Link, allowed: u32) -> Result<Arc<Self>, Refusal> {
        let parts = link.into_parts();
        let alpn = parts.tls.as_ref().map(|tls| tls.alpn() == Some(b"h2"));
        if alpn == Some(false) {
            return Err(Refusal::Another);
        }
        let socket = Arc::new(parts.socket);
        let wire = Wire::new(Arc::clone(&socket), parts.tls);
        let opened = builder(allowed)
            .handshake(Pipe::new(wire, parts.early))
            .await;
        let (sender, connection) = opened.map_err(|error| {
            Refusal::Lost(error.into_io().unwrap_or(io::ErrorKind::Other.into()))
        })?;
        let is_over = Arc::new(AtomicBool::new(false));
        let over = Arc::clone(&is_over);
        tokio::spawn(async move {
            // Each of its requests learns by itself what happened.
            let _ = connection.await;
            over.store(true, Relaxed);
        });
        let now = clock::now();
        Ok(Arc::new(Self {
            sender,
            socket,
            usage: Arc::new(parts.usage),
            endpoint: parts.endpoint,
            is_tcp: matches!(parts.address, Address::Tcp(_)),
            shown: Shown::new(&parts.address.to_string()),
            opened: now,
            is_tls: alpn.is_some(),
            open: AtomicU32::new(0),
            served: AtomicU32::new(0),
            rests: AtomicU64::new(clock::stamp(now)),
            is_over,
            is_told: AtomicBool::new(false),
        }))
    }

    /// How many requests it takes at once.
    pub(in crate::http) fn allowed(&self) -> u32 {
        let allowed = self.sender.current_max_send_streams();
        u32::try_from(allowed).map_or(STREAMS, |allowed| allowed.min(STREAMS))
    }

    /// Its requests at the moment.
    pub(in crate::http) fn open_requests(&self) -> u32 {
        self.open.load(Relaxed)
    }

    /// Whether it is of no use for another request: it ended, or either side has said that it will.
    pub(in crate::http) fn is_leaving(&self) -> bool {
        if self.is_over.load(Relaxed) || self.usage.meter().is_closing(self.opened) {
            return true;
        }
        let mut cx = Context::from_waker(Waker::noop());
        matches!(self.sender.clone().poll_ready(&mut cx), Poll::Ready(Err(_)))
    }

    /// It was found to have ended, which its task may not know yet.
    pub(in crate::http) fn end(&self) {
        self.is_over.store(true, Relaxed);
    }

    /// Since when it has no request; `None` while it has one.
    pub(in crate::http) fn rests(&self) -> Option<Instant> {
        if self.open.load(Relaxed) > 0 {
            return None;
        }
        clock::instant(self.rests.load(Relaxed))
    }

    /// Requests that are done.
    pub(in crate::http) fn served(&self) -> u32 {
        self.served.load(Relaxed)
    }

    /// Whether its loss is still to be told; true once.
    pub(in crate::http) fn is_news(&self) -> bool {
        !self.is_told.swap(true, Relaxed)
    }

    pub(super) fn sender(&self) -> SendRequest<Bytes> {
        self.sender.clone()
    }

    pub(super) fn begins(&self) {
        self.open.fetch_add(1, Relaxed);
    }

    pub(super) fn ends(&self) {
        self.open.fetch_sub(1, Relaxed);
        self.served.fetch_add(1, Relaxed);
        self.rests.store(clock::stamp(clock::now()), Relaxed);
    }
}

fn builder(allowed: u32) -> Builder {
    let mut builder = Builder::new();
    builder
        .enable_push(false)
        .initial_max_send_streams(usize::try_from(allowed).unwrap_or(usize::MAX))
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(HEAD)
        .max_send_buffer_size(UNSENT)
        .max_concurrent_reset_streams(FORGOTTEN)
        // What an origin says too late of answers that we gave up is nobody's fault.
        .max_local_error_reset_streams(None)
        .reset_stream_duration(FORGET);
    builder
}

//! Ways to an endpoint, in the hands of whoever has a request for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use atomic_waker::AtomicWaker;
use ipreconnect::core::address::{Address, EndpointId};
use ipreconnect::sense::tcp::TcpPath;
use ipreconnect::socket::Socket;
use ipreconnect::tls::Session;
use ipreconnect::{Link, Meter, Origin, Usage, clock};

use super::buffer;
use super::h2::{Call, Mux};
use super::pool::Resting;
use super::record::Shown;
use super::way::Way;
use super::wire::Wire;
use crate::l4::End;
use crate::watch::{self, Key, Said, Watched};

/// What the task that uses a connection and the worker's watch share; both run on one thread, so that
/// the atomics cost nothing.
#[derive(Debug)]
pub(super) struct Line {
    socket: Arc<Socket>,
    is_tcp: bool,
    origin: Origin,
    endpoint: EndpointId,
    /// The endpoint's address, as it is told.
    shown: Shown,
    usage: Arc<Usage>,
    opened: Instant,
    /// Stamp of the beginning of the request that is unanswered; 0 without one.
    asked: AtomicU64,
    /// Stamp of the last byte of it.
    sent: AtomicU64,
    is_condemned: AtomicU8,
    /// The state of the origin has changed since the last look.
    has_news: AtomicBool,
    waker: AtomicWaker,
}

/// What the watch has to say to whoever waits for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// The connection was ended by order.
    Condemned,
    /// The state of the origin has changed.
    News,
}

impl Line {
    pub(super) fn endpoint(&self) -> EndpointId {
        self.endpoint
    }

    pub(super) fn shown(&self) -> Shown {
        self.shown
    }

    /// Waits for a word of the watch.
    pub(super) fn poll_word(&self, cx: &mut Context<'_>) -> Poll<Word> {
        self.waker.register(cx.waker());
        if self.is_condemned.load(Relaxed) != 0 {
            return Poll::Ready(Word::Condemned);
        }
        if self.has_news.load(Relaxed) {
            self.has_news.store(false, Relaxed);
            return Poll::Ready(Word::News);
        }
        Poll::Pending
    }

    /// The path, if it has one.
    pub(super) fn path(&self) -> Option<TcpPath> {
        if !self.is_tcp {
            return None;
        }
        TcpPath::of(self.socket.get_ref()).ok()
    }
}

impl Watched for Line {
    fn origin(&self) -> &Origin {
        &self.origin
    }

    fn endpoint(&self) -> EndpointId {
        self.endpoint
    }

    fn meter(&self) -> &Meter {
        self.usage.meter()
    }

    fn opened(&self) -> Instant {
        self.opened
    }

    fn asked(&self) -> Option<Instant> {
        clock::instant(self.asked.load(Relaxed))
    }

    fn sent(&self) -> Option<Instant> {
        clock::instant(self.sent.load(Relaxed))
    }

    fn path(&self) -> Option<TcpPath> {
        Self::path(self)
    }

    fn excuse(&self, now: Instant) {
        if self.asked.load(Relaxed) != 0 {
            self.asked.store(clock::stamp(now), Relaxed);
            self.sent.store(clock::stamp(now), Relaxed);
        }
    }

    fn condemn(&self, _: End) {
        self.is_condemned.store(1, Relaxed);
        self.waker.wake();
    }

    fn first_limit(&self) -> Option<Instant> {
        None
    }

    fn enforce(&self, _: Instant) -> Option<Instant> {
        None
    }

    fn hear(&self) {
        self.has_news.store(true, Relaxed);
        self.waker.wake();
    }
}

/// A connection to an endpoint, in the hands of whoever uses it. Dropping it ends it.
#[derive(Debug)]
pub(super) struct Upstream {
    pub(super) way: Way,
    /// What has come and is not read yet.
    pub(super) input: Vec<u8>,
    line: Arc<Line>,
    key: Key,
    /// That it rests, while it does.
    pub(super) resting: Option<Resting>,
    /// Requests that it has answered.
    served: u32,
    /// Since when nobody uses it.
    rests: Instant,
    /// How long the origin says that it keeps it.
    keeps_for: Option<Duration>,
}

impl Upstream {
    /// A connection of its own, for one request after the other.
    pub(super) fn new(origin: &Origin, link: Link) -> Self {
        let parts = link.into_parts();
        let socket = Arc::new(parts.socket);
        let now = clock::now();
        let line = Line {
            socket: Arc::clone(&socket),
            is_tcp: matches!(parts.address, Address::Tcp(_)),
            origin: origin.clone(),
            endpoint: parts.endpoint,
            shown: Shown::new(&parts.address.to_string()),
            usage: Arc::new(parts.usage),
            opened: now,
            asked: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            is_condemned: AtomicU8::new(0),
            has_news: AtomicBool::new(false),
            waker: AtomicWaker::new(),
        };
        let mut upstream = Self::of(Way::Wire(Wire::new(socket, parts.tls)), line, (0, now));
        upstream.input = parts.early;
        upstream
    }

    /// A part of a shared connection, for one request.
    pub(super) fn join(origin: &Origin, mux: &Arc<Mux>, now: Instant) -> Self {
        let line = Line {
            socket: Arc::clone(&mux.socket),
            is_tcp: mux.is_tcp,
            origin: origin.clone(),
            endpoint: mux.endpoint,
            shown: mux.shown,
            usage: Arc::clone(&mux.usage),
            opened: mux.opened,
            asked: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            is_condemned: AtomicU8::new(0),
            has_news: AtomicBool::new(false),
            waker: AtomicWaker::new(),
        };
        let past = (mux.served(), mux.rests().unwrap_or(now));
        Self::of(Way::Call(Box::new(Call::new(Arc::clone(mux)))), line, past)
    }

    fn of(way: Way, line: Line, (served, rests): (u32, Instant)) -> Self {
        let line = Arc::new(line);
        let watched = Arc::clone(&line);
        Self {
            way,
            input: Vec::new(),
            line,
            key: watch::enter(watched),
            resting: None,
            served,
            rests,
            keeps_for: None,
        }
    }

    pub(super) fn line(&self) -> &Line {
        &self.line
    }

    /// Requests that it has answered before.
    pub(super) fn served(&self) -> u32 {
        self.served
    }

    /// How long it had not been used when it was taken.
    pub(super) fn rested(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.rests)
    }

    /// How long the origin says that it keeps it.
    pub(super) fn keeps_for(&self) -> Option<Duration> {
        self.keeps_for
    }

    /// A request begins.
    pub(super) fn asks(&self, now: Instant) {
        let stamp = clock::stamp(now);
        self.line.asked.store(stamp, Relaxed);
        self.line.sent.store(stamp, Relaxed);
        watch::asked(self.key, now);
    }

    /// More of the request was sent.
    pub(super) fn sends(&self, now: Instant) {
        self.line.sent.store(clock::stamp(now), Relaxed);
    }

    /// The answer begins.
    pub(super) fn answers(&self, now: Instant, said: Said) {
        let asked = clock::instant(self.line.asked.load(Relaxed));
        self.line.asked.store(0, Relaxed);
        self.line.usage.meter().answer(now);
        watch::answered(&*self.line, asked, now, said);
    }

    /// The request is lost, or answered by nobody.
    pub(super) fn loses(&self) {
        watch::lost(&*self.line);
    }

    /// It goes to rest, until there is another request.
    pub(super) fn rest(&mut self, now: Instant, keeps_for: Option<Duration>) {
        self.rests = now;
        self.served = self.served.saturating_add(1);
        self.keeps_for = keeps_for;
        buffer::give_bytes(std::mem::take(&mut self.input));
    }

    /// Whether it was ended by order, or its endpoint's connections were.
    pub(super) fn is_condemned(&self) -> bool {
        self.line.is_condemned.load(Relaxed) != 0
            || self.line.usage.meter().is_closing(self.line.opened)
    }

    /// The request is over, and its connection is not needed for it any more: a shared one is left.
    pub(super) fn leave(mut self) -> Option<Self> {
        if matches!(self.way, Way::Wire(_)) {
            return Some(self);
        }
        if let Way::Call(call) = &mut self.way {
            call.finish();
        }
        None
    }

    /// Takes it out of the watch, for those who carry bytes another way. `None` if its connection is
    /// shared, or if somebody else looks at it at this very moment, which nobody does on this thread.
    pub(super) fn into_parts(mut self) -> Option<Taken> {
        let input = std::mem::take(&mut self.input);
        let Way::Wire(wire) = &mut self.way else {
            return None;
        };
        let (socket, tls, _) = wire.take_parts();
        let line = Arc::clone(&self.line);
        drop(self);
        let line = Arc::into_inner(line)?;
        drop(line.socket);
        Some(Taken {
            socket: Arc::into_inner(socket)?,
            tls,
            input,
            is_tcp: line.is_tcp,
            endpoint: line.endpoint,
            usage: Arc::into_inner(line.usage)?,
        })
    }
}

/// A connection that is not one of HTTP any more.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) socket: Socket,
    pub(super) tls: Option<Box<Session>>,
    /// What had come already.
    pub(super) input: Vec<u8>,
    pub(super) is_tcp: bool,
    pub(super) endpoint: EndpointId,
    pub(super) usage: Usage,
}

impl Drop for Upstream {
    fn drop(&mut self) {
        watch::leave(self.key);
        buffer::give_bytes(std::mem::take(&mut self.input));
    }
}

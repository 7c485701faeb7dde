//! One carried stream: both sockets, and what is known of its progress.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use ipreconnect::core::address::EndpointId;
use ipreconnect::sense::tcp::TcpPath;
use ipreconnect::socket::Socket;
use ipreconnect::stats::Outcome;
use ipreconnect::{Meter, Origin, Usage, clock};
use rustix::net::Shutdown;

use super::{End, Route, limits};
use crate::counters::Counters;
use crate::http::Tale;
use crate::number;
use crate::places::Seat;
use crate::watch::Watched;

/// Shared by the task that carries it and by the worker's watch; both run on one thread, so that
/// the atomics cost nothing.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) client: Socket,
    pub(super) origin: Socket,
    pub(super) endpoint: EndpointId,
    pub(super) is_tcp: bool,
    pub(super) usage: Usage,
    pub(super) route: Arc<Route>,
    pub(super) counters: Arc<Counters>,
    pub(super) opened: Instant,
    /// Stamp of the first request byte since the last answer; 0 while nothing is awaited.
    asked: AtomicU64,
    /// Stamp of the last request byte.
    sent: AtomicU64,
    /// Stamp of the last byte in either direction.
    moved: AtomicU64,
    verdict: AtomicU8,
    /// Nothing is read from the origin for now.
    is_deaf: AtomicBool,
    seat: Seat,
    /// What is told of it in the end, if that is more than is counted.
    tale: Option<Box<Tale>>,
}

impl Stream {
    pub(super) fn new(
        (client, origin): (Socket, Socket),
        (endpoint, is_tcp, usage): (EndpointId, bool, Usage),
        route: Arc<Route>,
        counters: Arc<Counters>,
        (seat, tale): (Seat, Option<Box<Tale>>),
    ) -> Self {
        counters.began();
        let now = clock::now();
        Self {
            client,
            origin,
            endpoint,
            is_tcp,
            usage,
            route,
            counters,
            opened: now,
            asked: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            moved: AtomicU64::new(clock::stamp(now)),
            verdict: AtomicU8::new(0),
            is_deaf: AtomicBool::new(false),
            seat,
            tale,
        }
    }

    /// Bytes went to the origin; true if they begin a request, as far as can be told.
    pub(super) fn asks(&self, now: Instant, bytes: usize) -> bool {
        let stamp = clock::stamp(now);
        self.moved.store(stamp, Relaxed);
        self.sent.store(stamp, Relaxed);
        self.counters.carried_to_origin(bytes);
        if let Some(tale) = &self.tale
            && !tale.goes_up(bytes)
        {
            self.condemn(End::Closed);
        }
        let begins = self.asked.load(Relaxed) == 0;
        if begins {
            self.asked.store(stamp, Relaxed);
        }
        begins
    }

    /// Bytes came from the origin; returns when the request they answer had begun.
    pub(super) fn answers(&self, now: Instant, bytes: usize) -> Option<Instant> {
        self.moved.store(clock::stamp(now), Relaxed);
        self.counters.carried_to_client(bytes);
        if let Some(tale) = &self.tale
            && !tale.comes_down(bytes)
        {
            self.condemn(End::Closed);
        }
        let asked = self.asked.load(Relaxed);
        if asked == 0 {
            return None;
        }
        self.asked.store(0, Relaxed);
        clock::instant(asked)
    }

    /// When the last byte moved.
    pub(super) fn moved(&self) -> Option<Instant> {
        clock::instant(self.moved.load(Relaxed))
    }

    /// Whether what the origin says is read: it is not awaited meanwhile.
    pub(super) fn listens(&self, does: bool) {
        self.is_deaf.store(!does, Relaxed);
    }

    /// It came to nothing because of the origin.
    pub(super) fn counts_lost(&self) {
        let outcome = Outcome {
            was_lost: true,
            ..Outcome::default()
        };
        let stats = self.route.origin().stats();
        stats.desk(number::get()).count(&outcome);
    }

    /// Whether nothing is read from the origin for now.
    pub(super) fn is_deaf(&self) -> bool {
        self.is_deaf.load(Relaxed)
    }

    /// It is over.
    pub(super) fn ended(&self, end: End) {
        self.counters.ended(end);
        if let Some(tale) = &self.tale {
            tale.tell(end);
        }
    }

    pub(super) fn seat(&self) -> &Seat {
        &self.seat
    }

    /// Why it was ended from outside, if it was.
    pub(super) fn verdict(&self) -> Option<End> {
        [End::Idle, End::Stalled, End::Closed, End::Drained]
            .into_iter()
            .find(|end| code(*end) == self.verdict.load(Relaxed))
    }

    /// Ends both sockets in order.
    pub(super) fn shut(&self) {
        // A side that is gone already has nothing left to shut down.
        let _ = rustix::net::shutdown(self.client.get_ref(), Shutdown::Both);
        let _ = rustix::net::shutdown(self.origin.get_ref(), Shutdown::Both);
    }
}

impl Watched for Stream {
    fn origin(&self) -> &Origin {
        self.route.origin()
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
        if self.is_deaf.load(Relaxed) {
            return None;
        }
        clock::instant(self.asked.load(Relaxed))
    }

    fn sent(&self) -> Option<Instant> {
        clock::instant(self.sent.load(Relaxed))
    }

    fn path(&self) -> Option<TcpPath> {
        if !self.is_tcp {
            return None;
        }
        TcpPath::of(self.origin.get_ref()).ok()
    }

    fn excuse(&self, now: Instant) {
        let stamp = clock::stamp(now);
        if self.asked.load(Relaxed) != 0 {
            self.asked.store(stamp, Relaxed);
            self.sent.store(stamp, Relaxed);
        }
        self.moved.store(stamp, Relaxed);
    }

    fn condemn(&self, end: End) {
        self.verdict.store(code(end), Relaxed);
        self.shut();
    }

    fn first_limit(&self) -> Option<Instant> {
        limits::first(self)
    }

    fn enforce(&self, now: Instant) -> Option<Instant> {
        limits::enforce(self, now)
    }
}

fn code(end: End) -> u8 {
    match end {
        End::Idle => 1,
        End::Stalled => 2,
        End::Closed => 3,
        End::Drained => 4,
        End::ByClient | End::ByOrigin | End::ResetByClient | End::ResetByOrigin | End::Evicted => 0,
    }
}

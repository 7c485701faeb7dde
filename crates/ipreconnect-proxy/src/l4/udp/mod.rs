//! UDP: datagrams of many clients, each with a session and a socket of its own to an endpoint.
//!
//! Each worker has a socket of the listener's group; the kernel sends a client's datagrams always to
//! the same one. The sockets of its sessions are watched together, by an epoll of their own, so that
//! one turn takes what many of them have and sends it on in one call.
//!
//! UDP tells little: an ICMP error says that an endpoint refuses, an answer that it lives. Silence says
//! nothing. So a short datagram is kept until it is answered, for a second at most; if its endpoint
//! refuses, it goes to the next one, or waits in the hold.

mod batch;
mod groups;
mod session;
mod table;

use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use ipreconnect::core::access::Source;
use ipreconnect::core::balance::Standing;
use ipreconnect::socket::{Socket, register};
use ipreconnect::{Error, Hold, Snapshot, clock};
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::io::Errno;
use tokio::sync::oneshot;
use tokio::time::{Interval, MissedTickBehavior};

use super::session::hash;
use super::{End, Route};
use crate::counters::Counters;
use crate::notice;
use crate::number;
use crate::places::Places;
use crate::turn;
use batch::{Batch, Received, SLOTS, Senders};
use groups::{Groups, Slots};
use session::{Burst, Session};
use table::{Client, Key, Table};

pub(crate) use batch::{put_together, tell_destination};

/// Datagrams taken from one session in one turn.
const TURN: usize = 8;
/// Datagrams in one turn, before others have theirs.
const BUDGET: usize = SLOTS;
/// Between two looks for idle sessions.
const TICK: Duration = Duration::from_secs(1);
/// Bytes that all sessions of one socket may hold.
const HELD_BYTES: usize = 4 << 20;
/// What answers get to come, once the listener closes.
const LAST_WORDS: Duration = Duration::from_secs(1);

thread_local! {
    static BATCH: RefCell<Batch> = RefCell::new(Batch::new());
    static EVENTS: RefCell<Vec<epoll::Event>> = RefCell::new(Vec::with_capacity(SLOTS));
}

type Holding = Pin<Box<dyn Future<Output = (Hold, Result<(), Error>)> + Send>>;

/// One listening UDP socket of one worker, and its sessions.
pub(crate) struct Datagrams {
    socket: Socket,
    /// Of a socket that is bound to one address only.
    bound: Option<IpAddr>,
    poll: Socket,
    sessions: Table,
    groups: Groups,
    holding: Option<Holding>,
    held: usize,
    source: Arc<ArcSwap<Route>>,
    route: Arc<Route>,
    seen: Arc<Snapshot>,
    /// Counts what was seen of the origin.
    look: u64,
    /// Counts how often all sessions were read to their end.
    turn: u64,
    counters: Arc<Counters>,
    places: Arc<Places>,
    tick: Interval,
    closed: Option<oneshot::Receiver<()>>,
    closes_at: Option<Instant>,
}

impl Datagrams {
    pub(crate) fn new(
        socket: OwnedFd,
        route: Arc<ArcSwap<Route>>,
        counters: Arc<Counters>,
        places: Arc<Places>,
        closed: oneshot::Receiver<()>,
    ) -> io::Result<Self> {
        let local = rustix::net::getsockname(&socket)?;
        let local = SocketAddr::try_from(local)?;
        let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let current = route.load_full();
        Ok(Self {
            socket: register(socket)?,
            bound: (!local.ip().is_unspecified()).then_some(local.ip()),
            poll: register(poll)?,
            sessions: Table::default(),
            groups: Groups::default(),
            holding: None,
            held: 0,
            seen: current.origin().snapshot(),
            source: route,
            route: current,
            look: 1,
            turn: 1,
            counters,
            places,
            tick,
            closed: Some(closed),
            closes_at: None,
        })
    }

    /// Notices that the route, or what is known of its origin, has changed.
    fn look(&mut self) {
        let route = self.source.load();
        if !Arc::ptr_eq(&route, &self.route) {
            self.route = Arc::clone(&route);
            self.look += 1;
        }
        let snapshot = self.route.origin().snapshot();
        if !Arc::ptr_eq(&snapshot, &self.seen) {
            self.seen = snapshot;
            self.look += 1;
        }
    }

    /// Takes a batch of what clients sent; returns how much it was.
    fn poll_clients(&mut self, cx: &mut Context<'_>) -> Poll<usize> {
        let Ok(mut guard) = ready!(self.socket.poll_read_ready(cx)) else {
            // The runtime is shutting down.
            return Poll::Pending;
        };
        let outcome = BATCH.with_borrow_mut(|batch| {
            batch.clear();
            batch.receive(self.socket.get_ref(), Senders::Named, SLOTS)
        });
        // After an error too: the next datagram rings again.
        let is_empty = match &outcome {
            Ok(slots) => slots.len() < SLOTS,
            Err(error) => error.kind() != io::ErrorKind::Interrupted,
        };
        if is_empty {
            guard.clear_ready();
        }
        drop(guard);
        let count = outcome.as_ref().map_or(0, Range::len);
        match outcome {
            Ok(slots) => BATCH.with_borrow_mut(|batch| self.take_in(batch, slots)),
            Err(error) if is_for_later(&error) => {}
            Err(error) => {
                tracing::debug!(listener = self.route.name(), %error, "receiving failed");
            }
        }
        Poll::Ready(count)
    }

    fn take_in(&mut self, batch: &mut Batch, slots: Range<usize>) {
        self.look();
        let now = clock::now();
        let mut groups = std::mem::take(&mut self.groups);
        groups.begin();
        for slot in slots {
            match self.session_of(batch.received(slot), now) {
                Some(key) => {
                    if let Some(session) = self.sessions.get_mut(key) {
                        groups.add(key, slot, &mut session.group);
                    }
                }
                None => self.counters.dropped(1),
            }
        }
        for (key, slots) in groups.each() {
            self.carry_up(batch, key, &slots, now);
        }
        self.groups = groups;
    }

    /// The session of who sent this, made if there is none and there may be one.
    fn session_of(&mut self, received: Received, now: Instant) -> Option<Key> {
        let client = Client {
            from: received.from?,
            asked: match self.bound {
                Some(_) => None,
                None => received.to,
            },
        };
        if let Some(key) = self.sessions.find(&client) {
            return Some(key);
        }
        if self.closes_at.is_some() {
            return None;
        }
        self.counters.accepted();
        let from = client.from.ip().to_canonical();
        match self.route.access().at_once(Source::Ip(from)) {
            Some(Ok(())) => {}
            Some(Err(refusal)) => {
                self.counters.denied();
                notice::denied(self.route.name(), &from.to_string(), &refusal);
                return None;
            }
            // Nobody is at the other end of a datagram of whom more could be known.
            None => {
                self.counters.denied();
                return None;
            }
        }
        if self.sessions.len() >= self.places.for_datagrams() || !self.places.are_left() {
            let oldest = self.sessions.oldest()?;
            self.end(oldest, End::Evicted);
        }
        let seat = self.places.take(number::get())?;
        let origin = self.route.origin().identity();
        self.counters.began();
        let session = Session::new(client, origin, now, seat);
        Some(self.sessions.insert(session))
    }

    fn carry_up(&mut self, batch: &mut Batch, key: Key, slots: &Slots<'_>, now: Instant) {
        self.sessions.touch(key, now);
        let bytes = slots.iter().map(|slot| batch.received(slot).length).sum();
        self.counters.carried_to_origin(bytes);
        let is_open = self.find_way(key, now);
        let holds = self
            .sessions
            .get_mut(key)
            .is_some_and(|one| one.is_holding());
        let sent = if is_open && !holds {
            self.send_on(batch, key, slots, now)
        } else {
            0
        };
        let datagrams = slots.iter().flat_map(|slot| batch.datagrams(slot));
        for datagram in datagrams.skip(sent) {
            self.hold(datagram, key, now);
        }
        self.flush(key, now);
    }

    /// Sends slots on by the way of a session; returns how many datagrams were dealt with when it is
    /// refused, or all.
    fn send_on(&mut self, batch: &mut Batch, key: Key, slots: &Slots<'_>, now: Instant) -> usize {
        let Some(session) = self.sessions.get_mut(key) else {
            return 0;
        };
        let Some(way) = &session.way else {
            return 0;
        };
        if let Some(slot) = slots.only()
            && batch.received(slot).segment.is_none()
        {
            let datagram = batch.datagrams(slot).next().unwrap_or_default();
            return match send_one(&way.socket, datagram) {
                Ok(()) => {
                    session.unanswered.keep(datagram, now);
                    1
                }
                Err(error) if is_refusal(&error) => {
                    self.refused(key, &error, now);
                    0
                }
                Err(_) => {
                    self.counters.dropped(1);
                    1
                }
            };
        }
        let mut done = 0;
        // A way that never answered is asked by one datagram first.
        let first = usize::from(!session.proven);
        for (skip, take) in [(0, first), (first, SLOTS)] {
            batch.queue(slots.iter().skip(skip).take(take), None, None);
            while batch.queued() > 0 {
                let (sent, error) = batch.send(&way.socket);
                let datagrams = slots.iter().flat_map(|slot| batch.datagrams(slot));
                for datagram in datagrams.skip(done).take(sent) {
                    session.unanswered.keep(datagram, now);
                }
                done += sent;
                match error {
                    None => {}
                    Some(error) if is_refusal(&error) => {
                        batch.unqueue();
                        self.refused(key, &error, now);
                        return done;
                    }
                    Some(error) => {
                        let before = batch.queued();
                        self.counters.dropped(batch.send_apart(&way.socket, &error));
                        done += before - batch.queued();
                    }
                }
            }
        }
        done
    }

    /// Whether the session has a good way, or now has one.
    fn find_way(&mut self, key: Key, now: Instant) -> bool {
        let origin = self.route.origin();
        let Some(session) = self.sessions.get_mut(key) else {
            return false;
        };
        if session.origin != origin.identity() {
            session.origin = origin.identity();
            session.way = None;
            session.refused.clear();
        }
        if let Some(way) = &session.way {
            if session.look == self.look {
                return true;
            }
            let endpoints = &self.seen.view().endpoints;
            let is_good = endpoints
                .iter()
                .any(|endpoint| endpoint.id == way.endpoint && endpoint.standing != Standing::Bad);
            if is_good && !way.usage.meter().is_closing(session.since) {
                session.look = self.look;
                return true;
            }
            session.way = None;
            if !is_good {
                // What went there of late may have been refused already.
                let before = session.held_bytes();
                session.take_back(now);
                self.held = self.held + session.held_bytes() - before;
            }
        }
        let Some(chooser) = self.route.chooser(number::get()) else {
            return false;
        };
        let by = Some(hash(session.client.from.ip()));
        let refused = &session.refused;
        let Some(way) = origin.way(chooser, by, |id| !refused.contains(&id)) else {
            return false;
        };
        let data = epoll::EventData::new_u64(key.to_bits());
        if let Err(errno) = epoll::add(
            self.poll.get_ref(),
            &way.socket,
            data,
            epoll::EventFlags::IN,
        ) {
            origin.refused(way.endpoint, &errno.into());
            return false;
        }
        session.way = Some(way);
        session.since = now;
        session.burst = Burst::One;
        session.proven = false;
        session.look = self.look;
        true
    }

    /// Keeps a datagram until there is a way.
    fn hold(&mut self, datagram: &[u8], key: Key, now: Instant) {
        let settings = self.route.origin().settings();
        let may_wait = !settings.hold.patience.is_zero();
        let is_room = self.held + datagram.len() <= HELD_BYTES;
        let session = self.sessions.get_mut(key);
        let Some(session) = session.filter(|_| may_wait && is_room) else {
            return self.counters.dropped(1);
        };
        let before = session.held_bytes();
        self.counters.dropped(session.hold(datagram, now));
        self.held = self.held + session.held_bytes() - before;
    }

    /// The endpoint of a session refused: what went there of late waits for another way.
    fn refused(&mut self, key: Key, error: &io::Error, now: Instant) {
        let origin = self.route.origin();
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        let Some(way) = session.way.take() else {
            return;
        };
        if session.origin == origin.identity() {
            let failure = origin.refused(way.endpoint, error);
            if failure.cause.is_ours() {
                session.way = Some(way);
                return self.counters.dropped(1);
            }
        }
        session.refused.push(way.endpoint);
        let before = session.held_bytes();
        session.take_back(now);
        self.held = self.held + session.held_bytes() - before;
    }

    /// Sends what a session holds, if it has a way; else waits for one.
    fn flush(&mut self, key: Key, now: Instant) {
        while self
            .sessions
            .get_mut(key)
            .is_some_and(|one| one.is_holding())
        {
            if !self.find_way(key, now) {
                return self.wait();
            }
            let Some(session) = self.sessions.get_mut(key) else {
                return;
            };
            let (Some(way), Some(kept)) = (&session.way, session.held.pop_front()) else {
                return;
            };
            self.held = self.held.saturating_sub(kept.cost());
            match send_one(&way.socket, &kept.bytes) {
                Ok(()) => session.unanswered.keep(&kept.bytes, now),
                Err(error) if is_refusal(&error) => {
                    self.held += kept.cost();
                    session.held.push_front(kept);
                    self.refused(key, &error, now);
                }
                Err(_) => self.counters.dropped(1),
            }
        }
    }

    /// Waits in the origin's hold, once for all sessions.
    fn wait(&mut self) {
        if self.holding.is_none() {
            self.wait_as(Hold::default());
        }
    }

    fn wait_as(&mut self, mut hold: Hold) {
        let origin = self.route.origin().clone();
        self.holding = Some(Box::pin(async move {
            let outcome = origin.wait(&mut hold).await;
            (hold, outcome)
        }));
    }

    fn poll_hold(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(holding) = &mut self.holding else {
            return Poll::Pending;
        };
        let (hold, outcome) = ready!(holding.as_mut().poll(cx));
        self.holding = None;
        self.look();
        let now = clock::now();
        match outcome {
            Ok(()) => {
                for key in self.sessions.keys() {
                    if let Some(session) = self.sessions.get_mut(key)
                        && session.is_holding()
                    {
                        session.refused.clear();
                        self.flush(key, now);
                    }
                }
                if self.holding.take().is_some() {
                    // With the same place, so that the driver knows that this came to nothing.
                    self.wait_as(hold);
                }
            }
            Err(error) => {
                tracing::debug!(listener = self.route.name(), %error, "held datagrams are dropped");
                self.lose_patience(now, Duration::ZERO);
            }
        }
        Poll::Ready(())
    }

    fn lose_patience(&mut self, now: Instant, patience: Duration) {
        for key in self.sessions.keys() {
            if let Some(session) = self.sessions.get_mut(key) {
                let before = session.held_bytes();
                self.counters.dropped(session.lose_patience(now, patience));
                self.held = self.held + session.held_bytes() - before;
            }
        }
        if self.held == 0 {
            self.holding = None;
        }
    }

    /// Takes what endpoints sent to some sessions; returns to how many.
    fn poll_origins(&mut self, cx: &mut Context<'_>) -> Poll<usize> {
        let Ok(mut guard) = ready!(self.poll.poll_read_ready(cx)) else {
            return Poll::Pending;
        };
        let mut keys = [None; SLOTS];
        let count = EVENTS.with_borrow_mut(|events| {
            events.clear();
            let at_once = Timespec::default();
            match epoll::wait(self.poll.get_ref(), spare_capacity(events), Some(&at_once)) {
                // A session that is not read to its end is told again, so only none is none.
                Ok(0) => {
                    self.turn += 1;
                    guard.clear_ready();
                }
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => {
                    tracing::error!(error = %errno, "sessions cannot be watched; please report it");
                    guard.clear_ready();
                }
            }
            for (key, event) in keys.iter_mut().zip(events.iter()) {
                *key = Some(Key::from_bits(event.data.u64()));
            }
            events.len()
        });
        drop(guard);
        self.look();
        let now = clock::now();
        BATCH.with_borrow_mut(|batch| {
            batch.clear();
            for key in keys.into_iter().flatten() {
                if batch.used() + TURN > SLOTS {
                    self.send_answers(batch);
                }
                self.carry_down(batch, key, now);
            }
            self.send_answers(batch);
        });
        Poll::Ready(count)
    }

    /// Receives what a session's endpoint sent, and makes it ready for the client.
    fn carry_down(&mut self, batch: &mut Batch, key: Key, now: Instant) {
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        let Some(way) = &session.way else {
            return;
        };
        let outcome = match session.burst {
            Burst::One => batch.receive_one(&way.socket),
            Burst::Several => batch.receive(&way.socket, Senders::Known, TURN),
        };
        match outcome {
            Ok(slots) => {
                let bytes = slots.clone().map(|slot| batch.received(slot).length).sum();
                batch.queue(slots, Some(session.client.from), session.client.asked);
                self.counters.carried_to_client(bytes);
                if session.origin == self.route.origin().identity() {
                    self.route.origin().answered(way.endpoint, &way.usage);
                }
                session.answered();
                if session.learn(self.turn)
                    && let Some(way) = &session.way
                {
                    // Where the kernel cannot, they stay apart.
                    let _ = put_together(&way.socket);
                }
                self.sessions.touch(key, now);
            }
            Err(error) if is_for_later(&error) => {}
            Err(error) => {
                self.refused(key, &error, now);
                self.flush(key, now);
            }
        }
    }

    fn send_answers(&mut self, batch: &mut Batch) {
        while batch.queued() > 0 {
            if let (_, Some(error)) = batch.send(self.socket.get_ref()) {
                let lost = batch.send_apart(self.socket.get_ref(), &error);
                self.counters.dropped(lost);
            }
        }
        batch.clear();
    }

    fn poll_tick(&mut self, cx: &mut Context<'_>) {
        // Without sessions nothing is due, and nobody need be woken.
        while self.sessions.len() > 0 && self.tick.poll_tick(cx).is_ready() {
            let now = clock::now();
            // Orders to close do not show in a snapshot.
            self.look += 1;
            let idle = self.route.timeouts().idle;
            while let Some(key) = self.sessions.idle(now, idle) {
                self.end(key, End::Idle);
            }
            if self.held > 0 {
                self.lose_patience(now, self.route.origin().settings().hold.patience);
            }
        }
    }

    fn end(&mut self, key: Key, end: End) {
        if let Some(session) = self.sessions.remove(key) {
            self.held = self.held.saturating_sub(session.held_bytes());
            self.counters.dropped(session.held.len() as u64);
            self.counters.ended(end);
        }
    }

    /// Once the listener is closed, only those stay who wait for an answer, and not for long.
    fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let now = clock::now();
        if let Some(closed) = &mut self.closed
            && Pin::new(closed).poll(cx).is_ready()
        {
            self.closed = None;
            self.closes_at = Some(now + LAST_WORDS);
        }
        let Some(closes_at) = self.closes_at else {
            return Poll::Pending;
        };
        for key in self.sessions.keys() {
            let waits = self.sessions.get_mut(key).is_some_and(|one| one.waits(now));
            if !waits || now >= closes_at {
                self.end(key, End::Drained);
            }
        }
        if self.sessions.len() == 0 {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }
}

impl Future for Datagrams {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.poll_closed(cx).is_ready() {
            return Poll::Ready(());
        }
        let mut moved = 0;
        while moved < BUDGET {
            let came = self.poll_clients(cx);
            let answered = self.poll_origins(cx);
            let released = self.poll_hold(cx);
            if came.is_pending() && answered.is_pending() && released.is_pending() {
                self.poll_tick(cx);
                return Poll::Pending;
            }
            moved += [came, answered].into_iter().map(count).sum::<usize>() + 1;
        }
        turn::later(cx);
        Poll::Pending
    }
}

fn count(moved: Poll<usize>) -> usize {
    match moved {
        Poll::Ready(count) => count,
        Poll::Pending => 0,
    }
}

fn send_one(socket: &OwnedFd, bytes: &[u8]) -> io::Result<()> {
    use rustix::net::{SendFlags, send};
    loop {
        match send(socket, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

fn is_for_later(error: &io::Error) -> bool {
    use io::ErrorKind::{Interrupted, WouldBlock};
    matches!(error.kind(), Interrupted | WouldBlock)
}

/// Whether an error is an answer to what was sent: that nobody is there.
fn is_refusal(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(
        errno,
        Some(
            Errno::CONNREFUSED
                | Errno::HOSTUNREACH
                | Errno::NETUNREACH
                | Errno::HOSTDOWN
                | Errno::NETDOWN
                | Errno::NOPROTOOPT
        )
    )
}

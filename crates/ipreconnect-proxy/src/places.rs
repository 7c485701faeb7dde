//! How many clients may be inside, and how many each worker has.
//!
//! A client takes two descriptors of the process's limit. Each worker counts its own clients in a cache
//! line of its own; sums are made by those who want them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use ipreconnect::clock;

use crate::crowd::{Held, Inside};
use crate::throttle::Throttle;

/// Descriptors kept back for everything but clients.
const RESERVED_FILES: usize = 128;
/// How far a worker may be ahead of another before it hands clients over: a part of what the other has.
/// Connections that come and go differ by that much anyway.
const SLACK: usize = 8;
/// A pause is over when nobody had to wait for so long.
const CALM: Duration = Duration::from_secs(5);
/// The part of all places that one UDP address may take.
const DATAGRAMS: usize = 4;
/// Other workers that are looked at for each client.
const LOOKS: usize = 8;

/// Places for clients, over all workers.
#[derive(Debug)]
pub(crate) struct Places {
    desks: Box<[Desk]>,
    limit: usize,
    /// Stamp of the last time that no place was left; 0 when that was told to be over.
    full: AtomicU64,
}

/// The clients of one worker.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Desk {
    taken: AtomicUsize,
    /// Where among the others its worker looks next.
    turn: AtomicUsize,
}

impl Places {
    /// As many as fit into so many descriptors.
    pub(crate) fn within(files: usize, workers: u16) -> Self {
        Self {
            desks: (0..workers).map(|_| Desk::default()).collect(),
            limit: (files.saturating_sub(RESERVED_FILES) / 2).max(1),
            full: AtomicU64::new(0),
        }
    }

    /// Clients that are inside.
    pub(crate) fn taken(&self) -> usize {
        self.desks.iter().map(Desk::taken).sum()
    }

    /// Clients that are inside, for each worker.
    pub(crate) fn by_desk(&self) -> Vec<usize> {
        self.desks.iter().map(Desk::taken).collect()
    }

    /// UDP sessions that one socket of one worker may have: who sends from ever new addresses must not
    /// take everybody's places.
    pub(crate) fn for_datagrams(&self) -> usize {
        (self.limit / DATAGRAMS / self.desks.len().max(1)).max(1)
    }

    /// Whether one more client may come in.
    pub(crate) fn are_left(&self) -> bool {
        self.taken() < self.limit
    }

    /// A place with that worker; `None` if there is no such worker.
    pub(crate) fn take(self: &Arc<Self>, worker: u16) -> Option<Seat> {
        self.desks.get(usize::from(worker))?;
        Some(Seat::new(self, worker))
    }

    /// The worker that should have the next client that `worker` accepts: itself, unless another has
    /// clearly fewer.
    pub(crate) fn emptiest(&self, worker: u16) -> u16 {
        let count = self.desks.len();
        let own = usize::from(worker);
        let Some((taken, turn)) = self.desks.get(own).map(|desk| desk.look()) else {
            return worker;
        };
        let others = (0..LOOKS.min(count)).map(|step| (turn + step) % count);
        let least = others
            .filter(|other| *other != own)
            .filter_map(|other| Some((self.desks.get(other)?.taken(), other)))
            .min();
        match least {
            Some((fewest, other)) if taken > fewest + fewest / SLACK => {
                u16::try_from(other).unwrap_or(worker)
            }
            _ => worker,
        }
    }

    /// Accepting pauses; true for the worker that is the first to notice.
    pub(crate) fn pause(&self, now: Instant) -> bool {
        self.full.swap(clock::stamp(now), Relaxed) == 0
    }

    /// Somebody was accepted; true if that ends a pause for good: there are some places to spare, and there
    /// were enough for a while.
    pub(crate) fn resume(&self) -> bool {
        let full = self.full.load(Relaxed);
        let Some(last) = clock::instant(full) else {
            return false;
        };
        self.taken() < self.limit - self.limit / 8
            && clock::now().saturating_duration_since(last) > CALM
            && self
                .full
                .compare_exchange(full, 0, Relaxed, Relaxed)
                .is_ok()
    }
}

impl Desk {
    fn taken(&self) -> usize {
        self.taken.load(Relaxed)
    }

    /// What it has, and where to look next: with many workers a client is compared with a few, others
    /// each time.
    fn look(&self) -> (usize, usize) {
        let turn = self.turn.load(Relaxed);
        self.turn.store(turn.wrapping_add(LOOKS), Relaxed);
        (self.taken(), turn)
    }
}

/// One client's place.
#[derive(Debug)]
pub(crate) struct Seat {
    places: Arc<Places>,
    worker: u16,
    counts: Counts,
}

/// What counts a client among those of its listener, and among those of its source.
pub(crate) type Counts = (Option<Inside>, Option<Held>);

impl Seat {
    fn new(places: &Arc<Places>, worker: u16) -> Self {
        let seat = Self {
            places: Arc::clone(places),
            worker,
            counts: (None, None),
        };
        if let Some(desk) = seat.desk() {
            desk.taken.fetch_add(1, Relaxed);
        }
        seat
    }

    fn desk(&self) -> Option<&Desk> {
        self.places.desks.get(usize::from(self.worker))
    }

    /// A place beside it, for work that its client has caused and does not wait for.
    pub(crate) fn beside(&self) -> Self {
        Self::new(&self.places, self.worker)
    }

    /// One more for the same client, which opens more than one connection; none, if no places are left.
    pub(crate) fn one_more(&self) -> Option<Self> {
        self.places.are_left().then(|| self.beside())
    }

    /// The same, which counts for its listener.
    pub(crate) fn among(mut self, inside: Inside) -> Self {
        self.counts.0 = Some(inside);
        self
    }

    /// What holds its bytes to the rates that it shares with others, if anything does: those to the origin,
    /// and those to the client.
    pub(crate) fn throttles(&self) -> Option<Box<[Throttle; 2]>> {
        let crowd = self.counts.0.as_ref()?.crowd();
        let source = self.counts.1.as_ref().map(Held::lanes);
        Throttle::both(crowd, source)
    }

    /// It no longer counts, but that does.
    pub(crate) fn take_counts(&mut self) -> Counts {
        std::mem::take(&mut self.counts)
    }

    /// It counts for its source, too.
    pub(crate) fn holds(&mut self, held: Option<Held>) {
        self.counts.1 = held;
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let Some(desk) = self.desk() {
            desk.taken.fetch_sub(1, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{Places, Seat};

    fn seat(places: &Arc<Places>, accepting: u16) -> (u16, Seat) {
        let worker = places.emptiest(accepting);
        (worker, places.take(worker).expect("that worker exists"))
    }

    #[test]
    fn whoever_accepts_few_long_connections_are_spread_evenly() {
        let places = Arc::new(Places::within(20_000, 2));
        let seats: Vec<_> = (0..8).map(|_| seat(&places, 0)).collect();
        let first = seats.iter().filter(|(worker, _)| *worker == 0).count();
        assert_eq!(first, 4);
    }

    #[test]
    fn many_connections_are_even_within_an_eighth_over_all_workers() {
        let places = Arc::new(Places::within(200_000, 64));
        let seats: Vec<_> = (0..6_400).map(|_| seat(&places, 7)).collect();
        let most = (0..64)
            .map(|worker| seats.iter().filter(|(of, _)| *of == worker).count())
            .max();
        assert!(most <= Some(120), "{most:?}");
        drop(seats);
        assert_eq!(places.taken(), 0);
    }

    #[test]
    fn one_worker_keeps_what_it_accepts() {
        let places = Arc::new(Places::within(1_000, 1));
        let seats: Vec<_> = (0..10).map(|_| seat(&places, 0)).collect();
        assert!(seats.iter().all(|(worker, _)| *worker == 0));
    }
}

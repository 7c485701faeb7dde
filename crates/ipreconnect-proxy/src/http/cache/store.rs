//! What is held: answers by their URLs, within so many bytes. What was not used for the longest time goes
//! first; one look is another chance.

use std::collections::hash_map::RandomState;
use std::collections::{HashMap, VecDeque};
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ipreconnect::clock;
use tokio::sync::Notify;

use super::{Cache, Entry};

/// Parts of the store, each with a lock of its own.
const PARTS: u64 = 16;
/// Answers to one URL.
const VARIANTS: usize = 32;
/// URLs that were made void, as far as they are remembered: what is on its way meanwhile is not stored.
const VOIDED: usize = 256;
/// For so long nobody waits for an answer to a URL whose last one was for nobody else.
const UNFIT: Duration = Duration::from_secs(30);
/// URLs that this is remembered of.
const UNFITS: usize = 4096;
/// Nobody waits longer for the answer to somebody else.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);
/// Nor for somebody who has not taken anything for so many milliseconds.
const BLOCKED: u64 = 1_000;

#[derive(Debug)]
pub(super) struct Store {
    parts: Box<[Mutex<Part>]>,
    hasher: RandomState,
    /// Bytes of each part.
    room: usize,
}

#[derive(Debug, Default)]
struct Part {
    slots: HashMap<Arc<[u8]>, Slot>,
    /// Slots in the order of their coming, some of them gone since.
    queue: VecDeque<(Arc<[u8]>, u64)>,
    bytes: usize,
    /// The number of the next event.
    next: u64,
    voided: VecDeque<(u64, u64)>,
    /// Everything was made void then.
    purged: u64,
    unfit: HashMap<u64, Instant>,
    flights: HashMap<Arc<[u8]>, Arc<Flight>>,
}

#[derive(Debug)]
struct Slot {
    number: u64,
    was_used: bool,
    bytes: usize,
    /// The newest one last.
    entries: Vec<Arc<Entry>>,
}

/// What has no room any more.
pub(super) type Out = (Arc<[u8]>, Arc<Entry>);

/// What was found.
pub(super) enum Found {
    Entry(Arc<Entry>),
    /// There are answers to this URL, and none to this request.
    Others,
    Nothing,
}

/// Somebody asks the origin, and others wait for what comes of it.
#[derive(Debug)]
pub(super) struct Flight {
    began: Instant,
    is_over: AtomicBool,
    /// Something came of it: there is an answer, or it is known that there is none for others.
    is_settled: AtomicBool,
    /// Since when whoever asks does not take what comes, in milliseconds from the beginning and one more; 0
    /// while that is not so.
    blocked: AtomicU64,
    over: Notify,
}

impl Flight {
    fn begin() -> Self {
        Self {
            began: clock::now(),
            is_over: AtomicBool::new(false),
            is_settled: AtomicBool::new(false),
            blocked: AtomicU64::new(0),
            over: Notify::new(),
        }
    }

    fn elapsed(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX - 1)
    }

    /// Whether waiting for it is of no use any more.
    pub(super) fn is_slow(&self) -> bool {
        let (now, blocked) = (self.elapsed(), self.blocked.load(Relaxed));
        let is_blocked = blocked > 0 && now + 1 - blocked.min(now + 1) > BLOCKED;
        is_blocked || u128::from(now) > PATIENCE.as_millis()
    }

    pub(super) fn is_settled(&self) -> bool {
        self.is_settled.load(Relaxed)
    }

    /// Waits until whoever asks has an answer, or knows that there is none for others.
    pub(super) async fn over(&self) {
        let mut over = std::pin::pin!(self.over.notified());
        over.as_mut().enable();
        if !self.is_over.load(Relaxed) {
            over.await;
        }
    }
}

/// Whoever asks for all; they are told when it is dropped.
#[derive(Debug)]
pub(super) struct Lead {
    cache: Cache,
    key: Arc<[u8]>,
    flight: Arc<Flight>,
}

impl Lead {
    /// Something has come of it.
    pub(super) fn settle(self) {
        self.flight.is_settled.store(true, Relaxed);
    }

    /// Whoever asks takes what comes, or does not.
    pub(super) fn is_blocked(&self, is_blocked: bool) {
        let blocked = &self.flight.blocked;
        if !is_blocked {
            blocked.store(0, Relaxed);
        } else if blocked.load(Relaxed) == 0 {
            blocked.store(self.flight.elapsed() + 1, Relaxed);
        }
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        let mut part = self.cache.store().part(&self.key).0;
        // Somebody else may ask by now.
        let flight = part.flights.get(&self.key);
        if flight.is_some_and(|flight| Arc::ptr_eq(flight, &self.flight)) {
            part.flights.remove(&self.key);
        }
        drop(part);
        self.flight.is_over.store(true, Relaxed);
        self.flight.over.notify_waiters();
    }
}

/// What one does who has no answer.
pub(super) enum Way {
    /// Ask for all.
    Lead(Lead),
    /// Wait for somebody else's.
    Follow(Arc<Flight>),
    /// Ask for oneself.
    Alone,
}

impl Store {
    pub(super) fn new(size: u64, longest: u64) -> Self {
        let parts = (size / longest.saturating_mul(4).max(1)).clamp(1, PARTS);
        Self {
            parts: (0..parts).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
            room: usize::try_from(size / parts).unwrap_or(usize::MAX),
        }
    }

    fn part(&self, key: &[u8]) -> (MutexGuard<'_, Part>, u64) {
        let hash = self.hasher.hash_one(key);
        let at = hash as usize % self.parts.len().max(1);
        match self.parts.get(at) {
            Some(part) => (part.lock().unwrap_or_else(PoisonError::into_inner), hash),
            None => unreachable!("there is at least one part"),
        }
    }

    /// The newest answer to a URL that is for this request.
    pub(super) fn find(&self, key: &[u8], is_it: impl Fn(&Entry) -> bool) -> Found {
        let (mut part, _) = self.part(key);
        let Some(slot) = part.slots.get_mut(key) else {
            return Found::Nothing;
        };
        slot.was_used = true;
        match slot.entries.iter().rev().find(|entry| is_it(entry)) {
            Some(entry) => Found::Entry(Arc::clone(entry)),
            None => Found::Others,
        }
    }

    /// What has happened so far: what is asked for now is newer than that.
    pub(super) fn now(&self, key: &[u8]) -> u64 {
        self.part(key).0.next
    }

    /// Keeps an answer that was asked for at `since`, unless the URL was made void meanwhile; an old one takes no other
    /// one's place. Returns what has no room any more, and what has happened by then.
    pub(super) fn put(
        &self,
        key: &[u8],
        entry: Arc<Entry>,
        since: u64,
        is_old: bool,
    ) -> (Vec<Out>, u64) {
        let (mut part, hash) = self.part(key);
        if part.was_voided(hash, since) || is_old && part.has_same(key, &entry) {
            return (Vec::new(), 0);
        }
        part.unfit.remove(&hash);
        let out = part.put(key, entry, self.room);
        let now = part.next;
        // Whoever waits for another one has it.
        if let Some(flight) = part.flights.remove(key) {
            drop(part);
            flight.is_settled.store(true, Relaxed);
            flight.is_over.store(true, Relaxed);
            flight.over.notify_waiters();
        }
        (out, now)
    }

    /// Whether nothing has become of a URL since then: it was not made void, and there is no newer answer.
    pub(super) fn is_newest(&self, key: &[u8], since: u64) -> bool {
        let (part, hash) = self.part(key);
        !part.was_voided(hash, since) && !part.slots.contains_key(key)
    }

    /// Forgets one answer.
    pub(super) fn remove(&self, key: &[u8], entry: &Arc<Entry>) {
        let (mut part, _) = self.part(key);
        part.drop_entries(key, |other| Arc::ptr_eq(other, entry));
    }

    /// Forgets all answers to a URL, and those that are on their way.
    pub(super) fn void(&self, key: &[u8]) {
        let (mut part, hash) = self.part(key);
        let number = part.count();
        part.voided.push_back((number, hash));
        if part.voided.len() > VOIDED
            && let Some((oldest, _)) = part.voided.pop_front()
        {
            // What was asked for before that can no longer be told from what was made void.
            part.purged = part.purged.max(oldest + 1);
        }
        part.drop_entries(key, |_| true);
    }

    /// Forgets answers to every URL that is meant; returns how many.
    pub(super) fn purge(&self, is_it: impl Fn(&[u8]) -> bool) -> usize {
        let mut count = 0;
        for part in &self.parts {
            let mut part = part.lock().unwrap_or_else(PoisonError::into_inner);
            part.count();
            part.purged = part.next;
            let keys = part.slots.keys().filter(|key| is_it(key));
            let keys: Vec<Arc<[u8]>> = keys.cloned().collect();
            for key in keys {
                count += part.drop_entries(&key, |_| true);
            }
        }
        count
    }

    /// Remembers that what is asked for here is for nobody else.
    pub(super) fn unfit(&self, key: &[u8]) {
        let (mut part, hash) = self.part(key);
        if part.unfit.len() >= UNFITS {
            part.unfit.clear();
        }
        part.unfit.insert(hash, clock::now());
    }
}

impl Cache {
    /// Who asks the origin.
    pub(super) fn way(&self, key: &[u8]) -> Way {
        let (mut part, hash) = self.store().part(key);
        if part.unfit.get(&hash).is_some_and(|at| at.elapsed() < UNFIT) {
            return Way::Alone;
        }
        if let Some(flight) = part.flights.get(key).filter(|flight| !flight.is_slow()) {
            return Way::Follow(Arc::clone(flight));
        }
        let (key, flight): (Arc<[u8]>, _) = (key.into(), Arc::new(Flight::begin()));
        part.flights.insert(Arc::clone(&key), Arc::clone(&flight));
        Way::Lead(Lead {
            cache: self.clone(),
            key,
            flight,
        })
    }
}

impl Part {
    fn count(&mut self) -> u64 {
        self.next += 1;
        self.next - 1
    }

    fn was_voided(&self, hash: u64, since: u64) -> bool {
        let mut voided = self.voided.iter();
        self.purged > since || voided.any(|(number, other)| *number >= since && *other == hash)
    }

    /// Whether there is an answer in whose place this one would come.
    fn has_same(&self, key: &[u8], entry: &Entry) -> bool {
        let mut entries = self
            .slots
            .get(key)
            .into_iter()
            .flat_map(|slot| &slot.entries);
        entries.any(|other| other.is_same(entry))
    }

    fn put(&mut self, key: &[u8], entry: Arc<Entry>, room: usize) -> Vec<Out> {
        let size = entry.size() + 2 * key.len();
        if size > room {
            return Vec::new();
        }
        self.drop_entries(key, |other| other.is_same(&entry));
        if !self.slots.contains_key(key) {
            let (key, number): (Arc<[u8]>, u64) = (key.into(), self.count());
            self.queue.push_back((Arc::clone(&key), number));
            let slot = Slot {
                number,
                was_used: false,
                bytes: 0,
                entries: Vec::new(),
            };
            self.slots.insert(key, slot);
        }
        if let Some(slot) = self.slots.get_mut(key) {
            if slot.entries.len() >= VARIANTS {
                let oldest = slot.entries.remove(0);
                let freed = oldest.size() + 2 * key.len();
                slot.bytes -= freed;
                self.bytes -= freed;
            }
            slot.entries.push(entry);
            slot.bytes += size;
            self.bytes += size;
        }
        self.make_room(room)
    }

    /// Drops answers to a URL; returns how many.
    fn drop_entries(&mut self, key: &[u8], is_it: impl Fn(&Arc<Entry>) -> bool) -> usize {
        let Some(slot) = self.slots.get_mut(key) else {
            return 0;
        };
        let (before, mut freed) = (slot.entries.len(), 0);
        slot.entries.retain(|entry| {
            let goes = is_it(entry);
            freed += usize::from(goes) * (entry.size() + 2 * key.len());
            !goes
        });
        slot.bytes -= freed;
        self.bytes -= freed;
        let dropped = before - slot.entries.len();
        if slot.entries.is_empty() {
            self.slots.remove(key);
        }
        dropped
    }

    fn make_room(&mut self, room: usize) -> Vec<Out> {
        let mut out = Vec::new();
        while self.bytes > room || self.queue.len() > 2 * self.slots.len() + 64 {
            let Some((key, number)) = self.queue.pop_front() else {
                return out;
            };
            let Some(slot) = self.slots.get_mut(&key).filter(|s| s.number == number) else {
                continue;
            };
            if std::mem::take(&mut slot.was_used) || self.bytes <= room {
                self.queue.push_back((key, number));
                continue;
            }
            self.bytes -= slot.bytes;
            if let Some(slot) = self.slots.remove(&key) {
                let entries = slot.entries.into_iter();
                out.extend(entries.map(|entry| (Arc::clone(&key), entry)));
            }
        }
        out
    }
}

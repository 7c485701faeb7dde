//! Passwords that are guessed: a wrong one is answered late, and of one source few are looked at in a while.
//!
//! Who shares an address with a stranger that guesses is still looked at: what is counted is a user's name at a
//! source, and all names of a source together, which may be far more.

use std::collections::{BTreeMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ipreconnect::clock;
use ipreconnect::core::access::Source;

use super::reverse::network;

/// The first failure is answered so late, each further one twice as late,
const FIRST: Duration = Duration::from_millis(250);
/// and none later than this.
const MOST: Duration = Duration::from_secs(4);
/// Passwords of one name at one source that are looked at, or were wrong, at the same time.
const OF_A_NAME: usize = 4;
/// Those of one source.
const OF_A_SOURCE: usize = 32;
/// After so long without a failure it is forgotten.
const GOOD: Duration = Duration::from_secs(300);
/// Names and sources that are remembered. Of more, those that failed longest ago are forgotten.
const ENTRIES: usize = 4096;
/// A right password does not wait longer for others to be looked at.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two looks whether it is its turn.
const LOOK: Duration = Duration::from_millis(20);

/// Whose failures are counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Source(Option<u128>),
    Name(Option<u128>, u64),
}

/// What is remembered of one of them.
#[derive(Debug)]
struct Entry {
    failures: u32,
    /// Passwords that are looked at now.
    trying: usize,
    /// When the answers to wrong ones are due.
    due: VecDeque<Instant>,
    /// The last failure.
    last: Instant,
}

#[derive(Debug, Default)]
struct Book(BTreeMap<Key, Entry>);

static BOOK: Mutex<Book> = Mutex::new(Book(BTreeMap::new()));

fn book() -> MutexGuard<'static, Book> {
    BOOK.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether a password may be looked at.
#[derive(Debug, PartialEq, Eq)]
enum Turn {
    Now,
    /// Others are looked at.
    Later,
    /// Too many were wrong.
    Never,
}

/// A password that is being looked at.
#[derive(Debug)]
pub(crate) struct Attempt {
    keys: [Key; 2],
    began: Instant,
}

/// Waits for the turn of a password that a source shows for a name; `None` if too many were wrong, or it would
/// take too long. `is_known` says whether it has been found right meanwhile: then it need not wait.
///
/// Cancel safety: nothing is lost.
pub(crate) async fn attempt(
    source: Source,
    user: &[u8],
    is_known: impl Fn() -> bool,
) -> Option<Attempt> {
    let keys = keys(source, user);
    let began = clock::now();
    loop {
        let now = clock::now();
        // The book is closed before anybody looks into it again.
        let turn = book().begin(keys, now);
        match turn {
            Turn::Now => return Some(Attempt { keys, began: now }),
            Turn::Never => return None,
            Turn::Later if is_known() => {
                book().begin_beside(keys, now);
                return Some(Attempt { keys, began: now });
            }
            Turn::Later if now.saturating_duration_since(began) > PATIENCE => return None,
            Turn::Later => {}
        }
        tokio::time::sleep(LOOK).await;
    }
}

impl Attempt {
    /// It was wrong: the answer is due then, whatever looking at it has taken.
    pub(crate) fn failed(self) -> Instant {
        book().fail(self.keys, self.began)
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        book().end(self.keys);
    }
}

/// An address of IPv4, a network of IPv6, or all Unix sockets of this machine; and a name there.
fn keys(source: Source, user: &[u8]) -> [Key; 2] {
    let source = match source {
        Source::Local => None,
        Source::Ip(IpAddr::V4(address)) => Some(u128::from(address.to_bits())),
        Source::Ip(address) => Some(network(address)),
    };
    let mut hasher = DefaultHasher::new();
    user.hash(&mut hasher);
    [Key::Source(source), Key::Name(source, hasher.finish())]
}

fn most(key: Key) -> usize {
    match key {
        Key::Source(_) => OF_A_SOURCE,
        Key::Name(..) => OF_A_NAME,
    }
}

impl Book {
    fn begin(&mut self, keys: [Key; 2], now: Instant) -> Turn {
        let mut turn = Turn::Now;
        for key in keys {
            let Some(entry) = self.0.get_mut(&key) else {
                continue;
            };
            while entry.due.front().is_some_and(|due| *due <= now) {
                entry.due.pop_front();
            }
            // Others who share the source may be right.
            if entry.due.len() >= most(key) && matches!(key, Key::Name(..)) {
                return Turn::Never;
            }
            if entry.due.len() + entry.trying >= most(key) {
                turn = Turn::Later;
            }
        }
        if turn == Turn::Now {
            self.begin_beside(keys, now);
        }
        turn
    }

    fn begin_beside(&mut self, keys: [Key; 2], now: Instant) {
        for key in keys {
            self.make_room(key, now);
            let entry = self.0.entry(key).or_insert_with(|| Entry {
                failures: 0,
                trying: 0,
                due: VecDeque::new(),
                last: now,
            });
            entry.trying += 1;
        }
    }

    fn make_room(&mut self, key: Key, now: Instant) {
        if self.0.len() < ENTRIES || self.0.contains_key(&key) {
            return;
        }
        let is_old = |entry: &Entry| now.saturating_duration_since(entry.last) > GOOD;
        self.0.retain(|_, entry| entry.trying > 0 || !is_old(entry));
        let idle = self.0.iter().filter(|(_, entry)| entry.trying == 0);
        let oldest = idle
            .min_by_key(|(_, entry)| entry.last)
            .map(|(key, _)| *key);
        if let (true, Some(oldest)) = (self.0.len() >= ENTRIES, oldest) {
            self.0.remove(&oldest);
        }
    }

    fn fail(&mut self, keys: [Key; 2], began: Instant) -> Instant {
        let now = clock::now().max(began);
        let mut due = began;
        for key in keys {
            let Some(entry) = self.0.get_mut(&key) else {
                continue;
            };
            if now.saturating_duration_since(entry.last) > GOOD {
                entry.failures = 0;
            }
            // All names of a source together cost nothing: somebody else may be right.
            if matches!(key, Key::Name(..)) {
                let wait = FIRST.saturating_mul(1 << entry.failures.min(8)).min(MOST);
                due = began + wait;
            }
            entry.failures = entry.failures.saturating_add(1);
            entry.last = now;
        }
        for key in keys {
            if let Some(entry) = self.0.get_mut(&key) {
                let at = entry.due.partition_point(|other| *other <= due);
                entry.due.insert(at, due);
            }
        }
        due
    }

    fn end(&mut self, keys: [Key; 2]) {
        for key in keys {
            let Some(entry) = self.0.get_mut(&key) else {
                continue;
            };
            entry.trying = entry.trying.saturating_sub(1);
            if entry.trying == 0 && entry.failures == 0 {
                self.0.remove(&key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(last: u8) -> Source {
        Source::Ip(IpAddr::from([192, 0, 2, last]))
    }

    /// Looks at a wrong password, if it may be looked at.
    fn wrong(book: &mut Book, keys: [Key; 2], now: Instant) -> Option<Duration> {
        if book.begin(keys, now) != Turn::Now {
            return None;
        }
        let due = book.fail(keys, now);
        book.end(keys);
        Some(due.saturating_duration_since(now))
    }

    #[test]
    fn each_failure_is_answered_later_and_few_are_looked_at() {
        let (mut book, now) = (Book::default(), clock::now());
        let ann = keys(source(1), b"ann");
        let waits: Vec<_> = (0..5).map(|_| wrong(&mut book, ann, now)).collect();
        let expected = [1, 2, 4, 8].map(|times| Some(FIRST * times));
        assert_eq!(waits[..4], expected);
        assert_eq!(waits[4], None);
        // Another name at the same source, and the same one elsewhere, are looked at.
        assert_eq!(wrong(&mut book, keys(source(1), b"bob"), now), Some(FIRST));
        assert_eq!(wrong(&mut book, keys(source(2), b"ann"), now), Some(FIRST));
        // When an answer was due there is room for another one.
        assert_eq!(wrong(&mut book, ann, now + FIRST), Some(MOST));
        assert_eq!(wrong(&mut book, ann, now + FIRST), None);
        let later = now + GOOD * 3;
        let Some(entry) = book.0.get_mut(&ann[1]) else {
            panic!();
        };
        entry.last = now;
        assert_eq!(book.begin(ann, later), Turn::Now);
    }

    #[test]
    fn a_source_has_a_limit_over_all_names() {
        let (mut book, now) = (Book::default(), clock::now());
        let tried = (0..100_u32).filter(|number| {
            let keys = keys(source(1), &number.to_be_bytes());
            wrong(&mut book, keys, now).is_some()
        });
        assert_eq!(tried.count(), OF_A_SOURCE);
    }

    #[test]
    fn those_who_are_looked_at_let_others_wait_and_leave_nothing() {
        let (mut book, now) = (Book::default(), clock::now());
        let ann = keys(source(1), b"ann");
        for _ in 0..OF_A_NAME {
            assert_eq!(book.begin(ann, now), Turn::Now);
        }
        assert_eq!(book.begin(ann, now), Turn::Later);
        book.end(ann);
        assert_eq!(book.begin(ann, now), Turn::Now);
        for _ in 0..OF_A_NAME {
            book.end(ann);
        }
        assert!(book.0.is_empty());
    }

    #[tokio::test]
    async fn who_is_known_need_not_wait() {
        let source = Source::Ip(IpAddr::from([192, 0, 2, 99]));
        let mut trying = Vec::new();
        for _ in 0..OF_A_NAME {
            trying.push(attempt(source, b"ann", || false).await.unwrap());
        }
        let known = attempt(source, b"ann", || true).await.unwrap();
        drop(known);
        trying.pop().unwrap().failed();
        let known = attempt(source, b"ann", || true).await.unwrap();
        drop((known, trying));
    }

    #[test]
    fn many_sources_take_no_more_room() {
        let (mut book, now) = (Book::default(), clock::now());
        for number in 0..ENTRIES as u32 {
            let source = Source::Ip(IpAddr::from(number.to_be_bytes()));
            assert_eq!(wrong(&mut book, keys(source, b"ann"), now), Some(FIRST));
        }
        assert!(book.0.len() <= ENTRIES);
    }
}

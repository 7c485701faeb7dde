//! Passwords that are guessed: each failure makes its source wait longer, and one after the other.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ipreconnect::clock;
use ipreconnect::core::access::Source;

use super::reverse::network;

/// The first failure costs so much, each further one twice as much.
const FIRST: Duration = Duration::from_millis(250);
/// None costs more.
const MOST: Duration = Duration::from_secs(4);
/// Who would have to wait longer is sent away at once.
const PATIENCE: Duration = Duration::from_secs(10);
/// After so long without a failure all is forgotten.
const GOOD: Duration = Duration::from_secs(300);
/// Sources that are remembered. Of more, those that failed longest ago are forgotten.
const SOURCES: usize = 4096;

/// What is remembered of one source.
#[derive(Clone, Copy, Debug)]
struct Entry {
    failures: u32,
    /// Before, nobody from there has a turn.
    until: Instant,
}

#[derive(Debug, Default)]
struct Book(BTreeMap<Option<u128>, Entry>);

static BOOK: Mutex<Book> = Mutex::new(Book(BTreeMap::new()));

fn book() -> MutexGuard<'static, Book> {
    BOOK.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Those who count as one: an address of IPv4, a network of IPv6, and all of this machine's Unix sockets.
fn key(source: Source) -> Option<u128> {
    match source {
        Source::Local => None,
        Source::Ip(IpAddr::V4(address)) => Some(u128::from(address.to_bits())),
        Source::Ip(address) => Some(network(address)),
    }
}

/// Waits until a password from there may be looked at; false if that would take too long.
///
/// Cancel safety: nothing is lost.
pub(crate) async fn turn(source: Source) -> bool {
    let key = key(source);
    let began = clock::now();
    loop {
        let now = clock::now();
        let Some(until) = book().until(key, now) else {
            return true;
        };
        if until.saturating_duration_since(began) > PATIENCE {
            return false;
        }
        tokio::time::sleep_until(until.into()).await;
    }
}

/// A password from there was wrong: returns how long the answer is to wait.
pub(crate) fn failed(source: Source) -> Duration {
    book().fail(key(source), clock::now())
}

impl Book {
    /// Until when a source has to wait.
    fn until(&self, key: Option<u128>, now: Instant) -> Option<Instant> {
        let entry = self.0.get(&key)?;
        (entry.until > now).then_some(entry.until)
    }

    fn fail(&mut self, key: Option<u128>, now: Instant) -> Duration {
        let is_old = |entry: &Entry| now.saturating_duration_since(entry.until) > GOOD;
        if !self.0.contains_key(&key) && self.0.len() >= SOURCES {
            self.0.retain(|_, entry| !is_old(entry));
            let oldest = self.0.iter().min_by_key(|(_, entry)| entry.until);
            if let (true, Some((oldest, _))) = (self.0.len() >= SOURCES, oldest) {
                let oldest = *oldest;
                self.0.remove(&oldest);
            }
        }
        let entry = self.0.entry(key).or_insert(Entry {
            failures: 0,
            until: now,
        });
        if is_old(entry) {
            entry.failures = 0;
        }
        let wait = FIRST.saturating_mul(1 << entry.failures.min(8)).min(MOST);
        entry.failures = entry.failures.saturating_add(1);
        entry.until = entry.until.max(now) + wait;
        entry.until.saturating_duration_since(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_costs_more_until_it_is_forgotten() {
        let (mut book, now) = (Book::default(), clock::now());
        let key = Some(7);
        assert_eq!(book.until(key, now), None);
        assert_eq!(book.fail(key, now), FIRST);
        assert_eq!(book.until(key, now), Some(now + FIRST));
        assert_eq!(book.until(Some(8), now), None);
        let now = now + FIRST;
        assert_eq!(book.until(key, now), None);
        assert_eq!(book.fail(key, now), FIRST * 2);
        // Those who did not wait for their turn wait for all of it.
        assert_eq!(book.fail(key, now), FIRST * 6);
        for _ in 0..20 {
            book.fail(key, now);
        }
        let until = book.until(key, now).unwrap();
        book.fail(key, until);
        assert_eq!(book.until(key, until), Some(until + MOST));
        assert_eq!(book.fail(key, until + MOST + GOOD * 2), FIRST);
    }

    #[test]
    fn many_sources_take_no_more_room() {
        let (mut book, now) = (Book::default(), clock::now());
        for source in 0..SOURCES as u128 * 2 {
            book.fail(Some(source), now + Duration::from_millis(source as u64));
        }
        assert_eq!(book.0.len(), SOURCES);
        assert!(!book.0.contains_key(&Some(0)));
    }
}

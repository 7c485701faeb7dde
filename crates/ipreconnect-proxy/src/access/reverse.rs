//! The names of addresses, by the system's resolution, and only those that lead back to the address: whoever
//! owns an address may call it what he likes.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ipreconnect::clock;
use ipreconnect::resolve::reverse;
use tokio::sync::watch;

/// A client does not wait longer for its name.
const PATIENCE: Duration = Duration::from_secs(5);
/// For so long a name is good, and that there is none.
const GOOD: Duration = Duration::from_secs(60);
/// Addresses that are remembered.
const ADDRESSES: usize = 4096;
/// Lookups at once, each in a thread of its own; and those of one network, whose resolver may hang.
const LOOKUPS: usize = 32;
const OF_A_NETWORK: usize = 4;

type Name = Option<Arc<str>>;

/// What is known, and what is being looked up.
#[derive(Debug, Default)]
struct Book {
    known: BTreeMap<IpAddr, (Instant, Name)>,
    asked: BTreeMap<IpAddr, watch::Receiver<Option<Name>>>,
}

static BOOK: Mutex<Book> = Mutex::new(Book {
    known: BTreeMap::new(),
    asked: BTreeMap::new(),
});

fn book() -> MutexGuard<'static, Book> {
    BOOK.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The name of the host at an address, if it can be found.
///
/// Cancel safety: a lookup that has begun is ended by itself, and is there for who asks next.
pub(super) async fn host(address: IpAddr) -> Name {
    let mut answer = match book().ask(address, clock::now()) {
        Asked::Known(name) => return name,
        Asked::TooMany => return None,
        Asked::Wait(answer) => answer,
    };
    let answered = answer.wait_for(Option::is_some);
    match tokio::time::timeout(PATIENCE, answered).await {
        Ok(Ok(name)) => name.clone().flatten(),
        // Nothing is known of it yet, and nothing is remembered.
        Ok(Err(_)) | Err(_) => None,
    }
}

enum Asked {
    Known(Name),
    Wait(watch::Receiver<Option<Name>>),
    TooMany,
}

impl Book {
    /// What is known of an address; looks it up, unless somebody does, or too many are looked up.
    fn ask(&mut self, address: IpAddr, now: Instant) -> Asked {
        let is_good = |at: Instant| now.saturating_duration_since(at) < GOOD;
        if let Some((at, name)) = self.known.get(&address)
            && is_good(*at)
        {
            return Asked::Known(name.clone());
        }
        if let Some(answer) = self.asked.get(&address) {
            return Asked::Wait(answer.clone());
        }
        let network = network(address);
        let others = self
            .asked
            .keys()
            .filter(|one| self::network(**one) == network);
        if others.count() >= OF_A_NETWORK || self.asked.len() >= LOOKUPS {
            return Asked::TooMany;
        }
        let (tell, answer) = watch::channel(None);
        self.asked.insert(address, answer.clone());
        tokio::task::spawn_blocking(move || {
            let name: Name = reverse(address).map(Arc::from);
            book().learn(address, name.clone(), clock::now());
            // Whoever asked may have gone.
            let _ = tell.send(Some(name));
        });
        Asked::Wait(answer)
    }

    fn learn(&mut self, address: IpAddr, name: Name, now: Instant) {
        self.asked.remove(&address);
        if self.known.len() >= ADDRESSES {
            self.known
                .retain(|_, (at, _)| now.saturating_duration_since(*at) < GOOD);
        }
        if self.known.len() < ADDRESSES {
            self.known.insert(address, (now, name));
        }
    }
}

/// Addresses that one hand has: a /24 of IPv4, a /64 of IPv6.
pub(crate) fn network(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_bits() >> 8),
        IpAddr::V6(address) => address.to_bits() >> 64 | 1 << 127,
    }
}

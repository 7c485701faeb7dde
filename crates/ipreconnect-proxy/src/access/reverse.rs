//! The names of addresses, by the system's resolution, and only those that lead back to the address: whoever
//! owns an address may call it what he likes.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ipreconnect::clock;
use ipreconnect::resolve::reverse;
use tokio::sync::Semaphore;

/// A client does not wait longer for its name.
const PATIENCE: Duration = Duration::from_secs(5);
/// For so long a name is good, and that there is none.
const GOOD: Duration = Duration::from_secs(60);
/// Addresses that are remembered.
const ADDRESSES: usize = 4096;
/// Lookups at once; a resolver that hangs holds no more threads than these.
const LOOKUPS: usize = 32;

type Known = BTreeMap<IpAddr, (Instant, Option<Arc<str>>)>;

static KNOWN: Mutex<Known> = Mutex::new(BTreeMap::new());
static LOOKING: Semaphore = Semaphore::const_new(LOOKUPS);

/// The name of the host at an address.
///
/// Cancel safety: a lookup that has begun is ended by itself, and nobody has to do with it.
pub(super) async fn host(address: IpAddr) -> Option<Arc<str>> {
    let now = clock::now();
    if let Some((_, host)) = known().get(&address).filter(|(at, _)| is_good(*at, now)) {
        return host.clone();
    }
    let looked = tokio::time::timeout(PATIENCE, look(address)).await;
    let host = looked.ok().flatten();
    let mut known = known();
    if known.len() >= ADDRESSES {
        known.retain(|_, (at, _)| is_good(*at, now));
    }
    if known.len() < ADDRESSES {
        known.insert(address, (now, host.clone()));
    }
    host
}

fn known() -> std::sync::MutexGuard<'static, Known> {
    KNOWN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn is_good(at: Instant, now: Instant) -> bool {
    now.saturating_duration_since(at) < GOOD
}

async fn look(address: IpAddr) -> Option<Arc<str>> {
    let permit = LOOKING.acquire().await.ok()?;
    let found = tokio::task::spawn_blocking(move || {
        let found = reverse(address);
        drop(permit);
        found
    });
    found.await.ok()?.map(Arc::from)
}

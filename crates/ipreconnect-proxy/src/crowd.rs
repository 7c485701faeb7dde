//! How many clients a listener may have, how many each source of them, and how much they may carry.

use std::collections::HashMap;
use std::fmt;
use std::hash::BuildHasher;
use std::net::IpAddr;
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ipreconnect::clock;
use ipreconnect::core::netset::NetSet;
use ipreconnect::core::rate::{Rate, Rates, TokenBucket};

use crate::access::network;

/// What the clients of a listener may do, whatever they speak.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClientLimits {
    /// Connections that are open at once; who comes then waits until one is closed.
    pub clients: Option<u32>,
    /// Those of one source: an address, or a network of 64 bits of IPv6. Others are refused.
    pub per_source: Option<u32>,
    /// Between two new connections; who comes faster waits.
    pub connects: Option<Duration>,
    /// New connections of one source; more are refused.
    pub connects_per_source: Option<Rate>,
    /// Bytes a second.
    pub bandwidth: Bandwidth,
    /// A client that has said nothing for so long is closed, and nothing is opened for it before.
    pub first_byte: Option<Duration>,
    /// Sources that are refused before anything else is looked at.
    pub deny: Arc<NetSet>,
}

/// Bytes a second, in each direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bandwidth {
    /// Of all clients of a listener together.
    pub all: Option<NonZeroU64>,
    /// Of all connections of one source together.
    pub source: Option<NonZeroU64>,
    /// Of one connection: the kernel paces it.
    pub connection: Option<NonZeroU64>,
}

/// Limits as a listener goes by them.
#[derive(Debug)]
pub(crate) struct Limiter {
    pub(crate) limits: ClientLimits,
    rates: Option<Rates>,
}

/// Why a client may not come in now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TooMuch {
    Denied,
    TooOften,
    TooMany(u32),
}

impl fmt::Display for TooMuch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Denied => f.write_str("it is on the list of those who are denied"),
            Self::TooOften => {
                f.write_str("it connects more often than `limits.connects_per_source` allows")
            }
            Self::TooMany(limit) => write!(
                f,
                "it has {limit} connections open, and `limits.clients_per_source` allows no more"
            ),
        }
    }
}

impl Limiter {
    pub(crate) fn new(limits: ClientLimits) -> Self {
        let seed = std::hash::RandomState::new().hash_one(0);
        Self {
            rates: limits
                .connects_per_source
                .map(|rate| Rates::new(rate, seed)),
            limits,
        }
    }

    /// Whether a source may come now; it has come then, and counts until the place is dropped.
    pub(crate) fn admit(
        &self,
        crowd: &Arc<Crowd>,
        source: Option<IpAddr>,
    ) -> Result<Option<Held>, TooMuch> {
        // Who comes over a Unix socket is nobody's source.
        let Some(source) = source else {
            return Ok(None);
        };
        if !self.limits.deny.is_empty() && self.limits.deny.contains(source) {
            return Err(TooMuch::Denied);
        }
        if let Some(rates) = &self.rates
            && rates.admit(since_start(), source).is_err()
        {
            return Err(TooMuch::TooOften);
        }
        let limit = match self.limits.per_source {
            None if self.limits.bandwidth.source.is_none() => return Ok(None),
            limit => limit.unwrap_or(u32::MAX),
        };
        match Held::take(crowd, source, limit) {
            Some(held) => Ok(Some(held)),
            None => Err(TooMuch::TooMany(limit)),
        }
    }
}

/// Parts of the table, which are locked apart.
const PARTS: usize = 16;
/// Sources that have gone are looked for when a part has so many more than it had after the last look.
const MORE: usize = 64;

/// What many connections carry together, in each direction.
#[derive(Debug, Default)]
pub(crate) struct Lanes {
    pub(crate) to_origin: TokenBucket,
    pub(crate) to_client: TokenBucket,
}

impl Lanes {
    fn clear(&self) {
        self.to_origin.clear();
        self.to_client.clear();
    }

    fn is_owed(&self, now: Duration) -> bool {
        !(self.to_origin.debt(now).is_zero() && self.to_client.debt(now).is_zero())
    }
}

/// A token for each nanosecond.
const NANOS: NonZeroU64 = NonZeroU64::new(1_000_000_000).unwrap();

/// The clients of one listener that are here, over all workers and all its reloads.
#[derive(Debug, Default)]
pub(crate) struct Crowd {
    clients: AtomicUsize,
    connects: TokenBucket,
    lanes: Lanes,
    /// Bytes a second of all together and of each source, as the listener is now; 0 is no limit.
    rates: [AtomicU64; 2],
    /// How often these have changed.
    changes: AtomicU32,
    sources: [Mutex<Part>; PARTS],
}

#[derive(Debug, Default)]
struct Part {
    sources: HashMap<u128, Here>,
    /// How many there may be before those who have gone are looked for.
    enough: usize,
}

/// The connections of one source.
#[derive(Debug, Default)]
struct Here {
    count: u32,
    lanes: Arc<Lanes>,
}

impl Crowd {
    /// Whether one more may come.
    pub(crate) fn has_room(&self, limits: &ClientLimits) -> bool {
        if limits.connects.is_some() && !self.connects.debt(since_start()).is_zero() {
            return false;
        }
        let Some(limit) = limits.clients else {
            return true;
        };
        self.clients.load(Relaxed) < usize::try_from(limit).unwrap_or(usize::MAX)
    }

    /// One has come; it is here until this is dropped.
    pub(crate) fn enter(self: &Arc<Self>, limits: &ClientLimits) -> Inside {
        if let Some(interval) = limits.connects {
            // Who comes next waits for it.
            let tokens = u64::try_from(interval.as_nanos()).unwrap_or(u64::MAX);
            self.connects.take(since_start(), NANOS, tokens);
        }
        self.clients.fetch_add(1, Relaxed);
        Inside(Arc::clone(self))
    }

    /// Sets the rates, of those who are here, too. What is owed by other rates is forgotten.
    pub(crate) fn carries(&self, bandwidth: Bandwidth) {
        let mut has_changed = false;
        for (rate, set) in self.rates.iter().zip([bandwidth.all, bandwidth.source]) {
            let set = set.map_or(0, NonZeroU64::get);
            has_changed |= rate.swap(set, Relaxed) != set;
        }
        if !has_changed {
            return;
        }
        self.lanes.clear();
        for part in &self.sources {
            let part = part.lock().unwrap_or_else(PoisonError::into_inner);
            part.sources.values().for_each(|here| here.lanes.clear());
        }
        self.changes.fetch_add(1, Relaxed);
    }

    /// How often the rates have changed.
    pub(crate) fn changes(&self) -> u32 {
        self.changes.load(Relaxed)
    }

    /// Bytes a second of all together, and of each source.
    pub(crate) fn rates(&self) -> [Option<NonZeroU64>; 2] {
        let [all, source] = &self.rates;
        [all, source].map(|rate| NonZeroU64::new(rate.load(Relaxed)))
    }

    pub(crate) fn lanes(&self) -> &Lanes {
        &self.lanes
    }

    fn part(&self, source: u128) -> MutexGuard<'_, Part> {
        let mixed = (source ^ source >> 64) as u64;
        let at = (mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 60) as usize;
        match self.sources.get(at % PARTS) {
            Some(part) => part.lock().unwrap_or_else(PoisonError::into_inner),
            None => unreachable!("a remainder is a part"),
        }
    }
}

impl Part {
    /// Lets go of those who have gone and owe nothing.
    fn tidy(&mut self) {
        if self.sources.len() < self.enough.max(MORE) {
            return;
        }
        let now = since_start();
        let stays = |here: &Here| here.count > 0 || here.lanes.is_owed(now);
        self.sources.retain(|_, here| stays(here));
        self.enough = 2 * self.sources.len() + MORE;
    }
}

/// A client that counts.
#[derive(Debug)]
pub(crate) struct Inside(Arc<Crowd>);

impl Inside {
    pub(crate) fn crowd(&self) -> &Arc<Crowd> {
        &self.0
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        self.0.clients.fetch_sub(1, Relaxed);
    }
}

/// One of the connections that a source has.
#[derive(Debug)]
pub(crate) struct Held {
    crowd: Arc<Crowd>,
    source: u128,
    lanes: Arc<Lanes>,
}

impl Held {
    fn take(crowd: &Arc<Crowd>, source: IpAddr, limit: u32) -> Option<Self> {
        let source = key(source);
        let mut part = crowd.part(source);
        part.tidy();
        let here = part.sources.entry(source).or_default();
        if here.count >= limit {
            return None;
        }
        here.count += 1;
        let lanes = Arc::clone(&here.lanes);
        drop(part);
        Some(Self {
            crowd: Arc::clone(crowd),
            source,
            lanes,
        })
    }

    /// What its source carries.
    pub(crate) fn lanes(&self) -> &Arc<Lanes> {
        &self.lanes
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut part = self.crowd.part(self.source);
        if let Some(here) = part.sources.get_mut(&self.source) {
            here.count = here.count.saturating_sub(1);
            // Who owes something, and comes back, still owes it.
            if here.count == 0 && !self.lanes.is_owed(since_start()) {
                part.sources.remove(&self.source);
            }
        }
    }
}

fn since_start() -> Duration {
    clock::since_start(clock::now())
}

/// An address of IPv4, or a network of IPv6.
fn key(source: IpAddr) -> u128 {
    match source.to_canonical() {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        address => network(address),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_source_has_no_more_than_its_part() {
        let crowd = Arc::<Crowd>::default();
        let limiter = Limiter::new(ClientLimits {
            per_source: Some(2),
            ..ClientLimits::default()
        });
        let one = Some(ip("192.0.2.1"));
        let first = limiter.admit(&crowd, one).unwrap();
        let _second = limiter.admit(&crowd, one).unwrap();
        assert_eq!(limiter.admit(&crowd, one).unwrap_err(), TooMuch::TooMany(2));
        assert!(limiter.admit(&crowd, Some(ip("192.0.2.2"))).is_ok());
        let _six = limiter.admit(&crowd, Some(ip("2001:db8::1"))).unwrap();
        let _near = limiter.admit(&crowd, Some(ip("2001:db8::2"))).unwrap();
        assert!(limiter.admit(&crowd, Some(ip("2001:db8::3"))).is_err());
        drop(first);
        assert!(limiter.admit(&crowd, one).is_ok());
        assert!(limiter.admit(&crowd, None).is_ok());
    }

    #[test]
    fn nothing_is_kept_of_who_has_gone() {
        let crowd = Arc::<Crowd>::default();
        let limiter = Limiter::new(ClientLimits {
            per_source: Some(1),
            ..ClientLimits::default()
        });
        for last in 0..=255 {
            drop(
                limiter
                    .admit(&crowd, Some(IpAddr::from([10, 0, 0, last])))
                    .unwrap(),
            );
        }
        let kept: usize = crowd
            .sources
            .iter()
            .map(|part| part.lock().unwrap().sources.len())
            .sum();
        assert_eq!(kept, 0);
    }

    #[test]
    fn the_denied_and_the_hasty_stay_outside() {
        let crowd = Arc::<Crowd>::default();
        let deny: NetSet = ["192.0.2.0/24".parse().unwrap()].into_iter().collect();
        let limiter = Limiter::new(ClientLimits {
            connects_per_source: Some(Rate {
                interval: Duration::from_secs(3600),
                burst: 2,
            }),
            deny: Arc::new(deny),
            clients: Some(1),
            ..ClientLimits::default()
        });
        assert_eq!(
            limiter.admit(&crowd, Some(ip("192.0.2.9"))).unwrap_err(),
            TooMuch::Denied
        );
        for _ in 0..2 {
            assert!(limiter.admit(&crowd, Some(ip("10.0.0.1"))).is_ok());
        }
        assert_eq!(
            limiter.admit(&crowd, Some(ip("10.0.0.1"))).unwrap_err(),
            TooMuch::TooOften
        );
        assert!(crowd.has_room(&limiter.limits));
        let inside = crowd.enter(&limiter.limits);
        assert!(!crowd.has_room(&limiter.limits));
        drop(inside);
        assert!(crowd.has_room(&limiter.limits));
    }
}

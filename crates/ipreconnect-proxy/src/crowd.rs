//! How many clients a listener may have, and how many each source of them.

use std::collections::HashMap;
use std::fmt;
use std::hash::BuildHasher;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ipreconnect::clock;
use ipreconnect::core::netset::NetSet;
use ipreconnect::core::rate::{Rate, Rates};

use crate::access::network;

/// What the clients of a listener may do, whatever they speak.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClientLimits {
    /// Connections that are open at once; who comes then waits until one is closed.
    pub clients: Option<u32>,
    /// Those of one source: an address, or a network of 64 bits of IPv6. Others are refused.
    pub per_source: Option<u32>,
    /// New connections of one source.
    pub connects: Option<Rate>,
    /// Bytes a second of one connection, in either direction.
    pub bandwidth: Option<u64>,
    /// A client that has said nothing for so long is closed, and nothing is opened for it before.
    pub first_byte: Option<Duration>,
    /// Sources that are refused before anything else is looked at.
    pub deny: Arc<NetSet>,
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
            Self::TooOften => f.write_str("it connects more often than `limits.connects` allows"),
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
            rates: limits.connects.map(|rate| Rates::new(rate, seed)),
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
        let since = Duration::from_millis(clock::stamp(clock::now()));
        if let Some(rates) = &self.rates
            && rates.admit(since, source).is_err()
        {
            return Err(TooMuch::TooOften);
        }
        match self.limits.per_source {
            None => Ok(None),
            Some(limit) => match Held::take(crowd, source, limit) {
                Some(held) => Ok(Some(held)),
                None => Err(TooMuch::TooMany(limit)),
            },
        }
    }
}

/// Parts of the table, which are locked apart.
const PARTS: usize = 16;

/// The clients of one listener that are here, over all workers and all its reloads.
#[derive(Debug, Default)]
pub(crate) struct Crowd {
    clients: AtomicUsize,
    sources: [Mutex<HashMap<u128, u32>>; PARTS],
}

impl Crowd {
    /// Whether one more may come.
    pub(crate) fn has_room(&self, limits: &ClientLimits) -> bool {
        let Some(limit) = limits.clients else {
            return true;
        };
        self.clients.load(Relaxed) < usize::try_from(limit).unwrap_or(usize::MAX)
    }

    /// One has come; it is here until this is dropped.
    pub(crate) fn enter(self: &Arc<Self>) -> Inside {
        self.clients.fetch_add(1, Relaxed);
        Inside(Arc::clone(self))
    }

    fn part(&self, source: u128) -> MutexGuard<'_, HashMap<u128, u32>> {
        let mixed = (source ^ source >> 64) as u64;
        let at = (mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 60) as usize;
        match self.sources.get(at % PARTS) {
            Some(part) => part.lock().unwrap_or_else(PoisonError::into_inner),
            None => unreachable!("a remainder is a part"),
        }
    }
}

/// A client that counts.
#[derive(Debug)]
pub(crate) struct Inside(Arc<Crowd>);

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
}

impl Held {
    fn take(crowd: &Arc<Crowd>, source: IpAddr, limit: u32) -> Option<Self> {
        let source = key(source);
        let mut part = crowd.part(source);
        let count = part.entry(source).or_default();
        if *count >= limit {
            return None;
        }
        *count += 1;
        drop(part);
        Some(Self {
            crowd: Arc::clone(crowd),
            source,
        })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut part = self.crowd.part(self.source);
        if let Some(count) = part.get_mut(&self.source) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                part.remove(&self.source);
            }
        }
    }
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
            .map(|part| part.lock().unwrap().len())
            .sum();
        assert_eq!(kept, 0);
    }

    #[test]
    fn the_denied_and_the_hasty_stay_outside() {
        let crowd = Arc::<Crowd>::default();
        let deny: NetSet = ["192.0.2.0/24".parse().unwrap()].into_iter().collect();
        let limiter = Limiter::new(ClientLimits {
            connects: Some(Rate {
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
        let inside = crowd.enter();
        assert!(!crowd.has_room(&limiter.limits));
        drop(inside);
        assert!(crowd.has_room(&limiter.limits));
    }
}

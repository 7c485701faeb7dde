//! How often one source may do something, and how much many may do together.
//!
//! A table of a fixed size holds for everybody when they may come next (the generic cell rate algorithm:
//! ITU-T I.371). Each source has two places in it, and goes by the better one, so that two sources are
//! taken for one only if they share both.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Places for all sources together: half a megabyte.
const PLACES: u64 = 1 << 16;

/// What one source may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Between two times, in the long run.
    pub interval: Duration,
    /// Times at once after a pause, at least 1.
    pub burst: u32,
}

/// The sources, and when each may come next.
#[derive(Debug)]
pub struct Rates {
    rate: Rate,
    places: Box<[AtomicU64]>,
    seed: u64,
}

impl Rates {
    /// For many sources, each at this rate. Who knows the seed can choose sources that share places.
    #[must_use]
    pub fn new(rate: Rate, seed: u64) -> Self {
        Self {
            rate,
            places: (0..PLACES).map(|_| AtomicU64::new(0)).collect(),
            seed,
        }
    }

    /// Whether a source may come now, which is so long after some beginning; it has come then. Of IPv6, a
    /// network of 64 bits is one source.
    ///
    /// # Errors
    /// How long it has to wait.
    pub fn admit(&self, now: Duration, source: IpAddr) -> Result<(), Duration> {
        let now = nanos(now);
        let interval = nanos(self.rate.interval);
        let ahead = interval.saturating_mul(u64::from(self.rate.burst.saturating_sub(1)));
        let places = self.places_of(source);
        let next = places.iter().map(|place| place.load(Relaxed)).min();
        let early = next.unwrap_or_default().saturating_sub(now);
        if early > ahead {
            return Err(Duration::from_nanos(early - ahead));
        }
        for place in places {
            let taken = |next: u64| Some(next.max(now).saturating_add(interval));
            // It always has something to write.
            let _ = place.fetch_update(Relaxed, Relaxed, taken);
        }
        Ok(())
    }

    fn places_of(&self, source: IpAddr) -> [&AtomicU64; 2] {
        let source = match source {
            IpAddr::V4(_) => source,
            IpAddr::V6(ip) => match ip.to_ipv4_mapped() {
                Some(ip) => IpAddr::V4(ip),
                None => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64)),
            },
        };
        [0_u8, 1].map(|which| {
            let mut hasher = DefaultHasher::new();
            (self.seed, which, source).hash(&mut hasher);
            let at = usize::try_from(hasher.finish() % PLACES).unwrap_or_default();
            match self.places.get(at) {
                Some(place) => place,
                None => unreachable!("a remainder is a place"),
            }
        })
    }
}

/// What a [`TokenBucket`] gives at once after a pause: small against what people notice, large against the
/// tick of a timer.
const AT_ONCE: Duration = Duration::from_millis(20);

/// A rate that many share. Whoever takes tokens has them at once, and waits until they are paid before it
/// takes more: nobody waits for what it does not use, and all have the same part.
///
/// It is kept as the time at which it is full again (virtual scheduling: ITU-T I.371, annex A).
#[derive(Debug, Default)]
pub struct TokenBucket {
    full_at: AtomicU64,
}

impl TokenBucket {
    /// Takes tokens of a bucket that is filled by `rate` a second; returns how long whoever took them has to
    /// wait before it may take more. `now` is so long after some beginning.
    pub fn take(&self, now: Duration, rate: NonZeroU64, tokens: u64) -> Duration {
        let now = nanos(now);
        let cost = u128::from(tokens) * 1_000_000_000 / u128::from(rate.get());
        let cost = u64::try_from(cost).unwrap_or(u64::MAX);
        let taken = |full_at: u64| Some(full_at.max(now).saturating_add(cost));
        // It always has something to write.
        let before = self.full_at.fetch_update(Relaxed, Relaxed, taken);
        let full_at = taken(before.unwrap_or_default()).unwrap_or_default();
        owed(full_at, now)
    }

    /// Nothing is owed any more: the rate is another one.
    pub fn clear(&self) {
        self.full_at.store(0, Relaxed);
    }

    /// How long whoever takes tokens now for the first time has to wait before.
    #[must_use]
    pub fn debt(&self, now: Duration) -> Duration {
        owed(self.full_at.load(Relaxed), nanos(now))
    }
}

fn owed(full_at: u64, now: u64) -> Duration {
    Duration::from_nanos(full_at.saturating_sub(now)).saturating_sub(AT_ONCE)
}

fn nanos(of: Duration) -> u64 {
    u64::try_from(of.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn rates(burst: u32) -> Rates {
        let rate = Rate {
            interval: SECOND,
            burst,
        };
        Rates::new(rate, 7)
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_source_may_come_at_its_rate_and_in_bursts() {
        let rates = rates(3);
        let (now, one) = (10 * SECOND, ip("192.0.2.1"));
        for _ in 0..3 {
            assert_eq!(rates.admit(now, one), Ok(()));
        }
        assert_eq!(rates.admit(now, one), Err(SECOND));
        assert_eq!(rates.admit(now + SECOND / 2, one), Err(SECOND / 2));
        assert_eq!(rates.admit(now, ip("192.0.2.2")), Ok(()));
        assert_eq!(rates.admit(now + SECOND, one), Ok(()));
        assert_eq!(rates.admit(now + SECOND, one), Err(SECOND));
        // Who was away for long has no more than a burst.
        let later = 1000 * SECOND;
        let admitted = (0..10).filter(|_| rates.admit(later, one).is_ok()).count();
        assert_eq!(admitted, 3);
    }

    #[test]
    fn a_network_of_ipv6_is_one_source_and_a_mapped_address_is_itself() {
        let rates = rates(1);
        let now = 10 * SECOND;
        assert_eq!(rates.admit(now, ip("2001:db8::1")), Ok(()));
        assert!(rates.admit(now, ip("2001:db8::2")).is_err());
        assert_eq!(rates.admit(now, ip("2001:db8:0:1::1")), Ok(()));
        assert_eq!(rates.admit(now, ip("192.0.2.1")), Ok(()));
        assert!(rates.admit(now, ip("::ffff:192.0.2.1")).is_err());
    }

    #[test]
    fn many_sources_take_no_more_room_and_hardly_any_is_taken_for_another() {
        let rates = rates(1);
        let refused = (0..2000_u32)
            .filter(|source| {
                let source = IpAddr::V4(std::net::Ipv4Addr::from_bits(*source));
                rates.admit(10 * SECOND, source).is_err()
            })
            .count();
        assert!(refused < 20, "{refused}");
    }

    #[test]
    fn many_have_no_more_than_the_rate_together_and_each_the_same_part() {
        const PIECE: u64 = 10;
        let bucket = TokenBucket::default();
        let rate = NonZeroU64::new(1000).unwrap();
        let mut next = [Duration::ZERO; 7];
        let mut taken = [0; 7];
        for millis in 0..60_000 {
            let now = Duration::from_millis(millis);
            for (next, taken) in next.iter_mut().zip(&mut taken) {
                if *next <= now {
                    *next = now + bucket.take(now, rate, PIECE);
                    *taken += PIECE;
                }
            }
        }
        let all: u64 = taken.iter().sum();
        assert!((59_900..=60_000 + 20 + 7 * PIECE).contains(&all), "{all}");
        let (least, most) = (taken.iter().min(), taken.iter().max());
        assert!(most.unwrap() - least.unwrap() <= PIECE, "{taken:?}");
    }

    #[test]
    fn who_pauses_loses_nothing_but_saves_nothing_either() {
        let bucket = TokenBucket::default();
        let rate = NonZeroU64::new(1_000_000).unwrap();
        assert_eq!(bucket.take(SECOND, rate, 20_000), Duration::ZERO);
        assert_eq!(bucket.debt(SECOND), Duration::ZERO);
        assert_eq!(bucket.take(SECOND, rate, 30_000), AT_ONCE * 3 / 2);
        assert_eq!(bucket.debt(SECOND), AT_ONCE * 3 / 2);
        assert_eq!(bucket.debt(2 * SECOND), Duration::ZERO);
        assert_eq!(bucket.take(100 * SECOND, rate, 1_000_000), SECOND - AT_ONCE);
        let slowest = NonZeroU64::MIN;
        assert!(bucket.take(SECOND, slowest, u64::MAX) > SECOND);
    }
}

//! Turns of those who have hosts looked up that nobody follows: so many at once, and of one source no more than half.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::server::DnsServer;
use super::settings::DnsSettings;

/// Lookups at once, each of both families, where servers of our choice are asked.
const VISITS: usize = 256;
/// The same where the system's resolver is: each family takes a thread there for as long as it lasts.
const SYSTEM_VISITS: usize = 24;
/// Nobody waits longer for his turn.
const PATIENCE: Duration = Duration::from_secs(5);
/// Sources that are remembered before those are forgotten that have nothing looked up.
const SOURCES: usize = 1024;

#[derive(Debug)]
pub(super) struct Visits {
    all: Arc<Semaphore>,
    /// Of one source.
    share: usize,
    patience: Duration,
    sources: Mutex<HashMap<IpAddr, Weak<Semaphore>>>,
}

/// A turn, which lasts until its last copy is gone.
#[derive(Debug)]
pub(crate) struct Visit {
    _all: OwnedSemaphorePermit,
    _own: Option<(OwnedSemaphorePermit, Arc<Semaphore>)>,
}

impl Visits {
    pub(super) fn new(settings: &DnsSettings) -> Self {
        let servers = &settings.servers;
        let is_system = servers.is_empty() || servers.contains(&DnsServer::System);
        Self::with(if is_system { SYSTEM_VISITS } else { VISITS }, PATIENCE)
    }

    fn with(count: usize, patience: Duration) -> Self {
        Self {
            patience,
            all: Arc::new(Semaphore::new(count)),
            share: (count / 2).max(1),
            sources: Mutex::default(),
        }
    }

    /// A turn for this source; none, if there is none for too long.
    ///
    /// Cancel safety: nothing is lost but the place in the queue.
    pub(super) async fn begin(&self, source: Option<IpAddr>) -> Option<Arc<Visit>> {
        let begin = async {
            let own = match source {
                None => None,
                Some(source) => {
                    let own = self.of(source);
                    Some((Arc::clone(&own).acquire_owned().await.ok()?, own))
                }
            };
            let all = Arc::clone(&self.all).acquire_owned().await.ok()?;
            Some(Arc::new(Visit {
                _all: all,
                _own: own,
            }))
        };
        tokio::time::timeout(self.patience, begin).await.ok()?
    }

    /// A turn at once, if there is one.
    pub(super) fn try_begin(&self, source: Option<IpAddr>) -> Option<Arc<Visit>> {
        let own = match source {
            None => None,
            Some(source) => {
                let own = self.of(source);
                Some((Arc::clone(&own).try_acquire_owned().ok()?, own))
            }
        };
        let all = Arc::clone(&self.all).try_acquire_owned().ok()?;
        Some(Arc::new(Visit {
            _all: all,
            _own: own,
        }))
    }

    fn of(&self, source: IpAddr) -> Arc<Semaphore> {
        let source = network(source);
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = sources.get(&source).and_then(Weak::upgrade) {
            return known;
        }
        if sources.len() >= SOURCES {
            sources.retain(|_, one| one.strong_count() > 0);
        }
        let new = Arc::new(Semaphore::new(self.share));
        sources.insert(source, Arc::downgrade(&new));
        new
    }
}

/// Of IPv6, a network of 64 bits is one source.
fn network(source: IpAddr) -> IpAddr {
    match source.to_canonical() {
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64).into(),
        ip @ IpAddr::V4(_) => ip,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    #[tokio::test]
    async fn one_source_leaves_half_to_others_and_nobody_waits_for_ever() {
        let visits = Visits::with(4, Duration::from_millis(20));
        let one = visits.begin(ip("2001:db8::1")).await.unwrap();
        let _two = visits.begin(ip("2001:db8::2")).await.unwrap();
        assert!(visits.begin(ip("2001:db8::3")).await.is_none());
        let _other = visits.begin(ip("192.0.2.1")).await.unwrap();
        let _mapped = visits.begin(ip("::ffff:192.0.2.1")).await.unwrap();
        assert!(visits.begin(ip("192.0.2.2")).await.is_none());
        assert!(visits.begin(None).await.is_none());
        // A turn lasts as long as the last of what it was for.
        let copy = Arc::clone(&one);
        drop(one);
        assert!(visits.begin(ip("2001:db8::3")).await.is_none());
        drop(copy);
        assert!(visits.begin(ip("2001:db8::3")).await.is_some());
    }

    #[tokio::test]
    async fn sources_that_have_gone_are_forgotten() {
        let visits = Visits::with(4, Duration::from_millis(20));
        let _stays = visits.begin(ip("192.0.2.1")).await;
        for number in 0..3 * SOURCES {
            let source = IpAddr::from([10, 0, (number >> 8) as u8, (number & 255) as u8]);
            assert!(visits.begin(Some(source)).await.is_some());
        }
        assert!(visits.sources.lock().unwrap().len() <= SOURCES);
        let share = visits.of(ip("192.0.2.1").unwrap());
        assert_eq!(share.available_permits(), 1);
    }
}

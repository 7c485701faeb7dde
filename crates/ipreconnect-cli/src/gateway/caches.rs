//! The caches of routes. They outlive changes of the configuration that do not concern their route.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use ipreconnect_proxy::{Cache, CacheSettings, Purge};

use crate::config::RoutePlan;

/// All caches, by listener.
#[derive(Debug, Default)]
pub(crate) struct Caches(Mutex<BTreeMap<String, Vec<(For, Cache)>>>);

/// What a cache is for.
#[derive(Clone, Debug, PartialEq)]
enum For {
    Route(Box<RoutePlan>),
    /// All that a forward proxy asks for.
    Through(CacheSettings),
}

impl Caches {
    /// The caches of a listener's routes, in order: those that are there for routes that stay as they are,
    /// new ones for others.
    pub(super) fn of(&self, listener: &str, routes: &[RoutePlan]) -> Vec<Option<Cache>> {
        let mut all = self.lock();
        let mut before = all.remove(listener).unwrap_or_default();
        let made: Vec<Option<Cache>> = routes
            .iter()
            .map(|route| {
                let settings = route.cache?;
                let is_it = |other: &For| matches!(other, For::Route(other) if **other == *route);
                let same = before.iter().position(|(other, _)| is_it(other));
                let kept = same.map(|at| before.swap_remove(at).1);
                Some(kept.unwrap_or_else(|| Cache::new(settings)))
            })
            .collect();
        let kept = routes.iter().zip(&made);
        let kept = kept.filter_map(|(route, cache)| {
            Some((For::Route(Box::new(route.clone())), cache.clone()?))
        });
        all.insert(listener.to_owned(), kept.collect());
        made
    }

    /// The cache of a forward proxy.
    pub(super) fn through(&self, listener: &str, settings: Option<CacheSettings>) -> Option<Cache> {
        let mut all = self.lock();
        let before = all.remove(listener).unwrap_or_default();
        let wanted = For::Through(settings?);
        let kept = before.into_iter().find(|(what, _)| *what == wanted);
        let (what, cache) =
            kept.unwrap_or_else(|| (wanted, Cache::new(settings.unwrap_or_default())));
        all.insert(listener.to_owned(), vec![(what, cache.clone())]);
        Some(cache)
    }

    /// Forgets a listener that is gone.
    pub(super) fn forget(&self, listener: &str) {
        self.lock().remove(listener);
    }

    /// Forgets answers, at one listener or all; returns how many. None where no such listener keeps any.
    pub(crate) fn purge(&self, listener: Option<&str>, purge: &Purge) -> Option<usize> {
        let all = self.lock();
        let meant = all
            .iter()
            .filter(|(name, _)| listener.is_none_or(|listener| listener == *name));
        let mut caches = meant.flat_map(|(_, kept)| kept).peekable();
        caches.peek()?;
        Some(caches.map(|(_, cache)| cache.purge(purge)).sum())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Vec<(For, Cache)>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

//! The caches of routes and of forward proxies. They outlive changes of the configuration that do not concern their route.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use ipreconnect_proxy::{Cache, CacheSettings, Purge};

use crate::config::{ForwardListen, RoutePlan};

/// All caches, by listener.
#[derive(Debug)]
pub(crate) struct Caches {
    all: Mutex<BTreeMap<String, Vec<(For, Cache)>>>,
    /// Where their files are, each cache's in a place of its own.
    directory: PathBuf,
    next: AtomicU64,
}

/// What a cache is for.
#[derive(Clone, Debug, PartialEq)]
enum For {
    Route(Box<RoutePlan>),
    /// All that a forward proxy asks for.
    Through(Box<ForwardListen>),
}

/// Whether a forward proxy asks the same things in the same way as another: else its answers are others, and what is
/// kept may be what may not be had any more.
fn asks_as(one: &ForwardListen, other: &ForwardListen) -> bool {
    let told = |one: &ForwardListen| (one.is_enforced, one.headers, one.cache);
    told(one) == told(other)
        && (&one.request, &one.response) == (&other.request, &other.response)
        && one.via == other.via
        && one.policy == other.policy
}

impl Caches {
    /// None, with files below this directory; what another process has left there goes.
    pub(crate) fn new(directory: &Path) -> Self {
        // Without files there is nothing to remove.
        let _ = fs::remove_dir_all(directory);
        Self {
            all: Mutex::default(),
            directory: directory.to_owned(),
            next: AtomicU64::new(0),
        }
    }

    fn make(&self, listener: &str, settings: CacheSettings) -> Cache {
        if settings.disk == 0 {
            return Cache::new(settings);
        }
        let number = self.next.fetch_add(1, Relaxed);
        let directory = self.directory.join(number.to_string());
        match Cache::with_files(settings, &directory) {
            Ok(cache) => cache,
            Err(error) => {
                let directory = directory.display();
                tracing::error!(listener, %directory, %error, "answers are kept in memory alone");
                Cache::new(settings)
            }
        }
    }

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
                Some(kept.unwrap_or_else(|| self.make(listener, settings)))
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
    pub(super) fn through(&self, listener: &str, forward: &ForwardListen) -> Option<Cache> {
        let mut all = self.lock();
        let before = all.remove(listener).unwrap_or_default();
        let settings = forward.cache?;
        let is_it = |what: &For| matches!(what, For::Through(other) if asks_as(other, forward));
        let kept = before.into_iter().find(|(what, _)| is_it(what));
        let cache = match kept {
            Some((_, cache)) => cache,
            None => self.make(listener, settings),
        };
        let what = For::Through(Box::new(forward.clone()));
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
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

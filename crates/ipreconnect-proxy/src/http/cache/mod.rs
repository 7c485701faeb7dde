//! Answers that are kept, and given again (RFC 9111). What may be kept, and for how long, the core decides;
//! here it is held, asked for once for all who want it at the same time, and served.

mod background;
mod cold;
mod entry;
mod keeping;
mod serve;
mod store;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use cold::Cold;
use store::Store;

pub(super) use entry::Entry;
pub(super) use keeping::{Heard, Keeping, Verdict, Voiding};
pub(super) use serve::{How, answer, serve};

/// What the cache of a route goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheSettings {
    /// The bytes of all that is kept.
    pub size: u64,
    /// The longest answer that is kept.
    pub object: u64,
    /// How long an answer is good after its time while its origin is down, where the origin does not say.
    pub stale_if_error: Duration,
    /// The bytes of what is kept in files, beside memory; nothing, if it is 0.
    pub disk: u64,
}

impl Default for CacheSettings {
    fn default() -> Self {
        Self {
            size: 256 * 1024 * 1024,
            object: 8 * 1024 * 1024,
            stale_if_error: Duration::from_secs(24 * 3600),
            disk: 0,
        }
    }
}

/// What is to be forgotten.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Purge {
    /// Everything.
    All,
    /// The answers of this URL; one that begins with a slash is of any host.
    Url(Box<str>),
    /// The answers of every URL that begins so.
    Prefix(Box<str>),
}

/// The cache of a route. Its copies share what they hold, over all workers and over changes of the
/// configuration.
#[derive(Clone, Debug)]
pub struct Cache(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    settings: CacheSettings,
    store: Store,
    /// What memory has no room for.
    cold: Option<Cold>,
    /// Bytes of bodies that are on their way.
    growing: AtomicU64,
}

impl Cache {
    /// An empty cache.
    #[must_use]
    pub fn new(settings: CacheSettings) -> Self {
        Self(Arc::new(Shared {
            settings,
            store: Store::new(settings.size, settings.object),
            cold: None,
            growing: AtomicU64::new(0),
        }))
    }

    /// The same, which keeps what memory has no room for in files of this directory: one that no other cache has, ever.
    /// It goes with the cache.
    ///
    /// # Errors
    /// If the directory cannot be made or emptied, or no thread can be begun.
    pub fn with_files(settings: CacheSettings, directory: &Path) -> io::Result<Self> {
        let (cold, writer) = Cold::open(directory, settings.disk, settings.size)?;
        let shared = Arc::new(Shared {
            settings,
            store: Store::new(settings.size, settings.object),
            cold: Some(cold),
            growing: AtomicU64::new(0),
        });
        let cache = Arc::downgrade(&shared);
        std::thread::Builder::new()
            .name("cache files".to_owned())
            .spawn(move || writer.run(&cache))?;
        Ok(Self(shared))
    }

    /// Brings the answer to a request back into memory, if it is in a file, and there is room for it.
    ///
    /// Cancel safety: it comes to its end, for who asks next.
    async fn thaw(&self, url: &[u8], is_it: impl Fn(&Entry) -> bool) {
        let Some(cold) = &self.0.cold else {
            return;
        };
        let since = self.0.store.now(url);
        // Until it is among those that are counted there, it counts among those that are on their way.
        let Some(frozen) = cold.take(url, is_it, |length| self.count(length)) else {
            return;
        };
        let (cache, url) = (self.clone(), url.to_vec());
        let counted = Counted(cache, frozen.length);
        let thawed = tokio::task::spawn_blocking(move || {
            let shared = &counted.0.0;
            let entry = shared.cold.as_ref().and_then(|cold| cold.thaw(&frozen));
            if let Some(entry) = entry {
                shared.put(&url, Arc::new(entry), since, Whence::Files);
            }
        });
        // One that fell over has told so; the origin is asked then.
        let _ = thawed.await;
    }

    /// What it goes by.
    #[must_use]
    pub fn settings(&self) -> &CacheSettings {
        &self.0.settings
    }

    /// Forgets answers; returns how many.
    pub fn purge(&self, purge: &Purge) -> usize {
        let is_it = |key: &[u8]| match purge {
            Purge::All => true,
            Purge::Url(url) => compared(key, url) == lower_host(url).as_bytes(),
            Purge::Prefix(prefix) => {
                compared(key, prefix).starts_with(lower_host(prefix).as_bytes())
            }
        };
        // First memory, which says from then on that what is on its way to a file is void.
        let count = self.0.store.purge(is_it);
        let cold = self.0.cold.as_ref();
        count + cold.map_or(0, |cold| cold.forget(is_it))
    }

    fn store(&self) -> &Store {
        &self.0.store
    }

    /// Keeps an answer that was asked for at `since`.
    fn put(&self, key: &[u8], entry: Arc<Entry>, since: u64) {
        self.0.put(key, entry, since, Whence::Origin);
    }

    /// Forgets all answers to a URL, and those that are on their way.
    fn void(&self, key: &[u8]) {
        self.0.store.void(key);
        if let Some(cold) = &self.0.cold {
            cold.forget_one(key);
        }
    }

    /// Counts bytes of a body on its way; false if there are too many of all such bodies.
    fn count(&self, bytes: u64) -> bool {
        let CacheSettings { size, object, .. } = self.0.settings;
        let most = (size / 4).max(object.saturating_mul(2));
        let before = self.0.growing.fetch_add(bytes, Relaxed);
        let is_within = before.saturating_add(bytes) <= most;
        if !is_within {
            self.uncount(bytes);
        }
        is_within
    }

    fn uncount(&self, bytes: u64) {
        self.0.growing.fetch_sub(bytes, Relaxed);
    }
}

/// Bytes of a body on its way, until dropped: also where whoever brings it falls over.
struct Counted(Cache, u64);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.uncount(self.1);
    }
}

/// Where an answer comes from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Whence {
    Origin,
    Files,
}

impl Shared {
    /// Keeps an answer; what has no room any more goes to the files.
    fn put(&self, key: &[u8], entry: Arc<Entry>, since: u64, whence: Whence) {
        // While it was read, there may have come a newer one.
        let is_old = whence == Whence::Files;
        let (out, now) = self.store.put(key, entry, since, is_old);
        if let Some(cold) = &self.cold {
            if whence == Whence::Origin {
                // What is known now is newer, also than what is just being written.
                cold.forget_one(key);
            }
            for (key, entry) in out {
                cold.freeze(&key, entry, now);
            }
        }
    }
}

/// What answers are found by: the URL as the client asked for it. What else the origin is told of that follows
/// after a space.
fn key(scheme: &str, host: &[u8], target: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(scheme.len() + host.len() + target.len() + 4);
    key.extend_from_slice(scheme.as_bytes());
    key.extend_from_slice(b"://");
    key.extend(host.iter().map(u8::to_ascii_lowercase));
    key.extend_from_slice(if target.is_empty() { b"/" } else { target });
    key
}

/// The part of a key that such a text is compared with.
fn compared<'k>(key: &'k [u8], with: &str) -> &'k [u8] {
    let key = key.split(|byte| *byte == b' ').next().unwrap_or(key);
    if !with.starts_with('/') {
        return key;
    }
    let mut slashes = key.iter().enumerate().filter(|(_, byte)| **byte == b'/');
    let path = slashes.nth(2).map_or(key.len(), |(at, _)| at);
    key.get(path..).unwrap_or_default()
}

/// A URL with its scheme and host in lower case, as keys have them.
fn lower_host(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return url.to_owned();
    };
    let end = rest.find('/').unwrap_or(rest.len());
    let (host, path) = rest.split_at(end);
    format!(
        "{}://{}{path}",
        scheme.to_ascii_lowercase(),
        host.to_ascii_lowercase()
    )
}

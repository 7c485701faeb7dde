//! What memory has no room for: bodies in files, and what else is known of them in memory. One thread writes; whoever
//! wants one back reads it away from the workers. Nothing of it outlives the process.

use std::collections::{HashMap, VecDeque};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use bytes::Bytes;

use super::{Entry, Shared};

/// Answers that wait to be written; what finds no room is forgotten.
const WAITING: usize = 256;
/// The part of memory's size that may be taken for what is known of files, and again for what waits to be written.
const PART: u64 = 4;

/// An answer whose body is in a file.
#[derive(Debug)]
struct Frozen {
    /// Without its body.
    entry: Entry,
    file: u64,
    length: u64,
}

/// The answers in files.
#[derive(Debug)]
pub(super) struct Cold {
    directory: PathBuf,
    /// Bytes that files may take.
    room: u64,
    /// Bytes that what is known of them may take.
    heads: u64,
    shelf: Mutex<Shelf>,
    jobs: SyncSender<Job>,
    /// Bytes of bodies that wait to be written.
    waiting: AtomicU64,
    next: AtomicU64,
}

#[derive(Debug, Default)]
struct Shelf {
    slots: HashMap<Arc<[u8]>, Vec<Frozen>>,
    /// In the order of their coming, some of them gone since.
    order: VecDeque<(Arc<[u8]>, u64)>,
    bytes: u64,
    heads: u64,
}

/// For the thread that writes.
#[derive(Debug)]
enum Job {
    /// An answer that left memory, and what had happened by then.
    Freeze(Arc<[u8]>, Arc<Entry>, u64),
    /// A file that nobody needs.
    Remove(u64),
}

impl Cold {
    /// Answers in files of this directory, which is made.
    pub(super) fn open(directory: &Path, room: u64, memory: u64) -> io::Result<(Self, Writer)> {
        fs::create_dir_all(directory)?;
        let (jobs, waiting) = sync_channel(WAITING);
        let cold = Self {
            directory: directory.to_owned(),
            room,
            heads: memory / PART,
            shelf: Mutex::default(),
            jobs,
            waiting: AtomicU64::new(0),
            next: AtomicU64::new(0),
        };
        Ok((cold, Writer(waiting)))
    }

    /// An answer leaves memory. Nobody waits: what finds no room is forgotten.
    pub(super) fn freeze(&self, key: &Arc<[u8]>, entry: Arc<Entry>, since: u64) {
        let length = entry.body.len() as u64;
        let waiting = self.waiting.load(Relaxed);
        if length == 0 || length > self.room || waiting + length > self.heads {
            return;
        }
        self.waiting.fetch_add(length, Relaxed);
        let job = Job::Freeze(Arc::clone(key), entry, since);
        if self.jobs.try_send(job).is_err() {
            // The thread has enough to do, or has ended.
            self.waiting.fetch_sub(length, Relaxed);
        }
    }

    /// Whether there is any answer to this URL.
    pub(super) fn has(&self, key: &[u8]) -> bool {
        self.shelf().slots.contains_key(key)
    }

    /// Takes the answers to a URL out, with their bodies. Those whose file cannot be read are gone.
    pub(super) fn thaw(&self, key: &[u8]) -> Vec<Entry> {
        let frozen = self.shelf().take(key);
        let thawed = frozen.into_iter().filter_map(|one| {
            let path = self.path(one.file);
            let body = fs::read(&path).ok();
            // Whatever came of it, the file is not needed any more.
            let _ = fs::remove_file(path);
            let body = body.filter(|body| body.len() as u64 == one.length)?;
            Some(one.entry.with_body(body.into_boxed_slice().into()))
        });
        thawed.collect()
    }

    /// Forgets the answers to every URL that is meant; returns how many.
    pub(super) fn forget(&self, is_it: impl Fn(&[u8]) -> bool) -> usize {
        let mut shelf = self.shelf();
        let keys = shelf.slots.keys().filter(|key| is_it(key));
        let keys: Vec<Arc<[u8]>> = keys.cloned().collect();
        let frozen: Vec<Frozen> = keys.iter().flat_map(|key| shelf.take(key)).collect();
        drop(shelf);
        for one in &frozen {
            self.remove(one.file);
        }
        frozen.len()
    }

    /// The same of one URL.
    pub(super) fn forget_one(&self, key: &[u8]) {
        let frozen = self.shelf().take(key);
        for one in frozen {
            self.remove(one.file);
        }
    }

    fn remove(&self, file: u64) {
        if self.jobs.try_send(Job::Remove(file)).is_err() {
            // One that waits that long can as well do it itself.
            let _ = fs::remove_file(self.path(file));
        }
    }

    fn path(&self, file: u64) -> PathBuf {
        self.directory.join(format!("{file:x}.body"))
    }

    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes an answer, if nothing newer is known of its URL.
    fn write(&self, key: Arc<[u8]>, entry: &Entry, is_valid: impl FnOnce() -> bool) {
        let file = self.next.fetch_add(1, Relaxed);
        let path = self.path(file);
        if let Err(error) = fs::write(&path, &entry.body) {
            tracing::debug!(%error, path = %path.display(), "an answer is not kept on the disk");
            let _ = fs::remove_file(path);
            return;
        }
        let frozen = Frozen {
            length: entry.body.len() as u64,
            entry: entry.with_body(Bytes::new()),
            file,
        };
        // What was made void meanwhile is not brought back.
        let gone = {
            let mut shelf = self.shelf();
            if is_valid() {
                shelf.put(key, frozen);
                shelf.make_room(self.room, self.heads)
            } else {
                vec![frozen]
            }
        };
        for one in gone {
            let _ = fs::remove_file(self.path(one.file));
        }
    }
}

impl Shelf {
    fn put(&mut self, key: Arc<[u8]>, frozen: Frozen) {
        self.bytes += frozen.length;
        self.heads += frozen.entry.size() as u64;
        self.order.push_back((Arc::clone(&key), frozen.file));
        self.slots.entry(key).or_default().push(frozen);
    }

    fn take(&mut self, key: &[u8]) -> Vec<Frozen> {
        let frozen = self.slots.remove(key).unwrap_or_default();
        for one in &frozen {
            self.bytes -= one.length;
            self.heads -= one.entry.size() as u64;
        }
        frozen
    }

    /// The oldest ones go.
    fn make_room(&mut self, room: u64, heads: u64) -> Vec<Frozen> {
        let mut gone = Vec::new();
        let is_full = |shelf: &Self| shelf.bytes > room || shelf.heads > heads;
        while is_full(self) || self.order.len() > 2 * self.slots.len() + 64 {
            let Some((key, file)) = self.order.pop_front() else {
                return gone;
            };
            let Some(slot) = self.slots.get_mut(&key) else {
                continue;
            };
            let Some(at) = slot.iter().position(|one| one.file == file) else {
                continue;
            };
            if self.bytes <= room && self.heads <= heads {
                self.order.push_back((key, file));
                continue;
            }
            let one = slot.remove(at);
            if slot.is_empty() {
                self.slots.remove(&key);
            }
            self.bytes -= one.length;
            self.heads -= one.entry.size() as u64;
            gone.push(one);
        }
        gone
    }
}

/// What the thread that writes waits for.
#[derive(Debug)]
pub(super) struct Writer(Receiver<Job>);

impl Writer {
    /// Writes until the cache is gone.
    pub(super) fn run(self, cache: &Weak<Shared>) {
        while let Ok(job) = self.0.recv() {
            let Some(cache) = cache.upgrade() else {
                return;
            };
            let Some(cold) = &cache.cold else {
                return;
            };
            match job {
                Job::Freeze(key, entry, since) => {
                    let known = Arc::clone(&key);
                    cold.waiting.fetch_sub(entry.body.len() as u64, Relaxed);
                    cold.write(key, &entry, || cache.store.is_newest(&known, since));
                }
                Job::Remove(file) => {
                    let _ = fs::remove_file(cold.path(file));
                }
            }
        }
    }
}

impl Drop for Cold {
    fn drop(&mut self) {
        let files = self.shelf.get_mut().unwrap_or_else(PoisonError::into_inner);
        for one in files.slots.values().flatten() {
            let _ = fs::remove_file(self.directory.join(format!("{:x}.body", one.file)));
        }
        // What else is in it is not ours.
        let _ = fs::remove_dir(&self.directory);
    }
}

//! What memory has no room for: bodies in files, and what else is known of them in memory. One thread writes; whoever
//! wants one back reads it away from the workers. Nothing of it outlives the process.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::{self, Read};
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
/// Bytes of bodies that may wait to be written even beside a small memory: a disk is behind for a moment at times.
const BEHIND: u64 = 4 * 1024 * 1024;

/// An answer whose body is in a file.
#[derive(Debug)]
pub(super) struct Frozen {
    /// Without its body.
    entry: Entry,
    file: u64,
    pub(super) length: u64,
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
    /// By the numbers of their files, which are in the order of their coming.
    order: BTreeMap<u64, Arc<[u8]>>,
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
        let most = self.heads.max(BEHIND);
        if length == 0 || length > self.room || waiting + length > most {
            return;
        }
        self.waiting.fetch_add(length, Relaxed);
        let job = Job::Freeze(Arc::clone(key), entry, since);
        if self.jobs.try_send(job).is_err() {
            // The thread has enough to do, or has ended.
            self.waiting.fetch_sub(length, Relaxed);
        }
    }

    /// Takes the newest answer to a URL out that is for this request, if `has_room` says of its length that there is
    /// room for it in memory.
    pub(super) fn take(
        &self,
        key: &[u8],
        is_it: impl Fn(&Entry) -> bool,
        has_room: impl FnOnce(u64) -> bool,
    ) -> Option<Frozen> {
        let mut shelf = self.shelf();
        let slot = shelf.slots.get(key)?;
        let at = slot.iter().rposition(|one| is_it(&one.entry))?;
        let length = slot.get(at)?.length;
        has_room(length).then(|| shelf.take_one(key, at))?
    }

    /// An answer that was taken out with its body, if its file can be read. That is gone then.
    pub(super) fn thaw(&self, frozen: &Frozen) -> Option<Entry> {
        let path = self.path(frozen.file);
        let body = read(&path, frozen.length);
        // Whatever came of it, the file is not needed any more.
        let _ = fs::remove_file(path);
        Some(frozen.entry.with_body(body?.into()))
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

/// A file that has so many bytes.
fn read(path: &Path, length: u64) -> Option<Box<[u8]>> {
    let mut body = vec![0; usize::try_from(length).ok()?].into_boxed_slice();
    let mut file = fs::File::open(path).ok()?;
    file.read_exact(&mut body).ok()?;
    matches!(file.read(&mut [0]), Ok(0)).then_some(body)
}

impl Shelf {
    fn put(&mut self, key: Arc<[u8]>, frozen: Frozen) {
        self.bytes += frozen.length;
        self.heads += frozen.entry.size() as u64;
        self.order.insert(frozen.file, Arc::clone(&key));
        self.slots.entry(key).or_default().push(frozen);
    }

    fn take(&mut self, key: &[u8]) -> Vec<Frozen> {
        let frozen = self.slots.remove(key).unwrap_or_default();
        for one in &frozen {
            self.goes(one);
        }
        frozen
    }

    fn take_one(&mut self, key: &[u8], at: usize) -> Option<Frozen> {
        let slot = self.slots.get_mut(key)?;
        let one = slot.remove(at);
        if slot.is_empty() {
            self.slots.remove(key);
        }
        self.goes(&one);
        Some(one)
    }

    fn goes(&mut self, one: &Frozen) {
        self.order.remove(&one.file);
        self.bytes -= one.length;
        self.heads -= one.entry.size() as u64;
    }

    /// The oldest ones go.
    fn make_room(&mut self, room: u64, heads: u64) -> Vec<Frozen> {
        let mut gone = Vec::new();
        while self.bytes > room || self.heads > heads {
            let Some((file, key)) = self.order.pop_first() else {
                return gone;
            };
            let slot = self.slots.get(&key).into_iter().flatten();
            let at = slot.map(|one| one.file).position(|other| other == file);
            gone.extend(at.and_then(|at| self.take_one(&key, at)));
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

//! The state directory, and the lock that keeps two gateways apart.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use ipreconnect::Store;
use ipreconnect::core::identity::Sighting;
use rustix::fs::{FlockOperation, flock};

use crate::exit::{Exit, Refusal};

mod ledger;

use ledger::Ledger;

/// The state directory, locked for as long as this lives. The kernel drops the lock with the
/// process, however it ends.
#[derive(Debug)]
pub(crate) struct StateDirectory {
    path: PathBuf,
    _lock: File,
}

impl StateDirectory {
    /// Makes the directory if it is not there, readable by its owner alone, and locks it.
    ///
    /// # Errors
    /// If it cannot be made, or another gateway holds it.
    pub(crate) fn open(path: &Path) -> Result<Self, Refusal> {
        let refuse = |what: &str, error: std::io::Error| {
            Refusal::new(Exit::Wrong, format!("{what} {}", path.display()))
                .because(&error)
                .hint("set `gateway.state_dir` to a directory this user can write to")
        };
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(|error| refuse("cannot make the state directory", error))?;
        let mut lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .mode(0o600)
            .open(path.join("lock"))
            .map_err(|error| refuse("cannot open the lock of the state directory", error))?;
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Err(Self::held(path, &mut lock));
        }
        let written = lock
            .set_len(0)
            .and_then(|()| lock.rewind())
            .and_then(|()| writeln!(lock, "{}", std::process::id()));
        written.map_err(|error| refuse("cannot write the lock of the state directory", error))?;
        Ok(Self {
            path: path.to_owned(),
            _lock: lock,
        })
    }

    fn held(path: &Path, lock: &mut File) -> Refusal {
        let mut pid = String::new();
        // Without its number the other gateway is still there.
        let _ = lock.read_to_string(&mut pid);
        let who = match pid.trim() {
            "" => "another gateway".to_owned(),
            pid => format!("another gateway (pid {pid})"),
        };
        let message = format!("{who} uses the state directory {}", path.display());
        Refusal::new(Exit::Wrong, message).hint(
            "`ipreconnect reload` changes the one that runs; a second one needs a `gateway.state_dir` of its own",
        )
    }

    /// What the library keeps between two runs, as files in here.
    pub(crate) fn store(&self) -> Arc<dyn Store> {
        Arc::new(StateStore {
            files: FileStore {
                directory: self.path.clone(),
                keys: KEYS,
            },
            ledger: Ledger::at(self.path.join("ledger.db")),
        })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

/// Texts as files, identities in the ledger.
#[derive(Debug)]
struct StateStore {
    files: FileStore,
    ledger: Ledger,
}

impl Store for StateStore {
    fn load(&self, table: &str, key: &str) -> io::Result<Option<String>> {
        self.files.load(table, key)
    }

    fn save(&self, table: &str, key: &str, text: &str) -> io::Result<()> {
        self.files.save(table, key, text)
    }

    fn load_sightings(&self, origin: &str) -> io::Result<Vec<Sighting>> {
        self.ledger.sightings(origin)
    }

    fn save_sightings(&self, origin: &str, sightings: &[Sighting]) -> io::Result<()> {
        self.ledger.keep(origin, sightings)
    }
}

/// Texts as files: a directory for each table, a file for each key.
#[derive(Debug)]
struct FileStore {
    directory: PathBuf,
    /// Keys of one table; beyond them the one that was written least lately gives way.
    keys: usize,
}

/// Who gives out a service's records chooses the names that are kept, and must not fill the disk.
const KEYS: usize = 4096;

/// A file that is longer was not written here.
const LONGEST: u64 = 256 * 1024;

impl FileStore {
    fn path(&self, table: &str, key: &str) -> PathBuf {
        self.directory.join(table).join(file_name(key))
    }

    fn make_room(&self, table: &Path) -> io::Result<()> {
        let mut files: Vec<(SystemTime, PathBuf)> = fs::read_dir(table)?
            .flatten()
            .filter_map(|file| Some((file.metadata().ok()?.modified().ok()?, file.path())))
            .collect();
        if files.len() < self.keys {
            return Ok(());
        }
        files.sort();
        let surplus = files.len() + 1 - self.keys;
        for (_, path) in files.into_iter().take(surplus) {
            fs::remove_file(path)?;
        }
        Ok(())
    }
}

impl FileStore {
    fn load(&self, table: &str, key: &str) -> io::Result<Option<String>> {
        let file = match File::open(self.path(table, key)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut text = String::new();
        file.take(LONGEST).read_to_string(&mut text)?;
        Ok(Some(text))
    }

    /// The new file takes the place of the old one in one step; what a crash leaves is one of both.
    fn save(&self, table: &str, key: &str, text: &str) -> io::Result<()> {
        let path = self.path(table, key);
        let directory = self.directory.join(table);
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&directory)?;
        if !path.exists() {
            self.make_room(&directory)?;
        }
        // No key has this name: behind its `%` are no digits.
        let new = directory.join(format!("{}%new", file_name(key)));
        replace(&path, &new, text)
    }
}

/// Writes a file that its owner alone can read, under another name first: all of it or nothing.
pub(crate) fn replace(path: &Path, new: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(new, path)
}

/// A key as a file's name: what is neither a letter, a digit, a hyphen, an underscore nor a dot within
/// is written as `%` and two digits, so that no key leaves the directory.
pub(crate) fn file_name(key: &str) -> String {
    let mut name = String::with_capacity(key.len() + 8);
    for byte in key.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => name.push(char::from(byte)),
            b'.' if !name.is_empty() => name.push('.'),
            other => name.push_str(&format!("%{other:02x}")),
        }
    }
    if name.is_empty() {
        name.push('%');
    }
    name
}

#[cfg(test)]
mod tests;

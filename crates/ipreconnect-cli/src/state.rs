//! The state directory, and the lock that keeps two gateways apart.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use crate::exit::{Exit, Refusal};

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

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

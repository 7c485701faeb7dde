//! The file of the access log, written by a thread of its own.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Mutex, PoisonError};

use ipreconnect_proxy::AccessSink;

/// Batches that wait to be written. A disk that is slower than that loses lines, never requests.
const WAITING: usize = 64;
/// Buffers that are kept for the next batch.
const SPARE: usize = 16;

/// An open file.
#[derive(Debug)]
pub(crate) struct AccessFile {
    batches: SyncSender<Vec<u8>>,
    spare: Mutex<Receiver<Vec<u8>>>,
    lost: Arc<AtomicU64>,
}

impl AccessFile {
    /// Opens it, to append to it.
    ///
    /// # Errors
    /// Those of open(2), and if no thread can be made.
    pub(crate) fn open(path: &Path) -> io::Result<Arc<Self>> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        let (batches, inbox) = sync_channel(WAITING);
        let (back, spare) = sync_channel(SPARE);
        let lost = Arc::new(AtomicU64::new(0));
        let writer = Writer {
            file,
            path: path.to_owned(),
            back,
            lost: Arc::clone(&lost),
        };
        std::thread::Builder::new()
            .name("access".to_owned())
            .spawn(move || writer.run(&inbox))?;
        Ok(Arc::new(Self {
            batches,
            spare: Mutex::new(spare),
            lost,
        }))
    }
}

impl AccessSink for AccessFile {
    fn take(&self, lines: Vec<u8>) -> Vec<u8> {
        let count = |lines: &[u8]| lines.iter().filter(|byte| **byte == b'\n').count() as u64;
        if let Err(TrySendError::Full(lines) | TrySendError::Disconnected(lines)) =
            self.batches.try_send(lines)
        {
            self.lost.fetch_add(count(&lines), Relaxed);
        }
        // Once for thousands of lines, and never for long.
        let spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        spare.try_recv().unwrap_or_default()
    }
}

struct Writer {
    file: File,
    path: PathBuf,
    back: SyncSender<Vec<u8>>,
    lost: Arc<AtomicU64>,
}

impl Writer {
    /// Writes until nobody has anything to write any more.
    fn run(mut self, inbox: &Receiver<Vec<u8>>) {
        let mut is_broken = false;
        while let Ok(mut lines) = inbox.recv() {
            let written = self.file.write_all(&lines);
            if let Err(error) = &written
                && !is_broken
            {
                let path = self.path.display();
                tracing::error!(%path, %error, "the access log cannot be written; requests are served without it");
            } else if written.is_ok() && is_broken {
                tracing::info!(path = %self.path.display(), "the access log is written again");
            }
            is_broken = written.is_err();
            let lost = self.lost.swap(0, Relaxed);
            if lost > 0 {
                tracing::warn!(
                    lines = lost,
                    "lines of the access log were lost: the disk is too slow"
                );
            }
            lines.clear();
            // More than enough are there.
            let _ = self.back.try_send(lines);
        }
    }
}

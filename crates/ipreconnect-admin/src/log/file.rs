//! Standard error, and a file.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::line::{Line, LineFormat, Paint};
use super::{Failure, Way};

/// Standard error, past the lock of the library: who holds that may wait for ever.
pub(super) struct Stderr {
    pub(super) format: LineFormat,
    pub(super) paint: Paint,
}

impl Way for Stderr {
    fn write(&mut self, lines: &[Arc<Line>]) -> Result<(), Failure> {
        let text = rendered(lines, self.format, self.paint);
        let mut rest = text.as_bytes();
        while !rest.is_empty() {
            match rustix::io::write(rustix::stdio::stderr(), rest) {
                Ok(count) => rest = rest.get(count..).unwrap_or_default(),
                Err(rustix::io::Errno::INTR) => {}
                // Somebody else has made it so; there is room in the end.
                Err(rustix::io::Errno::AGAIN) => wait_for_room(),
                Err(error) => return Err(Failure::Lost(io::Error::from(error).to_string())),
            }
        }
        Ok(())
    }
}

fn wait_for_room() {
    let stderr = rustix::stdio::stderr();
    let mut places = [PollFd::new(&stderr, PollFlags::OUT)];
    let while_nobody_reads = Timespec {
        tv_sec: 1,
        tv_nsec: 0,
    };
    // Either way it is tried again.
    let _ = poll(&mut places, Some(&while_nobody_reads));
}

/// A file that others may move away: then a new one is begun in its place.
pub(super) struct LogFile {
    path: PathBuf,
    format: LineFormat,
    file: File,
    /// The last line may be a part of one.
    is_cut: bool,
}

impl LogFile {
    pub(super) fn open(path: &Path, format: LineFormat) -> io::Result<Self> {
        Ok(Self {
            file: opened(path)?,
            path: path.to_owned(),
            format,
            is_cut: false,
        })
    }

    /// Whether the path still leads to this file.
    fn is_there(&self) -> bool {
        let (Ok(open), Ok(found)) = (self.file.metadata(), std::fs::metadata(&self.path)) else {
            return false;
        };
        (open.dev(), open.ino()) == (found.dev(), found.ino())
    }
}

/// For its owner and for the group that reads logs.
fn opened(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.create(true).append(true).mode(0o640);
    // What is no file may have nobody at its other end.
    options.custom_flags(i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or_default());
    options.open(path)
}

impl Way for LogFile {
    fn write(&mut self, lines: &[Arc<Line>]) -> Result<(), Failure> {
        if !self.is_there() {
            // While that fails the file that was opened before is as good as any.
            match opened(&self.path) {
                Ok(file) => self.file = file,
                Err(error) => {
                    let _ = self.append(lines);
                    return Err(Failure::Told(format!("{}: {error}", self.path.display())));
                }
            }
        }
        let appended = self.append(lines);
        appended.map_err(|error| Failure::Lost(format!("{}: {error}", self.path.display())))
    }
}

impl LogFile {
    fn append(&mut self, lines: &[Arc<Line>]) -> io::Result<()> {
        let mut text = rendered(lines, self.format, Paint::Plain);
        if self.is_cut {
            text.insert(0, '\n');
        }
        let written = self.file.write_all(text.as_bytes());
        // A part of a line may be there now.
        self.is_cut = written.is_err();
        written
    }
}

fn rendered(lines: &[Arc<Line>], format: LineFormat, paint: Paint) -> String {
    lines
        .iter()
        .map(|line| line.render(format, paint))
        .collect()
}

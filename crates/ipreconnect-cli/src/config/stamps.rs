//! Which files a configuration is read from, and when each was last changed.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::files::files_of;

/// What tells that a file changed, or that another one is in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    length: u64,
    inode: u64,
}

/// The files of a configuration as they were at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stamps(BTreeMap<PathBuf, Option<Stamp>>);

impl Stamps {
    /// Looks at the file, or at every file of the directory, and at `more`. A file behind a link is the file
    /// itself, so that an atomic replacement and a changed link both show.
    pub(crate) fn of(place: &Path, more: impl Iterator<Item = PathBuf>) -> Self {
        let files = files_of(place).unwrap_or_else(|_| vec![place.to_owned()]);
        Self::of_files(files.into_iter().chain(more))
    }

    /// Looks at these files, in the same way.
    pub(crate) fn of_files(files: impl IntoIterator<Item = PathBuf>) -> Self {
        let stamps = files.into_iter().map(|file| {
            let stamp = fs::metadata(&file).ok().map(|found| Stamp {
                modified: found.modified().ok(),
                length: found.len(),
                inode: found.ino(),
            });
            (file, stamp)
        });
        Self(stamps.collect())
    }
}

//! Certificates that are made, not given: by a local authority for development, or by an ACME server.

pub(crate) mod acme;
pub(crate) mod internal;

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::state::replace;

/// Seconds since 1970, by the wall clock: a machine that slept must not show what expired meanwhile.
fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or(Duration::ZERO)
        .as_secs()
}

/// When two thirds of a certificate's time are over.
fn two_thirds(not_before: u64, not_after: u64) -> u64 {
    not_before + not_after.saturating_sub(not_before) / 3 * 2
}

/// Writes a file that its owner alone can read, all of it or nothing.
fn write(path: &Path, text: &str) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("."));
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)?;
    replace(path, &path.with_extension("new"), text)
}

//! Finding the files of a configuration, and reading them.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::environment::Environment;
use super::mistake::{Mistake, Mistakes, Source};

/// A configuration file may be as large as this.
const LARGEST: u64 = 4 * 1024 * 1024;
/// Files of one directory.
const FILES: usize = 1024;

/// Where the configuration is looked for.
pub(super) fn find(environment: &Environment) -> Result<PathBuf, Mistakes> {
    if let Some(path) = (environment.variable)("IPRECONNECT_CONFIG") {
        return Ok(path.into());
    }
    let places = ["./ipreconnect.toml", "/etc/ipreconnect/ipreconnect.toml"];
    let found = places.iter().map(PathBuf::from).find(|path| path.exists());
    found.ok_or_else(|| {
        Mistake::new("there is no configuration")
            .hint(format!(
                "looked for {}; name one with --config PATH or $IPRECONNECT_CONFIG; `ipreconnect run` goes without, by --listen and --origin",
                places.join(" and ")
            ))
            .into()
    })
}

/// The file itself, or the `*.toml` of a directory in the order of their names.
pub(super) fn files_of(path: &Path) -> Result<Vec<PathBuf>, Mistakes> {
    let unreadable = |error: std::io::Error| {
        Mistakes::from(Mistake::new(format!(
            "cannot read {}: {error}",
            path.display()
        )))
    };
    if !fs::metadata(path).map_err(unreadable)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files: Vec<PathBuf> = fs::read_dir(path)
        .map_err(unreadable)?
        .flatten()
        .map(|entry| entry.path())
        .filter(|file| {
            file.extension()
                .is_some_and(|extension| extension == "toml")
        })
        .collect();
    files.sort();
    if files.is_empty() || files.len() > FILES {
        let message = format!(
            "{} must have from 1 to {FILES} files *.toml",
            path.display()
        );
        return Err(Mistake::new(message).into());
    }
    Ok(files)
}

/// What relative paths in this file begin at.
pub(super) fn base_of(file: &Path) -> PathBuf {
    match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// The text of one file.
pub(super) fn read(file: &Path) -> Result<Source, Mistake> {
    let name = file.display().to_string();
    let unreadable = |error: std::io::Error| Mistake::new(format!("cannot read {name}: {error}"));
    let mut bytes = Vec::new();
    fs::File::open(file)
        .map_err(unreadable)?
        .take(LARGEST + 1)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    if bytes.len() as u64 > LARGEST {
        return Err(Mistake::new(format!("{name} is larger than 4 MiB")));
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        Mistake::new(format!("{name} is not UTF-8: see byte {at}"))
    })?;
    Ok(Source { name, text })
}

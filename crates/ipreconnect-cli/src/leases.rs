//! The ports that are kept by name, in a file of the state directory that several commands may use at once.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use ipreconnect::core::ports::{Lease, LeaseError, Leases};
use ipreconnect_ports::{candidates, ephemeral, holders, reserved};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use crate::exit::{Exit, Refusal};

/// Its name in the state directory.
const FILE: &str = "leases.json";
/// Ports that are tried.
const TRIES: usize = 512;
/// What connections get where the kernel does not say it (ip(7)).
const EPHEMERAL: std::ops::RangeInclusive<u16> = 32_768..=60_999;

/// One lease as it is written.
#[derive(Debug, Serialize, Deserialize)]
struct Written {
    name: String,
    port: u16,
    since: u64,
    used: u64,
}

/// The file that has them.
pub(crate) fn file(state: &Path) -> PathBuf {
    state.join(FILE)
}

/// The leases, while nobody else changes them.
#[derive(Debug)]
pub(crate) struct Book {
    directory: PathBuf,
    pub(crate) leases: Leases,
    _lock: File,
}

/// What is kept there now; nothing if there is nothing.
///
/// # Errors
/// If it cannot be read.
pub(crate) fn kept(state: &Path) -> io::Result<Leases> {
    let text = match fs::read_to_string(file(state)) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Leases::default()),
        Err(error) => return Err(error),
    };
    let written: Vec<Written> = serde_json::from_str(&text)?;
    Ok(Leases::of(written.into_iter().map(|one| {
        let lease = Lease {
            port: one.port,
            since: one.since,
            used: one.used,
        };
        (one.name, lease)
    })))
}

/// Seconds of the calendar.
pub(crate) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

impl Book {
    /// Opens it, when nobody else has it open.
    pub(crate) fn open(state: &Path) -> Result<Self, Refusal> {
        let refuse = |error: io::Error| {
            Refusal::new(
                Exit::Wrong,
                format!("cannot open the kept ports in {}", state.display()),
            )
            .because(&error)
            .hint("set `gateway.state_dir` to a directory this user can write to")
        };
        let mut make = DirBuilder::new();
        make.recursive(true)
            .mode(0o700)
            .create(state)
            .map_err(refuse)?;
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(state.join("leases.lock"))
            .map_err(refuse)?;
        flock(&lock, FlockOperation::LockExclusive).map_err(|error| refuse(error.into()))?;
        let mut leases = kept(state).map_err(refuse)?;
        leases.expire(now(), is_held);
        Ok(Self {
            directory: state.to_owned(),
            leases,
            _lock: lock,
        })
    }

    /// The port of a name, from now on and as before.
    pub(crate) fn take(&mut self, name: &str, wanted: Option<u16>) -> Result<Lease, LeaseError> {
        let ephemeral = ephemeral().unwrap_or(EPHEMERAL);
        let reserved = reserved().unwrap_or_default();
        let candidates = candidates(name, &ephemeral, &reserved, TRIES);
        let candidates = candidates.into_iter().filter(|port| !is_held(*port));
        self.leases.take(name, now(), wanted, candidates)
    }

    /// Writes it down, whole or not at all.
    pub(crate) fn save(&self) -> Result<(), Refusal> {
        let written: Vec<Written> = self
            .leases
            .iter()
            .map(|(name, lease)| Written {
                name: name.to_owned(),
                port: lease.port,
                since: lease.since,
                used: lease.used,
            })
            .collect();
        let path = file(&self.directory);
        let new = self.directory.join(format!("{FILE}.new"));
        let written = serde_json::to_vec_pretty(&written)
            .map_err(io::Error::from)
            .and_then(|text| {
                let mut file = File::create(&new)?;
                file.write_all(&text)?;
                file.sync_all()?;
                fs::rename(&new, &path)
            });
        written.map_err(|error| {
            Refusal::new(Exit::Wrong, format!("cannot write {}", path.display())).because(&error)
        })
    }
}

/// Whether somebody listens on a port of this machine, in either family.
pub(crate) fn is_held(port: u16) -> bool {
    let loopback: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
    loopback.into_iter().any(|ip| {
        let held = holders(SocketAddr::new(ip, port));
        held.is_ok_and(|holders| !holders.is_empty())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_command_keeps_the_next_one_finds() {
        let directory = tempfile::tempdir().unwrap();
        let state = directory.path().join("state");
        assert_eq!(kept(&state).unwrap(), Leases::default());
        let mut book = Book::open(&state).unwrap();
        let port = book.take("web", None).unwrap().port;
        assert!(port >= 1024);
        book.save().unwrap();
        drop(book);
        let mut book = Book::open(&state).unwrap();
        assert_eq!(book.take("web", None).unwrap().port, port);
        assert_ne!(book.take("api", None).unwrap().port, port);
        assert!(book.leases.release("web").is_some());
        book.save().unwrap();
        drop(book);
        assert_eq!(kept(&state).unwrap().get("web"), None);
    }

    #[test]
    fn a_port_that_is_held_in_one_family_is_held() {
        for ip in ["127.0.0.1", "::1"] {
            let Ok(listener) = std::net::TcpListener::bind((ip, 0)) else {
                continue;
            };
            let port = listener.local_addr().unwrap().port();
            assert!(is_held(port), "{ip}");
            drop(listener);
            assert!(!is_held(port), "{ip}");
        }
    }

    #[test]
    fn a_broken_file_is_told_and_not_overwritten() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join(FILE), "[{").unwrap();
        let refusal = Book::open(directory.path()).unwrap_err();
        assert!(refusal.to_string().contains("kept ports"), "{refusal}");
        assert_eq!(
            fs::read_to_string(directory.path().join(FILE)).unwrap(),
            "[{"
        );
    }
}

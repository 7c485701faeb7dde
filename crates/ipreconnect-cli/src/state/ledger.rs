//! The ledger: one SQLite file, made to be read by others too (`sqlite3 ledger.db`).

use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ipreconnect::core::identity::{Acceptance, Sighting};
use rusqlite::{Connection, Row, params};

/// Of this program's databases; the version is in `user_version`.
const VERSION: i64 = 1;
/// How long another reader of the file is waited for.
const BUSY: Duration = Duration::from_secs(5);

const SCHEMA: &str = "
    CREATE TABLE identity (
        origin     TEXT NOT NULL,
        entry      TEXT NOT NULL,
        address    TEXT NOT NULL,
        key        TEXT NOT NULL,
        issuer     TEXT NOT NULL,
        names      TEXT NOT NULL,
        not_after  INTEGER NOT NULL,
        tls        TEXT NOT NULL,
        dnssec     TEXT NOT NULL,
        first_seen INTEGER NOT NULL,
        last_seen  INTEGER NOT NULL,
        acceptance TEXT NOT NULL,
        PRIMARY KEY (origin, entry, address, key)
    ) STRICT;
";

/// The file, opened when it is first needed, and again after an error.
#[derive(Debug)]
pub(super) struct Ledger {
    path: PathBuf,
    connection: Mutex<Option<Connection>>,
}

impl Ledger {
    pub(super) fn at(path: PathBuf) -> Self {
        Self {
            path,
            connection: Mutex::new(None),
        }
    }

    /// What was kept of an origin's servers, by the time they were first seen.
    pub(super) fn sightings(&self, origin: &str) -> io::Result<Vec<Sighting>> {
        self.with(|connection| {
            let mut statement = connection.prepare(
                "SELECT entry, address, key, issuer, names, not_after, tls, dnssec,
                        first_seen, last_seen, acceptance
                 FROM identity WHERE origin = ?1 ORDER BY first_seen, rowid",
            )?;
            let rows = statement.query_map([origin], sighting)?;
            rows.collect()
        })
    }

    /// Keeps these in place of what was kept before.
    pub(super) fn keep(&self, origin: &str, sightings: &[Sighting]) -> io::Result<()> {
        self.with(|connection| {
            let transaction = connection.transaction()?;
            transaction.execute("DELETE FROM identity WHERE origin = ?1", [origin])?;
            let mut insert = transaction.prepare(
                "INSERT INTO identity VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
            )?;
            for one in sightings {
                insert.execute(params![
                    origin,
                    &*one.entry,
                    &*one.address,
                    one.key.to_string(),
                    &*one.issuer,
                    one.names.join(" "),
                    number(one.not_after),
                    &*one.version,
                    &*one.dnssec,
                    number(one.first_seen),
                    number(one.last_seen),
                    one.acceptance.to_string(),
                ])?;
            }
            drop(insert);
            transaction.commit()
        })
    }

    fn with<T>(&self, work: impl FnOnce(&mut Connection) -> rusqlite::Result<T>) -> io::Result<T> {
        let mut place = self
            .connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let connection = match place.take() {
            Some(connection) => connection,
            None => open(&self.path)?,
        };
        let connection = place.insert(connection);
        let result = work(connection);
        if result.is_err() {
            *place = None;
        }
        result.map_err(|error| told(&self.path, &error))
    }
}

fn told(path: &Path, error: &rusqlite::Error) -> io::Error {
    io::Error::other(format!("{}: {error}", path.display()))
}

fn open(path: &Path) -> io::Result<Connection> {
    // It tells where everything is; SQLite's own files beside it get the same mode.
    std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path)?;
    let prepare = || {
        let connection = Connection::open(path)?;
        connection.busy_timeout(BUSY)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
        if version == 0 {
            let schema = format!("BEGIN; {SCHEMA} PRAGMA user_version = {VERSION}; COMMIT;");
            connection.execute_batch(&schema)?;
        }
        Ok((connection, version))
    };
    match prepare() {
        Ok((_, version)) if version > VERSION => Err(io::Error::other(format!(
            "{} was written by a newer version of this program",
            path.display()
        ))),
        Ok((connection, _)) => Ok(connection),
        Err(error) => Err(told(path, &error)),
    }
}

fn sighting(row: &Row<'_>) -> rusqlite::Result<Sighting> {
    let text = |at: usize| row.get::<_, String>(at).map(Arc::<str>::from);
    let key: String = row.get(2)?;
    let key = key.parse().map_err(|error| {
        let kind = rusqlite::types::Type::Text;
        rusqlite::Error::FromSqlConversionFailure(2, kind, Box::new(error))
    })?;
    let names: String = row.get(4)?;
    let acceptance: String = row.get(10)?;
    Ok(Sighting {
        entry: text(0)?,
        address: text(1)?,
        key,
        issuer: text(3)?,
        names: names.split_whitespace().map(str::to_owned).collect(),
        not_after: seconds(row, 5)?,
        version: text(6)?,
        dnssec: text(7)?,
        first_seen: seconds(row, 8)?,
        last_seen: seconds(row, 9)?,
        acceptance: match acceptance.as_str() {
            "accepted" => Acceptance::Accepted,
            "alarming" => Acceptance::Alarming,
            // A word of a newer version is no reason to trust.
            _ => Acceptance::Refused,
        },
    })
}

fn number(seconds: u64) -> i64 {
    i64::try_from(seconds).unwrap_or(i64::MAX)
}

fn seconds(row: &Row<'_>, at: usize) -> rusqlite::Result<u64> {
    let seconds: i64 = row.get(at)?;
    Ok(u64::try_from(seconds).unwrap_or_default())
}

#[cfg(test)]
mod tests;

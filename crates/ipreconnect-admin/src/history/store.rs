//! The ledger's file: one SQLite database, made to be read by others too (`sqlite3 history.db`).

use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipreconnect::stats::Times;
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, params};

use super::chronicle::{Entry, Loss};
use crate::view::{FindingView, UNSEEN};

/// Of the database; kept in `user_version`.
const VERSION: i64 = 1;
/// How long another reader of the file is waited for.
const BUSY: Duration = Duration::from_secs(5);

/// Times are milliseconds since the beginning of 1970, but for `at`, which is in seconds.
const SCHEMA: &str = "
    CREATE TABLE origin (
        id   INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE
    ) STRICT;
    CREATE TABLE loss (
        id            INTEGER PRIMARY KEY,
        origin        TEXT NOT NULL,
        scope         TEXT NOT NULL,
        endpoint      TEXT,
        layer         TEXT NOT NULL,
        cause         TEXT NOT NULL,
        blame         TEXT NOT NULL,
        first_sign    INTEGER NOT NULL,
        silent_ms     INTEGER,
        notice_ms     INTEGER NOT NULL,
        lasted_ms     INTEGER,
        took_over     TEXT,
        took_over_ms  INTEGER,
        healed_by     TEXT,
        held          INTEGER NOT NULL DEFAULT 0,
        retried       INTEGER NOT NULL DEFAULT 0,
        lost          INTEGER NOT NULL DEFAULT 0
    ) STRICT;
    CREATE INDEX loss_of_origin ON loss (origin, id);
    CREATE INDEX loss_that_lasts ON loss (id) WHERE lasted_ms IS NULL;
    CREATE TABLE rollup (
        grain       INTEGER NOT NULL,
        origin      INTEGER NOT NULL REFERENCES origin,
        at          INTEGER NOT NULL,
        observed_ms INTEGER NOT NULL,
        down_ms     INTEGER NOT NULL,
        requests    INTEGER NOT NULL,
        failed      INTEGER NOT NULL,
        held        INTEGER NOT NULL,
        retried     INTEGER NOT NULL,
        lost        INTEGER NOT NULL,
        waiting     INTEGER NOT NULL,
        times       BLOB NOT NULL,
        PRIMARY KEY (grain, origin, at)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE life (
        id       INTEGER PRIMARY KEY CHECK (id = 1),
        alive_at INTEGER NOT NULL
    ) STRICT;
";

/// What came later, and older versions leave alone.
const LATER: &str = "
    CREATE TABLE IF NOT EXISTS finding (
        id       INTEGER PRIMARY KEY,
        first_ms INTEGER NOT NULL,
        kind     TEXT NOT NULL,
        port     INTEGER NOT NULL,
        peer     TEXT NOT NULL,
        user     TEXT,
        program  TEXT NOT NULL,
        action   TEXT NOT NULL,
        rule     INTEGER,
        told     TEXT NOT NULL
    ) STRICT;
";

/// The lengths of rollups in seconds, and for how many seconds they are kept.
pub(crate) const GRAINS: [(u64, Option<u64>); 3] = [
    (60, Some(31 * 24 * 3600)),
    (3600, Some(8 * 24 * 3600)),
    (86_400, None),
];
/// The length of raw samples in seconds, for how long they are kept, and how many there are at most.
pub(crate) const SAMPLE: u64 = 10;
const SAMPLES_KEPT: u64 = 24 * 3600;
const SAMPLES: u64 = 2_000_000;
/// Rollups that are only written when something happened.
pub(crate) const SHORT: u64 = 60;
/// Losses that are kept, the latest; and findings of the guard.
const LOSSES: u64 = 500_000;
const FINDINGS: u64 = 100_000;
/// Damaged files that are kept.
const DAMAGED: usize = 3;

/// What is known of one origin in one stretch of time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rollup {
    pub(crate) origin: String,
    pub(crate) grain: u64,
    /// Its beginning, in seconds since the beginning of 1970.
    pub(crate) at: u64,
    pub(crate) observed_ms: u64,
    pub(crate) down_ms: u64,
    pub(crate) requests: u64,
    pub(crate) failed: u64,
    pub(crate) held: u64,
    pub(crate) retried: u64,
    pub(crate) lost: u64,
    pub(crate) waiting: u32,
    pub(crate) times: Times,
}

impl Rollup {
    /// Whether nothing happened but that time passed.
    pub(crate) fn is_quiet(&self) -> bool {
        self.down_ms == 0
            && self.requests == 0
            && self.times.count() == 0
            && self.held + self.retried + self.lost == 0
            && self.waiting == 0
    }

    /// Adds another one of the same stretch.
    pub(crate) fn add(&mut self, other: &Self) {
        self.observed_ms += other.observed_ms;
        self.down_ms += other.down_ms;
        self.requests += other.requests;
        self.failed += other.failed;
        self.held += other.held;
        self.retried += other.retried;
        self.lost += other.lost;
        self.waiting = self.waiting.max(other.waiting);
        self.times.add(&other.times);
    }
}

/// One thing to write.
#[derive(Clone, Debug)]
pub(crate) enum Write {
    Entry(Entry),
    Rollup(Box<Rollup>),
    /// The guard has found something.
    Finding(Box<FindingView>),
    /// The gateway lives, at this time.
    Alive(u64),
    /// What is too old goes, at this time in seconds.
    Trim(u64),
}

/// The open file.
#[derive(Debug)]
pub(crate) struct Store {
    connection: Connection,
    mark: Option<(u64, u64)>,
}

/// What was found when the file was opened.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) store: Store,
    /// The number of the last loss.
    pub(crate) last: u64,
    /// Where a file that could not be used was moved to.
    pub(crate) moved: Option<PathBuf>,
}

/// When a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Opening {
    /// For the first time in this run: what lasted before has ended.
    First,
    /// After an error.
    Again,
}

impl Store {
    /// Opens the file, or makes it. One that is damaged is moved aside.
    ///
    /// # Errors
    /// If there can be none.
    pub(crate) fn open(path: &Path, when: Opening, now: u64) -> io::Result<Opened> {
        match Self::try_open(path, when) {
            Ok((store, last)) => Ok(Opened {
                store,
                last,
                moved: None,
            }),
            Err(error) if is_damage(&error) => {
                let aside = set_aside(path, now)?;
                let (store, last) =
                    Self::try_open(path, when).map_err(|error| told(path, &error))?;
                Ok(Opened {
                    store,
                    last,
                    moved: Some(aside),
                })
            }
            Err(error) => Err(told(path, &error)),
        }
    }

    fn try_open(path: &Path, when: Opening) -> rusqlite::Result<(Self, u64)> {
        let made = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(path);
        made.map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
        let connection = Connection::open(path)?;
        connection.busy_timeout(BUSY)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        // A power cut may take the last entries; the end of this process does not.
        connection.pragma_update(None, "synchronous", "NORMAL")?;
        let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
        if version > VERSION {
            let why = "it was written by a newer version of this program".to_owned();
            return Err(rusqlite::Error::SqliteFailure(
                rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CANTOPEN),
                Some(why),
            ));
        }
        if version == 0 {
            let schema = format!("BEGIN; {SCHEMA} PRAGMA user_version = {VERSION}; COMMIT;");
            connection.execute_batch(&schema)?;
        }
        connection.execute_batch(LATER)?;
        if when == Opening::First {
            close_what_lasted(&connection)?;
        }
        let last: Option<i64> =
            connection.query_row("SELECT max(id) FROM loss", [], |row| row.get(0))?;
        let last = u64::try_from(last.unwrap_or_default()).unwrap_or_default();
        let mark = mark(path);
        Ok((Self { connection, mark }, last))
    }

    /// Whether the file is still there, and no other one.
    pub(crate) fn is_at(&self, path: &Path) -> bool {
        self.mark.is_some() && self.mark == mark(path)
    }

    /// Writes all of it, or nothing. The losses of this run are numbered after `before`.
    pub(crate) fn write(&mut self, writes: &[Write], before: u64) -> rusqlite::Result<()> {
        let transaction = self.connection.transaction()?;
        for write in writes {
            match write {
                Write::Entry(Entry::Begun(loss)) => begin(&transaction, loss, before)?,
                Write::Entry(Entry::TakenOver { id, by, after }) => {
                    let sql = "UPDATE loss SET took_over = ?2, took_over_ms = ?3
                               WHERE id = ?1 AND took_over IS NULL";
                    let mut update = transaction.prepare_cached(sql)?;
                    update.execute(params![number(before + *id), by, millis(*after)])?;
                }
                Write::Entry(Entry::Over {
                    id,
                    lasted,
                    healed_by,
                }) => {
                    let sql = "UPDATE loss SET lasted_ms = ?2, healed_by = ?3 WHERE id = ?1";
                    let mut update = transaction.prepare_cached(sql)?;
                    update.execute(params![number(before + *id), millis(*lasted), healed_by])?;
                }
                Write::Entry(Entry::Cost { id, toll }) => {
                    let sql = "UPDATE loss SET held = ?2, retried = ?3, lost = ?4 WHERE id = ?1";
                    transaction.prepare_cached(sql)?.execute(params![
                        number(before + *id),
                        number(toll.held),
                        number(toll.retried),
                        number(toll.lost),
                    ])?;
                }
                Write::Rollup(rollup) => roll_up(&transaction, rollup)?,
                Write::Finding(finding) => find(&transaction, finding)?,
                Write::Alive(at) => {
                    let sql = "INSERT OR REPLACE INTO life VALUES (1, ?1)";
                    transaction.prepare_cached(sql)?.execute([number(*at)])?;
                }
                Write::Trim(now) => trim(&transaction, *now)?,
            }
        }
        transaction.commit()
    }
}

/// What lasted when a gateway ended without a word ended, as far as is known, when that was last seen alive.
fn close_what_lasted(connection: &Connection) -> rusqlite::Result<()> {
    let sql = "SELECT alive_at FROM life WHERE id = 1";
    let alive: Option<i64> = connection.query_row(sql, [], |row| row.get(0)).optional()?;
    connection.execute(
        "UPDATE loss SET healed_by = ?2,
             lasted_ms = max(notice_ms, coalesce(?1, first_sign) - first_sign)
         WHERE lasted_ms IS NULL",
        params![alive, UNSEEN],
    )?;
    Ok(())
}

fn begin(connection: &Connection, loss: &Loss, before: u64) -> rusqlite::Result<()> {
    let sql = "INSERT INTO loss (id, origin, scope, endpoint, layer, cause, blame, first_sign,
                   silent_ms, notice_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";
    connection.prepare_cached(sql)?.execute(params![
        number(before + loss.id),
        &*loss.origin,
        loss.scope.word(),
        loss.endpoint,
        loss.layer,
        loss.cause,
        loss.blame,
        number(loss.first_sign),
        loss.silent.map(millis),
        millis(loss.notice),
    ])?;
    Ok(())
}

fn find(connection: &Connection, finding: &FindingView) -> rusqlite::Result<()> {
    let sql = "INSERT INTO finding (first_ms, kind, port, peer, user, program, action, rule, told)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
    connection.prepare_cached(sql)?.execute(params![
        number(finding.first_ms),
        finding.kind,
        finding.port,
        finding.peer,
        finding.user,
        finding.program,
        finding.action,
        finding.rule.map(|rule| number(rule as u64)),
        finding.told,
    ])?;
    Ok(())
}

fn roll_up(connection: &Connection, rollup: &Rollup) -> rusqlite::Result<()> {
    let sql = "INSERT INTO origin (name) VALUES (?1) ON CONFLICT DO NOTHING";
    connection.prepare_cached(sql)?.execute([&rollup.origin])?;
    let sql = "SELECT id FROM origin WHERE name = ?1";
    let origin: i64 = connection
        .prepare_cached(sql)?
        .query_row([&rollup.origin], |row| row.get(0))?;
    let sql = "SELECT times FROM rollup WHERE grain = ?1 AND origin = ?2 AND at = ?3";
    let key = params![number(rollup.grain), origin, number(rollup.at)];
    let before: Option<Vec<u8>> = connection
        .prepare_cached(sql)?
        .query_row(key, |row| row.get(0))
        .optional()?;
    let mut times = rollup.times.clone();
    times.add(&unpack(&before.unwrap_or_default()));
    let sql = "INSERT INTO rollup VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)
        ON CONFLICT DO UPDATE SET
            observed_ms = observed_ms + excluded.observed_ms,
            down_ms = down_ms + excluded.down_ms,
            requests = requests + excluded.requests,
            failed = failed + excluded.failed,
            held = held + excluded.held,
            retried = retried + excluded.retried,
            lost = lost + excluded.lost,
            waiting = max(waiting, excluded.waiting),
            times = excluded.times";
    connection.prepare_cached(sql)?.execute(params![
        number(rollup.grain),
        origin,
        number(rollup.at),
        number(rollup.observed_ms),
        number(rollup.down_ms),
        number(rollup.requests),
        number(rollup.failed),
        number(rollup.held),
        number(rollup.retried),
        number(rollup.lost),
        rollup.waiting,
        pack(&times),
    ])?;
    Ok(())
}

fn trim(connection: &Connection, now: u64) -> rusqlite::Result<()> {
    let origins: i64 = connection.query_row("SELECT count(*) FROM origin", [], |row| row.get(0))?;
    let origins = u64::try_from(origins).unwrap_or_default().max(1);
    let samples = (SAMPLE, Some(SAMPLES_KEPT.min(SAMPLE * SAMPLES / origins)));
    for (grain, kept) in GRAINS.into_iter().chain([samples]) {
        if let Some(kept) = kept {
            // By origin, so that the index is of use.
            let sql = "DELETE FROM rollup WHERE grain = ?1 AND at < ?2
                       AND origin IN (SELECT id FROM origin)";
            let oldest = now.saturating_sub(kept);
            connection
                .prepare_cached(sql)?
                .execute([number(grain), number(oldest)])?;
        }
    }
    let sql = "DELETE FROM loss WHERE id <= (SELECT max(id) FROM loss) - ?1";
    connection.prepare_cached(sql)?.execute([number(LOSSES)])?;
    let sql = "DELETE FROM finding WHERE id <= (SELECT max(id) FROM finding) - ?1";
    connection
        .prepare_cached(sql)?
        .execute([number(FINDINGS)])?;
    Ok(())
}

/// Opens the file for reading.
///
/// # Errors
/// If it cannot be read.
pub(crate) fn read(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY)?;
    Ok(connection)
}

/// Whether a file is not what it must be, and never will be again.
pub(crate) fn is_damage(error: &rusqlite::Error) -> bool {
    let code = error.sqlite_error_code();
    // A table that is missing, or has other columns, was not made here.
    let is_foreign = matches!(error, rusqlite::Error::SqlInputError { .. });
    is_foreign
        || matches!(
            code,
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
        )
}

/// Moves a damaged file away, and what belongs to it; the last few of them are kept.
pub(crate) fn set_aside(path: &Path, now: u64) -> io::Result<PathBuf> {
    let beside = |end: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(end);
        PathBuf::from(name)
    };
    let aside = beside(&format!(".damaged-{now:014}"));
    // What is not in the file itself yet goes first: beside another file it would be taken for that one's.
    for end in ["-wal", "-shm"] {
        let to = beside(&format!(".damaged-{now:014}{end}"));
        match std::fs::rename(beside(end), to) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
    }
    std::fs::rename(path, &aside)?;
    let named = path
        .file_name()
        .map(|name| name.to_string_lossy().into_owned());
    let prefix = format!("{}.damaged-", named.unwrap_or_default());
    let files = path.parent().map(std::fs::read_dir).transpose()?;
    let mut damaged: Vec<(String, PathBuf)> = files
        .into_iter()
        .flatten()
        .flatten()
        .map(|file| (file.file_name().to_string_lossy().into_owned(), file.path()))
        .filter(|(name, _)| name.starts_with(&prefix))
        .collect();
    damaged.sort();
    let mut times: Vec<String> = damaged
        .iter()
        .map(|(name, _)| {
            name.trim_end_matches("-wal")
                .trim_end_matches("-shm")
                .to_owned()
        })
        .collect();
    times.dedup();
    let kept = times.split_off(times.len().saturating_sub(DAMAGED));
    for (name, path) in damaged {
        if !kept.iter().any(|time| name.starts_with(time)) {
            std::fs::remove_file(path)?;
        }
    }
    Ok(aside)
}

/// What a file is, whatever it is called.
pub(crate) fn mark(path: &Path) -> Option<(u64, u64)> {
    let found = std::fs::metadata(path).ok()?;
    Some((found.dev(), found.ino()))
}

/// Whether what was written can never be.
pub(crate) fn is_refusal(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation)
}

pub(crate) fn told(path: &Path, error: &rusqlite::Error) -> io::Error {
    io::Error::other(format!("{}: {error}", path.display()))
}

/// Response times as they are kept: for each step that has any its number and how many, then the sum in
/// microseconds; each as a varint (as in Protocol Buffers).
fn pack(times: &Times) -> Vec<u8> {
    if times.count() == 0 {
        return Vec::new();
    }
    let mut packed = Vec::new();
    let sum = u64::try_from(times.sum.as_micros()).unwrap_or(u64::MAX);
    varint(sum, &mut packed);
    for (step, count) in (0_u64..).zip(&times.steps) {
        if *count > 0 {
            varint(step, &mut packed);
            varint(*count, &mut packed);
        }
    }
    packed
}

/// What was packed; what is not understood counts as nothing.
pub(crate) fn unpack(mut packed: &[u8]) -> Times {
    let mut times = Times::default();
    let Some(sum) = take_varint(&mut packed) else {
        return times;
    };
    times.sum = Duration::from_micros(sum);
    while let (Some(step), Some(count)) = (take_varint(&mut packed), take_varint(&mut packed)) {
        let step = usize::try_from(step).ok();
        if let Some(step) = step.and_then(|step| times.steps.get_mut(step)) {
            *step = count;
        }
    }
    times
}

fn varint(mut value: u64, out: &mut Vec<u8>) {
    loop {
        let low = u8::try_from(value & 0x7f).unwrap_or_default();
        value >>= 7;
        if value == 0 {
            out.push(low);
            return;
        }
        out.push(low | 0x80);
    }
}

fn take_varint(packed: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = packed.split_first()?;
        *packed = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_come_back_as_they_were_packed() {
        let mut times = Times::default();
        assert_eq!(unpack(&pack(&times)), times);
        times.steps[0] = 1;
        times.steps[7] = 300;
        times.steps[20] = u64::MAX;
        times.sum = Duration::from_micros(123_456_789);
        assert_eq!(unpack(&pack(&times)), times);
        for cut in 0..pack(&times).len() {
            let packed = pack(&times);
            let _ = unpack(packed.get(..cut).unwrap_or_default());
        }
        assert_eq!(unpack(&[0xff; 40]), Times::default());
    }
}

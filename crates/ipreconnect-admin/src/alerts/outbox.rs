//! What waits to be delivered: in memory, and on disk for whoever comes after this process.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rusqlite::{Connection, params};

use super::sink::Sink;
use super::words::{Message, MessageItem};

/// Messages that wait for one way out; the oldest gives way.
const MOST: usize = 1000;

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS message (
        id   INTEGER PRIMARY KEY,
        sink TEXT NOT NULL,
        text TEXT NOT NULL
    ) STRICT;
    CREATE TABLE IF NOT EXISTS told (
        subject TEXT NOT NULL,
        kind    TEXT NOT NULL,
        began   INTEGER NOT NULL,
        text    TEXT NOT NULL,
        sinks   TEXT NOT NULL,
        PRIMARY KEY (subject, kind)
    ) STRICT;
";

/// The messages of all ways out. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Outbox(Arc<Mutex<Waiting>>);

#[derive(Debug)]
struct Waiting {
    path: PathBuf,
    connection: Option<Connection>,
    next: u64,
    /// By the name of the way out, then by number.
    waiting: BTreeMap<String, BTreeMap<u64, Message>>,
    /// What is told again while it lasts: only the last of it counts, and nothing of it outlives this process.
    reminders: BTreeMap<String, Message>,
}

impl Outbox {
    /// With what an earlier process could not deliver. Without a disk it is kept in memory alone.
    pub(super) fn at(path: &Path) -> Self {
        let mut outbox = Waiting {
            path: path.to_owned(),
            connection: None,
            next: 1,
            waiting: BTreeMap::new(),
            reminders: BTreeMap::new(),
        };
        if let Err(error) = outbox.open() {
            tracing::warn!(
                path = %path.display(), %error,
                "alerts that wait cannot be kept on disk; a restart would forget them"
            );
        }
        Self(Arc::new(Mutex::new(outbox)))
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has a message delivered by all of these.
    pub(super) fn put(&self, sinks: &[Sink], message: &Message) {
        let mut outbox = self.lock();
        for sink in sinks {
            outbox.put(&sink.name(), message);
        }
    }

    /// What is to be heard again, in place of what was to be before.
    pub(super) fn replace_reminder(&self, sinks: &[Sink], message: &Message) {
        let mut outbox = self.lock();
        for sink in sinks {
            outbox.reminders.insert(sink.name(), message.clone());
        }
    }

    /// Nothing lasts any more.
    pub(super) fn forget_reminders(&self) {
        self.lock().reminders.clear();
    }

    /// What was told by these ways, and not that it is over: for whoever comes after this process.
    pub(super) fn told(&self, item: &MessageItem, began: u64, sinks: &[Sink]) {
        let sinks: BTreeSet<String> = sinks.iter().map(Sink::name).collect();
        let (Ok(text), Ok(sinks)) = (serde_json::to_string(item), serde_json::to_string(&sinks))
        else {
            return;
        };
        self.lock().keep(
            "INSERT OR REPLACE INTO told VALUES (?1, ?2, ?3, ?4, ?5)",
            params![item.subject, item.kind, number(began), text, sinks],
        );
    }

    /// It was told to be over.
    pub(super) fn over(&self, item: &MessageItem) {
        self.lock().keep(
            "DELETE FROM told WHERE subject = ?1 AND kind = ?2",
            params![item.subject, item.kind],
        );
    }

    /// What an earlier process has told by all of these ways, and when that began, in milliseconds since the beginning
    /// of 1970.
    pub(super) fn told_before(&self, sinks: &[Sink]) -> Vec<(MessageItem, u64)> {
        let outbox = self.lock();
        let Some(connection) = &outbox.connection else {
            return Vec::new();
        };
        let read = || -> rusqlite::Result<Vec<(String, i64, String)>> {
            let mut statement = connection.prepare("SELECT text, began, sinks FROM told")?;
            let rows =
                statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
            rows.collect()
        };
        let today: BTreeSet<String> = sinks.iter().map(Sink::name).collect();
        // What cannot be read is told anew if it is still so.
        let rows = read().unwrap_or_default().into_iter();
        rows.filter_map(|(text, began, sinks)| {
            let item = serde_json::from_str(&text).ok()?;
            let sinks: BTreeSet<String> = serde_json::from_str(&sinks).ok()?;
            // Somebody who is new has not heard of it.
            if today.is_empty() || !today.is_subset(&sinks) {
                return None;
            }
            Some((item, u64::try_from(began).unwrap_or_default()))
        })
        .collect()
    }

    /// The oldest message for that way out.
    pub(super) fn first(&self, sink: &str) -> Option<(u64, Message)> {
        let outbox = self.lock();
        let (id, message) = outbox.waiting.get(sink)?.first_key_value()?;
        Some((*id, message.clone()))
    }

    /// What is to be heard again; it is taken, since there is always another one.
    pub(super) fn take_reminder(&self, sink: &str) -> Option<Message> {
        self.lock().reminders.remove(sink)
    }

    /// A message was delivered, or never can be.
    pub(super) fn done(&self, sink: &str, id: u64) {
        let mut outbox = self.lock();
        if let Some(waiting) = outbox.waiting.get_mut(sink) {
            waiting.remove(&id);
        }
        outbox.forget(id);
    }

    /// Forgets what waits for ways out that are no more.
    pub(super) fn keep_only(&self, sinks: &[Sink]) {
        let names: Vec<String> = sinks.iter().map(Sink::name).collect();
        let mut outbox = self.lock();
        let waiting = std::mem::take(&mut outbox.waiting);
        for (name, messages) in waiting {
            if names.contains(&name) {
                outbox.waiting.insert(name, messages);
            } else {
                messages.keys().for_each(|id| outbox.forget(*id));
            }
        }
        outbox.reminders.retain(|name, _| names.contains(name));
    }
}

impl Waiting {
    fn open(&mut self) -> rusqlite::Result<()> {
        // What it says is for those who are told; SQLite's own files beside it get the same mode.
        let made = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(&self.path);
        made.map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
        let connection = Connection::open(&self.path)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.execute_batch(SCHEMA)?;
        let mut statement = connection.prepare("SELECT id, sink, text FROM message ORDER BY id")?;
        let rows = statement.query_map([], |row| {
            Ok((
                row.get::<_, i64>(0)?,
                row.get::<_, String>(1)?,
                row.get::<_, String>(2)?,
            ))
        })?;
        for row in rows {
            let (id, sink, text) = row?;
            let id = u64::try_from(id).unwrap_or_default();
            self.next = self.next.max(id + 1);
            // What a newer version has written is not for us.
            if let Ok(message) = serde_json::from_str(&text) {
                self.waiting.entry(sink).or_default().insert(id, message);
            }
        }
        drop(statement);
        self.connection = Some(connection);
        Ok(())
    }

    fn keep(&self, sql: &str, values: impl rusqlite::Params) {
        if let Some(connection) = &self.connection
            && let Err(error) = connection.execute(sql, values)
        {
            tracing::warn!(%error, "what people were told cannot be kept on disk; a restart would forget it");
        }
    }

    fn put(&mut self, sink: &str, message: &Message) {
        let id = self.next;
        self.next += 1;
        if let Some(connection) = &self.connection
            && let Ok(text) = serde_json::to_string(message)
        {
            let sql = "INSERT INTO message VALUES (?1, ?2, ?3)";
            if let Err(error) = connection.execute(sql, params![number(id), sink, text]) {
                tracing::warn!(%error, "an alert that waits cannot be kept on disk; a restart would forget it");
            }
        }
        let waiting = self.waiting.entry(sink.to_owned()).or_default();
        waiting.insert(id, message.clone());
        if waiting.len() > MOST
            && let Some((oldest, _)) = waiting.pop_first()
        {
            tracing::warn!(
                sink,
                "too many alerts wait for this way out; the oldest is dropped"
            );
            self.forget(oldest);
        }
    }

    fn forget(&self, id: u64) {
        if let Some(connection) = &self.connection {
            // What stays is delivered twice by the next process, which is better than never.
            let _ = connection.execute("DELETE FROM message WHERE id = ?1", [number(id)]);
        }
    }
}

fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

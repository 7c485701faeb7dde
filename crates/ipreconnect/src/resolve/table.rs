//! All names that somebody uses, each with its memory and its users.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipreconnect_core::dice::Dice;
use ipreconnect_core::failure::Failure;
use ipreconnect_core::names::{
    Knowledge, Limits, Look, LookId, Memory, Outcome, Remembered, Security, Turn,
};
use tokio::sync::Notify;

use super::answer::{Question, Record};
use super::lookup::Brought;

/// What is kept on disk is written again after this, so that its age stays small.
const WRITTEN: Duration = Duration::from_secs(3600);
/// What could not be written is tried again after this.
const AGAIN: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(super) struct Table {
    limits: Limits,
    dice: Dice,
    entries: BTreeMap<Question, Entry>,
    next_user: u64,
    /// New names whose last answers may be on disk.
    pub(super) unread: Vec<Question>,
    /// Answers to be written.
    pub(super) unwritten: BTreeMap<Question, Vec<Record>>,
}

#[derive(Debug)]
struct Entry {
    memory: Memory<Record>,
    users: BTreeMap<u64, Arc<Notify>>,
    /// Who gave the last answer.
    server: Option<usize>,
    label: Option<Arc<str>>,
    written: Option<(Vec<Record>, Instant)>,
    /// Until when nothing is written, since the store failed.
    not_before: Option<Instant>,
    /// The name was proven once, and provably is not signed any more.
    turned_insecure: bool,
}

/// What is known of one kind of record of one name at one moment.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Known {
    pub(super) records: Vec<Record>,
    pub(super) knowledge: Knowledge,
    pub(super) security: Security,
    pub(super) turned_insecure: bool,
    pub(super) ttl: Duration,
    pub(super) failure: Option<Failure>,
    pub(super) server: Option<Arc<str>>,
}

/// A lookup to be made.
#[derive(Clone, Debug)]
pub(super) struct Due {
    pub(super) question: Question,
    pub(super) id: LookId,
    /// The server that should not be asked first.
    pub(super) not_first: Option<usize>,
}

impl Table {
    pub(super) fn new(limits: Limits, seed: u64) -> Self {
        Self {
            limits,
            dice: Dice::new(seed),
            entries: BTreeMap::new(),
            next_user: 0,
            unread: Vec::new(),
            unwritten: BTreeMap::new(),
        }
    }

    /// Adds a user of a name; its number takes it off again.
    pub(super) fn enter(&mut self, now: Instant, question: &Question, bell: Arc<Notify>) -> u64 {
        self.next_user += 1;
        let entry = match self.entries.get_mut(question) {
            Some(entry) => entry,
            None => {
                self.unread.push(question.clone());
                let memory = Memory::new(self.limits, self.dice.seed(), now);
                self.entries.entry(question.clone()).or_insert(Entry {
                    memory,
                    users: BTreeMap::new(),
                    server: None,
                    label: None,
                    written: None,
                    not_before: None,
                    turned_insecure: false,
                })
            }
        };
        entry.users.insert(self.next_user, bell);
        self.next_user
    }

    /// Takes a user off; a name that nobody uses is forgotten.
    pub(super) fn leave(&mut self, question: &Question, user: u64) {
        if let Some(entry) = self.entries.get_mut(question) {
            entry.users.remove(&user);
            if entry.users.is_empty() {
                self.entries.remove(question);
            }
        }
    }

    pub(super) fn doubt(&mut self, now: Instant, question: &Question) {
        if let Some(entry) = self.entries.get_mut(question) {
            entry.memory.doubt(now);
        }
    }

    pub(super) fn doubt_all(&mut self, now: Instant) {
        for entry in self.entries.values_mut() {
            entry.memory.doubt(now);
        }
    }

    pub(super) fn set_limits(&mut self, now: Instant, limits: Limits) {
        self.limits = limits;
        for entry in self.entries.values_mut() {
            entry.memory.set_limits(now, limits);
        }
    }

    /// The lookups that are due, no more than `room`.
    pub(super) fn due(&mut self, now: Instant, room: usize) -> Vec<Due> {
        let mut due = Vec::new();
        for (question, entry) in &mut self.entries {
            if entry.memory.age(now) {
                entry.ring();
            }
            if due.len() == room {
                break;
            }
            if let Some(Look { id, elsewhere }) = entry.memory.look(now) {
                due.push(Due {
                    question: question.clone(),
                    id,
                    not_first: entry.server.filter(|_| elsewhere),
                });
            }
        }
        due
    }

    pub(super) fn wakeup(&self) -> Option<Instant> {
        let wakeups = self.entries.values().filter_map(|e| e.memory.wakeup());
        wakeups.min()
    }

    /// Takes what a lookup brought, and tells the users if it changed anything.
    pub(super) fn take(
        &mut self,
        now: Instant,
        due: &Due,
        brought: Brought,
        label: Option<Arc<str>>,
    ) -> Option<Turn> {
        let entry = self.entries.get_mut(&due.question)?;
        let before = entry.known();
        let is_found = matches!(brought.outcome, Outcome::Found { .. });
        let turn = entry.memory.take(now, due.id, brought.outcome);
        if brought.server.is_some() {
            entry.server = brought.server;
            entry.label = label;
        }
        entry.turned_insecure |= turn == Some(Turn::Insecure);
        entry.turned_insecure &= entry.memory.security() != Security::Secure;
        if entry.known() != before {
            entry.ring();
        }
        if is_found {
            entry.note_unwritten(now, &due.question, &mut self.unwritten);
        }
        turn
    }

    /// Takes what an earlier run kept.
    pub(super) fn remember(
        &mut self,
        now: Instant,
        question: &Question,
        old: &Remembered,
        age: Duration,
    ) {
        if let Some(entry) = self.entries.get_mut(question) {
            let records = old.records.iter().filter_map(|record| record.parse().ok());
            let records = records.collect();
            entry.memory.remember(now, records, old.security, age);
        }
    }

    /// An answer could not be written; one that comes later is.
    pub(super) fn unkept(&mut self, now: Instant, question: &Question) {
        if let Some(entry) = self.entries.get_mut(question) {
            entry.written = None;
            entry.not_before = Some(now + AGAIN);
        }
    }

    pub(super) fn known(&self, question: &Question) -> Option<Known> {
        self.entries.get(question).map(Entry::known)
    }
}

impl Entry {
    fn known(&self) -> Known {
        Known {
            records: self.memory.records().to_vec(),
            knowledge: self.memory.knowledge(),
            security: self.memory.security(),
            turned_insecure: self.turned_insecure,
            ttl: self.memory.ttl(),
            failure: self.memory.failure().cloned(),
            server: self.label.clone(),
        }
    }

    fn ring(&self) {
        for bell in self.users.values() {
            bell.notify_one();
        }
    }

    fn note_unwritten(
        &mut self,
        now: Instant,
        question: &Question,
        unwritten: &mut BTreeMap<Question, Vec<Record>>,
    ) {
        let mut records = self.memory.records().to_vec();
        records.sort();
        let is_kept = self.written.as_ref().is_some_and(|(written, at)| {
            *written == records && now.saturating_duration_since(*at) < WRITTEN
        });
        if !is_kept && self.not_before.is_none_or(|at| now >= at) {
            self.not_before = None;
            unwritten.insert(question.clone(), self.memory.records().to_vec());
            self.written = Some((records, now));
        }
    }
}

#[cfg(test)]
mod tests;

//! The sessions of one socket: found by client, ordered by their last datagram, bounded.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use super::session::Session;

/// Who a session belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Client {
    /// Where its datagrams come from.
    pub(super) from: SocketAddr,
    /// The address that it asked, of a socket that has several.
    pub(super) asked: Option<IpAddr>,
}

/// The place of a session: an old one is never taken for the session that has its place now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key {
    index: u32,
    generation: u32,
}

impl Key {
    /// As the kernel keeps it.
    pub(super) fn to_bits(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.index)
    }

    pub(super) fn from_bits(bits: u64) -> Self {
        Self {
            index: (bits & u64::from(u32::MAX)) as u32,
            generation: (bits >> 32) as u32,
        }
    }
}

struct Slot {
    generation: u32,
    session: Option<Session>,
    /// Neighbours in the order of last use.
    older: Option<u32>,
    newer: Option<u32>,
}

/// All sessions of one socket.
#[derive(Default)]
pub(super) struct Table {
    slots: Vec<Slot>,
    free: Vec<u32>,
    by_client: HashMap<Client, u32>,
    oldest: Option<u32>,
    newest: Option<u32>,
}

impl Table {
    pub(super) fn len(&self) -> usize {
        self.by_client.len()
    }

    /// The session of a client.
    pub(super) fn find(&self, client: &Client) -> Option<Key> {
        let index = *self.by_client.get(client)?;
        Some(Key {
            index,
            generation: self.slot(index)?.generation,
        })
    }

    pub(super) fn get_mut(&mut self, key: Key) -> Option<&mut Session> {
        let slot = self.slots.get_mut(key.index as usize)?;
        if slot.generation == key.generation {
            slot.session.as_mut()
        } else {
            None
        }
    }

    /// Takes a session in as the newest.
    pub(super) fn insert(&mut self, session: Session) -> Key {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot {
                generation: 0,
                session: None,
                older: None,
                newer: None,
            });
            u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX)
        });
        self.by_client.insert(session.client, index);
        let mut generation = 0;
        if let Some(slot) = self.slots.get_mut(index as usize) {
            slot.session = Some(session);
            generation = slot.generation;
        }
        self.append(index);
        Key { index, generation }
    }

    /// Makes a session the newest.
    pub(super) fn touch(&mut self, key: Key, now: Instant) {
        if let Some(session) = self.get_mut(key) {
            session.last = now;
            if self.newest != Some(key.index) {
                self.unlink(key.index);
                self.append(key.index);
            }
        }
    }

    pub(super) fn remove(&mut self, key: Key) -> Option<Session> {
        self.get_mut(key)?;
        self.unlink(key.index);
        let slot = self.slots.get_mut(key.index as usize)?;
        slot.generation = slot.generation.wrapping_add(1);
        let session = slot.session.take()?;
        self.by_client.remove(&session.client);
        self.free.push(key.index);
        Some(session)
    }

    /// The session that was silent for longest.
    pub(super) fn oldest(&self) -> Option<Key> {
        let index = self.oldest?;
        Some(Key {
            index,
            generation: self.slot(index)?.generation,
        })
    }

    /// The oldest one, if it was silent for so long.
    pub(super) fn idle(&self, now: Instant, allowed: Duration) -> Option<Key> {
        let key = self.oldest()?;
        let session = self.slot(key.index)?.session.as_ref()?;
        (now.saturating_duration_since(session.last) >= allowed).then_some(key)
    }

    /// All sessions.
    pub(super) fn keys(&self) -> Vec<Key> {
        let keys = self.by_client.values().filter_map(|index| {
            Some(Key {
                index: *index,
                generation: self.slot(*index)?.generation,
            })
        });
        keys.collect()
    }

    fn slot(&self, index: u32) -> Option<&Slot> {
        self.slots.get(index as usize)
    }

    fn append(&mut self, index: u32) {
        let before = self.newest.replace(index);
        if let Some(slot) = self.slots.get_mut(index as usize) {
            (slot.older, slot.newer) = (before, None);
        }
        match before.and_then(|before| self.slots.get_mut(before as usize)) {
            Some(slot) => slot.newer = Some(index),
            None => self.oldest = Some(index),
        }
    }

    fn unlink(&mut self, index: u32) {
        let Some(slot) = self.slots.get_mut(index as usize) else {
            return;
        };
        let (older, newer) = (slot.older.take(), slot.newer.take());
        match older.and_then(|older| self.slots.get_mut(older as usize)) {
            Some(slot) => slot.newer = newer,
            None => self.oldest = newer,
        }
        match newer.and_then(|newer| self.slots.get_mut(newer as usize)) {
            Some(slot) => slot.older = older,
            None => self.newest = older,
        }
    }
}

#[cfg(test)]
mod tests;

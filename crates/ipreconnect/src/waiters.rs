//! Clients that wait for an origin, in the order in which they came.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, oneshot};

/// What a waiting client is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Word {
    /// Dial now.
    Go,
    /// Waiting is in vain.
    GivenUp,
}

/// The place of one client; kept while it dials, so that it does not lose its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ticket(u64);

/// The waiting room of one origin, shared by all workers. Its lock is taken only to wait and to be
/// released, never on a way that carries bytes.
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    room: Mutex<Room>,
    /// Rung when somebody begins to wait.
    pub(crate) doorbell: Notify,
}

#[derive(Debug, Default)]
struct Room {
    next: u64,
    parked: BTreeMap<Ticket, oneshot::Sender<Word>>,
    closed: bool,
}

/// Why nobody can wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    Full,
    Closed,
}

impl Waiters {
    /// Waits behind everybody with an earlier ticket; takes a ticket if there is none yet.
    ///
    /// Cancel safety: dropping the future gives the place up.
    pub(crate) async fn wait(
        &self,
        ticket: &mut Option<Ticket>,
        limit: usize,
    ) -> Result<Word, Refused> {
        let (place, word) = self.park(ticket, limit)?;
        self.doorbell.notify_one();
        let _leave = Leave {
            waiters: self,
            place,
        };
        word.await.map_err(|_| Refused::Closed)
    }

    fn park(
        &self,
        ticket: &mut Option<Ticket>,
        limit: usize,
    ) -> Result<(Ticket, oneshot::Receiver<Word>), Refused> {
        let mut room = self.room();
        if room.closed {
            return Err(Refused::Closed);
        }
        if room.parked.len() >= limit {
            return Err(Refused::Full);
        }
        let place = ticket.unwrap_or(Ticket(room.next));
        if ticket.is_none() {
            room.next += 1;
            *ticket = Some(place);
        }
        let (sender, receiver) = oneshot::channel();
        room.parked.insert(place, sender);
        Ok((place, receiver))
    }

    /// How many wait.
    pub(crate) fn len(&self) -> u32 {
        u32::try_from(self.room().parked.len()).unwrap_or(u32::MAX)
    }

    /// Tells the first `count` of them, in order.
    pub(crate) fn tell(&self, count: u32, word: Word) {
        let mut room = self.room();
        for _ in 0..count {
            let Some((_, sender)) = room.parked.pop_first() else {
                return;
            };
            // One that left in this very moment needs no word.
            let _ = sender.send(word);
        }
    }

    /// Sends everybody away, for good.
    pub(crate) fn close(&self) {
        let mut room = self.room();
        room.closed = true;
        room.parked.clear();
    }

    fn room(&self) -> MutexGuard<'_, Room> {
        // Every change of the room is complete before anything can panic.
        self.room.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Leave<'a> {
    waiters: &'a Waiters,
    place: Ticket,
}

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        self.waiters.room().parked.remove(&self.place);
    }
}

#[cfg(test)]
mod tests;

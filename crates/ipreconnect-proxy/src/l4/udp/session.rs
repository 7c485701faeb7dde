//! One client's session: its way to an endpoint, and the datagrams that must not be lost with it.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use ipreconnect::Way;
use ipreconnect::core::address::EndpointId;

use super::groups::Mark;
use super::table::Client;
use crate::places::Seat;

/// Datagrams without an answer that are kept, in case their endpoint turns out to be refused, and their
/// bytes.
const UNANSWERED: usize = 16;
const UNANSWERED_BYTES: usize = 4 * 1024;
/// Longer ones are not kept.
const SHORT: usize = 1_472;
/// A refusal comes within a round trip; what is older was delivered or lost long ago.
const FRESH: Duration = Duration::from_secs(1);
/// Datagrams that one session may hold while there is no endpoint, and their bytes.
const HELD: usize = 16;
const HELD_BYTES: usize = 128 * 1024;

/// A datagram that was kept.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) bytes: Box<[u8]>,
    pub(super) since: Instant,
}

impl Kept {
    /// The memory it takes.
    pub(super) fn cost(&self) -> usize {
        self.bytes.len() + size_of::<Self>()
    }

    fn is_fresh(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.since) < FRESH
    }
}

/// Short datagrams that were sent, until there is an answer.
#[derive(Debug, Default)]
pub(super) struct Unanswered(VecDeque<Kept>);

impl Unanswered {
    pub(super) fn keep(&mut self, bytes: &[u8], now: Instant) {
        if bytes.len() > SHORT {
            return;
        }
        let bytes_kept =
            |kept: &VecDeque<Kept>| kept.iter().map(|one| one.bytes.len()).sum::<usize>();
        while self.0.len() >= UNANSWERED || bytes_kept(&self.0) + bytes.len() > UNANSWERED_BYTES {
            self.0.pop_front();
        }
        self.0.push_back(Kept {
            bytes: bytes.into(),
            since: now,
        });
    }
}

/// How many datagrams come at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Burst {
    One,
    Several,
}

/// One client.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) client: Client,
    /// `None` while no endpoint is usable.
    pub(super) way: Option<Way>,
    /// Since when it has that way.
    pub(super) since: Instant,
    /// The origin it leads to, by its identity.
    pub(super) origin: usize,
    /// The look at the origin by which the way was last found good.
    pub(super) look: u64,
    /// The last datagram in either direction.
    pub(super) last: Instant,
    /// Its part in a batch.
    pub(super) group: Mark,
    /// Whether the way has answered: what refuses does so at the first datagram.
    pub(super) proven: bool,
    /// How its answers come.
    pub(super) burst: Burst,
    /// The turn of its last answer.
    turn: u64,
    /// Endpoints that refused since the last answer.
    pub(super) refused: Vec<EndpointId>,
    pub(super) unanswered: Unanswered,
    /// Waits for a way.
    pub(super) held: VecDeque<Kept>,
    _seat: Seat,
}

impl Session {
    pub(super) fn new(client: Client, origin: usize, now: Instant, seat: Seat) -> Self {
        Self {
            client,
            way: None,
            since: now,
            origin,
            look: 0,
            last: now,
            group: Mark::default(),
            proven: false,
            burst: Burst::One,
            turn: 0,
            refused: Vec::new(),
            unanswered: Unanswered::default(),
            held: VecDeque::new(),
            _seat: seat,
        }
    }

    /// Learns how answers come: a second one in the same turn shows that there are several at once,
    /// which the kernel then may put together. True when that is new.
    pub(super) fn learn(&mut self, turn: u64) -> bool {
        let again = std::mem::replace(&mut self.turn, turn) == turn;
        again && std::mem::replace(&mut self.burst, Burst::Several) == Burst::One
    }

    /// An answer came: whoever gives it has had what was sent.
    pub(super) fn answered(&mut self) {
        self.unanswered.0.clear();
        self.refused.clear();
        self.proven = true;
    }

    /// Whether an answer may still come.
    pub(super) fn waits(&self, now: Instant) -> bool {
        let last = self.unanswered.0.back();
        last.is_some_and(|kept| kept.is_fresh(now))
    }

    /// Its endpoint refused: what went there of late is held again, before all else.
    pub(super) fn take_back(&mut self, now: Instant) {
        while let Some(kept) = self.unanswered.0.pop_back() {
            if kept.is_fresh(now) {
                self.held.push_front(kept);
            }
        }
    }

    /// Holds a datagram; returns how many older ones had to go.
    pub(super) fn hold(&mut self, bytes: &[u8], now: Instant) -> u64 {
        let mut dropped = 0;
        self.held.push_back(Kept {
            bytes: bytes.into(),
            since: now,
        });
        while self.held.len() > HELD || self.held_bytes() > HELD_BYTES {
            self.held.pop_front();
            dropped += 1;
        }
        dropped
    }

    pub(super) fn is_holding(&self) -> bool {
        !self.held.is_empty()
    }

    pub(super) fn held_bytes(&self) -> usize {
        self.held.iter().map(Kept::cost).sum()
    }

    /// Drops what was held for so long; returns how many.
    pub(super) fn lose_patience(&mut self, now: Instant, patience: Duration) -> u64 {
        let before = self.held.len();
        self.held
            .retain(|kept| now.saturating_duration_since(kept.since) < patience);
        (before - self.held.len()) as u64
    }
}

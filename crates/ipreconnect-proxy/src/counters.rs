//! What one worker counts for one listener, and the sum over workers.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::l4::End;

/// Written by one worker alone, read by anybody: no cache line is fought over.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Counters {
    accepted: AtomicU64,
    denied: AtomicU64,
    carrying: AtomicU64,
    to_origin: AtomicU64,
    to_client: AtomicU64,
    ended: AtomicU64,
    failed: AtomicU64,
    unserved: AtomicU64,
    dropped: AtomicU64,
}

/// One addition by the only writer.
fn add(counter: &AtomicU64, count: u64) {
    counter.store(counter.load(Relaxed).wrapping_add(count), Relaxed);
}

impl Counters {
    pub(crate) fn accepted(&self) {
        add(&self.accepted, 1);
    }

    pub(crate) fn denied(&self) {
        add(&self.denied, 1);
    }

    pub(crate) fn began(&self) {
        add(&self.carrying, 1);
    }

    pub(crate) fn carried_to_origin(&self, bytes: usize) {
        add(&self.to_origin, bytes as u64);
    }

    pub(crate) fn carried_to_client(&self, bytes: usize) {
        add(&self.to_client, bytes as u64);
    }

    pub(crate) fn unserved(&self) {
        add(&self.unserved, 1);
    }

    pub(crate) fn dropped(&self, datagrams: u64) {
        if datagrams > 0 {
            add(&self.dropped, datagrams);
        }
    }

    pub(crate) fn ended(&self, end: End) {
        self.carrying
            .store(self.carrying.load(Relaxed).saturating_sub(1), Relaxed);
        match end {
            End::ByClient | End::ByOrigin | End::Drained | End::Idle => add(&self.ended, 1),
            End::ResetByClient | End::ResetByOrigin | End::Stalled | End::Closed | End::Evicted => {
                add(&self.failed, 1);
            }
        }
    }

    pub(crate) fn totals(&self) -> Totals {
        Totals {
            accepted: self.accepted.load(Relaxed),
            denied: self.denied.load(Relaxed),
            carrying: self.carrying.load(Relaxed),
            to_origin: self.to_origin.load(Relaxed),
            to_client: self.to_client.load(Relaxed),
            ended: self.ended.load(Relaxed),
            failed: self.failed.load(Relaxed),
            unserved: self.unserved.load(Relaxed),
            dropped: self.dropped.load(Relaxed),
        }
    }
}

/// What was counted for one listener, over all workers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Connections accepted, and UDP sessions begun or refused.
    pub accepted: u64,
    /// Of those, refused by access.
    pub denied: u64,
    /// Streams and UDP sessions carried now.
    pub carrying: u64,
    /// Bytes carried to the origin.
    pub to_origin: u64,
    /// Bytes carried to clients.
    pub to_client: u64,
    /// Streams that ended in order, and sessions that had been silent for long.
    pub ended: u64,
    /// Streams that were reset, stalled or closed by order, and sessions that made room for others.
    pub failed: u64,
    /// Clients that left, or were sent away, before they reached the origin.
    pub unserved: u64,
    /// Datagrams that were not passed on: nobody could take them in time, or no session may be had.
    pub dropped: u64,
}

impl std::ops::Add for Totals {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            accepted: self.accepted + other.accepted,
            denied: self.denied + other.denied,
            carrying: self.carrying + other.carrying,
            to_origin: self.to_origin + other.to_origin,
            to_client: self.to_client + other.to_client,
            ended: self.ended + other.ended,
            failed: self.failed + other.failed,
            unserved: self.unserved + other.unserved,
            dropped: self.dropped + other.dropped,
        }
    }
}

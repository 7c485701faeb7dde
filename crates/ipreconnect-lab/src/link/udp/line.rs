//! What is on its way, one way.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::SocketAddr;
use tokio::time::Instant;

/// The most datagrams on their way; more are lost.
const MOST_DATAGRAMS: usize = 1024;

/// A datagram and the time at which it goes out. Of two for the same time, the older goes first.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Parcel {
    due: Instant,
    number: u64,
    pub(super) client: SocketAddr,
    pub(super) bytes: Vec<u8>,
}

/// Datagrams in the order in which they go out.
#[derive(Default)]
pub(super) struct Line {
    parcels: BinaryHeap<Reverse<Parcel>>,
    numbers: u64,
}

impl Line {
    /// Takes the datagram in, or loses it if the line is full.
    pub(super) fn push(&mut self, due: Instant, client: SocketAddr, bytes: Vec<u8>) {
        if self.parcels.len() < MOST_DATAGRAMS {
            self.numbers += 1;
            self.parcels.push(Reverse(Parcel {
                due,
                number: self.numbers,
                client,
                bytes,
            }));
        }
    }

    /// The next datagram whose time has come.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<Parcel> {
        if self.next_due()? <= now {
            self.parcels.pop().map(|Reverse(parcel)| parcel)
        } else {
            None
        }
    }

    /// When the next datagram goes out.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.parcels.peek().map(|Reverse(parcel)| parcel.due)
    }

    /// Everything may go now, in the order in which it came.
    pub(super) fn release(&mut self, now: Instant) {
        let parcels = std::mem::take(&mut self.parcels);
        self.parcels = parcels
            .into_iter()
            .map(|Reverse(parcel)| Reverse(Parcel { due: now, ..parcel }))
            .collect();
    }

    pub(super) fn clear(&mut self) {
        self.parcels.clear();
    }
}

//! How many clients may be inside: two descriptors each, within the limit of this process.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

/// Descriptors kept back for everything but clients.
const RESERVED_FILES: usize = 128;

/// Places for clients, over all workers.
#[derive(Debug)]
pub(crate) struct Places {
    taken: AtomicUsize,
    limit: usize,
    paused: AtomicBool,
}

impl Places {
    /// As many as fit into so many descriptors.
    pub(crate) fn within(files: usize) -> Self {
        Self {
            taken: AtomicUsize::new(0),
            limit: (files.saturating_sub(RESERVED_FILES) / 2).max(1),
            paused: AtomicBool::new(false),
        }
    }

    /// Clients that are inside.
    pub(crate) fn taken(&self) -> usize {
        self.taken.load(Relaxed)
    }

    /// Whether one more client may come in.
    pub(crate) fn are_left(&self) -> bool {
        self.taken.load(Relaxed) < self.limit
    }

    /// Accepting pauses; true for the worker that is the first to notice.
    pub(crate) fn pause(&self) -> bool {
        !self.paused.swap(true, Relaxed)
    }

    /// Somebody was accepted; true if that ends a pause for good, with some places to spare.
    pub(crate) fn resume(&self) -> bool {
        self.paused.load(Relaxed)
            && self.taken.load(Relaxed) < self.limit - self.limit / 8
            && self.paused.swap(false, Relaxed)
    }
}

/// One client's place.
#[derive(Debug)]
pub(crate) struct Seat(Arc<Places>);

impl Seat {
    pub(crate) fn take(places: &Arc<Places>) -> Self {
        places.taken.fetch_add(1, Relaxed);
        Self(Arc::clone(places))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Relaxed);
    }
}

//! How many connections there may be, and how many there are.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A bounded number of rooms, one for each open connection.
pub(crate) struct Rooms {
    free: Arc<Semaphore>,
    taken: Arc<AtomicUsize>,
}

impl Rooms {
    pub(crate) fn new(most: usize) -> Self {
        Self {
            free: Arc::new(Semaphore::new(most)),
            taken: Arc::default(),
        }
    }

    /// Waits for a free room. Cancel safe.
    pub(crate) async fn vacancy(&self) -> Vacancy {
        Vacancy {
            permit: Arc::clone(&self.free).acquire_owned().await.ok(),
            taken: Arc::clone(&self.taken),
        }
    }

    /// How many are occupied.
    pub(crate) fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }
}

/// A room that is kept for somebody who has not come yet.
pub(crate) struct Vacancy {
    /// Always there, as the semaphore is never closed.
    permit: Option<OwnedSemaphorePermit>,
    taken: Arc<AtomicUsize>,
}

impl Vacancy {
    pub(crate) fn occupy(self) -> Room {
        self.taken.fetch_add(1, Ordering::Relaxed);
        Room(self)
    }
}

/// An occupied room, given back when dropped.
pub(crate) struct Room(Vacancy);

impl Drop for Room {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::Relaxed);
        self.0.permit.take();
    }
}

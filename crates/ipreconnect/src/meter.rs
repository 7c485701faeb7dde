//! What all workers count together about one endpoint.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::clock;

/// Counters of one endpoint. Written with plain stores where a lost update does not matter, so that
/// workers do not fight over a cache line.
#[derive(Debug, Default)]
pub struct Meter {
    open: AtomicU32,
    proven: AtomicU64,
    answered: AtomicU64,
    served: AtomicU64,
    closing: AtomicU64,
    failed_here: AtomicU64,
}

static CLOSINGS: AtomicU64 = AtomicU64::new(0);

/// How often the links of any endpoint were asked to close, in this process: carriers look through
/// their links only when it has changed.
#[must_use]
pub fn closings() -> u64 {
    CLOSINGS.load(Relaxed)
}

/// Between two stores of the same proof.
const GRAIN: u64 = 2;

impl Meter {
    /// Links open now.
    #[must_use]
    pub fn open(&self) -> u32 {
        self.open.load(Relaxed)
    }

    /// Links opened since the endpoint is known.
    #[must_use]
    pub fn served(&self) -> u64 {
        self.served.load(Relaxed)
    }

    /// Dials that this machine had no port, descriptor or permission for.
    #[must_use]
    pub fn failed_here(&self) -> u64 {
        self.failed_here.load(Relaxed)
    }

    /// This machine had no room for a dial.
    pub(crate) fn fail_here(&self) {
        self.failed_here.fetch_add(1, Relaxed);
    }

    /// The endpoint showed at `at` that it is there: its kernel accepted a connection.
    pub fn prove(&self, at: Instant) {
        note(&self.proven, at);
    }

    /// The process behind the endpoint showed at `at` that it lives: it sent or closed something.
    /// Returns whether that is news, which it is once in some milliseconds.
    pub fn answer(&self, at: Instant) -> bool {
        note(&self.proven, at);
        note(&self.answered, at)
    }

    /// When the endpoint last showed that it is there.
    #[must_use]
    pub fn proven(&self) -> Option<Instant> {
        clock::instant(self.proven.load(Relaxed))
    }

    /// When the process behind it may have shown last that it lives: the time that is kept lags behind what
    /// was seen, and this does not.
    #[must_use]
    pub fn silent_since(&self) -> Option<Instant> {
        Some(self.answered()? + Duration::from_millis(GRAIN))
    }

    /// When the process behind it last showed that it lives.
    #[must_use]
    pub fn answered(&self) -> Option<Instant> {
        clock::instant(self.answered.load(Relaxed))
    }

    /// Asks the carriers of this endpoint's links to close those opened before now.
    pub(crate) fn close_links(&self, now: Instant) {
        self.closing.store(clock::stamp(now), Relaxed);
        CLOSINGS.fetch_add(1, Relaxed);
    }

    /// Whether a link opened at `opened` was asked to close.
    #[must_use]
    pub fn is_closing(&self, opened: Instant) -> bool {
        self.closing.load(Relaxed) > clock::stamp(opened)
    }
}

/// Moves a stamp forward; not for every byte, so that its cache line stays with whoever reads it.
fn note(stamp: &AtomicU64, at: Instant) -> bool {
    let now = clock::stamp(at);
    let is_news = now > stamp.load(Relaxed).saturating_add(GRAIN);
    if is_news {
        stamp.store(now, Relaxed);
    }
    is_news
}

/// One open link, counted until this is dropped.
#[derive(Debug)]
pub struct Usage(Arc<Meter>);

impl Usage {
    pub(crate) fn begin(meter: &Arc<Meter>) -> Self {
        meter.open.fetch_add(1, Relaxed);
        meter.served.fetch_add(1, Relaxed);
        Self(Arc::clone(meter))
    }

    /// The counters of the endpoint.
    #[must_use]
    pub fn meter(&self) -> &Arc<Meter> {
        &self.0
    }
}

impl Drop for Usage {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Relaxed);
    }
}

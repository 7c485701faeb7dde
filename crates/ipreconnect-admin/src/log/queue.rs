//! Lines that wait to be written. Whoever says them never waits.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ipreconnect::clock;

use super::line::Line;

/// Lines that wait at most, and what they take at most.
const LINES: usize = 8_192;
const BYTES: usize = 4 * 1024 * 1024;

/// The lines of one way out.
#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    /// Something changed.
    rung: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    lines: VecDeque<Arc<Line>>,
    bytes: usize,
    /// Lines for which there was no room.
    lost: u64,
    /// Lines that were taken, and could not be written.
    unwritten: u64,
    /// Taken, and not written yet.
    is_busy: bool,
    is_closed: bool,
}

/// What is to be written now.
pub(super) struct Batch {
    pub(super) lines: Vec<Arc<Line>>,
    /// So many before them were lost.
    pub(super) lost: u64,
    /// Nothing more comes.
    pub(super) is_last: bool,
}

impl Queue {
    /// Takes a line, or counts it as lost.
    pub(super) fn put(&self, line: &Arc<Line>) {
        let mut waiting = self.lock();
        let size = line.size();
        if waiting.lines.len() >= LINES || waiting.bytes + size > BYTES {
            waiting.lost += 1;
            return;
        }
        waiting.bytes += size;
        waiting.lines.push_back(Arc::clone(line));
        drop(waiting);
        self.rung.notify_all();
    }

    /// So many that were taken could not be written.
    pub(super) fn lose(&self, count: u64) {
        self.lock().unwritten += count;
    }

    /// Up to so many lines, as soon as there are any; an empty batch after so long without.
    pub(super) fn take(&self, most: usize, patience: Duration) -> Batch {
        let mut waiting = self.lock();
        waiting.is_busy = false;
        self.rung.notify_all();
        let deadline = clock::now() + patience;
        while waiting.lines.is_empty() && waiting.lost == 0 && !waiting.is_closed {
            let left = deadline.saturating_duration_since(clock::now());
            if left.is_zero() {
                break;
            }
            waiting = self
                .rung
                .wait_timeout(waiting, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        let count = waiting.lines.len().min(most);
        let lines: Vec<_> = waiting.lines.drain(..count).collect();
        waiting.bytes -= lines.iter().map(|line| line.size()).sum::<usize>();
        waiting.is_busy = !lines.is_empty();
        // That is told with the next lines: alone it would be the next that cannot be written.
        let unwritten = match lines.is_empty() {
            true => 0,
            false => std::mem::take(&mut waiting.unwritten),
        };
        Batch {
            lost: std::mem::take(&mut waiting.lost) + unwritten,
            is_last: waiting.is_closed && waiting.lines.is_empty(),
            lines,
        }
    }

    /// Nothing more comes.
    pub(super) fn close(&self) {
        self.lock().is_closed = true;
        self.rung.notify_all();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.lock().is_closed
    }

    /// Waits so long at most until nothing is to be done for whoever waits: it may try something again.
    pub(super) fn rest(&self, pause: Duration) {
        let waiting = self.lock();
        if !waiting.is_closed {
            let deadline = clock::now() + pause;
            self.wait(waiting, deadline, |waiting| waiting.is_closed);
        }
    }

    /// Waits until all is written; false if it is not by then.
    pub(super) fn drained(&self, deadline: Instant) -> bool {
        let is_done = |waiting: &Waiting| waiting.lines.is_empty() && !waiting.is_busy;
        self.wait(self.lock(), deadline, is_done)
    }

    fn wait(
        &self,
        mut waiting: MutexGuard<'_, Waiting>,
        deadline: Instant,
        holds: impl Fn(&Waiting) -> bool,
    ) -> bool {
        while !holds(&waiting) {
            let left = deadline.saturating_duration_since(clock::now());
            if left.is_zero() {
                return false;
            }
            waiting = self
                .rung
                .wait_timeout(waiting, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        true
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

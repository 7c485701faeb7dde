//! Pipes for splice(2): a pool of each worker's own.

use std::cell::RefCell;
use std::os::fd::OwnedFd;

use rustix::pipe::{PipeFlags, fcntl_getpipe_size, fcntl_setpipe_size, pipe_with};

/// What moves in one splice. Smaller ones cost 5–25 % in bulk, larger ones gain nothing.
pub(super) const PIPE: usize = 256 * 1024;
/// A pipe the kernel keeps smaller than this is not worth having: unprivileged users get only so many
/// pages (pipe(7), `pipe-user-pages-soft`).
const SMALLEST: usize = 64 * 1024;
/// Pipes kept for the next burst.
const POOL: usize = 32;

/// An empty pipe, both ends non-blocking.
#[derive(Debug)]
pub(super) struct Pipe {
    pub(super) read: OwnedFd,
    pub(super) write: OwnedFd,
}

thread_local! {
    static FREE: RefCell<Vec<Pipe>> = const { RefCell::new(Vec::new()) };
}

impl Pipe {
    /// A pipe, if one of useful size can be had; without one, bytes are copied.
    pub(super) fn take() -> Option<Box<Self>> {
        let free = FREE.with_borrow_mut(Vec::pop);
        free.or_else(Self::make).map(Box::new)
    }

    /// Gives an empty pipe back.
    pub(super) fn give(self) {
        FREE.with_borrow_mut(|free| {
            if free.len() < POOL {
                free.push(self);
            }
        });
    }

    fn make() -> Option<Self> {
        let (read, write) = pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC).ok()?;
        // A refusal leaves the size as it is, and the size is what decides.
        let _ = fcntl_setpipe_size(&write, PIPE);
        (fcntl_getpipe_size(&write).ok()? >= SMALLEST).then_some(Self { read, write })
    }
}

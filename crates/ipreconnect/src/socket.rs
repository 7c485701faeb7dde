//! Sockets as the runtime knows them.

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::unix::AsyncFd;

/// A non-blocking socket that is registered with a runtime.
pub type Socket = AsyncFd<OwnedFd>;

/// Registers a non-blocking socket with the runtime of the caller, for reading and writing.
///
/// # Errors
/// If the runtime has no room for it.
///
/// # Panics
/// Outside a tokio runtime.
pub fn register(socket: OwnedFd) -> io::Result<Socket> {
    // SAFETY: an `OwnedFd` is open and stays the same descriptor for as long as it lives, and the
    // `AsyncFd` owns it.
    unsafe { AsyncFd::register(socket) }.map_err(Into::into)
}

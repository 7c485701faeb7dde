//! Who is at the other end of a Unix socket.

use std::io;
use std::os::fd::AsFd;

use super::options;

/// The effective user id of whoever connected, when it did (`SO_PEERCRED`, unix(7)).
///
/// # Errors
/// If it is no Unix socket, or the user is not known in our own namespace.
pub fn peer_user(socket: &impl AsFd) -> io::Result<u32> {
    options::peer_user(socket)
}

//! The user at the other end of a connection within this machine.

use std::io;
use std::net::SocketAddr;

use crate::diag;
use crate::process;

/// `TCP_ESTABLISHED` and `TCP_CLOSE_WAIT` (`net/tcp_states.h`): somebody still has it open.
const OPEN: [u8; 2] = [1, 8];

/// The user id of whoever connected from `peer` to `here`, both of this machine.
///
/// `None` if there is no such socket in our own network namespace, or nobody has it any more: what waits in
/// TIME_WAIT, or was closed, has no owner, and the kernel says 0 of it, which is not root.
///
/// # Errors
/// If the kernel cannot be asked.
pub fn owner(peer: SocketAddr, here: SocketAddr) -> io::Result<Option<u32>> {
    let found = diag::tcp_socket(peer, here)?;
    let found = found.filter(|(state, found)| OPEN.contains(state) && found.inode != 0);
    Ok(found.and_then(|(_, found)| found.uid))
}

/// The number of a user, by `/etc/passwd`, or as it is written.
#[must_use]
pub fn user_id(name: &str) -> Option<u32> {
    process::id_in("/etc/passwd", name).or_else(|| name.parse().ok())
}

/// The number of a group, by `/etc/group`, or as it is written.
#[must_use]
pub fn group_id(name: &str) -> Option<u32> {
    process::id_in("/etc/group", name).or_else(|| name.parse().ok())
}

/// The name of a user, by `/etc/passwd`; one that is not there is `uid:1001`, which nobody is called.
#[must_use]
pub fn user(uid: u32) -> String {
    process::user_name(uid).unwrap_or_else(|| format!("uid:{uid}"))
}

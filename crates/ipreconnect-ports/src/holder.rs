//! Who holds an address.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use crate::diag::{self, Families, Found, FoundInet};
use crate::process;

/// Somebody who listens on an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The process, if it can be seen.
    pub process: Option<Process>,
    /// The user who opened the socket. Of a Unix socket the kernel tells it since Linux 5.3.
    pub uid: Option<u32>,
    /// That user's name, if `/etc/passwd` knows it.
    pub user: Option<String>,
    /// The socket's inode.
    pub inode: u64,
}

/// A process that has a socket open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// Its short name (`/proc/PID/comm`).
    pub name: String,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let user = match (&self.user, self.uid) {
            (Some(name), _) => format!("user {name}"),
            (None, Some(uid)) => format!("uid {uid}"),
            (None, None) => "user unknown".to_owned(),
        };
        match &self.process {
            Some(process) => write!(f, "{} (pid {}, {user})", process.name, process.pid),
            None => write!(f, "a process that cannot be seen from here ({user})"),
        }
    }
}

/// Everybody who listens on a TCP address in a way that conflicts with listening there too: on that
/// very address, on the wildcard, or, if it is the wildcard itself, on any address of its port.
///
/// # Errors
/// If the kernel's table cannot be read.
pub fn holders(address: SocketAddr) -> io::Result<Vec<Holder>> {
    let mut found = diag::listening_tcp(address.port())?;
    found.retain(|socket| conflicts(socket, address.ip()));
    Ok(identify(found.into_iter().map(|socket| socket.found)))
}

/// Everybody with a connection from a TCP address. The kernel may have given him the port for it
/// (ip(7), `ip_local_port_range`); until the connection ends nobody can listen there.
///
/// # Errors
/// If the kernel's table cannot be read.
pub fn connected_from(address: SocketAddr) -> io::Result<Vec<Holder>> {
    let mut found = diag::connected_tcp(address.port())?;
    found.retain(|socket| conflicts(socket, address.ip()));
    Ok(identify(found.into_iter().map(|socket| socket.found)))
}

/// Everybody who receives on a UDP address in a way that conflicts with doing so too.
///
/// # Errors
/// If the kernel's table cannot be read.
pub fn holders_of_udp(address: SocketAddr) -> io::Result<Vec<Holder>> {
    let mut found = diag::receiving_udp(address.port())?;
    found.retain(|socket| conflicts(socket, address.ip()));
    Ok(identify(found.into_iter().map(|socket| socket.found)))
}

/// Everybody who listens on the Unix socket at `path`.
///
/// # Errors
/// If the kernel's table cannot be read.
pub fn holders_of_unix(path: &Path) -> io::Result<Vec<Holder>> {
    let wanted = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let mut found = diag::listening_unix()?;
    found.retain(|socket| socket.path == path || socket.path == wanted);
    Ok(identify(found.into_iter().map(|socket| socket.found)))
}

/// Whether a socket stands in the way of listening on `wanted`, for sockets of one family each
/// (bind(2), ipv6(7)).
fn conflicts(socket: &FoundInet, wanted: IpAddr) -> bool {
    match (socket.ip.to_canonical(), wanted.to_canonical()) {
        (IpAddr::V6(_), IpAddr::V4(_)) => socket.families == Families::Both,
        (IpAddr::V4(_), IpAddr::V6(_)) => false,
        (held, wanted) => held == wanted || held.is_unspecified() || wanted.is_unspecified(),
    }
}

fn identify(found: impl Iterator<Item = Found>) -> Vec<Holder> {
    let found: Vec<Found> = found.collect();
    let inodes: Vec<u64> = found.iter().map(|socket| socket.inode).collect();
    let owners = process::owners(&inodes);
    let mut holders: Vec<Holder> = Vec::new();
    for socket in found {
        let process = owners.get(&socket.inode).cloned();
        // A group of sockets of one process is one holder.
        let known = process.is_some() && holders.iter().any(|holder| holder.process == process);
        if !known {
            holders.push(Holder {
                process,
                uid: socket.uid,
                user: socket.uid.and_then(process::user_name),
                inode: socket.inode,
            });
        }
    }
    holders
}

#[cfg(test)]
mod tests;

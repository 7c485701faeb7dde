//! Every listening socket of this machine, with whoever has it open.

use std::collections::{BTreeMap, HashSet};
use std::net::SocketAddr;
use std::path::Path;
use std::{fs, io};

use crate::diag::{self, Families, Listening};
use crate::namespace::{Namespace, namespaces};
use crate::program::Program;
use crate::scan;

/// What is spoken over a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// A socket that takes what comes from anybody: a listening one of TCP, or one of UDP that is connected to nobody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Socket {
    /// TCP or UDP.
    pub transport: Transport,
    /// Where it is.
    pub address: SocketAddr,
    /// Whether it is an IPv6 wildcard that takes IPv4, too.
    pub takes_both: bool,
    /// The index of the interface that it is bound to (`SO_BINDTODEVICE`), if it is.
    pub interface: Option<u32>,
    /// The number of its namespace among those of the inventory.
    pub namespace: usize,
    /// Its inode.
    pub inode: u64,
    /// The user who opened it.
    pub uid: u32,
    /// Of TCP, connections that wait to be accepted; of UDP, bytes that wait to be read.
    pub waiting: u32,
    /// How many of them may wait; of UDP that is not told.
    pub room: Option<u32>,
    /// How many found no room so far; none, if the kernel does not tell it. Of TCP it counts those with it whose clients
    /// broke their handshake off: it is never more than `ListenOverflows` of the namespace, which does not.
    pub dropped: Option<u32>,
    /// The processes that have it open, as far as that can be seen; the first 32 of them.
    pub pids: Vec<u32>,
    /// Further ones.
    pub more: u32,
}

/// Processes of one socket that are named. A server that forks for each client shares its socket with thousands.
const NAMED: usize = 32;

/// What could not be seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unseen {
    /// Processes of other users whose sockets are not shown to us.
    pub processes: usize,
    /// `/proc` does not even tell which processes other users have (`hidepid`).
    pub others: bool,
    /// Why there are no sockets of UDP in it, if that is so.
    pub udp: Option<String>,
    /// Namespaces that we may not enter, or that were gone, and why.
    pub namespaces: Vec<(usize, String)>,
}

/// All listening sockets, and who has them open.
#[derive(Clone, Debug, Default)]
pub struct Inventory {
    /// The sockets: by namespace, port, transport, address, interface and user.
    pub sockets: Vec<Socket>,
    /// Whoever has one of them open.
    pub programs: BTreeMap<u32, Program>,
    /// The network namespaces, ours first.
    pub namespaces: Vec<Namespace>,
    /// What is not in it.
    pub unseen: Unseen,
}

/// Which namespaces are looked into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Ours alone.
    Own,
    /// All that can be seen.
    All,
}

/// Takes the inventory. It works without privileges: what other users' processes are is not seen then, and other
/// namespaces are not; it says so.
///
/// # Errors
/// If the kernel's table of our own namespace cannot be read.
pub fn inventory(reach: Reach) -> io::Result<Inventory> {
    let processes = scan::processes();
    let others = match reach {
        Reach::Own => &[][..],
        Reach::All => &processes,
    };
    let mut taken = Inventory {
        namespaces: namespaces(reach, others),
        ..Inventory::default()
    };
    for (number, namespace) in taken.namespaces.iter().enumerate() {
        match namespace.enter(listening) {
            Ok(found) => {
                taken.unseen.udp = taken.unseen.udp.take().or(found.udp);
                let sockets = found.sockets.into_iter().map(|(transport, one)| {
                    let mut socket = Socket::new(transport, &one, number);
                    if let (Transport::Tcp, Some(most)) = (transport, found.overflows) {
                        socket.dropped = socket.dropped.map(|dropped| dropped.min(most));
                    }
                    socket
                });
                taken.sockets.extend(sockets);
            }
            Err(error) if namespace.is_own => return Err(error),
            Err(error) => taken.unseen.namespaces.push((number, error.to_string())),
        }
    }
    let wanted: HashSet<u64> = taken.sockets.iter().map(|socket| socket.inode).collect();
    let owners = scan::owners(&processes, &wanted);
    taken.unseen.processes = owners.hidden;
    taken.unseen.others = is_hiding();
    for socket in &mut taken.sockets {
        let mut all = owners.of(socket.inode);
        socket.pids = all.by_ref().take(NAMED).collect();
        socket.more = u32::try_from(all.count()).unwrap_or(u32::MAX);
    }
    taken.programs = owners.programs;
    taken.sockets.sort_unstable_by_key(|socket| {
        let at = (socket.address.port(), socket.transport, socket.address.ip());
        (socket.namespace, at, socket.interface, socket.uid)
    });
    Ok(taken)
}

/// What listens in the namespace that we are in.
struct Found {
    sockets: Vec<(Transport, Listening)>,
    /// Why nothing of UDP does, where the kernel does not tell.
    udp: Option<String>,
    /// How many connections found no room in any queue.
    overflows: Option<u32>,
}

/// `ListenOverflows` of the namespace that this thread is in.
fn overflows() -> Option<u32> {
    overflows_of(&fs::read_to_string("/proc/thread-self/net/netstat").ok()?)
}

/// The value below the name: each table is a line of names and one of values.
fn overflows_of(text: &str) -> Option<u32> {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("TcpExt:"));
    let (names, values) = (lines.next()?, lines.next()?);
    let at = names
        .split_whitespace()
        .position(|name| name == "ListenOverflows")?;
    let count: u64 = values.split_whitespace().nth(at)?.parse().ok()?;
    Some(u32::try_from(count).unwrap_or(u32::MAX))
}

fn listening() -> io::Result<Found> {
    let overflows = overflows();
    let mut found = Vec::new();
    diag::listening(diag::Table::Tcp, |one| found.push((Transport::Tcp, one)))?;
    let udp = diag::listening(diag::Table::Udp, |one| found.push((Transport::Udp, one)));
    match udp {
        // Kernels that are built without `CONFIG_INET_UDP_DIAG`, or may not load it, say so.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Found {
            sockets: found,
            udp: Some(error.to_string()),
            overflows,
        }),
        udp => udp.map(|()| Found {
            sockets: found,
            udp: None,
            overflows,
        }),
    }
}

/// Whether processes of other users are kept from us: there is always a first one.
fn is_hiding() -> bool {
    !Path::new("/proc/1").exists()
}

impl Socket {
    fn new(transport: Transport, one: &Listening, namespace: usize) -> Self {
        let found = &one.socket;
        Self {
            transport,
            address: SocketAddr::new(found.ip, found.port),
            takes_both: found.families == Families::Both,
            interface: (one.interface != 0).then_some(one.interface),
            namespace,
            inode: found.found.inode,
            uid: found.found.uid.unwrap_or_default(),
            waiting: one.waiting,
            room: (transport == Transport::Tcp).then_some(one.room),
            dropped: one.dropped,
            pids: Vec::new(),
            more: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overflows_are_read() {
        let text = "TcpExt: SyncookiesSent ListenOverflows ListenDrops\nTcpExt: 1 24300 7\nIpExt: InNoRoutes\nIpExt: 0\n";
        assert_eq!(overflows_of(text), Some(24_300));
        for other in ["", "TcpExt: A\nTcpExt: 1\n", "TcpExt: ListenOverflows\n"] {
            assert_eq!(overflows_of(other), None);
        }
        assert!(overflows().is_some());
    }
}

//! Connections of TCP: both ends, their state, and who has them.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::io;
use std::net::SocketAddr;

use crate::diag::{self, FoundConnection};
use crate::program::Program;
use crate::scan;

/// The state of a connection (`net/tcp_states.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// Both ends may send.
    Established,
    /// We have asked, and nobody has answered.
    SynSent,
    /// Somebody has asked, and the answer is on its way.
    SynReceived,
    /// We have said all that we had to say, and that is not acknowledged yet.
    FinWait1,
    /// The other end knows that we have said all, and may still send.
    FinWait2,
    /// It is over, and keeps its ports for stray packets.
    TimeWait,
    /// The other end has said all that it had to say, and we have not.
    CloseWait,
    /// Both have said all, and our end is not acknowledged yet.
    LastAck,
    /// Both have closed at the same time.
    Closing,
    /// None that is known.
    Other,
}

impl State {
    fn of(number: u8) -> Self {
        match number {
            1 => Self::Established,
            2 => Self::SynSent,
            3 | 12 => Self::SynReceived,
            4 => Self::FinWait1,
            5 => Self::FinWait2,
            6 => Self::TimeWait,
            8 => Self::CloseWait,
            9 => Self::LastAck,
            11 => Self::Closing,
            _ => Self::Other,
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Established => "ESTABLISHED",
            Self::SynSent => "SYN-SENT",
            Self::SynReceived => "SYN-RECEIVED",
            Self::FinWait1 => "FIN-WAIT-1",
            Self::FinWait2 => "FIN-WAIT-2",
            Self::TimeWait => "TIME-WAIT",
            Self::CloseWait => "CLOSE-WAIT",
            Self::LastAck => "LAST-ACK",
            Self::Closing => "CLOSING",
            Self::Other => "UNKNOWN",
        })
    }
}

/// One end of a connection of this machine's; one within the machine has two of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    /// Our end.
    pub local: SocketAddr,
    /// The other one.
    pub remote: SocketAddr,
    /// Its state.
    pub state: State,
    /// The inode of its socket; none, if no process has it any more.
    pub inode: Option<u64>,
    /// The user who opened it, while a process has it.
    pub uid: Option<u32>,
    /// What the kernel knows it by; one that is over has another than it had.
    pub cookie: [u8; 8],
}

/// Hands each connection of our network namespace to `each`.
///
/// # Errors
/// If the kernel's table cannot be read.
pub fn connections(mut each: impl FnMut(Connection)) -> io::Result<()> {
    diag::connections(
        |FoundConnection {
             socket,
             remote,
             state,
             cookie,
         }| {
            let inode = Some(socket.found.inode).filter(|inode| *inode != 0);
            each(Connection {
                local: SocketAddr::new(socket.ip.to_canonical(), socket.port),
                remote: SocketAddr::new(remote.ip().to_canonical(), remote.port()),
                state: State::of(state),
                inode,
                // Of what nobody has the kernel says 0, which is not root.
                uid: inode.and(socket.found.uid),
                cookie,
            });
        },
    )
}

/// Which of these sockets a process has open.
#[must_use]
pub fn owned_by(pid: u32, inodes: &HashSet<u64>) -> HashSet<u64> {
    let found = scan::owners(&[pid], inodes);
    inodes
        .iter()
        .copied()
        .filter(|inode| found.of(*inode).next().is_some())
        .collect()
}

/// The processes that have some sockets open.
#[derive(Clone, Debug, Default)]
pub struct Owners {
    /// A process that has it open, for each inode, as far as one can be seen.
    pub programs: BTreeMap<u64, Program>,
    /// Processes of other users whose sockets are not for us to see.
    pub hidden: usize,
}

/// The processes that have these sockets open.
#[must_use]
pub fn owners(inodes: &HashSet<u64>) -> Owners {
    if inodes.is_empty() {
        return Owners::default();
    }
    let found = scan::owners(&scan::processes(), inodes);
    let programs = inodes.iter().filter_map(|inode| {
        let first = found.of(*inode).next()?;
        Some((*inode, found.programs.get(&first)?.clone()))
    });
    Owners {
        programs: programs.collect(),
        hidden: found.hidden,
    }
}

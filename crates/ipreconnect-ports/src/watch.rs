//! Who talks to the ports of this machine: what is open now, what has ended since, and closing it.
//!
//! What is open is asked for, with whoever has it. What ends the kernel tells by itself (`SKNLGRP_INET_TCP_DESTROY`),
//! with the bytes that were carried, and without an owner: what was open for less than the time between two looks is
//! counted, and nobody can say whose it was.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::netlink::{SOCK_DIAG, SocketAddrNetlink};
use rustix::net::sockopt::{set_socket_recv_buffer_size, set_socket_recv_buffer_size_force};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, bind, recv, socket_with};

use crate::diag::{self, Families, Open};

/// Room for what ends between two drains: some thousand messages.
const ROOM: usize = 16 << 20;
/// The groups `SKNLGRP_INET_TCP_DESTROY` and `SKNLGRP_INET6_TCP_DESTROY` of `linux/sock_diag.h`, as bits.
const ENDINGS: u32 = 1 << 0 | 1 << 2;

/// A connection to a port of this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Talk {
    /// The end that listens.
    pub here: SocketAddr,
    /// The other one.
    pub peer: SocketAddr,
    /// The user who has the other end open, if that is on this machine.
    pub user: Option<u32>,
    /// The inode of the other end's socket.
    pub peer_inode: Option<u64>,
    /// The user who has this end open; none, while nobody has accepted it.
    pub owner: Option<u32>,
    /// The inode of this end's socket; none, while nobody has accepted it.
    pub inode: Option<u64>,
    /// Somebody listens at the port of the other end, too: which of them has connected cannot be told, and this
    /// connection is here twice, once for each of them.
    pub is_either: bool,
    /// Bytes that the peer was sent and has acknowledged.
    pub taken: u64,
    /// Bytes that the peer has sent.
    pub given: u64,
    /// What the kernel knows this end by.
    known_by: KnownBy,
    /// The same of the other end.
    peer_known_by: Option<KnownBy>,
}

/// What the kernel knows a socket by, besides its addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct KnownBy {
    interface: u32,
    cookie: [u8; 8],
}

impl KnownBy {
    fn of(one: &Open) -> Self {
        Self {
            interface: one.interface,
            cookie: one.cookie,
        }
    }
}

impl Talk {
    /// What tells it from every other one that this machine has had.
    #[must_use]
    pub fn id(&self) -> u64 {
        u64::from_ne_bytes(self.known_by.cookie)
    }
}

/// A socket that listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Listening {
    /// Where.
    pub address: SocketAddr,
    /// Whether it is an IPv6 wildcard that takes IPv4, too.
    pub takes_both: bool,
    /// The user who has opened it.
    pub user: u32,
    /// The inode of the socket.
    pub inode: u64,
}

impl Listening {
    /// Whether who connects to an address comes to it.
    #[must_use]
    pub fn takes(&self, here: SocketAddr) -> bool {
        let (own, here_ip) = (self.address.ip(), here.ip().to_canonical());
        let is_any =
            own.is_unspecified() && (own.is_ipv4() == here_ip.is_ipv4() || self.takes_both);
        self.address.port() == here.port() && (is_any || own == here_ip)
    }
}

/// A connection that was made from here to another machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// The other machine.
    pub remote: SocketAddr,
    /// The inode of the socket.
    pub inode: u64,
    /// Bytes that were sent.
    pub sent: u64,
    /// Bytes that came.
    pub received: u64,
}

/// What there is at one moment.
#[derive(Clone, Debug, Default)]
pub struct Look {
    /// What listens.
    pub listening: Vec<Listening>,
    /// Who talks to it.
    pub talks: Vec<Talk>,
    /// What goes out to other machines.
    pub outgoing: Vec<Outgoing>,
}

/// What of this machine is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Connections within this machine.
    Loopback,
    /// All to its ports.
    All,
}

impl Scope {
    fn has(self, here: IpAddr) -> bool {
        self == Self::All || here.to_canonical().is_loopback()
    }
}

/// Looks at all sockets of TCP of our network namespace.
///
/// # Errors
/// If the kernel's table cannot be read.
pub fn look(scope: Scope) -> io::Result<Look> {
    let mut look = Look::default();
    let mut listens: HashMap<u16, Vec<Listening>> = HashMap::new();
    let mut open: Vec<Open> = Vec::new();
    diag::open_tcp(|one| {
        if one.listens {
            let one = Listening {
                address: one.local,
                takes_both: one.families == Families::Both,
                user: one.uid,
                inode: one.inode,
            };
            look.listening.push(one);
            listens.entry(one.address.port()).or_default().push(one);
        } else {
            open.push(one);
        }
    })?;
    let is_here = |address: SocketAddr| {
        let listens = listens.get(&address.port());
        listens.is_some_and(|all| all.iter().any(|one| one.takes(address)))
    };
    let ends: HashMap<(SocketAddr, SocketAddr), &Open> = open
        .iter()
        .map(|one| ((one.local, one.remote), one))
        .collect();
    for one in &open {
        if is_here(one.local) {
            if !scope.has(one.local.ip()) {
                continue;
            }
            let other = ends.get(&(one.remote, one.local));
            look.talks.push(Talk {
                here: one.local,
                peer: one.remote,
                user: other
                    .filter(|other| other.inode != 0)
                    .map(|other| other.uid),
                peer_inode: other.map(|other| other.inode).filter(|inode| *inode != 0),
                owner: Some(one.uid).filter(|_| one.inode != 0),
                inode: Some(one.inode).filter(|inode| *inode != 0),
                is_either: other.is_some_and(|other| is_here(other.local)),
                taken: one.acked,
                given: one.received,
                known_by: KnownBy::of(one),
                peer_known_by: other.map(|other| KnownBy::of(other)),
            });
        } else if !one.remote.ip().is_loopback()
            && one.inode != 0
            && !ends.contains_key(&(one.remote, one.local))
        {
            look.outgoing.push(Outgoing {
                remote: one.remote,
                inode: one.inode,
                sent: one.acked,
                received: one.received,
            });
        }
    }
    Ok(look)
}

/// Closes a connection: both ends see a reset. What it has carried by then it has carried.
///
/// # Errors
/// If that is not permitted (CAP_NET_ADMIN), the kernel cannot do it (`CONFIG_INET_DIAG_DESTROY`), or it is gone.
pub fn close(talk: &Talk) -> io::Result<()> {
    let close = |ends, known_by: KnownBy| diag::destroy(ends, known_by.interface, known_by.cookie);
    let by_peer = talk
        .peer_known_by
        .map(|known_by| close((talk.peer, talk.here), known_by));
    match by_peer {
        Some(Err(error)) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Some(Ok(())) => Ok(()),
        // What has closed its end by now may have left the other one open.
        _ => close((talk.here, talk.peer), talk.known_by),
    }
}

/// What has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ending {
    /// Our end.
    pub here: SocketAddr,
    /// The other one.
    pub peer: SocketAddr,
    /// Bytes that the other end has acknowledged; the end of the stream counts as one.
    pub taken: u64,
    /// Bytes that came, likewise.
    pub given: u64,
    cookie: [u8; 8],
}

impl Ending {
    /// As [`Talk::id`].
    #[must_use]
    pub fn id(&self) -> u64 {
        u64::from_ne_bytes(self.cookie)
    }
}

/// The kernel's news of what ends.
#[derive(Debug)]
pub struct Endings {
    socket: OwnedFd,
    room: Vec<u8>,
}

/// Whether all was heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// It was.
    All,
    /// Some was lost: more ended than there was room for.
    Some,
}

impl Endings {
    /// Listens from now on.
    ///
    /// # Errors
    /// If the kernel does not tell (Linux before 4.5, or without `CONFIG_INET_DIAG`).
    pub fn open() -> io::Result<Self> {
        // The handler of the protocol must be there before its groups can be joined: any question loads it.
        diag::open_tcp(|_| {})?;
        let socket = socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
            Some(SOCK_DIAG),
        )?;
        // More than a user may have, if this one may have it.
        if set_socket_recv_buffer_size_force(&socket, ROOM).is_err() {
            set_socket_recv_buffer_size(&socket, ROOM)?;
        }
        bind(&socket, &SocketAddrNetlink::new(0, ENDINGS))?;
        Ok(Self {
            socket,
            room: vec![0; 64 * 1024],
        })
    }

    /// Hands what has ended since the last time to `each`, without waiting.
    ///
    /// # Errors
    /// If the socket fails.
    pub fn drain(&mut self, mut each: impl FnMut(Ending)) -> io::Result<Heard> {
        let mut heard = Heard::All;
        loop {
            match recv(&self.socket, &mut self.room[..], RecvFlags::DONTWAIT) {
                Ok((count, _)) => diag::ended(self.room.get(..count).unwrap_or_default(), |one| {
                    each(Ending {
                        here: one.local,
                        peer: one.remote,
                        taken: one.acked,
                        given: one.received,
                        cookie: one.cookie,
                    });
                }),
                Err(Errno::AGAIN) => return Ok(heard),
                Err(Errno::NOBUFS) => heard = Heard::Some,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

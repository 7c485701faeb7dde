//! Listening sockets: the one place where they come from.
//!
//! A group of sockets shares one TCP address by `SO_REUSEPORT`, one for each worker. The same option
//! lets a second gateway of the same user bind in silence, so somebody who listens already is looked
//! for first, and named.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use crate::l4::udp::{put_together, tell_destination};
use ipreconnect_ports::{Holder, Namespace};
use socket2::{Domain, SockAddr, Socket, Type};

/// Connections that the kernel keeps for us until they are accepted; it cuts this to its own limit
/// (`net.core.somaxconn`).
const BACKLOG: i32 = 16_384;

/// Datagrams of all clients wait here until their worker's turn (udp(7), `net.core.rmem_max`).
const RECEIVE_BUFFER: usize = 4 << 20;

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ListenAddress {
    /// A TCP address; port 0 takes any free one.
    Tcp(SocketAddr),
    /// A UDP address; port 0 takes any free one.
    Udp(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
    /// A Unix socket with a name and no file (unix(7), "abstract").
    Abstract(Box<str>),
}

impl ListenAddress {
    /// Its IP address and port, if it has them.
    #[must_use]
    pub fn ip(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(address) | Self::Udp(address) => Some(*address),
            Self::Unix(_) | Self::Abstract(_) => None,
        }
    }

    pub(crate) fn set_port(&mut self, port: u16) {
        match self {
            Self::Tcp(address) | Self::Udp(address) => address.set_port(port),
            Self::Unix(_) | Self::Abstract(_) => {}
        }
    }
}

/// Who may open the file of a Unix socket: what is not said is as it comes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileAccess {
    /// Its permissions.
    pub mode: Option<u32>,
    /// The user that owns it.
    pub owner: Option<u32>,
    /// The group that owns it.
    pub group: Option<u32>,
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Udp(address) => write!(f, "{address}/udp"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Abstract(name) => write!(f, "unix:@{name}"),
        }
    }
}

/// Why an address cannot be listened on.
#[derive(Debug)]
pub struct OpenError {
    /// The address.
    pub address: ListenAddress,
    /// What is in the way.
    pub kind: OpenErrorKind,
}

/// What is in the way of a listener.
#[derive(Debug)]
pub enum OpenErrorKind {
    /// Somebody listens there already.
    InUse(Vec<Holder>),
    /// Nobody listens, but a connection has that port at its own end.
    InUseByConnection(Vec<Holder>),
    /// A file that is no socket is at that path.
    NotASocket,
    /// The network namespace cannot be entered.
    Inside(io::Error),
    /// The system refuses.
    System(io::Error),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot listen on {}: ", self.address)?;
        match &self.kind {
            OpenErrorKind::InUse(holders) if holders.is_empty() => {
                f.write_str("it is in use, by a process that cannot be seen from here")
            }
            OpenErrorKind::InUse(holders) => {
                f.write_str("it is held by ")?;
                list(f, holders)
            }
            OpenErrorKind::InUseByConnection(holders) => {
                f.write_str("the kernel has given this port to a connection of ")?;
                list(f, holders)
            }
            OpenErrorKind::NotASocket => f.write_str("a file that is not a socket is at that path"),
            OpenErrorKind::Inside(error) => {
                write!(f, "its network namespace cannot be entered: {error}")
            }
            OpenErrorKind::System(error) => error.fmt(f),
        }
    }
}

fn list(f: &mut fmt::Formatter<'_>, holders: &[Holder]) -> fmt::Result {
    for (index, holder) in holders.iter().enumerate() {
        if index > 0 {
            f.write_str(", ")?;
        }
        write!(f, "{holder}")?;
    }
    Ok(())
}

impl std::error::Error for OpenError {}

/// An open group of listening sockets.
#[derive(Debug)]
pub(crate) struct Group {
    /// Where it listens, with the port that was taken.
    pub(crate) address: ListenAddress,
    /// One for each worker.
    pub(crate) sockets: Vec<OwnedFd>,
    /// Whose the file was when we made it, if it is one.
    pub(crate) made: Option<FileAccess>,
}

impl Group {
    /// Binds `address` for so many workers, in another network namespace if one is named: on a thread of its own, that
    /// goes there and ends.
    pub(crate) fn open_inside(
        inside: Option<&Namespace>,
        address: &ListenAddress,
        file: FileAccess,
        workers: usize,
    ) -> Result<Self, OpenError> {
        let Some(namespace) = inside else {
            return Self::open(address, file, workers);
        };
        let opened = namespace.enter(|| Ok(Self::open(address, file, workers)));
        opened.unwrap_or_else(|error| {
            Err(OpenError {
                address: address.clone(),
                kind: OpenErrorKind::Inside(error),
            })
        })
    }

    /// Binds `address` for so many workers.
    pub(crate) fn open(
        address: &ListenAddress,
        file: FileAccess,
        workers: usize,
    ) -> Result<Self, OpenError> {
        let opened = match address {
            ListenAddress::Tcp(tcp) => open_tcp(*tcp, workers),
            ListenAddress::Udp(udp) => open_udp(*udp, workers),
            ListenAddress::Unix(path) => open_unix(path, file, workers),
            ListenAddress::Abstract(name) => open_abstract(name, workers),
        };
        opened.map_err(|kind| OpenError {
            address: address.clone(),
            kind,
        })
    }
}

fn open_tcp(address: SocketAddr, workers: usize) -> Result<Group, OpenErrorKind> {
    if address.port() != 0 {
        // An unreadable table must not stop us: the bind itself still tells.
        let holders = ipreconnect_ports::holders(address).unwrap_or_default();
        if !holders.is_empty() {
            return Err(OpenErrorKind::InUse(holders));
        }
    }
    // Bound without SO_REUSEPORT first, so that a listener the table did not show is noticed.
    let alone = tcp_socket(address).map_err(OpenErrorKind::System)?;
    let bound = bind(&alone, address)?;
    drop(alone);
    let mut sockets = Vec::with_capacity(workers);
    for _ in 0..workers {
        let socket = tcp_socket(bound).map_err(OpenErrorKind::System)?;
        socket.set_reuse_port(true).map_err(OpenErrorKind::System)?;
        bind(&socket, bound)?;
        sockets.push(socket);
    }
    for socket in &sockets {
        socket.listen(BACKLOG).map_err(OpenErrorKind::System)?;
    }
    Ok(Group {
        address: ListenAddress::Tcp(bound),
        sockets: sockets.into_iter().map(OwnedFd::from).collect(),
        made: None,
    })
}

fn open_udp(address: SocketAddr, workers: usize) -> Result<Group, OpenErrorKind> {
    if address.port() != 0 {
        let holders = ipreconnect_ports::holders_of_udp(address).unwrap_or_default();
        if !holders.is_empty() {
            return Err(OpenErrorKind::InUse(holders));
        }
    }
    let alone = udp_socket(address).map_err(OpenErrorKind::System)?;
    let bound = bind(&alone, address)?;
    drop(alone);
    let mut sockets = Vec::with_capacity(workers);
    for _ in 0..workers {
        let socket = udp_socket(bound).map_err(OpenErrorKind::System)?;
        socket.set_reuse_port(true).map_err(OpenErrorKind::System)?;
        bind(&socket, bound)?;
        sockets.push(OwnedFd::from(socket));
    }
    Ok(Group {
        address: ListenAddress::Udp(bound),
        sockets,
        made: None,
    })
}

fn udp_socket(address: SocketAddr) -> io::Result<Socket> {
    let domain = Domain::for_address(address);
    let socket = Socket::new(domain, Type::DGRAM.nonblocking().cloexec(), None)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    if address.ip().is_unspecified() {
        // An answer comes from the address that was asked.
        tell_destination(&socket, address.ip())?;
    }
    // Both are cut to what this user may have, or what this kernel can do.
    let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER);
    let _ = put_together(&socket);
    Ok(socket)
}

fn tcp_socket(address: SocketAddr) -> io::Result<Socket> {
    let domain = Domain::for_address(address);
    let socket = Socket::new(domain, Type::STREAM.nonblocking().cloexec(), None)?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        // `localhost` binds both families, and each socket is exactly one.
        socket.set_only_v6(true)?;
    }
    // What is accepted inherits both.
    socket.set_tcp_nodelay(true)?;
    socket.set_out_of_band_inline(true)?;
    Ok(socket)
}

fn bind(socket: &Socket, address: SocketAddr) -> Result<SocketAddr, OpenErrorKind> {
    match socket.bind(&SockAddr::from(address)) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            if let Ok(Type::DGRAM) = socket.r#type() {
                let holders = ipreconnect_ports::holders_of_udp(address);
                return Err(OpenErrorKind::InUse(holders.unwrap_or_default()));
            }
            let holders = ipreconnect_ports::holders(address).unwrap_or_default();
            if holders.is_empty()
                && let Ok(users @ [_, ..]) = ipreconnect_ports::connected_from(address).as_deref()
            {
                return Err(OpenErrorKind::InUseByConnection(users.to_vec()));
            }
            return Err(OpenErrorKind::InUse(holders));
        }
        Err(error) => return Err(OpenErrorKind::System(error)),
    }
    let bound = socket.local_addr().map_err(OpenErrorKind::System)?;
    bound
        .as_socket()
        .ok_or_else(|| OpenErrorKind::System(io::ErrorKind::AddrNotAvailable.into()))
}

/// A Unix socket is one socket for all workers: the kernel has no group of them.
fn open_unix(path: &Path, file: FileAccess, workers: usize) -> Result<Group, OpenErrorKind> {
    clear_stale(path)?;
    let socket = unix_socket(path).map_err(OpenErrorKind::System)?;
    // Nobody can connect before it listens, and so nobody does whom the file would keep out.
    let permitted = file.apply(path);
    let made = permitted.and_then(|made| socket.listen(BACKLOG).map(|()| made));
    let made = made.map_err(|error| {
        // Nobody uses it.
        let _ = std::fs::remove_file(path);
        OpenErrorKind::System(error)
    })?;
    Ok(Group {
        address: ListenAddress::Unix(path.to_owned()),
        sockets: copies(socket.into(), workers)?,
        made: Some(made),
    })
}

/// One without a file: its name is that of the network namespace, and gone with the socket.
fn open_abstract(name: &str, workers: usize) -> Result<Group, OpenErrorKind> {
    let path = format!("\0{name}");
    let socket = match unix_socket(Path::new(&path)) {
        Ok(socket) => socket,
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            let path = Path::new(&path);
            let holders = ipreconnect_ports::holders_of_unix(path).unwrap_or_default();
            return Err(OpenErrorKind::InUse(holders));
        }
        Err(error) => return Err(OpenErrorKind::System(error)),
    };
    socket.listen(BACKLOG).map_err(OpenErrorKind::System)?;
    Ok(Group {
        address: ListenAddress::Abstract(name.into()),
        sockets: copies(socket.into(), workers)?,
        made: None,
    })
}

fn unix_socket(path: &Path) -> io::Result<Socket> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking().cloexec(), None)?;
    socket.bind(&SockAddr::unix(path)?)?;
    Ok(socket)
}

/// One socket for each worker, which are all the same one.
fn copies(socket: OwnedFd, workers: usize) -> Result<Vec<OwnedFd>, OpenErrorKind> {
    let mut sockets = Vec::with_capacity(workers);
    for _ in 1..workers {
        sockets.push(socket.try_clone().map_err(OpenErrorKind::System)?);
    }
    sockets.push(socket);
    Ok(sockets)
}

impl FileAccess {
    /// Gives the socket at a path to whom it is meant for, and says what it was before. A link is not followed:
    /// whoever may write there could lead it to any file.
    pub(crate) fn apply(self, path: &Path) -> io::Result<Self> {
        use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, chownat, fstat, openat};
        use std::os::fd::AsRawFd;
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(CWD, path, flags, Mode::empty())?;
        let found = fstat(&file)?;
        if FileType::from_raw_mode(found.st_mode) != FileType::Socket {
            return Err(io::Error::other(
                "another file is in the place of the socket",
            ));
        }
        if self.owner.is_some() || self.group.is_some() {
            let owner = self.owner.map(rustix::fs::Uid::from_raw);
            let group = self.group.map(rustix::fs::Gid::from_raw);
            chownat(&file, "", owner, group, AtFlags::EMPTY_PATH)?;
        }
        if let Some(mode) = self.mode {
            use std::os::unix::fs::PermissionsExt;
            // The one that was looked at (proc(5)): a descriptor of this kind has no other way.
            let same = format!("/proc/self/fd/{}", file.as_raw_fd());
            std::fs::set_permissions(same, std::fs::Permissions::from_mode(mode))?;
        }
        Ok(Self {
            mode: Some(found.st_mode & 0o777),
            owner: Some(found.st_uid),
            group: Some(found.st_gid),
        })
    }

    /// The same, where what is not said is as it was.
    pub(crate) fn or(self, before: Self) -> Self {
        Self {
            mode: self.mode.or(before.mode),
            owner: self.owner.or(before.owner),
            group: self.group.or(before.group),
        }
    }
}

/// A listening socket that another program has opened for us (systemd.socket(5)).
#[derive(Debug)]
pub struct Passed {
    /// Its name, if it was given one.
    pub name: Option<String>,
    address: ListenAddress,
    socket: OwnedFd,
}

impl Passed {
    /// Takes it.
    ///
    /// # Errors
    /// If it is no socket that a listener can have.
    pub fn new(socket: OwnedFd, name: Option<String>) -> io::Result<Self> {
        let socket = Socket::from(socket);
        let is_stream = match socket.r#type()? {
            Type::STREAM => socket.is_listener()?,
            Type::DGRAM => false,
            _ => return Err(io::Error::other("it is neither a stream nor of datagrams")),
        };
        let local = socket.local_addr()?;
        let address = match (local.as_socket(), is_stream) {
            (Some(address), true) => ListenAddress::Tcp(address),
            (Some(_), false) => return Err(io::Error::other("datagrams are not taken over")),
            (None, true) => match (local.as_pathname(), local.as_abstract_namespace()) {
                (Some(path), _) => ListenAddress::Unix(path.to_owned()),
                (None, Some(name)) => ListenAddress::Abstract(String::from_utf8_lossy(name).into()),
                (None, None) => return Err(io::Error::other("it has no address")),
            },
            (None, false) => return Err(io::Error::other("it does not listen")),
        };
        socket.set_nonblocking(true)?;
        socket.set_cloexec(true)?;
        if matches!(address, ListenAddress::Tcp(_)) {
            // What is accepted inherits both.
            socket.set_tcp_nodelay(true)?;
            socket.set_out_of_band_inline(true)?;
        }
        Ok(Self {
            name,
            address,
            socket: socket.into(),
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> &ListenAddress {
        &self.address
    }

    /// Whether it is what a listener of this name wants to have: the same address, or any port of it.
    #[must_use]
    pub fn suits(&self, listener: &str, asked: &ListenAddress) -> bool {
        if self.address == *asked {
            return true;
        }
        match (self.address.ip(), asked) {
            (Some(own), ListenAddress::Tcp(asked)) => {
                let is_named = self.name.as_deref() == Some(listener);
                is_named && asked.port() == 0 && asked.ip() == own.ip()
            }
            _ => false,
        }
    }

    /// Copies of it, one for each worker; it stays for the next who asks.
    pub(crate) fn group(&self, workers: usize) -> Result<Group, OpenError> {
        let copy = self.socket.try_clone().map_err(OpenErrorKind::System);
        let sockets = copy.and_then(|copy| copies(copy, workers));
        Ok(Group {
            address: self.address.clone(),
            sockets: sockets.map_err(|kind| OpenError {
                address: self.address.clone(),
                kind,
            })?,
            made: None,
        })
    }
}

/// Removes a socket that nobody listens on any more, as a killed process leaves it.
fn clear_stale(path: &Path) -> Result<(), OpenErrorKind> {
    use std::os::unix::fs::FileTypeExt;
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(OpenErrorKind::System(error)),
        Ok(found) if !found.file_type().is_socket() => return Err(OpenErrorKind::NotASocket),
        Ok(_) => {}
    }
    // One whose queue is full is there, and is not waited for.
    let connected = Socket::new(Domain::UNIX, Type::STREAM.nonblocking().cloexec(), None)
        .and_then(|socket| socket.connect(&SockAddr::unix(path)?));
    match connected {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path).map_err(OpenErrorKind::System)
        }
        Ok(_) | Err(_) => {
            let holders = ipreconnect_ports::holders_of_unix(path).unwrap_or_default();
            Err(OpenErrorKind::InUse(holders))
        }
    }
}

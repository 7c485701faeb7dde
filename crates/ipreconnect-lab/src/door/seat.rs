//! The kinds of address a door can have.

use rustix::io::Errno;
use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};
use std::future::Future;
use std::io;
use std::net::{IpAddr, Shutdown, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

const BACKLOG: i32 = 1024;

/// An address that is ours, whether anything listens on it or not.
pub(crate) trait Seat: Send + Sync + 'static {
    /// A listening socket.
    type Listener: Send + Sync + 'static;
    /// An accepted connection.
    type Stream: Send + 'static;

    /// Listens on the address.
    fn listen(&self) -> io::Result<Self::Listener>;

    /// Stops the listening at once, however many hold the socket.
    fn refuse(listener: &Self::Listener);

    /// Resets what waits to be accepted.
    fn sweep(listener: &Self::Listener);

    /// The next connection. Cancel safe.
    fn accept(listener: &Self::Listener) -> impl Future<Output = io::Result<Self::Stream>> + Send;
}

/// A TCP port.
///
/// A socket that is bound and does not listen keeps the port. On Linux `SO_REUSEADDR` lets a second
/// socket of ours listen beside it, connects to the port are refused while there is none, and the
/// kernel hands the port to nobody else.
pub(crate) struct TcpSeat {
    address: SocketAddr,
    _reservation: Socket,
}

impl TcpSeat {
    /// A free port of this address.
    pub(crate) fn on(ip: IpAddr) -> io::Result<Self> {
        Self::at(SocketAddr::new(ip, 0))
    }

    /// That very address.
    pub(crate) fn at(address: SocketAddr) -> io::Result<Self> {
        let reservation = bound(address)?;
        let address = reservation
            .local_addr()?
            .as_socket()
            .ok_or(io::ErrorKind::AddrNotAvailable)?;
        Ok(Self {
            address,
            _reservation: reservation,
        })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Seat for TcpSeat {
    type Listener = TcpListener;
    type Stream = TcpStream;

    fn listen(&self) -> io::Result<TcpListener> {
        let socket = bound(self.address)?;
        socket.listen(BACKLOG)?;
        TcpListener::from_std(socket.into())
    }

    fn refuse(listener: &TcpListener) {
        stop(&SockRef::from(listener));
    }

    fn sweep(listener: &TcpListener) {
        while let Ok((waiting, _)) = SockRef::from(listener).accept_raw() {
            // Closing resets, which is all that is wanted of it.
            let _ = waiting.set_linger(Some(std::time::Duration::ZERO));
        }
    }

    async fn accept(listener: &TcpListener) -> io::Result<TcpStream> {
        listener.accept().await.map(|(stream, _)| stream)
    }
}

/// The path of a Unix socket. The file is removed in the end.
///
/// While the door is shut the file stays, and connects are refused as they are for a server that
/// was killed. A connection in the accept queue ends with `ECONNRESET` if it has sent something, and
/// with end of file otherwise: Unix sockets know no other reset.
pub(crate) struct UnixSeat {
    path: PathBuf,
    created: AtomicBool,
}

impl UnixSeat {
    pub(crate) fn on(path: PathBuf) -> Self {
        Self {
            path,
            created: AtomicBool::new(false),
        }
    }
}

impl Seat for UnixSeat {
    type Listener = UnixListener;
    type Stream = UnixStream;

    fn listen(&self) -> io::Result<UnixListener> {
        let name = SockAddr::unix(&self.path)?;
        let socket = unix_socket()?;
        match socket.bind(&name) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_stale(&name) => {
                std::fs::remove_file(&self.path)?;
                socket.bind(&name)?;
            }
            outcome => outcome?,
        }
        self.created.store(true, Ordering::Relaxed);
        socket.listen(BACKLOG)?;
        UnixListener::from_std(socket.into())
    }

    fn refuse(listener: &UnixListener) {
        Self::sweep(listener);
        stop(&SockRef::from(listener));
    }

    fn sweep(listener: &UnixListener) {
        while SockRef::from(listener).accept_raw().is_ok() {}
    }

    async fn accept(listener: &UnixListener) -> io::Result<UnixStream> {
        listener.accept().await.map(|(stream, _)| stream)
    }
}

impl Drop for UnixSeat {
    fn drop(&mut self) {
        if *self.created.get_mut() {
            // Somebody may have removed it already, which is as good.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// A socket bound to `address` that may share it with others of ours.
fn bound(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM.nonblocking(),
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    Ok(socket)
}

fn unix_socket() -> io::Result<Socket> {
    Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)
}

/// Whether nothing listens behind the name any more.
fn is_stale(name: &SockAddr) -> bool {
    unix_socket()
        .and_then(|probe| probe.connect(name))
        .is_err_and(|error| error.raw_os_error() == Some(Errno::CONNREFUSED.raw_os_error()))
}

/// Ends the listening by shutdown(2): unlike close(2) it works while a task still holds the socket.
fn stop(listener: &SockRef<'_>) {
    // It can only fail on a socket that does not listen any more.
    let _ = listener.shutdown(Shutdown::Both);
}

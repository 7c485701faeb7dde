//! Sockets for the resolver library: UDP sockets that hear refusals, TCP that gives up in time, and
//! what went wrong with them, which the library keeps to itself.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hickory_resolver::config::ConnectionConfig;
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::{
    DnsUdpSocket, RuntimeProvider, TokioHandle, TokioRuntimeProvider, TokioTime,
    iocompat::AsyncIoTokioAsStd,
};
use hickory_resolver::net::xfer::DnsExchange;
use hickory_resolver::{ConnectionProvider, PoolContext};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use socket2::{Domain, Type};
use tokio::io::Interest;
use tokio::net::TcpStream;

use crate::socket;

/// A resolver that does not take a connection within this is away.
const CONNECT: Duration = Duration::from_millis(1500);

/// The last thing that went wrong on the way to one server.
#[derive(Clone, Default)]
pub(super) struct Trouble(Arc<Mutex<Option<String>>>);

impl Trouble {
    fn note(&self, error: &impl fmt::Display) {
        let mut words = error.to_string();
        // The number says nothing that the words do not.
        if let Some(at) = words.find(" (os error") {
            words.truncate(at);
        }
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(words);
    }

    /// What it was; it is forgotten.
    pub(super) fn take(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Makes connections, and notes why they fail.
#[derive(Clone, Default)]
pub(super) struct Provider {
    sockets: Sockets,
}

impl Provider {
    pub(super) fn trouble(&self) -> &Trouble {
        &self.sockets.trouble
    }
}

type Connecting =
    Pin<Box<dyn Future<Output = Result<DnsExchange<Sockets>, NetError>> + Send + 'static>>;

impl ConnectionProvider for Provider {
    type Conn = DnsExchange<Sockets>;
    type FutureConn = Connecting;
    type RuntimeProvider = Sockets;

    fn new_connection(
        &self,
        ip: IpAddr,
        config: &ConnectionConfig,
        cx: &PoolContext,
    ) -> Result<Connecting, NetError> {
        let connecting = self.sockets.new_connection(ip, config, cx)?;
        let trouble = self.sockets.trouble.clone();
        Ok(Box::pin(async move {
            let connected = connecting.await;
            if let Err(error) = &connected {
                trouble.note(error);
            }
            connected
        }))
    }

    fn runtime_provider(&self) -> &Sockets {
        &self.sockets
    }
}

#[derive(Clone, Default)]
pub(super) struct Sockets {
    tokio: TokioRuntimeProvider,
    trouble: Trouble,
}

impl RuntimeProvider for Sockets {
    type Handle = TokioHandle;
    type Timer = TokioTime;
    type Udp = Socket;
    type Tcp = AsyncIoTokioAsStd<TcpStream>;

    fn create_handle(&self) -> TokioHandle {
        self.tokio.create_handle()
    }

    fn connect_tcp(
        &self,
        server: SocketAddr,
        bind: Option<SocketAddr>,
        wait: Option<Duration>,
    ) -> Pin<Box<dyn Send + Future<Output = io::Result<Self::Tcp>>>> {
        let wait = wait.map_or(CONNECT, |wait| wait.min(CONNECT));
        self.tokio.connect_tcp(server, bind, Some(wait))
    }

    /// A connected socket: the kernel drops what comes from anybody else, and a refusal is heard at
    /// once instead of after a timeout. The kernel chooses the port by chance, out of those that no
    /// listener is given.
    fn bind_udp(
        &self,
        _local: SocketAddr,
        server: SocketAddr,
    ) -> Pin<Box<dyn Send + Future<Output = io::Result<Socket>>>> {
        let trouble = self.trouble.clone();
        Box::pin(async move {
            let opened = open(server);
            let socket = opened.inspect_err(|error| trouble.note(error))?;
            Ok(Socket {
                socket,
                server,
                trouble,
            })
        })
    }
}

fn open(server: SocketAddr) -> io::Result<socket::Socket> {
    let kind = Type::DGRAM.nonblocking().cloexec();
    let socket = socket2::Socket::new(Domain::for_address(server), kind, None)?;
    socket.connect(&server.into())?;
    socket::register(socket.into())
}

/// A UDP socket that hears of refusals, and notes why it fails.
pub(super) struct Socket {
    socket: socket::Socket,
    server: SocketAddr,
    trouble: Trouble,
}

impl Socket {
    fn receive(&self, buffer: &mut [u8]) -> Result<usize, Errno> {
        let received = recv(self.socket.get_ref(), buffer, RecvFlags::empty());
        received.map(|(_, count)| count)
    }

    fn failed(&self, errno: Errno) -> io::Error {
        let error = io::Error::from(errno);
        self.trouble.note(&error);
        error
    }
}

#[async_trait::async_trait]
impl DnsUdpSocket for Socket {
    type Time = TokioTime;

    /// A refusal makes a socket neither readable nor writable, and is waited for beside both.
    async fn recv_from(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        loop {
            let mut guard = self
                .socket
                .ready(Interest::READABLE | Interest::ERROR)
                .await?;
            match self.receive(buffer) {
                Ok(count) => return Ok((count, self.server)),
                Err(Errno::AGAIN) => guard.clear_ready(),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(self.failed(errno)),
            }
        }
    }

    fn poll_recv_from(
        &self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<(usize, SocketAddr)>> {
        loop {
            let mut guard = ready!(self.socket.poll_read_ready(cx))?;
            match self.receive(buffer) {
                Ok(count) => return Poll::Ready(Ok((count, self.server))),
                Err(Errno::AGAIN) => guard.clear_ready(),
                Err(Errno::INTR) => {}
                Err(errno) => return Poll::Ready(Err(self.failed(errno))),
            }
        }
    }

    fn poll_send_to(
        &self,
        cx: &mut Context<'_>,
        bytes: &[u8],
        _to: SocketAddr,
    ) -> Poll<io::Result<usize>> {
        loop {
            let mut guard = ready!(self.socket.poll_write_ready(cx))?;
            match send(self.socket.get_ref(), bytes, SendFlags::NOSIGNAL) {
                Ok(count) => return Poll::Ready(Ok(count)),
                Err(Errno::AGAIN) => guard.clear_ready(),
                Err(Errno::INTR) => {}
                Err(errno) => return Poll::Ready(Err(self.failed(errno))),
            }
        }
    }
}

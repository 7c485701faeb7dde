//! Sockets for the resolver library: UDP sockets that hear refusals, TCP that gives up in time.

use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::time::Duration;

use hickory_resolver::net::runtime::{
    RuntimeProvider, TokioHandle, TokioRuntimeProvider, TokioTime, iocompat::AsyncIoTokioAsStd,
};
use tokio::net::{TcpStream, UdpSocket};

/// A resolver that does not take a connection within this is away.
const CONNECT: Duration = Duration::from_millis(1500);

#[derive(Clone, Default)]
pub(super) struct Provider(TokioRuntimeProvider);

impl RuntimeProvider for Provider {
    type Handle = TokioHandle;
    type Timer = TokioTime;
    type Udp = UdpSocket;
    type Tcp = AsyncIoTokioAsStd<TcpStream>;

    fn create_handle(&self) -> TokioHandle {
        self.0.create_handle()
    }

    fn connect_tcp(
        &self,
        server: SocketAddr,
        bind: Option<SocketAddr>,
        wait: Option<Duration>,
    ) -> Pin<Box<dyn Send + Future<Output = io::Result<Self::Tcp>>>> {
        let wait = wait.map_or(CONNECT, |wait| wait.min(CONNECT));
        self.0.connect_tcp(server, bind, Some(wait))
    }

    /// A connected socket: the kernel drops what comes from anybody else, and a refusal is heard at
    /// once instead of after a timeout. The kernel chooses the port by chance, out of those that no
    /// listener is given.
    fn bind_udp(
        &self,
        _local: SocketAddr,
        server: SocketAddr,
    ) -> Pin<Box<dyn Send + Future<Output = io::Result<UdpSocket>>>> {
        Box::pin(async move {
            let any: SocketAddr = if server.is_ipv4() {
                (Ipv4Addr::UNSPECIFIED, 0).into()
            } else {
                (Ipv6Addr::UNSPECIFIED, 0).into()
            };
            let socket = UdpSocket::bind(any).await?;
            socket.connect(server).await?;
            Ok(socket)
        })
    }
}

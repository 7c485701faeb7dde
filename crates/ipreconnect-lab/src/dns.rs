//! A scripted name server: answers change at any time, and it can be silent, slow, broken or lie.

mod reply;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hickory_proto::op::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::AbortHandle;

/// What kind of record is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// IPv4 addresses.
    A,
    /// IPv6 addresses.
    Aaaa,
    /// Servers of a service.
    Srv,
    /// Anything else.
    Other,
}

/// How a server misbehaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Misdeed {
    /// It says nothing.
    Silent,
    /// It answers after so long.
    Slow(Duration),
    /// It answers with this code (RFC 1035, section 4.1.1): 2 is SERVFAIL, 3 NXDOMAIN, 5 REFUSED.
    Code(u8),
    /// It says that the name has no such records.
    Empty,
    /// Its answers over UDP are cut off; over TCP they are whole.
    Truncated,
    /// Its answers are cut off over TCP too.
    AlwaysTruncated,
    /// Its answers carry another number than the question.
    WrongId,
    /// Its answers are to another question.
    WrongQuestion,
    /// Each name is an alias of the next one, round and round.
    AliasLoop,
    /// It answers with so many records.
    Many(u16),
    /// Its answers are no DNS.
    Garbage,
    /// A name in its answers points at itself (RFC 1035, section 4.1.4).
    PointerLoop,
    /// It answers with this address instead.
    Lie(IpAddr),
}

/// A name server on a port of loopback, over UDP and TCP, that ends when dropped.
pub struct NameServer {
    address: SocketAddr,
    desk: Arc<Mutex<Desk>>,
    tasks: Vec<AbortHandle>,
}

/// What the server knows and what it was asked.
#[derive(Debug, Default)]
struct Desk {
    zone: BTreeMap<String, Vec<Entry>>,
    misdeeds: Vec<(Option<Kind>, Misdeed)>,
    asked: BTreeMap<(String, Kind), u64>,
}

#[derive(Clone, Debug)]
enum Entry {
    Address(IpAddr, u32),
    Service {
        priority: u16,
        weight: u16,
        port: u16,
        host: String,
        ttl: u32,
    },
}

impl NameServer {
    /// A server that knows no names.
    ///
    /// # Errors
    /// Those of bind(2) and listen(2).
    ///
    /// # Panics
    /// Outside a tokio runtime, which runs the server from then on.
    pub async fn start() -> io::Result<Self> {
        let (tcp, udp) = pair().await?;
        let address = tcp.local_addr()?;
        let desk = Arc::new(Mutex::new(Desk::default()));
        let tasks = vec![
            tokio::spawn(serve_udp(udp, Arc::clone(&desk))).abort_handle(),
            tokio::spawn(serve_tcp(tcp, Arc::clone(&desk))).abort_handle(),
        ];
        Ok(Self {
            address,
            desk,
            tasks,
        })
    }

    /// Where it is asked.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Gives a name these addresses and no others, with a time to live.
    ///
    /// # Panics
    /// If one of them is no address.
    pub fn set(&self, name: &str, addresses: &[&str], ttl: Duration) {
        let ttl = u32::try_from(ttl.as_secs()).unwrap_or(u32::MAX);
        let entries = addresses.iter().map(|text| match text.parse() {
            Ok(ip) => Entry::Address(ip, ttl),
            Err(error) => panic!("{text}: {error}"),
        });
        let entries = entries.collect();
        self.desk().zone.insert(name.to_ascii_lowercase(), entries);
    }

    /// Gives a service these servers and no others: priority, weight, port, host.
    pub fn set_service(&self, name: &str, servers: &[(u16, u16, u16, &str)], ttl: Duration) {
        let ttl = u32::try_from(ttl.as_secs()).unwrap_or(u32::MAX);
        let entries = servers
            .iter()
            .map(|(priority, weight, port, host)| Entry::Service {
                priority: *priority,
                weight: *weight,
                port: *port,
                host: (*host).to_owned(),
                ttl,
            });
        let entries = entries.collect();
        self.desk().zone.insert(name.to_ascii_lowercase(), entries);
    }

    /// Forgets a name.
    pub fn remove(&self, name: &str) {
        self.desk().zone.remove(&name.to_ascii_lowercase());
    }

    /// Misbehaves from now on, whatever is asked.
    pub fn misbehave(&self, misdeed: Misdeed) {
        self.desk().misdeeds = vec![(None, misdeed)];
    }

    /// Misbehaves from now on when this kind of record is asked for.
    pub fn misbehave_for(&self, kind: Kind, misdeed: Misdeed) {
        self.desk().misdeeds.push((Some(kind), misdeed));
    }

    /// Behaves again.
    pub fn behave(&self) {
        self.desk().misdeeds.clear();
    }

    /// How often a name was asked for.
    #[must_use]
    pub fn asked(&self, name: &str, kind: Kind) -> u64 {
        let key = (name.to_ascii_lowercase(), kind);
        self.desk().asked.get(&key).copied().unwrap_or(0)
    }

    /// How often it was asked for names and kinds of all sorts.
    #[must_use]
    pub fn asked_at_all(&self) -> u64 {
        self.desk().asked.values().sum()
    }

    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// A port that is free over TCP and UDP.
async fn pair() -> io::Result<(TcpListener, UdpSocket)> {
    let mut last = io::Error::from(io::ErrorKind::AddrInUse);
    for _ in 0..64 {
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        match UdpSocket::bind(tcp.local_addr()?).await {
            Ok(udp) => return Ok((tcp, udp)),
            Err(error) => last = error,
        }
    }
    Err(last)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Carrier {
    Udp,
    Tcp,
}

async fn serve_udp(socket: UdpSocket, desk: Arc<Mutex<Desk>>) {
    let socket = Arc::new(socket);
    let mut buffer = [0; 4096];
    while let Ok((count, from)) = socket.recv_from(&mut buffer).await {
        let Some((answer, delay)) = answer(&desk, &buffer[..count], Carrier::Udp) else {
            continue;
        };
        let socket = Arc::clone(&socket);
        tokio::spawn(async move {
            tokio::time::sleep(delay).await;
            // Whoever asked may have gone.
            let _ = socket.send_to(&answer, from).await;
        });
    }
}

async fn serve_tcp(listener: TcpListener, desk: Arc<Mutex<Desk>>) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(converse(stream, Arc::clone(&desk)));
    }
}

/// Questions and answers with their length before them (RFC 1035, section 4.2.2).
async fn converse(mut stream: TcpStream, desk: Arc<Mutex<Desk>>) {
    while let Ok(length) = stream.read_u16().await {
        let mut question = vec![0; length.into()];
        if stream.read_exact(&mut question).await.is_err() {
            return;
        }
        let Some((answer, delay)) = answer(&desk, &question, Carrier::Tcp) else {
            continue;
        };
        tokio::time::sleep(delay).await;
        let length = u16::try_from(answer.len()).unwrap_or(u16::MAX);
        let framed = [&length.to_be_bytes()[..], &answer[..length.into()]].concat();
        if stream.write_all(&framed).await.is_err() {
            return;
        }
    }
}

fn answer(desk: &Mutex<Desk>, question: &[u8], carrier: Carrier) -> Option<(Vec<u8>, Duration)> {
    let question = Message::from_vec(question).ok()?;
    let mut desk = desk.lock().unwrap_or_else(PoisonError::into_inner);
    desk.answer(&question, carrier)
}

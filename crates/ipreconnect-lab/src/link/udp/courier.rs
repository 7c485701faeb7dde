//! The one task that takes datagrams in, lets the faults decide, and delivers them.

use super::Link;
use super::line::Line;
use crate::link::Way;
use crate::link::board::Signal;
use crate::link::part::{Carrier, EachWay, Fate, Freight, Gate, Passage};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::net::UdpSocket;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

/// The most clients that are told apart.
const MOST_FLOWS: usize = 256;
/// The most answers that wait for the courier; more wait in the kernel's socket buffers.
const INBOX: usize = 64;
/// The largest datagram.
const LARGEST: usize = 65_535;

/// An answer from upstream, for this client.
type Answer = (SocketAddr, Vec<u8>);

/// Carries datagrams until the link is dropped.
pub(super) async fn run(link: Arc<Link>) {
    let (outbox, mut inbox) = mpsc::channel(INBOX);
    let mut signal = link.board.watch();
    let mut courier = Courier {
        link: &link,
        flows: HashMap::new(),
        lines: EachWay::default(),
        outbox,
        releases: 0,
    };
    let mut buffer = vec![0; LARGEST];
    loop {
        let heard = *signal.borrow_and_update();
        if heard.over {
            return;
        }
        courier.heed(heard);
        let listens = link.board.gate(Way::ToOrigin) != Gate::Shut;
        let takes = link.board.gate(Way::ToClient) != Gate::Shut;
        tokio::select! {
            biased;
            () = changed(&mut signal) => {}
            () = courier.next_due() => courier.deliver(),
            received = link.port.socket().recv_from(&mut buffer), if listens => {
                if let Ok((length, client)) = received {
                    courier.take_in(Way::ToOrigin, client, buffer[..length].to_vec());
                }
            }
            Some((client, bytes)) = inbox.recv(), if takes => {
                courier.take_in(Way::ToClient, client, bytes);
            }
        }
    }
}

async fn changed(signal: &mut watch::Receiver<Signal>) {
    // The board lives as long as the courier, so this only ever reports a change.
    let _ = signal.changed().await;
}

struct Courier<'a> {
    link: &'a Link,
    flows: HashMap<SocketAddr, Flow>,
    lines: EachWay<Line>,
    outbox: mpsc::Sender<Answer>,
    releases: u64,
}

impl Courier<'_> {
    fn heed(&mut self, signal: Signal) {
        let release = self.releases != signal.releases;
        self.releases = signal.releases;
        for way in [Way::ToOrigin, Way::ToClient] {
            let line = self.lines.of(way);
            if self.link.board.gate(way) == Gate::Cut {
                line.clear();
            } else if release {
                line.release(Instant::now());
            }
        }
    }

    fn take_in(&mut self, way: Way, client: SocketAddr, bytes: Vec<u8>) {
        let freight = Freight::Bytes(bytes.len());
        let passage = Passage::new(Instant::now(), way, Carrier::Datagrams, freight);
        let passage = self.link.board.pass(passage);
        let lost = passage.fate == Fate::Lost || self.link.board.gate(way) == Gate::Cut;
        if !lost {
            self.lines.of(way).push(passage.due, client, bytes);
        }
    }

    /// Returns when something is due on a way that is not shut.
    async fn next_due(&mut self) {
        let next = [Way::ToOrigin, Way::ToClient]
            .into_iter()
            .filter(|way| self.link.board.gate(*way) != Gate::Shut)
            .filter_map(|way| self.lines.of(way).next_due())
            .min();
        match next {
            Some(due) => sleep_until(due).await,
            None => std::future::pending().await,
        }
    }

    fn deliver(&mut self) {
        let now = Instant::now();
        for way in [Way::ToOrigin, Way::ToClient] {
            while self.link.board.gate(way) != Gate::Shut
                && let Some(parcel) = self.lines.of(way).pop_due(now)
            {
                let sent = match way {
                    Way::ToOrigin => self.send_up(parcel.client, &parcel.bytes),
                    Way::ToClient => {
                        let socket = SockRef::from(self.link.port.socket());
                        socket.send_to(&parcel.bytes, &parcel.client.into())
                    }
                };
                // What the kernel does not take is lost, as datagrams are.
                if let Ok(bytes) = sent {
                    self.link.odometer.add(way, bytes);
                }
            }
        }
    }

    fn send_up(&mut self, client: SocketAddr, bytes: &[u8]) -> io::Result<usize> {
        if !self.flows.contains_key(&client) {
            self.make_room();
            let flow = Flow::open(self.link.upstream, client, self.outbox.clone())?;
            self.flows.insert(client, flow);
            self.link.open.store(self.flows.len(), Ordering::Relaxed);
        }
        let flow = self.flows.get_mut(&client).ok_or(io::ErrorKind::NotFound)?;
        flow.used = Instant::now();
        SockRef::from(&flow.socket).send(bytes)
    }

    /// Ends the flow that was silent the longest, if there is no room for another.
    fn make_room(&mut self) {
        if self.flows.len() < MOST_FLOWS {
            return;
        }
        let oldest = self.flows.iter().min_by_key(|(_, flow)| flow.used);
        if let Some(client) = oldest.map(|(client, _)| *client) {
            self.flows.remove(&client);
        }
    }
}

/// A client's socket towards upstream, and the task that reads it.
struct Flow {
    socket: Arc<UdpSocket>,
    used: Instant,
    reader: JoinHandle<()>,
}

impl Flow {
    fn open(
        upstream: SocketAddr,
        client: SocketAddr,
        outbox: mpsc::Sender<Answer>,
    ) -> io::Result<Self> {
        // Connected without being bound, it is never open to anybody but upstream.
        let domain = Domain::for_address(upstream);
        let socket = Socket::new(domain, Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
        socket.connect(&upstream.into())?;
        let socket = Arc::new(UdpSocket::from_std(socket.into())?);
        Ok(Self {
            used: Instant::now(),
            reader: tokio::spawn(read_answers(Arc::clone(&socket), client, outbox)),
            socket,
        })
    }
}

impl Drop for Flow {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

async fn read_answers(socket: Arc<UdpSocket>, client: SocketAddr, outbox: mpsc::Sender<Answer>) {
    let mut buffer = vec![0; LARGEST];
    loop {
        match socket.recv(&mut buffer).await {
            Ok(length) => {
                let answer = (client, buffer[..length].to_vec());
                if outbox.send(answer).await.is_err() {
                    return;
                }
            }
            // Upstream may listen later. The kernel reports each refusal once, so this never spins.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
            Err(_) => return,
        }
    }
}

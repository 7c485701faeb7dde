//! The fault link for TCP.

mod connection;
mod pump;
#[cfg(test)]
mod tests;

use super::board::Board;
use super::part::Opening;
use super::{Carried, Fault, Kind, Odometer};
use crate::door::{Door, TcpSeat};
use crate::rooms::{Room, Rooms};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use tokio::net::TcpStream;

/// The most connections a link carries; more wait in the kernel's accept queue.
const MOST_CONNECTIONS: usize = 4096;

/// A TCP proxy on a loopback port, with faults that can be set and lifted at any time.
///
/// Every method takes effect before it returns, as far as new connections are concerned; open ones
/// follow as soon as the runtime gets to them. Dropping the link closes its port and resets what is
/// open.
pub struct TcpLink {
    link: Arc<Link>,
}

impl TcpLink {
    /// A link without a fault, on a free port of the loopback address of upstream's family.
    ///
    /// # Errors
    /// Those of bind(2) and listen(2). Whether upstream answers shows only when clients come.
    ///
    /// # Panics
    /// Outside a tokio runtime, which carries the link from then on.
    pub fn to(upstream: SocketAddr) -> io::Result<Self> {
        let link = Arc::new(Link {
            board: Board::default(),
            door: Door::open_on(TcpSeat::on(loopback(upstream))?)?,
            upstream,
            odometer: Odometer::default(),
            rooms: Rooms::new(MOST_CONNECTIONS),
        });
        tokio::spawn(serve(Arc::clone(&link)));
        Ok(Self { link })
    }

    /// Sets a fault, beside those of other kinds and in place of one of the same kind.
    ///
    /// # Errors
    /// Those of listen(2), if the port was closed.
    pub fn set(&self, fault: Fault) -> io::Result<()> {
        self.link.board.set(fault);
        self.link.fit_door()
    }

    /// Lifts the fault of this kind. What it has delayed goes at once.
    ///
    /// # Errors
    /// Those of listen(2), if the port was closed.
    pub fn lift(&self, kind: Kind) -> io::Result<()> {
        self.link.board.lift(kind);
        self.link.fit_door()
    }

    /// Lifts every fault. What they have delayed goes at once.
    ///
    /// # Errors
    /// Those of listen(2), if the port was closed.
    pub fn clear(&self) -> io::Result<()> {
        self.link.board.clear();
        self.link.fit_door()
    }

    /// Resets every connection that is open now, on both sides. New ones are none the worse.
    pub fn reset_all(&self) {
        self.link.board.reset_all();
        self.link.door.sweep();
    }

    /// Where clients connect to.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.link.door.seat().address()
    }

    /// Where the link carries to.
    #[must_use]
    pub fn upstream(&self) -> SocketAddr {
        self.link.upstream
    }

    /// How many connections are open, those that wait for a fault to go included.
    #[must_use]
    pub fn open(&self) -> usize {
        self.link.rooms.taken()
    }

    /// Bytes delivered so far, by all connections.
    #[must_use]
    pub fn carried(&self) -> Carried {
        self.link.odometer.read()
    }
}

impl Drop for TcpLink {
    fn drop(&mut self) {
        self.link.door.shut();
        self.link.board.end();
    }
}

/// What the tasks of a link share.
struct Link {
    board: Board,
    door: Door<TcpSeat>,
    upstream: SocketAddr,
    odometer: Odometer,
    rooms: Rooms,
}

impl Link {
    /// Opens or shuts the door, as the faults will have it.
    fn fit_door(&self) -> io::Result<()> {
        if self.board.opening() == Opening::Refused {
            self.door.shut();
            Ok(())
        } else {
            self.door.open()
        }
    }

    /// The next client, once there is room for it.
    async fn arrival(&self) -> (TcpStream, Room) {
        let vacancy = self.rooms.vacancy().await;
        let client = self.door.accept().await;
        (client, vacancy.occupy())
    }
}

async fn serve(link: Arc<Link>) {
    let mut signal = link.board.watch();
    loop {
        // Read before the accept, so that a reset in between reaches the connection too.
        let before = *signal.borrow_and_update();
        if before.over {
            return;
        }
        tokio::select! {
            biased;
            _ = signal.changed() => {}
            (client, room) = link.arrival() => {
                let link = Arc::clone(&link);
                tokio::spawn(connection::carry(link, client, room, before.resets));
            }
        }
    }
}

/// The loopback address of the same family.
pub(super) fn loopback(upstream: SocketAddr) -> IpAddr {
    if upstream.is_ipv4() {
        Ipv4Addr::LOCALHOST.into()
    } else {
        Ipv6Addr::LOCALHOST.into()
    }
}

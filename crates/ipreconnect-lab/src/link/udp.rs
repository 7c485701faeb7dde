//! The fault link for UDP.

mod courier;
mod line;
mod port;
#[cfg(test)]
mod tests;

use super::board::Board;
use super::part::Opening;
use super::tcp::loopback;
use super::{Carried, Fault, Kind, Odometer};
use port::Port;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A UDP proxy on a loopback port, with faults that can be set and lifted at any time.
///
/// Each client address is a flow with a socket of its own towards upstream; a new client in a full
/// link (256 flows) takes the place of the one that was silent the longest. A datagram that finds
/// 1,024 others waiting in its way is lost, as in any router.
pub struct UdpLink {
    link: Arc<Link>,
}

impl UdpLink {
    /// A link without a fault, on a free port of the loopback address of upstream's family.
    ///
    /// # Errors
    /// Those of bind(2).
    ///
    /// # Panics
    /// Outside a tokio runtime, which carries the link from then on.
    pub fn to(upstream: SocketAddr) -> io::Result<Self> {
        let link = Arc::new(Link {
            board: Board::default(),
            port: Port::on(loopback(upstream))?,
            upstream,
            odometer: Odometer::default(),
            open: AtomicUsize::new(0),
        });
        tokio::spawn(courier::run(Arc::clone(&link)));
        Ok(Self { link })
    }

    /// Sets a fault, beside those of other kinds and in place of one of the same kind.
    /// [`Fault::Reset`] and [`Fault::SlowClose`] mean nothing to datagrams.
    ///
    /// # Errors
    /// Those of connect(2) on the link's own port, by which it is closed and opened.
    pub fn set(&self, fault: Fault) -> io::Result<()> {
        self.link.board.set(fault);
        self.link.fit_port()
    }

    /// Lifts the fault of this kind. What it has delayed goes at once.
    ///
    /// # Errors
    /// Those of [`UdpLink::set`].
    pub fn lift(&self, kind: Kind) -> io::Result<()> {
        self.link.board.lift(kind);
        self.link.fit_port()
    }

    /// Lifts every fault. What they have delayed goes at once.
    ///
    /// # Errors
    /// Those of [`UdpLink::set`].
    pub fn clear(&self) -> io::Result<()> {
        self.link.board.clear();
        self.link.fit_port()
    }

    /// Where clients send to.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.link.port.address()
    }

    /// Where the link carries to.
    #[must_use]
    pub fn upstream(&self) -> SocketAddr {
        self.link.upstream
    }

    /// How many flows the link keeps.
    #[must_use]
    pub fn open(&self) -> usize {
        self.link.open.load(Ordering::Relaxed)
    }

    /// Bytes delivered so far, by all flows.
    #[must_use]
    pub fn carried(&self) -> Carried {
        self.link.odometer.read()
    }
}

impl Drop for UdpLink {
    fn drop(&mut self) {
        self.link.board.end();
    }
}

/// What the link and its courier share.
struct Link {
    board: Board,
    port: Port,
    upstream: SocketAddr,
    odometer: Odometer,
    open: AtomicUsize,
}

impl Link {
    /// Opens or closes the port, as the faults will have it.
    fn fit_port(&self) -> io::Result<()> {
        if self.board.opening() == Opening::Refused {
            self.port.close()
        } else {
            self.port.open()
        }
    }
}

//! Fault links: in-process proxies that break what passes between a client and its origin.
//!
//! A [`TcpLink`] or [`UdpLink`] listens on a loopback port of its own and carries to one upstream
//! address. A [`Fault`] set on it works at once, on open connections as on new ones; several of
//! different [`Kind`]s work together, one of the same kind is replaced. Nothing is lost or altered but
//! by a fault: a half-close passes as a half-close, a reset as a reset.

mod board;
mod fault;
mod part;
mod tcp;
mod udp;

pub use fault::{Direction, Fault, Kind, Way};
pub use tcp::TcpLink;
pub use udp::UdpLink;

use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes that a link has delivered, each way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Carried {
    /// Bytes delivered to the origin.
    pub to_origin: u64,
    /// Bytes delivered to clients.
    pub to_client: u64,
}

impl Carried {
    /// Bytes of both ways together.
    #[must_use]
    pub fn total(self) -> u64 {
        self.to_origin + self.to_client
    }
}

/// The counters behind [`Carried`].
#[derive(Debug, Default)]
struct Odometer {
    to_origin: AtomicU64,
    to_client: AtomicU64,
}

impl Odometer {
    fn add(&self, way: Way, bytes: usize) {
        let counter = match way {
            Way::ToOrigin => &self.to_origin,
            Way::ToClient => &self.to_client,
        };
        counter.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    fn read(&self) -> Carried {
        Carried {
            to_origin: self.to_origin.load(Ordering::Relaxed),
            to_client: self.to_client.load(Ordering::Relaxed),
        }
    }
}

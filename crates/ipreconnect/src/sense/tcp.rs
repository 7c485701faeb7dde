//! The kernel's evidence about one path: `TCP_INFO`.
//!
//! Counters of retransmissions come too late to be useful: the first one fires about 210 ms after the
//! loss. What is known at once is whether bytes are unsent or unacknowledged, whether the peer's
//! window is open, and when the peer was last heard of.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::OnceLock;
use std::time::Duration;

use super::options;

/// What the kernel knows of a TCP path (`struct tcp_info` in `linux/tcp.h`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpPath {
    /// Segments sent and not acknowledged.
    pub unacked: u32,
    /// Bytes written and not sent yet.
    pub unsent: u32,
    /// Window probes without an answer.
    pub probes: u8,
    /// The window that the peer last announced, in bytes; `None` on kernels before 5.4.
    pub send_window: Option<u32>,
    /// Since the last acknowledgement came.
    pub since_ack: Duration,
    /// Since data was last sent.
    pub since_sent: Duration,
    /// The smoothed round trip.
    pub round_trip: Duration,
    /// The largest segment that is sent.
    pub segment: u32,
    /// Bytes sent, retransmissions included; `None` on kernels before 4.19.
    pub bytes_sent: Option<u64>,
    /// Whether both sides may still send.
    pub is_established: bool,
    /// Whether nothing is ever sent any more, not even what waits to be.
    pub is_closed: bool,
}

/// `TCP_ESTABLISHED` and `TCP_CLOSE` (`net/tcp_states.h`).
const ESTABLISHED: u8 = 1;
const CLOSE: u8 = 7;

/// Whether this kernel counts the bytes that it sends. There are systems that speak as Linux does, and fill that
/// in with zero; nothing may be concluded from their silence. Asked once, of a connection to ourselves.
#[must_use]
pub fn counts_bytes_sent() -> bool {
    static COUNTS: OnceLock<bool> = OnceLock::new();
    *COUNTS.get_or_init(|| look_at_ourselves().is_ok_and(|sent| sent == Some(1)))
}

fn look_at_ourselves() -> io::Result<Option<u64>> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let mut one = TcpStream::connect(listener.local_addr()?)?;
    let (mut other, _) = listener.accept()?;
    other.set_read_timeout(Some(Duration::from_secs(1)))?;
    one.write_all(b"x")?;
    other.read_exact(&mut [0])?;
    Ok(TcpPath::of(&one)?.bytes_sent)
}

/// What a path's state says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathState {
    /// Everything sent was acknowledged.
    Acknowledged,
    /// Bytes wait because the peer does not read. It is alive, and is spared.
    Throttled,
    /// Bytes are on their way; nothing is odd yet.
    Underway,
    /// Bytes wait with the window open, and the peer was not heard of for too long.
    Silent,
}

impl TcpPath {
    /// Asks the kernel.
    ///
    /// # Errors
    /// If the socket is not a TCP socket.
    pub fn of(socket: &impl AsFd) -> io::Result<Self> {
        let mut buffer = [0u8; 256];
        let length = options::tcp_info(socket, &mut buffer)?;
        Ok(Self::parse(buffer.get(..length).unwrap_or(&buffer)))
    }

    fn parse(info: &[u8]) -> Self {
        let word = |offset: usize| {
            info.get(offset..offset + 4)
                .and_then(|bytes| bytes.try_into().ok())
                .map(u32::from_ne_bytes)
        };
        let long = |offset: usize| {
            info.get(offset..offset + 8)
                .and_then(|bytes| bytes.try_into().ok())
                .map(u64::from_ne_bytes)
        };
        let millis = |offset| Duration::from_millis(word(offset).unwrap_or(0).into());
        Self {
            probes: info.get(3).copied().unwrap_or(0),
            segment: word(16).unwrap_or(0),
            unacked: word(24).unwrap_or(0),
            since_sent: millis(44),
            since_ack: millis(56),
            round_trip: Duration::from_micros(word(68).unwrap_or(0).into()),
            unsent: word(144).unwrap_or(0),
            bytes_sent: long(200),
            is_established: info.first() == Some(&ESTABLISHED),
            is_closed: info.first() == Some(&CLOSE),
            send_window: word(228),
        }
    }

    /// Judges the path, of which bytes wait for `age`, against `allowed`.
    #[must_use]
    pub fn state(&self, age: Duration, allowed: Duration) -> PathState {
        if self.unacked == 0 && self.unsent == 0 {
            return PathState::Acknowledged;
        }
        // With nothing in flight only a closed window holds bytes back; the persist timer asks, and a
        // peer that answers resets the count of probes.
        let closed = self
            .send_window
            .is_some_and(|window| window < self.segment.max(1));
        if self.unacked == 0 && (closed || self.probes > 0) {
            return if self.probes > 2 {
                PathState::Silent
            } else {
                PathState::Throttled
            };
        }
        let allowed = allowed.max(self.round_trip.saturating_mul(4));
        if age >= allowed && self.since_ack >= allowed {
            PathState::Silent
        } else {
            PathState::Underway
        }
    }
}

#[cfg(test)]
mod tests;

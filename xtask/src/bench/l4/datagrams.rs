//! The clients of the measurement of UDP, and the origin that answers them.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};

/// What each datagram has.
const LENGTH: usize = 64;
/// A datagram without an answer for so long is lost, and another one is sent.
const LOST: Duration = Duration::from_millis(100);

/// Sends every datagram back, for ever.
pub(super) fn answer(port: u16) -> io::Result<()> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, port))?;
    let mut buffer = [0; 2_048];
    loop {
        // What is wrong with one client is that client's affair.
        if let Ok((count, from)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(&buffer[..count], from);
        }
    }
}

/// Sockets that talk to `target`.
pub(super) fn clients(target: SocketAddr, count: usize) -> io::Result<Vec<UdpSocket>> {
    (0..count)
        .map(|_| {
            let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
            socket.connect(target)?;
            socket.set_nonblocking(true)?;
            Ok(socket)
        })
        .collect()
}

/// Whether a datagram comes back.
pub(super) fn is_answered(target: SocketAddr) -> bool {
    let asked = clients(target, 1).and_then(|clients| {
        let [client] = clients.as_slice() else {
            return Ok(0);
        };
        client.set_nonblocking(false)?;
        client.set_read_timeout(Some(LOST))?;
        client.send(&[0; LENGTH])?;
        client.recv(&mut [0; 2 * LENGTH])
    });
    asked.is_ok_and(|count| count == LENGTH)
}

/// What became of an exchange.
#[derive(Default)]
pub(super) struct Exchanged {
    pub(super) answered: u64,
    pub(super) lost: u64,
}

/// Each client sends, waits for its answer, and begins again.
pub(super) fn exchange(clients: &[UdpSocket], lasting: Duration) -> io::Result<Exchanged> {
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let mut asked = Vec::with_capacity(clients.len());
    for (number, client) in (0u64..).zip(clients) {
        let data = epoll::EventData::new_u64(number);
        epoll::add(&poll, client, data, epoll::EventFlags::IN)?;
        // Answers of an earlier exchange do not count.
        while client.recv(&mut [0; 2 * LENGTH]).is_ok() {}
        client.send(&[0; LENGTH])?;
        asked.push(Instant::now());
    }
    let mut seen = Exchanged::default();
    let mut events = Vec::with_capacity(clients.len());
    let (begin, mut looked) = (Instant::now(), Instant::now());
    let patience = Timespec::try_from(LOST).map_err(io::Error::other)?;
    loop {
        events.clear();
        epoll::wait(&poll, spare_capacity(&mut events), Some(&patience))?;
        let now = Instant::now();
        if now - begin >= lasting {
            return Ok(seen);
        }
        for event in events.drain(..) {
            let number = usize::try_from(event.data.u64()).unwrap_or(0);
            let client = &clients[number];
            if client.recv(&mut [0; 2 * LENGTH]).is_ok() {
                seen.answered += 1;
                client.send(&[0; LENGTH])?;
                asked[number] = now;
            }
        }
        if now - looked >= LOST {
            looked = now;
            for (client, asked) in clients.iter().zip(&mut asked) {
                if now - *asked >= LOST {
                    seen.lost += 1;
                    client.send(&[0; LENGTH])?;
                    *asked = now;
                }
            }
        }
    }
}

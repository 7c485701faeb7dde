//! The clients of the measurement of UDP, and the origin that answers them.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};

/// What each datagram has.
const LENGTH: usize = 64;
/// What a client sends or receives at once.
const MOST: usize = 64 * LENGTH;
/// A datagram without an answer for so long is lost, and another one is sent.
const LOST: Duration = Duration::from_millis(100);

/// What waits for the origin.
const BUFFER: usize = 8 << 20;

/// Sends every datagram back, for ever. What the kernel puts together goes back together.
pub(super) fn answer(port: u16, burst: usize) -> io::Result<()> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, port))?;
    together(&socket, burst)?;
    // Root may have more than others (socket(7)); an origin that drops is not what is measured.
    rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, BUFFER)?;
    let mut buffer = [0; 65_536];
    loop {
        // What is wrong with one client is that client's affair.
        if let Ok((count, from)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(&buffer[..count], from);
        }
    }
}

/// Sockets that talk to `target`.
pub(super) fn clients(
    target: SocketAddr,
    count: usize,
    burst: usize,
) -> io::Result<Vec<UdpSocket>> {
    (0..count)
        .map(|_| {
            let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
            together(&socket, burst)?;
            socket.connect(target)?;
            socket.set_nonblocking(true)?;
            Ok(socket)
        })
        .collect()
}

/// Whether a datagram comes back.
pub(super) fn is_answered(target: SocketAddr) -> bool {
    let asked = clients(target, 1, 1).and_then(|clients| {
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

fn send(client: &UdpSocket, count: usize) -> io::Result<()> {
    let bytes = [0; MOST];
    client.send(&bytes[..(count * LENGTH).min(MOST)]).map(drop)
}

/// For bursts, has the kernel cut what is sent into datagrams, and put together what comes (udp(7)).
fn together(socket: &UdpSocket, burst: usize) -> io::Result<()> {
    if burst == 1 {
        return Ok(());
    }
    for (name, value) in [(libc::UDP_SEGMENT, LENGTH), (libc::UDP_GRO, 1)] {
        let value = value as libc::c_int;
        // SAFETY: the descriptor is open, and the value is an int of the size given.
        let result = unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::SOL_UDP,
                name,
                (&raw const value).cast(),
                size_of_val(&value) as libc::socklen_t,
            )
        };
        if result != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// What became of an exchange.
#[derive(Default)]
pub(super) struct Exchanged {
    pub(super) answered: u64,
    pub(super) lost: u64,
}

/// Each client sends `burst` datagrams, and when all are answered, as many again.
pub(super) fn exchange(
    clients: &[UdpSocket],
    burst: usize,
    lasting: Duration,
) -> io::Result<Exchanged> {
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let mut asked = Vec::with_capacity(clients.len());
    for (number, client) in (0u64..).zip(clients) {
        let data = epoll::EventData::new_u64(number);
        epoll::add(&poll, client, data, epoll::EventFlags::IN)?;
        // Answers of an earlier exchange do not count.
        while client.recv(&mut [0; MOST]).is_ok() {}
        send(client, burst)?;
        asked.push((Instant::now(), burst));
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
            let (since, open) = &mut asked[number];
            while let Ok(count) = client.recv(&mut [0; MOST]) {
                let answers = count / LENGTH;
                *open = open.saturating_sub(answers);
                seen.answered += answers as u64;
            }
            if *open == 0 {
                send(client, burst)?;
                (*since, *open) = (now, burst);
            }
        }
        if now - looked >= LOST {
            looked = now;
            for (client, (since, open)) in clients.iter().zip(&mut asked) {
                if now - *since >= LOST {
                    seen.lost += *open as u64;
                    send(client, burst)?;
                    (*since, *open) = (now, burst);
                }
            }
        }
    }
}

//! The clients of these measurements.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::{self, PollFd, PollFlags, Timespec, epoll};
use rustix::net::{RecvFlags, recv};
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::server::{ECHO, LINE, POUR};

/// An answer that takes longer is lost.
const PATIENCE: Duration = Duration::from_secs(10);

async fn dial(target: SocketAddr, wish: u8) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(target).await?;
    stream.set_nodelay(true)?;
    stream.write_all(&[wish]).await?;
    Ok(stream)
}

/// A stream that pours.
pub(super) async fn pouring(target: SocketAddr) -> io::Result<TcpStream> {
    dial(target, POUR).await
}

/// Receives for so long, always into the same buffer; returns how much it was.
pub(in crate::bench) async fn discard(stream: &TcpStream, lasting: Duration) -> io::Result<u64> {
    let end = Instant::now() + lasting;
    let mut buffer = vec![0u8; 1024 * 1024];
    let mut total = 0;
    while Instant::now() < end {
        stream.readable().await?;
        let received = stream.try_io(Interest::READABLE, || {
            Ok(recv(stream, &mut buffer[..], RecvFlags::empty())?.1)
        });
        match received {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => total += count as u64,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(total)
}

/// One whole connection: a question, and the answer to its end.
pub(in crate::bench) async fn visit(target: SocketAddr) -> io::Result<()> {
    let visited = async {
        let mut stream = dial(target, LINE).await?;
        let mut answer = Vec::with_capacity(64);
        stream.read_to_end(&mut answer).await?;
        match answer.ends_with(b"\n") {
            true => Ok(()),
            false => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    };
    timeout(PATIENCE, visited)
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// Clients that visit again and again; returns visits and failures.
pub(in crate::bench) async fn visitors(
    target: SocketAddr,
    count: usize,
    lasting: Duration,
) -> (u64, u64) {
    let end = Instant::now() + lasting;
    let mut clients = JoinSet::new();
    for _ in 0..count {
        clients.spawn(async move {
            let (mut served, mut failed) = (0, 0);
            while Instant::now() < end {
                match visit(target).await {
                    Ok(()) => served += 1,
                    Err(_) => failed += 1,
                }
            }
            (served, failed)
        });
    }
    let mut sum = (0, 0);
    while let Some(Ok((served, failed))) = clients.join_next().await {
        sum = (sum.0 + served, sum.1 + failed);
    }
    sum
}

/// All at once; returns when the last one was answered, and how many were not.
pub(super) async fn crowd(target: SocketAddr, count: usize) -> (Duration, u64) {
    let began = Instant::now();
    let mut clients = JoinSet::new();
    for _ in 0..count {
        clients.spawn(visit(target));
    }
    let mut failed = 0;
    while let Some(outcome) = clients.join_next().await {
        failed += u64::from(!matches!(outcome, Ok(Ok(()))));
    }
    (began.elapsed(), failed)
}

/// So many connections that have exchanged one byte, opened a few at a time.
pub(in crate::bench) async fn resting(
    target: SocketAddr,
    count: usize,
) -> io::Result<Vec<TcpStream>> {
    let mut streams = Vec::with_capacity(count);
    for _ in 0..count {
        let mut stream = dial(target, ECHO).await?;
        stream.write_all(b".").await?;
        timeout(PATIENCE, stream.read_u8()).await??;
        streams.push(stream);
    }
    Ok(streams)
}

/// What became of a steady exchange.
pub(in crate::bench) struct Exchanged {
    pub(in crate::bench) offered: u64,
    /// From the scheduled moment to the answer, sorted.
    pub(in crate::bench) latencies: Vec<Duration>,
}

/// Sends a byte every `every`, on one connection after the other, whatever became of the earlier ones;
/// answers come in order, so that each is known by its number. A runtime's timers are too coarse for
/// this: it is one loop of its own.
pub(in crate::bench) fn exchange(
    streams: &[std::net::TcpStream],
    every: Duration,
    lasting: Duration,
) -> io::Result<Exchanged> {
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    for (number, stream) in (0u64..).zip(streams) {
        stream.set_nonblocking(true)?;
        let data = epoll::EventData::new_u64(number);
        epoll::add(&poll, stream, data, epoll::EventFlags::IN)?;
    }
    let mut open: Vec<VecDeque<Instant>> = streams.iter().map(|_| VecDeque::new()).collect();
    let begin = Instant::now() + Duration::from_millis(10);
    let mut due = begin;
    let (end, last) = (begin + lasting, begin + lasting + Duration::from_secs(1));
    let (mut offered, mut latencies) = (0usize, Vec::new());
    let mut events = Vec::with_capacity(streams.len());
    loop {
        let mut now = Instant::now();
        while due <= now && due < end {
            let number = offered % streams.len();
            // A byte that does not fit is offered all the same, and never answered.
            if (&streams[number]).write(b".").is_ok() {
                open[number].push_back(due);
            }
            offered += 1;
            due += every;
            now = Instant::now();
        }
        if now >= last || (due >= end && open.iter().all(VecDeque::is_empty)) {
            break;
        }
        let until = if due < end { due } else { last };
        let pause = Timespec::try_from(until.saturating_duration_since(now));
        events.clear();
        // ppoll(2) waits by the nanosecond, epoll_wait(2) by the millisecond.
        let mut anything = [PollFd::new(&poll, PollFlags::IN)];
        event::poll(&mut anything, pause.ok().as_ref())?;
        let at_once = Timespec::default();
        epoll::wait(&poll, spare_capacity(&mut events), Some(&at_once))?;
        let now = Instant::now();
        for event in events.drain(..) {
            let number = usize::try_from(event.data.u64()).unwrap_or(0);
            let mut bytes = [0; 64];
            let count = (&streams[number]).read(&mut bytes).unwrap_or(0);
            let waiting = &mut open[number];
            let answered = waiting.drain(..count.min(waiting.len()));
            latencies.extend(answered.map(|asked| now.saturating_duration_since(asked)));
        }
    }
    latencies.sort_unstable();
    Ok(Exchanged {
        offered: offered as u64,
        latencies,
    })
}

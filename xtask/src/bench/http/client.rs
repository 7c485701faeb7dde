//! The clients of these measurements: one loop over all connections.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::{self, PollFd, PollFlags, Timespec, epoll};

/// What every client asks.
const REQUEST: &[u8] = b"GET /some/path?with=a&query=too HTTP/1.1\r\nHost: bench.example\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n\
    Accept: text/html,application/xhtml+xml;q=0.9,*/*;q=0.8\r\nAccept-Language: en-US,en;q=0.5\r\n\
    Cookie: session=0123456789abcdef0123456789abcdef\r\n\r\n";
/// An answer that takes longer is lost.
const PATIENCE: Duration = Duration::from_secs(10);

/// What became of requests.
pub(super) struct Served {
    pub(super) offered: u64,
    /// From the moment a request was due to its answer, sorted.
    pub(super) latencies: Vec<Duration>,
}

/// One connection.
pub(super) struct Client {
    stream: TcpStream,
    /// Of the answer that is coming; none while its head is not whole.
    left: Option<usize>,
    head: Vec<u8>,
    waiting: VecDeque<Instant>,
}

impl Client {
    /// Dials, asks once, and reads the answer.
    pub(super) fn dial(target: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(target)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut client = Self {
            stream,
            left: None,
            head: Vec::new(),
            waiting: VecDeque::new(),
        };
        client.ask(Instant::now())?;
        let mut bytes = vec![0; 64 * 1024];
        while !client.waiting.is_empty() {
            let count = client.stream.read(&mut bytes)?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            client.take(&bytes[..count], |_| {})?;
        }
        Ok(client)
    }

    fn ask(&mut self, due: Instant) -> io::Result<()> {
        let sent = (&self.stream).write(REQUEST)?;
        if sent < REQUEST.len() {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.waiting.push_back(due);
        Ok(())
    }

    /// Takes what has come; `answered` hears of every answer that is whole.
    fn take(&mut self, mut bytes: &[u8], mut answered: impl FnMut(Instant)) -> io::Result<()> {
        while !bytes.is_empty() {
            let left = match self.left {
                Some(left) => left,
                None => {
                    let known = self.head.len();
                    self.head.extend_from_slice(bytes);
                    let end = self.head.windows(4).position(|four| four == b"\r\n\r\n");
                    let Some(end) = end else {
                        return Ok(());
                    };
                    bytes = &bytes[end + 4 - known..];
                    self.head.truncate(end);
                    let length = length(&self.head)?;
                    self.head.clear();
                    length
                }
            };
            let count = left.min(bytes.len());
            bytes = &bytes[count..];
            self.left = Some(left - count);
            if left == count {
                self.left = None;
                answered(self.waiting.pop_front().ok_or(io::ErrorKind::InvalidData)?);
            }
        }
        Ok(())
    }
}

/// The length that the head of an answer tells; it must be one that went well.
fn length(head: &[u8]) -> io::Result<usize> {
    let head = std::str::from_utf8(head).map_err(io::Error::other)?;
    if !head.starts_with("HTTP/1.1 200") {
        return Err(io::Error::other(format!(
            "an answer begins with {head:.60}"
        )));
    }
    let mut lines = head.lines();
    let line = lines.find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length")
            .then_some(value.trim())
    });
    line.and_then(|line| line.parse().ok())
        .ok_or(io::Error::other("an answer has no length"))
}

/// So many connections that were answered once.
pub(super) fn dial(target: SocketAddr, count: usize) -> io::Result<Vec<Client>> {
    (0..count).map(|_| Client::dial(target)).collect()
}

/// Every connection asks again as soon as it has its answer; returns how many answers there were.
pub(super) fn saturate(clients: &mut [Client], lasting: Duration) -> io::Result<u64> {
    let poll = watch(clients)?;
    let end = Instant::now() + lasting;
    let mut answers = 0;
    for client in clients.iter_mut() {
        client.ask(Instant::now())?;
    }
    let mut events = Vec::with_capacity(clients.len());
    let mut bytes = vec![0; 256 * 1024];
    let mut open = clients.len();
    while open > 0 {
        events.clear();
        let pause = Timespec::try_from(PATIENCE).ok();
        epoll::wait(&poll, spare_capacity(&mut events), pause.as_ref())?;
        if events.is_empty() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let goes_on = Instant::now() < end;
        for event in events.drain(..) {
            let client = &mut clients[usize::try_from(event.data.u64()).unwrap_or(0)];
            let count = client.stream.read(&mut bytes)?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let mut whole = false;
            client.take(&bytes[..count], |_| whole = true)?;
            if whole {
                answers += 1;
                if goes_on {
                    client.ask(Instant::now())?;
                } else {
                    open -= 1;
                }
            }
        }
    }
    Ok(answers)
}

fn watch(clients: &[Client]) -> io::Result<std::os::fd::OwnedFd> {
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    for (number, client) in (0u64..).zip(clients) {
        client.stream.set_nonblocking(true)?;
        let data = epoll::EventData::new_u64(number);
        epoll::add(&poll, &client.stream, data, epoll::EventFlags::IN)?;
    }
    Ok(poll)
}

/// One connection after the other asks, every `every`, whatever became of the earlier requests.
pub(super) fn steady(
    clients: &mut [Client],
    every: Duration,
    lasting: Duration,
) -> io::Result<Served> {
    let poll = watch(clients)?;
    let begin = Instant::now() + Duration::from_millis(10);
    let mut due = begin;
    let (end, last) = (begin + lasting, begin + lasting + Duration::from_secs(1));
    let (mut offered, mut latencies) = (0usize, Vec::new());
    let mut events = Vec::with_capacity(clients.len());
    let mut bytes = vec![0; 64 * 1024];
    loop {
        let mut now = Instant::now();
        while due <= now && due < end {
            let number = offered % clients.len();
            clients[number].ask(due)?;
            offered += 1;
            due += every;
            now = Instant::now();
        }
        let is_over = due >= end && clients.iter().all(|client| client.waiting.is_empty());
        if now >= last || is_over {
            break;
        }
        let until = if due < end { due } else { last };
        let pause = Timespec::try_from(until.saturating_duration_since(now));
        events.clear();
        // ppoll(2) waits by the nanosecond, epoll_wait(2) by the millisecond.
        let mut anything = [PollFd::new(&poll, PollFlags::IN)];
        event::poll(&mut anything, pause.ok().as_ref())?;
        epoll::wait(
            &poll,
            spare_capacity(&mut events),
            Some(&Timespec::default()),
        )?;
        let now = Instant::now();
        for event in events.drain(..) {
            let client = &mut clients[usize::try_from(event.data.u64()).unwrap_or(0)];
            let count = client.stream.read(&mut bytes)?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            client.take(&bytes[..count], |asked| {
                latencies.push(now.saturating_duration_since(asked));
            })?;
        }
    }
    latencies.sort_unstable();
    Ok(Served {
        offered: offered as u64,
        latencies,
    })
}

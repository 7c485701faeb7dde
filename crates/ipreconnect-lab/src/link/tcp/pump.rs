//! One way of a connection: reads, lets the faults decide, delivers when it is time.

use super::Link;
use super::connection::Broken;
use crate::link::Way;
use crate::link::board::Signal;
use crate::link::part::{Carrier, Freight, Gate, PIECE, Passage};
use socket2::SockRef;
use std::collections::VecDeque;
use std::io;
use std::net::Shutdown;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

/// The most bytes on their way in a pump. With latency, it bounds the rate as TCP's window does.
const WINDOW: usize = 256 * 1024;

/// Which ways of a connection have lost something, and carry no more.
#[derive(Default)]
pub(super) struct Severed {
    to_origin: AtomicBool,
    to_client: AtomicBool,
}

impl Severed {
    fn way(&self, way: Way) -> &AtomicBool {
        match way {
            Way::ToOrigin => &self.to_origin,
            Way::ToClient => &self.to_client,
        }
    }
}

/// What waits for its time.
struct Piece {
    due: Instant,
    /// The bytes that are left; none is the end of the stream.
    bytes: Vec<u8>,
}

/// Whether there is more to do.
enum Flow {
    Goes,
    Over,
}

/// Carries one way of a connection.
pub(super) struct Pump<'a> {
    link: &'a Link,
    severed: &'a Severed,
    signal: watch::Receiver<Signal>,
    releases: u64,
    way: Way,
    from: &'a TcpStream,
    to: &'a TcpStream,
    line: VecDeque<Piece>,
    queued: usize,
    /// No reading before this time.
    resume: Instant,
    ended: bool,
}

impl<'a> Pump<'a> {
    pub(super) fn new(
        link: &'a Link,
        severed: &'a Severed,
        way: Way,
        from: &'a TcpStream,
        to: &'a TcpStream,
    ) -> Self {
        let signal = link.board.watch();
        let releases = signal.borrow().releases;
        Self {
            link,
            severed,
            signal,
            releases,
            way,
            from,
            to,
            line: VecDeque::new(),
            queued: 0,
            resume: Instant::now(),
            ended: false,
        }
    }

    /// Carries until the end of the stream was delivered, or has vanished.
    pub(super) async fn run(mut self) -> Result<(), Broken> {
        loop {
            self.heed_signal();
            let flow = match self.gate() {
                Gate::Open => self.carry().await?,
                Gate::Cut => self.swallow().await,
                Gate::Shut => self.stand_still().await,
            };
            if let Flow::Over = flow {
                return Ok(());
            }
        }
    }

    fn heed_signal(&mut self) {
        let releases = self.signal.borrow_and_update().releases;
        if self.releases != releases {
            self.releases = releases;
            let now = Instant::now();
            self.resume = now;
            for piece in &mut self.line {
                piece.due = now;
            }
        }
    }

    fn gate(&self) -> Gate {
        let severed = self.severed.way(self.way).load(Ordering::Relaxed);
        let gate = self.link.board.gate(self.way);
        if severed { gate.max(Gate::Cut) } else { gate }
    }

    async fn stand_still(&mut self) -> Flow {
        // The board outlives its connections, so this only ever reports a change.
        let _ = self.signal.changed().await;
        Flow::Goes
    }

    /// Reads or delivers something, whichever comes first.
    async fn carry(&mut self) -> Result<Flow, Broken> {
        let now = Instant::now();
        let (from, to) = (self.from, self.to);
        let due = self.line.front().map(|piece| piece.due);
        let delivers = due.is_some_and(|due| due <= now);
        let wants = !self.ended && self.queued < WINDOW;
        let reads = wants && self.resume <= now;
        let wake = [
            due.filter(|_| !delivers),
            wants.then_some(self.resume).filter(|_| !reads),
        ]
        .into_iter()
        .flatten()
        .min();

        tokio::select! {
            biased;
            _ = self.signal.changed() => Ok(Flow::Goes),
            _ = to.writable(), if delivers => self.deliver(),
            _ = from.readable(), if reads => self.fetch(),
            () = sleep_until(wake.unwrap_or(now)), if wake.is_some() => Ok(Flow::Goes),
        }
    }

    fn fetch(&mut self) -> Result<Flow, Broken> {
        let mut buffer = [0; PIECE];
        let room = self.link.board.bite();
        let read = match self.from.try_read(&mut buffer[..room]) {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Flow::Goes),
            Err(_) => return Err(Broken),
        };
        let freight = match read {
            0 => Freight::End,
            bytes => Freight::Bytes(bytes),
        };
        self.ended = read == 0;
        self.enqueue(freight, &buffer[..read]);
        Ok(Flow::Goes)
    }

    fn enqueue(&mut self, freight: Freight, bytes: &[u8]) {
        let passage = Passage::new(Instant::now(), self.way, Carrier::Stream, freight);
        let passage = self.link.board.pass(passage);
        // A stream stays in order, whatever the delays.
        let due = self
            .line
            .back()
            .map_or(passage.due, |last| last.due.max(passage.due));
        self.resume = passage.resume;
        self.queued += bytes.len();
        self.line.push_back(Piece {
            due,
            bytes: bytes.to_vec(),
        });
    }

    fn deliver(&mut self) -> Result<Flow, Broken> {
        let Some(piece) = self.line.front_mut() else {
            return Ok(Flow::Goes);
        };
        if piece.bytes.is_empty() {
            // A peer that is gone already needs no end.
            let _ = SockRef::from(self.to).shutdown(Shutdown::Write);
            return Ok(Flow::Over);
        }
        match self.to.try_write(&piece.bytes) {
            Ok(written) => {
                self.link.odometer.add(self.way, written);
                self.queued -= written;
                piece.bytes.drain(..written);
                if piece.bytes.is_empty() {
                    self.line.pop_front();
                }
                Ok(Flow::Goes)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Flow::Goes),
            Err(_) => self.receiver_is_gone(),
        }
    }

    /// The receiver has reset the connection. The sender learns it, unless nothing gets back to it.
    fn receiver_is_gone(&mut self) -> Result<Flow, Broken> {
        let back = self.way.opposite();
        let silent = self.severed.way(back).load(Ordering::Relaxed)
            || self.link.board.gate(back) == Gate::Cut;
        if !silent {
            return Err(Broken);
        }
        self.sever();
        Ok(Flow::Goes)
    }

    /// Reads what comes and forgets it. What was on its way is lost too.
    async fn swallow(&mut self) -> Flow {
        if !self.line.is_empty() {
            self.sever();
        }
        if self.ended {
            return Flow::Over;
        }
        let from = self.from;
        tokio::select! {
            biased;
            _ = self.signal.changed() => return Flow::Goes,
            _ = from.readable() => {}
        }
        match from.try_read(&mut [0; PIECE]) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Flow::Goes,
            Ok(read) if read > 0 => {
                self.sever();
                Flow::Goes
            }
            // The end, or a reset: neither gets through, now or later.
            Ok(_) | Err(_) => {
                self.sever();
                Flow::Over
            }
        }
    }

    fn sever(&mut self) {
        self.severed.way(self.way).store(true, Ordering::Relaxed);
        self.line.clear();
        self.queued = 0;
    }
}

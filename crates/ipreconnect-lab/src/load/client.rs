//! One client: its schedule, and one request.

use super::tally::Tally;
use super::{Load, Outcome, Request};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, sleep_until, timeout_at};

/// The longest answer.
const LONGEST_ANSWER: usize = 4096;

/// What the clients of a load share.
pub(super) struct Course {
    pub(super) load: Load,
    pub(super) start: Instant,
    pub(super) tally: Tally,
    /// A permit for each request that may be in flight.
    pub(super) in_flight: Arc<Semaphore>,
}

impl Course {
    pub(super) fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }
}

pub(super) struct Client {
    course: Arc<Course>,
    number: u32,
}

impl Client {
    pub(super) fn new(course: Arc<Course>, number: u32) -> Self {
        Self { course, number }
    }

    /// Asks on schedule, until it ends or is stopped.
    pub(super) async fn run(self, mut stopped: watch::Receiver<bool>) {
        let load = &self.course.load;
        let mut scheduled = load.every * self.number / load.clients;
        let mut number = 0;
        while scheduled < load.lasting {
            tokio::select! {
                biased;
                // Without a sender nobody waits for the report.
                _ = stopped.wait_for(|stopped| *stopped) => return,
                () = sleep_until(self.course.start + scheduled) => self.ask(number, scheduled),
            }
            scheduled += load.every;
            number += 1;
        }
        // The schedule lasts until its end, not only until its last request.
        tokio::select! {
            _ = stopped.wait_for(|stopped| *stopped) => {}
            () = sleep_until(self.course.start + load.lasting) => {}
        }
    }

    /// Sends one request, and does not wait for what becomes of it.
    fn ask(&self, number: u64, scheduled: Duration) {
        let course = Arc::clone(&self.course);
        let client = self.number;
        course.tally.offered();
        let Ok(permit) = Arc::clone(&course.in_flight).try_acquire_owned() else {
            let request =
                Request::new(client, number, scheduled, Outcome::Unsent, course.elapsed());
            return course.tally.record(request, None);
        };
        tokio::spawn(async move {
            let at = course.start + scheduled;
            let line = format!("{client}-{number}");
            let answer = exchange(course.load.target, &line, at + course.load.deadline).await;
            let (outcome, name) = match answer {
                Ok(name) => (Outcome::Answered, Some(name)),
                Err(outcome) => (outcome, None),
            };
            let request = Request::new(client, number, scheduled, outcome, course.elapsed());
            course.tally.record(request, name);
            // The record is there before the permit is back.
            drop(permit);
        });
    }
}

/// Asks, and returns the name in the answer.
async fn exchange(target: SocketAddr, line: &str, until: Instant) -> Result<String, Outcome> {
    let exchanged = async {
        let mut stream = TcpStream::connect(target)
            .await
            .map_err(|error| not_connected(&error))?;
        let answer = converse(&mut stream, line)
            .await
            .map_err(|error| not_answered(&error))?;
        understand(&answer, line)
    };
    timeout_at(until, exchanged)
        .await
        .unwrap_or(Err(Outcome::TimedOut))
}

/// Sends the line, and reads a line or until end of file.
async fn converse(stream: &mut TcpStream, line: &str) -> io::Result<Vec<u8>> {
    stream.set_nodelay(true)?;
    stream.write_all(format!("{line}\n").as_bytes()).await?;
    let mut answer = Vec::with_capacity(128);
    while !answer.ends_with(b"\n") && answer.len() < LONGEST_ANSWER {
        if stream.read_buf(&mut answer).await? == 0 {
            break;
        }
    }
    Ok(answer)
}

fn understand(answer: &[u8], line: &str) -> Result<String, Outcome> {
    let Some(answer) = answer.strip_suffix(b"\n") else {
        return Err(match answer.len() {
            LONGEST_ANSWER.. => Outcome::Garbled,
            _ => Outcome::ClosedEarly,
        });
    };
    let answer = std::str::from_utf8(answer).map_err(|_| Outcome::Garbled)?;
    match answer.split_once(' ') {
        Some((name, rest)) if rest == line => Ok(name.to_owned()),
        _ => Err(Outcome::Garbled),
    }
}

fn not_connected(error: &io::Error) -> Outcome {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Outcome::Refused,
        io::ErrorKind::ConnectionReset => Outcome::Reset,
        io::ErrorKind::TimedOut => Outcome::TimedOut,
        _ => Outcome::Unsent,
    }
}

fn not_answered(error: &io::Error) -> Outcome {
    match error.kind() {
        io::ErrorKind::TimedOut => Outcome::TimedOut,
        // ECONNRESET, or EPIPE where the reset came before the request was written.
        _ => Outcome::Reset,
    }
}

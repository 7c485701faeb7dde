//! A steady load: clients that ask on a fixed schedule, whatever became of their earlier requests.
//!
//! The load is *open-loop*: a server that stalls does not slow down those who ask, as it would not
//! in life, and latency counts from the scheduled time and not from the moment at which there was
//! time to send. Each request is one line on a connection of its own; its answer is `NAME line`, as
//! [`Script::Answer`](crate::origin::Script::Answer) gives it.

mod client;
mod report;
mod tally;
#[cfg(test)]
mod tests;

pub use report::{Outcome, Report, Request};
pub use tally::Live;

use client::{Client, Course};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tally::Tally;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// The most requests in one run, so that its records have a bound.
const MOST_REQUESTS: u32 = 2_000_000;

/// What to ask, how often, and for how long.
#[derive(Clone, Debug)]
pub struct Load {
    /// Where clients connect to.
    pub target: SocketAddr,
    /// How many clients there are. Their schedules are spread evenly.
    pub clients: u32,
    /// The time between two requests of one client.
    pub every: Duration,
    /// How long a request may take, counted from its scheduled time.
    pub deadline: Duration,
    /// How long the schedule goes on.
    pub lasting: Duration,
    /// The most requests in flight over all clients; what exceeds it is counted as unsent. Each
    /// takes a descriptor.
    pub most_in_flight: u32,
}

impl Load {
    /// Twenty clients, each with a request every 20 ms and a deadline of 5 s, for 5 s.
    #[must_use]
    pub fn on(target: SocketAddr) -> Self {
        Self {
            target,
            clients: 20,
            every: Duration::from_millis(20),
            deadline: Duration::from_secs(5),
            lasting: Duration::from_secs(5),
            most_in_flight: 4096,
        }
    }

    /// Begins.
    ///
    /// # Errors
    /// `InvalidInput` if there is no client or no time between requests, or if the schedule has more
    /// than two million requests.
    ///
    /// # Panics
    /// Outside a tokio runtime, on which the load runs.
    pub fn start(self) -> io::Result<Running> {
        self.check()?;
        let start = Instant::now();
        let most_in_flight = self.most_in_flight.min(MOST_REQUESTS);
        let (stop, stopped) = watch::channel(false);
        let course = Arc::new(Course {
            start,
            tally: Tally::default(),
            in_flight: Arc::new(Semaphore::new(most_in_flight as usize)),
            load: self,
        });
        let mut clients = JoinSet::new();
        for number in 0..course.load.clients {
            let client = Client::new(Arc::clone(&course), number);
            clients.spawn(client.run(stopped.clone()));
        }
        Ok(Running {
            course,
            stop,
            clients,
            most_in_flight,
        })
    }

    fn check(&self) -> io::Result<()> {
        let refuse = |why| Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        if self.clients == 0 {
            return refuse("a load needs a client");
        }
        if self.every.is_zero() {
            return refuse("a load needs some time between requests");
        }
        let each = self.lasting.as_nanos().div_ceil(self.every.as_nanos());
        if each.saturating_mul(u128::from(self.clients)) > u128::from(MOST_REQUESTS) {
            return refuse("a load has two million requests at most");
        }
        Ok(())
    }
}

/// A load that runs, until its time is over, it is stopped, or this is dropped.
pub struct Running {
    course: Arc<Course>,
    stop: watch::Sender<bool>,
    clients: JoinSet<()>,
    most_in_flight: u32,
}

impl Running {
    /// Ends the schedule now. What is in flight may still be answered.
    pub fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// Waits for the end of the schedule and for the last outcome, at most a deadline later.
    ///
    /// Cancel safety: dropping the future ends the load.
    pub async fn finished(mut self) -> Report {
        while self.clients.join_next().await.is_some() {}
        let ended = self.course.elapsed().min(self.course.load.lasting);
        // All permits are back when nothing is in flight.
        let _ = self
            .course
            .in_flight
            .acquire_many(self.most_in_flight)
            .await;
        self.course.tally.report(ended)
    }

    /// What there is to see so far.
    #[must_use]
    pub fn live(&self) -> Live {
        self.course.tally.live()
    }
}

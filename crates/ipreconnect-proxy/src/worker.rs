//! One worker: a thread, a runtime, its own listening sockets.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustix::net::SocketType;
use tokio::sync::mpsc;
use tokio::sync::oneshot;

use crate::accept::Acceptor;
use crate::counters::Counters;
use crate::crowd::Crowd;
use crate::http;
use crate::l4::udp::Datagrams;
use crate::l4::{Route, Session};
use crate::number;
use crate::places::Places;
use crate::tap::{self, Tap};
use crate::watch;

/// What streams get to end in order, once they are told to.
const LAST_WORDS: Duration = Duration::from_millis(50);

/// What a worker is told to do.
pub(crate) enum Command {
    Open {
        id: u64,
        socket: OwnedFd,
        route: Arc<ArcSwap<Route>>,
        /// One for each worker.
        counters: Arc<[Arc<Counters>]>,
        crowd: Arc<Crowd>,
        crew: Arc<Crew>,
    },
    Close {
        id: u64,
    },
    /// A client that another worker accepted.
    Serve {
        session: Session,
        client: OwnedFd,
    },
    /// Where the lines of requests go from now on.
    Log(Option<http::AccessLog>),
    Trace(Option<http::Tracing>),
    Tap(Vec<Tap>),
    /// Requests that are under way are the last ones.
    Drain,
    End,
}

/// The workers, as they know each other. Knowing them does not keep them alive.
#[derive(Debug)]
pub(crate) struct Crew(Box<[mpsc::WeakUnboundedSender<Command>]>);

impl Crew {
    pub(crate) fn of(workers: &[Worker]) -> Self {
        let inboxes = workers.iter().map(|worker| worker.commands.downgrade());
        Self(inboxes.collect())
    }

    /// Hands a client over. Places bound how many may be on their way.
    pub(crate) fn hand_over(&self, worker: u16, session: Session, client: OwnedFd) {
        let inbox = self.0.get(usize::from(worker));
        if let Some(inbox) = inbox.and_then(mpsc::WeakUnboundedSender::upgrade) {
            // A worker that has ended serves nobody; the socket is closed with the message.
            let _ = inbox.send(Command::Serve { session, client });
        }
    }
}

/// A worker thread.
#[derive(Debug)]
pub(crate) struct Worker {
    commands: mpsc::UnboundedSender<Command>,
    thread: JoinHandle<()>,
}

impl Worker {
    pub(crate) fn start((number, of): (u16, u16), places: Arc<Places>) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()?;
        // The gateway's own code sends a handful of commands at each reload, and the other workers
        // send clients, who have places.
        let (commands, inbox) = mpsc::unbounded_channel();
        let thread = std::thread::Builder::new()
            .name(format!("worker-{number}"))
            .spawn(move || {
                number::set(number, of);
                runtime.block_on(run(inbox, places));
            })?;
        Ok(Self { commands, thread })
    }

    pub(crate) fn command(&self, command: Command) {
        // A worker that has ended has nothing left to do.
        let _ = self.commands.send(command);
    }

    pub(crate) fn join(self) {
        drop(self.commands);
        if self.thread.join().is_err() {
            tracing::error!("a worker thread panicked; please report it");
        }
    }
}

/// Serves a listening socket until it is closed.
fn serve(
    socket: OwnedFd,
    (route, crowd): (Arc<ArcSwap<Route>>, Arc<Crowd>),
    counters: &Arc<[Arc<Counters>]>,
    crew: Arc<Crew>,
    places: &Arc<Places>,
    closed: oneshot::Receiver<()>,
) -> io::Result<()> {
    let places = Arc::clone(places);
    if rustix::net::sockopt::socket_type(&socket)? == SocketType::DGRAM {
        let own = counters.get(usize::from(number::get()));
        let own = own.map(Arc::clone).unwrap_or_default();
        tokio::spawn(Datagrams::new(socket, route, own, places, closed)?);
    } else {
        let listener = (route, crowd);
        let acceptor = Acceptor::new(socket, listener, Arc::clone(counters), crew, places)?;
        tokio::spawn(acceptor.run(closed));
    }
    Ok(())
}

async fn run(mut inbox: mpsc::UnboundedReceiver<Command>, places: Arc<Places>) {
    let mut open: BTreeMap<u64, oneshot::Sender<()>> = BTreeMap::new();
    tokio::spawn(watch::sweep());
    while let Some(command) = inbox.recv().await {
        match command {
            Command::Open {
                id,
                socket,
                route,
                counters,
                crowd,
                crew,
            } => {
                let (closer, closed) = oneshot::channel();
                open.insert(id, closer);
                if let Err(error) = serve(socket, (route, crowd), &counters, crew, &places, closed)
                {
                    tracing::error!(%error, "a listening socket cannot be watched");
                }
            }
            Command::Close { id } => drop(open.remove(&id)),
            Command::Serve { session, client } => drop(tokio::spawn(session.run(client))),
            Command::Log(log) => http::open_log(log),
            Command::Trace(tracing) => http::open_traces(tracing),
            Command::Tap(taps) => tap::open(taps),
            Command::Drain => http::drain(),
            Command::End => {
                http::pool::clear();
                watch::drain();
                tokio::time::sleep(LAST_WORDS).await;
                http::flush();
                return;
            }
        }
    }
}

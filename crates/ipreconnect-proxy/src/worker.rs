//! One worker: a thread, a runtime, its own listening sockets.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::mpsc;
use tokio::sync::oneshot;

use crate::accept::Acceptor;
use crate::counters::Counters;
use crate::l4::{Route, watch};
use crate::number;
use crate::places::Places;

/// What streams get to end in order, once they are told to.
const LAST_WORDS: Duration = Duration::from_millis(50);

/// What a worker is told to do.
pub(crate) enum Command {
    Open {
        id: u64,
        socket: OwnedFd,
        route: Arc<ArcSwap<Route>>,
        counters: Arc<Counters>,
    },
    Close {
        id: u64,
    },
    End,
}

/// A worker thread.
#[derive(Debug)]
pub(crate) struct Worker {
    commands: mpsc::UnboundedSender<Command>,
    thread: JoinHandle<()>,
}

impl Worker {
    pub(crate) fn start(number: u16, places: Arc<Places>) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()?;
        // Only the gateway's own code sends commands, a handful at each reload.
        let (commands, inbox) = mpsc::unbounded_channel();
        let thread = std::thread::Builder::new()
            .name(format!("worker-{number}"))
            .spawn(move || {
                number::set(number);
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
            } => match Acceptor::new(socket, route, counters, Arc::clone(&places)) {
                Ok(acceptor) => {
                    let (closer, closed) = oneshot::channel();
                    open.insert(id, closer);
                    tokio::spawn(acceptor.run(closed));
                }
                Err(error) => tracing::error!(%error, "a listening socket cannot be watched"),
            },
            Command::Close { id } => drop(open.remove(&id)),
            Command::End => {
                watch::drain();
                tokio::time::sleep(LAST_WORDS).await;
                return;
            }
        }
    }
}

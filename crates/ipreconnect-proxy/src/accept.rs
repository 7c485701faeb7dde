//! Taking connections in.

use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use ipreconnect::socket::{Socket, register};
use rustix::io::Errno;
use rustix::net::{SocketAddrAny, SocketFlags, acceptfrom_with};
use tokio::sync::oneshot;

use crate::access::source_of;
use crate::counters::Counters;
use crate::l4::{self, Route};
use crate::notice;
use crate::number;
use crate::places::Places;
use crate::worker::Crew;

/// Connections taken in one turn, before others have theirs.
const BATCH: usize = 64;
/// How long a full house waits before it looks again.
const PAUSE: Duration = Duration::from_millis(20);

/// One listening socket of one worker.
pub(crate) struct Acceptor {
    socket: Socket,
    route: Arc<ArcSwap<Route>>,
    /// One for each worker.
    counters: Arc<[Arc<Counters>]>,
    crew: Arc<Crew>,
    places: Arc<Places>,
}

enum Turn {
    /// Nobody waits.
    Empty,
    /// There may be more.
    More,
    /// No descriptor is left.
    Full(Option<Errno>),
}

impl Acceptor {
    pub(crate) fn new(
        socket: OwnedFd,
        route: Arc<ArcSwap<Route>>,
        counters: Arc<[Arc<Counters>]>,
        crew: Arc<Crew>,
        places: Arc<Places>,
    ) -> io::Result<Self> {
        Ok(Self {
            socket: register(socket)?,
            route,
            counters,
            crew,
            places,
        })
    }

    /// Accepts until told to close; then takes what the kernel has accepted already, since closing
    /// the socket would reset it.
    pub(crate) async fn run(self, mut closed: oneshot::Receiver<()>) {
        loop {
            tokio::select! {
                _ = &mut closed => break,
                () = self.accept_some() => {}
            }
        }
        while let Turn::More = self.turn() {}
    }

    async fn accept_some(&self) {
        if !self.places.are_left() {
            self.pause(None).await;
            return;
        }
        let Ok(mut guard) = self.socket.readable().await else {
            // The runtime is shutting down.
            return std::future::pending().await;
        };
        match self.turn() {
            Turn::Empty => guard.clear_ready(),
            Turn::More => tokio::task::yield_now().await,
            Turn::Full(errno) => self.pause(errno).await,
        }
    }

    fn turn(&self) -> Turn {
        for _ in 0..BATCH {
            if !self.places.are_left() {
                return Turn::Full(None);
            }
            let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
            match acceptfrom_with(self.socket.get_ref(), flags) {
                Ok((client, peer)) => {
                    self.resume();
                    self.admit(client, peer.as_ref());
                }
                Err(Errno::AGAIN) => return Turn::Empty,
                Err(errno @ (Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM)) => {
                    return Turn::Full(Some(errno));
                }
                // Everything else is the trouble of that one connection (accept(2)).
                Err(_) => {}
            }
        }
        Turn::More
    }

    fn admit(&self, client: OwnedFd, peer: Option<&SocketAddrAny>) {
        let here = number::get();
        let Some(counters) = self.counters.get(usize::from(here)) else {
            return;
        };
        counters.accepted();
        let from = peer.and_then(ip_of);
        let route = self.route.load_full();
        let Some(source) = source_of(&client, from) else {
            counters.denied();
            return;
        };
        let at_once = match route.proxied().is_on() {
            true => None,
            false => route.access().at_once(source),
        };
        let to_judge = match at_once {
            Some(Ok(())) => None,
            Some(Err(refusal)) => {
                counters.denied();
                let from = from.map(|from| from.to_string());
                notice::denied(route.name(), from.as_deref().unwrap_or_default(), &refusal);
                return;
            }
            None => Some(source),
        };
        let worker = self.places.emptiest(here);
        let counters = self.counters.get(usize::from(worker));
        let (Some(counters), Some(seat)) = (counters, self.places.take(worker)) else {
            return;
        };
        let session = l4::Session {
            route,
            counters: Arc::clone(counters),
            seat,
            from,
            to_judge,
        };
        if worker == here {
            tokio::spawn(session.run(client));
        } else {
            self.crew.hand_over(worker, session, client);
        }
    }

    async fn pause(&self, errno: Option<Errno>) {
        if self.places.pause() {
            let reason = errno.map_or_else(
                || "all places within the limit of open files are taken".to_owned(),
                |errno| io::Error::from(errno).to_string(),
            );
            tracing::warn!(
                listener = self.route.load().name(),
                reason,
                advice = "raise LimitNOFILE or `ulimit -n`",
                "accepting pauses; clients wait in the kernel's queue, and nobody is dropped"
            );
        }
        tokio::time::sleep(PAUSE).await;
    }

    fn resume(&self) {
        if self.places.resume() {
            tracing::info!(listener = self.route.load().name(), "accepting again");
        }
    }
}

fn ip_of(peer: &SocketAddrAny) -> Option<IpAddr> {
    let address = std::net::SocketAddr::try_from(peer.clone()).ok()?;
    Some(address.ip().to_canonical())
}

//! Taking connections in.

use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use ipreconnect::clock;
use ipreconnect::socket::{Socket, register};
use rustix::io::Errno;
use rustix::net::{SocketAddrAny, SocketFlags, acceptfrom_with};
use tokio::sync::oneshot;

use crate::access::source_of;
use crate::counters::Counters;
use crate::crowd::Crowd;
use crate::http;
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
    crowd: Arc<Crowd>,
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
    /// The listener has as many clients as it may have.
    Crowded,
    /// No descriptor is left.
    Full(Option<Errno>),
}

/// Whether a listener goes on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Open,
    /// Who is in the kernel's queue is served, and nobody else comes.
    Closing,
}

impl Acceptor {
    pub(crate) fn new(
        socket: OwnedFd,
        (route, crowd): (Arc<ArcSwap<Route>>, Arc<Crowd>),
        counters: Arc<[Arc<Counters>]>,
        crew: Arc<Crew>,
        places: Arc<Places>,
    ) -> io::Result<Self> {
        Ok(Self {
            socket: register(socket)?,
            route,
            crowd,
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
        while let Turn::More = self.turn(Phase::Closing) {}
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
        match self.turn(Phase::Open) {
            Turn::Empty => guard.clear_ready(),
            // They wait in the kernel's queue, in order.
            Turn::Crowded => tokio::time::sleep(PAUSE).await,
            Turn::More => tokio::task::yield_now().await,
            Turn::Full(errno) => self.pause(errno).await,
        }
    }

    fn turn(&self, phase: Phase) -> Turn {
        for _ in 0..BATCH {
            if !self.places.are_left() {
                return Turn::Full(None);
            }
            if phase == Phase::Open && !self.has_room() {
                return Turn::Crowded;
            }
            let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
            match acceptfrom_with(self.socket.get_ref(), flags) {
                Ok((client, peer)) => {
                    self.resume();
                    self.admit(client, peer.as_ref());
                }
                Err(Errno::AGAIN) => return Turn::Empty,
                Err(errno @ (Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM)) => {
                    http::pool::make_room();
                    return Turn::Full(Some(errno));
                }
                // Everything else is the trouble of that one connection (accept(2)).
                Err(_) => {}
            }
        }
        Turn::More
    }

    /// Whether the listener may have one more client.
    fn has_room(&self) -> bool {
        self.crowd.has_room(&self.route.load().limiter().limits)
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
        let refuse = |refusal: &dyn std::fmt::Display| {
            counters.denied();
            let from = from.map(|from| from.to_string());
            notice::denied(route.name(), from.as_deref().unwrap_or_default(), refusal);
        };
        // Whose connection a proxy brings is not known yet.
        let is_brought = route.proxied().is_on();
        let held = match is_brought {
            true => Ok(None),
            false => route.limiter().admit(&self.crowd, from),
        };
        let held = match held {
            Ok(held) => held,
            Err(too_much) => return refuse(&too_much),
        };
        let at_once = match is_brought {
            true => None,
            false => route.access().at_once(source),
        };
        let to_judge = match at_once {
            Some(Ok(())) => None,
            Some(Err(refusal)) => return refuse(&refusal),
            None => Some(source),
        };
        let worker = self.places.emptiest(here);
        let counters = self.counters.get(usize::from(worker));
        let (Some(counters), Some(seat)) = (counters, self.places.take(worker)) else {
            return;
        };
        let mut seat = seat.among(self.crowd.enter(&route.limiter().limits));
        seat.holds(held);
        let session = l4::Session {
            route,
            counters: Arc::clone(counters),
            seat,
            from,
            to_judge,
            carried: None,
            crowd: is_brought.then(|| Arc::clone(&self.crowd)),
        };
        if worker == here {
            tokio::spawn(session.run(client));
        } else {
            self.crew.hand_over(worker, session, client);
        }
    }

    async fn pause(&self, errno: Option<Errno>) {
        if self.places.pause(clock::now()) {
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

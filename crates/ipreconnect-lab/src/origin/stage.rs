//! The running origin: what its tasks share, and how connections come in and end.

use super::desk::Desk;
use super::script::Script;
use crate::door::{Door, Seat};
use crate::rooms::{Room, Rooms};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::watch;

/// The most connections an origin serves; more wait in the kernel's accept queue.
const MOST_CONNECTIONS: usize = 16 * 1024;

/// What the owner of an origin wants of it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Cue {
    /// How often it was killed: connections that are older are reset.
    pub(super) kills: u64,
    pub(super) frozen: bool,
    /// How much later answers go out.
    pub(super) delay: Duration,
    /// How often waiting clients were released.
    pub(super) releases: u64,
    /// The owner is gone.
    pub(super) over: bool,
}

/// What the tasks of an origin share with its owner.
pub(super) struct Stage {
    script: Script,
    cues: watch::Sender<Cue>,
    rooms: Rooms,
    accepted: AtomicU64,
    answered: AtomicU64,
    waiting: AtomicUsize,
}

impl Stage {
    pub(super) fn new(script: Script) -> Self {
        Self {
            script,
            cues: watch::Sender::default(),
            rooms: Rooms::new(MOST_CONNECTIONS),
            accepted: AtomicU64::new(0),
            answered: AtomicU64::new(0),
            waiting: AtomicUsize::new(0),
        }
    }

    pub(super) fn cue(&self, change: impl FnOnce(&mut Cue)) {
        self.cues.send_modify(change);
    }

    pub(super) fn cues(&self) -> watch::Receiver<Cue> {
        self.cues.subscribe()
    }

    pub(super) fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    pub(super) fn open(&self) -> usize {
        self.rooms.taken()
    }

    pub(super) fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    pub(super) fn count_answer(&self) {
        self.answered.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Counts one client that waits, until it is dropped.
    pub(super) fn waiter(self: &Arc<Self>) -> Waiter {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        Waiter(Arc::clone(self))
    }
}

pub(super) struct Waiter(Arc<Stage>);

impl Drop for Waiter {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A connection of any kind.
pub(super) trait Wire: AsyncRead + AsyncWrite + Send + Sync + Unpin + 'static {
    /// Makes the closing a reset, where there is such a thing.
    fn reset(&self);
}

impl Wire for TcpStream {
    fn reset(&self) {
        // It can only fail on a socket that is gone already.
        let _ = self.set_zero_linger();
    }
}

impl Wire for UnixStream {
    fn reset(&self) {}
}

/// Accepts and serves until the owner is gone.
pub(super) async fn serve<S>(door: Arc<Door<S>>, stage: Arc<Stage>)
where
    S: Seat,
    S::Stream: Wire,
{
    let mut cues = stage.cues();
    loop {
        // Read before the accept, so that a kill in between reaches the connection too.
        let cue = *cues.borrow_and_update();
        if cue.over {
            return;
        }
        let arrival = async {
            let vacancy = stage.rooms.vacancy().await;
            (door.accept().await, vacancy)
        };
        tokio::select! {
            biased;
            _ = cues.changed() => {}
            (stream, vacancy) = arrival, if !cue.frozen => {
                stage.accepted.fetch_add(1, Ordering::Relaxed);
                let desk = Desk::new(Box::new(stream), Arc::clone(&stage));
                tokio::spawn(attend(Arc::clone(&stage), desk, vacancy.occupy(), cue.kills));
            }
        }
    }
}

/// Plays the script on one connection, until it ends or the origin is killed.
async fn attend(stage: Arc<Stage>, mut desk: Desk, _room: Room, born: u64) {
    let mut cues = stage.cues();
    let killed = cues.wait_for(|cue| cue.over || cue.kills != born);
    let was_killed = tokio::select! {
        biased;
        _ = killed => true,
        // An error is the client's affair: it has gone, or asked too much.
        _ = stage.script.play(&mut desk) => false,
    };
    if was_killed {
        desk.reset();
    }
}

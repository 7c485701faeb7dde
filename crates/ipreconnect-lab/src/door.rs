//! A listening address that can be shut and opened again, and that nobody else can take meanwhile.

mod seat;
#[cfg(test)]
mod tests;

pub(crate) use seat::{Seat, TcpSeat, UnixSeat};

use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::watch;

/// How long to leave `accept` alone after it failed, for instance for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);

/// A seat and, while the door is open, its listening socket.
///
/// While it is shut, connects are refused. Opening and shutting take effect before they return.
pub(crate) struct Door<S: Seat> {
    seat: S,
    /// The runtime that listens, so that the door can be opened from any thread.
    runtime: Handle,
    listener: watch::Sender<Option<Arc<S::Listener>>>,
}

impl<S: Seat> Door<S> {
    /// An open door.
    ///
    /// # Errors
    /// Those of bind(2) and listen(2).
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub(crate) fn open_on(seat: S) -> io::Result<Self> {
        let door = Self {
            seat,
            runtime: Handle::current(),
            listener: watch::Sender::new(None),
        };
        door.open()?;
        Ok(door)
    }

    pub(crate) fn seat(&self) -> &S {
        &self.seat
    }

    /// Listens, unless it does already.
    pub(crate) fn open(&self) -> io::Result<()> {
        let mut outcome = Ok(());
        self.listener.send_if_modified(|listener| {
            if listener.is_some() {
                return false;
            }
            let _inside = self.runtime.enter();
            match self.seat.listen() {
                Ok(opened) => *listener = Some(Arc::new(opened)),
                Err(error) => outcome = Err(error),
            }
            listener.is_some()
        });
        outcome
    }

    /// Refuses connects from now on, and resets those that nobody has accepted yet.
    pub(crate) fn shut(&self) {
        if let Some(listener) = self.listener.send_replace(None) {
            S::refuse(&listener);
        }
    }

    /// Resets the connections that nobody has accepted yet, and goes on listening.
    pub(crate) fn sweep(&self) {
        if let Some(listener) = self.listener.borrow().as_ref() {
            S::sweep(listener);
        }
    }

    /// The next connection; while the door is shut there is none.
    ///
    /// Cancel safety: no connection is lost if the future is dropped.
    pub(crate) async fn accept(&self) -> S::Stream {
        let mut changes = self.listener.subscribe();
        loop {
            let listener = changes.borrow_and_update().clone();
            let accepted = async {
                match &listener {
                    Some(listener) => S::accept(listener).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                // The sender lives in `self`, so this only ever reports a change.
                _ = changes.changed() => {}
                outcome = accepted => match outcome {
                    Ok(stream) => return stream,
                    Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
                },
            }
        }
    }
}

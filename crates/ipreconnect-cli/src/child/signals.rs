//! The signals that concern a program that is run, and whether it was told them already.
//!
//! What is typed at a terminal (Ctrl+C, Ctrl+\) and its end the kernel tells to every process there: saying it again
//! would be once too often. What another process sends comes to one of them alone.

use std::io;
use std::process::ExitStatus;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use rustix::process::Signal;
use tokio::signal::unix::{self, SignalKind, signal};

/// Those that a terminal tells to all, with whether it was one the last time.
static BY_TERMINAL: [(Signal, AtomicBool); 3] = [
    (Signal::INT, AtomicBool::new(false)),
    (Signal::QUIT, AtomicBool::new(false)),
    (Signal::HUP, AtomicBool::new(false)),
];
static LISTENING: Once = Once::new();

/// A signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Came {
    /// It is to end (SIGTERM).
    End,
    /// Something is said to it, upon which it may end or not.
    Said {
        signal: Signal,
        /// It was told by the terminal.
        is_told: bool,
    },
}

impl Came {
    /// Whether a program that has ended in this way has done so because of it. Some take SIGHUP as the wish to read
    /// their configuration again.
    pub(super) fn explains(self, status: ExitStatus) -> bool {
        let Self::Said { signal, is_told } = self else {
            return true;
        };
        let ended_by_it = status.code() == Some(128 + signal.as_raw());
        is_told || signal == Signal::INT || signal == Signal::QUIT || ended_by_it
    }
}

/// Signals, as they come.
#[derive(Debug)]
pub(crate) struct Signals {
    terminate: unix::Signal,
    interrupt: unix::Signal,
    quit: unix::Signal,
    hangup: unix::Signal,
    user1: unix::Signal,
    user2: unix::Signal,
}

impl Signals {
    /// Listens from now on: none of them ends this process any more.
    ///
    /// # Errors
    /// If the kernel does not permit that.
    pub(crate) fn new() -> io::Result<Self> {
        // Before those that wake whoever waits: what they say is there by then.
        LISTENING.call_once(|| {
            for (signal, by_terminal) in &BY_TERMINAL {
                // SAFETY: the action stores a value that is lock-free, and does nothing else: it is safe in a signal
                // handler (signal-safety(7)). `siginfo_t` is given by the kernel.
                let registered = unsafe {
                    signal_hook_registry::register_sigaction(signal.as_raw(), |info| {
                        // The kernel's own are positive, those of processes are not (sigaction(2)).
                        by_terminal.store(info.si_code > 0, Relaxed);
                    })
                };
                // Without it a terminal's are taken for those of a process.
                let _ = registered;
            }
        });
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            hangup: signal(SignalKind::hangup())?,
            user1: signal(SignalKind::user_defined1())?,
            user2: signal(SignalKind::user_defined2())?,
        })
    }

    /// The next one.
    ///
    /// Cancel safety: nothing is lost.
    pub(super) async fn next(&mut self) -> Came {
        let signal = tokio::select! {
            _ = self.terminate.recv() => return Came::End,
            _ = self.interrupt.recv() => Signal::INT,
            _ = self.quit.recv() => Signal::QUIT,
            _ = self.hangup.recv() => Signal::HUP,
            _ = self.user1.recv() => Signal::USR1,
            _ = self.user2.recv() => Signal::USR2,
        };
        let mut known = BY_TERMINAL.iter();
        let known = known.find(|(one, _)| *one == signal);
        Came::Said {
            signal,
            is_told: known.is_some_and(|(_, by_terminal)| by_terminal.load(Relaxed)),
        }
    }

    /// Somebody wants an end, where there is no program that would be told.
    ///
    /// Cancel safety: nothing is lost.
    pub(crate) async fn stop(&mut self) -> Signal {
        loop {
            match self.next().await {
                Came::End => return Signal::TERM,
                Came::Said { signal, .. } if signal != Signal::USR1 && signal != Signal::USR2 => {
                    return signal;
                }
                Came::Said { .. } => {}
            }
        }
    }
}

//! The signals that concern a program that is run, and whether it was told them already.
//!
//! What is typed at a terminal (Ctrl+C, Ctrl+\) the kernel tells to every process that stands before it, and what is sent
//! to a process group or a control group comes to each of them: saying it again would be once too often. What is sent to
//! one process comes to that alone.

use std::future::pending;
use std::io;
use std::process::ExitStatus;
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering::Relaxed};
use std::sync::{Once, OnceLock};

use rustix::process::{Pid, Signal};
use tokio::signal::unix::{self, SignalKind, signal};

/// How often a signal has come, by who has sent it.
struct Count {
    signal: Signal,
    by_terminal: AtomicU32,
    by_parent: AtomicU32,
    by_others: AtomicU32,
}

impl Count {
    const fn of(signal: Signal) -> Self {
        Self {
            signal,
            by_terminal: AtomicU32::new(0),
            by_parent: AtomicU32::new(0),
            by_others: AtomicU32::new(0),
        }
    }

    fn now(&self) -> [u32; 3] {
        [&self.by_terminal, &self.by_parent, &self.by_others].map(|count| count.load(Relaxed))
    }
}

static COUNTS: [Count; 6] = [
    Count::of(Signal::TERM),
    Count::of(Signal::INT),
    Count::of(Signal::QUIT),
    Count::of(Signal::HUP),
    Count::of(Signal::USR1),
    Count::of(Signal::USR2),
];
/// The process that speaks for people; 0 is none.
static PARENT: AtomicI32 = AtomicI32::new(0);
static COUNTING: Once = Once::new();
/// The signals that were ignored when this process began, as the kernel tells them.
static IGNORED: OnceLock<u64> = OnceLock::new();

/// Notes which signals whoever has started this process wanted to be ignored, as `nohup` and shells do: they stay so,
/// here and in what is run. To be called before anything listens to them.
pub(crate) fn note_ignored() {
    IGNORED.get_or_init(|| {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
        mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
            .unwrap_or_default()
    });
}

fn is_ignored(signal: i32) -> bool {
    let ignored = IGNORED.get().copied().unwrap_or_default();
    let bit = u32::try_from(signal).unwrap_or_default().wrapping_sub(1);
    ignored.checked_shr(bit).is_some_and(|rest| rest & 1 == 1)
}

/// Listens to a signal; not, if it was to be ignored.
///
/// # Errors
/// If the kernel does not permit that.
pub(crate) fn listen(kind: SignalKind) -> io::Result<Option<unix::Signal>> {
    if is_ignored(kind.as_raw_value()) {
        return Ok(None);
    }
    signal(kind).map(Some)
}

/// Until it comes; never, where nobody listens.
///
/// Cancel safety: nothing is lost.
pub(crate) async fn heard(signal: &mut Option<unix::Signal>) {
    match signal {
        Some(signal) => drop(signal.recv().await),
        None => pending().await,
    }
}

/// Whether this process is the first of its session: the one to which the kernel tells that its terminal is gone.
///
/// The session may have begun outside of the PID namespace, as that of a container often does: its number is 0 then
/// (pid_namespaces(7)), for which `rustix` has no value.
fn is_first_of_session() -> bool {
    // SAFETY: neither reads nor writes any memory of this process.
    unsafe { libc::getsid(0) == libc::getpid() }
}

/// Whether what comes to the process group of this process comes to another one, too. Two that are 0 are one: whoever
/// takes another group than that with which it came into the PID namespace takes one that has a number there.
pub(super) fn is_in_our_group(pid: Pid) -> bool {
    // SAFETY: neither reads nor writes any memory of this process.
    unsafe { libc::getpgid(pid.as_raw_pid()) == libc::getpgrp() }
}

/// Who has sent a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Senders {
    /// The kernel, for the terminal.
    pub(super) terminal: bool,
    /// The process that speaks for people.
    pub(super) parent: bool,
    /// Some other process.
    pub(super) others: bool,
}

/// A signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Came {
    /// It is to end (SIGTERM).
    End,
    /// Something is said to it, upon which it may end or not.
    Said {
        signal: Signal,
        /// It was told to all before a terminal.
        is_told: bool,
    },
}

impl Came {
    /// Whether it asks for an end, as programs take it.
    pub(super) fn may_end(self) -> bool {
        !matches!(
            self,
            Self::Said {
                signal: Signal::USR1 | Signal::USR2,
                ..
            }
        )
    }

    /// Whether a program that has ended in this way, so soon or not, has done so because of it. Some take SIGHUP as the
    /// wish to read their configuration again.
    pub(super) fn explains(self, status: ExitStatus, is_soon: bool) -> bool {
        let Self::Said { signal, is_told } = self else {
            return true;
        };
        let by_it = status.code() == Some(128 + signal.as_raw());
        by_it || is_soon && (is_told || signal == Signal::INT || signal == Signal::QUIT)
    }
}

/// Signals, as they come.
#[derive(Debug)]
pub(crate) struct Signals {
    terminate: Option<unix::Signal>,
    interrupt: Option<unix::Signal>,
    quit: Option<unix::Signal>,
    hangup: Option<unix::Signal>,
    user1: Option<unix::Signal>,
    user2: Option<unix::Signal>,
    /// What was told of already.
    seen: [[u32; 3]; 6],
}

impl Signals {
    /// Listens from now on: none of them ends this process any more.
    ///
    /// # Errors
    /// If the kernel does not permit that.
    pub(crate) fn new() -> io::Result<Self> {
        // Before those that wake whoever waits: what they count is there by then.
        COUNTING.call_once(|| {
            for count in COUNTS
                .iter()
                .filter(|count| !is_ignored(count.signal.as_raw()))
            {
                // SAFETY: the action counts in atomics, and does nothing else: it is safe in a signal handler
                // (signal-safety(7)). The kernel has filled in `siginfo_t`: where the code is not its own, also the
                // number of the process (sigaction(2)); for others the field is read and says nothing.
                let registered = unsafe {
                    signal_hook_registry::register_sigaction(count.signal.as_raw(), |info| {
                        let sender = if info.si_code > 0 {
                            &count.by_terminal
                        } else if info.si_pid() == PARENT.load(Relaxed) {
                            &count.by_parent
                        } else {
                            &count.by_others
                        };
                        sender.fetch_add(1, Relaxed);
                    })
                };
                // Without it nobody is known to have sent any.
                let _ = registered;
            }
        });
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            quit: listen(SignalKind::quit())?,
            hangup: listen(SignalKind::hangup())?,
            user1: listen(SignalKind::user_defined1())?,
            user2: listen(SignalKind::user_defined2())?,
            seen: COUNTS.each_ref().map(Count::now),
        })
    }

    /// Names the process that speaks for people.
    pub(super) fn of_parent(parent: i32) {
        PARENT.store(parent, Relaxed);
    }

    /// Waits for the next one.
    ///
    /// Cancel safety: nothing is lost.
    pub(super) async fn signal(&mut self) -> Signal {
        tokio::select! {
            () = heard(&mut self.terminate) => Signal::TERM,
            () = heard(&mut self.interrupt) => Signal::INT,
            () = heard(&mut self.quit) => Signal::QUIT,
            () = heard(&mut self.hangup) => Signal::HUP,
            () = heard(&mut self.user1) => Signal::USR1,
            () = heard(&mut self.user2) => Signal::USR2,
        }
    }

    /// Who has sent one since this was asked last.
    pub(super) fn senders(&mut self, signal: Signal) -> Senders {
        let mut all = COUNTS.iter().zip(&mut self.seen);
        let found = all.find(|(count, _)| count.signal == signal);
        let more = found.map_or([false; 3], |(count, seen)| {
            let now = count.now();
            let more = [0, 1, 2].map(|at: usize| now.get(at) != seen.get(at));
            *seen = now;
            more
        });
        let [terminal, parent, others] = more;
        Senders {
            terminal,
            parent,
            others,
        }
    }

    /// The next one, and what it says.
    ///
    /// Cancel safety: nothing is lost.
    pub(super) async fn next(&mut self) -> Came {
        let signal = self.signal().await;
        let senders = self.senders(signal);
        if signal == Signal::TERM {
            return Came::End;
        }
        let by_terminal = senders.terminal && !senders.parent && !senders.others;
        // That a terminal is gone is told to its first process alone: the others hear of it when that ends.
        let is_first = signal == Signal::HUP && is_first_of_session();
        Came::Said {
            signal,
            is_told: by_terminal && !is_first,
        }
    }

    /// Somebody wants an end, where there is no program that would be told.
    ///
    /// Cancel safety: nothing is lost.
    pub(crate) async fn stop(&mut self) -> Signal {
        loop {
            let signal = self.signal().await;
            if signal != Signal::USR1 && signal != Signal::USR2 {
                return signal;
            }
        }
    }
}

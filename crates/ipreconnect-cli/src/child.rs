//! A program that is run on behalf of a person: signals reach it, sockets are passed to it, and it is started again
//! where that is wanted.
//!
//! It is started through this program itself ([`launch`]): only the process that becomes it knows the number that it
//! has to be told (`LISTEN_PID`, sd_listen_fds(3)), and only that one can ask the kernel to end it should whoever
//! started it be killed.

use std::cell::RefCell;
use std::ffi::OsString;
use std::future::Future;
use std::io::{self, IsTerminal};
use std::os::fd::OwnedFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::ExitStatus;
use std::time::Duration;

use command_fds::{CommandFdExt, FdMapping};
use ipreconnect::clock;
use ipreconnect::core::backoff::{Backoff, BackoffSettings, Jitter};
use ipreconnect::core::dice::Dice;
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::signal::unix::{self, SignalKind, signal};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::args::Launch;
use crate::exit::Exit;

/// What begins sockets that are passed (sd_listen_fds(3)).
const FIRST_SOCKET: i32 = 3;
/// A program that has run for so long was no failed start.
const STEADY: Duration = Duration::from_secs(10);
/// A program that ignores that it is to end is killed after this time.
const GRACE: Duration = Duration::from_secs(10);

/// What is run.
#[derive(Debug)]
pub(crate) struct Program {
    /// The program and its arguments.
    pub(crate) command: Vec<OsString>,
    /// Added to its environment.
    pub(crate) variables: Vec<(String, String)>,
    /// Listening sockets with their names.
    pub(crate) sockets: Vec<(String, OwnedFd)>,
    /// Keeps others from a port that the program is told; given up when the program has failed, which may be because
    /// of it.
    pub(crate) placeholder: RefCell<Option<OwnedFd>>,
}

/// When a program is started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Restart {
    /// Never: how it ends is how the command ends
    Never,
    /// When it has failed
    OnFailure,
    /// When it has failed, and when a required origin is back that was lost
    OnRecovery,
    /// However it ends
    Always,
}

/// What the program depends on, now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Needs {
    /// Required origins that are not up.
    pub(crate) missing: Vec<String>,
    /// How often all were back after some had been missing.
    pub(crate) recoveries: u64,
}

/// Why a run of the program is over.
enum Over {
    Ended(io::Result<ExitStatus>),
    Recovered,
    Stopped(Signal),
}

/// Runs a program until it is not started again, or whoever runs it wants it to end. Returns what the command's exit
/// code is.
///
/// Cancel safety: the program is killed.
pub(crate) async fn run(
    program: &Program,
    restart: Restart,
    mut needs: watch::Receiver<Needs>,
) -> Exit {
    let mut signals = match Signals::new() {
        Ok(signals) => signals,
        Err(error) => {
            eprintln!("error: cannot listen to signals\n  caused by: {error}");
            return Exit::Wrong;
        }
    };
    let mut pauses = pauses();
    let mut dice = Dice::new(clock::stamp(clock::now()));
    loop {
        let began = Instant::now();
        let mut child = match program.start() {
            Ok(child) => child,
            Err(error) => {
                eprintln!(
                    "error: {} cannot be started\n  caused by: {error}",
                    program.name()
                );
                return Exit::As(126);
            }
        };
        let over = watched(&mut child, restart, &mut needs, &mut signals).await;
        let status = match over {
            Over::Ended(Ok(status)) => status,
            Over::Ended(Err(error)) => {
                eprintln!("error: {} is lost\n  caused by: {error}", program.name());
                return Exit::As(125);
            }
            Over::Stopped(signal) => return code(&ended(&mut child, signal, &mut signals).await),
            Over::Recovered => {
                eprintln!(
                    "ipreconnect: what was missing is back; {} is started again",
                    program.name()
                );
                drop(ended(&mut child, Signal::TERM, &mut signals).await);
                pauses.reset();
                continue;
            }
        };
        if !is_again(restart, status) {
            return code(&Ok(status));
        }
        drop(program.placeholder.take());
        if began.elapsed() >= STEADY {
            pauses.reset();
        }
        let pause = pauses.next(&mut dice).unwrap_or(STEADY);
        let missing = needs.borrow().missing.join(", ");
        let until = match missing.as_str() {
            "" => format!("in {} ms", pause.as_millis()),
            missing => format!("as soon as {missing} is back, or in 30 s"),
        };
        eprintln!(
            "ipreconnect: {} {}; it is started again {until}",
            program.name(),
            said(status)
        );
        let is_waiting = !missing.is_empty();
        let latest = if is_waiting { PATIENCE } else { pause };
        tokio::select! {
            () = sleep_until(Instant::now() + latest) => {}
            _ = needs.wait_for(|needs| needs.missing.is_empty()), if is_waiting => {}
            signal = signals.stop() => return Exit::As(128u8.saturating_add(number(signal))),
        }
    }
}

/// A program whose needs are not met is tried again after this time all the same.
const PATIENCE: Duration = Duration::from_secs(30);

fn pauses() -> Backoff {
    let (first, max) = (Duration::from_millis(200), Duration::from_secs(10));
    // These are sound.
    Backoff::new(BackoffSettings::new(first, 2.0, max, Jitter::Equal, 0).unwrap_or_default())
}

fn is_again(restart: Restart, status: ExitStatus) -> bool {
    match restart {
        Restart::Never => false,
        // It is not there, and will not be there by itself.
        _ if matches!(status.code(), Some(126 | 127)) => false,
        Restart::OnFailure | Restart::OnRecovery => !status.success(),
        Restart::Always => true,
    }
}

/// Until it ends, or is to end.
async fn watched(
    child: &mut Child,
    restart: Restart,
    needs: &mut watch::Receiver<Needs>,
    signals: &mut Signals,
) -> Over {
    let before = needs.borrow_and_update().recoveries;
    let pid = child.id();
    loop {
        tokio::select! {
            status = child.wait() => return Over::Ended(status),
            came = signals.next() => match came {
                Came::Stop(signal) => return Over::Stopped(signal),
                Came::Pass(signal) => send(pid, signal),
            },
            found = needs.wait_for(|needs| needs.recoveries > before), if restart == Restart::OnRecovery => {
                if found.is_ok() {
                    return Over::Recovered;
                }
                // Nobody tells of recoveries any more.
                return tokio::select! {
                    status = child.wait() => Over::Ended(status),
                    signal = signals.stop() => Over::Stopped(signal),
                };
            }
        }
    }
}

/// Ends it: it is told so, and killed if it does not listen. A second signal kills at once.
async fn ended(child: &mut Child, signal: Signal, signals: &mut Signals) -> io::Result<ExitStatus> {
    // The terminal has told the whole group.
    if signal != Signal::INT || !io::stdin().is_terminal() {
        send(child.id(), signal);
    }
    tokio::select! {
        status = child.wait() => return status,
        _ = signals.stop() => {}
        () = sleep_until(Instant::now() + GRACE) => {
            eprintln!("ipreconnect: it has not ended after {} s, and is killed", GRACE.as_secs());
        }
    }
    child.kill().await?;
    child.wait().await
}

fn send(pid: Option<u32>, signal: Signal) {
    let pid = pid
        .and_then(|pid| i32::try_from(pid).ok())
        .and_then(Pid::from_raw);
    if let Some(pid) = pid {
        // It may have ended meanwhile; until it is waited for nobody else has its number.
        let _ = kill_process(pid, signal);
    }
}

fn number(signal: Signal) -> u8 {
    u8::try_from(signal.as_raw()).unwrap_or_default()
}

fn said(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("has ended with {code}"),
        (None, Some(signal)) => format!("was killed by signal {signal}"),
        (None, None) => "has ended".to_owned(),
    }
}

/// As a shell has it: its own, or 128 and the signal.
fn code(status: &io::Result<ExitStatus>) -> Exit {
    let Ok(status) = status else {
        return Exit::As(125);
    };
    let byte = |code: i32| u8::try_from(code).unwrap_or(u8::MAX);
    Exit::As(match (status.code(), status.signal()) {
        (Some(code), _) => byte(code),
        (None, signal) => 128u8.saturating_add(byte(signal.unwrap_or_default())),
    })
}

impl Program {
    /// What people call it.
    pub(crate) fn name(&self) -> String {
        let first = self.command.first();
        first.map_or_else(String::new, |name| name.to_string_lossy().into_owned())
    }

    fn start(&self) -> io::Result<Child> {
        let mut command = std::process::Command::new("/proc/self/exe");
        command.arg("launch");
        let (names, sockets): (Vec<&str>, Vec<&OwnedFd>) = self
            .sockets
            .iter()
            .map(|(name, socket)| (&**name, socket))
            .unzip();
        if !names.is_empty() {
            command.arg("--sockets").arg(names.join(":"));
        }
        command.arg("--").args(&self.command);
        // What was passed to us is not for it.
        for ours in [
            "LISTEN_PID",
            "LISTEN_FDS",
            "LISTEN_FDNAMES",
            "NOTIFY_SOCKET",
            "WATCHDOG_PID",
            "WATCHDOG_USEC",
        ] {
            command.env_remove(ours);
        }
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        let mappings: io::Result<Vec<FdMapping>> = sockets
            .iter()
            .zip(FIRST_SOCKET..)
            .map(|(socket, child_fd)| {
                Ok(FdMapping {
                    parent_fd: socket.try_clone()?,
                    child_fd,
                })
            })
            .collect();
        command.fd_mappings(mappings?).map_err(io::Error::other)?;
        let mut command = Command::from(command);
        command.kill_on_drop(true);
        command.spawn()
    }
}

/// Becomes a program, which was to be started so. Does not return, but for what is in the way.
pub(crate) fn launch(launch: &Launch) -> Exit {
    let Some((program, arguments)) = launch.command.split_first() else {
        return Exit::Wrong;
    };
    // It ends with whoever has started it, however that ends.
    let _ = rustix::process::set_parent_process_death_signal(Some(Signal::TERM));
    let mut command = std::process::Command::new(program);
    command.args(arguments);
    if let Some(names) = &launch.sockets {
        command
            .env("LISTEN_PID", std::process::id().to_string())
            .env("LISTEN_FDS", names.split(':').count().to_string())
            .env("LISTEN_FDNAMES", names);
    }
    let error = command.exec();
    eprintln!(
        "error: {} cannot be started\n  caused by: {error}",
        program.to_string_lossy()
    );
    match error.kind() {
        io::ErrorKind::NotFound => Exit::As(127),
        _ => Exit::As(126),
    }
}

/// The signals that concern a program that is run.
struct Signals {
    terminate: unix::Signal,
    interrupt: unix::Signal,
    quit: unix::Signal,
    hangup: unix::Signal,
    user1: unix::Signal,
    user2: unix::Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
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
    async fn next(&mut self) -> Came {
        tokio::select! {
            _ = self.terminate.recv() => Came::Stop(Signal::TERM),
            _ = self.interrupt.recv() => Came::Stop(Signal::INT),
            _ = self.quit.recv() => Came::Stop(Signal::QUIT),
            _ = self.hangup.recv() => Came::Pass(Signal::HUP),
            _ = self.user1.recv() => Came::Pass(Signal::USR1),
            _ = self.user2.recv() => Came::Pass(Signal::USR2),
        }
    }

    /// Somebody wants it to end.
    ///
    /// Cancel safety: nothing is lost.
    async fn stop(&mut self) -> Signal {
        loop {
            if let Came::Stop(signal) = self.next().await {
                return signal;
            }
        }
    }
}

/// A signal.
enum Came {
    /// It is to end.
    Stop(Signal),
    /// Something is said to it.
    Pass(Signal),
}

/// Runs a program while something else goes on that never ends by itself.
pub(crate) async fn run_while(
    running: impl Future<Output = Exit>,
    beside: impl Future<Output = ()>,
) -> Exit {
    tokio::select! {
        exit = running => exit,
        () = async { beside.await; std::future::pending::<()>().await } => Exit::Fine,
    }
}

//! A program that is run on behalf of a person: signals reach it, sockets are passed to it, and it is started again
//! where that is wanted.
//!
//! It is started through this program itself ([`launch`]): only the process that becomes it knows the number that it
//! has to be told (`LISTEN_PID`, sd_listen_fds(3)), and only its parent can see to what it leaves behind.

mod launch;
mod signals;

use std::cell::RefCell;
use std::ffi::OsString;
use std::future::Future;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::ExitStatus;
use std::sync::OnceLock;
use std::time::Duration;

use clap::ValueEnum;
use command_fds::{CommandFdExt, FdMapping};
use ipreconnect::clock;
use ipreconnect::core::backoff::{Backoff, BackoffSettings, Jitter};
use ipreconnect::core::dice::Dice;
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit};
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

pub(crate) use launch::launch;
use signals::Came;
pub(crate) use signals::{Signals, heard, listen, note_ignored};

use crate::exit::Exit;

/// What begins sockets that are passed (sd_listen_fds(3)).
const FIRST_SOCKET: i32 = 3;
/// A program that has run for so long was no failed start.
const STEADY: Duration = Duration::from_secs(10);
/// A program that ignores that it is to end is killed after this time.
const GRACE: Duration = Duration::from_secs(10);
/// Who ends within this time after he was interrupted ends because of it.
const SOON: Duration = Duration::from_secs(60);
/// That it is to end is said again, and it is killed, where so much time is between both.
const AGAIN: Duration = Duration::from_secs(1);

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
    /// It has ended upon what somebody has said to it.
    Wanted(io::Result<ExitStatus>),
    Recovered,
    Stopped,
}

/// Runs a program until it is not started again, or whoever runs it wants it to end. Returns what the command's exit
/// code is.
///
/// Cancel safety: the program is killed.
pub(crate) async fn run(
    program: &Program,
    restart: Restart,
    mut needs: watch::Receiver<Needs>,
    signals: &mut Signals,
) -> Exit {
    let mut pauses = pauses();
    let mut dice = Dice::new(clock::stamp(clock::now()));
    loop {
        let began = Instant::now();
        let mut child = match program.start(restart) {
            Ok(child) => child,
            Err(error) => {
                say(&format!(
                    "error: {} cannot be started\n  caused by: {error}",
                    program.name()
                ));
                return Exit::As(126);
            }
        };
        let over = watched(&mut child, restart, &mut needs, signals).await;
        let status = match over {
            Over::Ended(Ok(status)) => status,
            Over::Ended(Err(error)) => {
                say(&format!(
                    "error: {} is lost\n  caused by: {error}",
                    program.name()
                ));
                return Exit::As(125);
            }
            Over::Wanted(status) => return code(&status),
            Over::Stopped => return code(&ended(&mut child, signals).await.0),
            Over::Recovered => {
                say(&format!(
                    "ipreconnect: what was missing is back; {} is started again",
                    program.name()
                ));
                let (status, is_wanted) = ended(&mut child, signals).await;
                if is_wanted {
                    return code(&status);
                }
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
        say(&format!(
            "ipreconnect: {} {}; it is started again {until}",
            program.name(),
            said(status)
        ));
        let is_waiting = !missing.is_empty();
        let latest = if is_waiting { PATIENCE } else { pause };
        tokio::select! {
            () = sleep_until(Instant::now() + latest) => {}
            _ = needs.wait_for(|needs| needs.missing.is_empty()), if is_waiting => {}
            signal = signals.stop() => return by_signal(signal),
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
    is_again_by(restart, status.code().unwrap_or(-1))
}

/// Whether a program that has ended with this code is started again.
fn is_again_by(restart: Restart, code: i32) -> bool {
    match restart {
        Restart::Never => false,
        // It is not there, and will not be there by itself.
        _ if matches!(code, 126 | 127) => false,
        Restart::OnFailure | Restart::OnRecovery => code != 0,
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
    let mut asked: Option<(Instant, Came)> = None;
    // Nobody tells of recoveries any more.
    let mut is_alone = restart != Restart::OnRecovery;
    loop {
        tokio::select! {
            status = child.wait() => {
                let is_wanted = |(at, came): (Instant, Came)| {
                    let is_soon = at.elapsed() < SOON;
                    status
                        .as_ref()
                        .is_ok_and(|status| came.explains(*status, is_soon))
                };
                return if asked.is_some_and(is_wanted) {
                    Over::Wanted(status)
                } else {
                    Over::Ended(status)
                };
            }
            came = signals.next() => {
                match came {
                    Came::End => return Over::Stopped,
                    Came::Said { signal, is_told: false } => send(pid, signal),
                    Came::Said { .. } => {}
                }
                if came.may_end() {
                    asked = Some((Instant::now(), came));
                }
            }
            found = needs.wait_for(|needs| needs.recoveries > before), if !is_alone => {
                if found.is_ok() {
                    return Over::Recovered;
                }
                is_alone = true;
            }
        }
    }
}

/// Ends it: it is told so, and killed if it does not listen; said again, it is killed at once. Also returns whether
/// somebody wants an end for good.
async fn ended(child: &mut Child, signals: &mut Signals) -> (io::Result<ExitStatus>, bool) {
    let pid = child.id();
    send(pid, Signal::TERM);
    let (late, mut is_wanted) = (Instant::now() + GRACE * 2, false);
    loop {
        tokio::select! {
            status = child.wait() => return (status, is_wanted),
            came = signals.next() => match came {
                Came::End | Came::Said { signal: Signal::INT, .. } => {
                    is_wanted = true;
                    send(pid, Signal::TERM);
                }
                Came::Said { is_told: true, .. } => is_wanted = true,
                Came::Said { signal, .. } => send(pid, signal),
            },
            () = sleep_until(late) => break,
        }
    }
    let killed = child.kill().await;
    let status = child.wait().await;
    (killed.and(status), is_wanted)
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

/// As a shell has it.
pub(crate) fn by_signal(signal: Signal) -> Exit {
    Exit::As(128u8.saturating_add(byte(signal.as_raw())))
}

fn byte(code: i32) -> u8 {
    u8::try_from(code).unwrap_or(u8::MAX)
}

/// Says something to whoever sits there. A terminal that is gone is no reason to end.
pub(crate) fn say(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// Has as many open files as the administrator allows. Programs that are run have as many as they would have had.
pub(crate) fn raise_files() -> usize {
    let limit = getrlimit(Resource::Nofile);
    FILES.get_or_init(|| limit.current);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    let files = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    files.map_or(usize::MAX, |files| {
        usize::try_from(files).unwrap_or(usize::MAX)
    })
}

/// What was the limit before that.
static FILES: OnceLock<Option<u64>> = OnceLock::new();

fn said(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        // As it is told by who has waited for it.
        (Some(code @ 129..=192), _) => format!("was killed by signal {}", code - 128),
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
    Exit::As(match (status.code(), status.signal()) {
        (Some(code), _) => byte(code),
        (None, signal) => 128u8.saturating_add(byte(signal.unwrap_or_default())),
    })
}

/// What starts a program that stands behind `--`, and ends it with us; also what that leaves behind, where the program
/// would be started again.
pub(crate) fn launcher(restart: Restart) -> std::process::Command {
    let mut command = std::process::Command::new("/proc/self/exe");
    command.arg0("ipreconnect").arg("launch");
    command.arg("--parent").arg(std::process::id().to_string());
    if let Some(restart) = restart.to_possible_value() {
        command.arg("--restart").arg(restart.get_name());
    }
    if let Some(Some(files)) = FILES.get() {
        command.arg("--files").arg(files.to_string());
    }
    command
}

impl Program {
    /// What people call it.
    pub(crate) fn name(&self) -> String {
        let first = self.command.first();
        first.map_or_else(String::new, |name| name.to_string_lossy().into_owned())
    }

    fn start(&self, restart: Restart) -> io::Result<Child> {
        let mut command = launcher(restart);
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

//! Between whoever runs a program and the program: one process that becomes it, and one that sees to its end.
//!
//! The latter is the parent of whatever the program leaves behind (`PR_SET_CHILD_SUBREAPER`), as a program's own
//! children are that it has started in the background, and that would go on having its port. Whoever runs it may be
//! killed: the kernel tells that here (`PR_SET_PDEATHSIG`), and the program is ended all the same.

use std::collections::BTreeSet;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use ipreconnect_ports::parent;
use rustix::process::{
    Pid, Resource, Rlimit, Signal, WaitOptions, getpid, getppid, getrlimit, kill_process,
    set_child_subreaper, set_parent_process_death_signal, setrlimit, wait,
};
use tokio::time::{sleep, timeout_at};

use super::signals::{Senders, Signals, is_in_our_group};
use super::{AGAIN, GRACE, Restart, byte, is_again_by, say};
use crate::args::Launch;
use crate::exit::Exit;

/// What a program has left behind is killed after this time, at least.
const LEFT: Duration = Duration::from_secs(3);
/// Between two looks whether it has ended.
const LOOK: Duration = Duration::from_millis(10);
/// A signal that is sent to all of a group has come to all of them by then.
const ALL: Duration = Duration::from_millis(50);

/// Becomes a program, or sees to one that does.
pub(crate) fn launch(launch: &Launch) -> Exit {
    // It ends with whoever has started it, however that ends.
    let _ = set_parent_process_death_signal(Some(Signal::TERM));
    let parent = getppid().map(Pid::as_raw_nonzero);
    if parent.is_none_or(|parent| parent.get() != launch.parent) {
        // That was before it could be asked for.
        return Exit::As(125);
    }
    if launch.itself {
        return become_it(launch);
    }
    // Where that is not permitted what a program leaves behind is nobody's.
    let _ = set_child_subreaper(Some(getpid()));
    match see_to(launch) {
        Ok(code) => Exit::As(code),
        Err(error) => {
            say(&format!(
                "error: {} cannot be started\n  caused by: {error}",
                name(launch)
            ));
            Exit::As(126)
        }
    }
}

fn name(launch: &Launch) -> String {
    let name = launch.command.first();
    name.map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}

/// Does not return, but for what is in the way.
fn become_it(launch: &Launch) -> Exit {
    let Some((program, arguments)) = launch.command.split_first() else {
        return Exit::Wrong;
    };
    let mut command = Command::new(program);
    command.args(arguments);
    if let Some(names) = &launch.sockets {
        command
            .env("LISTEN_PID", std::process::id().to_string())
            .env("LISTEN_FDS", names.split(':').count().to_string())
            .env("LISTEN_FDNAMES", names);
    }
    if let Some(files) = launch.files {
        // Programs that can have few descriptors alone (select(2)) go by what they are given.
        let limit = Rlimit {
            current: Some(files),
            ..getrlimit(Resource::Nofile)
        };
        let _ = setrlimit(Resource::Nofile, limit);
    }
    let error = command.exec();
    say(&format!(
        "error: {} cannot be started\n  caused by: {error}",
        program.to_string_lossy()
    ));
    match error.kind() {
        io::ErrorKind::NotFound => Exit::As(127),
        _ => Exit::As(126),
    }
}

/// A program while it runs.
struct Running {
    pid: Pid,
    /// It has been waited for: another process may have its number.
    is_over: Mutex<bool>,
    /// When it was told to end.
    ends: OnceLock<Instant>,
}

impl Running {
    fn over(&self) -> MutexGuard<'_, bool> {
        self.is_over.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn send(&self, signal: Signal) {
        let is_over = self.over();
        if !*is_over {
            let _ = kill_process(self.pid, signal);
        }
    }

    /// Whether what comes to our group comes to it.
    fn is_with_us(&self) -> bool {
        is_in_our_group(self.pid)
    }

    fn is_told(&self, senders: Senders) -> bool {
        (senders.terminal || senders.others) && self.is_with_us()
    }
}

/// Starts it, tells it what comes, and ends with it; returns its exit code, as a shell has it.
fn see_to(launch: &Launch) -> io::Result<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    Signals::of_parent(launch.parent);
    let entered = runtime.enter();
    let signals = Signals::new()?;
    drop(entered);
    let mut command = Command::new("/proc/self/exe");
    command.arg0("ipreconnect").args(["launch", "--itself"]);
    command.arg("--parent").arg(std::process::id().to_string());
    if let Some(names) = &launch.sockets {
        command.arg("--sockets").arg(names);
    }
    if let Some(files) = launch.files {
        command.arg("--files").arg(files.to_string());
    }
    let child = command.arg("--").args(&launch.command).spawn()?;
    let child = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let running = Arc::new(Running {
        pid: child.ok_or_else(|| io::Error::other("it has no number"))?,
        is_over: Mutex::default(),
        ends: OnceLock::new(),
    });
    let told = Arc::clone(&running);
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || runtime.block_on(tell(&told, signals)))?;
    let status = loop {
        match wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if pid == running.pid => break status,
            // Somebody whom it has left behind.
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    };
    *running.over() = true;
    let code = match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => byte(code),
        (None, signal) => 128u8.saturating_add(byte(signal.unwrap_or_default())),
    };
    let least = Instant::now() + LEFT;
    match running.ends.get() {
        // What it leaves behind has as much time as it had itself.
        Some(told) => clean(least.max(*told + GRACE)),
        None if is_again_by(launch.restart.unwrap_or(Restart::Never), i32::from(code)) => {
            clean(least);
        }
        None => {}
    }
    Ok(code)
}

/// Tells it what comes. It is killed where it does not listen to that it is to end, and where that is said again.
async fn tell(running: &Running, mut signals: Signals) {
    loop {
        let signal = signals.signal().await;
        let Some(senders) = all_of(&mut signals, signal).await else {
            continue;
        };
        if signal == Signal::TERM {
            break end(running, signals, senders).await;
        }
        if !running.is_told(senders) {
            running.send(signal);
        }
    }
}

/// All who have sent a signal that has come: it may come by several ways. None, if that was told before.
async fn all_of(signals: &mut Signals, signal: Signal) -> Option<Senders> {
    sleep(ALL).await;
    let senders = signals.senders(signal);
    (senders.terminal || senders.parent || senders.others).then_some(senders)
}

async fn end(running: &Running, mut signals: Signals, senders: Senders) {
    let began = *running.ends.get_or_init(Instant::now);
    if !running.is_told(senders) {
        running.send(Signal::TERM);
    }
    // Whoever has sent it to us alone meant the program.
    let mut is_alone = running.is_told(senders) && !senders.parent;
    let killed = loop {
        let at = began + if is_alone { AGAIN } else { GRACE };
        match timeout_at(at.into(), signals.signal()).await {
            Err(_) if is_alone => {
                running.send(Signal::TERM);
                is_alone = false;
            }
            Err(_) => break false,
            Ok(signal) => {
                let Some(senders) = all_of(&mut signals, signal).await else {
                    continue;
                };
                if signal != Signal::TERM {
                    if !running.is_told(senders) {
                        running.send(signal);
                    }
                } else if began.elapsed() >= AGAIN {
                    break true;
                }
            }
        }
    };
    if !killed && !*running.over() {
        say(&format!(
            "ipreconnect: it has not ended after {} s, and is killed",
            GRACE.as_secs()
        ));
    }
    running.send(Signal::KILL);
    std::future::pending::<()>().await;
}

/// Ends what it has left behind: by then at the latest it is killed.
fn clean(until: Instant) {
    let mut told = BTreeSet::new();
    while Instant::now() < until + LEFT {
        while let Ok(Some(_)) = wait(WaitOptions::NOHANG) {}
        let left = children();
        if left.is_empty() {
            return;
        }
        for pid in left {
            if Instant::now() >= until {
                let _ = kill_process(pid, Signal::KILL);
            } else if told.insert(pid.as_raw_nonzero()) {
                let _ = kill_process(pid, Signal::TERM);
            }
        }
        std::thread::sleep(LOOK);
    }
}

/// The processes that are ours to wait for.
fn children() -> Vec<Pid> {
    let own = Some(std::process::id());
    let all = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let own = pids.filter(|pid| parent(*pid) == own);
    own.filter_map(|pid| Pid::from_raw(i32::try_from(pid).ok()?))
        .collect()
}

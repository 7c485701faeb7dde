//! Between whoever runs a program and the program: one process that becomes it, and one that sees to its end.
//!
//! The latter is the parent of whatever the program leaves behind (`PR_SET_CHILD_SUBREAPER`), as a program's own
//! children are that it has started in the background, and that would go on having its port. Whoever runs it may be
//! killed: the kernel tells that here (`PR_SET_PDEATHSIG`), and the program is ended all the same.

use std::collections::BTreeSet;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use ipreconnect_ports::parent;
use rustix::process::{
    Pid, Resource, Rlimit, Signal, WaitOptions, WaitStatus, getpid, getppid, getrlimit,
    kill_process, set_child_subreaper, set_parent_process_death_signal, setrlimit, wait,
};
use tokio::time::sleep;

use super::signals::{Came, Signals};
use super::{AGAIN, GRACE, byte, say};
use crate::args::Launch;
use crate::exit::Exit;

/// What a program has left behind is killed after this time.
const LEFT: Duration = Duration::from_secs(3);
/// Between two looks whether it has ended.
const LOOK: Duration = Duration::from_millis(10);

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
        Ok(status) => Exit::As(match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => byte(code),
            (None, signal) => 128u8.saturating_add(byte(signal.unwrap_or_default())),
        }),
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

/// Starts it, tells it what comes, and ends with it.
fn see_to(launch: &Launch) -> io::Result<WaitStatus> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
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
    let child = child.ok_or_else(|| io::Error::other("it has no number"))?;
    let is_to_end = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&is_to_end);
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || runtime.block_on(tell(child, signals, &told)))?;
    let status = loop {
        match wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if pid == child => break status,
            // Somebody whom it has left behind.
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    };
    if launch.clean || is_to_end.load(Relaxed) {
        clean();
    }
    Ok(status)
}

/// Tells it what comes. It is killed where it does not listen to that it is to end, and where that is said again.
async fn tell(child: Pid, mut signals: Signals, is_to_end: &AtomicBool) {
    let send = |signal| {
        // It may have ended by now: nobody else has its number before that is waited for.
        let _ = kill_process(child, signal);
    };
    loop {
        match signals.next().await {
            Came::Said { is_told: true, .. } => {}
            Came::Said { signal, .. } => send(signal),
            Came::End => break,
        }
    }
    is_to_end.store(true, Relaxed);
    send(Signal::TERM);
    let began = Instant::now();
    tokio::select! {
        () = sleep(GRACE) => {
            say(&format!(
                "ipreconnect: it has not ended after {} s, and is killed",
                GRACE.as_secs()
            ));
        }
        // One that is sent to all of a group comes by several ways.
        () = async { while signals.next().await != Came::End || began.elapsed() < AGAIN {} } => {}
    }
    send(Signal::KILL);
    std::future::pending::<()>().await;
}

/// Ends what it has left behind.
fn clean() {
    let began = Instant::now();
    let mut told = BTreeSet::new();
    while began.elapsed() < LEFT * 2 {
        while let Ok(Some(_)) = wait(WaitOptions::NOHANG) {}
        let left = children();
        if left.is_empty() {
            return;
        }
        for pid in left {
            if began.elapsed() >= LEFT {
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

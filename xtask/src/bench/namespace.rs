//! Rounds in namespaces of their own.
//!
//! A round is a process of its own. Its network namespace has nothing but a loopback, so that ports
//! are free, packets can be dropped and no connection of an earlier round lingers; its process
//! namespace ends with it, and all it started too.

use std::fs;
use std::io;
use std::process::{Command, Stdio};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::frame::Outcome;
use super::origin::BACKLOG;
use super::peers;

/// Runs `xtask TASK ORDER` in network and process namespaces of its own; what it prints last is the
/// outcome.
pub(crate) fn in_namespaces<T: DeserializeOwned>(task: &str, order: &impl Serialize) -> Outcome<T> {
    ask(task, order).unwrap_or_else(|error| Outcome::Failed(error.to_string()))
}

fn ask<T: DeserializeOwned>(task: &str, order: &impl Serialize) -> io::Result<Outcome<T>> {
    let program = peers::released("xtask");
    let mut command = Command::new("unshare");
    if !rustix::process::geteuid().is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    let output = command
        .args([
            "--net",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
            "--",
        ])
        .arg(program)
        .arg(task)
        .arg(serde_json::to_string(order)?)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| io::Error::other(format!("unshare cannot be run: {error}")))?;
    let told = String::from_utf8_lossy(&output.stdout);
    let line = told.lines().last().unwrap_or_default();
    serde_json::from_str(line)
        .map_err(|_| io::Error::other("no network namespace can be made here (unshare failed)"))
}

/// A loopback that is up, long accept queues, and all descriptors that may be had.
pub(crate) fn prepare_namespace() -> io::Result<()> {
    let up = Command::new("ip")
        .args(["link", "set", "lo", "up"])
        .status()?;
    if !up.success() {
        return Err(io::Error::other("the loopback cannot be set up"));
    }
    fs::write("/proc/sys/net/core/somaxconn", BACKLOG.to_string())?;
    let most = getrlimit(Resource::Nofile).maximum;
    let limit = Rlimit {
        current: most,
        maximum: most,
    };
    Ok(setrlimit(Resource::Nofile, limit)?)
}

//! Processes of a round. They end with their owner.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use super::origin::READY;

/// Characters of a log that are told.
const TOLD: usize = 300;

/// A process that is killed when its owner drops it.
pub(crate) struct Process {
    child: Child,
}

impl Process {
    /// An origin on a port of 127.0.0.1; it listens when this returns.
    pub(crate) fn origin(port: u16, name: &str) -> io::Result<Self> {
        Self::origin_at((Ipv4Addr::LOCALHOST, port).into(), name)
    }

    /// An origin on an address; it listens when this returns.
    pub(crate) fn origin_at(address: SocketAddr, name: &str) -> io::Result<Self> {
        Self::server(&["origin", "--address", &address.to_string(), "--name", name])
    }

    /// An origin inside TLS, by the papers in a directory; it listens when this returns.
    pub(crate) fn tls_origin(port: u16, name: &str, papers: &Path) -> io::Result<Self> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port)).to_string();
        let papers = papers.display().to_string();
        Self::server(&[
            "origin",
            "--address",
            &address,
            "--name",
            name,
            "--tls",
            &papers,
        ])
    }

    /// A server of this program's own; it listens when this returns.
    pub(crate) fn server(arguments: &[&str]) -> io::Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let stdout = child.stdout.take();
        let origin = Self { child };
        let mut line = String::new();
        if let Some(stdout) = stdout {
            BufReader::new(stdout).read_line(&mut line)?;
        }
        match line.trim_end() {
            READY => Ok(origin),
            _ => Err(io::Error::other(format!(
                "the server {arguments:?} does not listen"
            ))),
        }
    }

    /// A proxy, whose output goes to `log`.
    pub(crate) fn proxy(command: &mut Command, log: &Path) -> io::Result<Self> {
        let output = File::create(log)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()?;
        Ok(Self { child })
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has ended by itself.
    pub(crate) fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// Kills it. When this returns its sockets are closed.
    pub(crate) fn kill(&mut self) -> io::Result<()> {
        self.child.kill()?;
        self.child.wait().map(drop)
    }

    pub(crate) fn stop(&self) -> io::Result<()> {
        self.signal(Signal::STOP)
    }

    pub(crate) fn go_on(&self) -> io::Result<()> {
        self.signal(Signal::CONT)
    }

    fn signal(&self, signal: Signal) -> io::Result<()> {
        Ok(kill_process(Pid::from_child(&self.child), signal)?)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // One that has ended already needs nothing.
        let _ = self.kill();
    }
}

/// The beginning of what a proxy said, on one line.
pub(crate) fn told(log: &PathBuf) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ").chars().take(TOLD).collect()
}

//! Processes of the benchmark: pinned, and ended with it.

use std::process::{Child, Command, Stdio};

use rustix::thread::{CpuSet, sched_setaffinity};

/// Which core a process gets.
#[derive(Clone, Copy)]
pub(super) enum Core {
    /// The proxy's own.
    Proxy,
    /// The one that origins and load share.
    Others,
}

/// A process that ends with this.
pub(super) struct Process(Child);

impl Process {
    /// Starts a command on its core.
    pub(super) fn start(command: &mut Command, core: Core) -> Result<Self, String> {
        let program = command.get_program().to_string_lossy().into_owned();
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = child.spawn().map_err(|error| format!("cannot start {program}: {error}"))?;
        pin(i32::try_from(child.id()).unwrap_or(0), core);
        Ok(Self(child))
    }

    /// Sends a signal by its name.
    pub(super) fn signal(&self, name: &str) -> Result<(), String> {
        run("kill", &[&format!("-{name}"), &self.0.id().to_string()])
    }

    /// Whether it ended by itself.
    pub(super) fn has_ended(&mut self) -> bool {
        self.0.try_wait().is_ok_and(|status| status.is_some())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // One that has ended already needs no end.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs a command to its end.
pub(super) fn run(program: &str, arguments: &[&str]) -> Result<(), String> {
    let output = Command::new(program).args(arguments).output();
    match output {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => {
            let words = String::from_utf8_lossy(&output.stderr).into_owned();
            Err(format!("{program} {arguments:?}: {}", words.trim()))
        }
        Err(error) => Err(format!("{program}: {error}")),
    }
}

/// Puts this process on the core of the load.
pub(super) fn pin_self() {
    pin(0, Core::Others);
}

/// With a single core everybody shares it.
fn pin(pid: i32, core: Core) {
    if std::thread::available_parallelism().map_or(1, usize::from) < 2 && pid != 0 {
        return;
    }
    let mut set = CpuSet::new();
    set.set(match core {
        Core::Proxy => 0,
        Core::Others => 1,
    });
    // A sandbox may forbid it; the table then says less about cost, and the same about recovery.
    let _ = sched_setaffinity(rustix::process::Pid::from_raw(pid), &set);
}

//! Which cores a round uses: the proxy has one for itself, origins and load have another.

use std::io;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Two cores, if there are two.
pub(crate) struct Cores {
    proxy: CpuSet,
    rest: CpuSet,
}

impl Cores {
    /// The first two that this process may use.
    pub(crate) fn split() -> io::Result<Self> {
        let allowed = sched_getaffinity(None)?;
        let cores: Vec<usize> = (0..CpuSet::MAX_CPU)
            .filter(|core| allowed.is_set(*core))
            .collect();
        let only = |core: usize| {
            let mut set = CpuSet::new();
            set.set(core);
            set
        };
        Ok(match cores.as_slice() {
            [first, second, ..] => Self {
                proxy: only(*first),
                rest: only(*second),
            },
            _ => Self {
                proxy: allowed,
                rest: allowed,
            },
        })
    }

    /// Puts this thread, and what it starts, on the core of origins and load.
    pub(crate) fn enter(&self) -> io::Result<()> {
        Ok(sched_setaffinity(None, &self.rest)?)
    }

    /// Does something on the core of the proxy. A process started there stays there, and sees one
    /// core only when it counts them.
    pub(crate) fn as_proxy<T>(&self, work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        sched_setaffinity(None, &self.proxy)?;
        let outcome = work();
        self.enter()?;
        outcome
    }
}

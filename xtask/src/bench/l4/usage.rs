//! What a proxy uses: processor time and memory of all its processes.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::time::Duration;

/// A proxy and everything it started.
pub(in crate::bench) struct Tree {
    root: u32,
}

impl Tree {
    pub(in crate::bench) fn of(root: u32) -> Self {
        Self { root }
    }

    /// Processor time of all threads so far (`/proc/PID/task/TID/schedstat`, in nanoseconds).
    pub(in crate::bench) fn cpu(&self) -> io::Result<Duration> {
        let mut total = Duration::ZERO;
        for pid in self.members()? {
            for task in fs::read_dir(format!("/proc/{pid}/task"))? {
                let text = fs::read_to_string(task?.path().join("schedstat"))?;
                let nanos = text.split(' ').next().and_then(|word| word.parse().ok());
                total += Duration::from_nanos(nanos.unwrap_or(0));
            }
        }
        Ok(total)
    }

    /// Private resident memory in bytes (`/proc/PID/smaps_rollup`).
    pub(in crate::bench) fn memory(&self) -> io::Result<u64> {
        let mut kibibytes = 0;
        for pid in self.members()? {
            let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
            kibibytes += text
                .lines()
                .filter(|line| line.starts_with("Private_"))
                .filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok())
                .sum::<u64>();
        }
        Ok(kibibytes * 1024)
    }

    fn members(&self) -> io::Result<BTreeSet<u32>> {
        let mut parents = Vec::new();
        for entry in fs::read_dir("/proc")? {
            let name = entry?.file_name();
            let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else {
                continue;
            };
            // A process may end while it is looked at.
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
            let parent = after_name.split_whitespace().nth(1);
            if let Some(parent) = parent.and_then(|word| word.parse::<u32>().ok()) {
                parents.push((pid, parent));
            }
        }
        let mut members = BTreeSet::from([self.root]);
        loop {
            let before = members.len();
            for (pid, parent) in &parents {
                if members.contains(parent) {
                    members.insert(*pid);
                }
            }
            if members.len() == before {
                return Ok(members);
            }
        }
    }
}

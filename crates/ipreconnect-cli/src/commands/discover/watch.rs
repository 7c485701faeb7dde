//! What a program and all that it has started connect to, for a while.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use ipreconnect::clock;
use ipreconnect::core::discover::Observed;
use ipreconnect_ports::{Scope, State, connections, look, owned_by, parent};

/// Between two looks at connections, and between two at who belongs to the program.
const LOOK: Duration = Duration::from_millis(100);
const FAMILY: Duration = Duration::from_secs(1);
/// Servers that are told apart.
const MOST: usize = 1000;
/// Processes whose environments are looked at, and those that are kept.
const PROCESSES: usize = 10_000;
const ENVIRONMENTS: usize = 64;
/// What shells set anew for whatever they start.
const OWN: [&str; 4] = ["_=", "SHLVL=", "PWD=", "OLDPWD="];

/// What was seen.
#[derive(Debug, Default)]
pub(super) struct Watched {
    pub(super) servers: BTreeMap<SocketAddr, Observed>,
    pub(super) lasted: Duration,
    /// The environments of the program and all that it has started, as far as they differ.
    pub(super) environments: Vec<Environment>,
}

/// What one process, or several, have in their environments.
#[derive(Debug)]
pub(super) struct Environment {
    /// The process in which it was seen first.
    pub(super) pid: u32,
    /// Others have it, too.
    pub(super) is_shared: bool,
    /// As `/proc/PID/environ` has it.
    pub(super) bytes: Vec<u8>,
    /// The same for all that differ in nothing that matters.
    hash: u64,
}

/// One watch.
pub(super) struct Watch {
    root: u32,
    began: Instant,
    family: HashSet<u32>,
    next_family: Instant,
    /// Ports on which somebody listens: who connects there is no server.
    listening: HashSet<u16>,
    /// By the inodes of sockets: whether it is the program's, and where it leads.
    known: HashMap<u64, Option<SocketAddr>>,
    /// What each process has in its environment, by its hash.
    environments: HashMap<u32, u64>,
    hasher: RandomState,
    watched: Watched,
}

impl Watch {
    pub(super) fn of(root: u32) -> Self {
        let now = clock::now();
        Self {
            root,
            began: now,
            family: HashSet::from([root]),
            next_family: now,
            listening: HashSet::new(),
            known: HashMap::new(),
            environments: HashMap::new(),
            hasher: RandomState::new(),
            watched: Watched::default(),
        }
    }

    /// Looks once, and says when to look again.
    ///
    /// # Errors
    /// If the kernel's table cannot be read.
    pub(super) fn look(&mut self) -> io::Result<Duration> {
        let now = clock::now();
        if now >= self.next_family {
            self.next_family = now + FAMILY;
            self.know_family();
            let seen = look(Scope::All)?;
            self.listening = seen
                .listening
                .iter()
                .map(|one| one.address.port())
                .collect();
        }
        let mut there: HashMap<u64, SocketAddr> = HashMap::new();
        connections(|one| {
            let is_out = !self.listening.contains(&one.local.port())
                || self.listening.contains(&one.remote.port());
            if let (Some(inode), true) = (one.inode, is_out && one.state != State::TimeWait) {
                there.insert(inode, one.remote);
            }
        })?;
        let at = now.saturating_duration_since(self.began);
        self.know_new(&there, at);
        let gone: Vec<u64> = self
            .known
            .keys()
            .filter(|inode| !there.contains_key(inode))
            .copied()
            .collect();
        for inode in gone {
            if let Some(Some(remote)) = self.known.remove(&inode)
                && let Some(observed) = self.watched.servers.get_mut(&remote)
            {
                observed.ended(at);
            }
        }
        Ok(LOOK)
    }

    fn know_new(&mut self, there: &HashMap<u64, SocketAddr>, at: Duration) {
        let fresh: HashSet<u64> = there
            .keys()
            .filter(|inode| !self.known.contains_key(inode))
            .copied()
            .collect();
        if fresh.is_empty() {
            return;
        }
        // Who has opened them may have been started since.
        self.know_family();
        let mut own = HashSet::new();
        for pid in &self.family {
            own.extend(owned_by(*pid, &fresh));
        }
        for inode in fresh {
            let remote = there.get(&inode).copied().filter(|_| own.contains(&inode));
            self.known.insert(inode, remote);
            if let Some(remote) = remote
                && (self.watched.servers.len() < MOST || self.watched.servers.contains_key(&remote))
            {
                self.watched.servers.entry(remote).or_default().opened(at);
            }
        }
    }

    /// The program, and whatever it has started that is there.
    fn know_family(&mut self) {
        let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
        for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
            let Some(pid) = entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse().ok())
            else {
                continue;
            };
            if let Some(parent) = parent(pid) {
                children.entry(parent).or_default().push(pid);
            }
        }
        let mut open = vec![self.root];
        while let Some(pid) = open.pop() {
            if self.family.insert(pid) || pid == self.root {
                // What was seen before it was known whose it is is looked at again.
                self.known.retain(|_, remote| remote.is_some());
            }
            self.know_environment(pid);
            open.extend(children.remove(&pid).unwrap_or_default());
        }
    }

    /// What it has in its environment now: a script may become another program, with more of it.
    fn know_environment(&mut self, pid: u32) {
        let Ok(bytes) = std::fs::read(format!("/proc/{pid}/environ")) else {
            return;
        };
        let mut entries: Vec<&[u8]> = bytes.split(|byte| *byte == 0).collect();
        entries.retain(|entry| !OWN.iter().any(|own| entry.starts_with(own.as_bytes())));
        let hash = self.hasher.hash_one(&entries);
        let has_room = self.environments.len() < PROCESSES || self.environments.contains_key(&pid);
        if bytes.is_empty() || !has_room || self.environments.insert(pid, hash) == Some(hash) {
            return;
        }
        let all = &mut self.watched.environments;
        if let Some(same) = all.iter_mut().find(|one| one.hash == hash) {
            same.is_shared |= same.pid != pid;
            return;
        }
        let environment = Environment {
            pid,
            is_shared: false,
            bytes,
            hash,
        };
        let has_room = all.len() < ENVIRONMENTS;
        match all.iter_mut().find(|one| one.pid == pid && !one.is_shared) {
            Some(before) => *before = environment,
            None if has_room => all.push(environment),
            None => {}
        }
    }

    /// Whether the program is there.
    pub(super) fn is_there(&self) -> bool {
        parent(self.root).is_some()
    }

    /// What was seen.
    pub(super) fn end(mut self) -> Watched {
        self.watched.lasted = clock::now().saturating_duration_since(self.began);
        self.watched
    }
}

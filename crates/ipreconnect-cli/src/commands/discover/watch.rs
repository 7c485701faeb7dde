//! What a program and all that it has started connect to, for a while.

use std::collections::{BTreeMap, HashMap, HashSet};
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

/// What was seen.
#[derive(Debug, Default)]
pub(super) struct Watched {
    pub(super) servers: BTreeMap<SocketAddr, Observed>,
    pub(super) lasted: Duration,
    /// The environments of the program and all that it has started.
    pub(super) environments: Vec<(u32, Vec<u8>)>,
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
        let environments = &mut self.watched.environments;
        let has_room = environments.len() < 64;
        let known = environments.iter_mut().find(|(known, _)| *known == pid);
        match known {
            _ if bytes.is_empty() => {}
            Some((_, known)) if *known != bytes => *known = bytes,
            Some(_) => {}
            None if has_room => environments.push((pid, bytes)),
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

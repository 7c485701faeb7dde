//! Network namespaces (network_namespaces(7)): which there are, and what their sockets are.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::inventory::Reach;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Where `ip netns` and Docker keep names for theirs.
const NAMED: [&str; 2] = ["/run/netns", "/run/docker/netns"];
/// Namespaces that are looked into at most.
const MOST: usize = 1024;

/// A network namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespace {
    /// Its inode, by which the kernel knows it.
    pub inode: u64,
    /// What `ip netns` or Docker calls it, if they do.
    pub name: Option<String>,
    /// One of its processes, if it has one.
    pub pid: Option<u32>,
    /// Whether it is ours.
    pub is_own: bool,
    /// What leads into it.
    path: PathBuf,
}

/// The network namespaces of these processes, and those that have names if all are meant; ours first.
pub(crate) fn namespaces(reach: Reach, processes: &[u32]) -> Vec<Namespace> {
    let own_path = PathBuf::from("/proc/self/ns/net");
    let Some(own) = inode(&own_path) else {
        return Vec::new();
    };
    let mut found = BTreeMap::new();
    for pid in processes {
        // Of another user's process it can only be read by root.
        let path = PathBuf::from(format!("/proc/{pid}/ns/net"));
        if let Some(inode) = linked(&path) {
            found.entry(inode).or_insert((None, Some(*pid), path));
        }
    }
    let named = if reach == Reach::All { &NAMED[..] } else { &[] };
    for directory in named {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if let Some(inode) = inode(&entry.path()) {
                let one = found.entry(inode).or_insert((None, None, entry.path()));
                one.0.get_or_insert(name);
            }
        }
    }
    found.entry(own).or_insert((None, None, own_path));
    let mut all: Vec<Namespace> = found
        .into_iter()
        .map(|(inode, (name, pid, path))| Namespace {
            inode,
            name,
            pid,
            is_own: inode == own,
            path,
        })
        .collect();
    all.sort_by_key(|one| !one.is_own);
    all.truncate(MOST);
    all
}

/// The inode that a link as `net:[4026531833]` leads to.
fn linked(path: &Path) -> Option<u64> {
    let target = fs::read_link(path).ok()?;
    let number = target.to_str()?.strip_prefix("net:[")?.strip_suffix(']')?;
    number.parse().ok()
}

fn inode(path: &Path) -> Option<u64> {
    Some(fs::metadata(path).ok()?.ino())
}

impl Namespace {
    /// Does some work inside, on a thread of its own, which ends with it.
    ///
    /// # Errors
    /// If it is not there any more, if entering it is not permitted, and those of the work.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
        if self.is_own {
            return work();
        }
        let inside = File::open(&self.path)?;
        // What it was is what is meant, and not what its path leads to by now.
        if inside.metadata()?.ino() != self.inode {
            return Err(io::ErrorKind::NotFound.into());
        }
        std::thread::scope(|scope| {
            let working = scope.spawn(move || {
                move_into_link_name_space(inside.as_fd(), Some(LinkNameSpaceType::Network))?;
                work()
            });
            let worked = working.join();
            worked.unwrap_or_else(|_| Err(io::Error::other("the thread inside has ended")))
        })
    }
}

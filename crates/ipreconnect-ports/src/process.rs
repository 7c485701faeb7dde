//! Processes, as `/proc` shows them (proc(5)).

use std::collections::BTreeMap;
use std::fs;

use crate::holder::Process;

/// Processes looked through at most.
const PROCESSES: usize = 65_536;
/// Descriptors of one process looked through at most.
const DESCRIPTORS: usize = 65_536;

/// Which processes have the sockets with these inodes open, as far as their descriptors can be read.
pub(crate) fn owners(inodes: &[u64]) -> BTreeMap<u64, Process> {
    let mut owners = BTreeMap::new();
    let Ok(processes) = fs::read_dir("/proc") else {
        return owners;
    };
    let pids = processes
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    for pid in pids.take(PROCESSES) {
        if owners.len() == inodes.len() {
            break;
        }
        for inode in sockets_of(pid).filter(|inode| inodes.contains(inode)) {
            owners.entry(inode).or_insert_with(|| Process {
                pid,
                name: name(pid),
            });
        }
    }
    owners
}

fn sockets_of(pid: u32) -> impl Iterator<Item = u64> {
    // A process that ended meanwhile, or belongs to another user, shows nothing.
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd"))
        .into_iter()
        .flatten();
    descriptors.flatten().take(DESCRIPTORS).filter_map(|entry| {
        let target = fs::read_link(entry.path()).ok()?;
        inode(target.to_str()?)
    })
}

/// The inode of `socket:[4711]`.
fn inode(target: &str) -> Option<u64> {
    target
        .strip_prefix("socket:[")?
        .strip_suffix(']')?
        .parse()
        .ok()
}

fn name(pid: u32) -> String {
    let comm = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    let shown: String = comm
        .trim_end()
        .chars()
        .filter(|c| !c.is_control())
        .collect();
    if shown.is_empty() {
        "?".to_owned()
    } else {
        shown
    }
}

/// The name of a user by `/etc/passwd`.
pub(crate) fn user_name(uid: u32) -> Option<String> {
    let passwd = fs::read("/etc/passwd").ok()?;
    user_in(&String::from_utf8_lossy(&passwd), uid)
}

/// The number behind a name, in a file as `/etc/passwd` or `/etc/group` is.
pub(crate) fn id_in(file: &str, name: &str) -> Option<u32> {
    let text = fs::read(file).ok()?;
    String::from_utf8_lossy(&text).lines().find_map(|line| {
        let mut fields = line.split(':');
        let found = fields.next()? == name;
        let number = fields.nth(1)?.parse().ok()?;
        found.then_some(number)
    })
}

fn user_in(passwd: &str, uid: u32) -> Option<String> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let number: u32 = fields.nth(1)?.parse().ok()?;
        (number == uid).then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_and_users_are_parsed() {
        assert_eq!(inode("socket:[4711]"), Some(4711));
        assert_eq!(inode("pipe:[4711]"), None);
        assert_eq!(inode("socket:[]"), None);
        let passwd = "root:x:0:0:root:/root:/bin/sh\nbroken\nwww-data:x:33:33::/:/bin/false\n";
        assert_eq!(user_in(passwd, 33).as_deref(), Some("www-data"));
        assert_eq!(user_in(passwd, 34), None);
    }
}

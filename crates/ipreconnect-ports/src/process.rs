//! Whose sockets are, by name: processes as `/proc` shows them (proc(5)), and users.

use std::collections::{BTreeMap, HashSet};
use std::fs;

use crate::holder::Process;
use crate::scan;

/// A process that has each of the sockets with these inodes open, as far as that can be seen.
pub(crate) fn owners(inodes: &[u64]) -> BTreeMap<u64, Process> {
    let wanted: HashSet<u64> = inodes.iter().copied().collect();
    if wanted.is_empty() {
        return BTreeMap::new();
    }
    let owners = scan::owners(&scan::processes(), &wanted);
    let first = wanted.iter().filter_map(|inode| {
        let pid = owners.of(*inode).next()?;
        let name = owners
            .programs
            .get(&pid)
            .map_or("?", |program| &program.name);
        let name = name.to_owned();
        Some((*inode, Process { pid, name }))
    });
    first.collect()
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
    fn users_are_parsed() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nbroken\nwww-data:x:33:33::/:/bin/false\n";
        assert_eq!(user_in(passwd, 33).as_deref(), Some("www-data"));
        assert_eq!(user_in(passwd, 34), None);
    }
}

//! Network namespaces (network_namespaces(7)): which there are, and what their sockets are.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use ipreconnect_core::ports::group;
use rustix::fs::{OFlags, fstatfs};
use rustix::thread::{
    CapabilitySet, CapabilitySets, LinkNameSpaceType, capabilities, move_into_link_name_space,
    set_capabilities,
};

use crate::inventory::Reach;
use crate::program::{parent, shown};
use crate::scan::processes;

/// What file systems of namespaces say that they are (`linux/magic.h`).
const NSFS: u64 = 0x6e73_6673;
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
    // Without it nothing tells ours from others: it is the only one then.
    let own = inode(&own_path).unwrap_or_default();
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
            let name = shown(&entry.file_name().to_string_lossy());
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
    Some(open(path).ok()?.metadata().ok()?.ino())
}

/// Opens what leads into a namespace. Other files may lie where those are; none of them is waited for.
fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(i32::try_from(flags.bits()).unwrap_or_default())
        .open(path)?;
    match fstatfs(&file)?.f_type.cast_unsigned() {
        NSFS => Ok(file),
        _ => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "this is no namespace",
        )),
    }
}

/// Where a network namespace is looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Inside {
    /// That of a process.
    Pid(u32),
    /// One that `ip netns` or Docker has a name for.
    Name(String),
    /// What a file leads to.
    Path(PathBuf),
    /// That of a container, by its number, the beginning of it, or its name.
    Container(String),
}

/// Why a text does not say where a namespace is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InsideError {
    /// It begins with no word that is known.
    Kind,
    /// The number of the process is none.
    Pid,
    /// The name is none.
    Name,
}

impl fmt::Display for InsideError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kind => "it is written pid:4711, name:blue, container:3f2a9c11, or as a path",
            Self::Pid => "a process has a number from 1 on",
            Self::Name => "this is no name",
        })
    }
}

impl std::error::Error for InsideError {}

impl FromStr for Inside {
    type Err = InsideError;

    fn from_str(text: &str) -> Result<Self, InsideError> {
        let is_name = |name: &str| {
            !name.is_empty()
                && !name.starts_with('.')
                && !name.contains(|one: char| one == '/' || one.is_control())
        };
        if let Some(pid) = text.strip_prefix("pid:") {
            let pid: Option<u32> = pid.parse().ok();
            let pid = pid.filter(|pid| *pid > 0);
            return pid.map(Self::Pid).ok_or(InsideError::Pid);
        }
        if let Some(name) = text.strip_prefix("name:") {
            let name = Some(name).filter(|name| is_name(name));
            return name
                .map(|name| Self::Name(name.to_owned()))
                .ok_or(InsideError::Name);
        }
        if let Some(container) = text.strip_prefix("container:") {
            let name = Some(container).filter(|name| is_name(name));
            return name
                .map(|name| Self::Container(name.to_owned()))
                .ok_or(InsideError::Name);
        }
        match text.starts_with('/') {
            true => Ok(Self::Path(text.into())),
            false => Err(InsideError::Kind),
        }
    }
}

impl fmt::Display for Inside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pid(pid) => write!(f, "pid:{pid}"),
            Self::Name(name) => write!(f, "name:{name}"),
            Self::Path(path) => path.display().fmt(f),
            Self::Container(id) => write!(f, "container:{id}"),
        }
    }
}

impl Inside {
    /// The namespace that is there now. `before` is the one that was found there last: where that is there still,
    /// nothing else is looked at.
    ///
    /// # Errors
    /// If there is none, or who asks may not see it: processes of other users are root's to look at.
    pub fn find(&self, before: Option<&Namespace>) -> io::Result<Namespace> {
        // Where processes of more rights than ours are looked at it decides.
        let _admin = Admin::taken_up();
        if let Some(before) = before
            && inode(&before.path) == Some(before.inode)
        {
            return Ok(before.clone());
        }
        let not_there = |why: String| io::Error::new(io::ErrorKind::NotFound, why);
        match self {
            Self::Pid(pid) => Namespace::at(format!("/proc/{pid}/ns/net").into(), Some(*pid)),
            Self::Path(path) => Namespace::at(path.clone(), None),
            Self::Name(name) => {
                let mut places = NAMED.iter().map(|place| Path::new(place).join(name));
                let found = places.find(|path| path.exists());
                let path = found.ok_or_else(|| not_there(format!("nothing is called {name}")))?;
                Namespace::at(path, None)
            }
            Self::Container(id) => of_container(id),
        }
    }
}

/// The namespace of a container. Its processes may make further ones, which are not meant: that of those counts that
/// somebody outside of it has started.
fn of_container(id: &str) -> io::Result<Namespace> {
    let (mut members, mut claims) = (BTreeSet::new(), false);
    for pid in processes() {
        match belongs(pid, id) {
            Belongs::Yes => drop(members.insert(pid)),
            Belongs::Claims => claims = true,
            Belongs::No => {}
        }
    }
    let from_outside = members
        .iter()
        .filter(|pid| parent(**pid).is_none_or(|parent| !members.contains(&parent)));
    let (mut found, mut failed) = (BTreeMap::new(), None);
    for pid in from_outside {
        match Namespace::at(format!("/proc/{pid}/ns/net").into(), Some(*pid)) {
            Ok(namespace) => drop(found.insert(namespace.inode, namespace)),
            Err(error) => failed = Some(error),
        }
    }
    if found.len() > 1 {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!(
                "what is called container {id} is in several network namespaces: write more of its number, or pid:N"
            ),
        ));
    }
    let why = match (failed, claims) {
        (Some(error), _) if error.kind() != io::ErrorKind::NotFound => error,
        (_, true) => io::Error::new(
            io::ErrorKind::NotFound,
            format!(
                "what calls itself container {id} is in a control group that does not belong to root: write pid:N if it is meant"
            ),
        ),
        (_, false) => io::Error::new(
            io::ErrorKind::NotFound,
            format!("no process runs in container {id}"),
        ),
    };
    found.into_values().next().ok_or(why)
}

/// Whether a process is of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Belongs {
    No,
    /// By a control group that anybody may have made.
    Claims,
    Yes,
}

/// Whether a process belongs to a container: by its name, or by a number of which either may have the beginning.
fn belongs(pid: u32, id: &str) -> Belongs {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    let mut found = Belongs::No;
    for line in text.lines() {
        match above(line, id).map(|place| is_root_only(&place)) {
            Some(true) => return Belongs::Yes,
            Some(false) => found = Belongs::Claims,
            None => {}
        }
    }
    found
}

/// The control group below which that of the container is, by a line of `/proc/PID/cgroup`: its controllers and its path.
fn above<'l>(line: &'l str, id: &str) -> Option<(&'l str, &'l str)> {
    let is_number = |text: &str| text.len() >= 6 && text.bytes().all(|one| one.is_ascii_hexdigit());
    let is_meant = |container: &str| {
        container == id
            || (is_number(id) && is_number(container))
                && (container.starts_with(id) || id.starts_with(container))
    };
    let mut parts = line.splitn(3, ':').skip(1);
    let (controllers, path) = (parts.next()?, parts.next()?);
    let ends = path
        .match_indices('/')
        .map(|(at, _)| at)
        .skip(1)
        .chain([path.len()]);
    let mut ends = ends.filter_map(|end| path.get(..end));
    let own = ends.find(|path| {
        let container = group(&format!("0::{path}")).container;
        container.is_some_and(|container| is_meant(&container))
    })?;
    Some((controllers, own.rsplit_once('/')?.0))
}

/// Whether nobody but root can make control groups there.
fn is_root_only((controllers, path): &(&str, &str)) -> bool {
    let places = match controllers.strip_prefix("name=").unwrap_or(controllers) {
        "" => vec!["", "unified"],
        controllers => vec![controllers],
    };
    let mut places = places.into_iter().map(|place| {
        let root = Path::new("/sys/fs/cgroup").join(place);
        root.join(path.trim_start_matches('/'))
    });
    places.any(|place| fs::metadata(place).is_ok_and(|found| found.uid() == 0))
}

impl Namespace {
    fn at(path: PathBuf, pid: Option<u32>) -> io::Result<Self> {
        let inode = open(&path)?.metadata()?.ino();
        Ok(Self {
            inode,
            name: None,
            pid,
            is_own: self::inode(Path::new("/proc/self/ns/net")) == Some(inode),
            path,
        })
    }

    /// Does some work inside, on a thread of its own, which ends with it.
    ///
    /// # Errors
    /// If it is not there any more, if entering it is not permitted, and those of the work.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
        if self.is_own {
            return work();
        }
        let inside = {
            let _admin = Admin::taken_up();
            open(&self.path)?
        };
        // What it was is what is meant, and not what its path leads to by now.
        if inside.metadata()?.ino() != self.inode {
            return Err(io::ErrorKind::NotFound.into());
        }
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().name("inside".to_owned());
            let working = thread.spawn_scoped(scope, move || {
                let _admin = Admin::taken_up();
                move_into_link_name_space(inside.as_fd(), Some(LinkNameSpaceType::Network))?;
                work()
            })?;
            let worked = working.join();
            worked.unwrap_or_else(|_| Err(io::Error::other("the thread inside has ended")))
        })
    }
}

/// This thread, and those that it starts from now on, do without `CAP_SYS_ADMIN` (capabilities(7)): only who goes inside
/// a namespace takes it up again, for as long as that lasts. Does nothing without `CAP_SYS_PTRACE`: there processes that
/// have it are shown only to those who have it, too (ptrace(2)).
pub fn do_without_admin() {
    let may_look = |sets: CapabilitySets| sets.effective.contains(CapabilitySet::SYS_PTRACE);
    if capabilities(None).is_ok_and(may_look) {
        let _ = have_admin(false);
    }
}

/// What this thread may do, until dropped, if it may do it at all.
struct Admin(Option<CapabilitySets>);

impl Admin {
    fn taken_up() -> Self {
        Self(have_admin(true))
    }
}

impl Drop for Admin {
    fn drop(&mut self) {
        if let Some(before) = self.0 {
            let _ = set_capabilities(None, before);
        }
    }
}

/// Returns what was before, if that was otherwise.
fn have_admin(is_wanted: bool) -> Option<CapabilitySets> {
    let before = capabilities(None).ok()?;
    let mut after = before;
    let admin = before.permitted & CapabilitySet::SYS_ADMIN;
    after.effective.set(admin, is_wanted);
    // Where it cannot be changed what needs it tells so.
    (after != before && set_capabilities(None, after).is_ok()).then_some(before)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_group_above_that_of_a_container_is_found() {
        let id = "4f5c".repeat(16);
        for (line, wanted) in [
            (
                format!("4:memory:/docker/{id}"),
                Some(("memory", "/docker")),
            ),
            (
                format!("0::/system.slice/docker-{id}.scope/init"),
                Some(("", "/system.slice")),
            ),
            (
                format!("0::/user.slice/user@1000.service/libpod-{id}.scope"),
                Some(("", "/user.slice/user@1000.service")),
            ),
            (format!("1:name=systemd:/{id}"), Some(("name=systemd", ""))),
            (format!("0::/docker/{}", "1".repeat(64)), None),
            ("0::/".to_owned(), None),
            ("0".to_owned(), None),
        ] {
            assert_eq!(above(&line, &id[..12]), wanted, "{line}");
            assert_eq!(above(&line, &id), wanted, "{line}");
        }
        assert!(!is_root_only(&("", "/there/is/none")));
    }
}

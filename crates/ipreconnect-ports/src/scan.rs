//! Which processes have which sockets open, by `/proc` (proc(5)).

use std::collections::{BTreeMap, HashSet};
use std::ffi::CStr;
use std::fmt::Write as _;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags, RawDir, fstat, openat, readlinkat_raw};
use rustix::io::Errno;

use crate::program::{Program, booted, look_at};

/// Processes looked through at most.
const PROCESSES: usize = 1 << 20;
/// Descriptors of one process looked through at most.
const DESCRIPTORS: usize = 1 << 20;
/// Threads that look, where there are so many cores.
const THREADS: usize = 4;
/// So few are looked through by one thread.
const FEW: usize = 64;
/// Where so many numbers of descriptors are free the others are listed.
const GAPS: u64 = 2;
/// Room for entries of a directory.
const ENTRIES: usize = 32 * 1024;

/// What was found, and what could not be looked at.
#[derive(Debug, Default)]
pub(crate) struct Owners {
    /// The inodes of sockets, each with a process that has it open; in order.
    pairs: Vec<(u64, u32)>,
    /// What those are.
    pub(crate) programs: BTreeMap<u32, Program>,
    /// Processes whose descriptors are not for us to see.
    pub(crate) hidden: usize,
}

impl Owners {
    /// The processes that have a socket open, in the order of their numbers.
    pub(crate) fn of(&self, inode: u64) -> impl Iterator<Item = u32> + '_ {
        let from = self.pairs.partition_point(|(other, _)| *other < inode);
        let pairs = self.pairs.iter().skip(from);
        let own = pairs.take_while(move |(other, _)| *other == inode);
        own.map(|(_, pid)| *pid)
    }
}

/// The numbers of all processes.
pub(crate) fn processes() -> Vec<u32> {
    let mut found = Vec::new();
    if let Some(proc) = open_proc() {
        each_name(&proc, &mut room(), PROCESSES, |name| {
            found.extend(number(name.to_bytes()).and_then(|pid| u32::try_from(pid).ok()));
        });
    }
    found
}

/// Which of these processes have which of these sockets open.
pub(crate) fn owners(processes: &[u32], wanted: &HashSet<u64>) -> Owners {
    if wanted.is_empty() {
        return Owners::default();
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = cores.min(THREADS).min(processes.len().div_ceil(FEW)).max(1);
    let part = processes.len().div_ceil(threads).max(1);
    let mut all = Owners::default();
    std::thread::scope(|scope| {
        let looking: Vec<_> = processes
            .chunks(part)
            .map(|part| {
                let thread = std::thread::Builder::new().name("processes".to_owned());
                // Where there can be no more threads, this one looks.
                let begun = thread.spawn_scoped(scope, || look(part, wanted));
                begun.map_err(|_| look(part, wanted))
            })
            .collect();
        let looked = looking.into_iter().filter_map(|one| match one {
            Ok(thread) => thread.join().ok(),
            Err(looked) => Some(looked),
        });
        for looked in looked {
            all.hidden += looked.hidden;
            all.programs.extend(looked.programs);
            all.pairs.extend(looked.pairs);
        }
    });
    all.pairs.sort_unstable();
    // A socket that is open twice in a process is one.
    all.pairs.dedup();
    all
}

fn look(processes: &[u32], wanted: &HashSet<u64>) -> Owners {
    let mut found = Owners::default();
    let Some(proc) = open_proc() else {
        return found;
    };
    let booted = booted();
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut room = room();
    for pid in processes {
        let directory = match openat(&proc, format!("{pid}/fd"), flags, Mode::empty()) {
            Ok(directory) => directory,
            Err(Errno::ACCESS | Errno::PERM) => {
                found.hidden += 1;
                continue;
            }
            // It has ended meanwhile.
            Err(_) => continue,
        };
        let before = found.pairs.len();
        sockets(&directory, &mut room, |inode| {
            if wanted.contains(&inode) {
                found.pairs.push((inode, *pid));
            }
        });
        // What lies beside is of that very process, even if another one has its number by now. One that ends at this
        // moment is told by its number alone.
        if found.pairs.len() > before
            && let Some(program) = look_at(*pid, (&directory, "../"), booted)
        {
            found.programs.insert(*pid, program);
        }
    }
    found
}

/// Room for entries of a directory. It is kept over many of them: given back it would be made empty again each time.
fn room() -> Vec<u8> {
    Vec::with_capacity(ENTRIES)
}

fn open_proc() -> Option<OwnedFd> {
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open("/proc", flags, Mode::empty()).ok()
}

/// The inodes of the sockets that a process has open.
fn sockets(directory: &OwnedFd, room: &mut Vec<u8>, mut each: impl FnMut(u64)) {
    let Some(from) = asked_one_by_one(directory, &mut each) else {
        return;
    };
    each_name(directory, room, DESCRIPTORS, |name| {
        if number(name.to_bytes()).is_some_and(|number| number >= from) {
            let _ = ask(directory, name, &mut each);
        }
    });
}

/// The same without a list of them: the numbers of descriptors are the least that are free (open(2)), so that they mostly
/// follow each other, and the kernel says how many there are (since Linux 6.2, as the size of the directory). Returns
/// from which number on they are to be listed, if not all were found so.
fn asked_one_by_one(directory: &OwnedFd, each: &mut impl FnMut(u64)) -> Option<u64> {
    let size = fstat(directory).map_or(0, |found| found.st_size);
    let open = u64::try_from(size).unwrap_or_default();
    let (mut found, mut missing) = (0, 0);
    let mut name = String::new();
    while found < open && missing < GAPS && found < DESCRIPTORS as u64 {
        name.clear();
        // Nothing can fail: it is written to memory.
        let _ = write!(name, "{}\0", found + missing);
        let name = CStr::from_bytes_with_nul(name.as_bytes()).unwrap_or_default();
        match ask(directory, name, each) {
            Err(Errno::NOENT) => missing += 1,
            _ => found += 1,
        }
    }
    (open == 0 || found < open).then_some(found + missing)
}

fn ask(directory: &OwnedFd, name: &CStr, each: &mut impl FnMut(u64)) -> Result<(), Errno> {
    let mut room = [MaybeUninit::<u8>::uninit(); 40];
    // A descriptor that is closed meanwhile leads nowhere.
    let (target, _) = readlinkat_raw(directory, name, &mut room[..])?;
    if let Some(inode) = socket(target) {
        each(inode);
    }
    Ok(())
}

fn each_name(directory: &OwnedFd, room: &mut Vec<u8>, most: usize, mut each: impl FnMut(&CStr)) {
    let mut entries = RawDir::new(directory, room.spare_capacity_mut());
    let mut count = 0;
    // What cannot be read any more has ended.
    while let Some(Ok(entry)) = entries.next() {
        count += 1;
        if count > most {
            return;
        }
        each(entry.file_name());
    }
}

/// The inode of `socket:[4711]`.
fn socket(target: &[u8]) -> Option<u64> {
    let number_of = target.strip_prefix(b"socket:[")?.strip_suffix(b"]")?;
    number(number_of)
}

fn number(text: &[u8]) -> Option<u64> {
    let is_number = !text.is_empty() && text.len() < 20 && text.iter().all(u8::is_ascii_digit);
    is_number.then(|| {
        let digits = text.iter().map(|digit| u64::from(digit - b'0'));
        digits.fold(0, |number, digit| number * 10 + digit)
    })
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn links_of_sockets_are_read() {
        assert_eq!(socket(b"socket:[4711]"), Some(4711));
        for other in [
            &b"pipe:[4711]"[..],
            b"socket:[]",
            b"socket:[4711",
            b"socket:[-1]",
            b"socket:[99999999999999999999]",
            b"/dev/null",
            b"",
        ] {
            assert_eq!(socket(other), None);
        }
    }

    #[test]
    fn our_own_sockets_are_ours() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let twice = listener.try_clone().unwrap();
        let inode = rustix::fs::fstat(listener.as_fd()).unwrap().st_ino;
        let all = processes();
        assert!(all.contains(&std::process::id()));
        let found = owners(&all, &HashSet::from([inode]));
        assert_eq!(found.of(inode).collect::<Vec<_>>(), [std::process::id()]);
        assert_eq!(found.of(inode + 1).count(), 0);
        // Also under a number that is far from the others.
        let far = rustix::io::fcntl_dupfd_cloexec(&listener, 900).unwrap();
        drop((listener, twice));
        let found = owners(&all, &HashSet::from([inode]));
        assert_eq!(found.of(inode).collect::<Vec<_>>(), [std::process::id()]);
        drop(far);
        assert!(owners(&all, &HashSet::from([inode])).pairs.is_empty());
        assert!(
            owners(&[u32::MAX, 0], &HashSet::from([inode]))
                .pairs
                .is_empty()
        );
    }
}

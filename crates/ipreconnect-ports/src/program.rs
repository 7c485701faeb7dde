//! What a process is (proc(5)).

use std::ffi::OsStr;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use ipreconnect_core::ports::{Group, group};
use rustix::fs::{Mode, OFlags, openat, readlinkat};

/// What is read of one file at most.
const LONGEST: usize = 4 * 1024;

/// A process, as far as it can be seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// Its number.
    pub pid: u32,
    /// Its short name (`comm`), which it can set to what it likes: without characters that a terminal obeys.
    pub name: String,
    /// The file that it runs, if we may see that.
    pub path: Option<PathBuf>,
    /// When it was started.
    pub started: Option<SystemTime>,
    /// Its unit of systemd, and its container.
    pub group: Group,
}

/// Looks at a process; none, if it is not there any more.
#[must_use]
pub fn program(pid: u32) -> Option<Program> {
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::PATH;
    let process = rustix::fs::open(format!("/proc/{pid}"), flags, Mode::empty()).ok()?;
    look_at(pid, (&process, ""), booted())
}

/// The process that has started another one, or has it now; none, if that other one has ended (proc(5), `stat`).
#[must_use]
pub fn parent(pid: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, after) = stat.rsplit_once(')')?;
    let mut fields = after.split_ascii_whitespace();
    let state = fields.next()?;
    fields.next()?.parse().ok().filter(|_| state != "Z")
}

/// The same by what leads to its directory in `/proc`, on a machine that was started then.
pub(crate) fn look_at(
    pid: u32,
    process: (&OwnedFd, &str),
    booted: Option<SystemTime>,
) -> Option<Program> {
    let stat = read(process, "stat")?;
    let (name, started) = stat_of(&stat)?;
    let (directory, way) = process;
    let path = readlinkat(directory, format!("{way}exe"), Vec::new()).ok();
    Some(Program {
        pid,
        name: shown(name),
        path: path.map(|path| PathBuf::from(OsStr::from_bytes(path.to_bytes()))),
        started: started.and_then(|ticks| booted?.checked_add(since_boot(ticks))),
        group: {
            let Group { unit, container } = group(&read(process, "cgroup").unwrap_or_default());
            Group {
                unit: unit.as_deref().map(shown),
                container: container.as_deref().map(shown),
            }
        },
    })
}

fn read((directory, way): (&OwnedFd, &str), name: &str) -> Option<String> {
    let file = openat(
        directory,
        format!("{way}{name}"),
        OFlags::RDONLY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .ok()?;
    let mut room = [MaybeUninit::uninit(); LONGEST];
    let (text, _) = rustix::io::read(file, &mut room[..]).ok()?;
    Some(match str::from_utf8(text) {
        Ok(text) => text.to_owned(),
        Err(_) => String::from_utf8_lossy(text).into_owned(),
    })
}

/// Name and time of start, in ticks since the machine was started, of `pid (comm) state …`. The name may have brackets
/// and spaces, too.
fn stat_of(stat: &str) -> Option<(&str, Option<u64>)> {
    let (before, after) = stat.rsplit_once(')')?;
    let (_, name) = before.split_once('(')?;
    // The 22nd field, of which the third is the first behind the name.
    let started = after.split_ascii_whitespace().nth(19);
    Some((name, started.and_then(|ticks| ticks.parse().ok())))
}

/// A name without anything that a terminal would obey, or that turns what follows around.
pub(crate) fn shown(name: &str) -> String {
    let is_plain = |one: &char| {
        !one.is_control()
            && !matches!(one, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}')
    };
    let plain: String = name.trim_end().chars().filter(is_plain).collect();
    if plain.is_empty() {
        "?".to_owned()
    } else {
        plain
    }
}

fn since_boot(ticks: u64) -> Duration {
    let a_second = rustix::param::clock_ticks_per_second().max(1);
    Duration::from_millis(ticks.saturating_mul(1000) / a_second)
}

/// When the machine was started.
pub(crate) fn booted() -> Option<SystemTime> {
    let stat = std::fs::read_to_string("/proc/stat").ok()?;
    let line = stat.lines().find_map(|line| line.strip_prefix("btime "))?;
    let seconds = line.trim().parse().ok()?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_says_of_a_process_is_read() {
        let stat =
            "4711 (a) b (c) S 1 4711 4711 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 123456 0 0\n";
        assert_eq!(stat_of(stat), Some(("a) b (c", Some(123_456))));
        assert_eq!(stat_of("4711 (x) S 1"), Some(("x", None)));
        assert_eq!(stat_of("4711"), None);
    }

    #[test]
    fn hostile_names_are_harmless() {
        for (name, wanted) in [
            ("nginx", "nginx"),
            ("a\u{1b}[2Jb\n", "a[2Jb"),
            ("\u{202e}gnp.exe", "gnp.exe"),
            ("\u{7}\n", "?"),
            ("", "?"),
            ("two words", "two words"),
        ] {
            assert_eq!(shown(name), wanted);
        }
    }

    #[test]
    fn we_are_what_we_are() {
        let own = program(std::process::id()).unwrap();
        assert_eq!(own.pid, std::process::id());
        assert_eq!(own.path, std::env::current_exe().ok());
        let age = own.started.unwrap().elapsed().unwrap();
        assert!(age < Duration::from_secs(24 * 3600), "{age:?}");
        assert_eq!(program(u32::MAX), None);
    }
}

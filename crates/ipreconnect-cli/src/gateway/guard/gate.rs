//! Rules that close, where nftables can enforce them: at the first packet, with the user of the socket that sends it.
//!
//! The table belongs to an `nft` that is kept running (`flags owner`, Linux 5.12): the kernel removes it when that ends,
//! and it ends when this process does, however that happens.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Write as _};
use std::ops::RangeInclusive;
use std::os::unix::fs::FileExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use aws_lc_rs::rand;
use command_fds::{CommandFdExt, FdMapping};
use ipreconnect::core::guard::{Action, Guard, Rule};
use ipreconnect_ports::Scope;
use rustix::fs::{MemfdFlags, memfd_create};

use crate::config::GuardPlan;

/// How long `nft` may take to have the table in place.
const PATIENCE: Duration = Duration::from_secs(10);
/// Where `nft` has the table, as a descriptor.
const TABLE: i32 = 3;
/// What is read of its complaints.
const TOLD: usize = 4096;

/// A table that is in force until dropped.
#[derive(Debug)]
pub(super) struct Gate {
    nft: Child,
    table: String,
    /// What `nft` complains of: a file in memory, which is never full before its time, as a pipe is.
    told: File,
}

impl Gate {
    /// Puts the rules into the kernel: all of them at once.
    ///
    /// # Errors
    /// If `nft` is not there, or the kernel does not take the table.
    pub(super) fn close(plan: &GuardPlan) -> io::Result<Self> {
        let mut number = [0; 4];
        rand::fill(&mut number).map_err(|_| io::Error::other("no random numbers can be had"))?;
        // No other guard has it, also of another container.
        let number = u32::from_ne_bytes(number);
        let table = format!("ipreconnect_{}_{number:08x}", std::process::id());
        let uid = rustix::process::geteuid().as_raw();
        let rules = in_memory("rules")?;
        rules.write_all_at(written(plan, &table, uid).as_bytes(), 0)?;
        let told = in_memory("told")?;
        let mut command = Command::new("nft");
        command
            .arg("-i")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(told.try_clone()?);
        let mapping = FdMapping {
            parent_fd: rules.into(),
            child_fd: TABLE,
        };
        command
            .fd_mappings(vec![mapping])
            .map_err(io::Error::other)?;
        let mut gate = Self {
            nft: command.spawn()?,
            table,
            told,
        };
        let said = gate.nft.stdin.as_mut().map(|stdin| {
            writeln!(stdin, "include \"/proc/self/fd/{TABLE}\"")?;
            stdin.flush()
        });
        said.unwrap_or_else(|| Err(io::Error::other("nft cannot be told anything")))?;
        gate.in_force()
    }

    /// Waits until the table is there.
    fn in_force(mut self) -> io::Result<Self> {
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            if self.counters().is_some() {
                return Ok(self);
            }
            if self.complaint().is_some() || self.nft.try_wait()?.is_some() {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.nft.kill();
        let why = self.complaint();
        let why = why.unwrap_or_else(|| "the kernel does not take the table in time".to_owned());
        Err(io::Error::other(why))
    }

    /// What `nft` complains of first.
    fn complaint(&self) -> Option<String> {
        let mut room = vec![0; TOLD];
        let count = self.told.read_at(&mut room, 0).ok()?;
        let text = String::from_utf8_lossy(room.get(..count)?).into_owned();
        let error = text
            .split_once("Error: ")
            .map_or(text.as_str(), |(_, error)| error);
        let line = error.lines().next()?.trim();
        (!line.is_empty()).then(|| line.to_owned())
    }

    /// Whether it is still in force: somebody may have ended its `nft`.
    pub(super) fn is_there(&mut self) -> bool {
        matches!(self.nft.try_wait(), Ok(None))
    }

    /// How many first packets each rule has refused, by its number; `default` is none of them. None, where that cannot
    /// be asked now.
    pub(super) fn refused(&self) -> Option<BTreeMap<Option<usize>, u64>> {
        let number = |name: &str| match name {
            "default" => Some(None),
            name => name.strip_prefix("rule_")?.parse().ok().map(Some),
        };
        let counted = self.counters()?.into_iter();
        let refused = counted.filter_map(|(name, packets)| Some((number(&name)?, packets)));
        Some(refused.collect())
    }

    /// None, where there is no such table.
    fn counters(&self) -> Option<BTreeMap<String, u64>> {
        let output = Command::new("nft")
            .args(["-j", "list", "counters", "table", "inet", &self.table])
            .stdin(Stdio::null())
            .output()
            .ok()?;
        if !output.status.success() {
            return None;
        }
        let told: serde_json::Value = serde_json::from_slice(&output.stdout).ok()?;
        let all = told.get("nftables")?.as_array()?;
        let counters = all.iter().filter_map(|one| {
            let counter = one.get("counter")?;
            let name = counter.get("name")?.as_str()?.to_owned();
            Some((name, counter.get("packets")?.as_u64()?))
        });
        Some(counters.collect())
    }
}

fn in_memory(name: &str) -> io::Result<File> {
    Ok(memfd_create(name, MemfdFlags::CLOEXEC)?.into())
}

impl Drop for Gate {
    fn drop(&mut self) {
        drop(self.nft.stdin.take());
        let until = Instant::now() + Duration::from_secs(1);
        while Instant::now() < until {
            if !matches!(self.nft.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = self.nft.kill();
        let _ = self.nft.wait();
    }
}

/// Whether there is anything that the kernel could enforce.
pub(super) fn has_some(guard: &Guard) -> bool {
    let closes = |rule: &Rule| rule.action == Action::Close && rule.programs.is_empty();
    guard.default == Action::Close || guard.rules.iter().any(closes)
}

/// The table, as `nft` reads it: a command in each line. What a rule with a program might be for is left to those who
/// look; and what this user does is, since the gateway itself must come through.
fn written(plan: &GuardPlan, table: &str, uid: u32) -> String {
    let mut text = format!("add table inet {table} {{ flags owner; }}\n");
    let chain = "out";
    let _ = writeln!(
        text,
        "add chain inet {table} {chain} {{ type filter hook output priority filter; policy accept; }}"
    );
    let mut rules = Vec::new();
    // What goes to an address of this machine leaves by `lo`, and nothing else is a port of its own.
    rules.push("oifname != \"lo\" return".to_owned());
    if plan.scope == Scope::Loopback {
        rules.push("ip daddr != 127.0.0.0/8 return".to_owned());
        rules.push("ip6 daddr != ::1 return".to_owned());
    }
    rules.push("meta l4proto != tcp return".to_owned());
    rules.push("tcp flags & (fin|syn|rst|ack) != syn return".to_owned());
    if !plan.ports.is_empty() {
        rules.push(format!("tcp dport != {} return", ports(&plan.ports)));
    }
    rules.push(format!("meta skuid {uid} return"));
    for (number, rule) in plan.guard.rules.iter().enumerate() {
        let verdict = if rule.action == Action::Close && rule.programs.is_empty() {
            let _ = writeln!(text, "add counter inet {table} rule_{number}");
            format!("counter name \"rule_{number}\" reject with tcp reset")
        } else {
            "return".to_owned()
        };
        rules.extend(
            matches(rule)
                .into_iter()
                .map(|what| format!("{what}{verdict}")),
        );
    }
    if plan.guard.default == Action::Close {
        let _ = writeln!(text, "add counter inet {table} default");
        // Of a socket that no process has the user is not known.
        rules.push(
            "meta skuid 0-4294967295 counter name \"default\" reject with tcp reset".to_owned(),
        );
    }
    for rule in rules {
        let _ = writeln!(text, "add rule inet {table} {chain} {rule}");
    }
    text
}

/// What a rule is for; one for each family, where it names networks.
fn matches(rule: &Rule) -> Vec<String> {
    let mut what = String::new();
    if !rule.ports.is_empty() {
        let _ = write!(what, "tcp dport {} ", ports(&rule.ports));
    }
    if !rule.users.is_empty() {
        let users: Vec<String> = rule.users.iter().map(ToString::to_string).collect();
        let _ = write!(what, "meta skuid {{ {} }} ", users.join(", "));
    }
    if rule.addresses.is_empty() {
        return vec![what];
    }
    let of = |is_v4: bool| {
        let networks = rule.addresses.iter();
        let networks = networks.filter(|network| network.addr().is_ipv4() == is_v4);
        networks.map(ToString::to_string).collect::<Vec<_>>()
    };
    let mut all = Vec::new();
    for (word, networks) in [("ip", of(true)), ("ip6", of(false))] {
        for network in networks {
            all.push(format!("{what}{word} saddr {network} "));
        }
    }
    all
}

fn ports(ports: &[RangeInclusive<u16>]) -> String {
    // Ranges that meet are refused inside one set.
    let mut sorted: Vec<(u16, u16)> = ports.iter().map(|one| (*one.start(), *one.end())).collect();
    sorted.sort_unstable();
    let mut apart: Vec<(u16, u16)> = Vec::new();
    for (first, last) in sorted {
        match apart.last_mut() {
            Some(before) if first <= before.1.saturating_add(1) => before.1 = before.1.max(last),
            _ => apart.push((first, last)),
        }
    }
    let texts: Vec<String> = apart
        .iter()
        .map(|(first, last)| match first == last {
            true => first.to_string(),
            false => format!("{first}-{last}"),
        })
        .collect();
    match texts.as_slice() {
        [one] => one.clone(),
        several => format!("{{ {} }}", several.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ipreconnect::core::guard::Mode;

    fn rule(action: Action) -> Rule {
        Rule {
            ports: vec![5432..=5432],
            users: vec![33, 34],
            programs: Vec::new(),
            addresses: Vec::new(),
            action,
        }
    }

    fn plan(rules: Vec<Rule>, default: Action) -> GuardPlan {
        GuardPlan {
            scope: Scope::Loopback,
            ports: Vec::new(),
            guard: Guard {
                rules,
                default,
                mode: Mode::Enforce,
            },
        }
    }

    #[test]
    fn rules_are_written_as_far_as_the_kernel_can_judge() {
        let by_program = Rule {
            programs: vec!["psql".into()],
            ..rule(Action::Allow)
        };
        let networks = Rule {
            addresses: vec!["127.0.0.2/32".parse().unwrap(), "::1/128".parse().unwrap()],
            users: Vec::new(),
            ..rule(Action::Close)
        };
        let text = written(
            &plan(
                vec![by_program, rule(Action::Close), networks],
                Action::Close,
            ),
            "t",
            0,
        );
        let rules: Vec<&str> = text
            .lines()
            .filter_map(|line| line.strip_prefix("add rule inet t out "))
            .collect();
        assert_eq!(
            rules,
            [
                "oifname != \"lo\" return",
                "ip daddr != 127.0.0.0/8 return",
                "ip6 daddr != ::1 return",
                "meta l4proto != tcp return",
                "tcp flags & (fin|syn|rst|ack) != syn return",
                "meta skuid 0 return",
                "tcp dport 5432 meta skuid { 33, 34 } return",
                "tcp dport 5432 meta skuid { 33, 34 } counter name \"rule_1\" reject with tcp reset",
                "tcp dport 5432 ip saddr 127.0.0.2/32 counter name \"rule_2\" reject with tcp reset",
                "tcp dport 5432 ip6 saddr ::1/128 counter name \"rule_2\" reject with tcp reset",
                "meta skuid 0-4294967295 counter name \"default\" reject with tcp reset",
            ]
        );
    }

    #[test]
    fn only_what_closes_needs_the_kernel() {
        assert!(!has_some(
            &plan(vec![rule(Action::Report)], Action::Report).guard
        ));
        assert!(has_some(
            &plan(vec![rule(Action::Close)], Action::Report).guard
        ));
        assert!(has_some(&plan(Vec::new(), Action::Close).guard));
        let by_program = Rule {
            programs: vec!["psql".into()],
            ..rule(Action::Close)
        };
        assert!(!has_some(&plan(vec![by_program], Action::Report).guard));
    }

    #[test]
    fn ranges_that_meet_are_one() {
        assert_eq!(ports(&[10..=20, 5..=9, 15..=30, 40..=40]), "{ 5-30, 40 }");
        assert_eq!(ports(&[1..=65_535, 3..=3]), "1-65535");
    }
}

//! The guard at work: a thread that looks who talks to local ports, and what is known of that.

mod gate;
mod learned;
mod listeners;
mod watchman;

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use ipreconnect::clock;
use ipreconnect::core::guard::{Action, Mode};
use ipreconnect_admin::Ledger;
use ipreconnect_admin::moment::millis;

use crate::admin::view::{FindingView, GuardPort, GuardView, SCHEMA};
use crate::config::GuardPlan;
use watchman::Watchman;

/// Findings that are kept, the latest.
const FINDINGS: usize = 1000;
/// Ports of which is counted; more are one.
const PORTS: usize = 4096;
/// Of so many programs, or addresses, that do the same each is told by itself; further ones are one.
const APART: usize = 16;
/// At so many ports, likewise.
const APART_AT: usize = 64;
/// Instead of the programs of those.
const MANY: &str = "many";
/// What was found is taken to go on for so long, at least.
const LATELY: Duration = Duration::from_secs(600);
/// The same again within this time is counted, and not told.
const QUIET: Duration = Duration::from_secs(3600);

/// The guard, for those who change it and those who ask.
#[derive(Clone, Debug)]
pub(crate) struct Guarding {
    shared: Arc<Shared>,
}

/// A guard that runs, until dropped.
#[derive(Debug)]
pub(crate) struct OnDuty {
    guarding: Guarding,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    plan: Mutex<(u64, Option<GuardPlan>)>,
    book: Mutex<Book>,
    is_over: AtomicBool,
    /// Where rules are written that were learned.
    learned: PathBuf,
}

/// What is known.
#[derive(Debug, Default)]
struct Book {
    mode: Option<Mode>,
    ports: BTreeMap<u16, Counts>,
    findings: VecDeque<Kept>,
    next: u64,
    /// Whether the kernel tells of all that ends.
    counts_all: bool,
    /// What cannot be done, and what would allow it.
    limits: BTreeMap<&'static str, String>,
    learned: usize,
    looks: u64,
}

/// What was seen at one port.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    /// Connections, whether somebody looked at them or not.
    seen: u64,
    /// Of those, with a known user.
    attributed: u64,
    open: u64,
    closed: u64,
}

/// What is worth a look.
#[derive(Clone, Debug)]
struct Finding {
    kind: &'static str,
    port: u16,
    peer: String,
    user: Option<u32>,
    program: String,
    action: Action,
    rule: Option<usize>,
    told: String,
    /// What became of it, as it is told.
    outcome: String,
    /// It is taken to go on for so long.
    lasts: Duration,
}

/// What was found, as it is kept.
#[derive(Clone, Debug)]
struct Kept {
    view: FindingView,
    outcome: String,
    /// It is taken to go on until then, in milliseconds since the beginning of 1970.
    until_ms: u64,
}

impl Kept {
    /// It was so once more.
    fn again(&mut self, now: u64, lasts: Duration) {
        self.view.count += 1;
        self.view.last_ms = now;
        self.until_ms = self.until_ms.max(now.saturating_add(millis(lasts)));
    }

    /// Of those whose user is not known each address is one.
    fn is_by(&self, finding: &Finding, user: Option<&str>) -> bool {
        let address = |peer: &str| peer.parse().ok().map(|peer: SocketAddr| peer.ip());
        self.view.program == finding.program
            && (user.is_some() || address(&self.view.peer) == address(&finding.peer))
    }
}

impl OnDuty {
    /// Begins to look, by this plan.
    pub(crate) fn begin(plan: Option<GuardPlan>, state: &Path, ledger: Ledger) -> io::Result<Self> {
        let guarding = Guarding {
            shared: Arc::new(Shared {
                plan: Mutex::new((1, plan)),
                book: Mutex::default(),
                is_over: AtomicBool::new(false),
                learned: state.join("guard-learned.toml"),
            }),
        };
        let shared = Arc::clone(&guarding.shared);
        let thread = std::thread::Builder::new()
            .name("guard".to_owned())
            .spawn(move || Watchman::new(shared, ledger).run())?;
        Ok(Self {
            guarding,
            thread: Some(thread),
        })
    }

    /// For those who ask.
    pub(crate) fn guarding(&self) -> Guarding {
        self.guarding.clone()
    }

    /// Goes by another plan.
    pub(crate) fn change(&self, plan: Option<GuardPlan>) {
        let mut current = lock(&self.guarding.shared.plan);
        *current = (current.0 + 1, plan);
        drop(current);
        self.wake();
    }

    fn wake(&self) {
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
    }
}

impl Drop for OnDuty {
    fn drop(&mut self) {
        self.guarding.shared.is_over.store(true, Relaxed);
        self.wake();
        if let Some(thread) = self.thread.take() {
            // One that panicked has ended, too.
            let _ = thread.join();
        }
    }
}

impl Guarding {
    /// What is known now.
    pub(crate) fn view(&self) -> GuardView {
        let book = lock(&self.shared.book);
        let ports = book.ports.iter().map(|(port, counts)| GuardPort {
            port: *port,
            seen: counts.seen,
            attributed: counts.attributed,
            open: counts.open,
            closed: counts.closed,
        });
        GuardView {
            schema: SCHEMA,
            mode: match book.mode {
                None => "off",
                Some(Mode::Learn) => "learn",
                Some(Mode::Enforce) => "enforce",
            }
            .to_owned(),
            counts_all: book.counts_all,
            limits: book.limits.values().cloned().collect(),
            looks: book.looks,
            ports: ports.collect(),
            learned: book.learned,
            findings: book
                .findings
                .iter()
                .rev()
                .map(|one| one.view.clone())
                .collect(),
        }
    }

    /// What was found and is taken to go on.
    pub(crate) fn going_on(&self) -> Vec<FindingView> {
        let now = millis(clock::since_unix());
        let book = lock(&self.shared.book);
        let findings = book.findings.iter();
        findings
            .filter(|one| one.until_ms > now)
            .map(|one| one.view.clone())
            .collect()
    }
}

impl Book {
    /// Forgets ports at which nobody listens or is any more, where there is no room for others.
    fn prune(&mut self, listeners: &listeners::Listeners) {
        if self.ports.len() >= PORTS {
            self.ports
                .retain(|port, counts| counts.open > 0 || listeners.has_port(*port));
        }
    }

    fn port(&mut self, port: u16) -> &mut Counts {
        let is_known = self.ports.contains_key(&port);
        // Beyond the bound all are counted at port 0, which nobody has.
        let port = if is_known || self.ports.len() < PORTS {
            port
        } else {
            0
        };
        self.ports.entry(port).or_default()
    }

    /// Notes it; returns it as it is to be told, if it is news.
    fn find(&mut self, mut finding: Finding) -> Option<FindingView> {
        let now = millis(clock::since_unix());
        let user = finding.user.map(ipreconnect_ports::user);
        let rule = finding.rule.map(|rule| rule + 1);
        let is_late = |one: &Kept| now.saturating_sub(one.view.first_ms) < millis(QUIET);
        let is_alike = |one: &Kept| {
            one.view.kind == finding.kind
                && one.view.port == finding.port
                && one.view.user == user
                && one.view.rule == rule
                && is_late(one)
        };
        let findings = self.findings.iter().enumerate();
        let alike: Vec<usize> = findings
            .filter(|(_, one)| is_alike(one))
            .map(|(at, _)| at)
            .collect();
        let is_same =
            |one: &Kept| one.is_by(&finding, user.as_deref()) && one.outcome == finding.outcome;
        let mut known = alike
            .iter()
            .copied()
            .find(|at| self.findings.get(*at).is_some_and(is_same));
        // Programs are called what they like, and addresses and ports are many: none drives all others out of the list.
        if known.is_none() && alike.len() >= APART {
            known = alike.get(APART).copied();
            finding.program = MANY.to_owned();
            finding.peer = String::new();
            finding
                .told
                .push_str(", and so do more than are told one by one");
        }
        let of_user =
            |one: &Kept| one.view.kind == finding.kind && one.view.user == user && is_late(one);
        if known.is_none() && self.findings.iter().filter(|one| of_user(one)).count() >= APART_AT {
            let at_many =
                |one: &Kept| of_user(one) && one.view.port == 0 && one.view.program == MANY;
            known = self.findings.iter().position(at_many);
            finding.port = 0;
            finding.program = MANY.to_owned();
            finding.peer = String::new();
            finding
                .told
                .push_str(", and so it is at more ports than are told one by one");
        }
        if let Some(known) = known.and_then(|at| self.findings.get_mut(at)) {
            known.again(now, finding.lasts);
            return None;
        }
        self.next += 1;
        let view = FindingView {
            id: self.next,
            first_ms: now,
            last_ms: now,
            count: 1,
            kind: finding.kind.to_owned(),
            port: finding.port,
            peer: finding.peer,
            user,
            program: finding.program,
            action: finding.action.word().to_owned(),
            rule,
            told: finding.told,
        };
        if self.findings.len() >= FINDINGS {
            self.findings.pop_front();
        }
        self.findings.push_back(Kept {
            view: view.clone(),
            outcome: finding.outcome,
            until_ms: now.saturating_add(millis(finding.lasts)),
        });
        Some(view)
    }

    /// What was told once is so still.
    fn goes_on(&mut self, finding: &Finding) {
        let user = finding.user.map(ipreconnect_ports::user);
        let is_it = |one: &&mut Kept| {
            one.view.kind == finding.kind
                && one.view.port == finding.port
                && one.view.user == user
                && one.is_by(finding, user.as_deref())
        };
        if let Some(known) = self.findings.iter_mut().rev().find(is_it) {
            known.again(millis(clock::since_unix()), finding.lasts);
        }
    }
}

impl Shared {
    fn book(&self) -> MutexGuard<'_, Book> {
        lock(&self.book)
    }
}

fn lock<T>(place: &Mutex<T>) -> MutexGuard<'_, T> {
    place.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(program: &str, user: Option<u32>, peer: &str) -> Finding {
        Finding {
            kind: "unknown peer",
            port: 80,
            peer: peer.to_owned(),
            user,
            program: program.to_owned(),
            action: Action::Report,
            rule: None,
            told: format!("{program} talks to port 80"),
            outcome: String::new(),
            lasts: LATELY,
        }
    }

    #[test]
    fn many_names_of_programs_do_not_drive_the_others_out() {
        let mut book = Book::default();
        let mut told = 0;
        for number in 0..5000 {
            let by = finding(&format!("/tmp/{number}"), Some(7), "127.0.0.1:4000");
            told += usize::from(book.find(by).is_some());
        }
        assert_eq!(told, APART + 1);
        let last = book.findings.back().unwrap();
        let last = (last.view.program.as_str(), last.view.count);
        assert_eq!(last, (MANY, 5000 - 16));
        assert!(
            book.find(finding("/bin/x", Some(8), "127.0.0.1:1"))
                .is_some()
        );
        assert!(
            book.find(finding("/bin/x", Some(8), "127.0.0.1:2"))
                .is_none()
        );
    }

    #[test]
    fn many_ports_do_not_drive_the_others_out() {
        let mut book = Book::default();
        assert!(
            book.find(finding("/bin/x", Some(8), "127.0.0.1:1"))
                .is_some()
        );
        let mut told = 0;
        for port in 1000..9000 {
            let by = Finding {
                port,
                ..finding("/bin/y", Some(7), "127.0.0.1:1")
            };
            told += usize::from(book.find(by).is_some());
        }
        assert_eq!(told, APART_AT + 1);
        assert_eq!(book.findings.len(), APART_AT + 2);
    }

    #[test]
    fn a_habit_goes_on_as_long_as_it_is_seen() {
        let shared = |book| Guarding {
            shared: Arc::new(Shared {
                plan: Mutex::default(),
                book: Mutex::new(book),
                is_over: AtomicBool::default(),
                learned: PathBuf::new(),
            }),
        };
        let habit = |lasts| Finding {
            kind: "beacon",
            lasts,
            ..finding("/bin/x", Some(8), "127.0.0.1:1")
        };
        let (over, hour) = (Duration::ZERO, Duration::from_secs(3600));
        let mut book = Book::default();
        assert!(book.find(habit(over)).is_some());
        assert!(
            book.find(finding("/bin/x", Some(8), "127.0.0.1:1"))
                .is_some()
        );
        book.goes_on(&Finding {
            port: 81,
            ..habit(hour)
        });
        let guarding = shared(book);
        let kinds = || {
            let going_on = guarding.going_on().into_iter();
            going_on.map(|one| one.kind).collect::<Vec<_>>()
        };
        assert_eq!(kinds(), ["unknown peer"], "it was another port");
        lock(&guarding.shared.book).goes_on(&habit(hour));
        assert_eq!(kinds(), ["beacon", "unknown peer"]);
        let beacon = guarding.view().findings.pop().unwrap();
        assert_eq!((beacon.kind.as_str(), beacon.count), ("beacon", 2));
    }

    #[test]
    fn what_became_of_it_makes_a_difference() {
        let mut book = Book::default();
        let done = |outcome: &str| Finding {
            outcome: outcome.to_owned(),
            ..finding("/bin/x", Some(8), "127.0.0.1:1")
        };
        assert!(book.find(done(": closed")).is_some());
        assert!(book.find(done(": closed")).is_none());
        assert!(book.find(done(": it cannot be closed")).is_some());
    }

    #[test]
    fn ports_that_nobody_has_make_room() {
        let mut book = Book::default();
        for port in 1..=5000 {
            book.port(port).seen += 1;
        }
        assert_eq!(
            book.ports.get(&0).map(|one| one.seen),
            Some(5000 - PORTS as u64)
        );
        book.port(7).open = 1;
        book.prune(&listeners::Listeners::default());
        assert_eq!(book.ports.keys().copied().collect::<Vec<_>>(), [7]);
    }

    #[test]
    fn other_machines_are_told_by_their_addresses() {
        let mut book = Book::default();
        assert!(book.find(finding("", None, "10.0.0.1:4000")).is_some());
        assert!(book.find(finding("", None, "10.0.0.1:4001")).is_none());
        assert!(book.find(finding("", None, "10.0.0.2:4000")).is_some());
        for host in 0..250 {
            let _ = book.find(finding("", None, &format!("10.0.1.{host}:4000")));
        }
        assert_eq!(book.findings.len(), APART + 1);
    }
}

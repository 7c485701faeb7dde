//! The guard at work: a thread that looks who talks to local ports, and what is known of that.

mod gate;
mod watchman;

use std::collections::{BTreeMap, VecDeque};
use std::io;
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
    findings: VecDeque<FindingView>,
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
            findings: book.findings.iter().rev().cloned().collect(),
        }
    }

    /// What was found lately.
    pub(crate) fn lately(&self, within: Duration) -> Vec<FindingView> {
        let since = millis(clock::since_unix()).saturating_sub(millis(within));
        let book = lock(&self.shared.book);
        let findings = book.findings.iter();
        findings
            .filter(|one| one.last_ms >= since)
            .cloned()
            .collect()
    }
}

impl Book {
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
    fn find(&mut self, finding: Finding) -> Option<FindingView> {
        let now = millis(clock::since_unix());
        let user = finding.user.map(ipreconnect_ports::user);
        let rule = finding.rule.map(|rule| rule + 1);
        let same = |one: &&mut FindingView| {
            one.kind == finding.kind
                && one.port == finding.port
                && one.user == user
                && one.program == finding.program
                && one.rule == rule
                && now.saturating_sub(one.first_ms) < millis(QUIET)
        };
        if let Some(known) = self.findings.iter_mut().rev().find(same) {
            known.count += 1;
            known.last_ms = now;
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
        self.findings.push_back(view.clone());
        Some(view)
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

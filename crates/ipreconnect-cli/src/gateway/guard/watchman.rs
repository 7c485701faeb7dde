//! The thread that looks: what is open, what has ended, whose it is, and what becomes of it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Write as _;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use ipreconnect::clock;
use ipreconnect::core::guard::{Action, Habit, Habits, Learned, Mode, Parties, Rule, Sighting};
use ipreconnect_admin::Ledger;
use ipreconnect_ports::{
    Endings, Heard, Look, Outgoing, Scope, Talk, close, look, owned_by, owners, user,
};

use super::gate::{Gate, has_some};
use super::{Finding, Shared, lock};
use crate::config::GuardPlan;

/// Between two times at which what has ended is heard: the kernel keeps it meanwhile.
const HEAR: Duration = Duration::from_millis(50);
/// One that has nothing to guard looks this seldom whether it has.
const ASLEEP: Duration = Duration::from_secs(60);
/// Between two looks, at least; a look that is dear is taken less often.
const LOOK: Duration = Duration::from_millis(250);
/// A look may take this part of the time.
const PART: u32 = 30;
/// Between two walks over all processes, at least.
const WALK: Duration = Duration::from_millis(500);
/// Between two times at which what was learned is written, and what nftables has refused is counted.
const SELDOM: Duration = Duration::from_secs(2);
/// Connections that are known at once.
const MOST: usize = 200_000;
/// A process that carries so much from within to beyond this machine is a relay.
const RELAYED: u64 = 64 * 1024;

/// One connection.
#[derive(Clone, Debug)]
struct Known {
    talk: Talk,
    program: Option<Box<str>>,
    is_judged: bool,
    /// The gateway itself is at the other end.
    is_own: bool,
    /// The look at which it was seen last.
    look: u64,
}

pub(super) struct Watchman {
    shared: Arc<Shared>,
    ledger: Ledger,
    generation: u64,
    plan: Option<GuardPlan>,
    gate: Option<Gate>,
    /// What the gate had refused at the last count.
    refused: BTreeMap<Option<usize>, u64>,
    endings: Option<Endings>,
    known: HashMap<u64, Known>,
    /// Ports that are listened on, by this machine's addresses.
    listening: HashMap<u16, HashSet<std::net::IpAddr>>,
    /// Those that were there when it began to look.
    expected: Option<HashSet<SocketAddr>>,
    learned: Learned,
    is_written: bool,
    habits: Habits,
    relays: HashSet<(u16, Box<str>)>,
    looks: u64,
    next_look: Instant,
    next_walk: Instant,
    next_seldom: Instant,
}

impl Watchman {
    pub(super) fn new(shared: Arc<Shared>, ledger: Ledger) -> Self {
        let now = clock::now();
        Self {
            shared,
            ledger,
            generation: 0,
            plan: None,
            gate: None,
            refused: BTreeMap::new(),
            endings: None,
            known: HashMap::new(),
            listening: HashMap::new(),
            expected: None,
            learned: Learned::default(),
            is_written: true,
            habits: Habits::default(),
            relays: HashSet::new(),
            looks: 0,
            next_look: now,
            next_walk: now,
            next_seldom: now,
        }
    }

    pub(super) fn run(mut self) {
        while !self.shared.is_over.load(Relaxed) {
            self.take_plan();
            if let Some(plan) = self.plan.clone() {
                self.hear(&plan);
                if clock::now() >= self.next_look {
                    self.look(&plan);
                }
                if clock::now() >= self.next_seldom {
                    self.next_seldom = clock::now() + SELDOM;
                    self.count_refused(&plan);
                    self.write_learned();
                }
            }
            match self.plan {
                Some(_) => std::thread::sleep(HEAR),
                // Whoever has a plan for it wakes it.
                None => std::thread::park_timeout(ASLEEP),
            }
        }
        self.write_learned();
    }

    /// Goes by another plan, if there is one.
    fn take_plan(&mut self) {
        let (generation, plan) = {
            let current = lock(&self.shared.plan);
            if current.0 == self.generation {
                return;
            }
            current.clone()
        };
        self.generation = generation;
        // What was judged by other rules is judged again.
        for known in self.known.values_mut() {
            known.is_judged = false;
        }
        self.gate = None;
        self.refused.clear();
        // Other ports may be meant.
        self.expected = None;
        let mut limits = BTreeMap::new();
        match &plan {
            None => {
                self.endings = None;
                self.known.clear();
                self.expected = None;
            }
            Some(plan) => {
                self.listen(&mut limits);
                if plan.guard.mode == Mode::Enforce && has_some(&plan.guard) {
                    match Gate::close(plan) {
                        Ok(gate) => self.gate = Some(gate),
                        Err(error) => {
                            let why = format!(
                                "connections are closed when they are seen, and not at their first packet: nftables cannot be used ({error}); it takes `nft`, CAP_NET_ADMIN and Linux 5.12"
                            );
                            limits.insert("gate", why);
                        }
                    }
                }
                tracing::info!(
                    mode = if plan.guard.mode == Mode::Learn {
                        "learn"
                    } else {
                        "enforce"
                    },
                    rules = plan.guard.rules.len(),
                    at_the_first_packet = self.gate.is_some(),
                    "local ports are guarded"
                );
            }
        }
        for why in limits.values() {
            tracing::warn!(%why, "the guard is not all that it could be");
        }
        let mut book = self.shared.book();
        book.mode = plan.as_ref().map(|plan| plan.guard.mode);
        book.counts_all = self.endings.is_some();
        book.limits = limits;
        drop(book);
        self.plan = plan;
    }

    fn listen(&mut self, limits: &mut BTreeMap<&'static str, String>) {
        if self.endings.is_some() {
            return;
        }
        match Endings::open() {
            Ok(endings) => self.endings = Some(endings),
            Err(error) => {
                let why = format!(
                    "connections that are over between two looks are not counted: the kernel does not tell of them ({error})"
                );
                limits.insert("endings", why);
            }
        }
    }

    /// What has ended since.
    fn hear(&mut self, plan: &GuardPlan) {
        let Some(mut endings) = self.endings.take() else {
            return;
        };
        let mut unseen: HashMap<u16, u64> = HashMap::new();
        let mut over = Vec::new();
        let heard = endings.drain(|one| {
            if !is_meant(plan, one.here) || !is_listened_on(&self.listening, one.here) {
                return;
            }
            match self.known.remove(&one.id()) {
                Some(known) => over.push((known, one.taken, one.given)),
                None => *unseen.entry(one.here.port()).or_default() += 1,
            }
        });
        self.endings = match heard {
            Ok(heard) => {
                if heard == Heard::Some {
                    let why =
                        "more connections ended at once than could be heard: some were not counted";
                    self.limit("heard", why.to_owned());
                }
                Some(endings)
            }
            Err(error) => {
                self.limit(
                    "endings",
                    format!("the kernel does not tell of what ends any more ({error})"),
                );
                None
            }
        };
        for (known, taken, given) in over {
            self.carried(&known, taken, given);
        }
        let mut book = self.shared.book();
        for (port, count) in unseen {
            book.port(port).seen += count;
        }
    }

    fn limit(&self, kind: &'static str, why: String) {
        let mut book = self.shared.book();
        if !book.limits.contains_key(kind) {
            tracing::warn!(%why, "the guard is not all that it could be");
            book.limits.insert(kind, why);
        }
    }

    /// What there is now.
    fn look(&mut self, plan: &GuardPlan) {
        let began = clock::now();
        match look(plan.scope) {
            Ok(seen) => self.take(plan, seen),
            Err(error) => self.limit("look", format!("connections cannot be looked at ({error})")),
        }
        let cost = clock::now().saturating_duration_since(began);
        self.next_look = began + LOOK.max(cost * PART);
    }

    fn take(&mut self, plan: &GuardPlan, seen: Look) {
        self.looks += 1;
        self.know_listeners(plan, &seen);
        let mut fresh: HashMap<u16, (u64, u64)> = HashMap::new();
        let mut open: HashMap<u16, u64> = HashMap::new();
        let mut moved = Vec::new();
        for talk in seen.talks {
            if !is_meant(plan, talk.here) {
                continue;
            }
            *open.entry(talk.here.port()).or_default() += 1;
            if let Some(known) = self.known.get_mut(&talk.id()) {
                known.look = self.looks;
                if known.is_judged {
                    moved.push((known.clone(), talk.taken, talk.given));
                }
                // A look may catch the one end before the other is there.
                if known.talk.user.is_none() && talk.user.is_some() {
                    known.talk = talk;
                    known.is_judged = false;
                }
                // Whose it was when it came is what counts: afterwards it may be nobody's.
                (known.talk.taken, known.talk.given) = (talk.taken, talk.given);
                continue;
            }
            let counts = fresh.entry(talk.here.port()).or_default();
            counts.0 += 1;
            counts.1 += u64::from(talk.user.is_some());
            if self.known.len() < MOST {
                let known = Known {
                    talk,
                    program: None,
                    is_judged: false,
                    is_own: false,
                    look: self.looks,
                };
                self.known.insert(talk.id(), known);
            }
        }
        let looks = self.looks;
        if self.endings.is_none() {
            self.known.retain(|_, known| known.look == looks);
        } else {
            // Their end is told, unless it was not heard.
            self.known.retain(|_, known| known.look + 16 > looks);
        }
        {
            let mut book = self.shared.book();
            book.looks = looks;
            for counts in book.ports.values_mut() {
                counts.open = 0;
            }
            for (port, count) in open {
                book.port(port).open = count;
            }
            for (port, (seen, attributed)) in fresh {
                let counts = book.port(port);
                counts.seen += seen;
                counts.attributed += attributed;
            }
        }
        for (known, taken, given) in moved {
            self.carried(&known, taken, given);
        }
        self.judge_all(plan, &seen.outgoing);
    }

    /// Ports that somebody listens on who did not when it began.
    fn know_listeners(&mut self, plan: &GuardPlan, seen: &Look) {
        self.listening.clear();
        for (address, _) in &seen.listening {
            self.listening
                .entry(address.port())
                .or_default()
                .insert(address.ip());
        }
        let meant = seen.listening.iter().filter(|(address, _)| {
            plan.ports.is_empty()
                || plan
                    .ports
                    .iter()
                    .any(|ports| ports.contains(&address.port()))
        });
        let Some(mut expected) = self.expected.take() else {
            self.expected = Some(meant.map(|(address, _)| *address).collect());
            return;
        };
        let fresh: Vec<(SocketAddr, u64)> = meant
            .filter(|(address, _)| !expected.contains(address))
            .copied()
            .collect();
        expected.extend(fresh.iter().map(|(address, _)| *address));
        self.expected = Some(expected);
        if fresh.is_empty() || plan.guard.mode == Mode::Learn {
            return;
        }
        let inodes: HashSet<u64> = fresh.iter().map(|(_, inode)| *inode).collect();
        let programs = owners(&inodes);
        for (address, inode) in fresh {
            let program = programs.get(&inode);
            if program.is_some_and(|program| program.pid == std::process::id()) {
                continue;
            }
            let shown = program.map_or_else(|| "somebody".to_owned(), shown);
            self.find(Finding {
                kind: "unknown listener",
                port: address.port(),
                peer: address.to_string(),
                user: None,
                program: shown.clone(),
                action: Action::Report,
                rule: None,
                told: format!("{shown} listens on {address} since now"),
            });
        }
    }

    /// What is not judged yet, as far as it is known whose it is.
    fn judge_all(&mut self, plan: &GuardPlan, outgoing: &[Outgoing]) {
        let waiting: Vec<u64> = self
            .known
            .iter()
            .filter(|(_, known)| !known.is_judged)
            .map(|(id, _)| *id)
            .collect();
        if waiting.is_empty() {
            return;
        }
        let names_programs = plan
            .guard
            .rules
            .iter()
            .any(|rule| !rule.programs.is_empty());
        let now = clock::now();
        if now < self.next_walk {
            if names_programs || plan.guard.mode == Mode::Learn {
                return;
            }
            // The user is known, and is all that counts; ourselves are known without a walk.
            self.judge(plan, &waiting, &BTreeMap::new());
            return;
        }
        let mut inodes: HashSet<u64> = waiting
            .iter()
            .filter_map(|id| self.known.get(id)?.talk.peer_inode)
            .collect();
        let carriers: Vec<(u16, u64)> = self
            .known
            .values()
            .filter_map(|known| Some((known.talk.here.port(), known.talk.inode?)))
            .collect();
        inodes.extend(outgoing.iter().map(|one| one.inode));
        inodes.extend(carriers.iter().map(|(_, inode)| *inode));
        let programs = owners(&inodes);
        let cost = clock::now().saturating_duration_since(now);
        self.next_walk = now + WALK.max(cost * PART);
        self.judge(plan, &waiting, &programs);
        self.look_for_relays(outgoing, &programs);
    }

    fn judge(
        &mut self,
        plan: &GuardPlan,
        waiting: &[u64],
        programs: &BTreeMap<u64, ipreconnect_ports::Program>,
    ) {
        let inodes: HashSet<u64> = waiting
            .iter()
            .filter_map(|id| self.known.get(id)?.talk.peer_inode)
            .collect();
        let own = owned_by(std::process::id(), &inodes);
        for id in waiting {
            let Some(known) = self.known.get_mut(id) else {
                continue;
            };
            known.is_judged = true;
            let talk = known.talk;
            known.is_own = talk.peer_inode.is_some_and(|inode| own.contains(&inode));
            if known.is_own {
                continue;
            }
            let program = talk.peer_inode.and_then(|inode| programs.get(&inode));
            let path = program.map(|program| match &program.path {
                Some(path) => path.display().to_string(),
                None => program.name.clone(),
            });
            known.program = path.as_deref().map(Into::into);
            self.judge_one(plan, &talk, path.as_deref());
        }
    }

    fn judge_one(&mut self, plan: &GuardPlan, talk: &Talk, program: Option<&str>) {
        let parties = parties(talk, program);
        if let Some(habit) = self.habits.came(clock::since_start(clock::now()), &parties) {
            self.tell_habit(&parties, talk, habit);
        }
        let verdict = plan.guard.judge(&Sighting {
            port: talk.here.port(),
            peer: talk.peer.ip(),
            user: talk.user,
            program,
        });
        if plan.guard.mode == Mode::Learn && verdict.rule.is_none() && talk.user.is_some() {
            let is_new = self.learned.saw(&parties);
            self.is_written &= !is_new;
        }
        if verdict.action == Action::Allow {
            return;
        }
        let closed = (verdict.action == Action::Close).then(|| close(talk));
        if let Some(Ok(())) = closed {
            self.shared.book().port(talk.here.port()).closed += 1;
        }
        let who = who(talk, program);
        let done = match &closed {
            None => String::new(),
            Some(Ok(())) => ": the connection was closed".to_owned(),
            // It was over by then.
            Some(Err(error)) if error.kind() == io::ErrorKind::NotFound => {
                ": it was over already".to_owned()
            }
            Some(Err(error)) => {
                format!(": the connection cannot be closed ({error}); it takes CAP_NET_ADMIN")
            }
        };
        let (kind, by) = match verdict.rule {
            Some(rule) => ("rule", format!("by rule {}", rule + 1)),
            None => ("unknown peer", "no rule is for it".to_owned()),
        };
        self.find(Finding {
            kind,
            port: talk.here.port(),
            peer: talk.peer.to_string(),
            user: talk.user,
            program: program.unwrap_or_default().to_owned(),
            action: verdict.action,
            rule: verdict.rule,
            told: format!("{who} talks to port {} ({by}){done}", talk.here.port()),
        });
    }

    /// So much was carried by then.
    fn carried(&mut self, known: &Known, taken: u64, given: u64) {
        let (more_taken, more_given) = (
            taken.saturating_sub(known.talk.taken),
            given.saturating_sub(known.talk.given),
        );
        if !known.is_judged || known.is_own || more_taken + more_given == 0 {
            return;
        }
        let parties = parties(&known.talk, known.program.as_deref());
        let now = clock::since_start(clock::now());
        if let Some(habit) = self.habits.carried(now, &parties, more_taken, more_given) {
            self.tell_habit(&parties, &known.talk, habit);
        }
    }

    fn tell_habit(&self, parties: &Parties, talk: &Talk, habit: Habit) {
        let program = Some(&*parties.program).filter(|program| !program.is_empty());
        let who = who(talk, program);
        let (kind, told) = match habit {
            Habit::Beacon { every, times } => (
                "beacon",
                format!(
                    "{who} comes to port {} every {:.1} s, {times} times by now: no person does that",
                    parties.port,
                    every.as_secs_f64()
                ),
            ),
            Habit::Volume { taken, given } => (
                "volume",
                format!(
                    "{who} has taken {} MiB from port {} within an hour, and given {} MiB: far more than ever before",
                    taken >> 20,
                    parties.port,
                    given >> 20
                ),
            ),
        };
        self.find(Finding {
            kind,
            port: parties.port,
            peer: talk.peer.to_string(),
            user: talk.user,
            program: parties.program.to_string(),
            action: Action::Report,
            rule: None,
            told,
        });
    }

    /// Processes that serve a port of this machine's own, and carry about as much beyond it.
    fn look_for_relays(
        &mut self,
        outgoing: &[Outgoing],
        programs: &BTreeMap<u64, ipreconnect_ports::Program>,
    ) {
        let mut beyond: HashMap<u32, (u64, SocketAddr)> = HashMap::new();
        for one in outgoing {
            if let Some(program) = programs.get(&one.inode) {
                let carried = beyond.entry(program.pid).or_insert((0, one.remote));
                carried.0 += one.sent + one.received;
            }
        }
        let mut within: HashMap<(u32, u16), (u64, Talk)> = HashMap::new();
        for known in self
            .known
            .values()
            .filter(|known| known.talk.here.ip().is_loopback())
        {
            let program = known.talk.inode.and_then(|inode| programs.get(&inode));
            if let Some(program) = program.filter(|program| program.pid != std::process::id()) {
                let place = (program.pid, known.talk.here.port());
                let carried = within.entry(place).or_insert((0, known.talk));
                carried.0 += known.talk.taken + known.talk.given;
            }
        }
        for ((pid, port), (inside, talk)) in within {
            let Some((outside, remote)) = beyond.get(&pid).copied() else {
                continue;
            };
            let is_alike = inside.abs_diff(outside) <= inside.max(outside) / 4;
            if inside.min(outside) < RELAYED || !is_alike {
                continue;
            }
            let program = programs
                .values()
                .find(|program| program.pid == pid)
                .map_or_else(String::new, shown);
            if self.relays.len() < MOST && self.relays.insert((port, program.as_str().into())) {
                self.find(Finding {
                    kind: "relay",
                    port,
                    peer: remote.to_string(),
                    user: None,
                    program: program.clone(),
                    action: Action::Report,
                    rule: None,
                    told: format!(
                        "{program} carries what comes to port {} to {remote}",
                        talk.here.port()
                    ),
                });
            }
        }
    }

    /// What was refused at its first packet.
    fn count_refused(&mut self, plan: &GuardPlan) {
        let Some(gate) = &mut self.gate else {
            return;
        };
        if !gate.is_there() {
            // It is put in place again with the plan.
            self.generation = 0;
            return;
        }
        let refused = gate.refused();
        for (rule, packets) in &refused {
            let before = self.refused.get(rule).copied().unwrap_or_default();
            let more = packets.saturating_sub(before);
            if more == 0 {
                continue;
            }
            let rule_of = rule.and_then(|rule| plan.guard.rules.get(rule));
            let ports = rule_of.map_or(&plan.ports[..], |rule| &rule.ports);
            let (what, by) = match rule {
                Some(rule) => (described(rule_of), format!("by rule {}", rule + 1)),
                None => ("somebody".to_owned(), "no rule is for it".to_owned()),
            };
            let times = match more {
                1 => "once".to_owned(),
                more => format!("{more} times"),
            };
            self.find(Finding {
                kind: if rule.is_some() {
                    "rule"
                } else {
                    "unknown peer"
                },
                port: ports.first().map_or(0, |ports| *ports.start()),
                peer: String::new(),
                user: rule_of.and_then(|rule| rule.users.first().copied()),
                program: String::new(),
                action: Action::Close,
                rule: *rule,
                told: format!("{what} was refused at the first packet, {times} ({by})"),
            });
        }
        self.refused = refused;
    }

    fn find(&self, finding: Finding) {
        let news = self.shared.book().find(finding);
        if let Some(view) = news {
            tracing::warn!(
                kind = view.kind,
                port = view.port,
                user = view.user.as_deref().unwrap_or("unknown"),
                program = view.program,
                action = view.action,
                "guard: {}",
                view.told
            );
            self.ledger.note_finding(&view);
        }
    }

    /// The rules that were learned, as the configuration has them.
    fn write_learned(&mut self) {
        if self.is_written {
            return;
        }
        self.is_written = true;
        let rules = self.learned.rules();
        self.shared.book().learned = rules.len();
        let text = written(&rules, self.learned.is_full());
        let path = &self.shared.learned;
        let new = path.with_extension("toml.new");
        let saved = std::fs::write(&new, text).and_then(|()| std::fs::rename(&new, path));
        if let Err(error) = saved {
            self.limit(
                "learned",
                format!(
                    "what was learned cannot be written to {}: {error}",
                    path.display()
                ),
            );
        }
    }
}

fn is_meant(plan: &GuardPlan, here: SocketAddr) -> bool {
    (plan.scope == Scope::All || here.ip().to_canonical().is_loopback())
        && (plan.ports.is_empty() || plan.ports.iter().any(|ports| ports.contains(&here.port())))
}

fn is_listened_on(listening: &HashMap<u16, HashSet<std::net::IpAddr>>, here: SocketAddr) -> bool {
    let ips = listening.get(&here.port());
    ips.is_some_and(|ips| {
        ips.contains(&here.ip()) || ips.iter().any(std::net::IpAddr::is_unspecified)
    })
}

fn parties(talk: &Talk, program: Option<&str>) -> Parties {
    Parties {
        port: talk.here.port(),
        user: talk.user,
        program: program.unwrap_or_default().into(),
    }
}

/// Who it is, for people: the user is the kernel's word, the program's name a hint.
fn who(talk: &Talk, program: Option<&str>) -> String {
    let user = match talk.user {
        Some(uid) => format!("user {}", user(uid)),
        None if talk.peer.ip().is_loopback() => "somebody of this machine".to_owned(),
        None => format!("{}", talk.peer.ip()),
    };
    match program {
        Some(program) => format!("{user} (program {program})"),
        None => user,
    }
}

fn shown(program: &ipreconnect_ports::Program) -> String {
    let path = program.path.as_ref().map(|path| path.display().to_string());
    path.unwrap_or_else(|| program.name.clone())
}

fn described(rule: Option<&Rule>) -> String {
    let users = rule.map(|rule| rule.users.as_slice()).unwrap_or_default();
    match users {
        [] => "somebody".to_owned(),
        users => {
            let names: Vec<String> = users.iter().map(|uid| user(*uid)).collect();
            format!("user {}", names.join(" or "))
        }
    }
}

/// Rules as a file that can be copied into the configuration.
fn written(rules: &[Rule], is_full: bool) -> String {
    let mut text = String::from(
        "# Who has talked to local ports since the guard learns. Read it, take out what should not be, copy the rest into\n\
         # the configuration, and set mode = \"enforce\".\n",
    );
    if is_full {
        text.push_str("# More have talked than are kept here: this is not all.\n");
    }
    for rule in rules {
        let ports: Vec<String> = rule
            .ports
            .iter()
            .map(|ports| ports.start().to_string())
            .collect();
        let quoted = |name: &str| toml::Value::String(name.to_owned()).to_string();
        let users: Vec<String> = rule
            .users
            .iter()
            .map(|uid| match ipreconnect_ports::user_id(&user(*uid)) {
                Some(_) => quoted(&user(*uid)),
                None => uid.to_string(),
            })
            .collect();
        let programs: Vec<String> = rule
            .programs
            .iter()
            .map(|program| quoted(program))
            .collect();
        let _ = write!(
            text,
            "\n[[guard.rule]]\nport = [{}]\nuser = [{}]\n",
            ports.join(", "),
            users.join(", ")
        );
        if !programs.is_empty() {
            let _ = writeln!(text, "program = [{}]", programs.join(", "));
        }
        text.push_str("action = \"allow\"\n");
    }
    text
}

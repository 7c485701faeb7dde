//! The thread that looks: what is open, what has ended, whose it is, and what becomes of it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use ipreconnect::clock;
use ipreconnect::core::guard::{
    Action, Habit, Habits, Learned, Mode, Noticed, Parties, Rule, Sighting,
};
use ipreconnect_admin::Ledger;
use ipreconnect_ports::{
    Endings, Heard, Listening, Look, Outgoing, Owners, Program, Scope, Talk, close, look, owned_by,
    owners, user,
};

use super::gate::{Gate, has_some};
use super::listeners::Listeners;
use super::{Finding, LATELY, Shared, learned, lock};
use crate::config::GuardPlan;

/// Between two times at which what has ended is heard: the kernel keeps it meanwhile.
const HEAR: Duration = Duration::from_millis(50);
/// One that has nothing to guard looks this seldom whether it has.
const ASLEEP: Duration = Duration::from_secs(60);
/// Between two looks, at least and at most; a look that is dear is taken less often.
const LOOK: Duration = Duration::from_millis(250);
const LOOK_AT_MOST: Duration = Duration::from_secs(2);
/// A look may take this part of the time.
const PART: u32 = 30;
/// Between two walks over all processes, at least and at most; it is told where they are further apart than this.
const WALK: Duration = Duration::from_millis(500);
const WALK_AT_MOST: Duration = Duration::from_secs(30);
const WALK_TOLD: Duration = Duration::from_secs(5);
/// New listeners that wait for a walk.
const FRESH: usize = 1024;
/// Between two times at which what was learned is written, and what nftables has refused is counted.
const SELDOM: Duration = Duration::from_secs(2);
/// Between two looks for relays, and between two times at which what has failed is tried again.
const RELAYS: Duration = Duration::from_secs(5);
const AGAIN: Duration = Duration::from_secs(30);
/// Connections that are known at once.
const MOST: usize = 200_000;
/// Times that a connection is closed that is still there.
const TIMES: u8 = 4;
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
    /// It may have been the gateway itself: it has its user, and nobody had the socket when that was looked for.
    may_be_own: bool,
    /// How often it was to be closed.
    closed: u8,
    /// It could not be closed, which is tried again.
    has_failed: bool,
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
    listeners: Listeners,
    learned: Learned,
    /// What was learned before is known.
    is_recalled: bool,
    is_written: bool,
    habits: Habits,
    /// Listeners that are to be told when it is known who they are.
    fresh: Vec<Listening>,
    /// What walks over all processes have cost since the last look.
    walked: Duration,
    looks: u64,
    next_look: Instant,
    next_walk: Instant,
    next_seldom: Instant,
    next_relays: Instant,
    next_again: Instant,
    /// The user as whom the gateway runs.
    own_user: u32,
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
            listeners: Listeners::default(),
            learned: Learned::default(),
            is_recalled: false,
            is_written: true,
            habits: Habits::default(),
            fresh: Vec::new(),
            walked: Duration::ZERO,
            looks: 0,
            next_look: now,
            next_walk: now,
            next_seldom: now,
            next_relays: now,
            next_again: now,
            own_user: rustix::process::geteuid().as_raw(),
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
                if clock::now() >= self.next_again {
                    self.try_again(&plan);
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
        {
            let mut book = self.shared.book();
            book.mode = plan.as_ref().map(|plan| plan.guard.mode);
            book.limits.clear();
        }
        match &plan {
            None => {
                self.gate = None;
                self.endings = None;
                self.known.clear();
                self.listeners.forget();
                self.fresh.clear();
            }
            Some(plan) => {
                let is_learning = plan.guard.mode == Mode::Learn;
                if is_learning && !self.is_recalled {
                    self.recall();
                }
                self.put_gate(plan);
                self.try_again(plan);
                tracing::info!(
                    mode = if is_learning { "learn" } else { "enforce" },
                    rules = plan.guard.rules.len(),
                    at_the_first_packet = self.gate.is_some(),
                    "local ports are guarded"
                );
            }
        }
        self.plan = plan;
    }

    /// Has what it can have.
    fn try_again(&mut self, plan: &GuardPlan) {
        if self.endings.is_none() {
            match Endings::open() {
                Ok(endings) => {
                    self.endings = Some(endings);
                    self.clear("endings");
                }
                Err(error) => self.limit(
                    "endings",
                    format!(
                        "connections that are over between two looks are not counted: the kernel does not tell of them ({error})"
                    ),
                ),
            }
        }
        if self.gate.is_none() {
            self.put_gate(plan);
        }
        let mut has_failed = false;
        for known in self.known.values_mut().filter(|known| known.has_failed) {
            (known.is_judged, known.has_failed, has_failed) = (false, false, true);
        }
        if has_failed {
            self.shared.book().limits.remove("close");
        }
        self.shared.book().counts_all = self.endings.is_some();
        self.next_again = clock::now() + AGAIN;
    }

    /// Has the kernel enforce what it can. What was in force before is so until then.
    fn put_gate(&mut self, plan: &GuardPlan) {
        let is_wanted = plan.guard.mode == Mode::Enforce && has_some(&plan.guard);
        let made = is_wanted.then(|| Gate::close(plan));
        self.refused.clear();
        self.gate = match made {
            None => None,
            Some(Ok(gate)) => {
                self.clear("gate");
                Some(gate)
            }
            Some(Err(error)) => {
                self.limit(
                    "gate",
                    format!(
                        "connections are closed when they are seen, and not at their first packet: nftables cannot be used ({error}); it takes `nft`, CAP_NET_ADMIN and Linux 5.12"
                    ),
                );
                None
            }
        };
    }

    /// What was learned before this start goes on being known.
    fn recall(&mut self) {
        let path = &self.shared.learned;
        match learned::read(path) {
            Ok(rules) => {
                for rule in &rules {
                    self.learned.know(rule);
                }
                self.shared.book().learned = self.learned.rules().len();
            }
            Err(error) => {
                let aside = learned::aside(path);
                let kept = std::fs::rename(path, &aside);
                let kept = kept.map_or_else(
                    |_| String::new(),
                    |()| format!("; it is kept as {}", aside.display()),
                );
                let why = format!(
                    "what was learned before cannot be read from {}: {error}{kept}",
                    path.display()
                );
                self.limit("recalled", why);
            }
        }
        self.is_recalled = true;
    }

    /// What has ended since.
    fn hear(&mut self, plan: &GuardPlan) {
        let Some(mut endings) = self.endings.take() else {
            return;
        };
        let mut unseen: HashMap<u16, u64> = HashMap::new();
        let mut over = Vec::new();
        let heard = endings.drain(|one| {
            if !is_meant(plan, one.here) || !self.listeners.has(one.here) {
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
            if !known.is_judged && !known.is_own && known.closed == 0 {
                self.judge_unseen(plan, &known.talk);
            }
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
        }
        book.limits.insert(kind, why);
    }

    fn clear(&self, kind: &'static str) {
        if let Some(was) = self.shared.book().limits.remove(kind) {
            tracing::info!(%was, "the guard can do again what it could not");
        }
    }

    /// What there is now.
    fn look(&mut self, plan: &GuardPlan) {
        let began = clock::now();
        match look(plan.scope) {
            Ok(seen) => {
                self.clear("look");
                self.take(plan, seen);
            }
            Err(error) => self.limit("look", format!("connections cannot be looked at ({error})")),
        }
        let cost = clock::now().saturating_duration_since(began);
        let cost = cost.saturating_sub(std::mem::take(&mut self.walked));
        self.next_look = clock::now() + (cost * PART).clamp(LOOK, LOOK_AT_MOST);
    }

    fn take(&mut self, plan: &GuardPlan, seen: Look) {
        self.looks += 1;
        self.know_listeners(plan, &seen);
        let mut fresh: HashMap<u16, (u64, u64)> = HashMap::new();
        let mut open: HashMap<u16, u64> = HashMap::new();
        let (mut moved, mut newcomers, mut beyond) = (Vec::new(), Vec::new(), Vec::new());
        for talk in seen.talks {
            if !is_meant(plan, talk.here) {
                continue;
            }
            *open.entry(talk.here.port()).or_default() += 1;
            if let Some(known) = self.known.get_mut(&talk.id()) {
                known.look = self.looks;
                let before = (known.talk.taken, known.talk.given);
                if known.is_judged && before != (talk.taken, talk.given) {
                    moved.push((known.clone(), talk.taken, talk.given));
                }
                // A look may catch the one end before the other is there.
                let is_more = known.talk.user.is_none() && talk.user.is_some();
                let is_other = talk.is_either && known.talk.owner.is_none() && talk.owner.is_some();
                if is_more || is_other {
                    known.talk = talk;
                    known.is_judged = false;
                    newcomers.push(talk);
                }
                // Whose it was when it came is what counts: afterwards it may be nobody's.
                (known.talk.taken, known.talk.given) = (talk.taken, talk.given);
                continue;
            }
            if self.known.len() >= MOST {
                beyond.push(talk);
                continue;
            }
            let counts = fresh.entry(talk.here.port()).or_default();
            counts.0 += 1;
            counts.1 += u64::from(talk.user.is_some());
            let known = Known {
                talk,
                program: None,
                is_judged: false,
                is_own: false,
                may_be_own: false,
                closed: 0,
                has_failed: false,
                look: self.looks,
            };
            self.known.insert(talk.id(), known);
            newcomers.push(talk);
        }
        self.know_own(&newcomers);
        self.judge_beyond(plan, &beyond);
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
            book.prune(&self.listeners);
            for (port, count) in open {
                book.port(port).open += count;
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

    /// Those that the gateway itself has made: that is known as long as it has them open.
    fn know_own(&mut self, newcomers: &[Talk]) {
        let of_own_user = newcomers
            .iter()
            .filter(|talk| talk.user == Some(self.own_user));
        let candidates: HashMap<u64, u64> = of_own_user
            .filter_map(|talk| Some((talk.peer_inode?, talk.id())))
            .collect();
        if candidates.is_empty() {
            return;
        }
        let inodes = candidates.keys().copied().collect();
        for inode in owned_by(std::process::id(), &inodes) {
            let id = candidates.get(&inode);
            if let Some(known) = id.and_then(|id| self.known.get_mut(id)) {
                known.is_own = true;
                known.is_judged = true;
            }
        }
    }

    /// Those that are more than can be known.
    fn judge_beyond(&mut self, plan: &GuardPlan, beyond: &[Talk]) {
        if beyond.is_empty() {
            return self.clear("many");
        }
        let why = format!(
            "{} connections are more than are known at once ({MOST}): those are judged by their user alone, and not counted before they end",
            beyond.len()
        );
        self.limit("many", why);
        for talk in beyond {
            self.judge_unseen(plan, talk);
        }
    }

    /// One of which nobody could see which program it is. Whom a rule about programs might mean is not told of: it was
    /// counted.
    fn judge_unseen(&mut self, plan: &GuardPlan, talk: &Talk) {
        let is_doubtful = talk.user.is_none_or(|user| user == self.own_user);
        if !is_doubtful && !plan.guard.is_open(&sighting(talk, None)) {
            self.judge_one(plan, talk, (None, None));
        }
    }

    /// Somebody listens who did not when it began: that is told when it was looked who it is.
    fn know_listeners(&mut self, plan: &GuardPlan, seen: &Look) {
        let mut fresh = self.listeners.take(&seen.listening);
        fresh.retain(|one| {
            let mut ports = plan.ports.iter();
            plan.ports.is_empty() || ports.any(|ports| ports.contains(&one.address.port()))
        });
        if plan.guard.mode == Mode::Enforce {
            fresh.truncate(FRESH.saturating_sub(self.fresh.len()));
            self.fresh.extend(fresh);
        }
    }

    fn tell_listeners(&mut self, programs: &BTreeMap<u64, Program>) {
        for one in std::mem::take(&mut self.fresh) {
            let address = one.address;
            let program = programs.get(&one.inode);
            if program.is_some_and(|program| program.pid == std::process::id()) {
                continue;
            }
            let shown = program.map(shown);
            let by = match &shown {
                Some(program) => format!("{program} of user {}", user(one.user)),
                None => format!("user {}", user(one.user)),
            };
            self.find(Finding {
                kind: "unknown listener",
                port: address.port(),
                peer: address.to_string(),
                user: Some(one.user),
                program: shown.unwrap_or_default(),
                action: Action::Report,
                rule: None,
                told: format!("{by} listens on {address} since now"),
                outcome: String::new(),
                lasts: LATELY,
            });
        }
    }

    /// What is not judged yet, as far as it is known whose it is.
    fn judge_all(&mut self, plan: &GuardPlan, outgoing: &[Outgoing]) {
        let waiting: Vec<u64> = self
            .known
            .iter()
            .filter(|(_, known)| !known.is_judged && known.look == self.looks)
            .map(|(id, _)| *id)
            .collect();
        let now = clock::now();
        let is_learning = plan.guard.mode == Mode::Learn;
        if now < self.next_walk {
            // The user is known, and is all that counts.
            let clear = |id: &u64| {
                let talk = self.known.get(id).map(|known| known.talk);
                talk.is_some_and(|talk| {
                    !talk.is_either && !plan.guard.is_open(&sighting(&talk, None))
                })
            };
            let clear: Vec<u64> = waiting.into_iter().filter(clear).collect();
            if !is_learning {
                self.judge(plan, &clear, None);
            }
            return;
        }
        let looks_for_relays = !outgoing.is_empty() && now >= self.next_relays;
        if waiting.is_empty() && self.fresh.is_empty() && !looks_for_relays {
            return;
        }
        let talks = || {
            waiting
                .iter()
                .filter_map(|id| Some(self.known.get(id)?.talk))
        };
        let mut inodes: HashSet<u64> = talks().filter_map(|talk| talk.peer_inode).collect();
        inodes.extend(
            talks()
                .filter(|talk| talk.is_either)
                .filter_map(|talk| talk.inode),
        );
        inodes.extend(self.fresh.iter().map(|one| one.inode));
        if looks_for_relays {
            let carriers = self.known.values().filter_map(|known| known.talk.inode);
            inodes.extend(outgoing.iter().map(|one| one.inode).chain(carriers));
        }
        let found = owners(&inodes);
        let cost = clock::now().saturating_duration_since(now);
        self.walked += cost;
        let pause = (cost * PART).clamp(WALK, WALK_AT_MOST);
        self.next_walk = clock::now() + pause;
        if pause > WALK_TOLD {
            let why = format!(
                "a look at all processes takes {} ms, and is taken every {} s: of what is over by then nobody knows the program",
                cost.as_millis(),
                pause.as_secs()
            );
            self.limit("walk", why);
        } else {
            self.clear("walk");
        }
        if found.hidden > 0 && (is_learning || plan.guard.names_programs()) {
            let why = format!(
                "the programs of {} processes cannot be seen: it takes root, or CAP_SYS_PTRACE",
                found.hidden
            );
            self.limit("programs", why);
        } else if !inodes.is_empty() {
            self.clear("programs");
        }
        self.judge(plan, &waiting, Some(&found));
        self.tell_listeners(&found.programs);
        if looks_for_relays {
            self.next_relays = now + RELAYS;
            self.look_for_relays(outgoing, &found.programs);
        }
    }

    /// Judges, with the processes of those, if they were looked for.
    fn judge(&mut self, plan: &GuardPlan, waiting: &[u64], owners: Option<&Owners>) {
        for id in waiting {
            let Some(known) = self.known.get_mut(id) else {
                continue;
            };
            if known.is_own {
                known.is_judged = true;
                continue;
            }
            let talk = known.talk;
            let program = owners.and_then(|owners| owners.programs.get(&talk.peer_inode?));
            let program = program.map(shown);
            let is_doubtful = match talk.user {
                // Our own that is over by now would look like that.
                Some(user) => user == self.own_user && program.is_none(),
                // The one end was seen before the other.
                None => is_local(&talk),
            };
            if is_doubtful && !known.may_be_own {
                // Who is still so at the next look was not.
                known.may_be_own = owners.is_some() || talk.user.is_none();
                continue;
            }
            let other = owners.and_then(|owners| owners.programs.get(&talk.inode?));
            let other = other.filter(|_| talk.is_either).map(shown);
            known.is_judged = true;
            known.program = program.as_deref().map(Into::into);
            let closed = self.judge_one(plan, &talk, (program.as_deref(), other.as_deref()));
            match (closed, self.known.get_mut(id)) {
                (Closed::WasNotThere, Some(known)) => {
                    // Its other end may be.
                    known.closed += 1;
                    known.is_judged = known.closed >= TIMES;
                }
                (Closed::Failed, Some(known)) => known.has_failed = true,
                _ => {}
            }
        }
    }

    /// Judges it, by the program of its peer and, where it may be the other way round, of its own end.
    fn judge_one(
        &mut self,
        plan: &GuardPlan,
        talk: &Talk,
        (program, other): (Option<&str>, Option<&str>),
    ) -> Closed {
        let parties = parties(talk, program);
        if let Some(noticed) = self.habits.came(clock::since_start(clock::now()), &parties) {
            self.tell_habit(&parties, talk, noticed);
        }
        let seen = sighting(talk, program);
        let verdict = if talk.is_either {
            plan.guard.judge_either(&seen, &turned(talk, other))
        } else {
            plan.guard.judge(&seen)
        };
        let is_learned = plan.guard.mode == Mode::Learn && !talk.is_either;
        if is_learned && verdict.rule.is_none() && talk.user.is_some() {
            let is_new = self.learned.saw(&parties);
            self.is_written &= !is_new;
        }
        if verdict.action == Action::Allow {
            return Closed::NoMore;
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
                let how = match error.kind() {
                    io::ErrorKind::PermissionDenied => "; it takes CAP_NET_ADMIN",
                    _ => "",
                };
                let why = format!("the connection cannot be closed ({error}){how}");
                self.limit("close", why.clone());
                format!(": {why}")
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
            outcome: done,
            lasts: LATELY,
        });
        match closed {
            Some(Err(error)) if error.kind() == io::ErrorKind::NotFound => Closed::WasNotThere,
            Some(Err(_)) => Closed::Failed,
            Some(Ok(())) | None => Closed::NoMore,
        }
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
        if let Some(noticed) = self.habits.carried(now, &parties, more_taken, more_given) {
            self.tell_habit(&parties, &known.talk, noticed);
        }
    }

    fn tell_habit(&self, parties: &Parties, talk: &Talk, noticed: Noticed) {
        let program = Some(&*parties.program).filter(|program| !program.is_empty());
        let who = who(talk, program);
        let (kind, told) = match noticed.habit {
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
        let finding = Finding {
            kind,
            port: parties.port,
            peer: talk.peer.to_string(),
            user: talk.user,
            program: parties.program.to_string(),
            action: Action::Report,
            rule: None,
            told,
            outcome: String::new(),
            lasts: noticed.lasts.max(LATELY),
        };
        if noticed.is_news {
            self.find(finding);
        } else {
            self.shared.book().goes_on(&finding);
        }
    }

    /// Processes that serve a port of this machine's own, and carry about as much beyond it.
    fn look_for_relays(&mut self, outgoing: &[Outgoing], programs: &BTreeMap<u64, Program>) {
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
                outcome: String::new(),
                lasts: LATELY,
            });
        }
    }

    /// What was refused at its first packet.
    fn count_refused(&mut self, plan: &GuardPlan) {
        let Some(gate) = &mut self.gate else {
            return;
        };
        if !gate.is_there() {
            self.gate = None;
            self.refused.clear();
            return self.try_again(plan);
        }
        let Some(refused) = gate.refused() else {
            return;
        };
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
            // The kernel does not tell at which of them.
            let at = match ports {
                [] => String::new(),
                [one] if one.start() == one.end() => format!(" at port {}", one.start()),
                some => {
                    let ranges = some.iter().map(|one| match one.start() == one.end() {
                        true => one.start().to_string(),
                        false => format!("{}-{}", one.start(), one.end()),
                    });
                    format!(
                        " at one of the ports {}",
                        ranges.collect::<Vec<_>>().join(", ")
                    )
                }
            };
            self.find(Finding {
                kind: if rule.is_some() {
                    "rule"
                } else {
                    "unknown peer"
                },
                port: match ports {
                    [one] if one.start() == one.end() => *one.start(),
                    _ => 0,
                },
                peer: String::new(),
                user: rule_of.and_then(|rule| match rule.users.as_slice() {
                    [one] => Some(*one),
                    _ => None,
                }),
                program: String::new(),
                action: Action::Close,
                rule: *rule,
                told: format!("{what} was refused at the first packet{at}, {times} ({by})"),
                outcome: String::new(),
                lasts: LATELY,
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
        let rules = self.learned.rules();
        self.shared.book().learned = rules.len();
        let path = &self.shared.learned;
        match learned::write(path, &rules, self.learned.is_full()) {
            Ok(()) => {
                self.is_written = true;
                self.clear("learned");
            }
            Err(error) => self.limit(
                "learned",
                format!(
                    "what was learned cannot be written to {}: {error}",
                    path.display()
                ),
            ),
        }
    }
}

/// What became of the end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Closed {
    /// There is no more to do.
    NoMore,
    WasNotThere,
    Failed,
}

fn is_meant(plan: &GuardPlan, here: SocketAddr) -> bool {
    (plan.scope == Scope::All || here.ip().to_canonical().is_loopback())
        && (plan.ports.is_empty() || plan.ports.iter().any(|ports| ports.contains(&here.port())))
}

fn sighting<'s>(talk: &Talk, program: Option<&'s str>) -> Sighting<'s> {
    Sighting {
        port: talk.here.port(),
        peer: talk.peer.ip(),
        user: talk.user,
        program,
        is_local: is_local(talk),
    }
}

/// Whether both ends are of this machine.
fn is_local(talk: &Talk) -> bool {
    talk.user.is_some() || talk.peer.ip().is_loopback() || talk.peer.ip() == talk.here.ip()
}

/// The same seen from the other end.
fn turned<'s>(talk: &Talk, program: Option<&'s str>) -> Sighting<'s> {
    Sighting {
        port: talk.peer.port(),
        peer: talk.here.ip(),
        user: talk.owner,
        program,
        is_local: true,
    }
}

fn parties(talk: &Talk, program: Option<&str>) -> Parties {
    Parties {
        port: talk.here.port(),
        user: talk.user,
        program: program.unwrap_or_default().into(),
        address: Some(talk.peer.ip()).filter(|_| talk.user.is_none()),
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

/// The file that it runs, or its name. One that was replaced meanwhile has the name that it had.
fn shown(program: &Program) -> String {
    let path = program.path.as_ref().map(|path| path.display().to_string());
    let path = path.unwrap_or_else(|| program.name.clone());
    path.strip_suffix(" (deleted)").unwrap_or(&path).to_owned()
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

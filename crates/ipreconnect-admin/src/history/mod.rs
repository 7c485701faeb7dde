//! The outage ledger: what was lost, for how long, and what it did to clients.
//!
//! Facts come in through a bounded queue from the thread that detects losses; a thread of the ledger's own
//! writes them. What the disk does not take waits, bounded, and is written later.

mod chronicle;
mod question;
mod store;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ipreconnect::stats::Counts;
use ipreconnect::{News, Witness, clock};

use crate::gateway::{Gateway, Pulse};
use crate::moment::millis;
use crate::view::{FindingView, History, HistoryQuestion};
use chronicle::{Chronicle, Entry, Fact};
use store::{GRAINS, Opening, Rollup, SAMPLE, SHORT, Store, Write};

/// Facts that wait to be written.
const QUEUE: usize = 4096;
/// Entries that wait for a disk that takes nothing.
const PENDING: usize = 20_000;
/// Between two looks at how all origins are.
const TICK: Duration = Duration::from_secs(10);
/// Between two notes of it.
const NOTE: Duration = Duration::from_secs(60);
/// The same of hours and days, while nothing happens.
const NOTE_OF_QUIET: Duration = Duration::from_secs(600);
/// The clock is not set before: 2020.
const PLAUSIBLE: u64 = 1_577_836_800_000;
/// A clock that jumps farther is not believed when old entries are let go.
const JUMP: u64 = 24 * 3600 * 1000;
/// Before the first one.
const SOON: Duration = Duration::from_secs(1);
/// Between two looks for what is too old.
const TRIM: Duration = Duration::from_secs(3600);
/// After a failure the disk is tried again.
const AGAIN: Duration = Duration::from_secs(5);

/// The ledger of a running gateway. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Ledger(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    facts: SyncSender<Message>,
    dropped: AtomicU64,
    problem: Mutex<Option<String>>,
}

#[derive(Debug)]
enum Message {
    Fact(Box<Fact>),
    Finding(Box<FindingView>),
    End(SyncSender<()>),
}

/// A ledger that does not run yet: it hears, and nothing is written.
#[derive(Debug)]
pub struct Begun {
    ledger: Ledger,
    facts: Receiver<Message>,
}

impl Begun {
    /// What hears.
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Begins to write, in a thread of its own.
    ///
    /// # Errors
    /// If there can be no thread.
    pub fn run(self, gateway: Arc<dyn Gateway>) -> io::Result<Ledger> {
        let ledger = self.ledger.clone();
        let writer = Writer::new(self.ledger, gateway);
        std::thread::Builder::new()
            .name("ledger".to_owned())
            .spawn(move || writer.run(&self.facts))?;
        Ok(ledger)
    }
}

impl Ledger {
    /// The ledger in that directory.
    #[must_use]
    pub fn begin(directory: &Path) -> Begun {
        let (facts, heard) = sync_channel(QUEUE);
        Begun {
            ledger: Self(Arc::new(Shared {
                path: directory.join("history.db"),
                facts,
                dropped: AtomicU64::new(0),
                problem: Mutex::default(),
            })),
            facts: heard,
        }
    }

    /// What is written, as it is shown. It reads from the disk: not for a thread that must not wait.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn history(&self, question: &HistoryQuestion) -> io::Result<History> {
        let mut history = read_history(&self.0.path, question)?;
        history.dropped = self.dropped();
        history.problem = self.problem();
        Ok(history)
    }

    /// Entries that were not kept.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.0.dropped.load(Relaxed)
    }

    /// Why nothing can be written just now, if nothing can.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        let problem = self.0.problem.lock();
        problem.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The guard of local ports has found something.
    pub fn note_finding(&self, finding: &FindingView) {
        let message = Message::Finding(Box::new(finding.clone()));
        if self.0.facts.try_send(message).is_err() {
            self.0.dropped.fetch_add(1, Relaxed);
        }
    }

    /// Has everything written that was heard, or gives up after some seconds.
    pub fn end(&self) {
        const PATIENCE: Duration = Duration::from_secs(5);
        const PAUSE: Duration = Duration::from_millis(10);
        let until = clock::now() + PATIENCE;
        let (done, ended) = sync_channel(1);
        let mut message = Message::End(done);
        while let Err(TrySendError::Full(back)) = self.0.facts.try_send(message) {
            if clock::now() >= until {
                return;
            }
            message = back;
            std::thread::sleep(PAUSE);
        }
        // What is not written by then is lost, as with a process that is killed.
        let _ = ended.recv_timeout(until.saturating_duration_since(clock::now()));
    }

    fn set_problem(&self, problem: Option<String>) -> bool {
        let place = self.0.problem.lock();
        let mut place = place.unwrap_or_else(PoisonError::into_inner);
        let is_news = place.is_some() != problem.is_some();
        *place = problem;
        is_news
    }
}

/// What was written by a gateway that may run or not.
///
/// # Errors
/// If it cannot be read.
pub fn read_history(path: &Path, question: &HistoryQuestion) -> io::Result<History> {
    let now = clock::since_unix().as_secs();
    let connection = store::read(path).map_err(|error| store::told(path, &error))?;
    question::answer(&connection, question, now).map_err(|error| store::told(path, &error))
}

impl Witness for Ledger {
    fn hear(&self, news: &News<'_>) {
        let fact = Fact {
            at: clock::now(),
            wall: millis(clock::since_unix()),
            origin: Arc::clone(news.origin),
            notice: news.notice.clone(),
            blame: news.blame,
            last_life: news.last_life,
            counts: news.stats.counts(),
        };
        if self
            .0
            .facts
            .try_send(Message::Fact(Box::new(fact)))
            .is_err()
        {
            self.0.dropped.fetch_add(1, Relaxed);
        }
    }
}

/// Writes, for as long as anybody may have something to say.
struct Writer {
    ledger: Ledger,
    gateway: Arc<dyn Gateway>,
    store: Option<Store>,
    /// The number of the last loss of earlier runs.
    before: Option<u64>,
    chronicle: Chronicle,
    /// What is to be written.
    pending: Vec<Write>,
    /// What was counted of each origin when it was noted last.
    counted: BTreeMap<String, Counts>,
    /// The same at the last look, and when that was.
    sampled: (BTreeMap<String, Counts>, Instant),
    /// Hours and days that are not written yet, by origin and length.
    gathered: BTreeMap<(String, u64), Rollup>,
    noted: Instant,
    /// When it is time to look, and to note.
    due: Instant,
    note: Instant,
    gathered_since: Instant,
    trimmed: Option<Instant>,
    retry: Option<Instant>,
    /// The clock of people when that of the process was this.
    clocks: (u64, Instant),
}

impl Writer {
    fn new(ledger: Ledger, gateway: Arc<dyn Gateway>) -> Self {
        let now = clock::now();
        Self {
            ledger,
            gateway,
            store: None,
            before: None,
            chronicle: Chronicle::new(now),
            pending: Vec::new(),
            counted: BTreeMap::new(),
            sampled: (BTreeMap::new(), clock::now()),
            gathered: BTreeMap::new(),
            noted: now,
            due: now + SOON,
            note: now + SOON,
            gathered_since: now,
            trimmed: None,
            retry: None,
            clocks: (millis(clock::since_unix()), now),
        }
    }

    fn run(mut self, facts: &Receiver<Message>) {
        self.open();
        loop {
            let settles = self.chronicle.settles();
            let wake = settles.map_or(self.due, |settles| settles.min(self.due));
            let wait = wake.saturating_duration_since(clock::now());
            let mut ends = match facts.recv_timeout(wait) {
                Ok(message) => self.take(message),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            while let (None, Ok(message)) = (&ends, facts.try_recv()) {
                ends = self.take(message);
            }
            if let Some(done) = ends {
                self.look(End::Now);
                self.retry = None;
                self.flush();
                // Whoever asked may have given up.
                let _ = done.send(());
                return;
            }
            let now = clock::now();
            if now >= self.due || self.chronicle.settles().is_some_and(|due| now >= due) {
                self.look(End::Later);
            }
            self.flush();
        }
    }

    fn take(&mut self, message: Message) -> Option<SyncSender<()>> {
        match message {
            Message::Fact(fact) => {
                let mut entries = Vec::new();
                self.chronicle.hear(&fact, &mut entries);
                self.write(entries);
                None
            }
            Message::Finding(finding) => {
                self.pending.push(Write::Finding(finding));
                None
            }
            Message::End(done) => Some(done),
        }
    }

    fn write(&mut self, entries: Vec<Entry>) {
        self.pending.extend(entries.into_iter().map(Write::Entry));
    }

    /// Looks how all origins are.
    fn look(&mut self, end: End) {
        let now = clock::now();
        let wall = millis(clock::since_unix());
        // Stretches of ten seconds begin where the clock says so.
        let tick = millis(TICK);
        self.due = now + Duration::from_millis(tick - wall % tick);
        let pulses = self.gateway.pulses();
        let pulses: BTreeMap<&str, &Pulse> = pulses
            .iter()
            .map(|pulse| (pulse.origin.as_str(), pulse))
            .collect();
        let mut entries = Vec::new();
        self.chronicle
            .keep(now, |origin| pulses.get(origin).copied(), &mut entries);
        let settled_by = (end == End::Later).then_some(now);
        let counts = |origin: &str| pulses.get(origin).map(|pulse| &pulse.counts);
        self.chronicle.settle(settled_by, counts, &mut entries);
        self.write(entries);
        self.sample(&pulses, now, wall);
        if wall < PLAUSIBLE {
            return;
        }
        if end == End::Now || now >= self.note {
            self.note = now + NOTE;
            self.note_all(&pulses, now, wall / 1000, end);
        }
        self.pending.push(Write::Alive(wall));
        let is_due = |last| now.saturating_duration_since(last) >= TRIM;
        if self.trimmed.is_none_or(is_due) {
            let is_believed = self.is_believed(now, wall);
            // One that has jumped is believed when it has gone evenly since.
            self.clocks = (wall, now);
            self.trimmed = Some(now);
            if is_believed {
                self.pending.push(Write::Trim(wall / 1000));
            }
        }
    }

    /// Whether the clock of people goes like that of the process.
    fn is_believed(&self, now: Instant, wall: u64) -> bool {
        let (began, at) = self.clocks;
        let expected = began + millis(now.saturating_duration_since(at));
        expected.abs_diff(wall) < JUMP
    }

    fn note_all(&mut self, pulses: &BTreeMap<&str, &Pulse>, now: Instant, at: u64, end: End) {
        let observed = now.saturating_duration_since(self.noted);
        self.noted = now;
        let down = self.chronicle.take_down(now);
        for pulse in pulses.values() {
            let down = down.get(pulse.origin.as_str()).copied();
            let down = down.unwrap_or_default().min(observed);
            self.roll_up(pulse, (observed, down), at);
        }
        let pulses = pulses.values();
        self.counted = pulses
            .map(|pulse| (pulse.origin.clone(), pulse.counts.clone()))
            .collect();
        let is_first = self.trimmed.is_none();
        let rests = now.saturating_duration_since(self.gathered_since);
        if end == End::Now || is_first || rests >= NOTE_OF_QUIET {
            self.gathered_since = now;
            let gathered = std::mem::take(&mut self.gathered).into_values();
            self.pending
                .extend(gathered.map(|rollup| Write::Rollup(Box::new(rollup))));
        }
    }

    /// Writes what has happened to each origin since the last look, if anything has.
    fn sample(&mut self, pulses: &BTreeMap<&str, &Pulse>, now: Instant, wall: u64) {
        let none = Counts::default();
        let (before, at) = &self.sampled;
        let observed = millis(now.saturating_duration_since(*at));
        let began = wall.saturating_sub(observed.min(SAMPLE * 1000)) / 1000;
        let samples = pulses.values().map(|pulse| {
            let before = before.get(&pulse.origin).unwrap_or(&none);
            let down = if pulse.is_down { observed } else { 0 };
            Rollup {
                grain: SAMPLE,
                at: began / SAMPLE * SAMPLE,
                ..rollup(pulse, &pulse.counts.since(before), (observed, down))
            }
        });
        let loud = samples.filter(|sample| !sample.is_quiet() && wall >= PLAUSIBLE);
        let writes = loud.map(|sample| Write::Rollup(Box::new(sample)));
        self.pending.extend(writes);
        let counts = pulses.values();
        let counts = counts.map(|pulse| (pulse.origin.clone(), pulse.counts.clone()));
        self.sampled = (counts.collect(), now);
    }

    fn roll_up(&mut self, pulse: &Pulse, (observed, down): (Duration, Duration), now: u64) {
        let none = Counts::default();
        let before = self.counted.get(&pulse.origin).unwrap_or(&none);
        let since = pulse.counts.since(before);
        let rollup = rollup(pulse, &since, (millis(observed), millis(down)));
        let is_quiet = rollup.is_quiet();
        for (grain, _) in GRAINS {
            let rollup = Rollup {
                grain,
                at: now / grain * grain,
                ..rollup.clone()
            };
            if grain > SHORT {
                self.gather(rollup, is_quiet);
            } else if !is_quiet {
                self.pending.push(Write::Rollup(Box::new(rollup)));
            }
        }
    }

    /// What is quiet is written together with what follows.
    fn gather(&mut self, rollup: Rollup, is_quiet: bool) {
        let key = (rollup.origin.clone(), rollup.grain);
        match self.gathered.remove(&key) {
            Some(mut before) if before.at == rollup.at => {
                before.add(&rollup);
                self.gathered.insert(key.clone(), before);
            }
            before => {
                let before = before.map(|before| Write::Rollup(Box::new(before)));
                self.pending.extend(before);
                self.gathered.insert(key.clone(), rollup);
            }
        }
        if !is_quiet && let Some(rollup) = self.gathered.remove(&key) {
            self.pending.push(Write::Rollup(Box::new(rollup)));
        }
    }

    fn open(&mut self) {
        let path = self.ledger.0.path.clone();
        let when = match self.before {
            None => Opening::First,
            Some(_) => Opening::Again,
        };
        match Store::open(&path, when, millis(clock::since_unix())) {
            Ok(opened) => {
                if let Some(aside) = opened.moved {
                    tracing::error!(
                        path = %path.display(), moved = %aside.display(),
                        "the outage ledger was damaged; it was moved aside, and begins anew"
                    );
                }
                self.before.get_or_insert(opened.last);
                self.store = Some(opened.store);
            }
            Err(error) => self.fail(&error.to_string()),
        }
    }

    /// Writes what is pending, as far as the disk takes it.
    fn flush(&mut self) {
        if self.pending.is_empty() {
            return;
        }
        let now = clock::now();
        if self.retry.is_some_and(|retry| now < retry) {
            self.bound();
            return;
        }
        let path = &self.ledger.0.path;
        if self.store.as_ref().is_some_and(|store| !store.is_at(path)) {
            tracing::error!(
                path = %path.display(),
                "the outage ledger was taken away; it begins anew, or goes on in what is there now"
            );
            self.store = None;
        }
        if self.store.is_none() {
            self.open();
        }
        let Some(store) = &mut self.store else {
            self.bound();
            return;
        };
        match store.write(&self.pending, self.before.unwrap_or_default()) {
            Ok(()) => {
                self.pending.clear();
                self.retry = None;
                if self.ledger.set_problem(None) {
                    tracing::info!("the outage ledger is written again");
                }
            }
            Err(error) if store::is_refusal(&error) => self.write_each(),
            Err(error) => {
                self.store = None;
                let path = &self.ledger.0.path;
                if store::is_damage(&error) {
                    self.set_aside();
                }
                let told = store::told(path, &error);
                self.fail(&told.to_string());
                self.bound();
            }
        }
    }

    /// Writes one by one, in order: what can never be written must not hold up the rest.
    fn write_each(&mut self) {
        let before = self.before.unwrap_or_default();
        let pending = std::mem::take(&mut self.pending);
        let mut failed = None;
        for write in pending {
            let Some(store) = self.store.as_mut().filter(|_| failed.is_none()) else {
                self.pending.push(write);
                continue;
            };
            match store.write(std::slice::from_ref(&write), before) {
                Ok(()) => {}
                Err(error) if store::is_refusal(&error) => {
                    self.ledger.0.dropped.fetch_add(1, Relaxed);
                }
                Err(error) => {
                    failed = Some(store::told(&self.ledger.0.path, &error).to_string());
                    self.pending.push(write);
                }
            }
        }
        if let Some(why) = failed {
            self.store = None;
            self.fail(&why);
        }
    }

    fn set_aside(&self) {
        let path = &self.ledger.0.path;
        match store::set_aside(path, millis(clock::since_unix())) {
            Ok(aside) => tracing::error!(
                path = %path.display(), moved = %aside.display(),
                "the outage ledger is damaged; it is moved aside, and begins anew"
            ),
            Err(error) => {
                tracing::error!(path = %path.display(), %error, "the outage ledger is damaged");
            }
        }
    }

    fn fail(&mut self, why: &str) {
        self.retry = Some(clock::now() + AGAIN);
        if self.ledger.set_problem(Some(why.to_owned())) {
            tracing::error!(
                why,
                advice = "make room on that disk; the gateway goes on meanwhile, and what it has to tell is kept in memory",
                "the outage ledger cannot be written"
            );
        }
    }

    /// Keeps no more than may be kept: losses before rollups, and of losses the latest.
    fn bound(&mut self) {
        if self.pending.len() <= PENDING {
            return;
        }
        let before = self.pending.len();
        let mut surplus = before - PENDING / 2;
        // What says least goes first.
        let is_of = |write: &Write, most: u64| matches!(write, Write::Rollup(rollup) if rollup.grain <= most);
        for most in [SAMPLE, SHORT, u64::MAX] {
            self.pending.retain(|write| {
                let goes =
                    is_of(write, most) || (most == u64::MAX && !matches!(write, Write::Entry(_)));
                if !goes || surplus == 0 {
                    return true;
                }
                surplus -= 1;
                false
            });
        }
        if self.pending.len() > PENDING {
            // A loss goes with its end, and the end of one that is written already stays.
            let begun = self.pending.iter().filter_map(|write| match write {
                Write::Entry(Entry::Begun(loss)) => Some(loss.id),
                _ => None,
            });
            let gone: BTreeSet<u64> = begun.take(PENDING / 2).collect();
            self.pending.retain(|write| match write {
                Write::Entry(entry) => !gone.contains(&entry.id()),
                _ => true,
            });
        }
        let gone = before - self.pending.len();
        self.ledger.0.dropped.fetch_add(gone as u64, Relaxed);
    }
}

/// Whether the gateway ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Now,
    Later,
}

/// What was counted of an origin in some stretch of time.
fn rollup(pulse: &Pulse, since: &Counts, (observed_ms, down_ms): (u64, u64)) -> Rollup {
    Rollup {
        origin: pulse.origin.clone(),
        observed_ms,
        down_ms,
        requests: since.requests(),
        failed: since.classes.last().copied().unwrap_or_default(),
        held: since.held,
        retried: since.retried,
        lost: since.lost,
        waiting: pulse.waiting,
        times: since.times.clone(),
        ..Rollup::default()
    }
}

#[cfg(test)]
mod tests;

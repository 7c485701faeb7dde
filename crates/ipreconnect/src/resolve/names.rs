//! The names service: one for all origins of a process.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ipreconnect_core::failure::{Cause, Failure};
use ipreconnect_core::names::{Knowledge, Outcome, Panel, Remembered, Security, Turn};
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::answer::{Question, Record, RecordKind};
use super::ask::{Said, Server};
use super::lookup::{Brought, Circle};
use super::place::reachable;
use super::settings::DnsSettings;
use super::table::{Due, Known, Table};
use super::visits::{Visit, Visits};
use crate::builder::random_seed;
use crate::clock;
use crate::store::Store;
use crate::task::Task;

/// Lookups under way at once, over all names.
const LOOKUPS: usize = 256;
/// When one family has answered, the other is waited for so long (RFC 8305, section 3).
const OTHER_FAMILY: Duration = Duration::from_millis(50);
/// Reads and writes of the store under way at once.
const DISK: usize = 4;
/// The table of the store.
const TABLE: &str = "names";

/// Looks names up for all origins, and remembers them. Cheap to clone; it ends with the last clone.
#[derive(Clone, Debug)]
pub struct Names {
    shared: Arc<Shared>,
    _task: Arc<Task>,
}

#[derive(Debug)]
struct Shared {
    table: Mutex<Table>,
    circle: Mutex<Circle>,
    settings: Mutex<DnsSettings>,
    changed: Notify,
    store: Option<Arc<dyn Store>>,
    runtime: Handle,
    /// The same servers, for hosts that nobody follows: whoever asks for many of those takes nothing away from
    /// origins, and what their names do says nothing of the servers.
    visiting: Mutex<Circle>,
    visits: Mutex<Arc<Visits>>,
}

/// One name of an origin, as people read it.
#[derive(Clone, Debug, PartialEq)]
pub struct NameStatus {
    /// The entry of the address list.
    pub name: String,
    /// What its addresses are worth.
    pub knowledge: Knowledge,
    /// Whether they are proven by DNSSEC.
    pub security: Security,
    /// Whether they were proven once, and provably are not signed any more.
    pub turned_insecure: bool,
    /// How many there are.
    pub addresses: usize,
    /// Addresses of the answer that are not dialled, and why.
    pub denied: Vec<String>,
    /// Their time to live.
    pub ttl: Duration,
    /// Who gave the last answer.
    pub server: Option<Arc<str>>,
    /// What is wrong, while something is.
    pub failure: Option<Failure>,
}

/// What one server answered to one question.
#[derive(Clone, Debug)]
pub struct ServerAnswer {
    /// How people write the server.
    pub server: Arc<str>,
    /// How long it took.
    pub took: Duration,
    /// The records with their time to live, or what is wrong.
    pub answer: Result<(Vec<Record>, Duration, Security), Failure>,
}

/// One server, as people read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerStatus {
    /// How people write it.
    pub server: Arc<str>,
    /// Failures since its last answer.
    pub failures: u32,
    /// For how long it is still set aside.
    pub aside: Option<Duration>,
}

impl Names {
    /// Begins, with all its work on `runtime`; what is known of names is kept in `store`. Proving answers
    /// takes processor time: a runtime of its own keeps that away from whoever must not wait.
    #[must_use]
    pub fn start(runtime: &Handle, settings: DnsSettings, store: Option<Arc<dyn Store>>) -> Self {
        let shared = Arc::new(Shared {
            table: Mutex::new(Table::new(settings.memory(), random_seed())),
            circle: Mutex::new(circle(&settings)),
            visiting: Mutex::new(circle(&settings)),
            visits: Mutex::new(Arc::new(Visits::new(&settings))),
            settings: Mutex::new(settings),
            changed: Notify::new(),
            store,
            runtime: runtime.clone(),
        });
        let work = run(Arc::clone(&shared));
        Self {
            shared,
            _task: Arc::new(Task::spawn(runtime, "names", work)),
        }
    }

    /// Where things are kept between two runs.
    pub(crate) fn store(&self) -> Option<Arc<dyn Store>> {
        self.shared.store.clone()
    }

    /// The machine's network is another one, or it slept: no server's failures count any more, and every
    /// name is looked up again at once.
    pub fn begin_again(&self) {
        self.shared.begin_again();
        self.shared.changed.notify_one();
    }

    /// Takes other settings. What is known stays, and every name is looked up by them at once.
    pub fn reconfigure(&self, settings: DnsSettings) {
        let mut known = lock(&self.shared.settings);
        if *known == settings {
            return;
        }
        *lock(&self.shared.circle) = circle(&settings);
        *lock(&self.shared.visiting) = circle(&settings);
        *lock(&self.shared.visits) = Arc::new(Visits::new(&settings));
        self.shared
            .table()
            .set_limits(clock::now(), settings.memory());
        *known = settings;
        self.shared.changed.notify_one();
    }

    /// Asks every server one question, past all that is known.
    ///
    /// Cancel safety: dropping the future gives the questions up.
    pub async fn ask_each(&self, question: &Question) -> Vec<ServerAnswer> {
        let servers = Arc::clone(&lock(&self.shared.circle).servers);
        let mut asked = JoinSet::new();
        for (index, server) in servers.iter().enumerate() {
            let (server, question) = (Arc::clone(server), question.clone());
            asked.spawn(async move {
                let began = clock::now();
                let said = server.ask(&question, None).await;
                (index, answer_of(&server, said, began))
            });
        }
        let mut answers: Vec<(usize, ServerAnswer)> = Vec::new();
        while let Some(answer) = asked.join_next().await {
            answers.extend(answer);
        }
        answers.sort_by_key(|(index, _)| *index);
        answers.into_iter().map(|(_, answer)| answer).collect()
    }

    /// Asks one question as any lookup is made, past all that is known.
    ///
    /// # Errors
    /// Why there are no records.
    ///
    /// # Cancel safety
    /// Dropping the future gives the question up.
    pub async fn look_up(&self, question: &Question) -> Result<Vec<Record>, Failure> {
        let circle = lock(&self.shared.circle).clone();
        match circle.look_up(question, None).await.outcome {
            Outcome::Found { records, .. } => Ok(records),
            Outcome::Nothing { failure, .. } | Outcome::Failed(failure) => Err(failure),
        }
    }

    /// The addresses of a host that nobody follows, those first that may be reached, and for how long they hold.
    /// Nothing is kept of it here. Whoever it is for has no more than half of all that are looked up at once.
    ///
    /// # Errors
    /// Why there are none: also, that too many others are looked up.
    ///
    /// # Cancel safety
    /// Nothing is lost; the lookup comes to its end, and nobody hears of it.
    pub async fn visit(
        &self,
        host: &str,
        source: Option<IpAddr>,
    ) -> Result<(Vec<IpAddr>, Duration), Failure> {
        let turn = self.turn(host, source).await?;
        self.visit_in(host, turn).await
    }

    /// A turn to look up a host, at once if there is one.
    pub(crate) fn try_turn(&self, source: Option<IpAddr>) -> Option<Arc<Visit>> {
        lock(&self.shared.visits).try_begin(source)
    }

    /// The same as soon as there is one.
    ///
    /// Cancel safety: nothing is lost but the place in the queue.
    pub(crate) async fn turn(
        &self,
        host: &str,
        source: Option<IpAddr>,
    ) -> Result<Arc<Visit>, Failure> {
        let visits = Arc::clone(&lock(&self.shared.visits));
        let full = || {
            let why = format!("{host}: too many other hosts are being looked up");
            Failure::with_detail(Cause::ResolverFailed, why)
        };
        visits.begin(source).await.ok_or_else(full)
    }

    /// Looks up a host in one's turn.
    pub(crate) async fn visit_in(
        &self,
        host: &str,
        turn: Arc<Visit>,
    ) -> Result<(Vec<IpAddr>, Duration), Failure> {
        let ask = |kind| {
            let circle = lock(&self.shared.visiting).clone();
            let question = Question::new(host, kind);
            // Whoever asked may be gone before the answer is here.
            let turn = Arc::clone(&turn);
            self.shared.runtime.spawn(async move {
                let brought = circle.look_up_in(&question, None, Some(turn)).await;
                brought.outcome
            })
        };
        let (mut v6, mut v4) = (ask(RecordKind::Aaaa), ask(RecordKind::A));
        let (first, second) = tokio::select! {
            said = &mut v6 => (said.ok(), v4),
            said = &mut v4 => (said.ok(), v6),
        };
        let has_some =
            matches!(&first, Some(Outcome::Found { records, .. }) if !records.is_empty());
        let second = if has_some {
            let second = tokio::time::timeout(OTHER_FAMILY, second).await;
            second.ok().and_then(Result::ok)
        } else {
            second.await.ok()
        };
        both(host, [first, second])
    }

    /// What is known of each server.
    #[must_use]
    pub fn servers(&self) -> Vec<ServerStatus> {
        let circle = lock(&self.shared.circle).clone();
        let now = clock::now();
        let panel = lock(&circle.panel);
        let seats = panel.seats().iter().zip(circle.servers.iter());
        seats
            .map(|(seat, server)| ServerStatus {
                server: Arc::clone(&server.label),
                failures: seat.failures,
                aside: seat
                    .aside_until
                    .and_then(|until| until.checked_duration_since(now))
                    .filter(|left| !left.is_zero()),
            })
            .collect()
    }

    /// Follows a name: `bell` is rung whenever what is known of it changes.
    pub(super) fn follow(&self, question: Question, bell: &Arc<Notify>) -> Follower {
        let user = self
            .shared
            .table()
            .enter(clock::now(), &question, Arc::clone(bell));
        self.shared.changed.notify_one();
        Follower {
            shared: Arc::clone(&self.shared),
            question,
            user,
        }
    }
}

/// Both families together.
fn both(
    host: &str,
    said: [Option<Outcome<Record>>; 2],
) -> Result<(Vec<IpAddr>, Duration), Failure> {
    let (mut ips, mut holds, mut why) = (Vec::new(), Duration::MAX, None);
    for outcome in said.into_iter().flatten() {
        match outcome {
            Outcome::Found { records, ttl, .. } => {
                ips.extend(records.into_iter().filter_map(|record| match record {
                    Record::Address(ip) => Some(ip),
                    Record::Service(_) => None,
                }));
                holds = holds.min(ttl);
            }
            // A resolver that failed says more than a family that has no address.
            Outcome::Nothing { .. } => {}
            Outcome::Failed(failure) => why = Some(failure),
        }
    }
    if ips.is_empty() {
        let failure = || Failure::with_detail(Cause::NoSuchName, host.to_owned());
        return Err(why.unwrap_or_else(failure));
    }
    ips.sort_by_key(IpAddr::is_ipv4);
    Ok((reachable(ips), holds))
}

fn answer_of(server: &Server, said: Said, began: Instant) -> ServerAnswer {
    ServerAnswer {
        server: Arc::clone(&server.label),
        took: began.elapsed(),
        answer: match said {
            Said::Answer(answer) => Ok((answer.records, answer.ttl, answer.security)),
            Said::Nothing { failure, .. } | Said::Failed { failure, .. } => Err(failure),
        },
    }
}

fn circle(settings: &DnsSettings) -> Circle {
    let servers = Server::all(settings);
    Circle {
        panel: Arc::new(Mutex::new(Panel::new(servers.len()))),
        servers: servers.into(),
        strategy: settings.strategy,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Somebody who follows a name, until it is dropped.
#[derive(Debug)]
pub(super) struct Follower {
    shared: Arc<Shared>,
    question: Question,
    user: u64,
}

impl Follower {
    pub(super) fn question(&self) -> &Question {
        &self.question
    }

    /// What is known now.
    pub(super) fn known(&self) -> Option<Known> {
        self.shared.table().known(&self.question)
    }

    /// Asks for a lookup past the time to live.
    pub(super) fn doubt(&self) {
        self.shared.table().doubt(clock::now(), &self.question);
        self.shared.changed.notify_one();
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.shared.table().leave(&self.question, self.user);
    }
}

impl Shared {
    fn table(&self) -> MutexGuard<'_, Table> {
        lock(&self.table)
    }

    /// Starts the lookups that are due; returns when to look again.
    fn start_due(&self, lookups: &mut JoinSet<(Due, Brought)>) -> Option<Instant> {
        let room = LOOKUPS.saturating_sub(lookups.len());
        let (due, wakeup) = {
            let mut table = self.table();
            (table.due(clock::now(), room), table.wakeup())
        };
        for due in due {
            let circle = lock(&self.circle).clone();
            lookups.spawn(async move {
                let brought = circle.look_up(&due.question, due.not_first).await;
                (due, brought)
            });
        }
        // Without room, whatever is due waits for the end of a lookup.
        wakeup.filter(|_| lookups.len() < LOOKUPS)
    }

    fn take(&self, due: &Due, brought: Brought) {
        tracing::trace!(question = %due.question, outcome = ?brought.outcome, "looked up");
        let label = brought.server.and_then(|server| {
            let servers = Arc::clone(&lock(&self.circle).servers);
            servers.get(server).map(|server| Arc::clone(&server.label))
        });
        let turn = self.table().take(clock::now(), due, brought, label);
        if turn == Some(Turn::Insecure) {
            tracing::warn!(
                name = %due.question,
                advice = "if nobody took the signatures off on purpose, somebody may be forging answers",
                "a name that was proven by DNSSEC is not signed any more"
            );
        }
    }

    fn begin_again(&self) {
        for circle in [&self.circle, &self.visiting] {
            let circle = lock(circle).clone();
            lock(&circle.panel).forgive();
            for server in circle.servers.iter() {
                server.forget();
            }
        }
        self.table().doubt_all(clock::now());
    }

    /// Reads and writes what the store keeps, a few at a time.
    fn start_disk(&self, disk: &mut JoinSet<Disk>) {
        let Some(store) = &self.store else {
            let mut table = self.table();
            table.unread.clear();
            table.unwritten.clear();
            return;
        };
        while disk.len() < DISK {
            let mut table = self.table();
            let store = Arc::clone(store);
            if let Some(question) = table.unread.pop() {
                disk.spawn_blocking(move || read(&*store, question));
            } else if let Some((question, records)) = table.unwritten.pop_first() {
                let security = table
                    .known(&question)
                    .map_or(Security::Unchecked, |k| k.security);
                disk.spawn_blocking(move || {
                    if write(&*store, &question, &records, security) {
                        Disk::Nothing
                    } else {
                        Disk::Unkept(question)
                    }
                });
            } else {
                return;
            }
        }
    }
}

async fn run(shared: Arc<Shared>) {
    let mut lookups = JoinSet::new();
    let mut disk = JoinSet::new();
    loop {
        shared.start_disk(&mut disk);
        let wakeup = shared.start_due(&mut lookups);
        let wakeup = wakeup.unwrap_or_else(|| clock::now() + Duration::from_secs(3600));
        tokio::select! {
            () = shared.changed.notified() => {}
            Some(ended) = lookups.join_next() => {
                // What panicked is told by its task; the name is looked up again.
                if let Ok((due, brought)) = ended {
                    shared.take(&due, brought);
                }
            }
            Some(ended) = disk.join_next() => {
                if let Ok(Disk::Unkept(question)) = &ended {
                    shared.table().unkept(clock::now(), question);
                }
                if let Ok(Disk::Remembered(question, old)) = ended {
                    let age = clock::since_unix().saturating_sub(Duration::from_secs(old.saved));
                    shared.table().remember(clock::now(), &question, &old, age);
                }
            }
            () = tokio::time::sleep_until(wakeup.into()) => {}
        }
    }
}

/// What a read or a write of the store brought.
enum Disk {
    Nothing,
    Remembered(Question, Remembered),
    Unkept(Question),
}

fn read(store: &dyn Store, question: Question) -> Disk {
    let text = match store.load(TABLE, &question.to_string()) {
        Ok(Some(text)) => text,
        Ok(None) => return Disk::Nothing,
        Err(error) => {
            tracing::warn!(name = %question, %error, "what was known of a name cannot be read");
            return Disk::Nothing;
        }
    };
    match Remembered::parse(&text) {
        Ok(old) => Disk::Remembered(question, old),
        Err(error) => {
            tracing::warn!(name = %question, %error, "what was known of a name cannot be understood");
            Disk::Nothing
        }
    }
}

/// Whether it was kept.
fn write(store: &dyn Store, question: &Question, records: &[Record], security: Security) -> bool {
    let text = Remembered {
        saved: clock::since_unix().as_secs(),
        security,
        records: records.iter().map(ToString::to_string).collect(),
    };
    let saved = store.save(TABLE, &question.to_string(), &text.to_string());
    if let Err(error) = &saved {
        tracing::warn!(name = %question, %error, "what is known of a name cannot be kept");
    }
    saved.is_ok()
}

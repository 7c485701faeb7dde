//! The worker's watch over its connections to origins, streams for short: who waits for an answer, whose
//! path is silent, who is idle.
//!
//! Streams that wait are looked at in the order in which they asked; nobody looks at streams that
//! wait for nothing until one of them may have reached a limit. What is seen goes to the origin's
//! driver as evidence; no stream is judged here but by its own time limits.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipreconnect::clock;
use ipreconnect::core::address::EndpointId;
use ipreconnect::core::freeze::{Answers, WITNESSES};
use ipreconnect::core::origin::Event;
use ipreconnect::core::outlier::Tally;
use ipreconnect::core::path::HANG_FLOOR;
use ipreconnect::sense::tcp::{PathState, TcpPath};
use ipreconnect::{Meter, Origin};
use tokio::sync::Notify;

use crate::l4::End;
use crate::number;

/// Between two looks while anybody waits.
const TICK: Duration = Duration::from_millis(50);
/// Between two looks while streams are open and nobody waits.
const REST: Duration = Duration::from_secs(1);
/// A look that comes so much too late means that this process was stopped.
const STOPPED: Duration = Duration::from_millis(500);
/// A stream that waits in good order is looked at again after this, doubling.
const PATIENT_FIRST: Duration = Duration::from_millis(100);
const PATIENT_LAST: Duration = Duration::from_secs(16);
/// The last answer of an endpoint is remembered for so long.
const REMEMBERED: Duration = Duration::from_secs(10);
/// An endpoint of which nothing came for so long, while requests wait, is still.
const STILL: Duration = Duration::from_secs(1);
/// Looks in one turn.
const LOOKS: usize = 512;
/// Between two looks for limits that were reached.
const LIMITS: Duration = Duration::from_secs(5);

/// A connection to an endpoint that is watched.
pub(crate) trait Watched: Send + Sync {
    /// Its origin.
    fn origin(&self) -> &Origin;
    /// The endpoint.
    fn endpoint(&self) -> EndpointId;
    /// What is counted of that.
    fn meter(&self) -> &Meter;
    /// When it was opened.
    fn opened(&self) -> Instant;
    /// When the request that is still unanswered began.
    fn asked(&self) -> Option<Instant>;
    /// When the last byte was sent to the endpoint.
    fn sent(&self) -> Option<Instant>;
    /// What the kernel knows of its path; `None` if it has none that could fall silent.
    fn path(&self) -> Option<TcpPath>;
    /// This process was stopped: what waited meanwhile waited for us.
    fn excuse(&self, now: Instant);
    /// Ends it from outside its task, which notices.
    fn condemn(&self, end: End);
    /// When it may reach a limit of its own; `None` if that is too far away to be told.
    fn first_limit(&self) -> Option<Instant>;
    /// Ends it if it has reached a limit; else says when it may.
    fn enforce(&self, now: Instant) -> Option<Instant>;
    /// What is known of its origin has changed.
    fn hear(&self) {}
}

/// What the bytes are that came from an origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    /// Nobody knows.
    Bytes,
    /// The answer of a server that works.
    Well,
    /// That of one that fails.
    Badly,
}

/// The place of a stream in its worker's watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    index: usize,
    generation: u32,
}

#[derive(Default)]
struct Watch {
    slots: Vec<Slot>,
    free: Vec<usize>,
    waiting: VecDeque<Waiting>,
    patient: BTreeMap<Instant, Vec<Waiting>>,
    seen: BTreeMap<(usize, EndpointId), Seen>,
    /// When the first stream may reach one of its limits.
    limit: Option<Instant>,
}

#[derive(Default)]
struct Slot {
    generation: u32,
    stream: Option<Arc<dyn Watched>>,
}

#[derive(Clone, Copy)]
struct Waiting {
    key: Key,
    asked: Instant,
    pause: Duration,
}

/// What was seen of one endpoint of one origin since the last report.
struct Seen {
    answers: Answers,
    witnesses: Vec<Key>,
    origin: Origin,
    endpoint: EndpointId,
    dirty: bool,
}

impl Seen {
    fn silent_since(&self, meter: &Meter) -> Option<Instant> {
        silent_since(self.answers.last_answer, meter)
    }
}

/// Since when nothing came from an endpoint: exactly, where this worker had the last word of it; else as
/// far as the workers know of each other.
fn silent_since(own: Option<Instant>, meter: &Meter) -> Option<Instant> {
    if own.is_some() && own >= meter.answered() {
        return own;
    }
    meter.silent_since()
}

/// What a request says that is unanswered: since when the process may have had it and lets it wait. One that
/// was sent before the last answer says nothing, since the process did something meanwhile; unless nothing
/// at all has come since, for so long that it may as well be taken for one that was sent right after it. So
/// do those who ask again only when they are answered, and all wait.
fn witnessed(sent: Option<Instant>, heard: Option<Instant>, now: Instant) -> Option<Instant> {
    let (sent, Some(heard)) = (sent?, heard) else {
        return sent;
    };
    if sent > heard {
        return Some(sent);
    }
    let after = heard + Duration::from_nanos(1);
    (now.saturating_duration_since(heard) >= STILL).then_some(after)
}

thread_local! {
    static WATCH: RefCell<Watch> = RefCell::default();
    static BELL: Arc<Notify> = Arc::default();
}

/// Begins to watch a stream.
pub(crate) fn enter(stream: Arc<dyn Watched>) -> Key {
    BELL.with(|bell| bell.notify_one());
    WATCH.with_borrow_mut(|watch| {
        let index = watch.free.pop().unwrap_or_else(|| {
            watch.slots.push(Slot::default());
            watch.slots.len() - 1
        });
        let Some(slot) = watch.slots.get_mut(index) else {
            unreachable!("the slot was just made")
        };
        watch.limit = earliest(watch.limit, stream.first_limit());
        slot.stream = Some(stream);
        Key {
            index,
            generation: slot.generation,
        }
    })
}

/// Ends the watch over a stream.
pub(crate) fn leave(key: Key) {
    let stream = WATCH.with_borrow_mut(|watch| {
        let slot = watch.slots.get_mut(key.index)?;
        slot.generation = slot.generation.wrapping_add(1);
        watch.free.push(key.index);
        slot.stream.take()
    });
    drop(stream);
}

/// A request began.
pub(crate) fn asked(key: Key, now: Instant) {
    WATCH.with_borrow_mut(|watch| {
        if watch.waiting.is_empty() {
            BELL.with(|bell| bell.notify_one());
        }
        watch.waiting.push_back(Waiting {
            key,
            asked: now,
            pause: PATIENT_FIRST,
        });
    });
}

/// Bytes came from the origin, and with them the answer to a request, if one was open.
pub(crate) fn answered(stream: &dyn Watched, asked: Option<Instant>, now: Instant, said: Said) {
    WATCH.with_borrow_mut(|watch| {
        let seen = watch.seen_of(stream);
        seen.dirty = true;
        seen.answers.last_answer = Some(now);
        if let Some(asked) = asked {
            seen.answers.answered = seen.answers.answered.saturating_add(1);
            seen.answers.latest_asked = seen.answers.latest_asked.max(Some(asked));
            let took = now.saturating_duration_since(asked);
            seen.answers.slowest = seen.answers.slowest.max(took);
            if said != Said::Bytes {
                let tally = &mut seen.answers.tally;
                tally.answered = tally.answered.saturating_add(1);
                tally.failed = tally.failed.saturating_add(u32::from(said == Said::Badly));
                tally.times.add(took);
            }
        }
    });
}

/// A request was lost with its connection, or is answered by nobody.
pub(crate) fn lost(stream: &dyn Watched) {
    WATCH.with_borrow_mut(|watch| {
        let seen = watch.seen_of(stream);
        seen.dirty = true;
        seen.answers.tally.lost = seen.answers.tally.lost.saturating_add(1);
    });
}

/// Closes every stream whose endpoint was told to close its links.
fn close_condemned() {
    for stream in all() {
        if stream.meter().is_closing(stream.opened()) {
            stream.condemn(End::Closed);
        }
    }
}

/// Tells those who wait for an answer of an origin that what is known of it has changed.
pub(crate) fn tell(origin: &Origin) {
    for stream in all() {
        if stream.asked().is_some() && stream.origin().identity() == origin.identity() {
            stream.hear();
        }
    }
}

/// Ends every stream, because the gateway ends.
pub(crate) fn drain() {
    for stream in all() {
        stream.condemn(End::Drained);
    }
}

/// Looks after the streams of this worker for as long as it runs.
pub(crate) async fn sweep() {
    let bell = BELL.with(Arc::clone);
    let mut closings = ipreconnect::closings();
    loop {
        let (busy, open) = WATCH.with_borrow(|watch| (watch.is_busy(), watch.is_open()));
        let now = clock::now();
        let pause = match (busy, open) {
            (true, _) => TICK,
            (false, true) => REST,
            (false, false) => Duration::MAX,
        };
        let due = now.checked_add(pause);
        tokio::select! {
            () = bell.notified() => {}
            () = sleep(due) => {}
        }
        let now = clock::now();
        if due.is_some_and(|due| now.saturating_duration_since(due) >= STOPPED) {
            excuse(now);
            continue;
        }
        look(now);
        if closings != ipreconnect::closings() {
            closings = ipreconnect::closings();
            close_condemned();
        }
        if WATCH.with_borrow(|watch| watch.limit.is_some_and(|limit| limit <= now)) {
            let streams = all();
            let next = streams.iter().filter_map(|one| one.enforce(now)).min();
            // Streams that are due one after the other are looked at together.
            let next = next.map(|next| next.max(now + LIMITS));
            WATCH.with_borrow_mut(|watch| watch.limit = next);
        }
        if busy {
            // Rings that came meanwhile need no look of their own.
            tokio::time::sleep(TICK / 2).await;
        }
    }
}

async fn sleep(until: Option<Instant>) {
    match until {
        Some(until) => tokio::time::sleep_until(until.into()).await,
        None => std::future::pending().await,
    }
}

fn earliest(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    one.into_iter().chain(other).min()
}

fn all() -> Vec<Arc<dyn Watched>> {
    WATCH.with_borrow(|watch| {
        let streams = watch.slots.iter().filter_map(|slot| slot.stream.as_ref());
        streams.map(Arc::clone).collect()
    })
}

fn excuse(now: Instant) {
    for stream in all() {
        stream.excuse(now);
    }
    WATCH.with_borrow_mut(|watch| {
        let mut again: Vec<Waiting> = watch.waiting.drain(..).collect();
        again.extend(std::mem::take(&mut watch.patient).into_values().flatten());
        for waiting in &mut again {
            waiting.asked = now;
        }
        watch.waiting = again.into();
        for seen in watch.seen.values_mut() {
            seen.witnesses.clear();
            seen.dirty = true;
        }
    });
}

/// One turn: who waits too long, and what is there to report.
fn look(now: Instant) {
    let silent = WATCH.with_borrow_mut(|watch| {
        let mut silent: BTreeMap<(usize, EndpointId), Arc<dyn Watched>> = BTreeMap::new();
        for waiting in watch.due(now) {
            let Some(stream) = watch.still(waiting) else {
                continue;
            };
            if watch.judge(now, waiting, &*stream) == PathState::Silent {
                silent.insert(identity(&*stream), stream);
            }
        }
        silent
    });
    for stream in silent.values() {
        stream.origin().report(Event::PathSilent {
            endpoint: stream.endpoint(),
        });
    }
    for (origin, endpoint, answers) in WATCH.with_borrow_mut(|watch| watch.reports(now)) {
        origin.report(Event::Answers {
            endpoint,
            worker: number::get(),
            answers,
        });
    }
}

fn identity(stream: &dyn Watched) -> (usize, EndpointId) {
    (stream.origin().identity(), stream.endpoint())
}

impl Watch {
    fn is_busy(&self) -> bool {
        !self.waiting.is_empty()
            || !self.patient.is_empty()
            || self.seen.values().any(|seen| seen.dirty)
    }

    fn is_open(&self) -> bool {
        self.slots.len() > self.free.len()
    }

    /// Takes those who are to be looked at now.
    fn due(&mut self, now: Instant) -> Vec<Waiting> {
        let mut due = Vec::new();
        while due.len() < LOOKS {
            let Some(front) = self.waiting.front() else {
                break;
            };
            if now.saturating_duration_since(front.asked) < HANG_FLOOR {
                break;
            }
            // Those who have their answer cost nothing.
            let front = self.waiting.pop_front();
            due.extend(front.filter(|waiting| self.still(*waiting).is_some()));
        }
        while due.len() < LOOKS {
            match self.patient.first_entry() {
                Some(entry) if *entry.key() <= now => due.extend(entry.remove()),
                _ => break,
            }
        }
        due
    }

    /// The stream, if it still waits for the answer to that request.
    fn still(&self, waiting: Waiting) -> Option<Arc<dyn Watched>> {
        let slot = self.slots.get(waiting.key.index)?;
        let stream = slot.stream.as_ref()?;
        let same = slot.generation == waiting.key.generation
            && stream.asked().is_some_and(|asked| asked <= waiting.asked);
        same.then(|| Arc::clone(stream))
    }

    /// Judges one that waits, and says when to look again.
    fn judge(&mut self, now: Instant, waiting: Waiting, stream: &dyn Watched) -> PathState {
        let age = now.saturating_duration_since(waiting.asked);
        let path = stream.path();
        let state = path.map_or(PathState::Acknowledged, |path| path.state(age, HANG_FLOOR));
        if state == PathState::Acknowledged {
            let seen = self.seen_of(stream);
            let heard = seen.silent_since(stream.meter());
            // Whatever the process did since, it has had this request and lets it wait.
            let is_witness = witnessed(stream.sent(), heard, now).is_some();
            let is_new = !seen.witnesses.contains(&waiting.key);
            if is_witness && is_new && seen.witnesses.len() < WITNESSES {
                seen.witnesses.push(waiting.key);
                seen.dirty = true;
            }
        }
        let again = Waiting {
            pause: waiting.pause.saturating_mul(2).min(PATIENT_LAST),
            ..waiting
        };
        self.patient
            .entry(now + waiting.pause)
            .or_default()
            .push(again);
        state
    }

    fn seen_of(&mut self, stream: &dyn Watched) -> &mut Seen {
        self.seen.entry(identity(stream)).or_insert_with(|| Seen {
            answers: Answers::default(),
            witnesses: Vec::new(),
            origin: stream.origin().clone(),
            endpoint: stream.endpoint(),
            dirty: false,
        })
    }

    /// What is new of each endpoint. An endpoint of which nothing was new for a while is forgotten.
    fn reports(&mut self, now: Instant) -> Vec<(Origin, EndpointId, Answers)> {
        let mut reports = Vec::new();
        let (slots, seen) = (&self.slots, &mut self.seen);
        seen.retain(|_, seen| {
            let before = seen.witnesses.len();
            let mut waiting = [None; WITNESSES];
            let mut places = waiting.iter_mut();
            let last_answer = seen.answers.last_answer;
            seen.witnesses.retain(|key| {
                let sent = slots
                    .get(key.index)
                    .filter(|slot| slot.generation == key.generation)
                    .and_then(|slot| slot.stream.as_ref())
                    .filter(|stream| stream.asked().is_some())
                    .and_then(|stream| {
                        let heard = silent_since(last_answer, stream.meter());
                        witnessed(stream.sent(), heard, now)
                    });
                match (sent, places.next()) {
                    (Some(sent), Some(place)) => {
                        *place = Some(sent);
                        true
                    }
                    _ => false,
                }
            });
            if seen.dirty || seen.witnesses.len() != before {
                let answers = Answers {
                    waiting,
                    ..seen.answers
                };
                reports.push((seen.origin.clone(), seen.endpoint, answers));
                seen.answers.answered = 0;
                seen.answers.slowest = Duration::ZERO;
                seen.answers.tally = Tally::default();
                seen.dirty = false;
                return true;
            }
            let recent = seen.answers.last_answer;
            let is_recent = |at| now.saturating_duration_since(at) < REMEMBERED;
            !seen.witnesses.is_empty() || recent.is_some_and(is_recent)
        });
        reports
    }
}

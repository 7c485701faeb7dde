//! What one exchange does for the cache: it asks whether a stored answer is still good, keeps what comes
//! instead, and makes void what it changes.

use std::sync::Arc;
use std::time::Instant;

use ipreconnect::clock;
use ipreconnect::core::http::cache::{Fields, Policy, Stored, policy, voided};
use ipreconnect::core::http::{Method, ResponseBody, ResponseHead};

use super::entry::{Entry, Source, seconds};
use super::store::Lead;
use super::{Cache, key};
use crate::http::record::Shown;
use crate::http::render::Conditions;

/// A body is not given more room than this before it comes: whoever announces much and sends nothing takes no room
/// from others.
const EARLY: u64 = 16 * 1024;

/// The part of an exchange that is the cache's.
pub(in crate::http) struct Keeping {
    cache: Cache,
    key: Box<[u8]>,
    origin: Box<str>,
    task: Task,
    /// What had happened when it began.
    since: u64,
    began: Instant,
    /// Those who wait for what comes of it.
    lead: Option<Lead>,
    /// It is asked in somebody's name: what comes may be for him alone, and says nothing of what others get.
    is_named: bool,
    /// An answer that is not good any more, unless there is no better one.
    stale: Option<Arc<Entry>>,
    taken: Option<Taken>,
    /// Why it was not answered from here (RFC 9211, section 2.2).
    why: &'static str,
}

/// What it is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Task {
    /// Keep the answer.
    Keep,
    /// Ask whether the stored answer is good still, and keep another one.
    Ask,
    /// Learn of a stored answer from what is asked of its head.
    Compare,
    /// Nothing.
    Pass,
}

/// An answer that is being kept.
struct Taken {
    head: ResponseHead,
    text: Box<[u8]>,
    policy: Policy,
    body: Growing,
    source: Source,
}

/// A body on its way, which counts until it is kept or let go.
struct Growing {
    bytes: Vec<u8>,
    cache: Cache,
    counted: u64,
}

impl Growing {
    /// `None` if there is no room for so much.
    fn new(cache: &Cache, room: usize) -> Option<Self> {
        let mut growing = Self {
            bytes: Vec::new(),
            cache: cache.clone(),
            counted: 0,
        };
        growing.has_room(room).then(|| {
            growing.bytes.reserve_exact(room);
            growing
        })
    }

    /// Counts what it takes to have so many bytes more.
    fn has_room(&mut self, more: usize) -> bool {
        let needed = self.bytes.len() + more;
        if needed <= self.bytes.capacity() && self.counted > 0 {
            return true;
        }
        // As a vector grows.
        let room = needed.max(2 * self.bytes.capacity()) as u64;
        let added = room.saturating_sub(self.counted);
        let is_counted = self.cache.count(added);
        self.counted += added * u64::from(is_counted);
        is_counted
    }

    fn push(&mut self, data: &[u8]) -> bool {
        let has_room = self.has_room(data.len());
        if has_room {
            self.bytes.extend_from_slice(data);
        }
        has_room
    }
}

impl Drop for Growing {
    fn drop(&mut self) {
        self.cache.uncount(self.counted);
    }
}

/// The head of an answer, and the request that it is for.
pub(in crate::http) struct Heard<'h> {
    pub(in crate::http) request: Fields<'h>,
    pub(in crate::http) head: &'h ResponseHead,
    pub(in crate::http) text: &'h [u8],
    pub(in crate::http) body: ResponseBody,
    pub(in crate::http) endpoint: Shown,
}

/// What becomes of an answer.
pub(in crate::http) enum Verdict {
    /// The client gets it, and is told this of the cache.
    Pass(String),
    /// The client gets this one: the origin says that it is good still.
    Confirmed(Arc<Entry>),
    /// The client gets this one, since the origin has none.
    Instead(Arc<Entry>),
}

impl Keeping {
    pub(super) fn new(cache: &Cache, key: &[u8], origin: &str, task: Task) -> Self {
        Self {
            since: cache.store().now(key),
            cache: cache.clone(),
            key: key.into(),
            origin: origin.into(),
            task,
            began: clock::now(),
            lead: None,
            is_named: false,
            stale: None,
            taken: None,
            why: "uri-miss",
        }
    }

    pub(super) fn with_lead(self, lead: Option<Lead>) -> Self {
        Self { lead, ..self }
    }

    /// With an answer that is not good any more.
    pub(super) fn with_stale(self, stale: Arc<Entry>) -> Self {
        Self {
            stale: Some(stale),
            why: "stale",
            ..self
        }
    }

    pub(super) fn because(self, why: &'static str) -> Self {
        Self { why, ..self }
    }

    /// Whether the conditions and the range of the client are replaced by conditions of ours, and by which.
    pub(in crate::http) fn conditions(&self) -> Option<Conditions<'_>> {
        let stale = self.stale.as_ref().filter(|_| self.task == Task::Ask)?;
        let fields = stale.fields();
        Some([
            ("If-None-Match", fields.first(b"etag")),
            ("If-Modified-Since", fields.first(b"last-modified")),
        ])
    }

    /// The answer that may be given where there is none to be had.
    pub(in crate::http) fn last_resort(&self) -> Option<&Arc<Entry>> {
        let ours = self.cache.settings().stale_if_error;
        self.stale
            .as_ref()
            .filter(|entry| entry.covers_silence(ours))
    }

    /// Takes a part of the body.
    pub(in crate::http) fn take(&mut self, data: &[u8]) {
        let longest = self.cache.settings().object;
        let Some(taken) = &mut self.taken else {
            return;
        };
        if (taken.body.bytes.len() + data.len()) as u64 > longest {
            self.give_up();
        } else if !taken.body.push(data) {
            self.let_go();
        }
    }

    /// Whether the client takes what comes: nobody else waits at its pace.
    pub(in crate::http) fn is_blocked(&self, is_blocked: bool) {
        if let Some(lead) = &self.lead {
            lead.is_blocked(is_blocked);
        }
    }

    /// What was taken is not to be kept, nor will the next one be.
    pub(in crate::http) fn give_up(&mut self) {
        if !self.is_named {
            self.cache.store().unfit(&self.key);
        }
        self.let_go();
    }

    /// There is no room for it now, which says nothing of the next one.
    fn let_go(&mut self) {
        self.taken = None;
        self.settle();
    }

    fn settle(&mut self) {
        if let Some(lead) = self.lead.take() {
            lead.settle();
        }
    }

    /// All of the answer has come.
    pub(in crate::http) fn finish(&mut self) {
        let Some(mut taken) = self.taken.take() else {
            return;
        };
        let head = (&taken.head, &taken.text[..]);
        let body = std::mem::take(&mut taken.body.bytes);
        if let Some(entry) = Entry::new(taken.source, head, taken.policy, body) {
            self.cache.put(&self.key, Arc::new(entry), self.since);
        }
        self.settle();
    }

    /// Takes the head of an answer.
    pub(in crate::http) fn hear(&mut self, heard: &Heard<'_>) -> Verdict {
        let status = heard.head.status;
        let ours = self.cache.settings().stale_if_error;
        if let Some(stale) = &self.stale {
            if self.task == Task::Ask && status == 304 {
                return self.confirm(&Arc::clone(stale), heard);
            }
            if matches!(status, 500 | 502..=504) && stale.covers_error(ours) {
                let stale = Arc::clone(stale);
                self.settle();
                return Verdict::Instead(stale);
            }
        }
        let is_kept = match self.task {
            Task::Keep | Task::Ask => self.begin(heard),
            Task::Compare => {
                self.compare(heard);
                false
            }
            Task::Pass => false,
        };
        let mut told = format!("ipreconnect; fwd={}", self.why);
        if self.why == "stale" {
            told.push_str(&format!("; fwd-status={status}"));
        }
        if is_kept {
            told.push_str("; stored");
        }
        Verdict::Pass(told)
    }

    fn source(&self, heard: &Heard<'_>) -> Source {
        Source {
            origin: self.origin.clone(),
            endpoint: heard.endpoint,
            came: clock::now(),
            now: seconds(),
        }
    }

    fn confirm(&mut self, stale: &Arc<Entry>, heard: &Heard<'_>) -> Verdict {
        let (head, source) = ((heard.head, heard.text), self.source(heard));
        let confirmed = stale.confirmed(source, heard.request, head, self.began.elapsed());
        let entry = match confirmed {
            Some(entry) => {
                let entry = Arc::new(entry);
                let kept = Arc::clone(&entry);
                self.cache.put(&self.key, kept, self.since);
                entry
            }
            None => {
                if !self.is_named {
                    self.cache.store().remove(&self.key, stale);
                }
                Arc::clone(stale)
            }
        };
        self.settle();
        Verdict::Confirmed(entry)
    }

    /// Begins to keep an answer; false if it is not to be kept.
    fn begin(&mut self, heard: &Heard<'_>) -> bool {
        let stored = Stored {
            request: heard.request,
            status: heard.head.status,
            fields: Fields::new(&heard.head.fields, heard.text),
            now: seconds(),
            delay: self.began.elapsed(),
        };
        let longest = self.cache.settings().object;
        let room = match heard.body {
            ResponseBody::Length(length) => Some(length.min(EARLY)).filter(|_| length <= longest),
            ResponseBody::None | ResponseBody::Chunked | ResponseBody::UntilClose => Some(0),
        };
        self.is_named = stored.request.has(b"authorization");
        let policy = policy(&stored);
        let (Some(policy), Some(room)) = (policy, room) else {
            // Another answer has taken its place, unless it is no answer to what was asked.
            let is_other = !self.is_named
                && stored.status < 500
                && !matches!(stored.status, 401 | 407 | 408 | 421 | 425 | 429);
            if let Some(stale) = self.stale.as_ref().filter(|_| is_other) {
                self.cache.store().remove(&self.key, stale);
            }
            self.give_up();
            return false;
        };
        let room = usize::try_from(room).unwrap_or_default();
        let Some(body) = Growing::new(&self.cache, room) else {
            self.let_go();
            return false;
        };
        self.taken = Some(Taken {
            head: heard.head.clone(),
            text: heard
                .text
                .get(..heard.head.length)
                .unwrap_or_default()
                .into(),
            policy,
            body,
            source: self.source(heard),
        });
        true
    }

    /// The head that was asked for alone is that of the stored answer, or this is another one by now (RFC
    /// 9111, section 4.3.5).
    fn compare(&mut self, heard: &Heard<'_>) {
        let Some(stale) = self.stale.take().filter(|_| heard.head.status == 200) else {
            return;
        };
        let (fresh, stored) = (Fields::new(&heard.head.fields, heard.text), stale.fields());
        let names: [&[u8]; 2] = [b"etag", b"last-modified"];
        let is_same = names
            .iter()
            .all(|name| fresh.first(name) == stored.first(name))
            && match heard.head.declared_length() {
                Some(length) => length == stale.body.len() as u64,
                None => true,
            };
        if is_same {
            self.confirm(&stale, heard);
        } else {
            self.cache.store().remove(&self.key, &stale);
        }
    }
}

/// Caches of a listener, one of whose answers a request may make void.
pub(in crate::http) struct Voiding {
    pub(super) caches: Vec<Cache>,
    pub(super) scheme: Box<str>,
    pub(super) host: Box<[u8]>,
    pub(super) target: Box<[u8]>,
    /// What else the origin is told of the URL.
    pub(super) more: Box<[u8]>,
}

impl Voiding {
    /// Takes the head of an answer to a request that changes something (RFC 9111, section 4.4).
    pub(in crate::http) fn hear(&self, method: Method, head: &ResponseHead, text: &[u8]) {
        if method.is_safe() || !matches!(head.status, 200..=399) {
            return;
        }
        let fields = Fields::new(&head.fields, text);
        let mut targets = voided(fields, &self.host, &self.target);
        targets.push(self.target.to_vec());
        for target in targets {
            let mut key = key(&self.scheme, &self.host, &target);
            key.extend_from_slice(&self.more);
            for cache in &self.caches {
                cache.void(&key);
            }
        }
    }
}

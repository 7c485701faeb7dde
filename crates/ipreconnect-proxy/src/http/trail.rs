//! What happens to one request, for whoever follows traces.

use std::cell::{Cell, RefCell};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipreconnect::clock;
use ipreconnect::core::dice::Dice;
use ipreconnect::core::http::{Known, RequestHead, TRACEPARENT, TraceContext, Version, path_of};
use ipreconnect::span::{Span, SpanEvent, SpanSink, SpanValue};

use super::record::{Record, Shown, Subject};
use crate::number;

/// Events of one request that are told.
const EVENTS: usize = 32;
/// The longest `tracestate` that is passed on (W3C Trace Context, section 3.3.1.5).
const STATE: usize = 512;
/// The longest text of an attribute.
const TEXT: usize = 1024;
/// What shares are measured in.
const WHOLE: u64 = 1_000_000;

/// How requests are traced.
#[derive(Clone, Debug)]
pub struct Tracing {
    /// Takes the spans.
    pub sink: Arc<dyn SpanSink>,
    /// Of a million requests that nobody has begun to trace, so many are.
    pub sampled: u32,
}

struct Tracer {
    tracing: Tracing,
    dice: Dice,
}

thread_local! {
    static TRACER: RefCell<Option<Tracer>> = const { RefCell::new(None) };
    /// Whether there is one: nothing else is looked at while there is none.
    static IS_ON: Cell<bool> = const { Cell::new(false) };
}

/// How this worker traces from now on.
pub(crate) fn open(tracing: Option<Tracing>) {
    IS_ON.set(tracing.is_some());
    TRACER.set(tracing.map(|tracing| {
        // Many gateways draw, and no two of them may draw the same.
        let seed = RandomState::new().hash_one(number::get());
        Tracer {
            tracing,
            dice: Dice::new(seed),
        }
    }));
}

/// One request that is traced.
#[derive(Debug)]
pub(super) struct Trail {
    sink: Arc<dyn SpanSink>,
    context: TraceContext,
    parent: Option<[u8; 8]>,
    state: Option<String>,
    /// Since the beginning of 1970.
    began: Duration,
    events: Vec<SpanEvent>,
    dropped: u32,
}

/// Begins to follow a request, if it is one to be followed.
pub(super) fn begin(head: &RequestHead, text: &[u8]) -> Option<Box<Trail>> {
    if !cfg!(feature = "traces") || !IS_ON.get() {
        return None;
    }
    TRACER.with_borrow_mut(|tracer| {
        let tracer = tracer.as_mut()?;
        let parent = parent(head, text);
        let is_followed = match parent {
            Some(parent) => parent.is_sampled,
            None => tracer.dice.below(WHOLE) < u64::from(tracer.tracing.sampled),
        };
        is_followed.then(|| Box::new(Trail::new(tracer, parent, head, text)))
    })
}

/// Of several there is none (W3C Trace Context, section 3.2.1).
fn parent(head: &RequestHead, text: &[u8]) -> Option<TraceContext> {
    let mut named = named(head, text, b"traceparent");
    let value = named.next()?;
    named.next().is_none().then_some(())?;
    TraceContext::parse(value)
}

fn named<'h>(
    head: &'h RequestHead,
    text: &'h [u8],
    name: &'static [u8],
) -> impl Iterator<Item = &'h [u8]> {
    let fields = head.fields.iter();
    let named = fields.filter(move |field| field.name.of(text).eq_ignore_ascii_case(name));
    named.map(|field| field.value.of(text))
}

impl Trail {
    fn new(
        tracer: &mut Tracer,
        parent: Option<TraceContext>,
        head: &RequestHead,
        text: &[u8],
    ) -> Self {
        let mut drawn = || tracer.dice.seed().max(1).to_be_bytes();
        let id = drawn();
        let trace = parent.map_or_else(
            || {
                let mut trace = [0; 16];
                let halves = drawn().into_iter().chain(drawn());
                for (to, from) in trace.iter_mut().zip(halves) {
                    *to = from;
                }
                trace
            },
            |parent| parent.trace,
        );
        let state = parent.and_then(|_| {
            let all: Vec<&[u8]> = named(head, text, b"tracestate").collect();
            let all = String::from_utf8(all.join(&b","[..])).ok()?;
            (!all.is_empty() && all.len() <= STATE).then_some(all)
        });
        Self {
            sink: Arc::clone(&tracer.tracing.sink),
            context: TraceContext {
                trace,
                id,
                is_sampled: true,
            },
            parent: parent.map(|parent| parent.id),
            state,
            began: clock::since_unix(),
            events: Vec::new(),
            dropped: 0,
        }
    }

    /// What the origin is told of it.
    pub(super) fn told(&self) -> [u8; TRACEPARENT] {
        self.context.render()
    }

    /// Whether the trace begins here.
    pub(super) fn is_root(&self) -> bool {
        self.parent.is_none()
    }

    /// Something happened, so long after the beginning.
    fn note(
        &mut self,
        after: Duration,
        name: &'static str,
        attributes: Vec<(&'static str, SpanValue)>,
    ) {
        if self.events.len() >= EVENTS {
            self.dropped += 1;
            return;
        }
        self.events.push(SpanEvent {
            at: self.began + after,
            name,
            attributes,
        });
    }

    /// The request is over.
    fn end(self, now: Instant, record: &Record, subject: &Subject<'_>) {
        let method = shown(subject.head.method_text.of(subject.text));
        let mut attributes = attributes(record, subject);
        attributes.push(("http.request.method", SpanValue::Text(method.clone())));
        let error = match record.status {
            500.. => Some(format!("status {}", record.status)),
            0 => Some(format!("ended {}", shown(&record.end.0))),
            _ if record.is_cut_off() => Some("the answer was cut off".to_owned()),
            _ => None,
        };
        if error.is_some() {
            let kind = match record.status {
                0 => shown(&record.end.0),
                status => status.to_string(),
            };
            attributes.push(("error.type", SpanValue::Text(kind)));
        }
        self.sink.take(Box::new(Span {
            context: self.context,
            parent: self.parent,
            state: self.state,
            name: method,
            began: self.began,
            ended: self.began + now.saturating_duration_since(record.began),
            attributes,
            events: self.events,
            dropped_events: self.dropped,
            error,
        }));
    }
}

fn attributes(record: &Record, subject: &Subject<'_>) -> Vec<(&'static str, SpanValue)> {
    let (head, text) = (subject.head, subject.text);
    let mut attributes = Vec::with_capacity(16);
    let mut add = |name, value: &[u8]| {
        if !value.is_empty() {
            attributes.push((name, SpanValue::Text(shown(value))));
        }
    };
    // Without the query, which has secrets more often than not.
    add("url.path", path_of(head.target.of(text)));
    add("url.scheme", subject.scheme.as_bytes());
    add(
        "server.address",
        head.host.span().map_or(&b""[..], |host| host.of(text)),
    );
    add("client.address", subject.from.as_bytes());
    let agent = head.value(text, Known::UserAgent);
    add("user_agent.original", agent.unwrap_or_default());
    let version = match (head.version, record.protocol) {
        (Version::Http10, _) => "1.0",
        (_, "HTTP/2.0") => "2",
        _ => "1.1",
    };
    add("network.protocol.version", version.as_bytes());
    add("ipreconnect.listener", subject.listener.as_bytes());
    add("ipreconnect.origin", subject.origin.as_bytes());
    add("ipreconnect.endpoint", record.endpoint.as_bytes());
    add("ipreconnect.end", &record.end.0);
    add("ipreconnect.cache", record.cache.as_bytes());
    let mut number = |name, value: u64| attributes.push((name, SpanValue::Number(value)));
    if record.status > 0 {
        number("http.response.status_code", u64::from(record.status));
    }
    number("ipreconnect.sent", u64::from(record.sent));
    number("ipreconnect.bytes_in", record.bytes_in);
    number("ipreconnect.bytes_out", record.bytes_out);
    if !record.held.is_zero() {
        attributes.push(("ipreconnect.held_ms", SpanValue::Millis(record.held)));
    }
    attributes
}

fn shown(bytes: &[u8]) -> String {
    let bytes = bytes.get(..TEXT).unwrap_or(bytes);
    String::from_utf8_lossy(bytes).into_owned()
}

/// What records tell whoever follows.
impl Record {
    fn note(
        &mut self,
        name: &'static str,
        attributes: impl FnOnce() -> Vec<(&'static str, SpanValue)>,
    ) {
        if let Some(trail) = &mut self.trail {
            let after = clock::now().saturating_duration_since(self.began);
            trail.note(after, name, attributes());
        }
    }

    /// It has waited for its origin.
    pub(super) fn waited(&mut self, held: Duration) {
        self.held += held;
        self.note("held", || vec![("held_ms", SpanValue::Millis(held))]);
    }

    /// Its connection was lost, and it is sent again.
    pub(super) fn repeats(&mut self, why: &'static str) {
        let endpoint = self.endpoint;
        self.note("retried", || {
            vec![("endpoint", text(endpoint)), ("why", SpanValue::Word(why))]
        });
    }

    /// It is tried elsewhere, too, while its answer is awaited.
    pub(super) fn is_tried_elsewhere(&mut self) {
        self.sent += 1;
        self.note("second try", Vec::new);
    }

    /// It goes to this endpoint.
    pub(super) fn goes_to(&mut self, endpoint: Shown) {
        let from = std::mem::replace(&mut self.endpoint, endpoint);
        if !from.as_bytes().is_empty() && from.as_bytes() != endpoint.as_bytes() {
            self.note("endpoint changed", || {
                vec![("from", text(from)), ("to", text(endpoint))]
            });
        }
    }

    /// It is told, if anybody follows it.
    pub(super) fn leaves_trail(&mut self, now: Instant, subject: &Subject<'_>) {
        if let Some(trail) = self.trail.take() {
            trail.end(now, self, subject);
        }
    }
}

fn text(endpoint: Shown) -> SpanValue {
    SpanValue::Text(shown(endpoint.as_bytes()))
}

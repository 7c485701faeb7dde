//! Spans of requests for a collector.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ipreconnect::clock;
use ipreconnect::span::{Span, SpanSink, SpanValue};
use serde_json::{Value, json};

use super::{Collector, Courier, attribute, hex, nanos};

/// Spans that wait; what comes beyond is counted, and lost.
const WAITING: usize = 8_192;
/// Spans of one delivery, and how long the first of them waits for more.
const BATCH: usize = 512;
const PAUSE: Duration = Duration::from_secs(1);
/// Between two tries, from the first to the last; after the last one a batch is lost.
const PAUSES: [Duration; 4] = [
    Duration::from_millis(250),
    Duration::from_secs(1),
    Duration::from_secs(4),
    Duration::from_secs(8),
];
/// For what is delivered at the end, and between two looks whether it is.
const FAREWELL: Duration = Duration::from_secs(2);
const GLANCE: Duration = Duration::from_millis(5);
/// A server that receives (`SPAN_KIND_SERVER`).
const SERVER: u8 = 2;

/// Takes spans, and delivers them by a thread of its own. Ends when it is dropped.
#[derive(Debug)]
pub struct Traces {
    spans: SyncSender<Word>,
    counted: Arc<Counted>,
    thread: JoinHandle<()>,
}

/// What the thread is told.
#[derive(Debug)]
enum Word {
    Span(Box<Span>),
    /// Nothing more comes.
    End,
}

#[derive(Debug, Default)]
struct Counted {
    lost: AtomicU64,
    is_ending: AtomicBool,
}

impl Traces {
    /// Begins to deliver.
    ///
    /// # Errors
    /// If no thread can be made.
    pub fn begin(collector: Collector) -> std::io::Result<Self> {
        let (spans, inbox) = sync_channel(WAITING);
        let counted = Arc::new(Counted::default());
        let mut delivery = Delivery {
            name: collector.to_string(),
            courier: Courier::new(collector)?,
            counted: Arc::clone(&counted),
            is_failing: false,
        };
        let thread = std::thread::Builder::new()
            .name("traces".to_owned())
            .spawn(move || delivery.run(&inbox))?;
        Ok(Self {
            spans,
            counted,
            thread,
        })
    }

    /// Delivers what waits. What is not delivered within two seconds is lost.
    pub fn end(&self) {
        self.counted.is_ending.store(true, Relaxed);
        // A full queue is looked through all the same, and its thread ends with its last sender.
        let _ = self.spans.try_send(Word::End);
        self.thread.thread().unpark();
        let deadline = clock::now() + FAREWELL;
        while !self.thread.is_finished() && clock::now() < deadline {
            std::thread::sleep(GLANCE);
        }
    }
}

impl SpanSink for Traces {
    fn take(&self, span: Box<Span>) {
        if self.spans.try_send(Word::Span(span)).is_err() {
            self.counted.lost.fetch_add(1, Relaxed);
        }
    }
}

impl Drop for Traces {
    fn drop(&mut self) {
        self.counted.is_ending.store(true, Relaxed);
        self.thread.thread().unpark();
    }
}

struct Delivery {
    name: String,
    courier: Courier,
    counted: Arc<Counted>,
    is_failing: bool,
}

impl Delivery {
    fn run(&mut self, inbox: &Receiver<Word>) {
        let mut is_over = false;
        while !is_over {
            let Ok(Word::Span(first)) = inbox.recv() else {
                return;
            };
            let mut batch = vec![first];
            let until = clock::now() + PAUSE;
            while batch.len() < BATCH && !is_over {
                match inbox.recv_timeout(until.saturating_duration_since(clock::now())) {
                    Ok(Word::Span(span)) => batch.push(span),
                    Ok(Word::End) | Err(RecvTimeoutError::Disconnected) => is_over = true,
                    Err(RecvTimeoutError::Timeout) => break,
                }
            }
            self.deliver(&batch);
            let lost = self.counted.lost.swap(0, Relaxed);
            if lost > 0 {
                tracing::warn!(
                    to = self.name,
                    spans = lost,
                    "spans were lost: the collector is too slow"
                );
            }
        }
    }

    fn deliver(&mut self, batch: &[Box<Span>]) {
        let body = told(&self.courier.collector, batch);
        let mut pauses = PAUSES.into_iter();
        loop {
            let Err(error) = self.courier.deliver("/v1/traces", &body) else {
                if std::mem::take(&mut self.is_failing) {
                    tracing::info!(to = self.name, "spans are delivered again");
                }
                return;
            };
            if !std::mem::replace(&mut self.is_failing, true) {
                tracing::error!(
                    to = self.name, %error,
                    "spans cannot be delivered; no request waits for it, and it is tried again"
                );
            }
            let pause = pauses.next().filter(|_| !error.is_final);
            let (Some(pause), false) = (pause, self.is_ending()) else {
                self.counted.lost.fetch_add(batch.len() as u64, Relaxed);
                return;
            };
            self.rest(clock::now() + pause);
        }
    }

    fn rest(&self, until: Instant) {
        loop {
            let left = until.saturating_duration_since(clock::now());
            if left.is_zero() || self.is_ending() {
                return;
            }
            std::thread::park_timeout(left);
        }
    }

    fn is_ending(&self) -> bool {
        self.counted.is_ending.load(Relaxed)
    }
}

pub(super) fn told(collector: &Collector, spans: &[Box<Span>]) -> Value {
    let spans: Vec<Value> = spans.iter().map(|span| show(span)).collect();
    json!({ "resourceSpans": [{
        "resource": collector.resource(),
        "scopeSpans": [{ "scope": { "name": "ipreconnect" }, "spans": spans }],
    }] })
}

fn show(span: &Span) -> Value {
    let attributes = |of: &[(&'static str, SpanValue)]| -> Vec<Value> {
        of.iter()
            .map(|(name, value)| attribute(name, plain(value)))
            .collect()
    };
    let events: Vec<Value> = span
        .events
        .iter()
        .map(|event| {
            json!({
                "timeUnixNano": nanos(event.at),
                "name": event.name,
                "attributes": attributes(&event.attributes),
            })
        })
        .collect();
    let mut shown = json!({
        "traceId": hex(&span.context.trace),
        "spanId": hex(&span.context.id),
        "name": span.name,
        "kind": SERVER,
        "startTimeUnixNano": nanos(span.began),
        "endTimeUnixNano": nanos(span.ended),
        "attributes": attributes(&span.attributes),
        "events": events,
        "droppedEventsCount": span.dropped_events,
        "flags": 1,
    });
    if let Some(object) = shown.as_object_mut() {
        if let Some(parent) = &span.parent {
            object.insert("parentSpanId".to_owned(), hex(parent).into());
        }
        if let Some(state) = &span.state {
            object.insert("traceState".to_owned(), state.as_str().into());
        }
        if let Some(why) = &span.error {
            object.insert("status".to_owned(), json!({ "code": 2, "message": why }));
        }
    }
    shown
}

fn plain(value: &SpanValue) -> Value {
    match value {
        SpanValue::Text(text) => text.as_str().into(),
        SpanValue::Word(word) => (*word).into(),
        SpanValue::Number(number) => (*number).into(),
        SpanValue::Millis(duration) => (duration.as_secs_f64() * 1000.0).into(),
    }
}

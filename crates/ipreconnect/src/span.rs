//! What became of one request, as traces tell it (OpenTelemetry's data model of spans).

use std::fmt;
use std::time::Duration;

use ipreconnect_core::http::TraceContext;

/// One request.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    /// Where it belongs.
    pub context: TraceContext,
    /// The span of whoever has asked, if that is known.
    pub parent: Option<[u8; 8]>,
    /// The `tracestate` that came with it.
    pub state: Option<String>,
    /// What it is called: few names for many requests.
    pub name: String,
    /// Since the beginning of 1970.
    pub began: Duration,
    /// Since the beginning of 1970.
    pub ended: Duration,
    /// What is known of it, by names of OpenTelemetry's conventions where there are some.
    pub attributes: Vec<(&'static str, SpanValue)>,
    /// What happened meanwhile.
    pub events: Vec<SpanEvent>,
    /// What else happened, and was too much to be told.
    pub dropped_events: u32,
    /// Why it failed, if it did.
    pub error: Option<String>,
}

/// Something that happened during a request.
#[derive(Clone, Debug, PartialEq)]
pub struct SpanEvent {
    /// Since the beginning of 1970.
    pub at: Duration,
    /// What.
    pub name: &'static str,
    /// What is known of it.
    pub attributes: Vec<(&'static str, SpanValue)>,
}

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SpanValue {
    /// A text.
    Text(String),
    /// A text of ours.
    Word(&'static str),
    /// A number.
    Number(u64),
    /// A time, told in milliseconds.
    Millis(Duration),
}

/// Takes spans. It must not wait: whoever calls it carries requests.
pub trait SpanSink: Send + Sync + fmt::Debug {
    /// Takes one.
    fn take(&self, span: Box<Span>);
}

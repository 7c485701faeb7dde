//! What an OpenTelemetry collector is told: lines of the log, and spans of requests. OTLP over HTTP, in JSON
//! (<https://opentelemetry.io/docs/specs/otlp/>).

mod logs;
mod traces;

use std::fmt;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::{Method, Request, header};
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tracing::subscriber::NoSubscriber;

use crate::post::{Poster, Undelivered, poster, send};
pub(crate) use logs::LogExporter;
pub use traces::Traces;

/// That nobody follows it.
const UNTRACED: &str = "00-69707265636f6e6e65637400000000ff-69707265636f6e6e-00";
/// For one delivery.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where a collector is, and what it is told of us.
#[derive(Clone, PartialEq, Eq)]
pub struct Collector {
    /// Where to, without `/v1/logs`.
    pub url: String,
    /// What every delivery has with it; they are secret.
    pub headers: Vec<(String, String)>,
    /// `service.name`.
    pub service: String,
    /// `service.instance.id`.
    pub instance: String,
}

/// Secrets are in headers and URLs: only the host is told.
impl fmt::Display for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rest = self
            .url
            .split_once("://")
            .map_or(&*self.url, |(_, rest)| rest);
        let host = rest.split(['/', '?']).next().unwrap_or_default();
        f.write_str(host.rsplit_once('@').map_or(host, |(_, host)| host))
    }
}

impl fmt::Debug for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl Collector {
    /// The attributes of everything that is told.
    fn resource(&self) -> Value {
        json!({ "attributes": [
            attribute("service.name", self.service.as_str().into()),
            attribute("service.instance.id", self.instance.as_str().into()),
            attribute("service.version", env!("CARGO_PKG_VERSION").into()),
        ] })
    }
}

/// Delivers to a collector, by a thread that may wait for it.
struct Courier {
    collector: Collector,
    runtime: Option<Runtime>,
    /// Made when it is needed: it reads the system's roots.
    poster: Option<Poster>,
}

impl Courier {
    fn new(collector: Collector) -> std::io::Result<Self> {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        Ok(Self {
            collector,
            runtime: Some(builder.enable_all().build()?),
            poster: None,
        })
    }

    fn deliver(&mut self, path: &str, body: &Value) -> Result<(), Undelivered> {
        // What libraries say meanwhile would be something to deliver.
        let _quiet = tracing::subscriber::set_default(NoSubscriber::default());
        let poster = match &mut self.poster {
            Some(poster) => poster,
            none => none.insert(poster()?),
        };
        let url = format!("{}{path}", self.collector.url.trim_end_matches('/'));
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(url)
            .header(header::CONTENT_TYPE, "application/json")
            // A delivery that passes through us must not be something to deliver.
            .header("traceparent", UNTRACED);
        for (name, value) in &self.collector.headers {
            request = request.header(name, value);
        }
        let request = request.body(Full::new(Bytes::from(body.to_string())));
        let Some(runtime) = &self.runtime else {
            return Err(Undelivered::lasting("it has ended"));
        };
        let sent = runtime.block_on(async {
            match tokio::time::timeout(PATIENCE, send(poster, request)).await {
                Ok(sent) => sent,
                Err(_) => Err(Undelivered::passing(format!(
                    "no answer within {PATIENCE:?}"
                ))),
            }
        });
        // Nothing else is to be tried again, by the protocol.
        sent.map_err(|error| Undelivered {
            is_final: !matches!(error.status, None | Some(429 | 502 | 503 | 504)),
            ..error
        })
    }
}

impl Drop for Courier {
    fn drop(&mut self) {
        // A name that is still looked up is not waited for.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn attribute(name: &str, value: Value) -> Value {
    let value = match value {
        Value::Bool(value) => json!({ "boolValue": value }),
        // 64 bits are a text in the JSON of protobuf.
        Value::Number(number) if number.is_f64() => json!({ "doubleValue": number }),
        Value::Number(number) if number.is_i64() => json!({ "intValue": number.to_string() }),
        Value::Number(number) => json!({ "stringValue": number.to_string() }),
        Value::String(text) => json!({ "stringValue": text }),
        other => json!({ "stringValue": other.to_string() }),
    };
    json!({ "key": name, "value": value })
}

fn nanos(since_unix: Duration) -> String {
    since_unix.as_nanos().to_string()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;

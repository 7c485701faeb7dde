//! Lines of the log for a collector.

use std::sync::Arc;

use serde_json::{Value, json};
use tracing::Level;

use super::{Collector, Courier, attribute, nanos};
use crate::log::{Failure, Line, Way};
use crate::moment::millis;

/// A way of the log that ends at a collector.
pub(crate) struct LogExporter(Courier);

impl LogExporter {
    pub(crate) fn new(collector: Collector) -> std::io::Result<Self> {
        Courier::new(collector).map(Self)
    }
}

impl Way for LogExporter {
    fn write(&mut self, lines: &[Arc<Line>]) -> Result<(), Failure> {
        let body = told(&self.0.collector, lines);
        self.0.deliver("/v1/logs", &body).map_err(|error| {
            if error.is_final {
                Failure::Lost(error.why)
            } else {
                Failure::Again {
                    done: 0,
                    why: error.why,
                }
            }
        })
    }
}

pub(super) fn told(collector: &Collector, lines: &[Arc<Line>]) -> Value {
    let records: Vec<Value> = lines.iter().map(|line| record(line)).collect();
    json!({ "resourceLogs": [{
        "resource": collector.resource(),
        "scopeLogs": [{ "scope": { "name": "ipreconnect" }, "logRecords": records }],
    }] })
}

fn record(line: &Line) -> Value {
    let number = match line.level {
        Level::ERROR => 17,
        Level::WARN => 13,
        Level::INFO => 9,
        Level::DEBUG => 5,
        Level::TRACE => 1,
    };
    let fields = line.fields.iter();
    let mut attributes: Vec<Value> = fields
        .map(|(name, value)| attribute(name, value.value()))
        .collect();
    if let Some((count, within)) = line.stands_for {
        attributes.push(attribute("repeated", count.into()));
        attributes.push(attribute("within_ms", millis(within).into()));
    }
    json!({
        "timeUnixNano": nanos(line.at),
        "observedTimeUnixNano": nanos(line.at),
        "severityNumber": number,
        "severityText": line.level.as_str(),
        "body": { "stringValue": line.words() },
        "attributes": attributes,
    })
}

use std::sync::Arc;

use ipreconnect::core::http::TraceContext;
use ipreconnect::span::{Span, SpanEvent, SpanValue};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;

use super::*;
use crate::log::Line;

fn collector() -> Collector {
    Collector {
        url: "http://user:secret@192.0.2.1:4318/base".to_owned(),
        headers: vec![("x-api-key".to_owned(), "secret".to_owned())],
        service: "shop".to_owned(),
        instance: "host".to_owned(),
    }
}

#[test]
fn nothing_secret_is_told_of_a_collector() {
    assert_eq!(
        format!("{:?} {0}", collector()),
        "192.0.2.1:4318 192.0.2.1:4318"
    );
}

#[test]
fn lines_are_as_the_protocol_has_them() {
    let line = Line {
        at: Duration::from_millis(1_500),
        stands_for: Some((3, Duration::from_secs(10))),
        ..Line::own(tracing::Level::ERROR, "endpoint down")
    };
    let body = logs::told(&collector(), &[Arc::new(line)]);
    let request: ExportLogsServiceRequest = serde_json::from_value(body).unwrap();
    let record = &request.resource_logs[0].scope_logs[0].log_records[0];
    assert_eq!(
        (record.time_unix_nano, record.severity_number),
        (1_500_000_000, 17)
    );
    let body = record.body.as_ref().and_then(|body| body.value.clone());
    let wanted = "endpoint down (3 more like this within 10 s)".to_owned();
    assert_eq!(body, Some(Any::StringValue(wanted)));
    let repeated = record.attributes[0].value.as_ref().unwrap();
    assert_eq!(repeated.value, Some(Any::IntValue(3)));
    let resource = request.resource_logs[0].resource.as_ref().unwrap();
    assert_eq!(resource.attributes[0].key, "service.name");
}

#[test]
fn spans_are_as_the_protocol_has_them() {
    let span = Span {
        context: TraceContext {
            trace: [0xab; 16],
            id: [0xcd; 8],
            is_sampled: true,
        },
        parent: Some([0xef; 8]),
        state: Some("vendor=1".to_owned()),
        name: "GET".to_owned(),
        began: Duration::from_secs(1),
        ended: Duration::from_secs(2),
        attributes: vec![
            ("http.response.status_code", SpanValue::Number(503)),
            ("url.scheme", SpanValue::Word("http")),
        ],
        events: vec![SpanEvent {
            at: Duration::from_millis(1_250),
            name: "held",
            attributes: vec![("held_ms", SpanValue::Millis(Duration::from_micros(1_500)))],
        }],
        dropped_events: 2,
        error: Some("status 503".to_owned()),
    };
    let body = traces::told(&collector(), &[Box::new(span)]);
    let request: ExportTraceServiceRequest = serde_json::from_value(body).unwrap();
    let span = &request.resource_spans[0].scope_spans[0].spans[0];
    assert_eq!(span.trace_id, [0xab; 16]);
    assert_eq!(
        (&span.span_id[..], &span.parent_span_id[..]),
        (&[0xcd; 8][..], &[0xef; 8][..])
    );
    assert_eq!((span.kind, span.dropped_events_count), (2, 2));
    assert_eq!(span.trace_state, "vendor=1");
    assert_eq!(
        (span.start_time_unix_nano, span.end_time_unix_nano),
        (1_000_000_000, 2_000_000_000)
    );
    assert_eq!(
        span.attributes[0].value.as_ref().unwrap().value,
        Some(Any::IntValue(503))
    );
    let held = &span.events[0];
    assert_eq!(
        (held.name.as_str(), held.time_unix_nano),
        ("held", 1_250_000_000)
    );
    assert_eq!(
        held.attributes[0].value.as_ref().unwrap().value,
        Some(Any::DoubleValue(1.5))
    );
    assert_eq!(span.status.as_ref().unwrap().code, 2);
}

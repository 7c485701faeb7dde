//! What is counted, as Prometheus reads it (text format 0.0.4).

use std::fmt::Write;

use ipreconnect::stats::{STEPS, Times};

use crate::gateway::Pulse;
use crate::view::{EndpointView, ListenerView, OriginView};

/// Origins, endpoints and listeners that are told; more would be more than a scraper likes.
const MOST: usize = 10_000;
/// The phases of an origin, in the order of their numbers.
const PHASES: [&str; 6] = ["unknown", "connecting", "up", "suspect", "down", "draining"];

/// What the ledger and the watchers have to say of themselves.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Own {
    pub(crate) ledger_dropped: u64,
    pub(crate) ledger_fails: bool,
    pub(crate) watchers: usize,
}

/// All metrics.
pub(crate) fn text(
    origins: &[OriginView],
    pulses: &[Pulse],
    listeners: &[ListenerView],
    own: Own,
) -> String {
    let mut page = Page::default();
    let origins = origins.get(..origins.len().min(MOST)).unwrap_or_default();
    let pulses = pulses.get(..pulses.len().min(MOST)).unwrap_or_default();
    let listeners = listeners
        .get(..listeners.len().min(MOST))
        .unwrap_or_default();
    page.family("ipreconnect_build_info", "gauge", "The running version.");
    page.line(&[("version", env!("CARGO_PKG_VERSION"))], 1);
    write_origins(&mut page, origins);
    write_endpoints(&mut page, origins);
    write_pulses(&mut page, pulses);
    write_listeners(&mut page, listeners);
    page.family(
        "ipreconnect_ledger_dropped_total",
        "counter",
        "Entries of the outage ledger that were not kept.",
    );
    page.line(&[], own.ledger_dropped);
    page.family(
        "ipreconnect_ledger_failing",
        "gauge",
        "1 while the outage ledger cannot be written.",
    );
    page.line(&[], u64::from(own.ledger_fails));
    page.family(
        "ipreconnect_event_watchers",
        "gauge",
        "Clients that watch the stream of events.",
    );
    page.line(&[], own.watchers as u64);
    page.text
}

fn write_origins(page: &mut Page, origins: &[OriginView]) {
    page.family(
        "ipreconnect_origin_up",
        "gauge",
        "1 while the origin is proven to be up, or its loss is only suspected.",
    );
    for origin in origins {
        let is_up = matches!(origin.phase.as_str(), "up" | "suspect");
        page.line(&[("origin", &origin.name)], u64::from(is_up));
    }
    page.family(
        "ipreconnect_origin_phase",
        "gauge",
        "1 for the phase that the origin is in.",
    );
    for origin in origins {
        for phase in PHASES {
            let labels = [("origin", origin.name.as_str()), ("phase", phase)];
            page.line(&labels, u64::from(origin.phase == phase));
        }
    }
    page.family(
        "ipreconnect_origin_required",
        "gauge",
        "1 if the application cannot do without the origin.",
    );
    for origin in origins {
        page.line(&[("origin", &origin.name)], u64::from(origin.required));
    }
    page.family(
        "ipreconnect_origin_waiting_clients",
        "gauge",
        "Clients that wait for the origin now.",
    );
    for origin in origins {
        page.line(&[("origin", &origin.name)], u64::from(origin.waiting));
    }
}

fn write_endpoints(page: &mut Page, origins: &[OriginView]) {
    let mut each = |name, kind, help, value: &dyn Fn(&EndpointView) -> Option<f64>| {
        page.family(name, kind, help);
        let endpoints = origins.iter().flat_map(|origin| {
            let endpoints = origin.endpoints.iter();
            endpoints.map(|endpoint| (origin.name.as_str(), endpoint))
        });
        for (origin, endpoint) in endpoints.take(MOST) {
            if let Some(value) = value(endpoint) {
                let labels = [("origin", origin), ("endpoint", endpoint.address.as_str())];
                page.float(&labels, value);
            }
        }
    };
    let flag = |is_so: bool| Some(if is_so { 1.0 } else { 0.0 });
    each(
        "ipreconnect_endpoint_up",
        "gauge",
        "1 while the endpoint is up.",
        &|one| flag(one.health == "up"),
    );
    each(
        "ipreconnect_endpoint_takes_work",
        "gauge",
        "1 while new clients go there.",
        &|one| flag(one.takes_work),
    );
    each(
        "ipreconnect_endpoint_ejected",
        "gauge",
        "1 while it is set aside for its answers.",
        &|one| flag(one.ejected.is_some()),
    );
    #[expect(
        clippy::cast_precision_loss,
        reason = "exposition is in floating point"
    )]
    let float = |count: u64| Some(count as f64);
    each(
        "ipreconnect_endpoint_connect_seconds",
        "gauge",
        "The smoothed time to connect.",
        &|one| float(one.connect_us?).map(|micros| micros / 1e6),
    );
    each(
        "ipreconnect_endpoint_open_connections",
        "gauge",
        "Connections that are open now.",
        &|one| float(u64::from(one.open)),
    );
    each(
        "ipreconnect_endpoint_warm_connections",
        "gauge",
        "Connections that are ready for whoever comes next.",
        &|one| float(one.warm as u64),
    );
    each(
        "ipreconnect_endpoint_connections_total",
        "counter",
        "Connections opened so far.",
        &|one| float(one.served),
    );
    each(
        "ipreconnect_endpoint_local_failures_total",
        "counter",
        "Dials that this machine had no port, descriptor or permission for.",
        &|one| float(one.failed_here),
    );
}

fn write_pulses(page: &mut Page, pulses: &[Pulse]) {
    page.family(
        "ipreconnect_origin_requests_total",
        "counter",
        "Answers over HTTP, by the class of their status.",
    );
    for pulse in pulses {
        for (code, count) in ["1xx", "2xx", "3xx", "4xx", "5xx"]
            .iter()
            .zip(pulse.counts.classes)
        {
            page.line(&[("origin", &pulse.origin), ("code", code)], count);
        }
    }
    let mut each = |name, help, value: &dyn Fn(&Pulse) -> u64| {
        page.family(name, "counter", help);
        for pulse in pulses {
            page.line(&[("origin", &pulse.origin)], value(pulse));
        }
    };
    each(
        "ipreconnect_origin_held_total",
        "Requests and connections that waited for the origin.",
        &|pulse| pulse.counts.held,
    );
    each(
        "ipreconnect_origin_retried_total",
        "Requests that were sent again.",
        &|pulse| pulse.counts.retried,
    );
    each(
        "ipreconnect_origin_lost_total",
        "Requests and connections that came to nothing because of the origin.",
        &|pulse| pulse.counts.lost,
    );
    page.family(
        "ipreconnect_origin_response_seconds",
        "histogram",
        "How long clients wait from their request to the first byte of the answer.",
    );
    for pulse in pulses {
        page.histogram(&pulse.origin, &pulse.counts.times);
    }
}

fn write_listeners(page: &mut Page, listeners: &[ListenerView]) {
    let mut each = |name, kind, help, value: &dyn Fn(&ListenerView) -> u64| {
        page.family(name, kind, help);
        for listener in listeners {
            page.line(&[("listener", &listener.name)], value(listener));
        }
    };
    each(
        "ipreconnect_listener_connections",
        "gauge",
        "Streams that are carried now.",
        &|one| one.carrying,
    );
    for (name, help, value) in [
        (
            "ipreconnect_listener_accepted_total",
            "Connections that were accepted.",
            (|one: &ListenerView| one.accepted) as fn(&ListenerView) -> u64,
        ),
        (
            "ipreconnect_listener_denied_total",
            "Connections that were refused by rules or limits.",
            |one| one.denied,
        ),
        (
            "ipreconnect_listener_unserved_total",
            "Clients that left, or were sent away, before they reached the origin.",
            |one| one.unserved,
        ),
        (
            "ipreconnect_listener_dropped_datagrams_total",
            "Datagrams that were not passed on.",
            |one| one.dropped,
        ),
        (
            "ipreconnect_listener_ended_total",
            "Streams that ended in order.",
            |one| one.ended,
        ),
        (
            "ipreconnect_listener_failed_total",
            "Streams that were reset, stalled or closed.",
            |one| one.failed,
        ),
        (
            "ipreconnect_listener_sent_bytes_total",
            "Bytes carried to origins.",
            |one| one.bytes_to_origin,
        ),
        (
            "ipreconnect_listener_received_bytes_total",
            "Bytes carried to clients.",
            |one| one.bytes_to_client,
        ),
    ] {
        each(name, "counter", help, &value);
    }
}

#[derive(Default)]
struct Page {
    text: String,
    name: &'static str,
}

impl Page {
    fn family(&mut self, name: &'static str, kind: &str, help: &str) {
        self.name = name;
        // Writing to a string cannot fail.
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn line(&mut self, labels: &[(&str, &str)], value: u64) {
        self.start("", labels, None);
        let _ = writeln!(self.text, " {value}");
    }

    fn float(&mut self, labels: &[(&str, &str)], value: f64) {
        self.start("", labels, None);
        let _ = writeln!(self.text, " {value}");
    }

    fn histogram(&mut self, origin: &str, times: &Times) {
        let labels = [("origin", origin)];
        let mut below = 0;
        let ends = STEPS.iter().map(|end| end.as_secs_f64().to_string());
        for (count, end) in times.steps.iter().zip(ends.chain(["+Inf".to_owned()])) {
            below += count;
            self.start("_bucket", &labels, Some(&end));
            let _ = writeln!(self.text, " {below}");
        }
        self.start("_sum", &labels, None);
        let _ = writeln!(self.text, " {}", times.sum.as_secs_f64());
        self.start("_count", &labels, None);
        let _ = writeln!(self.text, " {below}");
    }

    fn start(&mut self, end: &str, labels: &[(&str, &str)], le: Option<&str>) {
        self.text.push_str(self.name);
        self.text.push_str(end);
        let le = le.map(|le| ("le", le));
        let mut labels = labels.iter().copied().chain(le).peekable();
        if labels.peek().is_none() {
            return;
        }
        let mut before = '{';
        for (name, value) in labels {
            self.text.push(before);
            self.text.push_str(name);
            self.text.push_str("=\"");
            for character in value.chars() {
                match character {
                    '\\' => self.text.push_str("\\\\"),
                    '"' => self.text.push_str("\\\""),
                    '\n' => self.text.push_str("\\n"),
                    other => self.text.push(other),
                }
            }
            self.text.push('"');
            before = ',';
        }
        self.text.push('}');
    }
}

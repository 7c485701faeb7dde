//! `history`: what was lost, for how long, and how much of the time each origin was up.

use std::fmt::Write as _;
use std::os::unix::net::UnixStream;
use std::path::Path;

use hyper::Method;
use ipreconnect_admin::encoded;
use ipreconnect_admin::moment::{rfc3339, span};
use ipreconnect_admin::read_history;

use crate::admin::client::ask;
use crate::admin::view::{
    DayView, History, HistoryQuestion, LossView, OriginHistory, Outcome, SampleView,
};
use crate::args::{Arguments, HistoryArguments};
use crate::config::state_directory;
use crate::exit::{Exit, Refusal};
use crate::paint::{Paint, plain};

/// Days that the line of each origin shows.
const DAYS: usize = 60;

/// Asks the running gateway, or reads what the last one has written.
pub(crate) fn history(arguments: &Arguments, history: &HistoryArguments) -> Result<Exit, Refusal> {
    let found = find(arguments, history)?;
    let is_empty = found.origins.is_empty() && found.losses.is_empty();
    if let (Some(name), true) = (&history.origin, is_empty) {
        let message = format!("nothing is written of an origin {name:?}");
        return Err(Refusal::new(Exit::Wrong, message)
            .hint("`ipreconnect history` lists those that something is written of"));
    }
    if arguments.json {
        super::print_json(&found);
    } else if history.csv {
        print!("{}", csv(&found.losses));
    } else {
        print!("{}", text(Paint::of_stdout(), &found));
    }
    Ok(Exit::Fine)
}

#[derive(serde::Deserialize)]
#[serde(untagged)]
enum Answer {
    History(Box<History>),
    Outcome(Outcome),
}

fn find(arguments: &Arguments, history: &HistoryArguments) -> Result<History, Refusal> {
    let mut path = format!("/v1/history?limit={}", history.limit);
    if let Some(seconds) = history.samples {
        let _ = write!(path, "&samples={seconds}");
    }
    if let Some(origin) = &history.origin {
        let _ = write!(path, "&origin={}", encoded(origin));
    }
    let socket = super::status::socket(arguments)?;
    match super::block_on(ask::<Answer>(&socket, Method::GET, &path)) {
        Ok((_, Answer::History(found))) => Ok(*found),
        Ok((_, Answer::Outcome(outcome))) => {
            Err(Refusal::new(Exit::NotFine, outcome.messages.join("; ")))
        }
        // One that runs and does not answer is told of; its file may lag behind it.
        Err(refusal) if UnixStream::connect(&socket).is_err() => read(arguments, history, refusal),
        Err(refusal) => Err(refusal),
    }
}

/// What was written before, while no gateway runs.
fn read(
    arguments: &Arguments,
    history: &HistoryArguments,
    unreachable: Refusal,
) -> Result<History, Refusal> {
    let state = state_directory(arguments.config.as_deref(), &arguments.environment());
    let state = state.map_err(|mistakes| Refusal::new(Exit::Wrong, mistakes.lines().join("; ")))?;
    let file = state.join("history.db");
    if !Path::new(&file).exists() {
        return Err(unreachable);
    }
    let question = HistoryQuestion {
        origin: history.origin.clone(),
        limit: Some(history.limit),
        samples: history.samples,
        scope: None,
    };
    let found = read_history(&file, &question).map_err(|error| {
        Refusal::new(Exit::NotFine, "the outage ledger cannot be read").because(&error)
    })?;
    eprintln!("no gateway runs; this is what the last one has written");
    Ok(found)
}

fn text(paint: Paint, history: &History) -> String {
    let mut text = String::new();
    for origin in &history.origins {
        text.push_str(&origin_lines(paint, origin));
    }
    if !history.origins.is_empty() {
        text.push('\n');
    }
    if history.losses.is_empty() {
        text.push_str("no losses\n");
    }
    let told = |loss: &&LossView| !loss.is_told_by(&history.losses);
    for loss in history.losses.iter().filter(told) {
        text.push_str(&loss_lines(paint, loss));
    }
    if !history.findings.is_empty() {
        text.push_str("\nlocal ports\n");
    }
    for finding in &history.findings {
        let when = rfc3339(finding.first_ms);
        let _ = writeln!(text, "  {when}  {}: {}", finding.kind, plain(&finding.told));
    }
    if history.dropped > 0 {
        let _ = writeln!(
            text,
            "{} entries were not kept: too many came at once, or the disk was full",
            history.dropped
        );
    }
    if let Some(problem) = &history.problem {
        let _ = writeln!(text, "the ledger cannot be written now: {}", plain(problem));
    }
    text
}

fn origin_lines(paint: Paint, origin: &OriginHistory) -> String {
    let mut text = format!("{}\n  up", paint.bold(&plain(&origin.name)));
    for (words, uptime) in origin.spans() {
        let _ = write!(text, "  {words} {}", uptime.shown());
    }
    text.push('\n');
    let skipped = origin.days.len().saturating_sub(DAYS);
    let days: String = origin.days.iter().skip(skipped).map(day).collect();
    if let (false, Some(first)) = (days.is_empty(), origin.days.get(skipped)) {
        let _ = writeln!(
            text,
            "  {days}  each day since {} (█ up, ▓ down for less than 1 %, ░ for more)",
            first.date
        );
    }
    if let Some(response) = &origin.response {
        let _ = writeln!(
            text,
            "  {} answers in 24 h: half within {:.1} ms, 95 % within {:.1} ms, 99 % within {:.1} ms",
            response.count, response.p50_ms, response.p95_ms, response.p99_ms
        );
    }
    for sample in &origin.samples {
        text.push_str(&sample_line(sample));
    }
    text
}

/// Ten seconds.
fn sample_line(sample: &SampleView) -> String {
    let mut text = format!("  {}  {:6} answers", sample.time, sample.requests);
    if let Some(response) = &sample.response {
        let _ = write!(
            text,
            ", half within {:.1} ms, 99 % within {:.1} ms",
            response.p50_ms, response.p99_ms
        );
    }
    for (count, words) in [
        (sample.failed, "failed"),
        (sample.held, "held"),
        (sample.retried, "sent again"),
        (sample.lost, "lost"),
    ] {
        if count > 0 {
            let _ = write!(text, ", {count} {words}");
        }
    }
    if sample.down_ms > 0 {
        text.push_str(", down");
    }
    text.push('\n');
    text
}

fn day(day: &DayView) -> char {
    match day.uptime.percent {
        None => '·',
        Some(percent) if percent >= 100.0 => '█',
        Some(percent) if percent >= 99.0 => '▓',
        Some(_) => '░',
    }
}

fn loss_lines(paint: Paint, loss: &LossView) -> String {
    let what = match (&loss.endpoint, loss.scope.as_str()) {
        (Some(endpoint), "endpoint") => format!("lost {}", plain(endpoint)),
        _ => "down".to_owned(),
    };
    let lasted = match loss.lasted_ms {
        None => paint.state("down").replace("down", "lasts"),
        Some(lasted) => format!("{} {}", loss.lasted_word(), span(lasted)),
    };
    let mut text = format!(
        "{}  {}  {what}: {}: {}\n    {lasted}, certain after {}",
        loss.first_sign,
        paint.bold(&plain(&loss.origin)),
        loss.layer,
        plain(&loss.cause),
        span(loss.notice_ms),
    );
    if let Some(silent) = loss.silent_ms.filter(|silent| *silent > loss.notice_ms) {
        let _ = write!(text, ", last sign of life {} before that", span(silent));
    }
    if let (Some(by), Some(after)) = (&loss.took_over, loss.took_over_ms) {
        let _ = write!(text, ", {} took over after {}", plain(by), span(after));
    }
    if let Some(healed) = &loss.healed_by {
        let _ = write!(text, ", {}", plain(healed));
    }
    for (count, words) in [
        (loss.held, "held"),
        (loss.retried, "sent again"),
        (loss.lost, "lost"),
    ] {
        if count > 0 {
            let _ = write!(text, ", {count} {words}");
        }
    }
    if loss.blame == "own network" {
        text.push_str("; this machine's own network was away");
    }
    text.push('\n');
    text
}

/// As spreadsheets read it (RFC 4180).
fn csv(losses: &[LossView]) -> String {
    let mut text = String::from(
        "id,origin,scope,endpoint,layer,cause,blame,first_sign,silent_ms,notice_ms,lasted_ms,took_over,took_over_ms,healed_by,held,retried,lost\r\n",
    );
    let number = |value: Option<u64>| value.map(|value| value.to_string()).unwrap_or_default();
    for loss in losses {
        let fields = [
            loss.id.to_string(),
            loss.origin.clone(),
            loss.scope.clone(),
            loss.endpoint.clone().unwrap_or_default(),
            loss.layer.clone(),
            loss.cause.clone(),
            loss.blame.clone(),
            loss.first_sign.clone(),
            number(loss.silent_ms),
            loss.notice_ms.to_string(),
            number(loss.lasted_ms),
            loss.took_over.clone().unwrap_or_default(),
            number(loss.took_over_ms),
            loss.healed_by.clone().unwrap_or_default(),
            loss.held.to_string(),
            loss.retried.to_string(),
            loss.lost.to_string(),
        ];
        let fields: Vec<String> = fields.iter().map(|field| quoted(field)).collect();
        text.push_str(&fields.join(","));
        text.push_str("\r\n");
    }
    text
}

fn quoted(field: &str) -> String {
    // A field that begins so would be taken for a formula.
    let is_formula = field.starts_with(['=', '+', '-', '@', '\t', '\r']);
    let field = if is_formula {
        format!("'{field}")
    } else {
        field.to_owned()
    };
    if field.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", field.replace('"', "\"\""))
    } else {
        field
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loss() -> LossView {
        LossView {
            id: 7,
            origin: "shop\u{1b}[31m".to_owned(),
            scope: "origin".to_owned(),
            layer: "transport".to_owned(),
            cause: "=1+1, \"quoted\"\nline".to_owned(),
            blame: "origin".to_owned(),
            first_sign: "2026-11-22T09:41:40.000Z".to_owned(),
            notice_ms: 300,
            held: 3,
            ..LossView::default()
        }
    }

    #[test]
    fn what_would_move_the_cursor_is_shown_as_text() {
        let history = History {
            losses: vec![loss()],
            ..History::default()
        };
        let text = text(Paint::off(), &history);
        assert!(!text.contains('\u{1b}'), "{text:?}");
        assert!(text.contains("shop␛[31m"), "{text}");
        assert!(
            text.contains("lasts, certain after 300 ms, 3 held"),
            "{text}"
        );
    }

    #[test]
    fn a_table_is_read_by_spreadsheets_as_it_is() {
        let csv = csv(&[loss()]);
        assert!(csv.contains("\"'=1+1, \"\"quoted\"\"\nline\""), "{csv}");
        assert!(csv.ends_with(",300,,,,,3,0,0\r\n"), "{csv}");
    }
}

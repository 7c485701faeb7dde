//! What a probe found, as people read it: rows with bars.

use super::report::{Report, Rounds, Spread, Tls};
use crate::paint::Paint;

/// The widest bar, in characters.
const WIDE: u64 = 16;
/// Records of one answer that are shown.
const SHOWN: usize = 3;

/// One row: what, how it went, how long it took.
struct Row {
    mark: &'static str,
    what: String,
    how: String,
    took: u64,
    is_good: bool,
}

pub(super) fn draw(report: &Report) -> String {
    let paint = Paint::of_stdout();
    let parts = [
        ("resolvers", resolvers(report)),
        ("addresses", addresses(report)),
        ("tls", tls(report)),
        ("first byte", first_byte(report)),
    ];
    let rows = || parts.iter().flat_map(|(_, rows)| rows);
    let longest = rows().map(|row| row.took).max().unwrap_or(0).max(1);
    let what = rows()
        .map(|row| row.what.chars().count())
        .max()
        .unwrap_or(0)
        .min(40);
    let how = rows()
        .map(|row| row.how.chars().count())
        .max()
        .unwrap_or(0)
        .min(60);
    let mut text = format!("{}\n", paint.bold(&report.target));
    for (title, rows) in &parts {
        if rows.is_empty() {
            continue;
        }
        text.push_str(&format!("{}\n", paint.with("2", title)));
        for row in rows {
            let colour = if row.is_good { "32" } else { "31" };
            text.push_str(&format!(
                "{} {:<what$}  {:<how$}  {:>9}  {}\n",
                row.mark,
                row.what,
                row.how,
                millis(row.took),
                paint.with(colour, &bar(row.took, longest)),
            ));
        }
    }
    if let Some(tls) = &report.tls {
        text.push_str(&certificate(&paint, tls));
    }
    for why in &report.denied {
        text.push_str(&format!("  not dialled: {why}\n"));
    }
    if let Some(why) = &report.resolve_failure {
        text.push_str(&format!("  {}\n", paint.with("31;1", why)));
    }
    if let Some(total) = report.total_us {
        text.push_str(&format!("total  {}", millis(total)));
        if let Some(resolve) = report.resolve_us {
            text.push_str(&format!(", {} of it to resolve", millis(resolve)));
        }
        text.push('\n');
    }
    for (title, rounds) in [("cold", &report.cold), ("warm", &report.warm)] {
        if let Some(rounds) = rounds {
            text.push_str(&table(&paint, title, rounds));
        }
    }
    for limit in &report.slo {
        let took = limit
            .took_us
            .map_or("did not come about".to_owned(), millis);
        let verdict = if limit.holds {
            paint.with("32", "holds")
        } else {
            paint.with("31;1", "missed")
        };
        let (phase, limit) = (limit.phase, millis(limit.limit_us));
        text.push_str(&format!("limit {phase} {limit}: {took}, {verdict}\n"));
    }
    text
}

fn resolvers(report: &Report) -> Vec<Row> {
    let several = report
        .resolvers
        .iter()
        .any(|one| one.name != report.resolvers[0].name);
    report
        .resolvers
        .iter()
        .map(|one| {
            let what = if several {
                format!("{} {} {}", one.resolver, one.kind, one.name)
            } else {
                format!("{} {}", one.resolver, one.kind)
            };
            let how = match &one.failure {
                Some(failure) => failure.clone(),
                None => records(one.records.as_slice(), one.ttl_s, one.dnssec.as_deref()),
            };
            Row {
                mark: " ",
                what,
                how,
                took: one.took_us,
                is_good: one.failure.is_none(),
            }
        })
        .collect()
}

fn records(records: &[String], ttl: Option<u64>, dnssec: Option<&str>) -> String {
    let mut text = records
        .iter()
        .take(SHOWN)
        .cloned()
        .collect::<Vec<_>>()
        .join(", ");
    if records.len() > SHOWN {
        text.push_str(&format!(" and {} more", records.len() - SHOWN));
    }
    if let Some(ttl) = ttl {
        text.push_str(&format!(", for {ttl} s"));
    }
    match dnssec {
        Some("secure") => text.push_str(", proven by DNSSEC"),
        Some("insecure") => text.push_str(", not signed"),
        _ => {}
    }
    text
}

fn addresses(report: &Report) -> Vec<Row> {
    let rows = report.addresses.iter().map(|one| {
        let how = match (&one.failure, one.won) {
            (Some(failure), _) => failure.clone(),
            (None, true) => "connected, and won the race".to_owned(),
            (None, false) => "connected".to_owned(),
        };
        Row {
            mark: if one.won { "▶" } else { " " },
            what: one.address.clone(),
            how,
            took: one.took_us,
            is_good: one.failure.is_none(),
        }
    });
    rows.collect()
}

fn tls(report: &Report) -> Vec<Row> {
    let Some(tls) = &report.tls else {
        return Vec::new();
    };
    let (what, how) = match &tls.failure {
        Some(_) => ("handshake".to_owned(), "failed".to_owned()),
        None => ("full handshake".to_owned(), tls.version.clone()),
    };
    let mut rows = vec![Row {
        mark: " ",
        what,
        how,
        took: tls.took_us,
        is_good: tls.failure.is_none(),
    }];
    rows.extend(tls.resumed_us.map(|took| Row {
        mark: " ",
        what: "resumed handshake".to_owned(),
        how: "of another connection".to_owned(),
        took,
        is_good: true,
    }));
    rows
}

/// Who answered, or why that is not known.
fn certificate(paint: &Paint, tls: &Tls) -> String {
    let mut text = String::new();
    if let Some(failure) = &tls.failure {
        text.push_str(&format!("  {}\n", paint.with("31;1", failure)));
    }
    if let Some(advice) = tls.advice {
        text.push_str(&format!("  {advice}\n"));
    }
    if let Some(shown) = &tls.certificate {
        text.push_str(&format!(
            "  certificate for {}\n  issued by {}, valid {} to {}\n  pin {}\n",
            shown.names.join(", "),
            shown.issuer,
            shown.valid_from,
            shown.valid_until,
            shown.key
        ));
    }
    if let Some(alpn) = &tls.alpn {
        text.push_str(&format!("  inside: {alpn}\n"));
    }
    text
}

fn first_byte(report: &Report) -> Vec<Row> {
    let rows = report.first_byte.iter().map(|first| {
        let (what, how, is_good) = match first.who {
            "server" => ("the server", "speaks first", true),
            "client" => ("the client", "is to speak first: the server waits", true),
            _ => ("nobody", "the server closed the connection", false),
        };
        Row {
            mark: " ",
            what: what.to_owned(),
            how: how.to_owned(),
            took: first.after_us,
            is_good,
        }
    });
    rows.collect()
}

/// A bar in eighths of a character.
fn bar(took: u64, longest: u64) -> String {
    let eighths = (took.saturating_mul(WIDE * 8) / longest).clamp(1, WIDE * 8);
    let mut bar = "█".repeat(usize::try_from(eighths / 8).unwrap_or(0));
    let parts = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    bar.push_str(
        parts
            .get(usize::try_from(eighths % 8).unwrap_or(0))
            .unwrap_or(&""),
    );
    bar
}

fn table(paint: &Paint, title: &str, rounds: &Rounds) -> String {
    let mut text = format!(
        "{}\n",
        paint.with(
            "2",
            &format!(
                "{:<26}{:>10}{:>10}{:>10}{:>10}",
                format!("{title}, {} times", rounds.count()),
                "least",
                "median",
                "90 %",
                "most"
            )
        )
    );
    let mut lines: Vec<(&str, Spread)> = vec![("connect", rounds.connect_us)];
    lines.extend(rounds.tls_us.map(|spread| ("TLS", spread)));
    if title == "cold" {
        lines.insert(0, ("resolve", rounds.resolve_us));
    }
    if lines.len() > 1 {
        lines.push(("total", rounds.total_us));
    }
    for (what, spread) in lines {
        let [least, median, p90, most] =
            [spread.least, spread.median, spread.p90, spread.most].map(millis);
        text.push_str(&format!(
            "  {what:<24}{least:>10}{median:>10}{p90:>10}{most:>10}\n"
        ));
    }
    if let (1.., Some(why)) = (rounds.failed, &rounds.failure) {
        text.push_str(&format!("  {} failed: {why}\n", rounds.failed));
    }
    text
}

fn millis(micros: u64) -> String {
    match micros {
        0..10_000 => format!("{:.2} ms", micros as f64 / 1e3),
        10_000..1_000_000 => format!("{:.1} ms", micros as f64 / 1e3),
        _ => format!("{:.2} s", micros as f64 / 1e6),
    }
}

//! The table, in Markdown and JSON.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use super::scenario::{Scenario, Seen};
use super::{Row, root};

const COMMAND: &str = "cargo xtask bench recovery";

/// Writes the table into the documentation, and returns it.
pub(super) fn write(
    rows: &[Row],
    rounds: usize,
    versions: &[(String, String)],
) -> std::io::Result<String> {
    let directory = root().join("docs/benchmarks");
    std::fs::create_dir_all(&directory)?;
    let text = markdown(rows, rounds, versions);
    std::fs::write(directory.join("recovery.md"), &text)?;
    let json = serde_json::to_string_pretty(&json(rows, rounds, versions)).unwrap_or_default();
    std::fs::write(directory.join("recovery.json"), json + "\n")?;
    Ok(text)
}

fn markdown(rows: &[Row], rounds: usize, versions: &[(String, String)]) -> String {
    let mut text = format!(
        "# Recovery\n\nMade by `{COMMAND}`: medians of {rounds} rounds, taken in turns (smallest to largest in \
         parentheses).\n\n20 clients, each a new TCP connection and one request every 20 ms, whatever became of the \
         earlier ones; times count from the moment at which a request was due. The fault comes 2 s after the load \
         began. *In flight* are failed requests that were made before the fault: the dead endpoint had them, and raw \
         TCP cannot send them elsewhere. *Stall* is the longest time between two answers. *First answer* counts from \
         the fault, and to a request that was made after it.\n\nMachine: {}.\n\n",
        machine()
    );
    for (peer, version) in versions {
        let _ = writeln!(text, "- {peer}: {version}");
    }
    for scenario in Scenario::ALL {
        let of_it: Vec<&Row> = rows.iter().filter(|row| row.scenario == scenario).collect();
        if of_it.is_empty() {
            continue;
        }
        let _ = write!(
            text,
            "\n## {}\n\n| proxy | failed | of these in flight | answered | longest stall | first answer after | first origin used again after |\n|---|---|---|---|---|---|---|\n",
            scenario.title()
        );
        for row in of_it {
            text.push_str(&line(row));
        }
    }
    text
}

fn line(row: &Row) -> String {
    let seen: Vec<&Seen> = row.rounds.iter().filter_map(|round| round.as_ref().ok()).collect();
    let failures: Vec<&String> = row.rounds.iter().filter_map(|round| round.as_ref().err()).collect();
    if seen.is_empty() {
        let why = failures.first().map_or("not run", |why| why.as_str());
        return format!("| {} | could not be measured: {why} | | | | | |\n", row.peer);
    }
    let counts = |of: fn(&Seen) -> u64| spread(seen.iter().map(|one| of(one) as f64).collect(), "");
    let share = |one: &Seen| one.answered as f64 * 100.0 / one.offered.max(1) as f64;
    let times = |of: fn(&Seen) -> Option<Duration>| {
        let times: Vec<f64> = seen.iter().filter_map(|one| of(one)).map(|t| t.as_secs_f64() * 1000.0).collect();
        match times.len() {
            0 => "never".to_owned(),
            n if n < seen.len() => format!("{} (never in {} of {})", spread(times, " ms"), seen.len() - n, seen.len()),
            _ => spread(times, " ms"),
        }
    };
    let back = match row.scenario {
        Scenario::CrashAndBack | Scenario::Frozen => times(|one| one.first_is_back),
        _ => "".to_owned(),
    };
    let mut line = format!(
        "| {} | {} | {} | {} | {} | {} | {back} |\n",
        row.peer,
        counts(|one| one.failed),
        counts(|one| one.failed_in_flight),
        spread(seen.iter().map(|one| share(one)).collect(), " %"),
        times(|one| Some(one.stall)),
        times(|one| one.first_answer),
    );
    if let Some(why) = failures.first() {
        let _ = writeln!(line, "| | {} rounds could not be measured: {why} | | | | | |", failures.len());
    }
    line
}

/// The median, and the smallest and largest if they differ.
fn spread(mut values: Vec<f64>, unit: &str) -> String {
    values.sort_by(f64::total_cmp);
    let (Some(low), Some(high)) = (values.first(), values.last()) else {
        return String::new();
    };
    let median = values.get(values.len() / 2).unwrap_or(low);
    let digits = if unit == " %" { 1 } else { 0 };
    let show = |value: &f64| format!("{value:.digits$}");
    if show(low) == show(high) {
        format!("{}{unit}", show(median))
    } else {
        format!("{}{unit} ({}–{})", show(median), show(low), show(high))
    }
}

fn json(rows: &[Row], rounds: usize, versions: &[(String, String)]) -> serde_json::Value {
    let versions: BTreeMap<_, _> = versions.iter().cloned().collect();
    let rows: Vec<_> = rows
        .iter()
        .map(|row| {
            let rounds: Vec<_> = row.rounds.iter().map(round).collect();
            serde_json::json!({ "scenario": row.scenario.name(), "proxy": row.peer, "rounds": rounds })
        })
        .collect();
    serde_json::json!({
        "schema": 1, "command": COMMAND, "machine": machine(), "rounds": rounds,
        "versions": versions, "results": rows,
    })
}

fn round(round: &Result<Seen, String>) -> serde_json::Value {
    match round {
        Err(why) => serde_json::json!({ "error": why }),
        Ok(seen) => {
            let millis = |time: Duration| time.as_secs_f64() * 1000.0;
            serde_json::json!({
                "offered": seen.offered, "answered": seen.answered, "failed": seen.failed,
                "failed_in_flight": seen.failed_in_flight, "outcomes": seen.outcomes,
                "longest_stall_ms": millis(seen.stall), "first_answer_ms": seen.first_answer.map(millis),
                "first_is_back_ms": seen.first_is_back.map(millis),
            })
        }
    }
}

fn machine() -> String {
    let name = rustix::system::uname();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    format!(
        "{} {}, {}, {cores} cores seen by the load",
        name.sysname().to_string_lossy(),
        name.release().to_string_lossy(),
        name.machine().to_string_lossy()
    )
}

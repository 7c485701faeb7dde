//! The results: medians with their spread, as Markdown and as JSON.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

use super::round::Round;
use super::scenario::Scenario;
use super::sight::Sight;
use super::wish::Subject;

/// Everything that was measured.
#[derive(Serialize)]
pub(crate) struct Table {
    pub(crate) command: String,
    pub(crate) date: String,
    pub(crate) machine: Machine,
    pub(crate) rounds: usize,
    pub(crate) rows: Vec<Row>,
}

/// Where it was measured.
#[derive(Serialize)]
pub(crate) struct Machine {
    kernel: String,
    cpu: String,
    cpus: usize,
    /// The system's default.
    congestion_control: String,
}

/// The rounds of one proxy in one scenario.
#[derive(Serialize)]
pub(crate) struct Row {
    pub(crate) scenario: Scenario,
    /// Name and version.
    pub(crate) proxy: String,
    pub(crate) rounds: Vec<Round>,
}

impl Machine {
    pub(crate) fn this() -> Self {
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        let cpu = read("/proc/cpuinfo");
        let model = cpu.lines().find_map(|line| line.strip_prefix("model name"));
        // The numbers tell the version; what follows tells whose build it is.
        let kernel = read("/proc/sys/kernel/osrelease");
        Self {
            kernel: kernel.trim().split('-').next().unwrap_or_default().into(),
            cpu: model
                .map_or("unknown", |model| model.trim_matches([' ', '\t', ':']))
                .into(),
            cpus: std::thread::available_parallelism().map_or(1, Into::into),
            congestion_control: read("/proc/sys/net/ipv4/tcp_congestion_control")
                .trim()
                .into(),
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Linux {}, {} CPUs ({}), congestion control {}",
            self.kernel, self.cpus, self.cpu, self.congestion_control
        )
    }
}

/// The day, as `2026-01-31`, in UTC.
pub(crate) fn today() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let days = since.map_or(0, |since| since.as_secs() / 86_400);
    day(days)
}

/// Days since 1970 in the Gregorian calendar, counted in eras of 400 years that begin in March.
fn day(days: u64) -> String {
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

impl Table {
    /// Markdown, complete with how it was measured.
    pub(crate) fn markdown(&self) -> String {
        let mut text = self.preface();
        for scenario in Scenario::ALL.iter().copied() {
            let rows: Vec<&Row> = self
                .rows
                .iter()
                .filter(|r| r.scenario == scenario)
                .collect();
            if !rows.is_empty() {
                section(&mut text, scenario, &rows);
            }
        }
        text
    }

    fn preface(&self) -> String {
        format!(
            "# Recovery of raw TCP\n\n\
             Made by `{command}` on {date}: {machine}. \
             Medians of {rounds} rounds in turns; in brackets the least and the most.\n\n\
             Load: 20 clients, each a new connection and a request every 20 ms whatever became of the earlier \
             ones (1,000 requests a second), a deadline of 5 s, times from the scheduled moment. The proxy has \
             one core, origins and load another; each round has a network namespace of its own. Peers are \
             configured as a careful operator would, for each scenario's own topology: checks every 500 ms with two \
             failures or successes (Envoy, HAProxy, the latter every 100 ms once in doubt), \
             `max_fails=1 fail_timeout=1s` (nginx), connect timeouts of 500 ms, as many retries as bridge some \
             seconds, redispatch; HAProxy does not check an origin without a backup, because it would turn clients \
             away as soon as it is down. The configurations are in `xtask/src/bench/proxy.rs`. ipreconnect has its default settings.\n\n\
             *Lost in flight*: requests without an answer that had begun when the fault struck; the struck origin \
             may have had them. *Lost after*: those that began later. *Longest stall*: the longest time between two \
             consecutive answers. *First new answer*: from the fault to the first answer to a request that began \
             after it. Times in ms.\n",
            command = self.command,
            machine = self.machine,
            date = self.date,
            rounds = self.rounds,
        )
    }
}

fn section(text: &mut String, scenario: Scenario, rows: &[&Row]) {
    let mended = scenario.mended_after().is_some();
    let extra = match mended {
        true => (" outage | used again after |", "---:|---:|"),
        false => ("", ""),
    };
    // Writing to a string cannot fail.
    let _ = write!(
        text,
        "\n## {}\n\n{} Aim: {}.\n\n\
         | proxy | lost in flight | lost after | longest stall | first new answer | answered, % |{} how requests were lost |\n\
         |---|---:|---:|---:|---:|---:|{}---|\n",
        scenario.title(),
        scenario.story(),
        scenario.aim(),
        extra.0,
        extra.1,
    );
    for row in rows {
        text.push_str(&line(row, mended));
    }
}

fn line(row: &Row, mended: bool) -> String {
    let seen: Vec<&Sight> = row
        .rounds
        .iter()
        .filter_map(|round| match round {
            Round::Seen(sight) => Some(sight),
            Round::Failed(_) => None,
        })
        .collect();
    let failed = row.rounds.iter().find_map(|round| match round {
        Round::Failed(why) => Some(why.replace('|', "/")),
        Round::Seen(_) => None,
    });
    let blanks = if mended { 8 } else { 6 };
    if seen.is_empty() {
        let why = failed.unwrap_or_default();
        return format!(
            "| {} |{} not measured: {why} |\n",
            row.proxy,
            " |".repeat(blanks - 1)
        );
    }
    let middle =
        |of: &dyn Fn(&Sight) -> Option<f64>| middle(seen.iter().map(|sight| of(sight)).collect());
    let mut line = format!(
        "| {} | {} | {} | {} | {} | {} |",
        row.proxy,
        middle(&|sight| Some(sight.lost_in_flight as f64)),
        middle(&|sight| Some(sight.lost_after as f64)),
        middle(&|sight| Some(sight.longest_stall)),
        middle(&|sight| sight.first_new_answer),
        middle(&|sight| Some((sight.share() * 10.0).floor() / 10.0)),
    );
    if mended {
        let _ = write!(
            line,
            " {} | {} |",
            middle(&|sight| sight.outage),
            middle(&|sight| sight.used_again)
        );
    }
    let partly = failed.map_or_else(String::new, |why| {
        format!(
            "; {} rounds not measured: {why}",
            row.rounds.len() - seen.len()
        )
    });
    let _ = writeln!(line, " {}{partly} |", kinds(&seen));
    line
}

/// The median, and the spread where there is one. What never came is later than everything.
pub(super) fn middle(mut values: Vec<Option<f64>>) -> String {
    values.sort_by(|a, b| {
        let never = f64::INFINITY;
        a.unwrap_or(never).total_cmp(&b.unwrap_or(never))
    });
    let show = |value: Option<&Option<f64>>| match value.copied().flatten() {
        Some(value) => number(value),
        None => "never".to_owned(),
    };
    let median = show(values.get(values.len() / 2));
    let (least, most) = (show(values.first()), show(values.last()));
    match least == most {
        true => median,
        false => format!("{median} ({least}–{most})"),
    }
}

/// A number with its thousands apart, and decimals where it is small and has some.
fn number(value: f64) -> String {
    if value < 1.0 && value.fract() != 0.0 {
        return format!("{value:.3}");
    }
    if value < 100.0 && value.fract() != 0.0 {
        return format!("{value:.1}");
    }
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// The kinds of all losses of all rounds, the most frequent first.
fn kinds(seen: &[&Sight]) -> String {
    let mut kinds: BTreeMap<&str, u64> = BTreeMap::new();
    for (kind, count) in seen.iter().flat_map(|sight| &sight.kinds) {
        *kinds.entry(kind).or_default() += count;
    }
    let mut kinds: Vec<_> = kinds.into_iter().collect();
    kinds.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let names: Vec<&str> = kinds.into_iter().map(|(kind, _)| kind).collect();
    match names.is_empty() {
        true => "–".to_owned(),
        false => names.join(", "),
    }
}

#[cfg(test)]
mod tests;

//! The results: medians with their spread, as Markdown and as JSON.

use std::fmt::Write as _;

use serde::Serialize;

use super::play::Outcome;
use super::task::Task;
use crate::bench::table::{Machine, middle};
use crate::bench::wish::Subject;

/// Everything that was measured.
#[derive(Serialize)]
pub(super) struct Table {
    pub(super) command: String,
    pub(super) date: String,
    pub(super) machine: Machine,
    pub(super) rounds: usize,
    pub(super) rows: Vec<Row>,
}

/// The rounds of one proxy at one task.
#[derive(Serialize)]
pub(super) struct Row {
    pub(super) task: Task,
    /// Name and version.
    pub(super) proxy: String,
    pub(super) rounds: Vec<Outcome>,
}

impl Table {
    pub(super) fn markdown(&self) -> String {
        let mut text = format!(
            "# Layer 4: what it costs\n\n\
             Made by `{command}` on {date}: {machine}. Medians of {rounds} rounds in turns; in brackets the \
             least and the most.\n\n\
             The proxy has one core and one worker, origin and clients another; each round has a network \
             namespace of its own. Buffers are 64 KiB where they can be set; HAProxy has `splice-auto`. \
             Processor time is that of all threads of all processes of the proxy, kernel included. The \
             configurations are in `xtask/src/bench/proxy.rs`.\n",
            command = self.command,
            date = self.date,
            machine = self.machine,
            rounds = self.rounds,
        );
        for task in Task::ALL {
            let rows: Vec<&Row> = self.rows.iter().filter(|row| row.task == *task).collect();
            if !rows.is_empty() {
                section(&mut text, *task, &rows);
            }
        }
        text
    }
}

fn section(text: &mut String, task: Task, rows: &[&Row]) {
    let figures = task.figures();
    // Writing to a string cannot fail.
    let _ = write!(
        text,
        "\n## {}\n\n{}\n\n| proxy | {} |\n|---|{}\n",
        task.title(),
        task.story(),
        figures.join(" | "),
        "---:|".repeat(figures.len()),
    );
    for row in rows {
        let _ = writeln!(text, "| {} | {} |", row.proxy, cells(row, figures.len()));
    }
}

fn cells(row: &Row, figures: usize) -> String {
    let seen: Vec<&Vec<f64>> = row
        .rounds
        .iter()
        .filter_map(|round| match round {
            Outcome::Seen(figures) => Some(figures),
            Outcome::Failed(_) => None,
        })
        .collect();
    let failed = row.rounds.iter().find_map(|round| match round {
        Outcome::Failed(why) => Some(why.replace('|', "/")),
        Outcome::Seen(_) => None,
    });
    if seen.is_empty() {
        let why = failed.unwrap_or_default();
        return format!("not measured: {why}{}", " |".repeat(figures - 1));
    }
    let mut cells: Vec<String> = (0..figures)
        .map(|figure| middle(seen.iter().map(|one| one.get(figure).copied()).collect()))
        .collect();
    if let (Some(why), Some(last)) = (failed, cells.last_mut()) {
        let count = row.rounds.len() - seen.len();
        let _ = write!(last, "; {count} rounds not measured: {why}");
    }
    cells.join(" | ")
}

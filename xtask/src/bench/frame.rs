//! What all benchmarks have in common: rounds in turns, rows, and the table that is written.

use std::fmt::{Display, Write as _};
use std::fs;
use std::io;
use std::process::ExitCode;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::machine::{Machine, today};
use super::peers::{self, Found};
use super::proxy::Program;
use super::wish::{Subject, Wish};
use crate::reference::root;

/// A benchmark: what it measures of each proxy, and how that is shown.
pub(crate) trait Bench: Subject + Serialize {
    /// As `cargo xtask bench` takes it; also the name of its files.
    const NAME: &'static str;
    /// What one round shows.
    type Seen: Serialize;

    /// Plays one round, in a process and namespaces of its own.
    fn play(self, program: &Program) -> Outcome<Self::Seen>;

    /// What one round showed, in a line.
    fn line(seen: &Self::Seen) -> String;

    /// The title of its table, and how it was measured.
    fn preface() -> (&'static str, &'static str);

    /// The heading of this subject, what happens, and the head of its table.
    fn section(self) -> String;

    /// The columns behind the proxy's name.
    fn columns(self) -> usize;

    /// The cells of a row behind the proxy's name; at least one round was seen.
    fn cells(self, seen: &[&Self::Seen]) -> Vec<String>;
}

/// What became of a round.
#[derive(Clone, Debug, PartialEq, Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome<T> {
    Seen(T),
    /// It could not be measured; why.
    Failed(String),
}

impl<T> From<io::Result<T>> for Outcome<T> {
    fn from(result: io::Result<T>) -> Self {
        result.map_or_else(|error| Self::Failed(error.to_string()), Self::Seen)
    }
}

/// Everything that was measured.
#[derive(Serialize)]
struct Table<B: Bench> {
    command: String,
    date: String,
    machine: Machine,
    rounds: usize,
    rows: Vec<Row<B>>,
}

/// The rounds of one proxy at one subject.
#[derive(Serialize)]
struct Row<B: Bench> {
    subject: B,
    /// Name and version.
    proxy: String,
    rounds: Vec<Outcome<B::Seen>>,
}

/// Measures, prints the table, and writes it to `docs/benchmarks/` if it is complete.
pub(crate) fn measure<B: Bench>(arguments: &[&str]) -> ExitCode {
    let wish = match Wish::<B>::parse(arguments) {
        Ok(wish) => wish,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::from(2);
        }
    };
    let programs = peers::find(&wish.proxies, wish.builds);
    // Origins and clients must not be what is measured.
    if !peers::build("xtask") {
        eprintln!("error: origins and clients could not be built");
        return ExitCode::FAILURE;
    }
    let table = Table {
        command: format!("cargo xtask bench {} {}", B::NAME, arguments.join(" "))
            .trim_end()
            .to_owned(),
        date: today(),
        machine: Machine::this(),
        rounds: wish.rounds,
        rows: rows(&wish, &programs),
    };
    let text = table.markdown();
    println!("\n{text}");
    if !wish.is_complete() {
        println!("(a part of the table only: nothing is written)");
        return ExitCode::SUCCESS;
    }
    match table.write(&text) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: the table cannot be written: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The process of a round: carries its order out, and prints what was seen.
pub(super) fn play<O: DeserializeOwned, T: Serialize>(
    order: &str,
    carry_out: impl FnOnce(&O) -> io::Result<T>,
) -> ExitCode {
    let seen = serde_json::from_str(order)
        .map_err(io::Error::from)
        .and_then(|order| carry_out(&order));
    report(&Outcome::from(seen))
}

/// Prints what came of a round.
pub(crate) fn report<T: Serialize>(outcome: &Outcome<T>) -> ExitCode {
    match serde_json::to_string(outcome) {
        Ok(line) => {
            println!("{line}");
            ExitCode::SUCCESS
        }
        Err(_) => ExitCode::FAILURE,
    }
}

/// All rounds. The proxies take turns, so that what changes on the machine meanwhile meets all.
fn rows<B: Bench>(wish: &Wish<B>, programs: &[Found]) -> Vec<Row<B>> {
    let mut rows = Vec::new();
    for subject in &wish.subjects {
        let mut of_subject: Vec<Row<B>> = programs
            .iter()
            .map(|(proxy, program)| Row {
                subject: *subject,
                proxy: match program {
                    Ok(program) => program.version.clone(),
                    Err(_) => proxy.name().to_owned(),
                },
                rounds: Vec::new(),
            })
            .collect();
        for round in 1..=wish.rounds {
            println!("{}, round {round} of {}", subject.name(), wish.rounds);
            for ((_, program), row) in programs.iter().zip(&mut of_subject) {
                let outcome = match program {
                    Ok(program) => subject.play(program),
                    Err(why) => Outcome::Failed(why.clone()),
                };
                let told = match &outcome {
                    Outcome::Seen(seen) => B::line(seen),
                    Outcome::Failed(why) => format!("not measured: {why}"),
                };
                println!("  {}: {told}", row.proxy);
                row.rounds.push(outcome);
            }
        }
        rows.append(&mut of_subject);
    }
    rows
}

impl<B: Bench> Table<B> {
    /// Markdown, complete with how it was measured.
    fn markdown(&self) -> String {
        let (title, how) = B::preface();
        let mut text = format!(
            "# {title}\n\n\
             Made by `{}` on {}: {}. Medians of {} rounds in turns; in brackets the least and the most.\n\n\
             {how}\n",
            self.command, self.date, self.machine, self.rounds,
        );
        for subject in B::ALL.iter().copied() {
            let mut rows = self
                .rows
                .iter()
                .filter(|row| row.subject == subject)
                .peekable();
            if rows.peek().is_some() {
                text.push_str(&subject.section());
            }
            rows.for_each(|row| text.push_str(&row.line()));
        }
        text
    }

    fn write(&self, text: &str) -> io::Result<()> {
        let directory = root().join("docs/benchmarks");
        fs::create_dir_all(&directory)?;
        fs::write(directory.join(format!("{}.md", B::NAME)), text)?;
        let mut json = serde_json::to_string_pretty(self)?;
        json.push('\n');
        fs::write(directory.join(format!("{}.json", B::NAME)), json)
    }
}

impl<B: Bench> Row<B> {
    fn line(&self) -> String {
        let seen: Vec<&B::Seen> = self
            .rounds
            .iter()
            .filter_map(|round| match round {
                Outcome::Seen(seen) => Some(seen),
                Outcome::Failed(_) => None,
            })
            .collect();
        let failed = self.rounds.iter().find_map(|round| match round {
            Outcome::Failed(why) => Some(why.replace('|', "/")),
            Outcome::Seen(_) => None,
        });
        if seen.is_empty() {
            let why = failed.unwrap_or_default();
            let blanks = " |".repeat(self.subject.columns() - 1);
            return format!("| {} | not measured: {why} |{blanks}\n", self.proxy);
        }
        let mut line = format!(
            "| {} | {}",
            self.proxy,
            self.subject.cells(&seen).join(" | ")
        );
        if let Some(why) = failed {
            let count = self.rounds.len() - seen.len();
            // Writing to a string cannot fail.
            let _ = write!(line, "; {count} rounds not measured: {why}");
        }
        line + " |\n"
    }
}

/// A heading, a story, and the head of a table whose first column is the proxy.
pub(super) fn head(title: &str, story: &str, columns: &[impl Display]) -> String {
    let mut text = format!("\n## {title}\n\n{story}\n\n| proxy |");
    for column in columns {
        let _ = write!(text, " {column} |");
    }
    format!("{text}\n|---|{}\n", "---:|".repeat(columns.len()))
}

#[cfg(test)]
mod tests {
    use super::{Outcome, Row};
    use crate::bench::scenario::Scenario;

    #[test]
    fn a_proxy_that_was_not_measured_is_told() {
        let row = Row {
            subject: Scenario::Frozen,
            proxy: "envoy".into(),
            rounds: vec![Outcome::Failed("it is not installed".into())],
        };
        let line = row.line();
        assert!(line.contains("not measured: it is not installed"), "{line}");
        assert_eq!(line.matches('|').count(), 10, "{line}");
    }
}

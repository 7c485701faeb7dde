//! The benchmarks, side by side with HAProxy, nginx and Envoy. Here: `cargo xtask bench recovery`, how
//! long clients of a raw TCP proxy suffer from a fault of the origin.

mod cpu;
mod fault;
pub(crate) mod l4;
pub(crate) mod origin;
mod peers;
mod process;
mod proxy;
pub(crate) mod round;
mod scenario;
mod sight;
mod table;
mod wish;

use std::fs;
use std::io;
use std::process::ExitCode;

use peers::Found;
use round::{Order, Round};
use scenario::Scenario;
use table::{Machine, Row, Table};
use wish::{Subject, Wish};

use crate::reference::root;

/// Measures, prints the table, and writes it to `docs/benchmarks/` if it is complete.
pub(crate) fn recovery(arguments: &[&str]) -> ExitCode {
    let wish = match Wish::<Scenario>::parse(arguments) {
        Ok(wish) => wish,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::from(2);
        }
    };
    let programs = peers::find(&wish.proxies, wish.builds);
    let table = Table {
        command: format!("cargo xtask bench recovery {}", arguments.join(" "))
            .trim_end()
            .to_owned(),
        date: table::today(),
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
    match write(&table, &text) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: the table cannot be written: {error}");
            ExitCode::FAILURE
        }
    }
}

/// All rounds. The proxies take turns, so that what changes on the machine meanwhile meets all.
fn rows(wish: &Wish<Scenario>, programs: &[Found]) -> Vec<Row> {
    let mut rows = Vec::new();
    for scenario in &wish.subjects {
        let mut of_scenario: Vec<Row> = programs.iter().map(|p| empty_row(*scenario, p)).collect();
        for round in 1..=wish.rounds {
            println!("{}, round {round} of {}", scenario.name(), wish.rounds);
            for ((_, program), row) in programs.iter().zip(&mut of_scenario) {
                let outcome = match program {
                    Ok(program) => Order {
                        scenario: *scenario,
                        program: program.clone(),
                    }
                    .play(),
                    Err(why) => Round::Failed(why.clone()),
                };
                tell(&row.proxy, &outcome);
                row.rounds.push(outcome);
            }
        }
        rows.append(&mut of_scenario);
    }
    rows
}

fn empty_row(scenario: Scenario, (proxy, program): &Found) -> Row {
    let name = match program {
        Ok(program) => program.version.clone(),
        Err(_) => proxy.name().to_owned(),
    };
    Row {
        scenario,
        proxy: name,
        rounds: Vec::new(),
    }
}

fn tell(proxy: &str, round: &Round) {
    match round {
        Round::Seen(sight) => println!(
            "  {proxy}: lost {} in flight and {} after, stalled {} ms, answered {:.1} %",
            sight.lost_in_flight,
            sight.lost_after,
            sight.longest_stall,
            sight.share()
        ),
        Round::Failed(why) => println!("  {proxy}: not measured: {why}"),
    }
}

fn write(table: &Table, text: &str) -> io::Result<()> {
    let directory = root().join("docs/benchmarks");
    fs::create_dir_all(&directory)?;
    fs::write(directory.join("recovery.md"), text)?;
    let mut json = serde_json::to_string_pretty(table)?;
    json.push('\n');
    fs::write(directory.join("recovery.json"), json)
}

//! `cargo xtask bench l4`: what it costs to carry raw TCP, side by side with HAProxy, nginx and Envoy.

mod client;
mod datagrams;
mod play;
pub(crate) mod server;
mod table;
mod task;
mod usage;

use std::fs;
use std::io;
use std::process::ExitCode;

pub(crate) use play::run as round;

use super::peers::{self, Found};
use super::table::{Machine, today};
use super::wish::{Subject, Wish};
use crate::reference::root;
use play::{Order, Outcome};
use table::{Row, Table};
use task::Task;

/// Measures, prints the table, and writes it to `docs/benchmarks/` if it is complete.
pub(crate) fn l4(arguments: &[&str]) -> ExitCode {
    let wish = match Wish::<Task>::parse(arguments) {
        Ok(wish) => wish,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::from(2);
        }
    };
    let programs = peers::find(&wish.proxies, wish.builds);
    // Origin and clients must not be what is measured.
    if !peers::build("xtask") {
        eprintln!("error: origin and clients could not be built");
        return ExitCode::FAILURE;
    }
    let table = Table {
        command: format!("cargo xtask bench l4 {}", arguments.join(" "))
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
    match write(&table, &text) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: the table cannot be written: {error}");
            ExitCode::FAILURE
        }
    }
}

/// All rounds. The proxies take turns, so that what changes on the machine meanwhile meets all.
fn rows(wish: &Wish<Task>, programs: &[Found]) -> Vec<Row> {
    let mut rows = Vec::new();
    for task in &wish.subjects {
        let mut of_task: Vec<Row> = programs
            .iter()
            .map(|(proxy, program)| Row {
                task: *task,
                proxy: match program {
                    Ok(program) => program.version.clone(),
                    Err(_) => proxy.name().to_owned(),
                },
                rounds: Vec::new(),
            })
            .collect();
        for round in 1..=wish.rounds {
            println!("{}, round {round} of {}", task.name(), wish.rounds);
            for ((_, program), row) in programs.iter().zip(&mut of_task) {
                let outcome = match program {
                    Ok(program) => Order {
                        task: *task,
                        program: program.clone(),
                    }
                    .play(),
                    Err(why) => Outcome::Failed(why.clone()),
                };
                println!("  {}: {outcome}", row.proxy);
                row.rounds.push(outcome);
            }
        }
        rows.append(&mut of_task);
    }
    rows
}

fn write(table: &Table, text: &str) -> io::Result<()> {
    let directory = root().join("docs/benchmarks");
    fs::create_dir_all(&directory)?;
    fs::write(directory.join("l4.md"), text)?;
    let mut json = serde_json::to_string_pretty(table)?;
    json.push('\n');
    fs::write(directory.join("l4.json"), json)
}

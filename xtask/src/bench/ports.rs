//! What an inventory of the listening sockets costs, beside `ss -tlnp`.

use std::fs;
use std::io;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::figures::middle;
use super::frame::{Outcome, play};
use super::machine::{Machine, today};
use super::namespace::{in_namespaces, prepare_namespace};
use super::origin::READY;
use super::peers::{self, Builds};
use super::process::Process;
use super::proxy::Proxy;
use super::wish::rounds_alone;
use crate::install;
use crate::reference::root;

const PROCESSES: usize = 1_000;
const SOCKETS: usize = 10;

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Order {
    rounds: usize,
    ours: PathBuf,
    theirs: PathBuf,
}

/// What one program took, in milliseconds: with all processors, and with one.
type Took = [f64; 2];

/// `cargo xtask bench ports [--rounds N]`.
pub(crate) fn measure(arguments: &[&str]) -> ExitCode {
    let rounds = match rounds_alone(arguments) {
        Ok(rounds) => rounds,
        Err(code) => return code,
    };
    install::install(&[("ss", "iproute2")], "this benchmark");
    let Some(theirs) = install::find("ss") else {
        eprintln!("error: ss is not there");
        return ExitCode::FAILURE;
    };
    let found = peers::find(&[Proxy::Ipreconnect], Builds::System);
    let Some((_, Ok(ours))) = found.into_iter().next() else {
        eprintln!("error: the program could not be built");
        return ExitCode::FAILURE;
    };
    if !peers::build("xtask") {
        return ExitCode::FAILURE;
    }
    let version = Command::new(&theirs).arg("-V").output();
    let version = version.map(|said| String::from_utf8_lossy(&said.stdout).trim().to_owned());
    let order = Order {
        rounds,
        ours: ours.path,
        theirs,
    };
    let seen = match in_namespaces::<[Vec<Took>; 2]>("bench-ports-round", &order) {
        Outcome::Seen(seen) => seen,
        Outcome::Failed(why) => {
            eprintln!("error: {why}");
            return ExitCode::FAILURE;
        }
    };
    let mut text = format!(
        "# The inventory of ports: what it costs\n\n\
         Made by `cargo xtask bench ports --rounds {rounds}` on {}: {}. Medians of {rounds} rounds in turns; in brackets \
         the least and the most.\n\n\
         {} listening sockets of TCP in {PROCESSES} processes, in a network namespace of their own; each program is run as \
         root, and what it prints is read and thrown away.\n\n\
         | program | milliseconds | on one processor |\n|---|---:|---:|\n",
        today(),
        Machine::this(),
        PROCESSES * SOCKETS,
    );
    let names = [
        format!("{} `ports list --own --tcp`", ours.version),
        format!("{} `-tlnp`", version.unwrap_or_default()),
    ];
    for (name, took) in names.iter().zip(&seen) {
        let figures =
            [0, 1].map(|at| middle(took.iter().map(|one| one.get(at).copied()).collect()));
        text.push_str(&format!("| {name} | {} | {} |\n", figures[0], figures[1]));
    }
    println!("\n{text}");
    match fs::write(root().join("docs/benchmarks/ports.md"), text) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: the table cannot be written: {error}");
            ExitCode::FAILURE
        }
    }
}

/// All rounds, in a process of their own.
pub(crate) fn round(order: &str) -> ExitCode {
    play(order, carry_out)
}

fn carry_out(order: &Order) -> io::Result<[Vec<Took>; 2]> {
    prepare_namespace()?;
    let count = SOCKETS.to_string();
    let _holders = (0..PROCESSES)
        .map(|_| Process::server(&["holder", "--sockets", &count]))
        .collect::<io::Result<Vec<_>>>()?;
    let mut seen = [Vec::new(), Vec::new()];
    for _ in 0..order.rounds {
        let [ours, theirs] = &mut seen;
        let list = ["ports", "list", "--own", "--tcp"];
        ours.push(timed(&order.ours, &list)?);
        theirs.push(timed(&order.theirs, &["-tlnp"])?);
    }
    Ok(seen)
}

/// By all processors, and by one.
fn timed(program: &Path, arguments: &[&str]) -> io::Result<Took> {
    let mut one = Command::new("taskset");
    one.args(["-c", "0"]).arg(program).args(arguments);
    let all = once(Command::new(program).args(arguments))?;
    Ok([all, once(&mut one)?])
}

fn once(command: &mut Command) -> io::Result<f64> {
    let began = Instant::now();
    let output = command.stdin(Stdio::null()).output()?;
    let took = began.elapsed().as_secs_f64() * 1e3;
    let told = String::from_utf8_lossy(&output.stdout);
    let found = told.matches("127.0.0.1:").count();
    if found < PROCESSES * SOCKETS {
        return Err(io::Error::other(format!(
            "{command:?} found {found} sockets"
        )));
    }
    Ok(took)
}

/// A process that listens on so many ports, and does nothing else.
pub(crate) fn hold(count: &str) -> ExitCode {
    let Ok(count) = count.parse::<usize>() else {
        eprintln!("error: {count} is no number");
        return ExitCode::from(2);
    };
    let listeners: io::Result<Vec<_>> = (0..count)
        .map(|_| TcpListener::bind("127.0.0.1:0"))
        .collect();
    match listeners {
        Ok(_listeners) => {
            println!("{READY}");
            loop {
                std::thread::park();
            }
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

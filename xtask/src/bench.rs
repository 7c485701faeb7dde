//! `cargo xtask bench recovery`: what clients lose when an origin fails, side by side with peers.
//!
//! Everything runs in a network namespace of its own. Where there are two cores the proxy has one
//! for itself; origins and load share the other. Rounds are taken in turns, and medians are told.

mod child;
pub(crate) mod origin;
mod peers;
mod report;
mod scenario;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use peers::Peer;
use scenario::{Scenario, Seen};

/// Set inside the namespace.
const INSIDE: &str = "IPRECONNECT_BENCH_NAMESPACE";

/// What was asked for.
pub(crate) struct Request {
    rounds: usize,
    only: Option<String>,
}

impl Request {
    /// Reads `--rounds N` and `--only SCENARIO`.
    pub(crate) fn parse(words: &[&str]) -> Option<Self> {
        let mut request = Self {
            rounds: 5,
            only: None,
        };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            match (*word, words.next()) {
                ("--rounds", Some(count)) => request.rounds = count.parse().ok()?,
                ("--only", Some(name)) => request.only = Some((*name).to_owned()),
                _ => return None,
            }
        }
        (1..=99).contains(&request.rounds).then_some(request)
    }
}

/// One scenario, as each proxy came through it in each round.
pub(crate) struct Row {
    scenario: Scenario,
    peer: String,
    /// A round that could not be run says why.
    rounds: Vec<Result<Seen, String>>,
}

/// Runs the benchmark and writes its table.
pub(crate) fn run(request: &Request, words: &[&str]) -> ExitCode {
    if std::env::var_os(INSIDE).is_none() {
        return enter_namespace(words);
    }
    match measure(request) {
        Ok(rows) => match report::write(&rows, request.rounds, &versions()) {
            Ok(text) => {
                println!("{text}");
                ExitCode::SUCCESS
            }
            Err(error) => fail(&format!("cannot write the table: {error}")),
        },
        Err(error) => fail(&error),
    }
}

fn fail(error: &str) -> ExitCode {
    eprintln!("error: {error}");
    ExitCode::FAILURE
}

/// Builds what is measured, then runs itself again where nothing else is disturbed.
fn enter_namespace(words: &[&str]) -> ExitCode {
    let built = Command::new("cargo")
        .args(["build", "--release", "--quiet", "--package", "ipreconnect-cli"])
        .status();
    if !built.is_ok_and(|status| status.success()) {
        return fail("the program cannot be built");
    }
    let Ok(own) = std::env::current_exe() else {
        return fail("cannot find this program");
    };
    let status = Command::new("unshare")
        .arg("-n")
        .arg(own)
        .args(["bench", "recovery"])
        .args(words)
        .env(INSIDE, "1")
        .status();
    match status {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => fail(&format!("a network namespace needs root and unshare: {error}")),
    }
}

fn measure(request: &Request) -> Result<Vec<Row>, String> {
    child::run("ip", &["link", "set", "lo", "up"])?;
    child::pin_self();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    let mut rows: Vec<Row> = Vec::new();
    for scenario in Scenario::ALL {
        if request.only.as_deref().is_some_and(|only| only != scenario.name()) {
            continue;
        }
        for peer in Peer::ALL {
            rows.push(Row {
                scenario,
                peer: peer.name().to_owned(),
                rounds: Vec::new(),
            });
        }
    }
    for round in 1..=request.rounds {
        for row in &mut rows {
            eprintln!("round {round}: {} / {}", row.scenario.name(), row.peer);
            let peer = Peer::ALL.into_iter().find(|peer| peer.name() == row.peer);
            if let Some(peer) = peer {
                row.rounds.push(runtime.block_on(row.scenario.play(peer)));
            }
        }
    }
    Ok(rows)
}

fn versions() -> Vec<(String, String)> {
    Peer::ALL
        .into_iter()
        .map(|peer| (peer.name().to_owned(), peer.version()))
        .collect()
}

/// The root of the workspace.
fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest).to_owned()
}

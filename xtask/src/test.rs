//! `cargo xtask test`: everything that must hold, in one command.

use std::io::{BufRead, BufReader};
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use crate::install::install_missing;
use crate::reference;

#[derive(Default)]
struct Counts {
    passed: u64,
    failed: u64,
    skipped: u64,
}

/// Runs all steps; the first that fails ends the run, after the counts.
pub(crate) fn run() -> ExitCode {
    let skips = std::env::temp_dir().join(format!("ipreconnect-skipped-{}", std::process::id()));
    let mut counts = Counts::default();
    let well = steps(&skips, &mut counts);
    let told = std::fs::read_to_string(&skips).unwrap_or_default();
    counts.skipped += told.lines().count() as u64;
    for line in told.lines() {
        println!("{line}");
    }
    // Without the file nothing was skipped.
    let _ = std::fs::remove_file(&skips);
    println!(
        "{} passed, {} failed, {} skipped",
        counts.passed, counts.failed, counts.skipped
    );
    if well && counts.failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn steps(skips: &std::path::Path, counts: &mut Counts) -> bool {
    step("formatting", || cargo(&["fmt", "--all", "--check"]))
        && step("what the tests need", || {
            install_missing();
            true
        })
        && step("lints", || {
            let lint = ["clippy", "--workspace", "--all-targets", "--quiet"];
            cargo(&[&lint[..], &["--", "-D", "warnings"]].concat())
        })
        && step("tests", || tests(skips, counts))
        && step("reference", reference::check)
        && step("documentation", || {
            let mut doc = Command::new("cargo");
            doc.args(["doc", "--workspace", "--no-deps", "--quiet"])
                .env("RUSTDOCFLAGS", "-D warnings");
            succeeds(&mut doc)
        })
}

fn step(title: &str, work: impl FnOnce() -> bool) -> bool {
    println!("── {title}");
    let began = Instant::now();
    let well = work();
    let outcome = if well { "done" } else { "FAILED" };
    println!(
        "── {title}: {outcome} in {:.1} s",
        began.elapsed().as_secs_f64()
    );
    well
}

fn cargo(arguments: &[&str]) -> bool {
    succeeds(Command::new("cargo").args(arguments))
}

fn succeeds(command: &mut Command) -> bool {
    match command.status() {
        Ok(status) => status.success(),
        Err(error) => {
            eprintln!("cannot run {:?}: {error}", command.get_program());
            false
        }
    }
}

/// All tests and doc tests; their lines pass through, and are counted.
fn tests(skips: &std::path::Path, counts: &mut Counts) -> bool {
    let child = Command::new("cargo")
        .args(["test", "--workspace", "--no-fail-fast"])
        .env("IPRECONNECT_SKIPPED", skips)
        .stdout(Stdio::piped())
        .spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(error) => {
            eprintln!("cannot run cargo: {error}");
            return false;
        }
    };
    if let Some(output) = child.stdout.take() {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            counts.add(&line);
            println!("{line}");
        }
    }
    child.wait().is_ok_and(|status| status.success())
}

impl Counts {
    /// Adds a line like `test result: ok. 5 passed; 0 failed; 1 ignored; …`.
    fn add(&mut self, line: &str) {
        let Some(result) = line.strip_prefix("test result: ") else {
            return;
        };
        let numbers: Vec<u64> = result
            .split([' ', ';'])
            .filter_map(|word| word.parse().ok())
            .collect();
        if let [passed, failed, ignored, ..] = numbers.as_slice() {
            self.passed += passed;
            self.failed += failed;
            self.skipped += ignored;
        }
    }
}

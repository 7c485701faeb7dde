//! `cargo xtask fuzz`: the fuzz targets, for a while each. What they find is replayed by ordinary tests
//! once it is in `fuzz/corpus`.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use crate::reference::root;

const TARGETS: [&str; 14] = [
    "remembered",
    "addresses",
    "hello",
    "certificate",
    "session",
    "message",
    "route",
    "hba",
    "ident",
    "carried",
    "startup",
    "tapped",
    "target",
    "socks",
];
const SECONDS: u64 = 60;
const TRIPLE: &str = "x86_64-unknown-linux-gnu";
/// Coverage as libFuzzer wants it, which a stable compiler has too.
const FLAGS: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
                     -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
                     -Cllvm-args=-sanitizer-coverage-pc-table \
                     -Cllvm-args=-sanitizer-coverage-trace-compares";

/// `[--seconds N] [TARGET]…`; all targets unless some are named.
pub(crate) fn run(arguments: &[&str]) -> ExitCode {
    let (seconds, named) = match arguments {
        ["--seconds", seconds, named @ ..] => (seconds.parse().ok(), named),
        named => (Some(SECONDS), named),
    };
    let known = named.iter().all(|name| TARGETS.contains(name));
    let (Some(seconds), true) = (seconds, known) else {
        eprintln!("error: --seconds takes a number, and targets are {TARGETS:?}");
        return ExitCode::from(2);
    };
    let targets = if named.is_empty() {
        TARGETS.to_vec()
    } else {
        named.to_vec()
    };
    match fuzz(&targets, seconds) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn fuzz(targets: &[&str], seconds: u64) -> io::Result<()> {
    let workspace = root().join("fuzz");
    let built = root().join("target/fuzz");
    succeed(
        Command::new("cargo")
            .args(["build", "--release", "--target", TRIPLE, "--target-dir"])
            .arg(&built)
            .env("RUSTFLAGS", FLAGS)
            .current_dir(&workspace),
    )?;
    for target in targets {
        println!("── {target}, for {seconds} s");
        let found = directory(workspace.join("artifacts"))?;
        // What is new to the fuzzer, and of no interest to tests, is kept beside the build.
        let grown = directory(built.join("corpus").join(target))?;
        succeed(
            Command::new(built.join(TRIPLE).join("release").join(target))
                .arg(format!("-max_total_time={seconds}"))
                .arg("-max_len=600")
                .arg(format!("-artifact_prefix={}/", found.display()))
                .arg(grown)
                .arg(workspace.join("corpus").join(target)),
        )?;
    }
    Ok(())
}

fn directory(path: PathBuf) -> io::Result<PathBuf> {
    std::fs::create_dir_all(&path).map(|()| path)
}

fn succeed(command: &mut Command) -> io::Result<()> {
    let program = Path::new(command.get_program()).to_owned();
    match command.status()?.success() {
        true => Ok(()),
        false => Err(io::Error::other(format!("{} failed", program.display()))),
    }
}

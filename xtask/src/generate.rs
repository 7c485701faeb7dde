//! `cargo xtask gen`: reference documentation that the program writes itself.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// What is generated: the arguments of the program, and the file that keeps its words.
const GENERATED: [(&[&str], &str); 1] = [(&["man", "--markdown"], "docs/reference/commands.md")];

/// Whether files are written or compared.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Write,
    Check,
}

/// Generates, or tells what is out of date.
pub(crate) fn run(mode: Mode) -> ExitCode {
    let mut well = true;
    for (arguments, file) in GENERATED {
        match generate(arguments, file, mode) {
            Ok(outcome) => println!("{file}: {outcome}"),
            Err(error) => {
                eprintln!("error: {file}: {error}");
                well = false;
            }
        }
    }
    if well {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Whether everything generated is current.
pub(crate) fn is_current() -> bool {
    run(Mode::Check) == ExitCode::SUCCESS
}

fn generate(arguments: &[&str], file: &str, mode: Mode) -> Result<&'static str, String> {
    let output = Command::new("cargo")
        .args(["run", "--quiet", "--package", "ipreconnect-cli", "--"])
        .args(arguments)
        .output()
        .map_err(|error| error.to_string())?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    let path = root().join(file);
    let before = std::fs::read(&path).unwrap_or_default();
    match mode {
        _ if before == output.stdout => Ok("current"),
        Mode::Check => Err("out of date; run `cargo xtask gen`".to_owned()),
        Mode::Write => {
            if let Some(directory) = path.parent() {
                std::fs::create_dir_all(directory).map_err(|error| error.to_string())?;
            }
            std::fs::write(&path, output.stdout).map_err(|error| error.to_string())?;
            Ok("written")
        }
    }
}

fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest).to_owned()
}

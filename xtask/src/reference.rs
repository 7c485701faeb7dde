//! `cargo xtask gen`: the reference documentation, as the program itself tells it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What the program is asked, and the file that keeps the answer.
const PAGES: [(&[&str], &str); 2] = [
    (&["man", "--markdown"], "docs/reference/commands.md"),
    (&["check", "--reference"], "docs/reference/configuration.md"),
];

/// Writes every page that is not current; says whether that went well.
pub(crate) fn write() -> bool {
    each_page(|path, text| {
        if is_current(path, text) {
            return Ok(());
        }
        fs::create_dir_all(path.parent().unwrap_or(path))?;
        println!("writing {}", path.display());
        fs::write(path, text)
    })
}

/// Says whether every page is current.
pub(crate) fn check() -> bool {
    each_page(|path, text| match is_current(path, text) {
        true => Ok(()),
        false => Err(io::Error::other(format!(
            "{} is not current; `cargo xtask gen` writes it",
            path.display()
        ))),
    })
}

fn each_page(mut work: impl FnMut(&Path, &str) -> io::Result<()>) -> bool {
    let mut well = true;
    for (arguments, file) in PAGES {
        let outcome = told(arguments).and_then(|text| work(&root().join(file), &text));
        if let Err(error) = outcome {
            eprintln!("error: {error}");
            well = false;
        }
    }
    well
}

fn is_current(path: &Path, text: &str) -> bool {
    fs::read_to_string(path).is_ok_and(|found| found == text)
}

/// What the program prints.
fn told(arguments: &[&str]) -> io::Result<String> {
    let output = Command::new("cargo")
        .args(["run", "--quiet", "--package", "ipreconnect-cli", "--"])
        .args(arguments)
        .output()?;
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr);
        let asked = arguments.join(" ");
        return Err(io::Error::other(format!("`ipreconnect {asked}`: {why}")));
    }
    String::from_utf8(output.stdout).map_err(io::Error::other)
}

/// The root of the workspace.
pub(crate) fn root() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().unwrap_or(package).to_owned()
}

//! Tests in a network namespace of their own, where packets may be dropped and addresses changed, and
//! how a test says that it cannot run here.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::process::Command;

/// Set for the process inside the namespace.
const INSIDE: &str = "IPRECONNECT_TEST_NAMESPACE";
/// The file that collects what was skipped.
const SKIPPED: &str = "IPRECONNECT_SKIPPED";

/// Runs the test of that name again in a fresh network namespace, with its loopback up, and is true
/// there. Outside it is false, when that run has passed, or when `needs` cannot be met: programs that
/// are all called with an argument that does nothing. Then the test is told as skipped.
///
/// # Panics
/// If the run inside fails.
#[must_use]
pub fn inside(test: &str, needs: &[(&str, &[&str])]) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        run("ip", &["link", "set", "lo", "up"]);
        return true;
    }
    let always: [(&str, &[&str]); 2] = [("unshare", &["-n", "true"]), ("ip", &["-V"])];
    for (program, arguments) in always.iter().chain(needs) {
        if !works(program, arguments) {
            skipped(test, &format!("it needs root, and {program}"));
            return false;
        }
    }
    let again = std::env::current_exe().and_then(|executable| {
        Command::new("unshare")
            .arg("-n")
            .arg(executable)
            .args(["--exact", test, "--nocapture", "--test-threads=1"])
            .env(INSIDE, "1")
            .output()
    });
    match again {
        Ok(output) if output.status.success() => false,
        Ok(output) => {
            let told = String::from_utf8_lossy(&output.stdout);
            let words = String::from_utf8_lossy(&output.stderr);
            panic!("{test} failed inside its namespace:\n{told}\n{words}");
        }
        Err(error) => panic!("{test} cannot run inside a namespace: {error}"),
    }
}

/// Runs a program that must succeed.
///
/// # Panics
/// If it does not, with what it said.
pub fn run(program: &str, arguments: &[&str]) {
    match Command::new(program).args(arguments).output() {
        Ok(output) if output.status.success() => {}
        Ok(output) => {
            let words = String::from_utf8_lossy(&output.stderr);
            panic!("{program} {arguments:?}: {words}");
        }
        Err(error) => panic!("{program} {arguments:?}: {error}"),
    }
}

/// Tells that a test cannot run here, and why: on standard error, and in the file named by
/// `IPRECONNECT_SKIPPED`, if it is set.
pub fn skipped(test: &str, why: &str) {
    eprintln!("skipped: {test}: {why}");
    if let Some(path) = std::env::var_os(SKIPPED) {
        let noted = OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .and_then(|mut file| -> io::Result<()> { writeln!(file, "skipped: {test}: {why}") });
        if let Err(error) = noted {
            eprintln!("and that cannot be noted: {error}");
        }
    }
}

fn works(program: &str, arguments: &[&str]) -> bool {
    let output = Command::new(program).args(arguments).output();
    output.is_ok_and(|output| output.status.success())
}

//! All that continuous integration runs, runnable at a desk: `cargo xtask help`.

mod install;
mod test;

use std::process::ExitCode;

const HELP: &str = "\
cargo xtask test     formatting, lints, all tests, documentation; what CI runs
cargo xtask help     this";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["test"] => test::run(),
        [] | ["help" | "--help" | "-h"] => {
            println!("{HELP}");
            ExitCode::SUCCESS
        }
        _ => {
            eprintln!("error: unknown task {words:?}\n\n{HELP}");
            ExitCode::from(2)
        }
    }
}

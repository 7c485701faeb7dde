//! `ca`: the local authority.

use std::path::Path;

use crate::args::Arguments;
use crate::certify::internal::{Authority, root_file};
use crate::config::state_directory;
use crate::exit::{Exit, Refusal};

/// Prints the root certificate; makes the authority if there is none yet.
pub(crate) fn export(arguments: &Arguments) -> Result<Exit, Refusal> {
    let state = state_directory(arguments.config.as_deref(), &arguments.environment());
    let state = state.map_err(|mistakes| Refusal::new(Exit::Wrong, mistakes.lines().join("; ")))?;
    let directory = state.join("ca");
    let pem = read(&directory).map_err(|error| {
        let message = format!("cannot open the local authority in {}", directory.display());
        Refusal::new(Exit::Wrong, message)
            .because(&error)
            .hint("set `gateway.state_dir` to a directory this user can write to")
    })?;
    if arguments.json {
        super::print_json(&serde_json::json!({ "schema": 1, "root": pem }));
    } else {
        print!("{pem}");
    }
    Ok(Exit::Fine)
}

fn read(directory: &Path) -> std::io::Result<String> {
    Authority::open(directory)?;
    std::fs::read_to_string(root_file(directory))
}

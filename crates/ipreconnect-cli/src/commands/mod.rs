//! What each command does.

pub(crate) mod alerts;
pub(crate) mod ca;
pub(crate) mod cache;
pub(crate) mod check;
pub(crate) mod discover;
pub(crate) mod exec;
pub(crate) mod explain;
pub(crate) mod history;
pub(crate) mod identity;
pub(crate) mod man;
pub(crate) mod order;
pub(crate) mod password;
pub(crate) mod ports;
pub(crate) mod probe;
pub(crate) mod proxy_env;
pub(crate) mod reload;
pub(crate) mod run;
pub(crate) mod shield;
pub(crate) mod status;
pub(crate) mod tap;
pub(crate) mod top;
pub(crate) mod why;

use crate::exit::{Exit, Refusal};

/// A small runtime for a command that asks the gateway.
fn block_on<T>(future: impl Future<Output = Result<T, Refusal>>) -> Result<T, Refusal> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Refusal::new(Exit::NotFine, "cannot start").because(&error))?;
    let done = runtime.block_on(future);
    // Who looks up a name that nobody answers for is not waited for.
    runtime.shutdown_background();
    done
}

/// Prints JSON as every command does.
fn print_json(value: &impl serde::Serialize) {
    match serde_json::to_string_pretty(value) {
        Ok(text) => println!("{text}"),
        Err(error) => eprintln!("error: {error}"),
    }
}

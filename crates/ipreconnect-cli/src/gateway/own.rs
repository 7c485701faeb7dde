//! A gateway of one command's own, for as long as that has something to do.

use crate::args::Arguments;
use crate::config::{Environment, Loaded, from_text};
use crate::exit::{Exit, Refusal};
use crate::gateway::serve::{Beside, Load, Order, Watch, serve};
use crate::log;
use crate::state::StateDirectory;

/// Runs what a text of configuration says until `beside` is over.
pub(crate) fn run_beside(
    arguments: &Arguments,
    text: String,
    beside: Beside,
) -> Result<Exit, Refusal> {
    let permissions = arguments.permissions();
    let load = move || {
        let environment = Environment::of_process().with_permissions(permissions);
        from_text(text.clone(), &environment)
    };
    let loaded =
        load().map_err(|mistakes| Refusal::new(Exit::Wrong, mistakes.lines().join("; ")))?;
    run_loaded(arguments, loaded, Box::new(move |_| load()), beside)
}

/// The same of a configuration that was read.
pub(crate) fn run_loaded(
    arguments: &Arguments,
    loaded: Loaded,
    load: Load,
    beside: Beside,
) -> Result<Exit, Refusal> {
    run_in(arguments, None, (loaded, load), beside)
}

/// The same in a state directory that may be open already. It logs less than a gateway that people look after: what is
/// said belongs to the command.
pub(crate) fn run_in(
    arguments: &Arguments,
    state: Option<StateDirectory>,
    (loaded, load): (Loaded, Load),
    beside: Beside,
) -> Result<Exit, Refusal> {
    let asked = i8::try_from(arguments.verbose).unwrap_or(i8::MAX);
    let hushed = if arguments.quiet { -2 } else { -1 };
    let otlp = loaded.plan.otlp.clone();
    let log = log::begin(
        &loaded.plan.log,
        otlp.as_ref(),
        asked.saturating_add(hushed),
    )?;
    serve(Order {
        state,
        loaded,
        load,
        watch: Watch::No,
        log,
        beside: Some(beside),
    })
}

/// A text as TOML has it.
pub(crate) fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

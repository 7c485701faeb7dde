//! `run`: the gateway in the foreground.

use crate::args::{Arguments, Run};
use crate::config::{Colour, Environment, Loaded, Mistakes, from_addresses, load};
use crate::exit::{Exit, Refusal};
use crate::gateway::serve::{Order, Watch, serve};
use crate::log;

/// Loads the configuration and serves it.
pub(crate) fn run(arguments: &Arguments, run: &Run) -> Result<Exit, Refusal> {
    let load: Box<dyn Fn() -> Result<Loaded, Mistakes>> = if run.listen.is_empty() {
        let path = arguments.config.clone();
        Box::new(move || load(path.as_deref(), &Environment::of_process()))
    } else {
        let (listen, origin) = (run.listen.clone(), run.origin.clone());
        Box::new(move || from_addresses(&listen, &origin, &Environment::of_process()))
    };
    let loaded = match load() {
        Ok(loaded) => loaded,
        Err(mistakes) => {
            eprint!("{}", mistakes.render(Colour::of_stderr()));
            return Ok(Exit::Wrong);
        }
    };
    eprint!("{}", loaded.render_warnings(Colour::of_stderr()));
    let louder = if arguments.quiet {
        -1
    } else {
        i8::try_from(arguments.verbose).unwrap_or(i8::MAX)
    };
    let log = log::begin(loaded.plan.log, louder);
    let watch = if run.watch { Watch::Files } else { Watch::No };
    serve(Order {
        loaded,
        load,
        watch,
        log,
    })
}

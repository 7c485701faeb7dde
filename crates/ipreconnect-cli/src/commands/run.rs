//! `run`: the gateway in the foreground.

use std::path::Path;

use crate::args::{Arguments, Run};
use crate::config::{Colour, Environment, Loaded, Mistakes, from_addresses, load};
use crate::exit::{Exit, Refusal};
use crate::gateway::serve::{Order, Watch, serve};
use crate::log;

/// Loads the configuration and serves it.
pub(crate) fn run(arguments: &Arguments, run: &Run) -> Result<Exit, Refusal> {
    let (given, listen, origin) = (
        arguments.config.clone(),
        run.listen.clone(),
        run.origin.clone(),
    );
    // A reload reads what was found at the start, and never looks elsewhere.
    let permissions = arguments.permissions();
    let load = move |place: Option<&Path>| -> Result<Loaded, Mistakes> {
        let environment = Environment::of_process().with_permissions(permissions);
        if listen.is_empty() {
            load(place.or(given.as_deref()), &environment)
        } else {
            from_addresses(&listen, &origin, &environment)
        }
    };
    let loaded = match load(None) {
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
    keep_small();
    let log = log::begin(&loaded.plan.log, loaded.plan.otlp.as_ref(), louder)?;
    let watch = if run.watch { Watch::Files } else { Watch::No };
    serve(Order {
        state: None,
        loaded,
        load: Box::new(load),
        watch,
        log,
        beside: None,
    })
}

/// Takes memory by the page: by huge ones, thousands of idle connections would hold megabytes that
/// nobody uses.
fn keep_small() {
    // A kernel without huge pages has none to give.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
}

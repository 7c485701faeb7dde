//! `check`: is the configuration right, and what does it expose to whom?

use crate::args::Arguments;
use crate::config::{Colour, load, show};
use crate::exit::Exit;

/// Loads and shows it.
pub(crate) fn check(arguments: &Arguments, path: Option<&std::path::Path>) -> Exit {
    let path = path.or(arguments.config.as_deref());
    match load(path, &arguments.environment()) {
        Err(mistakes) if arguments.json => {
            let errors = mistakes.lines();
            super::print_json(
                &serde_json::json!({ "schema": 1, "valid": false, "errors": errors }),
            );
            Exit::Wrong
        }
        Err(mistakes) => {
            eprint!("{}", mistakes.render(Colour::of_stderr()));
            Exit::Wrong
        }
        Ok(loaded) if arguments.json => {
            super::print_json(
                &serde_json::json!({ "schema": 1, "valid": true, "plan": show(&loaded.plan) }),
            );
            Exit::Fine
        }
        Ok(loaded) => {
            eprint!("{}", loaded.render_warnings(Colour::of_stderr()));
            print!("{}", show(&loaded.plan).text());
            println!("the configuration is valid");
            Exit::Fine
        }
    }
}

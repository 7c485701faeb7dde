//! `reload`: the running gateway takes its changed configuration.

use hyper::Method;

use crate::admin::client::ask;
use crate::admin::view::Outcome;
use crate::args::Arguments;
use crate::exit::{Exit, Refusal};

/// Asks for it, and tells what came of it.
pub(crate) fn reload(arguments: &Arguments) -> Result<Exit, Refusal> {
    let socket = super::status::socket(arguments)?;
    let (_, outcome): (_, Outcome) = super::block_on(ask(&socket, Method::POST, "/v1/reload"))?;
    if arguments.json {
        super::print_json(&outcome);
    } else {
        for message in &outcome.messages {
            println!("{message}");
        }
        if !outcome.done {
            println!("not reloaded: everything stays as it was");
        }
    }
    Ok(if outcome.done {
        Exit::Fine
    } else {
        Exit::Wrong
    })
}

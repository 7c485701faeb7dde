//! `reconnect`, `drain`, `prefer`: orders about one origin.

use hyper::Method;
use ipreconnect_admin::encoded;
use serde::Serialize;

use crate::admin::client::tell;
use crate::admin::view::{Outcome, Preference};
use crate::args::Arguments;
use crate::exit::{Exit, Refusal};

pub(crate) fn reconnect(arguments: &Arguments, origin: &str) -> Result<Exit, Refusal> {
    order(arguments, origin, "reconnect", &())
}

pub(crate) fn drain(arguments: &Arguments, origin: &str) -> Result<Exit, Refusal> {
    order(arguments, origin, "drain", &())
}

pub(crate) fn prefer(
    arguments: &Arguments,
    origin: &str,
    address: Option<String>,
) -> Result<Exit, Refusal> {
    order(arguments, origin, "prefer", &Preference { address })
}

/// Gives an order, and tells what came of it.
fn order(
    arguments: &Arguments,
    origin: &str,
    call: &str,
    said: &impl Serialize,
) -> Result<Exit, Refusal> {
    let socket = super::status::socket(arguments)?;
    let path = format!("/v1/origins/{}/{call}", encoded(origin));
    let answer = super::block_on(tell(&socket, Method::POST, &path, said));
    let (_, outcome): (_, Outcome) = answer?;
    if arguments.json {
        super::print_json(&outcome);
    } else {
        for message in &outcome.messages {
            println!("{message}");
        }
    }
    Ok(if outcome.done {
        Exit::Fine
    } else {
        Exit::NotFine
    })
}

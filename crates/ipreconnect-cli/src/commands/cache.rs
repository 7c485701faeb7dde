//! `cache purge`: the running gateway forgets answers.

use hyper::Method;

use crate::admin::client::tell;
use crate::admin::view::{Outcome, PurgeWish};
use crate::args::{Arguments, CacheAction};
use crate::exit::{Exit, Refusal};

/// Has answers forgotten, and tells how many.
pub(crate) fn cache(arguments: &Arguments, action: &CacheAction) -> Result<Exit, Refusal> {
    let CacheAction::Purge {
        url,
        prefix,
        listener,
    } = action;
    let wish = PurgeWish {
        listener: listener.clone(),
        url: url.clone(),
        prefix: prefix.clone(),
    };
    let socket = super::status::socket(arguments)?;
    let path = "/v1/cache/purge";
    let (_, outcome) = super::block_on(tell::<Outcome>(&socket, Method::POST, path, &wish))?;
    if arguments.json {
        super::print_json(&outcome);
    } else {
        println!("{}", outcome.messages.join("\n"));
    }
    Ok(if outcome.done {
        Exit::Fine
    } else {
        Exit::Wrong
    })
}

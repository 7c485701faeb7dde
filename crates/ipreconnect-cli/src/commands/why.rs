//! `why`: which access rule decides on a client, and why.

use std::fmt::Write as _;

use hyper::Method;
use ipreconnect_admin::encoded;

use crate::admin::client::ask;
use crate::admin::view::{Outcome, Why, WhyTo};
use crate::args::{Arguments, WhyArguments};
use crate::exit::{Exit, Refusal};

/// Asks the running gateway, and tells it rule by rule.
pub(crate) fn why(arguments: &Arguments, why: &WhyArguments) -> Result<Exit, Refusal> {
    let mut path = format!(
        "/v1/why?listener={}&from={}",
        encoded(&why.listener),
        encoded(&why.from)
    );
    if let Some(user) = &why.user {
        path.push_str(&format!("&user={}", encoded(user)));
    }
    if let Some(database) = &why.database {
        path.push_str(&format!("&database={}", encoded(database)));
    }
    if why.tls {
        path.push_str("&tls=true");
    }
    if let Some(to) = &why.to {
        path.push_str(&format!("&to={}", encoded(to)));
    }
    let socket = super::status::socket(arguments)?;
    let (_, answer) = super::block_on(ask::<Answer>(&socket, Method::GET, &path))?;
    let answer = match answer {
        Answer::Why(answer) => answer,
        Answer::Outcome(outcome) => {
            return Err(Refusal::new(Exit::Wrong, outcome.messages.join("; ")));
        }
    };
    if arguments.json {
        super::print_json(&answer);
    } else {
        print!("{}", text(&answer));
    }
    let is_open = answer.to.as_ref().is_none_or(|to| to.allowed);
    Ok(if answer.admitted && is_open {
        Exit::Fine
    } else {
        Exit::NotFine
    })
}

#[derive(serde::Deserialize)]
#[serde(untagged)]
enum Answer {
    Why(Box<Why>),
    Outcome(Outcome),
}

fn text(why: &Why) -> String {
    let mut text = format!("{}, from {}", why.listener, why.from);
    if let Some(host) = &why.host {
        let _ = write!(text, " ({host})");
    }
    if let Some(user) = &why.user {
        let _ = write!(text, ", as {user:?}");
    }
    if let Some(database) = &why.database {
        let _ = write!(text, ", for database {database:?}");
    }
    if why.tls {
        text.push_str(", inside TLS");
    }
    match &why.refusal {
        None if why.asks => text.push_str(": let in, if it shows its password\n\n"),
        None => text.push_str(": let in\n\n"),
        Some(refusal) => {
            let _ = writeln!(text, ": refused, {refusal}\n");
        }
    }
    for rule in &why.rules {
        let mark = if rule.decides { "=>" } else { "  " };
        let said = match &rule.mismatch {
            None => "this one decides",
            Some(mismatch) => mismatch,
        };
        let _ = writeln!(text, "{mark} {}  {}\n     {said}", rule.place, rule.rule);
    }
    if !why.rules.iter().any(|rule| rule.decides) {
        text.push_str("=> no rule is for this client, and whom none is for is refused\n");
    }
    if let Some(to) = &why.to {
        text.push('\n');
        text.push_str(&there(to));
    }
    text
}

/// Whether it may go where it wants to.
fn there(to: &WhyTo) -> String {
    let mut text = match (&to.denied, to.allowed) {
        (Some(why), true) => format!(
            "to {}: allowed, since the rules are not enforced; {why}\n",
            to.target
        ),
        (Some(why), false) => format!("to {}: denied, {why}\n", to.target),
        (None, true) => format!("to {}: allowed\n", to.target),
        (None, false) => format!("to {}: denied\n", to.target),
    };
    for address in &to.addresses {
        let why = match &address.denied {
            None => "may be dialled",
            Some(why) => why,
        };
        let _ = writeln!(text, "   {}: {why}", address.address);
    }
    if let Some(why) = &to.nameless {
        let _ = writeln!(text, "   it has no address now: {why}");
    }
    for proxy in &to.proxies {
        let _ = writeln!(text, "   by the proxy {proxy}, which looks it up by itself");
    }
    text
}

//! `identity`: which keys the servers of an origin had, and whether a change is accepted.

use hyper::Method;
use ipreconnect_admin::encoded;

use super::status::socket;
use crate::admin::client::{ask, tell};
use crate::admin::view::{Acceptance, Identities, IdentityView, Outcome, SightingView};
use crate::args::{Arguments, IdentityAction, IdentityArguments};
use crate::exit::{Exit, Refusal};
use crate::paint::Paint;

/// Asks the running gateway, or tells it to accept.
pub(crate) fn identity(
    arguments: &Arguments,
    identity: &IdentityArguments,
) -> Result<Exit, Refusal> {
    let socket = socket(arguments)?;
    if let Some(IdentityAction::Accept { origin, key }) = &identity.action {
        let path = format!("/v1/origins/{}/accept-identity", encoded(origin));
        let wish = Acceptance { key: key.clone() };
        let answer = super::block_on(tell::<Outcome>(&socket, Method::POST, &path, &wish));
        let (_, outcome) = answer?;
        if arguments.json {
            super::print_json(&outcome);
        } else {
            println!("{}", outcome.messages.join("\n"));
        }
        return Ok(if outcome.done {
            Exit::Fine
        } else {
            Exit::NotFine
        });
    }
    let answer = super::block_on(ask::<Identities>(&socket, Method::GET, "/v1/identities"));
    let (_, mut shown) = answer?;
    if let Some(name) = &identity.origin {
        shown.origins.retain(|origin| origin.name == *name);
        if shown.origins.is_empty() {
            return Err(Refusal::new(
                Exit::Wrong,
                format!("there is no origin {name:?}"),
            ));
        }
    }
    if arguments.json {
        super::print_json(&shown);
    } else {
        let paint = Paint::of_stdout();
        let text: String = shown.origins.iter().map(|one| text(&paint, one)).collect();
        print!("{text}");
    }
    let is_bad = |origin: &IdentityView| {
        matches!(origin.identity.as_str(), "key changed" | "impersonated?")
            || origin.failure.is_some()
    };
    Ok(if shown.origins.iter().any(is_bad) {
        Exit::NotFine
    } else {
        Exit::Fine
    })
}

fn text(paint: &Paint, origin: &IdentityView) -> String {
    let mut text = format!(
        "origin {}  {}\n",
        paint.bold(&origin.name),
        paint.state(&origin.identity)
    );
    if let Some(failure) = &origin.failure {
        text.push_str(&format!("  the ledger cannot be read: {failure}\n"));
    }
    match origin.identity.as_str() {
        "unproven" => text.push_str(
            "  its servers cannot prove who they are: a hijacked address could not be told apart; TLS would\n",
        ),
        "impersonated?" => text.push_str(&format!(
            "  a server could not prove who it is, and gets nothing: `ipreconnect status {}` says which, and why\n",
            origin.name
        )),
        "insecure" => text.push_str(
            "  nothing of its certificates is verified: whoever is in between can read everything\n",
        ),
        "key changed" => text.push_str(&format!(
            "  if the change was made on purpose: ipreconnect identity accept {}\n",
            origin.name
        )),
        _ if origin.sightings.is_empty() && origin.failure.is_none() => {
            text.push_str("  no server has proven who it is yet\n");
        }
        _ => {}
    }
    let mut entry = "";
    for sighting in &origin.sightings {
        if sighting.entry != entry {
            entry = &sighting.entry;
            text.push_str(&format!("  {entry}\n"));
        }
        text.push_str(&show(paint, sighting));
    }
    text
}

fn show(paint: &Paint, sighting: &SightingView) -> String {
    let acceptance = match sighting.acceptance.as_str() {
        "accepted" => String::new(),
        "alarming" => format!("  {}", paint.state("used, and not accepted by anybody")),
        _ => format!("  {}", paint.state("refused until it is accepted")),
    };
    let dnssec = match sighting.dnssec.as_str() {
        "secure" => ", address proven by DNSSEC",
        _ => "",
    };
    format!(
        "    {}  {}{acceptance}\n      {}, issued by {}, valid until {}\n      for {}\n      seen {} to {}{dnssec}\n",
        sighting.key,
        sighting.address,
        sighting.tls,
        sighting.issuer,
        sighting.valid_until,
        sighting.names.join(", "),
        sighting.first_seen,
        sighting.last_seen,
    )
}

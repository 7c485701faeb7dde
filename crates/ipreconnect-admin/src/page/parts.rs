//! The parts of the page.

use maud::{Markup, html};

use super::draw::{sparkline, uptime_bars};
use super::{Facts, span};
use crate::encode::encoded;
use crate::view::{
    EndpointView, IdentityView, ListenerView, LossView, OriginHistory, OriginView, UptimeView,
};

pub(super) fn top() -> Markup {
    html! {
        header {
            h1 { "ipreconnect" }
            p id="live" class="live" role="status" { "…" }
        }
    }
}

pub(super) fn login() -> Markup {
    html! {
        form id="login" class="login" hidden {
            p { "The token is in the file " code { "token" } " of the gateway's state directory." }
            p id="wrong" class="wrong" role="alert" hidden { "That was not the token." }
            label for="token" { "Token" }
            input id="token" type="password" autocomplete="off" required;
            button type="submit" { "Show the dashboard" }
        }
    }
}

pub(super) fn bottom() -> Markup {
    html! {
        dialog id="ask" aria-labelledby="ask-question" {
            form method="dialog" {
                p id="ask-question" {}
                menu {
                    button value="no" autofocus { "Leave it" }
                    button value="yes" class="do" id="ask-yes" { "Do it" }
                }
            }
        }
        p id="said" class="said" role="status" aria-live="polite" {}
    }
}

pub(super) fn middle(facts: &Facts) -> Markup {
    let troubled: Vec<&OriginView> = facts.origins.iter().filter(|one| !is_fine(one)).collect();
    html! {
        (summary(facts, &troubled))
        @for origin in troubled.iter().take(50) { (trouble(facts, origin)) }
        (origins(facts))
        (losses(facts))
        (listeners(&facts.listeners))
        (events(facts))
    }
}

fn is_fine(origin: &OriginView) -> bool {
    origin.phase == "up"
}

fn is_down(origin: &OriginView) -> bool {
    origin.phase == "down"
}

fn summary(facts: &Facts, troubled: &[&OriginView]) -> Markup {
    let down: Vec<&&OriginView> = troubled.iter().filter(|one| is_down(one)).collect();
    let required = down.iter().filter(|one| one.required).count();
    let waiting: u32 = facts.origins.iter().map(|one| one.waiting).sum();
    let count = facts.origins.len();
    let (class, words) = match (down.len(), troubled.len()) {
        (0, 0) if count == 0 => ("fair", "No origins are configured".to_owned()),
        (0, 0) if facts.origins.iter().any(OriginView::is_on_backup) => {
            let words = if count == 1 {
                "The origin is up"
            } else {
                "All origins are up"
            };
            ("fair", format!("{words}, some by a backup"))
        }
        (0, 0) if count == 1 => ("good", "The origin is up".to_owned()),
        (0, 0) => ("good", format!("All {count} origins are up")),
        (0, 1) => ("fair", "1 origin is not proven to be up".to_owned()),
        (0, some) => ("fair", format!("{some} origins are not proven to be up")),
        (1, _) => {
            let name = down
                .first()
                .map(|one| one.name.as_str())
                .unwrap_or_default();
            ("bad", format!("{name} is down"))
        }
        (some, _) => ("bad", format!("{some} of {count} origins are down")),
    };
    html! {
        section class={ "summary " (class) } aria-label="Summary" {
            h2 { (words) }
            p {
                @match (down.len(), required) {
                    (0, _) => {},
                    (1, 0) => "It is optional. ",
                    (1, _) => "It is required. ",
                    (_, 0) => "All of them are optional. ",
                    (_, required) => { (required) " of them required. " },
                }
                @if waiting > 0 {
                    (waiting) @if waiting == 1 { " client waits" } @else { " clients wait" } " in the hold. "
                }
                @let on_backup = facts.origins.iter().filter(|one| one.is_on_backup()).count();
                @if on_backup > 0 {
                    (on_backup) @if on_backup == 1 { " origin is" } @else { " origins are" } " served by a backup. "
                }
                @let carried: u64 = facts.listeners.iter().map(|one| one.carrying).sum();
                (carried) @if carried == 1 { " connection" } @else { " connections" } " carried now."
            }
            @if let Some(problem) = &facts.history.problem {
                p class="wrong" { "The outage ledger is not written: " (problem) }
            }
        }
    }
}

/// What is down, since when, why, what is being done, who is affected.
fn trouble(facts: &Facts, origin: &OriginView) -> Markup {
    let behind: Vec<&str> = facts
        .listeners
        .iter()
        .filter(|listener| listener.origin == origin.name)
        .map(|listener| listener.name.as_str())
        .collect();
    html! {
        article class={ "trouble " (grade(&origin.phase)) } {
            h3 { (origin.name) " is " (origin.phase) }
            dl {
                dt { "since" }
                dd { (span(origin.for_ms)) }
                @if let Some(failure) = &origin.failure {
                    dt { "why" }
                    dd { (failure.cause) span class="layer" { (failure.layer) } }
                    dt { "look at" }
                    dd { (failure.advice) }
                }
                dt { "what is done" }
                dd { (doing(origin)) }
                dt { "who is affected" }
                dd {
                    @if origin.waiting > 0 { (origin.waiting) " waiting now; " }
                    @if behind.is_empty() { "no listener leads there alone" }
                    @else { "clients of " (behind.join(", ")) }
                    @if let Some(feature) = &origin.feature { "; feature " b { (feature) } " is off" }
                    @if !origin.required { "; it is optional" }
                }
            }
            (actions(origin))
        }
    }
}

fn doing(origin: &OriginView) -> &'static str {
    match origin.phase.as_str() {
        _ if origin.given_up => "nothing: the attempts are used up; reconnect by hand, or reload",
        "down" => "it is tried again by its schedule; who comes meanwhile waits",
        "suspect" => "it is being asked; work goes elsewhere where it can",
        "draining" => "it takes no new work, by order; reconnecting ends that",
        _ => "it is being reached for the first time",
    }
}

fn actions(origin: &OriginView) -> Markup {
    let path = format!("/v1/origins/{}", encoded(&origin.name));
    let button = |call: &str, words: &str, question: String| {
        html! {
            button type="button" data-call={ (path) "/" (call) }
                data-question=(question) { (words) }
        }
    };
    html! {
        div class="actions" {
            (button("reconnect", "Reconnect now", format!("Try {} again now, whatever its schedule says?", origin.name)))
            @if origin.phase != "draining" {
                (button("drain", "Drain", format!("Give {} no new work? What is open stays; reconnecting ends it.", origin.name)))
            }
            @if let Some(preferred) = &origin.preferred {
                (button("prefer", "As configured", format!("New work of {} goes to {preferred} by order. Let its configuration decide again?", origin.name)))
            }
            @if matches!(origin.identity.as_str(), "key changed" | "impersonated?") {
                (button("accept-identity", "Accept identity", format!("Trust every key that was seen of {}? Only if you know that they were changed.", origin.name)))
            }
        }
    }
}

/// Sends new work to one of several servers, or back.
fn prefer(origin: &OriginView, endpoint: &EndpointView) -> Markup {
    let (name, address) = (&origin.name, &endpoint.address);
    let call = format!("/v1/origins/{}/prefer", encoded(name));
    let working = origin.endpoints.iter().filter(|one| one.takes_work);
    let is_alone = endpoint.takes_work && working.count() == 1;
    let is_ordered = origin.preferred.as_ref() == Some(address);
    if origin.endpoints.len() < 2 || endpoint.health != "up" || is_alone || is_ordered {
        return html! {};
    }
    let body = serde_json::json!({ "address": address }).to_string();
    let question =
        format!("Send new work of {name} to {address} while it is up? What is open stays.");
    html! {
        button type="button" data-call=(call) data-body=(body) data-question=(question) { "Prefer" }
    }
}

fn grade(state: &str) -> &'static str {
    match state {
        "up" | "proven" => "good",
        "down" | "impersonated?" | "key changed" => "bad",
        "unproven" => "plain",
        _ => "fair",
    }
}

fn origins(facts: &Facts) -> Markup {
    html! {
        section aria-labelledby="origins" {
            h2 id="origins" { "Origins" }
            @if facts.origins.is_empty() { p class="faint" { "None." } }
            @for origin in &facts.origins {
                @let history = facts.history.origins.iter().find(|one| one.name == origin.name);
                @let identity = facts.identities.iter().find(|one| one.name == origin.name);
                (origin_row(origin, history, identity, &facts.dates))
            }
        }
    }
}

fn origin_row(
    origin: &OriginView,
    history: Option<&OriginHistory>,
    identity: Option<&IdentityView>,
    dates: &[String],
) -> Markup {
    let used = origin.endpoints.iter().find(|one| one.takes_work);
    html! {
        details class="origin" id={ "origin-" (origin.name) } {
            summary {
                span class={ "state " (grade(&origin.phase)) } { (origin.phase) }
                span class="name" { (origin.name) }
                span class="used" {
                    @match used {
                        Some(endpoint) => {
                            (endpoint.address)
                            @if origin.is_on_backup() { " " span class="wrong" { "a backup" } }
                        },
                        None => span class="faint" { "no server" },
                    }
                }
                span class="bars-and" {
                    (uptime_bars(history, dates))
                    (percent(history.map(|one| &one.month)))
                }
                span class="spark-and" {
                    (sparkline(history.map_or(&[], |one| one.recent.as_slice())))
                    @if let Some(response) = history.and_then(|one| one.response.as_ref()) {
                        span class="number" { (format!("{:.1} ms", response.p50_ms)) }
                    }
                }
            }
            div class="inside" {
                (uptimes(history))
                @if let Some(response) = history.and_then(|one| one.response.as_ref()) {
                    p {
                        "Answers of the last 24 hours: " (response.count) "; half within "
                        (format!("{:.1} ms", response.p50_ms)) ", 95 % within "
                        (format!("{:.1} ms", response.p95_ms)) ", 99 % within "
                        (format!("{:.1} ms", response.p99_ms)) "."
                    }
                }
                (endpoints(origin))
                (identity_of(origin, identity))
                @for name in &origin.names {
                    p {
                        "Name " b { (name.name) } " is " (name.knowledge) ", " (name.addresses) " addresses"
                        @if let Some(failure) = &name.failure { "; " (failure.cause) }
                        "."
                    }
                }
                (actions(origin))
            }
        }
    }
}

fn percent(uptime: Option<&UptimeView>) -> Markup {
    html! {
        span class="number" title="up in the last 30 days" {
            (uptime.copied().unwrap_or_default().shown())
        }
    }
}

fn uptimes(history: Option<&OriginHistory>) -> Markup {
    let Some(history) = history else {
        return html! { p class="faint" { "Nothing is written of it yet." } };
    };
    html! {
        p {
            "Up: "
            @for (words, uptime) in history.spans() {
                span class="pair" { (words) " " (percent(Some(uptime))) } " "
            }
        }
    }
}

fn endpoints(origin: &OriginView) -> Markup {
    html! {
        div class="scroll" {
            table {
                thead { tr {
                    th { "server" } th { "role" } th { "state" } th { "for" } th { "open" } th { "served" }
                    th { "ready" } th { "connects in" } th { "why" } th {}
                } }
                tbody {
                    @for endpoint in &origin.endpoints {
                        tr {
                            td { (endpoint.address) @if endpoint.takes_work { " ◂ in use" } }
                            td {
                                @if origin.preferred.as_ref() == Some(&endpoint.address) { "preferred by order" }
                                @else if endpoint.priority == 0 { "preferred" }
                                @else { "backup " (endpoint.priority) }
                            }
                            td { span class={ "state " (grade(&endpoint.health)) } { (endpoint.health) } }
                            td { (span(endpoint.for_ms)) }
                            td { (endpoint.open) }
                            td { (endpoint.served) }
                            td { (endpoint.warm) }
                            td {
                                @if let Some(micros) = endpoint.connect_us {
                                    (micros / 1000) "." (format!("{:03}", micros % 1000)) " ms"
                                }
                            }
                            td {
                                @if let Some(ejected) = &endpoint.ejected { "set aside: " (ejected.why) " " }
                                @if let Some(failure) = &endpoint.failure { (failure.cause) }
                            }
                            td { (prefer(origin, endpoint)) }
                        }
                    }
                }
            }
        }
    }
}

fn identity_of(origin: &OriginView, identity: Option<&IdentityView>) -> Markup {
    let latest = identity.and_then(|one| {
        let sightings = one.sightings.iter();
        sightings.max_by(|one, other| one.last_seen.cmp(&other.last_seen))
    });
    html! {
        p {
            "Identity: " span class={ "state " (grade(&origin.identity)) } { (origin.identity) }
            @if let Some(seen) = latest {
                " certificate of " b { (seen.names.first().map_or("?", String::as_str)) }
                ", issued by " (seen.issuer) ", valid until " (seen.valid_until)
            } @else if origin.identity == "unproven" {
                " without TLS nobody can tell the right server from another one."
            }
        }
    }
}

fn losses(facts: &Facts) -> Markup {
    html! {
        section aria-labelledby="losses" {
            h2 id="losses" { "Losses" }
            @if facts.history.losses.is_empty() {
                p class="faint" { "None so far." }
            } @else {
                ol class="timeline" {
                    @let losses = &facts.history.losses;
                    @for loss in losses.iter().filter(|loss| !loss.is_told_by(losses)) {
                        (loss_line(loss))
                    }
                }
            }
        }
    }
}

fn loss_line(loss: &LossView) -> Markup {
    let what = match (&loss.endpoint, loss.scope.as_str()) {
        (Some(endpoint), "endpoint") => format!("lost {endpoint}"),
        _ => "was down".to_owned(),
    };
    let class = match (loss.lasted_ms, loss.scope.as_str()) {
        (None, "origin") => "bad",
        (None, _) => "minor lasts",
        (Some(_), "origin") => "past",
        _ => "minor",
    };
    html! {
        li class=(class) {
            time datetime=(loss.first_sign) { (loss.first_sign) }
            p {
                b { (loss.origin) } " " (what) ": " (loss.cause) span class="layer" { (loss.layer) }
                @if loss.blame == "own network" { " (this machine's own network)" }
            }
            p class="faint" {
                @match loss.lasted_ms {
                    Some(lasted) => { (loss.lasted_word()) " " (span(lasted)) },
                    None => "lasts",
                }
                ", certain after " (span(loss.notice_ms))
                @if let (Some(by), Some(after)) = (&loss.took_over, loss.took_over_ms) {
                    ", " (by) " took over after " (span(after))
                }
                @if let Some(healed) = &loss.healed_by { ", " (healed) }
                @for (count, words) in [(loss.held, "held"), (loss.retried, "sent again"), (loss.lost, "lost")] {
                    @if count > 0 { ", " (count) " " (words) }
                }
            }
        }
    }
}

fn listeners(listeners: &[ListenerView]) -> Markup {
    html! {
        section aria-labelledby="listeners" {
            h2 id="listeners" { "Listeners" }
            div class="scroll" {
                table {
                    thead { tr {
                        th { "listener" } th { "where" } th { "who can reach it" } th { "leads to" }
                        th { "carried now" } th { "accepted" } th { "refused" } th { "not served" }
                    } }
                    tbody {
                        @for one in listeners {
                            tr {
                                td { b { (one.name) } }
                                td { (one.addresses.join(", ")) }
                                td { (one.exposure) }
                                td { (one.origin) }
                                td { (one.carrying) }
                                td { (one.accepted) }
                                td { (one.denied) }
                                td { (one.unserved) }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn events(facts: &Facts) -> Markup {
    html! {
        section aria-labelledby="events" {
            h2 id="events" { "Events" }
            ol class="events" {
                @for event in facts.events.iter().rev() {
                    li class=(event.level) {
                        time datetime=(event.time) { (event.time) }
                        span class="message" { (event.message) }
                        @for field in &event.fields {
                            " " span class="field" { (field.name) "=" (field.value) }
                        }
                    }
                }
            }
        }
    }
}

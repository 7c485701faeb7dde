//! The dashboard: one page that says what is down, since when, why, what is being done, and who is affected.
//!
//! It is made here, whole, and a small script has its middle made anew when something happens. Nothing in it comes
//! from elsewhere.

mod draw;
mod parts;

use axum::extract::State;
use axum::http::header;
use axum::response::{Html, IntoResponse};
use ipreconnect::clock;
use maud::{DOCTYPE, Markup, html};

use crate::moment;
use crate::server::Api;
use crate::view::{EventView, History, HistoryQuestion, IdentityView, ListenerView, OriginView};

/// Losses and events that are shown.
const LOSSES: u32 = 20;
const EVENTS: usize = 40;

/// What the page shows.
struct Facts {
    origins: Vec<OriginView>,
    listeners: Vec<ListenerView>,
    identities: Vec<IdentityView>,
    history: History,
    events: Vec<std::sync::Arc<EventView>>,
    now: u64,
}

async fn facts(api: &Api) -> Facts {
    let question = HistoryQuestion {
        limit: Some(LOSSES),
        ..HistoryQuestion::default()
    };
    let history = match api.read(question).await {
        Ok(history) => history,
        Err(why) => History {
            problem: Some(why),
            ..History::default()
        },
    };
    Facts {
        origins: api.gateway().origins(),
        listeners: api.gateway().listeners(),
        identities: api.gateway().identities().await,
        history,
        events: api.events().latest(EVENTS),
        now: u64::try_from(clock::since_unix().as_millis()).unwrap_or_default(),
    }
}

/// The whole page.
pub(crate) async fn dashboard(State(api): State<Api>) -> Html<String> {
    let facts = facts(&api).await;
    let body = html! {
        (parts::top())
        main id="main" { (parts::middle(&facts)) }
        (parts::bottom())
        script src="/assets/page.js" defer {}
    };
    Html(frame("ipreconnect", &body).into_string())
}

/// What changes of it.
pub(crate) async fn fragment(State(api): State<Api>) -> Html<String> {
    Html(parts::middle(&facts(&api).await).into_string())
}

/// Asks for the token.
pub(crate) fn login(is_again: bool) -> Html<String> {
    let body = html! {
        main class="login" {
            h1 { "ipreconnect" }
            p { "The token is in the file " code { "token" } " of the gateway's state directory." }
            @if is_again {
                p class="wrong" role="alert" { "That was not the token." }
            }
            form method="post" action="/login" {
                label for="token" { "Token" }
                input id="token" name="token" type="password" autocomplete="current-password" required autofocus;
                button type="submit" { "Show the dashboard" }
            }
        }
    };
    Html(frame("ipreconnect: log in", &body).into_string())
}

fn frame(title: &str, body: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) }
                link rel="icon" href="data:,";
                link rel="stylesheet" href="/assets/style.css";
            }
            body { (body) }
        }
    }
}

pub(crate) async fn style() -> impl IntoResponse {
    let kind = "text/css; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], include_str!("style.css"))
}

pub(crate) async fn script() -> impl IntoResponse {
    let kind = "text/javascript; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], include_str!("page.js"))
}

/// `2 m 13 s`.
fn span(millis: u64) -> String {
    moment::span(millis)
}

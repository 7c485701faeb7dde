//! The dashboard: one page that says what is down, since when, why, what is being done, and who is affected.
//!
//! It is made here, whole, and a small script has its middle made anew when something happens. Nothing in it comes
//! from elsewhere.

mod draw;
mod parts;
mod status;

use std::sync::Arc;

use axum::extract::State;
use axum::http::header;
use axum::response::{Html, IntoResponse};
use ipreconnect::clock;
use maud::{DOCTYPE, Markup, html};

use crate::moment;
use crate::server::Api;
use crate::view::{EventView, History, IdentityView, ListenerView, OriginView};

pub use status::{Drawn, StatusPage, StatusPages};

/// Events that are shown.
const EVENTS: usize = 40;

/// What the page shows.
struct Facts {
    origins: Vec<OriginView>,
    listeners: Vec<ListenerView>,
    identities: Vec<IdentityView>,
    history: Arc<History>,
    events: Vec<Arc<EventView>>,
    /// The days that are drawn, the oldest first.
    dates: Vec<String>,
}

/// The frame of the page. It says nothing of the gateway: that is for whoever shows the token.
pub(crate) async fn dashboard(State(api): State<Api>) -> Html<String> {
    let body = html! { body {
        (parts::top())
        (parts::login())
        main id="main" hidden data-guarded[api.is_guarded()] {}
        (parts::bottom())
        noscript { p class="wrong" { "The dashboard needs JavaScript; `ipreconnect top` and `ipreconnect status` do not." } }
        script src="/assets/page.js" defer {}
    } };
    let page = frame("ipreconnect", "/assets/style.css", &html! {}, &body);
    Html(page.into_string())
}

/// What is in it.
pub(crate) async fn fragment(State(api): State<Api>) -> Html<String> {
    let facts = Facts {
        history: api.history().await,
        origins: api.gateway().origins(),
        listeners: api.gateway().listeners(),
        identities: api.gateway().identities().await,
        events: api.events().latest(EVENTS),
        dates: draw::dates(clock::since_unix().as_secs()),
    };
    // Much of it takes time, which others who ask need not wait for.
    let drawn = tokio::task::spawn_blocking(move || parts::middle(&facts).into_string());
    Html(drawn.await.unwrap_or_default())
}

/// A whole page: what it is called, where its style is, what else its head has, and its body.
fn frame(title: &str, style: &str, head: &Markup, body: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                (head)
                title { (title) }
                link rel="icon" href="data:,";
                link rel="stylesheet" href=(style);
            }
            (body)
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

//! What happens, as it happens: server-sent events (HTML Living Standard, section 9.2).

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use super::Api;
use super::answer::{Of, Question, Refused};
use crate::view::{EventView, Events, SCHEMA, TapQuestion, TapView};

/// Clients that may watch at once.
const WATCHERS: usize = 256;
/// A watcher hears something at least so often.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Events of the past that are told.
const LATEST: usize = 200;

/// What happened lately, or, for whoever accepts `text/event-stream`, what happens from now on: each message has an
/// event as JSON; one named `missed` says how many were too many.
#[utoipa::path(
    get, path = "/v1/events",
    responses((status = 200, body = Events), (status = 503, body = crate::view::Outcome))
)]
pub(super) async fn events(State(api): State<Api>, headers: HeaderMap) -> Response {
    let accepted = headers.get(header::ACCEPT);
    let accepted = accepted.and_then(|value| value.to_str().ok());
    if !accepted.is_some_and(|accepted| accepted.contains("text/event-stream")) {
        let latest = api.events.latest(LATEST);
        return Json(Events {
            schema: SCHEMA,
            events: latest.iter().map(|event| EventView::clone(event)).collect(),
        })
        .into_response();
    }
    let Some(seat) = Seat::take(&api.watchers) else {
        let why = format!("{WATCHERS} clients watch already");
        return Refused::new(StatusCode::SERVICE_UNAVAILABLE, why).into_response();
    };
    let watching = (api.events.watch(), seat);
    let seen = headers.get("last-event-id");
    let seen = seen.and_then(|value| value.to_str().ok()?.trim().parse().ok());
    let (before, told) = seen.map_or_else(Default::default, |seen| missed(&api, seen));
    let live = futures_util::stream::unfold(watching, move |(mut events, seat)| async move {
        let event = next(&mut events, told).await?;
        Some((event, (events, seat)))
    });
    let stream = futures_util::stream::iter(before).chain(live);
    let stream = stream.map(Ok::<_, Infallible>);
    let keep_alive = KeepAlive::new().interval(KEEP_ALIVE);
    Sse::new(stream).keep_alive(keep_alive).into_response()
}

/// What passes through a listener, a line of JSON each, for as long as it is read. It is shown over the Unix socket
/// alone.
#[utoipa::path(
    get, path = "/v1/listeners/{name}/tap", params(("name" = String, Path), TapQuestion),
    responses(
        (status = 200, body = TapView, content_type = "application/x-ndjson"), (status = 404, body = crate::view::Outcome),
        (status = 422, body = crate::view::Outcome), (status = 503, body = crate::view::Outcome)
    )
)]
pub(super) async fn tap(
    State(api): State<Api>,
    Of(name): Of<String>,
    Question(question): Question<TapQuestion>,
) -> Result<Response, Refused> {
    if api.is_guarded() {
        let why = "what passes is shown over the Unix socket alone: `ipreconnect tap`";
        return Err(Refused::new(StatusCode::FORBIDDEN, why));
    }
    let tapped = api.gateway().tap(&name, question)?;
    let lines = futures_util::stream::unfold(tapped, |mut tapped| async {
        let view = tapped.recv().await?;
        // Plain data can be written as JSON.
        let mut line = serde_json::to_vec(&view).unwrap_or_default();
        line.push(b'\n');
        Some((Ok::<_, Infallible>(line), tapped))
    });
    let kind = [(header::CONTENT_TYPE, "application/x-ndjson")];
    Ok((kind, Body::from_stream(lines)).into_response())
}

/// What somebody has not seen who saw everything up to `seen`, and the number of the last of it.
fn missed(api: &Api, seen: u64) -> (Vec<Event>, u64) {
    let kept = api.events.latest(usize::MAX);
    let mut told = Vec::new();
    let last = kept.last().map_or(0, |event| event.id);
    let first = kept.first().map_or(0, |event| event.id);
    // A number that we have not reached is of an earlier run: of this one nothing was seen.
    let is_of_another = seen > last;
    let seen = if is_of_another { 0 } else { seen };
    let gone = first.saturating_sub(seen.saturating_add(1));
    if gone > 0 || is_of_another {
        told.push(Event::default().event("missed").data(gone.to_string()));
    }
    let newer = kept.iter().filter(|event| event.id > seen);
    told.extend(newer.filter_map(|event| message(event)));
    (told, last)
}

fn message(event: &EventView) -> Option<Event> {
    let message = Event::default().id(event.id.to_string());
    // Plain data can be written as JSON.
    message.json_data(event).ok()
}

/// The next one that was not told before.
async fn next(events: &mut Receiver<Arc<EventView>>, told: u64) -> Option<Event> {
    loop {
        match events.recv().await {
            Ok(event) if event.id <= told => {}
            Ok(event) => {
                if let Some(message) = message(&event) {
                    return Some(message);
                }
            }
            Err(RecvError::Lagged(count)) => {
                return Some(Event::default().event("missed").data(count.to_string()));
            }
            Err(RecvError::Closed) => return None,
        }
    }
}

/// The place of one watcher, until this is dropped.
struct Seat(Arc<AtomicUsize>);

impl Seat {
    fn take(watchers: &Arc<AtomicUsize>) -> Option<Self> {
        let seat = Self(Arc::clone(watchers));
        (watchers.fetch_add(1, Relaxed) < WATCHERS).then_some(seat)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

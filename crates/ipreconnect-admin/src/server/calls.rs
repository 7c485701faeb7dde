//! The calls of the API, one by one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use utoipa::OpenApi;

use super::answer::{Of, Question, Refused, Wish};
use super::{Api, stream};
use crate::metrics::{self, Own};
use crate::view::{
    Acceptance, FeatureView, Features, GuardView, History, HistoryQuestion, Identities, Listeners,
    OriginView, Origins, Outcome, Ports, Preference, PurgeWish, Readiness, SCHEMA, Why,
    WhyQuestion,
};

/// Losses that are told at once.
const MOST: u32 = 100_000;
/// Seconds of which samples are told at most.
const DAY: u32 = 86_400;

type Told<T> = Result<Json<T>, Refused>;

/// The API of a running ipreconnect gateway.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "ipreconnect",
        license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0")
    ),
    paths(
        healthz,
        readyz,
        metrics,
        origins,
        origin,
        reconnect,
        drain,
        prefer,
        accept_identity,
        identities,
        listeners,
        ports,
        guard,
        features,
        history,
        stream::events,
        stream::tap,
        why,
        purge,
        reload
    )
)]
pub(super) struct Described;

/// Whether the gateway lives.
#[utoipa::path(get, path = "/healthz", responses((status = 200, body = String, content_type = "text/plain")))]
pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

/// Whether all required origins are up; 503 names those that are not.
#[utoipa::path(get, path = "/readyz", responses((status = 200, body = Readiness), (status = 503, body = Readiness)))]
pub(super) async fn readyz(State(api): State<Api>) -> (StatusCode, Json<Readiness>) {
    let readiness = api.gateway.readiness();
    let status = if readiness.ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, Json(readiness))
}

/// What is counted, as Prometheus reads it.
#[utoipa::path(get, path = "/metrics", responses((status = 200, body = String, content_type = "text/plain")))]
pub(super) async fn metrics(State(api): State<Api>) -> impl IntoResponse {
    let own = Own {
        ledger_dropped: api.ledger.dropped(),
        ledger_fails: api.ledger.problem().is_some(),
        watchers: api.watchers.load(Relaxed),
    };
    let gateway = &api.gateway;
    let text = metrics::text(
        &gateway.origins(),
        &gateway.pulses(),
        &gateway.listeners(),
        own,
    );
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], text)
}

/// This description.
pub(super) async fn openapi() -> impl IntoResponse {
    let json = "application/json";
    ([(header::CONTENT_TYPE, json)], super::description())
}

/// All origins.
#[utoipa::path(get, path = "/v1/origins", responses((status = 200, body = Origins)))]
pub(super) async fn origins(State(api): State<Api>) -> Json<Origins> {
    Json(Origins {
        schema: SCHEMA,
        origins: api.gateway.origins(),
    })
}

/// One origin.
#[utoipa::path(
    get, path = "/v1/origins/{name}", params(("name" = String, Path)),
    responses((status = 200, body = OriginView), (status = 404, body = Outcome))
)]
pub(super) async fn origin(State(api): State<Api>, Of(name): Of<String>) -> Told<OriginView> {
    let found = api.gateway.origin(&name);
    found.map(Json).ok_or_else(|| {
        Refused::new(
            StatusCode::NOT_FOUND,
            format!("there is no origin {name:?}"),
        )
    })
}

/// Tries an origin again now; also ends a drain.
#[utoipa::path(
    post, path = "/v1/origins/{name}/reconnect", params(("name" = String, Path)),
    responses((status = 200, body = Outcome), (status = 404, body = Outcome))
)]
pub(super) async fn reconnect(State(api): State<Api>, Of(name): Of<String>) -> Told<Outcome> {
    Ok(Json(api.gateway.reconnect(&name).await?))
}

/// Gives an origin no new work.
#[utoipa::path(
    post, path = "/v1/origins/{name}/drain", params(("name" = String, Path)),
    responses((status = 200, body = Outcome), (status = 404, body = Outcome))
)]
pub(super) async fn drain(State(api): State<Api>, Of(name): Of<String>) -> Told<Outcome> {
    Ok(Json(api.gateway.drain(&name).await?))
}

/// Has an origin's new work go to one of its servers while that is up, or again as the configuration says. It is
/// forgotten by a restart.
#[utoipa::path(
    post, path = "/v1/origins/{name}/prefer", params(("name" = String, Path)), request_body = Preference,
    responses(
        (status = 200, body = Outcome), (status = 400, body = Outcome), (status = 404, body = Outcome),
        (status = 415, body = Outcome), (status = 422, body = Outcome)
    )
)]
pub(super) async fn prefer(
    State(api): State<Api>,
    Of(name): Of<String>,
    Wish(wish): Wish<Preference>,
) -> Told<Outcome> {
    Ok(Json(api.gateway.prefer(&name, wish).await?))
}

/// Accepts a key that was seen of an origin's servers, or all of them.
#[utoipa::path(
    post, path = "/v1/origins/{name}/accept-identity", params(("name" = String, Path)), request_body = Acceptance,
    responses(
        (status = 200, body = Outcome), (status = 400, body = Outcome), (status = 404, body = Outcome),
        (status = 415, body = Outcome), (status = 422, body = Outcome), (status = 503, body = Outcome)
    )
)]
pub(super) async fn accept_identity(
    State(api): State<Api>,
    Of(name): Of<String>,
    Wish(wish): Wish<Acceptance>,
) -> Told<Outcome> {
    Ok(Json(api.gateway.accept_identity(&name, wish).await?))
}

/// What was seen of the identities of all origins' servers.
#[utoipa::path(get, path = "/v1/identities", responses((status = 200, body = Identities)))]
pub(super) async fn identities(State(api): State<Api>) -> Json<Identities> {
    Json(Identities {
        schema: SCHEMA,
        origins: api.gateway.identities().await,
    })
}

/// All listeners.
#[utoipa::path(get, path = "/v1/listeners", responses((status = 200, body = Listeners)))]
pub(super) async fn listeners(State(api): State<Api>) -> Json<Listeners> {
    Json(Listeners {
        schema: SCHEMA,
        listeners: api.gateway.listeners(),
    })
}

/// The listening sockets of this machine, with whoever has them open as far as the gateway can see that.
#[utoipa::path(
    get, path = "/v1/ports",
    responses((status = 200, body = Ports), (status = 503, body = Outcome))
)]
pub(super) async fn ports(State(api): State<Api>) -> Told<Ports> {
    Ok(Json(api.gateway.ports().await?))
}

/// What the guard of local ports has seen.
#[utoipa::path(get, path = "/v1/guard", responses((status = 200, body = GuardView)))]
pub(super) async fn guard(State(api): State<Api>) -> Json<GuardView> {
    Json(api.gateway.guard())
}

/// What an application can do now.
#[utoipa::path(get, path = "/v1/features", responses((status = 200, body = Features)))]
pub(super) async fn features(State(api): State<Api>) -> Json<Features> {
    let mut features: BTreeMap<String, FeatureView> = BTreeMap::new();
    for origin in api.gateway.origins() {
        let Some(name) = origin.feature else {
            continue;
        };
        let feature = features.entry(name.clone()).or_insert(FeatureView {
            name,
            on: true,
            origins: Vec::new(),
            missing: Vec::new(),
        });
        if !matches!(origin.phase.as_str(), "up" | "suspect") {
            feature.on = false;
            feature.missing.push(origin.name.clone());
        }
        feature.origins.push(origin.name);
    }
    Json(Features {
        schema: SCHEMA,
        features: features.into_values().collect(),
    })
}

/// The outage ledger.
#[utoipa::path(
    get, path = "/v1/history", params(HistoryQuestion),
    responses((status = 200, body = History), (status = 422, body = Outcome), (status = 503, body = Outcome))
)]
pub(super) async fn history(
    State(api): State<Api>,
    Question(question): Question<HistoryQuestion>,
) -> Told<History> {
    if question.limit.is_some_and(|limit| limit > MOST) {
        let why = format!("no more than {MOST} losses are told at once");
        return Err(Refused::new(StatusCode::UNPROCESSABLE_ENTITY, why));
    }
    let is_day = |seconds| (1..=DAY).contains(&seconds);
    if question
        .samples
        .is_some_and(|seconds| !is_day(seconds) || question.origin.is_none())
    {
        let why = "samples are of one origin, and of 1 to 86400 seconds: name it by `origin`";
        return Err(Refused::new(StatusCode::UNPROCESSABLE_ENTITY, why));
    }
    match api.read(question).await {
        Ok(history) => Ok(Json(history)),
        Err(why) => Err(Refused::new(StatusCode::SERVICE_UNAVAILABLE, why)),
    }
}

/// Which rule decides whether a client may come in, and why the ones before it do not.
#[utoipa::path(
    get, path = "/v1/why", params(WhyQuestion),
    responses((status = 200, body = Why), (status = 404, body = Outcome), (status = 422, body = Outcome))
)]
pub(super) async fn why(
    State(api): State<Api>,
    Question(question): Question<WhyQuestion>,
) -> Told<Why> {
    Ok(Json(api.gateway.why(question).await?))
}

/// Forgets answers that were kept.
#[utoipa::path(
    post, path = "/v1/cache/purge", request_body = PurgeWish,
    responses(
        (status = 200, body = Outcome), (status = 400, body = Outcome), (status = 404, body = Outcome),
        (status = 415, body = Outcome), (status = 422, body = Outcome)
    )
)]
pub(super) async fn purge(State(api): State<Api>, Wish(wish): Wish<PurgeWish>) -> Told<Outcome> {
    Ok(Json(api.gateway.purge(wish).await?))
}

/// Reads the configuration again: all of it is taken, or nothing.
#[utoipa::path(
    post, path = "/v1/reload",
    responses((status = 200, body = Outcome), (status = 422, body = Outcome), (status = 503, body = Outcome))
)]
pub(super) async fn reload(State(api): State<Api>) -> Told<Outcome> {
    Ok(Json(api.gateway.reload().await?))
}

impl Api {
    /// What the ledger says, read by a thread that may wait.
    pub(crate) async fn read(&self, question: HistoryQuestion) -> Result<History, String> {
        let ledger = self.ledger.clone();
        let Ok(place) = Arc::clone(&self.reads).acquire_owned().await else {
            return Err("the gateway ends".to_owned());
        };
        let read = tokio::task::spawn_blocking(move || {
            let read = ledger.history(&question);
            drop(place);
            read
        });
        match read.await {
            Ok(Ok(history)) => Ok(history),
            Ok(Err(error)) => Err(format!("the outage ledger cannot be read: {error}")),
            Err(_) => Err("the gateway ends".to_owned()),
        }
    }
}

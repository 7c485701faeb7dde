//! The API's server.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use axum::extract::{Path as UrlPath, Query, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use tokio::net::UnixListener;
use tokio::sync::{mpsc, oneshot};

use ipreconnect::core::access::{Mismatch, Source};
use ipreconnect::core::identity::KeyId;
use ipreconnect_proxy::{Asked, Purge};

use super::view::{
    Acceptance, Identities, Listeners, OriginView, Origins, Outcome, PurgeWish, Readiness, SCHEMA,
    Why, WhyQuestion, WhyRule,
};
use crate::gateway::board::Board;

/// A change that only the main loop can make.
pub(crate) type Reload = oneshot::Sender<Outcome>;

#[derive(Clone)]
struct Desk {
    board: Arc<Board>,
    reloads: mpsc::Sender<Reload>,
}

/// Opens the API's socket, readable by its owner alone. The state directory is locked, so that a
/// socket that is there already is a dead gateway's.
///
/// # Errors
/// If the socket cannot be made.
pub(crate) fn bind(path: &Path) -> io::Result<std::os::unix::net::UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let listener = std::os::unix::net::UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Serves the API until its runtime ends.
///
/// # Errors
/// If the socket cannot be watched.
pub(crate) async fn serve(
    listener: std::os::unix::net::UnixListener,
    board: Arc<Board>,
    reloads: mpsc::Sender<Reload>,
) -> io::Result<()> {
    let router = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/v1/origins", get(origins))
        .route("/v1/origins/{name}", get(origin))
        .route("/v1/origins/{name}/reconnect", post(reconnect))
        .route("/v1/origins/{name}/drain", post(drain))
        .route("/v1/origins/{name}/accept-identity", post(accept_identity))
        .route("/v1/identities", get(identities))
        .route("/v1/listeners", get(listeners))
        .route("/v1/why", get(why))
        .route("/v1/cache/purge", post(purge))
        .route("/v1/reload", post(reload))
        .with_state(Desk { board, reloads });
    axum::serve(UnixListener::from_std(listener)?, router).await
}

async fn readyz(State(desk): State<Desk>) -> (StatusCode, Json<Readiness>) {
    let readiness = desk.board.readiness();
    let status = if readiness.ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, Json(readiness))
}

async fn origins(State(desk): State<Desk>) -> Json<Origins> {
    Json(desk.board.origins())
}

async fn origin(
    State(desk): State<Desk>,
    UrlPath(name): UrlPath<String>,
) -> Result<Json<OriginView>, (StatusCode, Json<Outcome>)> {
    let found = desk.board.origin_view(&name);
    found.map(Json).ok_or_else(|| unknown(&name))
}

async fn reconnect(
    State(desk): State<Desk>,
    UrlPath(name): UrlPath<String>,
) -> Result<Json<Outcome>, (StatusCode, Json<Outcome>)> {
    let origin = desk.board.origin(&name).ok_or_else(|| unknown(&name))?;
    match origin.reconnect().await {
        Ok(()) => Ok(Json(done(format!("origin {name:?} is tried again now")))),
        Err(_) => Err(unknown(&name)),
    }
}

async fn drain(
    State(desk): State<Desk>,
    UrlPath(name): UrlPath<String>,
) -> Result<Json<Outcome>, (StatusCode, Json<Outcome>)> {
    let origin = desk.board.origin(&name).ok_or_else(|| unknown(&name))?;
    match origin.drain().await {
        Ok(()) => Ok(Json(done(format!("origin {name:?} takes no new work")))),
        Err(_) => Err(unknown(&name)),
    }
}

async fn identities(State(desk): State<Desk>) -> Json<Identities> {
    Json(desk.board.identities().await)
}

async fn accept_identity(
    State(desk): State<Desk>,
    UrlPath(name): UrlPath<String>,
    Json(wish): Json<Acceptance>,
) -> Result<Json<Outcome>, (StatusCode, Json<Outcome>)> {
    let origin = desk.board.origin(&name).ok_or_else(|| unknown(&name))?;
    let key = match wish.key.map(|key| key.parse::<KeyId>()).transpose() {
        Ok(key) => key,
        Err(error) => {
            let outcome = not_done(format!("this is no key: {error}"));
            return Err((StatusCode::UNPROCESSABLE_ENTITY, Json(outcome)));
        }
    };
    let accepted = origin.accept_identity(key).await;
    match accepted {
        Ok(accepted) if accepted.is_empty() => Ok(Json(done(format!(
            "origin {name:?} has no such key that waits to be accepted"
        )))),
        Ok(accepted) => Ok(Json(Outcome {
            messages: accepted
                .iter()
                .map(|one| {
                    format!(
                        "accepted {} at {}, issued by {}",
                        one.key, one.address, one.issuer
                    )
                })
                .collect(),
            ..done(String::new())
        })),
        Err(error) => {
            let outcome = not_done(format!("the identity ledger cannot be read: {error}"));
            Err((StatusCode::SERVICE_UNAVAILABLE, Json(outcome)))
        }
    }
}

async fn listeners(State(desk): State<Desk>) -> Json<Listeners> {
    Json(desk.board.listeners())
}

async fn why(
    State(desk): State<Desk>,
    Query(question): Query<WhyQuestion>,
) -> Result<Json<Why>, (StatusCode, Json<Outcome>)> {
    let source = match question.from.as_str() {
        "local" => Some(Source::Local),
        address => address
            .parse()
            .ok()
            .map(|address| ipreconnect_proxy::source(Some(address))),
    };
    let Some(source) = source else {
        let why = format!(
            "this is no address: {:?}; write one, or `local` for a Unix socket",
            question.from
        );
        return Err((StatusCode::UNPROCESSABLE_ENTITY, Json(not_done(why))));
    };
    let access = desk.board.access(&question.listener).ok_or_else(|| {
        let why = format!("there is no listener {:?}", question.listener);
        (StatusCode::NOT_FOUND, Json(not_done(why)))
    })?;
    let asked = Asked {
        source,
        user: question.user.as_deref(),
        database: question.database.as_deref(),
        is_tls: question.tls,
    };
    let explanation = access.explain(&asked).await;
    let rules = explanation.steps.into_iter().map(|step| WhyRule {
        place: step.place,
        rule: step.text,
        method: step.method.name().to_owned(),
        decides: step.mismatch.is_none(),
        mismatch: step.mismatch.map(|mismatch| words(mismatch).to_owned()),
    });
    Ok(Json(Why {
        schema: SCHEMA,
        rules: rules.collect(),
        listener: question.listener,
        from: question.from,
        user: question.user,
        database: question.database,
        tls: question.tls,
        asks: explanation.asks,
        host: explanation.host,
        admitted: explanation.refusal.is_none(),
        refusal: explanation.refusal,
    }))
}

fn words(mismatch: Mismatch) -> &'static str {
    match mismatch {
        Mismatch::Transport => {
            "it is for Unix sockets, or for addresses, and the client comes by the other"
        }
        Mismatch::Tls => "it is for TLS, or for no TLS, and the client has the other",
        Mismatch::Gss => "it is for GSSAPI encryption, which nobody has here",
        Mismatch::Address => "the client comes from elsewhere",
        Mismatch::Host => "the client's host has another name, or none that leads back to it",
        Mismatch::Database => "it is for another database",
        Mismatch::User => "it is for somebody else",
    }
}

async fn purge(
    State(desk): State<Desk>,
    Json(wish): Json<PurgeWish>,
) -> (StatusCode, Json<Outcome>) {
    let is_url = |url: &str| url.starts_with('/') || url.contains("://");
    let purge = match (wish.url, wish.prefix) {
        (None, None) => Purge::All,
        (Some(url), None) if is_url(&url) => Purge::Url(url.into()),
        (None, Some(prefix)) if is_url(&prefix) => Purge::Prefix(prefix.into()),
        (Some(_), Some(_)) => {
            let why = "either a URL or a prefix can be purged, not both at once";
            return (
                StatusCode::UNPROCESSABLE_ENTITY,
                Json(not_done(why.to_owned())),
            );
        }
        (Some(url), None) | (None, Some(url)) => {
            let why = format!(
                "this is no URL: {url:?}; write https://host/path, or /path for every host"
            );
            return (StatusCode::UNPROCESSABLE_ENTITY, Json(not_done(why)));
        }
    };
    match desk.board.caches().purge(wish.listener.as_deref(), &purge) {
        Some(1) => (StatusCode::OK, Json(done("1 answer forgotten".to_owned()))),
        Some(count) => (
            StatusCode::OK,
            Json(done(format!("{count} answers forgotten"))),
        ),
        None => {
            let why = match wish.listener {
                Some(name) => format!("there is no listener {name:?} with a cache"),
                None => "no route has a cache".to_owned(),
            };
            (StatusCode::NOT_FOUND, Json(not_done(why)))
        }
    }
}

async fn reload(State(desk): State<Desk>) -> (StatusCode, Json<Outcome>) {
    let (reply, answer) = oneshot::channel();
    let asked = desk.reloads.send(reply).await.is_ok();
    match answer.await {
        Ok(outcome) if outcome.done => (StatusCode::OK, Json(outcome)),
        Ok(outcome) => (StatusCode::UNPROCESSABLE_ENTITY, Json(outcome)),
        Err(_) => {
            let why = if asked {
                "the gateway ends"
            } else {
                "the gateway has ended"
            };
            (
                StatusCode::SERVICE_UNAVAILABLE,
                Json(not_done(why.to_owned())),
            )
        }
    }
}

fn done(message: String) -> Outcome {
    Outcome {
        schema: SCHEMA,
        done: true,
        messages: vec![message],
    }
}

fn not_done(message: String) -> Outcome {
    Outcome {
        done: false,
        ..done(message)
    }
}

fn unknown(name: &str) -> (StatusCode, Json<Outcome>) {
    let outcome = not_done(format!("there is no origin {name:?}"));
    (StatusCode::NOT_FOUND, Json(outcome))
}

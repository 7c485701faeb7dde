//! The API's server: on a Unix socket for its owner, on TCP behind a [`Guard`].

mod answer;
mod calls;
mod guard;
mod stream;

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use axum::Router;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{from_fn_with_state, map_response};
use axum::response::Response;
use axum::routing::{get, post};
use tokio::net::{TcpListener, UnixListener};
use utoipa::OpenApi;

use crate::events::Events;
use crate::gateway::Gateway;
use crate::history::Ledger;
use crate::page;
use answer::Refused;
pub use guard::Guard;

/// What the API is about. Cheap to clone.
#[derive(Clone)]
pub struct Api {
    gateway: Arc<dyn Gateway>,
    ledger: Ledger,
    events: Events,
    /// Clients of the stream of events.
    watchers: Arc<AtomicUsize>,
}

impl Api {
    /// About this gateway.
    #[must_use]
    pub fn new(gateway: Arc<dyn Gateway>, ledger: Ledger, events: Events) -> Self {
        Self {
            gateway,
            ledger,
            events,
            watchers: Arc::default(),
        }
    }

    pub(crate) fn gateway(&self) -> &dyn Gateway {
        &*self.gateway
    }

    pub(crate) fn events(&self) -> &Events {
        &self.events
    }

    /// Serves whoever may open the socket, until the runtime ends.
    ///
    /// # Errors
    /// If the socket cannot be watched.
    pub async fn serve_unix(self, listener: std::os::unix::net::UnixListener) -> io::Result<()> {
        axum::serve(UnixListener::from_std(listener)?, router(self)).await
    }

    /// Serves whom the guard lets in, until the runtime ends.
    ///
    /// # Errors
    /// If the socket cannot be watched.
    pub async fn serve_tcp(
        self,
        listener: std::net::TcpListener,
        guard: Arc<Guard>,
    ) -> io::Result<()> {
        let router = router(self)
            .route("/login", post(guard::login).with_state(Arc::clone(&guard)))
            .layer(from_fn_with_state(guard, guard::stand))
            .layer(map_response(harden));
        axum::serve(TcpListener::from_std(listener)?, router).await
    }
}

/// The description of the API, as OpenAPI has it.
#[must_use]
pub fn description() -> String {
    let described = calls::Described::openapi().to_pretty_json();
    // What is derived can be written.
    described.unwrap_or_default()
}

fn router(api: Api) -> Router {
    Router::new()
        .route("/", get(page::dashboard))
        .route("/fragment", get(page::fragment))
        .route("/assets/style.css", get(page::style))
        .route("/assets/page.js", get(page::script))
        .route("/healthz", get(calls::healthz))
        .route("/readyz", get(calls::readyz))
        .route("/metrics", get(calls::metrics))
        .route("/v1/openapi.json", get(calls::openapi))
        .route("/v1/origins", get(calls::origins))
        .route("/v1/origins/{name}", get(calls::origin))
        .route("/v1/origins/{name}/reconnect", post(calls::reconnect))
        .route("/v1/origins/{name}/drain", post(calls::drain))
        .route(
            "/v1/origins/{name}/accept-identity",
            post(calls::accept_identity),
        )
        .route("/v1/identities", get(calls::identities))
        .route("/v1/listeners", get(calls::listeners))
        .route("/v1/features", get(calls::features))
        .route("/v1/history", get(calls::history))
        .route("/v1/events", get(stream::events))
        .route("/v1/why", get(calls::why))
        .route("/v1/cache/purge", post(calls::purge))
        .route("/v1/reload", post(calls::reload))
        .fallback(|| async { Refused::new(StatusCode::NOT_FOUND, "there is nothing here") })
        .method_not_allowed_fallback(|| async {
            Refused::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "this is asked for otherwise",
            )
        })
        .with_state(api)
}

/// What browsers are told of every answer.
async fn harden(mut response: Response) -> Response {
    let headers = response.headers_mut();
    for (name, value) in [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        // Without any, browsers would send forms of our own as if from nowhere.
        (header::REFERRER_POLICY, "same-origin"),
        (header::CACHE_CONTROL, "no-store"),
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; \
             img-src 'self' data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
        ),
    ] {
        headers
            .entry(name)
            .or_insert(HeaderValue::from_static(value));
    }
    response
}

//! The API's server: on a Unix socket for its owner, on TCP behind a [`Guard`].

mod answer;
mod calls;
mod guard;
mod patient;
mod recent;
mod stream;

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn, from_fn_with_state, map_response};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::serve::Listener;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;
use utoipa::OpenApi;
use utoipa::openapi::RefOr;

use crate::events::Events;
use crate::gateway::Gateway;
use crate::history::Ledger;
use crate::page;
use crate::view::History;
use answer::Refused;
pub use guard::Guard;
use patient::Patient;
use recent::Recent;

/// Whoever takes nothing of an answer for so long is given up.
const TAKEN: Duration = Duration::from_secs(60);
/// Connections at once to each socket; who comes then waits.
const CONNECTIONS: usize = 512;
/// For the head of a request, and between two of them.
const PATIENCE: Duration = Duration::from_secs(10);
/// Reads of the ledger at once.
const READS: usize = 2;
/// Until an answer begins.
const LONGEST: Duration = Duration::from_secs(60);
/// The longest head, and the longest body.
const HEAD: usize = 32 * 1024;
const BODY: usize = 64 * 1024;

/// What the API is about. Cheap to clone.
#[derive(Clone)]
pub struct Api {
    gateway: Arc<dyn Gateway>,
    ledger: Ledger,
    events: Events,
    /// Clients of the stream of events.
    watchers: Arc<AtomicUsize>,
    /// What the ledger said last to the page.
    recent: Arc<Recent>,
    /// Reads of the ledger at once: those of a disk that does not answer end never.
    reads: Arc<Semaphore>,
    /// Whether a guard asks for the token.
    is_guarded: bool,
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
            recent: Arc::default(),
            reads: Arc::new(Semaphore::new(READS)),
            is_guarded: false,
        }
    }

    pub(crate) fn gateway(&self) -> &dyn Gateway {
        &*self.gateway
    }

    /// What the ledger says, as it was some moments ago.
    pub(crate) async fn history(&self) -> Arc<History> {
        self.recent.of(self).await
    }

    pub(crate) fn is_guarded(&self) -> bool {
        self.is_guarded
    }

    pub(crate) fn events(&self) -> &Events {
        &self.events
    }

    /// Serves whoever may open the socket, until the runtime ends.
    ///
    /// # Errors
    /// If the socket cannot be watched.
    pub async fn serve_unix(self, listener: std::os::unix::net::UnixListener) -> io::Result<()> {
        let listener = UnixListener::from_std(listener)?;
        serve(listener, router(self)).await;
        Ok(())
    }

    /// Serves whom the guard lets in, until the runtime ends.
    ///
    /// # Errors
    /// If the socket cannot be watched.
    pub async fn serve_tcp(
        mut self,
        listener: std::net::TcpListener,
        guard: Arc<Guard>,
    ) -> io::Result<()> {
        self.is_guarded = true;
        let router = router(self)
            .layer(from_fn_with_state(guard, guard::stand))
            .layer(map_response(harden));
        serve(TcpListener::from_std(listener)?, router).await;
        Ok(())
    }
}

/// Serves connections, bounded in number and in what each may take: strangers hold up nobody else.
async fn serve<L: Listener>(mut listener: L, router: Router) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        // It is never closed.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        let (stream, _) = listener.accept().await;
        let service = TowerToHyperService::new(router.clone());
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(PATIENCE)
            .max_buf_size(HEAD)
            .serve_connection(TokioIo::new(Patient::new(stream, TAKEN)), service);
        tokio::spawn(async move {
            // What is wrong with a client is its own trouble.
            let _ = connection.await;
            drop(place);
        });
    }
}

/// The description of the API, as OpenAPI has it.
#[must_use]
pub fn description() -> String {
    let mut described = calls::Described::openapi();
    let refusals = [
        ("401", "over TCP, without the token"),
        (
            "403",
            "over TCP, for a name that is not ours, or from a page of another site",
        ),
    ];
    for item in described.paths.paths.values_mut() {
        for call in [&mut item.get, &mut item.post].into_iter().flatten() {
            for (status, when) in refusals {
                let response = RefOr::T(utoipa::openapi::Response::new(when));
                call.responses.responses.insert(status.to_owned(), response);
            }
        }
    }
    // What is derived can be written.
    described.to_pretty_json().unwrap_or_default()
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
        .route("/v1/origins/{name}/prefer", post(calls::prefer))
        .route(
            "/v1/origins/{name}/accept-identity",
            post(calls::accept_identity),
        )
        .route("/v1/identities", get(calls::identities))
        .route("/v1/listeners", get(calls::listeners))
        .route("/v1/listeners/{name}/tap", get(stream::tap))
        .route("/v1/ports", get(calls::ports))
        .route("/v1/guard", get(calls::guard))
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
        .layer(DefaultBodyLimit::max(BODY))
        .layer(from_fn(in_time))
        .with_state(api)
}

/// What takes too long is not waited for: a body that does not come holds no place for ever.
async fn in_time(request: Request, next: Next) -> Response {
    match tokio::time::timeout(LONGEST, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Refused::new(StatusCode::REQUEST_TIMEOUT, "this took too long").into_response(),
    }
}

/// What browsers are told of every answer.
async fn harden(mut response: Response) -> Response {
    let headers = response.headers_mut();
    for (name, value) in [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
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

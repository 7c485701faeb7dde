//! A client of the API, for the commands that ask the running gateway.

use std::path::Path;
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use crate::exit::{Exit, Refusal};

/// An answer may be as large as this.
const LARGEST: usize = 16 * 1024 * 1024;
/// A gateway that does not answer by then is stuck.
const PATIENCE: Duration = Duration::from_secs(35);

/// Asks the gateway behind `socket`.
///
/// # Errors
/// If it is not there, or its answer is not understood.
pub(crate) async fn ask<T: DeserializeOwned>(
    socket: &Path,
    method: Method,
    path: &str,
) -> Result<(StatusCode, T), Refusal> {
    tell(socket, method, path, &()).await
}

/// The same, with something to say.
///
/// # Errors
/// As [`ask`].
pub(crate) async fn tell<T: DeserializeOwned>(
    socket: &Path,
    method: Method,
    path: &str,
    said: &impl Serialize,
) -> Result<(StatusCode, T), Refusal> {
    let said = serde_json::to_vec(said)
        .map_err(|error| Refusal::new(Exit::Wrong, "cannot say that").because(&error))?;
    match tokio::time::timeout(PATIENCE, exchange(socket, method, path, said)).await {
        Ok(answer) => answer,
        Err(_) => Err(unreachable(socket, "it does not answer")),
    }
}

async fn exchange<T: DeserializeOwned>(
    socket: &Path,
    method: Method,
    path: &str,
    said: Vec<u8>,
) -> Result<(StatusCode, T), Refusal> {
    let broken = |error: hyper::Error| unreachable(socket, &error.to_string());
    let stream = UnixStream::connect(socket)
        .await
        .map_err(|error| unreachable(socket, &error.to_string()))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(broken)?;
    let driver = tokio::spawn(connection);
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", "localhost")
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(said)))
        .map_err(|error| unreachable(socket, &error.to_string()))?;
    let answer = sender.send_request(request).await.map_err(broken)?;
    let status = answer.status();
    let body = Limited::new(answer.into_body(), LARGEST)
        .collect()
        .await
        .map_err(|error| unreachable(socket, &error.to_string()))?
        .to_bytes();
    driver.abort();
    serde_json::from_slice(&body)
        .map(|value| (status, value))
        .map_err(|error| {
            let message =
                format!("an answer that is not understood ({error}); is it another version?");
            unreachable(socket, &message)
        })
}

fn unreachable(socket: &Path, why: &str) -> Refusal {
    let message = format!("no gateway answers at {}: {why}", socket.display());
    Refusal::new(Exit::Unreachable, message)
        .hint("is `ipreconnect run` running, as this user and with the same state directory?")
}

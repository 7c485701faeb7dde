//! A client of the API, for the commands that ask the running gateway.

use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::task::JoinHandle;

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
    let (answer, driver) = send(socket, method, path, said).await?;
    let status = answer.status();
    let body = whole(socket, answer).await?;
    driver.abort();
    serde_json::from_slice(&body)
        .map(|value| (status, value))
        .map_err(|error| {
            let message =
                format!("an answer that is not understood ({error}); is it another version?");
            unreachable(socket, &message)
        })
}

async fn whole(socket: &Path, answer: Response<Incoming>) -> Result<Bytes, Refusal> {
    let body = Limited::new(answer.into_body(), LARGEST).collect().await;
    let body = body.map_err(|error| unreachable(socket, &error.to_string()))?;
    Ok(body.to_bytes())
}

/// What carries a connection.
type Carrying = JoinHandle<hyper::Result<()>>;

async fn send(
    socket: &Path,
    method: Method,
    path: &str,
    said: Vec<u8>,
) -> Result<(Response<Incoming>, Carrying), Refusal> {
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
    Ok((answer, driver))
}

/// What a call says that goes on.
pub(crate) enum Heard {
    Lines(Lines),
    /// It does not begin, and why.
    Refused(Bytes),
}

/// Lines that come one by one.
pub(crate) struct Lines {
    body: Incoming,
    begun: Vec<u8>,
    socket: PathBuf,
    driver: Carrying,
    is_over: bool,
}

impl Drop for Lines {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Lines {
    /// The next one; none at the end.
    ///
    /// # Errors
    /// If the gateway is lost.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<u8>>, Refusal> {
        loop {
            if let Some(end) = self.begun.iter().position(|byte| *byte == b'\n') {
                let rest = self.begun.split_off(end + 1);
                let mut line = std::mem::replace(&mut self.begun, rest);
                line.pop();
                return Ok(Some(line));
            }
            if self.is_over || self.begun.len() > LARGEST {
                return Ok(None);
            }
            match self.body.frame().await {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.begun.extend_from_slice(&data);
                    }
                }
                Some(Err(error)) => return Err(unreachable(&self.socket, &error.to_string())),
                None => self.is_over = true,
            }
        }
    }
}

/// Asks for what goes on.
///
/// # Errors
/// If the gateway is not there.
pub(crate) async fn listen(socket: &Path, path: &str) -> Result<Heard, Refusal> {
    let (answer, driver) = send(socket, Method::GET, path, Vec::new()).await?;
    if !answer.status().is_success() {
        let body = whole(socket, answer).await?;
        driver.abort();
        return Ok(Heard::Refused(body));
    }
    Ok(Heard::Lines(Lines {
        body: answer.into_body(),
        begun: Vec::new(),
        socket: socket.to_owned(),
        driver,
        is_over: false,
    }))
}

fn unreachable(socket: &Path, why: &str) -> Refusal {
    let message = format!("no gateway answers at {}: {why}", socket.display());
    Refusal::new(Exit::Unreachable, message)
        .hint("is `ipreconnect run` running, as this user and with the same state directory?")
}

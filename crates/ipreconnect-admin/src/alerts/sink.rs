//! Ways to people: webhooks, ntfy, Alertmanager, e-mail, a command.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::{Method, Request, StatusCode, header};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use ipreconnect::clock;
use lettre::message::header::ContentType;
use lettre::{AsyncSmtpTransport, AsyncTransport, Tokio1Executor};
use rustix::process::Pid;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::sync::Notify;

use super::outbox::Outbox;
use super::words::{Message, MessageItem};
use crate::moment::{millis, rfc3339};

/// For one delivery.
const PATIENCE: Duration = Duration::from_secs(15);
/// Between two tries, from the first to the last.
const FIRST: Duration = Duration::from_secs(1);
const LAST: Duration = Duration::from_secs(300);
/// What the other side refuses is tried for so long, and what does not come through for so long.
const REFUSED: Duration = Duration::from_secs(3600);
const FAILED: Duration = Duration::from_secs(24 * 3600);
/// Between two times that Alertmanager hears what still fires; it forgets it after [`FORGET`].
const AGAIN: Duration = Duration::from_secs(60);
const FORGET: Duration = Duration::from_secs(300);
/// The longest answer that is looked at, and what is told of it.
const ANSWER: usize = 4096;
const SAID: usize = 200;

/// A way to people.
#[derive(Clone, PartialEq, Eq)]
pub enum Sink {
    /// As Slack reads it, and those that read the same.
    Slack {
        /// Where to.
        url: String,
    },
    /// The message as it is, in JSON.
    Webhook {
        /// Where to.
        url: String,
    },
    /// A topic of ntfy.
    Ntfy {
        /// Where to, with the topic.
        url: String,
    },
    /// Prometheus' Alertmanager, by its API v2.
    Alertmanager {
        /// Where it is, without the path of the API.
        url: String,
    },
    /// A mail.
    Email {
        /// To whom.
        to: String,
        /// From whom.
        from: String,
        /// By which server, as `smtp://user:password@host:port`.
        smtp: String,
    },
    /// A command, which gets the message on its standard input.
    Exec {
        /// The program.
        program: PathBuf,
    },
}

/// Secrets are in URLs: what is told of a way out has none.
impl fmt::Debug for Sink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Display for Sink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = |url: &str| {
            let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
            let host = rest.split(['/', '?']).next().unwrap_or_default();
            host.rsplit_once('@')
                .map_or(host, |(_, host)| host)
                .to_owned()
        };
        match self {
            Self::Slack { url } => write!(f, "slack at {}", host(url)),
            Self::Webhook { url } => write!(f, "webhook at {}", host(url)),
            Self::Ntfy { url } => write!(f, "ntfy at {}", host(url)),
            Self::Alertmanager { url } => write!(f, "alertmanager at {}", host(url)),
            Self::Email { to, smtp, .. } => write!(f, "mail to {to} by {}", host(smtp)),
            Self::Exec { program } => write!(f, "command {}", program.display()),
        }
    }
}

/// Why a message was not delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SinkError {
    /// Why.
    pub why: String,
    /// Whether trying again is of no use.
    pub is_final: bool,
}

impl SinkError {
    fn passing(why: impl fmt::Display) -> Self {
        Self {
            why: why.to_string(),
            is_final: false,
        }
    }

    fn lasting(why: impl fmt::Display) -> Self {
        Self {
            why: why.to_string(),
            is_final: true,
        }
    }
}

impl fmt::Display for SinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

impl Sink {
    /// What messages that wait for it are kept under: the same for the same way out.
    pub(super) fn name(&self) -> String {
        let (kind, place) = match self {
            Self::Slack { url } => ("slack", url.clone()),
            Self::Webhook { url } => ("webhook", url.clone()),
            Self::Ntfy { url } => ("ntfy", url.clone()),
            Self::Alertmanager { url } => ("alertmanager", url.clone()),
            Self::Email { to, from, smtp } => ("email", format!("{to} {from} {smtp}")),
            Self::Exec { program } => ("exec", program.display().to_string()),
        };
        // Secrets are in it, and are nobody's business who reads the file.
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, place.as_bytes());
        let digest = digest.as_ref().iter().take(8);
        let digest: String = digest.map(|byte| format!("{byte:02x}")).collect();
        format!("{kind} {digest}")
    }

    /// Whether somebody can have mail there (RFC 5321, section 4.1.2).
    #[must_use]
    pub fn is_mail_address(text: &str) -> bool {
        text.parse::<lettre::Address>().is_ok()
    }

    /// Whether it wants to hear what lasts again and again.
    pub(super) fn hears_again(&self) -> bool {
        matches!(self, Self::Alertmanager { .. })
    }

    /// Delivers one message.
    ///
    /// # Errors
    /// If it was not taken.
    ///
    /// # Cancel safety
    /// The message may have been delivered.
    pub async fn deliver(&self, message: &Message) -> Result<(), SinkError> {
        let delivered = async {
            match self {
                Self::Slack { url } => post(url, slack(message)).await,
                Self::Webhook { url } => {
                    let value = serde_json::to_value(message).map_err(SinkError::lasting)?;
                    post(url, value).await
                }
                Self::Ntfy { url } => ntfy(url, message).await,
                Self::Alertmanager { url } => {
                    let url = format!("{}/api/v2/alerts", url.trim_end_matches('/'));
                    post(&url, alertmanager(message)).await
                }
                Self::Email { to, from, smtp } => mail((to, from), smtp, message).await,
                Self::Exec { program } => {
                    let text = serde_json::to_vec(message).map_err(SinkError::lasting)?;
                    let variables = [
                        ("IPRECONNECT_ALERT", message.kind.as_str()),
                        ("IPRECONNECT_SEVERITY", message.severity.as_str()),
                        ("IPRECONNECT_TITLE", message.title.as_str()),
                        ("IPRECONNECT_INSTANCE", message.instance.as_str()),
                    ];
                    execute(program, &variables, &text).await
                }
            }
        };
        match tokio::time::timeout(PATIENCE, delivered).await {
            Ok(delivered) => delivered,
            Err(_) => Err(SinkError::passing(format!("no answer within {PATIENCE:?}"))),
        }
    }
}

/// One way out, and what waits for it.
pub(super) struct Delivery {
    pub(super) sink: Sink,
    pub(super) outbox: Outbox,
    pub(super) rung: Arc<Notify>,
}

impl Delivery {
    /// Delivers one message after the other, each until it was taken.
    pub(super) async fn run(self) {
        let name = self.sink.name();
        let mut is_failing = false;
        let mut again = clock::now();
        loop {
            let rung = self.rung.notified();
            if let Some((id, message)) = self.outbox.first(&name) {
                self.insist(&message, &mut is_failing).await;
                self.outbox.done(&name, id);
                continue;
            }
            if clock::now() >= again
                && let Some(reminder) = self.outbox.take_reminder(&name)
            {
                // Another one follows soon: this one is not insisted upon.
                let delivered = self.sink.deliver(&reminder).await;
                self.tell(&delivered, &mut is_failing);
                again = clock::now() + AGAIN;
                continue;
            }
            rung.await;
        }
    }

    /// Tries until it is taken, or refused for good.
    async fn insist(&self, message: &Message, is_failing: &mut bool) {
        let mut pause = FIRST;
        let began = clock::now();
        loop {
            let delivered = self.sink.deliver(message).await;
            self.tell(&delivered, is_failing);
            match delivered {
                Ok(()) => return,
                Err(error) => {
                    let most = if error.is_final { REFUSED } else { FAILED };
                    if clock::now().saturating_duration_since(began) >= most {
                        tracing::error!(
                            sink = %self.sink, %error, alert = message.title,
                            "an alert is given up: it was not taken for too long"
                        );
                        return;
                    }
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LAST);
        }
    }

    fn tell(&self, delivered: &Result<(), SinkError>, is_failing: &mut bool) {
        match delivered {
            Ok(()) if std::mem::take(is_failing) => {
                tracing::info!(sink = %self.sink, "alerts are delivered again");
            }
            Err(error) if !std::mem::replace(is_failing, true) => tracing::error!(
                sink = %self.sink, %error,
                advice = "`ipreconnect alerts test` tries it; what waits is kept, and tried again",
                "an alert cannot be delivered"
            ),
            Ok(()) | Err(_) => {}
        }
    }
}

/// What Slack reads: the text, with its own signs made harmless.
fn slack(message: &Message) -> Value {
    let escaped = |text: &str| {
        text.replace('&', "&amp;")
            .replace('<', "&lt;")
            .replace('>', "&gt;")
    };
    let mark = match message.kind.as_str() {
        "resolved" => ":white_check_mark:",
        "test" => ":information_source:",
        _ if message.severity == "critical" => ":red_circle:",
        _ => ":warning:",
    };
    let text = format!(
        "{mark} *{}*\n{}",
        escaped(&message.title),
        escaped(&message.text())
    );
    json!({ "text": text })
}

/// What Alertmanager reads (API v2, `postableAlerts`).
fn alertmanager(message: &Message) -> Value {
    let alert = |item: &MessageItem| {
        let ends = if item.is_on {
            clock::since_unix() + FORGET
        } else {
            clock::since_unix()
        };
        json!({
            "labels": {
                "alertname": item.kind,
                "origin": item.subject,
                "severity": item.severity,
                "instance": message.instance,
                "job": "ipreconnect",
            },
            "annotations": { "summary": item.summary, "description": item.advice },
            "startsAt": item.since,
            "endsAt": rfc3339(millis(ends)),
        })
    };
    if message.items.is_empty() {
        // A test is over as soon as it is told.
        let now = &message.time;
        return json!([{
            "labels": { "alertname": "test", "severity": "none", "instance": message.instance, "job": "ipreconnect" },
            "annotations": { "summary": message.title },
            "startsAt": now,
            "endsAt": rfc3339(millis(clock::since_unix() + AGAIN)),
        }]);
    }
    Value::Array(message.items.iter().map(alert).collect())
}

async fn ntfy(url: &str, message: &Message) -> Result<(), SinkError> {
    let (priority, tags) = match message.severity.as_str() {
        _ if message.is_good() => ("default", "white_check_mark"),
        "critical" => ("urgent", "rotating_light"),
        _ => ("high", "warning"),
    };
    // Fields of HTTP are of one line and of ASCII.
    let title: String = message
        .title
        .chars()
        .map(|character| match character {
            ' '..='~' => character,
            _ => '?',
        })
        .collect();
    let request = Request::builder()
        .method(Method::POST)
        .uri(url)
        .header("title", title)
        .header("priority", priority)
        .header("tags", tags)
        .body(Full::new(Bytes::from(message.text())));
    send(request).await
}

/// Posts JSON.
pub(super) async fn post(url: &str, value: Value) -> Result<(), SinkError> {
    let request = Request::builder()
        .method(Method::POST)
        .uri(url)
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(value.to_string())));
    send(request).await
}

async fn send(request: Result<Request<Full<Bytes>>, hyper::http::Error>) -> Result<(), SinkError> {
    let mut request = request.map_err(SinkError::lasting)?;
    let user = concat!("ipreconnect/", env!("CARGO_PKG_VERSION"));
    let agent = header::HeaderValue::from_static(user);
    request.headers_mut().insert(header::USER_AGENT, agent);
    let path = request.uri().path_and_query();
    let path = path.map(|path| path.as_str().trim_matches('/').to_owned());
    let path = path
        .filter(|path| !path.is_empty())
        .unwrap_or_else(|| "\u{0}".to_owned());
    let answer = client()?.request(request).await;
    let answer = answer.map_err(|error| SinkError::passing(told(&error)))?;
    let status = answer.status();
    if status.is_success() {
        return Ok(());
    }
    if status.is_redirection() {
        // It might lead anywhere, into the network behind us, too.
        let place = answer.headers().get(header::LOCATION);
        let place = place
            .and_then(|place| place.to_str().ok())
            .unwrap_or("elsewhere");
        return Err(SinkError::lasting(format!(
            "it redirects to {place}, which is not followed: write the right address"
        )));
    }
    let said = Limited::new(answer.into_body(), ANSWER).collect().await;
    let said = said
        .map(http_body_util::Collected::to_bytes)
        .unwrap_or_default();
    let said = String::from_utf8_lossy(&said);
    // It may say again what was secret in the path.
    let said = said.lines().next().unwrap_or_default().replace(&path, "…");
    let said: String = said
        .chars()
        .filter(|one| !one.is_control())
        .take(SAID)
        .collect();
    let why = format!("{status}: {said}");
    let is_final = status.is_client_error()
        && !matches!(
            status,
            StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT
        );
    Err(SinkError { why, is_final })
}

/// The innermost reason says most.
fn told(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

fn client() -> Result<Client<HttpsConnector<HttpConnector>, Full<Bytes>>, SinkError> {
    let builder = HttpsConnectorBuilder::new().with_native_roots();
    let builder = builder.map_err(|error| SinkError::passing(format!("no roots: {error}")))?;
    let connector = builder.https_or_http().enable_http1().build();
    Ok(Client::builder(TokioExecutor::new()).build(connector))
}

async fn mail((to, from): (&str, &str), smtp: &str, message: &Message) -> Result<(), SinkError> {
    let subject: String = message
        .title
        .chars()
        .filter(|one| !one.is_control())
        .collect();
    let letter = lettre::Message::builder()
        .to(to
            .parse()
            .map_err(|error| SinkError::lasting(format!("{to:?}: {error}")))?)
        .from(
            from.parse()
                .map_err(|error| SinkError::lasting(format!("{from:?}: {error}")))?,
        )
        .subject(format!("[{}] {subject}", message.instance))
        .header(ContentType::TEXT_PLAIN)
        .body(message.text())
        .map_err(SinkError::lasting)?;
    let transport = AsyncSmtpTransport::<Tokio1Executor>::from_url(smtp);
    let transport = transport.map_err(SinkError::lasting)?;
    let transport = transport.timeout(Some(PATIENCE)).build();
    let sent = transport.send(letter).await;
    sent.map(drop).map_err(|error| SinkError {
        is_final: error.is_permanent(),
        why: told(&error),
    })
}

/// Runs a command that gets `text` on its standard input.
pub(super) async fn execute(
    program: &Path,
    variables: &[(&str, &str)],
    text: &[u8],
) -> Result<(), SinkError> {
    let mut child = Command::new(program)
        .envs(variables.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| match error.kind() {
            std::io::ErrorKind::InvalidInput => SinkError::lasting(error),
            _ => SinkError::passing(error),
        })?;
    // What it has started ends with it, if it is not waited for.
    let group = child
        .id()
        .and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
    let mut group = Group(group);
    if let Some(mut input) = child.stdin.take() {
        // A command need not read it.
        let _ = input.write_all(text).await;
    }
    let status = child.wait().await.map_err(SinkError::passing)?;
    group.0 = None;
    if status.success() {
        Ok(())
    } else {
        Err(SinkError::passing(format!(
            "the command ended with {status}"
        )))
    }
}

/// The processes of a command, which end when this is dropped.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // They may have ended by themselves.
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
    }
}

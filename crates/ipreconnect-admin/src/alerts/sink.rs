//! Ways to people: webhooks, ntfy, Alertmanager, e-mail, a command.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::{Method, Request, header};
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
use crate::post::{Undelivered, poster, send, told};

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
    pub async fn deliver(&self, message: &Message) -> Result<(), Undelivered> {
        let delivered = async {
            match self {
                Self::Slack { url } => post(url, slack(message)).await,
                Self::Webhook { url } => {
                    let value = serde_json::to_value(message).map_err(Undelivered::lasting)?;
                    post(url, value).await
                }
                Self::Ntfy { url } => ntfy(url, message).await,
                Self::Alertmanager { url } => {
                    let url = format!("{}/api/v2/alerts", url.trim_end_matches('/'));
                    post(&url, alertmanager(message)).await
                }
                Self::Email { to, from, smtp } => mail((to, from), smtp, message).await,
                Self::Exec { program } => {
                    let text = serde_json::to_vec(message).map_err(Undelivered::lasting)?;
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
            Err(_) => Err(Undelivered::passing(format!(
                "no answer within {PATIENCE:?}"
            ))),
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

    fn tell(&self, delivered: &Result<(), Undelivered>, is_failing: &mut bool) {
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

async fn ntfy(url: &str, message: &Message) -> Result<(), Undelivered> {
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
    send(&poster()?, request).await
}

/// Posts JSON.
pub(super) async fn post(url: &str, value: Value) -> Result<(), Undelivered> {
    let request = Request::builder()
        .method(Method::POST)
        .uri(url)
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(value.to_string())));
    send(&poster()?, request).await
}

async fn mail((to, from): (&str, &str), smtp: &str, message: &Message) -> Result<(), Undelivered> {
    let subject: String = message
        .title
        .chars()
        .filter(|one| !one.is_control())
        .collect();
    let letter = lettre::Message::builder()
        .to(to
            .parse()
            .map_err(|error| Undelivered::lasting(format!("{to:?}: {error}")))?)
        .from(
            from.parse()
                .map_err(|error| Undelivered::lasting(format!("{from:?}: {error}")))?,
        )
        .subject(format!("[{}] {subject}", message.instance))
        .header(ContentType::TEXT_PLAIN)
        .body(message.text())
        .map_err(Undelivered::lasting)?;
    let transport = AsyncSmtpTransport::<Tokio1Executor>::from_url(smtp);
    let transport = transport.map_err(Undelivered::lasting)?;
    let transport = transport.timeout(Some(PATIENCE)).build();
    let sent = transport.send(letter).await;
    sent.map(drop).map_err(|error| Undelivered {
        is_final: error.is_permanent(),
        status: None,
        why: told(&error),
    })
}

/// Runs a command that gets `text` on its standard input.
pub(super) async fn execute(
    program: &Path,
    variables: &[(&str, &str)],
    text: &[u8],
) -> Result<(), Undelivered> {
    let mut child = Command::new(program)
        .envs(variables.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| match error.kind() {
            std::io::ErrorKind::InvalidInput => Undelivered::lasting(error),
            _ => Undelivered::passing(error),
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
    let status = child.wait().await.map_err(Undelivered::passing)?;
    group.0 = None;
    if status.success() {
        Ok(())
    } else {
        Err(Undelivered::passing(format!(
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

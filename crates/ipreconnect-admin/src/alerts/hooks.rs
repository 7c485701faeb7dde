//! What is done when an origin is lost, and when it is back: a command or a URL of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ipreconnect::core::locality::Blame;
use ipreconnect::core::origin::{Notice, Phase};
use ipreconnect::{News, Witness, clock};
use serde::Serialize;
use tokio::sync::mpsc;

use super::sink::{execute, post};
use crate::moment::{millis, rfc3339};

/// Calls that wait for one origin; a hook that hangs loses those beyond.
const WAITING: usize = 16;
/// For one call.
const PATIENCE: Duration = Duration::from_secs(30);

/// One thing to do.
#[derive(Clone, PartialEq, Eq)]
pub enum Hook {
    /// A command, which gets the facts in variables, and as JSON on its standard input.
    Exec {
        /// The program.
        program: PathBuf,
    },
    /// A URL that the facts are posted to, as JSON. Redirects are not followed.
    Webhook {
        /// Where to.
        url: String,
    },
}

/// Secrets are in URLs.
impl std::fmt::Debug for Hook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exec { program } => write!(f, "command {}", program.display()),
            Self::Webhook { .. } => f.write_str("webhook"),
        }
    }
}

/// The hooks of one origin.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HookPlan {
    /// When it is down.
    pub down: Option<Hook>,
    /// When it is up again.
    pub up: Option<Hook>,
}

/// The hooks of all origins. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Hooks {
    plans: Arc<Mutex<BTreeMap<String, HookPlan>>>,
    /// Origins that were down, and were not up since.
    lost: Arc<Mutex<BTreeSet<Arc<str>>>>,
    calls: mpsc::Sender<Call>,
}

#[derive(Debug)]
struct Call {
    hook: Hook,
    event: Event,
}

/// What a hook is told.
#[derive(Clone, Debug, Serialize)]
struct Event {
    schema: u32,
    /// `down` or `up`.
    event: &'static str,
    origin: String,
    time: String,
    layer: Option<String>,
    cause: Option<String>,
    advice: Option<String>,
    /// `origin` or `own network`.
    blame: &'static str,
    /// For how long it was in the phase before.
    lasted_ms: u64,
}

impl Hooks {
    /// Begins to call, in a thread of its own.
    ///
    /// # Errors
    /// If there can be no thread.
    pub fn begin(plans: BTreeMap<String, HookPlan>) -> io::Result<Self> {
        let (calls, called) = mpsc::channel(WAITING * 64);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        std::thread::Builder::new()
            .name("hooks".to_owned())
            .spawn(move || runtime.block_on(attend(called)))?;
        Ok(Self {
            plans: Arc::new(Mutex::new(plans)),
            lost: Arc::default(),
            calls,
        })
    }

    /// Goes by other plans from now on.
    pub fn change(&self, plans: BTreeMap<String, HookPlan>) {
        *self.plans.lock().unwrap_or_else(PoisonError::into_inner) = plans;
    }
}

impl Witness for Hooks {
    fn hear(&self, news: &News<'_>) {
        let Notice::Phase {
            to,
            lasted,
            failure,
            ..
        } = news.notice
        else {
            return;
        };
        let mut lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
        // Between both it may be looked for anew.
        let event = match to {
            Phase::Down if lost.insert(Arc::clone(news.origin)) => "down",
            Phase::Up | Phase::Suspect | Phase::Draining if lost.remove(news.origin) => "up",
            _ => return,
        };
        drop(lost);
        let plans = self.plans.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(plan) = plans.get(&**news.origin) else {
            return;
        };
        let hook = if event == "down" {
            &plan.down
        } else {
            &plan.up
        };
        let Some(hook) = hook.clone() else {
            return;
        };
        drop(plans);
        let failure = failure.as_ref().filter(|_| event == "down");
        let call = Call {
            hook,
            event: Event {
                schema: 1,
                event,
                origin: news.origin.to_string(),
                time: rfc3339(millis(clock::since_unix())),
                layer: failure.map(|failure| failure.layer().to_string()),
                cause: failure.map(ToString::to_string),
                advice: failure.map(|failure| failure.cause.advice().to_owned()),
                blame: match news.blame {
                    Blame::Origin => "origin",
                    Blame::OwnNetwork => "own network",
                },
                lasted_ms: millis(*lasted),
            },
        };
        if let Err(error) = self.calls.try_send(call) {
            tracing::error!(origin = %news.origin, %error, "a hook is not called: too many wait");
        }
    }
}

/// Calls the hooks of each origin one after the other, and those of several at once.
async fn attend(mut calls: mpsc::Receiver<Call>) {
    let mut lines: BTreeMap<String, mpsc::Sender<Call>> = BTreeMap::new();
    while let Some(call) = calls.recv().await {
        lines.retain(|_, line| !line.is_closed());
        let origin = call.event.origin.clone();
        let line = lines.entry(origin.clone()).or_insert_with(|| {
            let (line, called) = mpsc::channel(WAITING);
            tokio::spawn(serve(called));
            line
        });
        if line.try_send(call).is_err() {
            tracing::error!(origin, "a hook is not called: those before have not ended");
        }
    }
}

async fn serve(mut calls: mpsc::Receiver<Call>) {
    while let Some(Call { hook, event }) = calls.recv().await {
        let called = async {
            match &hook {
                Hook::Exec { program } => {
                    let text = serde_json::to_vec(&event).unwrap_or_default();
                    let lasted = event.lasted_ms.to_string();
                    let or_empty = |text: &Option<String>| text.clone().unwrap_or_default();
                    let (layer, cause) = (or_empty(&event.layer), or_empty(&event.cause));
                    let variables = [
                        ("IPRECONNECT_EVENT", event.event),
                        ("IPRECONNECT_ORIGIN", event.origin.as_str()),
                        ("IPRECONNECT_LAYER", layer.as_str()),
                        ("IPRECONNECT_CAUSE", cause.as_str()),
                        ("IPRECONNECT_BLAME", event.blame),
                        ("IPRECONNECT_LASTED_MS", lasted.as_str()),
                    ];
                    execute(program, &variables, &text).await
                }
                Hook::Webhook { url } => {
                    let value = serde_json::to_value(&event).unwrap_or_default();
                    post(url, value).await
                }
            }
        };
        let why = match tokio::time::timeout(PATIENCE, called).await {
            Ok(Ok(())) => continue,
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("it has not ended within {PATIENCE:?}, and was stopped"),
        };
        tracing::error!(
            origin = event.origin,
            event = event.event,
            why,
            "a hook has failed"
        );
    }
}

//! `run`: start, wait for signals and reloads, drain.

use std::future::{Future, pending};
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ipreconnect::Witness;
use ipreconnect_admin::{Alerts, Api, Gateway, Hooks, Ledger};
use tokio::signal::unix::{Signal, SignalKind};
use tokio::sync::mpsc;

use super::Running;
use super::board::Board;
use super::desk::{Desk, Reload};
use super::guard::OnDuty;
use super::notify;
use super::tap::Taps;
use crate::admin::door::Door;
use crate::admin::view::{Outcome, SCHEMA};
use crate::child::{heard, listen, raise_files};
use crate::config::{
    Change, Loaded, Mistakes, Stamps, refreshed, stamps_of_kept_ports, stamps_of_keys,
    with_kept_ports,
};
use crate::exit::{Exit, Refusal};
use crate::log::Log;
use crate::state::StateDirectory;

/// Between two looks at the files of the configuration.
const WATCH: Duration = Duration::from_millis(500);
/// Reloads that may wait for their turn.
const RELOADS: usize = 16;

/// Reads the configuration again, from a place or from where it was first found.
pub(crate) type Load = Box<dyn Fn(Option<&Path>) -> Result<Loaded, Mistakes>>;

/// What goes on beside a gateway, and ends it when it is over.
pub(crate) type Beside = Box<dyn FnOnce(Arc<Board>) -> Pin<Box<dyn Future<Output = Exit>>>>;

/// What `run` was asked to do.
pub(crate) struct Order {
    /// Its state directory, where that is open already.
    pub(crate) state: Option<StateDirectory>,
    pub(crate) loaded: Loaded,
    /// Reads the configuration again, from where it was read before.
    pub(crate) load: Load,
    pub(crate) watch: Watch,
    pub(crate) log: Log,
    /// What it is run for; without it a signal ends it. It sees to SIGTERM and SIGINT itself.
    pub(crate) beside: Option<Beside>,
}

/// Whether the files are watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Watch {
    No,
    Files,
}

/// Runs the gateway until a signal ends it.
pub(crate) fn serve(mut order: Order) -> Result<Exit, Refusal> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Refusal::new(Exit::Wrong, "cannot start").because(&error))?;
    let state = match order.state.take() {
        Some(state) => state,
        None => StateDirectory::open(&order.loaded.plan.gateway.state_dir)?,
    };
    let plan = order.loaded.plan.clone();
    let passed = notify::passed()?;
    let door = Door::open(&plan.gateway)?;
    let ledger = Ledger::begin(state.path());
    let hooks = begin(Hooks::begin(plan.hooks()))?;
    let witnesses: Vec<Arc<dyn Witness>> =
        vec![Arc::new(hooks.clone()), Arc::new(ledger.ledger().clone())];
    let witness: Arc<dyn Witness> = Arc::new(witnesses);
    let store = Some(state.store());
    let running = Running::start(plan.clone(), raise_files(), store, Some(witness), passed)?;
    let guard = begin(OnDuty::begin(
        plan.guard.clone(),
        state.path(),
        ledger.ledger().clone(),
    ))?;
    let (reloads, asked) = mpsc::channel(RELOADS);
    let stale = Arc::default();
    let desk = Desk {
        board: Arc::clone(&running.board),
        reloads,
        surroundings: running.surroundings().clone(),
        stale: Arc::clone(&stale),
        taps: Taps::default(),
        inventories: Arc::default(),
        guarding: guard.guarding(),
    };
    let desk: Arc<dyn Gateway> = Arc::new(desk);
    let ledger = begin(ledger.run(Arc::clone(&desk)))?;
    let alerts = plan.alerts.clone();
    let alerts = Alerts::begin(state.path(), alerts, Arc::clone(&desk), ledger.clone());
    let alerts = begin(alerts)?;
    let api = Api::new(desk, ledger.clone(), order.log.events());
    begin(door.serve(api, running.pages(), state.path()))?;
    tracing::info!(
        state = %state.path().display(),
        admin = %plan.gateway.admin.display(),
        workers = plan.gateway.workers,
        "ipreconnect {} runs", env!("CARGO_PKG_VERSION")
    );
    let beside = order.beside.take();
    let board = Arc::clone(&running.board);
    let exit = runtime.block_on(async {
        let is_alone = beside.is_none();
        let beside = beside.map(|begin| begin(board));
        Ok::<_, Refusal>(
            Loop::new(
                running,
                order,
                asked,
                (alerts, hooks, guard),
                stale,
                is_alone,
            )?
            .run(beside)
            .await,
        )
    })?;
    ledger.end();
    // A socket that is gone already needs no removal.
    let _ = std::fs::remove_file(&plan.gateway.admin);
    Ok(exit)
}

fn begin<T>(begun: std::io::Result<T>) -> Result<T, Refusal> {
    begun.map_err(|error| Refusal::new(Exit::Wrong, "cannot start").because(&error))
}

struct Loop {
    running: Running,
    order: Order,
    asked: mpsc::Receiver<Reload>,
    alerts: Alerts,
    hooks: Hooks,
    guard: OnDuty,
    /// Why a changed configuration is not in force.
    stale: Arc<Mutex<Option<String>>>,
    hangup: Option<Signal>,
    terminate: Option<Signal>,
    interrupt: Option<Signal>,
    stamps: Stamps,
    /// The files of certificates and keys, as they were when they were read.
    keys: Stamps,
    /// The same, as they were at the last look: a change is taken when it has settled.
    keys_seen: Stamps,
    /// The same of the file of kept ports, where a listener leads there.
    kept: Stamps,
    /// Why they are not led to, as it was told.
    kept_failed: Option<String>,
}

impl Loop {
    fn new(
        running: Running,
        order: Order,
        asked: mpsc::Receiver<Reload>,
        (alerts, hooks, guard): (Alerts, Hooks, OnDuty),
        stale: Arc<Mutex<Option<String>>>,
        is_alone: bool,
    ) -> Result<Self, Refusal> {
        let listen = |kind| {
            listen(kind).map_err(|error| {
                Refusal::new(Exit::Wrong, "cannot listen to signals").because(&error)
            })
        };
        let hangup = match is_alone {
            true => listen(SignalKind::hangup())?,
            // What goes on beside sees to that.
            false => None,
        };
        Ok(Self {
            hangup,
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            stamps: stamps(&order.loaded),
            keys: stamps_of_keys(running.plan()),
            keys_seen: Stamps::default(),
            // The first look reads it: it may have changed since it was read.
            kept: Stamps::default(),
            kept_failed: None,
            running,
            order,
            asked,
            alerts,
            hooks,
            guard,
            stale,
        })
    }

    async fn run(mut self, beside: Option<Pin<Box<dyn Future<Output = Exit>>>>) -> Exit {
        let is_alone = beside.is_none();
        let mut beside = beside.unwrap_or_else(|| Box::pin(pending()));
        let mut watch = tokio::time::interval(WATCH);
        let mut alive = notify::watchdog();
        notify::ready();
        let exit = loop {
            tokio::select! {
                () = notify::bark(&mut alive) => {}
                exit = &mut beside => break exit,
                // What goes on beside sees to them itself.
                () = heard(&mut self.terminate) => if is_alone { break Exit::Fine },
                () = heard(&mut self.interrupt) => if is_alone { break Exit::Fine },
                () = heard(&mut self.hangup) => {
                    self.reload("SIGHUP").await;
                }
                Some(reply) = self.asked.recv() => {
                    let outcome = self.reload("reload").await;
                    // Who asked may have gone away; the reload stays.
                    let _ = reply.send(outcome);
                }
                _ = watch.tick() => self.look().await,
            }
        };
        notify::stopping();
        tracing::info!("draining: no new clients; a second signal ends at once");
        tokio::select! {
            cut = self.running.drain() => {
                if cut > 0 {
                    tracing::warn!(clients = cut, "clients were cut when the grace was over");
                }
                tracing::info!("ended");
                exit
            }
            () = heard(&mut self.terminate) => exit,
            () = heard(&mut self.interrupt) => exit,
        }
    }

    async fn look(&mut self) {
        if self.order.watch == Watch::Files && stamps(&self.order.loaded) != self.stamps {
            self.reload("a changed file").await;
        }
        self.running.look_inside();
        let keys = stamps_of_keys(self.running.plan());
        if keys != self.keys && keys == self.keys_seen {
            self.keys = keys.clone();
            self.read_keys_again().await;
        }
        self.keys_seen = keys;
        let kept = stamps_of_kept_ports(self.running.plan());
        if kept != self.kept && self.lead_to_kept_ports().await {
            self.kept = kept;
        }
    }

    /// A port was kept, or given back; all else stays as it is. Returns whether that is done.
    async fn lead_to_kept_ports(&mut self) -> bool {
        let failed = match with_kept_ports(self.running.plan()) {
            Err(error) => format!("they cannot be read: {error}"),
            Ok(plan) => match self.running.apply(plan).await {
                Ok(changes) => {
                    if !changes.is_empty() {
                        let lines: Vec<String> = changes.iter().map(ToString::to_string).collect();
                        tracing::info!("kept ports have changed: {}", lines.join(", "));
                    }
                    self.kept_failed = None;
                    return true;
                }
                Err(refusal) => refusal.to_string(),
            },
        };
        if self.kept_failed.as_ref() != Some(&failed) {
            tracing::error!(why = %failed, next = "it is tried again twice a second", "kept ports have changed, and listeners lead to those that they led to");
            self.kept_failed = Some(failed);
        }
        false
    }

    /// A certificate or a key was replaced; all else stays as it is.
    async fn read_keys_again(&mut self) {
        let (plan, wrong) = refreshed(self.running.plan());
        for why in wrong {
            tracing::error!(
                %why,
                advice = "put a sound file in its place; it is read again by itself",
                "a changed certificate or key cannot be used; the one before stays in use"
            );
        }
        match self.running.apply(plan).await {
            Ok(changes) if changes.is_empty() => {}
            Ok(changes) => {
                let lines: Vec<String> = changes.iter().map(ToString::to_string).collect();
                tracing::info!("certificates or keys were replaced: {}", lines.join(", "));
            }
            Err(refusal) => {
                tracing::error!("changed certificates are not used, those before stay: {refusal}");
            }
        }
    }

    async fn reload(&mut self, why: &str) -> Outcome {
        notify::reloading();
        let outcome = self.load_again(why).await;
        let stale = (!outcome.done).then(|| outcome.messages.join("; "));
        *self.stale.lock().unwrap_or_else(PoisonError::into_inner) = stale;
        notify::ready();
        outcome
    }

    async fn load_again(&mut self, why: &str) -> Outcome {
        // Before the files are read: what changes meanwhile is seen by the next look.
        self.stamps = stamps(&self.order.loaded);
        self.kept = stamps_of_kept_ports(self.running.plan());
        let loaded = match (self.order.load)(self.order.loaded.place.as_deref()) {
            Ok(loaded) => loaded,
            Err(mistakes) => {
                // Not as they are drawn: the lines around may have what is secret.
                let lines = mistakes.lines().join("\n");
                tracing::error!(
                    "not reloaded after {why}: the configuration has errors, everything stays as it was\n{lines}"
                );
                return outcome(false, mistakes.lines());
            }
        };
        let log = loaded.plan.log.clone();
        match self.running.apply(loaded.plan.clone()).await {
            Ok(changes) => {
                let otlp = loaded.plan.otlp.as_ref();
                if changes.contains(&Change::LogChanged) {
                    self.order.log.change(&log, otlp);
                }
                if changes.contains(&Change::TracesChanged) {
                    self.running.trace(otlp);
                }
                if changes.contains(&Change::AlertsChanged) {
                    self.alerts.change(loaded.plan.alerts.clone());
                }
                if changes.contains(&Change::GuardChanged) {
                    self.guard.change(loaded.plan.guard.clone());
                }
                self.hooks.change(loaded.plan.hooks());
                // Whoever rotates it moves it away, and has it opened again.
                self.running.open_access_log(&log);
                for warning in loaded.warning_lines() {
                    tracing::warn!(warning, "the configuration that was reloaded");
                }
                self.order.loaded = loaded;
                self.keys = stamps_of_keys(self.running.plan());
                let lines: Vec<String> = changes.iter().map(ToString::to_string).collect();
                let told = if lines.is_empty() {
                    "nothing changed".to_owned()
                } else {
                    lines.join(", ")
                };
                tracing::info!(
                    why,
                    origins = self.running.plan().origins.len(),
                    "reloaded: {told}"
                );
                outcome(true, if lines.is_empty() { vec![told] } else { lines })
            }
            Err(refusal) => {
                tracing::error!(why, "not reloaded, everything stays as it was: {refusal}");
                outcome(false, vec![refusal.to_string()])
            }
        }
    }
}

fn outcome(done: bool, messages: Vec<String>) -> Outcome {
    Outcome {
        schema: SCHEMA,
        done,
        messages,
    }
}

/// Of the configuration, and of the rules that it names.
fn stamps(loaded: &Loaded) -> Stamps {
    let Some(place) = loaded.place.as_deref() else {
        return Stamps::default();
    };
    let listeners = loaded.plan.listeners.values();
    Stamps::of(
        place,
        listeners.flat_map(|listener| listener.rule_files.iter().cloned()),
    )
}

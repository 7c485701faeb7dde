//! What all origins of a process share: the network around them, sleep, and whose fault it is when
//! everything fails at once.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ipreconnect_core::address::Address;
use ipreconnect_core::failure::Failure;
use ipreconnect_core::locality::{Blame, Locality, Reach};
use tokio::runtime::Handle;
use tokio::sync::broadcast;

use crate::clock;
use crate::resolve::{DnsSettings, Names};
use crate::sense::network::NetworkWatch;
use crate::sense::wake::SleepWatch;
use crate::task::Task;
use crate::witness::Witness;

/// Between two looks at the clocks.
const SLEEP_CHECK: Duration = Duration::from_secs(1);
/// Changes of the network come in flurries; one signal tells a flurry. Where they never end, as beside
/// containers that come and go, signals become as rare as the last.
const FLURRY_FIRST: Duration = Duration::from_millis(100);
const FLURRY_LAST: Duration = Duration::from_secs(5);

/// Something that happened to the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Its addresses, links or routes changed.
    NetworkChanged,
    /// It woke from sleep.
    Resumed,
}

/// Watches what is around all origins of a process. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Surroundings(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    signals: broadcast::Sender<Signal>,
    locality: Mutex<Locality>,
    next: AtomicU32,
    names: Names,
    witness: Option<Arc<dyn Witness>>,
    _tasks: Vec<Task>,
}

impl Surroundings {
    /// Begins to watch, with tasks on `runtime`. Names are resolved by the system, and nothing is kept
    /// of them between two runs.
    #[must_use]
    pub fn watch(runtime: &Handle) -> Self {
        let names = Names::start(runtime, DnsSettings::default(), None);
        Self::with_names(runtime, names)
    }

    /// Begins to watch, with tasks on `runtime`. Names are looked up by `names`.
    #[must_use]
    pub fn with_names(runtime: &Handle, names: Names) -> Self {
        Self::witnessed(runtime, names, None)
    }

    /// The same; `witness` hears what is told of every origin.
    #[must_use]
    pub fn witnessed(runtime: &Handle, names: Names, witness: Option<Arc<dyn Witness>>) -> Self {
        let (signals, heard) = broadcast::channel(16);
        let tasks = vec![
            Task::spawn(runtime, "network watch", watch_network(signals.clone())),
            Task::spawn(runtime, "sleep watch", watch_sleep(signals.clone())),
            Task::spawn(runtime, "names watch", tell_names(names.clone(), heard)),
        ];
        Self(Arc::new(Shared {
            signals,
            locality: Mutex::new(Locality::default()),
            next: AtomicU32::new(0),
            names,
            witness,
            _tasks: tasks,
        }))
    }

    /// Tells all origins that the machine's network changed, or that it slept, where this library
    /// cannot see it by itself.
    pub fn signal(&self, signal: Signal) {
        // Without any origin there is nobody to tell.
        let _ = self.0.signals.send(signal);
    }

    /// What looks names up for all origins.
    #[must_use]
    pub fn names(&self) -> &Names {
        &self.0.names
    }

    /// Whose fault it is that an origin fails, as far as can be told.
    #[must_use]
    pub fn blame(&self) -> Blame {
        self.locality().blame()
    }

    pub(crate) fn subscribe(&self) -> broadcast::Receiver<Signal> {
        self.0.signals.subscribe()
    }

    pub(crate) fn enter(&self) -> Resident {
        Resident {
            id: self.0.next.fetch_add(1, Relaxed),
            surroundings: self.clone(),
        }
    }

    fn locality(&self) -> std::sync::MutexGuard<'_, Locality> {
        self.0
            .locality
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// One origin among the others.
#[derive(Debug)]
pub(crate) struct Resident {
    id: u32,
    surroundings: Surroundings,
}

impl Resident {
    pub(crate) fn names(&self) -> Names {
        self.surroundings.names().clone()
    }

    pub(crate) fn subscribe(&self) -> broadcast::Receiver<Signal> {
        self.surroundings.subscribe()
    }

    /// Nothing of the origin can be reached.
    pub(crate) fn failed(&self, reach: Reach, failure: &Failure) {
        let mut locality = self.surroundings.locality();
        locality.failed(clock::now(), self.id, failure.layer(), reach);
    }

    /// Some of it can.
    pub(crate) fn worked(&self, reach: Reach) {
        self.surroundings.locality().worked(self.id, reach);
    }

    /// It says nothing about the network.
    pub(crate) fn is_silent(&self) {
        self.surroundings.locality().silent(self.id);
    }

    pub(crate) fn blame(&self) -> Blame {
        self.surroundings.blame()
    }

    /// Whose fault it is that a server at this address fails.
    pub(crate) fn blame_for(&self, address: &Address, failure: &Failure) -> Blame {
        let reach = reach(std::iter::once(address));
        let locality = self.surroundings.locality();
        locality.blame_for(clock::now(), self.id, failure.layer(), reach)
    }

    pub(crate) fn witness(&self) -> Option<&dyn Witness> {
        self.surroundings.0.witness.as_deref()
    }
}

impl Drop for Resident {
    fn drop(&mut self) {
        self.surroundings.locality().remove(self.id);
    }
}

/// How far some of these addresses are, at most; without any nothing can be said about the network.
pub(crate) fn reach<'a>(mut addresses: impl Iterator<Item = &'a Address>) -> Reach {
    if addresses.any(|address| !address.is_local()) {
        Reach::Remote
    } else {
        Reach::Local
    }
}

/// A machine that gives no netlink socket is not watched; origins heal by their schedule then.
async fn watch_network(signals: broadcast::Sender<Signal>) {
    let watch = match NetworkWatch::new() {
        Ok(watch) => watch,
        Err(error) => {
            tracing::debug!(%error, "changes of the network cannot be watched here");
            return;
        }
    };
    let mut pause = FLURRY_FIRST;
    let mut told = None;
    while watch.changed().await.is_ok() {
        let now = clock::now();
        let goes_on = told.is_some_and(|told| now.saturating_duration_since(told) < pause * 2);
        pause = if goes_on {
            (pause * 2).min(FLURRY_LAST)
        } else {
            FLURRY_FIRST
        };
        told = Some(now);
        // Without any origin there is nobody to tell.
        let _ = signals.send(Signal::NetworkChanged);
        tokio::time::sleep(pause).await;
    }
}

async fn tell_names(names: Names, mut signals: broadcast::Receiver<Signal>) {
    while !matches!(
        signals.recv().await,
        Err(broadcast::error::RecvError::Closed)
    ) {
        names.begin_again();
    }
}

async fn watch_sleep(signals: broadcast::Sender<Signal>) {
    let mut watch = SleepWatch::new();
    loop {
        tokio::time::sleep(SLEEP_CHECK).await;
        if let Some(slept) = watch.slept() {
            tracing::info!(?slept, "this machine slept");
            // Without any origin there is nobody to tell.
            let _ = signals.send(Signal::Resumed);
        }
    }
}

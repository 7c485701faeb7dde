//! The doors of listeners, made from a plan.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use ipreconnect_proxy::{
    Certify, Door, ListenAddress, Named, Termination, TerminationSettings, Unmatched,
};
use tokio::runtime::Handle;
use tokio::task::AbortHandle;

use super::board::Board;
use crate::certify::acme::Acme;
use crate::certify::internal::{Authority, Internal};
use crate::config::{ListenPlan, ListenTls, Plan, Protocol, Source};
use crate::exit::{Exit, Refusal};
use crate::state::file_name;

/// What is known of the doors made so far.
#[derive(Debug, Default)]
pub(super) struct Doors {
    /// By listener: clients go on with the sessions that they have.
    terminations: Mutex<BTreeMap<String, Termination>>,
    /// What makes certificates, by listener.
    made: Mutex<BTreeMap<String, Made>>,
    /// Where the gateway keeps what it keeps.
    state: PathBuf,
}

/// What makes the certificates of one listener, while its plan stays the same.
#[derive(Debug)]
struct Made {
    source: Source,
    names: Vec<String>,
    certify: Arc<dyn Certify>,
    /// Orders and renews.
    _task: Option<Task>,
}

/// A task that ends with whoever holds it.
#[derive(Debug)]
struct Task(AbortHandle);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Doors {
    pub(super) fn new(state: PathBuf) -> Self {
        Self {
            state,
            ..Self::default()
        }
    }

    /// What makes the certificates of a listener: the one that is there, or another one.
    fn made(
        &self,
        name: &str,
        listener: &ListenPlan,
        source: &Source,
        runtime: &Handle,
    ) -> Result<Option<Arc<dyn Certify>>, Refusal> {
        let names = match source {
            Source::Files(_) => {
                self.stop_making(name);
                return Ok(None);
            }
            Source::Internal(more) => names_of(listener, more),
            Source::Acme(plan) => plan.names.clone(),
        };
        let mut all = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(made) = all.get(name)
            && made.source == *source
            && made.names == names
        {
            return Ok(Some(Arc::clone(&made.certify)));
        }
        let refuse = |error: std::io::Error| {
            let message = format!("cannot make certificates for listener {name:?}");
            Refusal::new(Exit::Wrong, message).because(&error)
        };
        let (certify, task): (Arc<dyn Certify>, _) = match source {
            Source::Acme(plan) => {
                let directory = self.state.join("acme").join(file_name(name));
                let acme = Acme::new(plan.clone(), directory);
                let work = Arc::clone(&acme).run(name.to_owned());
                let task = Task(runtime.spawn(work).abort_handle());
                (acme, Some(task))
            }
            Source::Files(_) | Source::Internal(_) => {
                let authority = Authority::open(&self.state.join("ca"));
                let authority = authority.map_err(refuse)?;
                let internal = Internal::new(Arc::new(authority), names.clone())
                    .map_err(|error| refuse(std::io::Error::other(error)))?;
                (Arc::new(internal), None)
            }
        };
        let made = Made {
            source: source.clone(),
            names,
            certify: Arc::clone(&certify),
            _task: task,
        };
        all.insert(name.to_owned(), made);
        Ok(Some(certify))
    }

    /// Forgets a listener that is gone.
    pub(super) fn forget(&self, name: &str) {
        let mut terminations = self
            .terminations
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        terminations.remove(name);
        self.stop_making(name);
    }

    fn stop_making(&self, name: &str) {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        made.remove(name);
    }

    /// The door of one listener.
    pub(super) fn door(
        &self,
        plan: &Plan,
        name: &str,
        listener: &ListenPlan,
        board: &Board,
        runtime: &Handle,
    ) -> Result<Door, Refusal> {
        let mut names = Vec::new();
        // Requests say more of where they go than names do.
        let by_name = listener
            .routes
            .iter()
            .filter(|_| listener.mode != Protocol::Http);
        for route in by_name {
            let origin = board.origin(&route.origin);
            let (Some(origin), Some(behind)) = (origin, plan.origins.get(&route.origin)) else {
                // A plan never names an origin that it does not have.
                continue;
            };
            names.extend(route.hosts.iter().map(|pattern| Named {
                pattern: pattern.clone(),
                origin: origin.clone(),
                settings: behind.streams,
            }));
        }
        let tls = match &listener.tls {
            Some(tls) => {
                let made = self.made(name, listener, &tls.source, runtime)?;
                Some(self.termination(name, tls, made)?)
            }
            None => {
                self.stop_making(name);
                None
            }
        };
        Ok(Door {
            tls,
            names,
            unmatched: match listener.mode {
                Protocol::Http | Protocol::H2 => Unmatched::Served,
                Protocol::Tcp | Protocol::Udp | Protocol::Postgres => listener.unmatched,
            },
            access: listener.access.clone(),
            proxied: listener.proxied.clone(),
            limits: listener.clients.clone(),
        })
    }

    fn termination(
        &self,
        name: &str,
        tls: &ListenTls,
        made: Option<Arc<dyn Certify>>,
    ) -> Result<Termination, Refusal> {
        let settings = TerminationSettings {
            pairs: tls.pairs.iter().map(|pair| Arc::clone(&pair.0)).collect(),
            made,
            client_roots: tls.client_roots.clone(),
            client_auth: tls.client_auth,
            min_version: tls.min_version,
            alpn: tls.alpn.clone(),
        };
        let mut known = self
            .terminations
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let made = Termination::new(settings, known.get(name)).map_err(|error| {
            let message = format!("cannot open TLS at listener {name:?}");
            Refusal::new(Exit::Wrong, message).because(&error)
        })?;
        known.insert(name.to_owned(), made.clone());
        Ok(made)
    }
}

/// The names by which clients reach a listener: its addresses, its routes, and what was added.
fn names_of(listener: &ListenPlan, more: &[String]) -> Vec<String> {
    let mut names = vec!["localhost".to_owned()];
    let addresses = listener.addresses.iter().filter_map(ListenAddress::ip);
    names.extend(
        addresses
            .filter(|address| !address.ip().is_unspecified())
            .map(|address| address.ip().to_string()),
    );
    let hosts = listener.routes.iter().flat_map(|route| &route.hosts);
    names.extend(hosts.map(ToString::to_string));
    names.extend(more.iter().cloned());
    names.sort_unstable();
    names.dedup();
    names
}

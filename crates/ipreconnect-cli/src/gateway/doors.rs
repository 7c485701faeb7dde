//! The doors of listeners, made from a plan.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use ipreconnect_proxy::{Door, Named, Termination, TerminationSettings};

use super::board::Board;
use crate::config::{ListenPlan, ListenTls, Plan};
use crate::exit::{Exit, Refusal};

/// What is known of the doors made so far.
#[derive(Debug, Default)]
pub(super) struct Doors {
    /// By listener: clients go on with the sessions that they have.
    terminations: Mutex<BTreeMap<String, Termination>>,
}

impl Doors {
    /// The door of one listener.
    pub(super) fn door(
        &self,
        plan: &Plan,
        name: &str,
        listener: &ListenPlan,
        board: &Board,
    ) -> Result<Door, Refusal> {
        let mut names = Vec::new();
        for route in &listener.routes {
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
            Some(tls) => Some(self.termination(name, tls)?),
            None => None,
        };
        Ok(Door {
            tls,
            names,
            unmatched: listener.unmatched,
        })
    }

    fn termination(&self, name: &str, tls: &ListenTls) -> Result<Termination, Refusal> {
        let settings = TerminationSettings {
            pairs: tls.pairs.iter().map(|pair| Arc::clone(&pair.0)).collect(),
            made: None,
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

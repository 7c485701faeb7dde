//! Choosing an endpoint: one worker's own view of the balance.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use ipreconnect_core::balance::{Balance, Candidate, Policy};

use crate::clock;
use crate::snapshot::Snapshot;

/// New endpoints reach their full share after this.
const SLOW_START: Duration = Duration::from_secs(10);

/// Orders the endpoints of a snapshot for one new link.
///
/// Each worker has its own, so that its lock is never contended and no two workers throw the same
/// dice.
#[derive(Debug)]
pub struct Chooser(Mutex<Balance>);

impl Chooser {
    /// A chooser by `policy`, whose dice are determined by `seed`.
    #[must_use]
    pub fn new(policy: Policy, seed: u64) -> Self {
        Self(Mutex::new(Balance::new(policy, seed, SLOW_START)))
    }

    /// The endpoints worth dialling, in order, as indices. `hash` is what [`Policy::Hash`] goes by.
    pub(crate) fn order(&self, snapshot: &Snapshot, hash: Option<u64>) -> Vec<usize> {
        let endpoints = &snapshot.view().endpoints;
        let candidates: Vec<Candidate> = endpoints
            .iter()
            .map(|endpoint| Candidate {
                key: endpoint.id.0,
                priority: endpoint.priority,
                weight: endpoint.weight,
                open: snapshot.meter(endpoint.id).map_or(0, |meter| meter.open()),
                latency: endpoint.latency,
                usable: endpoint.standing,
                returned: endpoint.returned,
                by_weight: endpoint.by_weight,
            })
            .collect();
        let mut order = Vec::with_capacity(candidates.len());
        self.0.lock().unwrap_or_else(PoisonError::into_inner).order(
            clock::now(),
            &candidates,
            hash,
            &mut order,
        );
        order
    }
}

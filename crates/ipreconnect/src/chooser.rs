//! Choosing an endpoint: one worker's own view of the balance.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use ipreconnect_core::address::EndpointId;
use ipreconnect_core::balance::{Balance, Candidate, Policy, Standing};

use crate::clock;
use crate::snapshot::Snapshot;

/// New endpoints reach their full share after this.
const SLOW_START: Duration = Duration::from_secs(10);

/// Orders the endpoints of a snapshot for one new link.
///
/// Each worker has its own, so that its lock is never contended and no two workers throw the same
/// dice.
#[derive(Debug)]
pub struct Chooser {
    policy: Policy,
    /// Never chosen.
    avoided: Option<EndpointId>,
    /// Nothing else is chosen.
    only: Option<EndpointId>,
    scratch: Mutex<Scratch>,
}

/// What is used again from one choice to the next.
#[derive(Debug)]
struct Scratch {
    balance: Balance,
    candidates: Vec<Candidate>,
    order: Vec<usize>,
    /// What was chosen and has had no request yet.
    kept: Option<EndpointId>,
}

impl Chooser {
    /// A chooser by `policy`, whose dice are determined by `seed`.
    #[must_use]
    pub fn new(policy: Policy, seed: u64) -> Self {
        Self {
            policy,
            avoided: None,
            only: None,
            scratch: Mutex::new(Scratch {
                balance: Balance::new(policy, seed, SLOW_START),
                candidates: Vec::new(),
                order: Vec::new(),
                kept: None,
            }),
        }
    }

    /// The same, which never chooses this endpoint.
    #[must_use]
    pub(crate) fn avoiding(mut self, endpoint: Option<EndpointId>) -> Self {
        self.avoided = endpoint;
        self
    }

    /// The same, which chooses nothing but this endpoint.
    #[must_use]
    pub(crate) fn only(mut self, endpoint: EndpointId) -> Self {
        self.only = Some(endpoint);
        self
    }

    /// The endpoint for one request. `open` says how much is under way at each, and `hash` is what
    /// [`Policy::Hash`] goes by.
    #[must_use]
    pub fn first(
        &self,
        snapshot: &Snapshot,
        hash: Option<u64>,
        open: impl Fn(EndpointId) -> u32,
    ) -> Option<EndpointId> {
        let view = snapshot.view();
        let by_weight = view.endpoints.iter().any(|endpoint| endpoint.by_weight);
        if self.policy == Policy::Failover && !by_weight {
            return view.leader().map(|endpoint| endpoint.id);
        }
        let mut scratch = self.scratch.lock().unwrap_or_else(PoisonError::into_inner);
        scratch.arrange(snapshot, hash, open);
        let first = *scratch.order.first()?;
        view.endpoints.get(first).map(|endpoint| endpoint.id)
    }

    /// There is no connection to the endpoint that [`first`](Self::first) gave: the next one that is
    /// dialled leads there, so that one request is one choice.
    pub fn keep(&self, endpoint: EndpointId) {
        // The order of a failover is the same every time.
        if self.policy != Policy::Failover {
            let mut scratch = self.scratch.lock().unwrap_or_else(PoisonError::into_inner);
            scratch.kept = Some(endpoint);
        }
    }

    /// The endpoints worth dialling, in order, as indices. `hash` is what [`Policy::Hash`] goes by.
    pub(crate) fn order(&self, snapshot: &Snapshot, hash: Option<u64>) -> Vec<usize> {
        let mut scratch = self.scratch.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kept) = scratch.kept.take()
            && scratch.begins_with(snapshot, kept)
        {
            return scratch.order.clone();
        }
        let open = |endpoint| snapshot.meter(endpoint).map_or(0, |meter| meter.open());
        scratch.arrange(snapshot, hash, open);
        let endpoints = &snapshot.view().endpoints;
        let is_wanted = |index: &usize| {
            let endpoint = endpoints.get(*index).map(|endpoint| endpoint.id);
            let is_other = self.only.is_some() && endpoint != self.only;
            let is_avoided = self.avoided.is_some() && endpoint == self.avoided;
            !is_other && !is_avoided
        };
        let order = scratch.order.iter().copied();
        order.filter(is_wanted).collect()
    }
}

impl Scratch {
    /// Whether the last order begins with that endpoint, and it is still a good one.
    fn begins_with(&self, snapshot: &Snapshot, endpoint: EndpointId) -> bool {
        let first = self.order.first();
        let first = first.and_then(|first| snapshot.view().endpoints.get(*first));
        first.is_some_and(|first| first.id == endpoint && first.standing == Standing::Good)
    }

    fn arrange(
        &mut self,
        snapshot: &Snapshot,
        hash: Option<u64>,
        open: impl Fn(EndpointId) -> u32,
    ) {
        let endpoints = snapshot.view().endpoints.iter();
        self.candidates.clear();
        self.candidates.extend(endpoints.map(|endpoint| Candidate {
            key: endpoint.id.0,
            priority: endpoint.priority,
            weight: endpoint.weight,
            open: open(endpoint.id),
            latency: endpoint.latency,
            usable: endpoint.standing,
            returned: endpoint.returned,
            by_weight: endpoint.by_weight,
        }));
        self.balance
            .order(clock::now(), &self.candidates, hash, &mut self.order);
    }
}

//! The state of an origin as people and programs read it.

use std::sync::Arc;
use std::time::Duration;

use ipreconnect_core::address::Address;
use ipreconnect_core::balance::Standing;
use ipreconnect_core::failure::Failure;
use ipreconnect_core::origin::{Health, Phase};

use crate::resolve::NameStatus;
use crate::snapshot::Snapshot;

/// The state of one origin at one moment.
#[derive(Clone, Debug)]
pub struct Status {
    /// The origin's name.
    pub origin: Arc<str>,
    /// Its phase.
    pub phase: Phase,
    /// For how long.
    pub lasted: Duration,
    /// The last failure, while the phase is not up.
    pub failure: Option<Failure>,
    /// Whether the attempts to reconnect are used up.
    pub given_up: bool,
    /// Clients that wait in the hold.
    pub waiting: u32,
    /// Its endpoints, by preference.
    pub endpoints: Vec<EndpointStatus>,
    /// Its names.
    pub names: Vec<NameStatus>,
}

/// The state of one endpoint at one moment.
#[derive(Clone, Debug)]
pub struct EndpointStatus {
    /// Where it is.
    pub address: Address,
    /// Its priority; 0 is preferred.
    pub priority: u32,
    /// What is known of its health.
    pub health: Health,
    /// For how long.
    pub lasted: Duration,
    /// Whether it may be dialled, and how gladly.
    pub standing: Standing,
    /// Its last failure, while it is not up.
    pub failure: Option<Failure>,
    /// The smoothed time to connect.
    pub latency: Option<Duration>,
    /// Links open now.
    pub open: u32,
    /// Links opened since it is known.
    pub served: u64,
    /// Dials that this machine had no port, descriptor or permission for.
    pub failed_here: u64,
}

impl Status {
    pub(crate) fn of(origin: &Arc<str>, snapshot: &Snapshot, waiting: u32) -> Self {
        let view = snapshot.view();
        Self {
            origin: Arc::clone(origin),
            phase: view.phase,
            lasted: view.since.elapsed(),
            failure: view.failure.clone(),
            given_up: view.given_up,
            waiting,
            endpoints: snapshot
                .endpoints()
                .map(|(endpoint, meter)| EndpointStatus {
                    address: endpoint.address.clone(),
                    priority: endpoint.priority,
                    health: endpoint.health,
                    lasted: endpoint.since.elapsed(),
                    standing: endpoint.standing,
                    failure: endpoint.failure.clone(),
                    latency: match endpoint.address {
                        // Nothing is connected there.
                        Address::Udp(_) => None,
                        Address::Tcp(_) | Address::Unix(_) => endpoint.latency,
                    },
                    open: meter.open(),
                    served: meter.served(),
                    failed_here: meter.failed_here(),
                })
                .collect(),
            names: snapshot.names().to_vec(),
        }
    }

    /// Whether the origin is proven.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.phase == Phase::Up
    }
}

//! The state of an origin as people and programs read it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ipreconnect_core::address::Address;
use ipreconnect_core::balance::Standing;
use ipreconnect_core::failure::{Cause, Failure};
use ipreconnect_core::origin::{EndpointView, Health, Phase};
use ipreconnect_core::outlier::Ejected;

use crate::resolve::NameStatus;
use crate::snapshot::Snapshot;
use crate::tls::{Connector, Verification};
use crate::warm::Warm;

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
    /// Where new work goes by the operator's wish.
    pub preferred: Option<Address>,
    /// Clients that wait in the hold.
    pub waiting: u32,
    /// Whether its servers prove who they are.
    pub identity: Identity,
    /// Its endpoints, by preference.
    pub endpoints: Vec<EndpointStatus>,
    /// Its names.
    pub names: Vec<NameStatus>,
}

/// Whether an origin's servers prove who they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identity {
    /// They have no way to: without TLS, a hijacked address cannot be told from the right one.
    Unproven,
    /// They have TLS, and nothing of it is verified, by order.
    Insecure,
    /// They will have to; none has yet.
    NotYet,
    /// They did.
    Proven,
    /// One has another key than before, and nobody has accepted it.
    Changed,
    /// One failed to: it may be somebody else.
    Impersonated,
}

impl Identity {
    fn of(snapshot: &Snapshot, tls: Option<&Connector>, alarming: bool) -> Self {
        let Some(tls) = tls else {
            return Self::Unproven;
        };
        let settings = tls.settings();
        let endpoints = &snapshot.view().endpoints;
        let refused = |endpoint: &EndpointView| {
            let failure = endpoint.failure.as_ref();
            failure.is_some_and(|failure| {
                failure.cause.is_refusal() && failure.cause != Cause::KeyChanged
            })
        };
        if endpoints.iter().any(refused) {
            Self::Impersonated
        } else if alarming {
            Self::Changed
        } else if settings.verification == Verification::Off && settings.pins.is_empty() {
            Self::Insecure
        } else if endpoints
            .iter()
            .any(|endpoint| endpoint.health == Health::Up)
        {
            Self::Proven
        } else {
            Self::NotYet
        }
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unproven => "unproven",
            Self::Insecure => "insecure",
            Self::NotYet => "not yet proven",
            Self::Proven => "proven",
            Self::Changed => "key changed",
            Self::Impersonated => "impersonated?",
        })
    }
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
    /// Connections that are ready for whoever comes next.
    pub warm: usize,
    /// That it is set aside for its answers, if it is.
    pub ejected: Option<Ejected>,
    /// Links open now.
    pub open: u32,
    /// Links opened since it is known.
    pub served: u64,
    /// Dials that this machine had no port, descriptor or permission for.
    pub failed_here: u64,
}

impl Status {
    pub(crate) fn of(
        origin: &Arc<str>,
        snapshot: &Snapshot,
        waiting: u32,
        tls: Option<&Connector>,
        alarming: bool,
        warm: &Warm,
    ) -> Self {
        let view = snapshot.view();
        Self {
            origin: Arc::clone(origin),
            phase: view.phase,
            lasted: view.since.elapsed(),
            failure: view.failure.clone(),
            given_up: view.given_up,
            preferred: view.preferred.clone(),
            waiting,
            identity: Identity::of(snapshot, tls, alarming),
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
                    warm: warm.count(endpoint.id),
                    ejected: endpoint.ejected,
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

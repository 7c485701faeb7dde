//! What a reload has to do: the difference of two plans.

use std::fmt;

use ipreconnect::core::balance::Policy;
use ipreconnect_proxy::{HttpSettings, ListenerSettings};

use super::plan::{ListenPlan, LogTo, Plan};

/// One change. What is not named here is not touched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    OriginAdded(String),
    OriginChanged(String),
    OriginRemoved(String),
    ListenerAdded(String),
    /// Its addresses stay; it leads elsewhere, or by other rules.
    ListenerRerouted(String),
    /// Its addresses changed: it is closed and opened anew.
    ListenerMoved(String),
    ListenerRemoved(String),
    DnsChanged,
    LogChanged,
    /// Which requests are traced, or who is told.
    TracesChanged,
    /// Whom to tell, or when.
    AlertsChanged,
    /// Who may talk to local ports.
    GuardChanged,
    ShutdownChanged,
    /// It takes effect when the gateway is started again.
    NeedsRestart(&'static str),
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OriginAdded(name) => write!(f, "origin {name:?} added"),
            Self::OriginChanged(name) => write!(f, "origin {name:?} changed"),
            Self::OriginRemoved(name) => write!(f, "origin {name:?} removed"),
            Self::ListenerAdded(name) => write!(f, "listener {name:?} added"),
            Self::ListenerRerouted(name) => write!(f, "listener {name:?} rerouted"),
            Self::ListenerMoved(name) => write!(f, "listener {name:?} moved"),
            Self::ListenerRemoved(name) => write!(f, "listener {name:?} removed"),
            Self::DnsChanged => f.write_str("dns changed"),
            Self::LogChanged => f.write_str("log changed"),
            Self::TracesChanged => f.write_str("otlp changed"),
            Self::AlertsChanged => f.write_str("alerts changed"),
            Self::GuardChanged => f.write_str("guard changed"),
            Self::ShutdownChanged => f.write_str("gateway.shutdown changed"),
            Self::NeedsRestart(key) => {
                write!(f, "{key} changed: it takes effect at the next start")
            }
        }
    }
}

/// The changes that lead from `old` to `new`, in the order in which they are to be made.
pub(crate) fn diff(old: &Plan, new: &Plan) -> Vec<Change> {
    let mut changes = Vec::new();
    if old.dns != new.dns {
        changes.push(Change::DnsChanged);
    }
    for (name, plan) in &new.origins {
        match old.origins.get(name) {
            None => changes.push(Change::OriginAdded(name.clone())),
            Some(before) if before != plan => changes.push(Change::OriginChanged(name.clone())),
            Some(_) => {}
        }
    }
    for (name, plan) in &old.listeners {
        match new.listeners.get(name) {
            None => changes.push(Change::ListenerRemoved(name.clone())),
            Some(after) if after.addresses != plan.addresses || after.netns != plan.netns => {
                changes.push(Change::ListenerMoved(name.clone()));
            }
            Some(after) if after != plan || reached(old, plan) != reached(new, after) => {
                changes.push(Change::ListenerRerouted(name.clone()));
            }
            Some(_) => {}
        }
    }
    for name in new.listeners.keys() {
        if !old.listeners.contains_key(name) {
            changes.push(Change::ListenerAdded(name.clone()));
        }
    }
    for name in old.origins.keys() {
        if !new.origins.contains_key(name) {
            changes.push(Change::OriginRemoved(name.clone()));
        }
    }
    let is_told = |plan: &Plan| plan.log.to.contains(&LogTo::Otlp);
    if old.log != new.log || (old.otlp != new.otlp && (is_told(old) || is_told(new))) {
        changes.push(Change::LogChanged);
    }
    if old.otlp != new.otlp {
        changes.push(Change::TracesChanged);
    }
    if old.alerts != new.alerts {
        changes.push(Change::AlertsChanged);
    }
    if old.guard != new.guard {
        changes.push(Change::GuardChanged);
    }
    if old.gateway.shutdown != new.gateway.shutdown {
        changes.push(Change::ShutdownChanged);
    }
    for (key, differs) in [
        (
            "gateway.workers",
            old.gateway.workers != new.gateway.workers,
        ),
        (
            "gateway.state_dir",
            old.gateway.state_dir != new.gateway.state_dir,
        ),
        (
            "gateway.admin",
            old.gateway.admin != new.gateway.admin
                || old.gateway.admin_tcp != new.gateway.admin_tcp,
        ),
        (
            "gateway.admin_hosts",
            old.gateway.admin_hosts != new.gateway.admin_hosts,
        ),
    ] {
        if differs {
            changes.push(Change::NeedsRestart(key));
        }
    }
    changes
}

/// What a listener goes by that its origins say.
type Reached<'p> = Vec<Option<(ListenerSettings, &'p HttpSettings, Policy)>>;

fn reached<'p>(plan: &'p Plan, listener: &ListenPlan) -> Reached<'p> {
    let origin = std::iter::once(&listener.origin);
    let routes = listener.routes.iter().flat_map(|route| {
        let split = route.split.iter().map(|(origin, _)| origin);
        split.chain([&route.origin]).chain(&route.mirror)
    });
    let origins = origin.chain(routes).map(|name| plan.origins.get(name));
    origins
        .map(|origin| origin.map(|origin| (origin.streams, &origin.http, origin.settings.balance)))
        .collect()
}

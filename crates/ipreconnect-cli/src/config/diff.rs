//! What a reload has to do: the difference of two plans.

use std::fmt;

use super::plan::{ListenPlan, Plan, RoutePlan};

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
            Some(after) if after.addresses != plan.addresses => {
                changes.push(Change::ListenerMoved(name.clone()));
            }
            Some(after) => {
                let streams = |plan: &Plan, origin: &str| {
                    plan.origins
                        .get(origin)
                        .map(|o| (o.streams, o.http.clone()))
                };
                let origins = |plan: &ListenPlan| {
                    let split = |route: &RoutePlan| {
                        let others = route.split.iter().map(|(origin, _)| origin.clone());
                        std::iter::once(route.origin.clone())
                            .chain(others)
                            .collect::<Vec<_>>()
                    };
                    let routes = plan.routes.iter().flat_map(split);
                    routes.chain([plan.origin.clone()]).collect::<Vec<_>>()
                };
                let all = |plan: &Plan, listener: &ListenPlan| {
                    let origins = origins(listener).into_iter();
                    origins
                        .map(|origin| streams(plan, &origin))
                        .collect::<Vec<_>>()
                };
                let rules = all(old, plan) != all(new, after);
                let door = |plan: &ListenPlan| {
                    (
                        plan.routes.clone(),
                        plan.unmatched,
                        plan.tls.clone(),
                        plan.mode,
                    )
                };
                if after.origin != plan.origin || rules || door(after) != door(plan) {
                    changes.push(Change::ListenerRerouted(name.clone()));
                }
            }
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
    if old.log != new.log {
        changes.push(Change::LogChanged);
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
        ("gateway.admin", old.gateway.admin != new.gateway.admin),
    ] {
        if differs {
            changes.push(Change::NeedsRestart(key));
        }
    }
    changes
}

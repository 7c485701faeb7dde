//! Listeners that lead to kept ports: an origin and a route for each of them.

use std::io;
use std::path::{Path, PathBuf};

use ipreconnect::core::ports::Leases;

use super::load::made_up;
use super::plan::{Plan, RoutePlan};
use super::stamps::Stamps;
use crate::leases;

/// Begins the names of their origins.
const PREFIX: &str = "lease ";

/// Leads the listeners that are for kept ports to those of now, and nowhere else.
pub(super) fn lead(plan: &mut Plan, kept: &Leases) {
    let before: Vec<RoutePlan> = plan
        .listeners
        .values_mut()
        .filter(|one| one.leases)
        .flat_map(|listener| std::mem::take(&mut listener.routes))
        .collect();
    for route in before {
        plan.origins.remove(&route.origin);
    }
    for (name, lease) in kept.iter() {
        let origin = format!("{PREFIX}{name}");
        let text = format!(
            "address = \"127.0.0.1:{}\"\nprotocol = \"http\"\nrequired = false\n",
            lease.port
        );
        made_up(plan, &|_| None, None, (&origin, &text), Path::new("."));
        let Ok(host) = format!("{name}.localhost").parse() else {
            continue;
        };
        let route = RoutePlan {
            hosts: vec![host],
            origin,
            ..RoutePlan::default()
        };
        for listener in plan.listeners.values_mut().filter(|one| one.leases) {
            listener.routes.push(route.clone());
        }
    }
}

/// The file that such listeners go by; none, where there are none.
pub(super) fn file(plan: &Plan) -> Option<PathBuf> {
    let mut listeners = plan.listeners.values();
    let goes_by_it = listeners.any(|listener| listener.leases);
    goes_by_it.then(|| leases::file(&plan.gateway.state_dir))
}

/// The same plan with the ports that are kept now.
///
/// # Errors
/// If they cannot be read.
pub(crate) fn with_kept_ports(plan: &Plan) -> io::Result<Plan> {
    let kept = leases::kept(&plan.gateway.state_dir)?;
    let mut new = plan.clone();
    lead(&mut new, &kept);
    Ok(new)
}

/// How that file is now.
pub(crate) fn stamps_of_kept_ports(plan: &Plan) -> Stamps {
    Stamps::of_files(file(plan))
}

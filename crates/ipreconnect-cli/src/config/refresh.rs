//! The certificates and keys of a plan, read again while everything else stays.

use super::plan::Plan;
use super::stamps::Stamps;

/// The files that certificates and keys are read from, as they are now.
pub(crate) fn stamps_of_keys(plan: &Plan) -> Stamps {
    let origins = plan.origins.values().flat_map(|origin| origin.tls.paths());
    let listeners = plan.listeners.values();
    let listeners = listeners.filter_map(|listener| listener.tls.as_ref());
    let listeners = listeners.flat_map(|tls| tls.paths());
    Stamps::of_files(origins.chain(listeners).map(ToOwned::to_owned))
}

/// The same plan with what the files hold now, and why some of them cannot be used: those before stay.
pub(crate) fn refreshed(plan: &Plan) -> (Plan, Vec<String>) {
    let mut new = plan.clone();
    let mut wrong = Vec::new();
    for (name, origin) in &mut new.origins {
        let Some(settings) = &origin.settings.tls else {
            continue;
        };
        match origin.tls.read(settings, plan.permissions) {
            Ok(settings) => origin.settings.tls = Some(settings),
            Err(why) => wrong.push(format!("origin {name:?}: {why}")),
        }
    }
    for (name, listener) in &mut new.listeners {
        let Some(tls) = &listener.tls else {
            continue;
        };
        match tls.read(plan.permissions) {
            Ok(tls) => listener.tls = Some(tls),
            Err(why) => wrong.push(format!("listener {name:?}: {why}")),
        }
    }
    (new, wrong)
}

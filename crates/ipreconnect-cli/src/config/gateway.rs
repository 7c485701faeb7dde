//! `[gateway]`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::environment::Environment;
use super::plan::GatewayPlan;
use super::section::{Field, Section};

/// `[gateway]` as it is when nothing is written.
pub(super) fn defaults(environment: &Environment) -> GatewayPlan {
    let state_dir = state_directory(environment);
    GatewayPlan {
        workers: environment.cores,
        admin: state_dir.join("admin.sock"),
        admin_tcp: Vec::new(),
        admin_hosts: Vec::new(),
        state_dir,
        shutdown: Duration::from_secs(30),
    }
}

/// `$STATE_DIRECTORY` (systemd.exec(5)), else the user's XDG state directory.
fn state_directory(environment: &Environment) -> PathBuf {
    let set = |name: &str| {
        let value = (environment.variable)(name)?;
        let first = value.split(':').next().unwrap_or_default().to_owned();
        (!first.is_empty()).then_some(PathBuf::from(first))
    };
    if let Some(directory) = set("STATE_DIRECTORY") {
        return directory;
    }
    let xdg = set("XDG_STATE_HOME").or_else(|| Some(set("HOME")?.join(".local/state")));
    xdg.unwrap_or_else(|| PathBuf::from("/var/lib"))
        .join("ipreconnect")
}

pub(super) struct ReadGateway {
    pub(super) plan: GatewayPlan,
    pub(super) zone: Option<String>,
}

pub(super) fn read(section: Section<'_>, base: &Path, mut plan: GatewayPlan) -> ReadGateway {
    match section.integer("workers", 0..=1024) {
        None | Some(0) => {}
        Some(workers) => plan.workers = usize::try_from(workers).unwrap_or(plan.workers),
    }
    if let Some(directory) = section.text("state_dir") {
        plan.state_dir = base.join(directory);
        plan.admin = plan.state_dir.join("admin.sock");
    }
    if let Some(field) = section.field("admin") {
        for field in field.one_or_many() {
            let Some(text) = field.text() else {
                continue;
            };
            match text.strip_prefix("unix:") {
                Some(path) => plan.admin = plan.state_dir.join(path),
                None => plan.admin_tcp.extend(admin_address(&field, &text)),
            }
        }
    }
    if let Some(field) = section.field("admin_hosts") {
        let names = field.one_or_many().into_iter();
        plan.admin_hosts = names.filter_map(|name| name.text()).collect();
    }
    if let Some(grace) = section.field("shutdown").and_then(|field| field.duration()) {
        plan.shutdown = grace;
    }
    let zone = section.text("zone");
    section.finish();
    ReadGateway { plan, zone }
}

/// The token would cross a network in the clear, so the API is on this machine alone.
fn admin_address(field: &Field<'_>, text: &str) -> Option<SocketAddr> {
    let Ok(address) = text.parse::<SocketAddr>() else {
        field.wrong(
            &format!("is no address: {text:?}"),
            "write \"unix:admin.sock\", or an address with its port: \"127.0.0.1:9311\"",
        );
        return None;
    };
    if !address.ip().to_canonical().is_loopback() {
        field.wrong(
            "must be an address of this machine alone: the token would cross the network in the clear",
            "listen on 127.0.0.1, and put a listener with TLS and access rules in front of it, or use ssh -L",
        );
        return None;
    }
    Some(address)
}

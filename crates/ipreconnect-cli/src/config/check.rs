//! What a plan exposes to whom, as `check` shows it.

use ipreconnect::core::balance::Policy;
use ipreconnect::resolve::Dnssec;
use ipreconnect_proxy::ListenAddress;
use serde::Serialize;

use super::plan::Plan;
use crate::admin::view::SCHEMA;

/// A plan as it is shown.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Shown {
    schema: u32,
    listeners: Vec<ShownListener>,
    origins: Vec<ShownOrigin>,
    resolvers: Vec<String>,
    dnssec: &'static str,
    state_dir: String,
}

#[derive(Clone, Debug, Serialize)]
struct ShownListener {
    name: String,
    addresses: Vec<ShownAddress>,
    origin: String,
}

#[derive(Clone, Debug, Serialize)]
struct ShownAddress {
    address: String,
    reach: &'static str,
}

#[derive(Clone, Debug, Serialize)]
struct ShownOrigin {
    name: String,
    required: bool,
    balance: &'static str,
    identity: &'static str,
    places: Vec<ShownPlace>,
}

#[derive(Clone, Debug, Serialize)]
struct ShownPlace {
    address: String,
    priority: u32,
    weight: u32,
}

/// What `plan` exposes to whom, and what stands behind it.
pub(crate) fn show(plan: &Plan) -> Shown {
    let listeners = plan.listeners.iter().map(|(name, listener)| ShownListener {
        name: name.clone(),
        addresses: listener.addresses.iter().map(show_address).collect(),
        origin: listener.origin.clone(),
    });
    let origins = plan.origins.iter().map(|(name, origin)| ShownOrigin {
        name: name.clone(),
        required: origin.is_required(),
        balance: balance_word(origin.settings.balance),
        identity: "unproven",
        places: origin
            .settings
            .places
            .iter()
            .map(|place| ShownPlace {
                address: place.target.to_string(),
                priority: place.priority,
                weight: place.weight,
            })
            .collect(),
    });
    Shown {
        schema: SCHEMA,
        listeners: listeners.collect(),
        origins: origins.collect(),
        resolvers: plan.dns.servers.iter().map(ToString::to_string).collect(),
        dnssec: match plan.dns.dnssec {
            Dnssec::Off => "off",
            Dnssec::Validate => "validate",
            Dnssec::Require => "require",
        },
        state_dir: plan.gateway.state_dir.display().to_string(),
    }
}

fn show_address(address: &ListenAddress) -> ShownAddress {
    let reach = match address {
        ListenAddress::Unix(_) => "users of this machine who may open the path",
        ListenAddress::Tcp(ip) | ListenAddress::Udp(ip) if ip.ip().to_canonical().is_loopback() => {
            "every user of this machine"
        }
        ListenAddress::Tcp(_) | ListenAddress::Udp(_) => {
            "every user of this machine; others reach it and are refused"
        }
    };
    ShownAddress {
        address: match address {
            ListenAddress::Tcp(ip) if ip.port() == 0 => format!("{}:auto", ip.ip()),
            ListenAddress::Udp(ip) if ip.port() == 0 => format!("{}:auto/udp", ip.ip()),
            other => other.to_string(),
        },
        reach,
    }
}

fn balance_word(policy: Policy) -> &'static str {
    match policy {
        Policy::Failover => "failover",
        Policy::RoundRobin => "round-robin",
        Policy::LeastConnections => "least-connections",
        Policy::P2cEwma => "p2c-ewma",
        Policy::Random => "random",
        Policy::Hash => "hash",
    }
}

impl Shown {
    /// For people.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        for listener in &self.listeners {
            text.push_str(&format!("listener {}\n", listener.name));
            for address in &listener.addresses {
                text.push_str(&format!(
                    "  {:<28} open to {}\n",
                    address.address, address.reach
                ));
            }
            text.push_str(&format!("  leads to origin {}\n", listener.origin));
        }
        for origin in &self.origins {
            let required = if origin.required {
                "required"
            } else {
                "optional"
            };
            text.push_str(&format!(
                "origin {}: {required}, {}, {} (without TLS nobody can prove who answers)\n",
                origin.name, origin.balance, origin.identity
            ));
            for place in &origin.places {
                let role = match place.priority {
                    0 => "preferred".to_owned(),
                    priority => format!("backup {priority}"),
                };
                let weight = match place.weight {
                    1 => String::new(),
                    weight => format!(", weight {weight}"),
                };
                text.push_str(&format!("  {:<28} {role}{weight}\n", place.address));
            }
        }
        let dnssec = match self.dnssec {
            "off" => "without DNSSEC".to_owned(),
            level => format!("dnssec = {level:?}"),
        };
        let resolvers = self.resolvers.join(", then ");
        text.push_str(&format!("names are resolved by {resolvers}, {dnssec}\n"));
        text
    }
}

//! `[dns]` and `connect.allow_ips`.

use std::path::Path;

use ipnet::IpNet;
use ipreconnect::core::names::Strategy;
use ipreconnect::core::policy::{AddressPolicy, Denied, Via};
use ipreconnect::resolve::{DnsServer, DnsSettings, Dnssec, TrustAnchor};

use super::section::{Field, Section};

/// Resolvers of one gateway.
const SERVERS: usize = 16;
/// Networks of one origin.
const NETWORKS: usize = 1024;

pub(super) fn read(section: Section<'_>, base: &Path) -> DnsSettings {
    let mut settings = DnsSettings::default();
    if let Some(field) = section.field("servers") {
        settings.servers = servers(&field);
    }
    let strategies = [("order", Strategy::Order), ("race", Strategy::Race)];
    settings.strategy = section.choice("strategy", &strategies).unwrap_or_default();
    let levels = [
        ("off", Dnssec::Off),
        ("validate", Dnssec::Validate),
        ("require", Dnssec::Require),
    ];
    settings.dnssec = section.choice("dnssec", &levels).unwrap_or_default();
    if let Some(field) = section.field("trust_anchor") {
        settings.trust_anchor = trust_anchor(&field, base);
        if settings.dnssec == Dnssec::Off {
            field.wrong(
                "goes with DNSSEC only",
                "set dnssec = \"validate\" or \"require\" beside it",
            );
        }
    }
    let limits = &mut settings.limits;
    limits.min_ttl = section.duration("min_ttl").unwrap_or(limits.min_ttl);
    let max_ttl = section.field("max_ttl");
    limits.max_ttl = section.duration("max_ttl").unwrap_or(limits.max_ttl);
    if let (true, Some(field)) = (limits.max_ttl < limits.min_ttl, &max_ttl) {
        field.wrong("is shorter than `dns.min_ttl`", "");
    }
    limits.max_ttl = limits.max_ttl.max(limits.min_ttl);
    if let Some(stale) = section
        .field("stale_for")
        .and_then(|field| field.duration())
    {
        limits.stale_for = stale;
    }
    section.finish();
    settings
}

fn servers(field: &Field<'_>) -> Vec<DnsServer> {
    let fields = field.one_or_many();
    if fields.is_empty() || fields.len() > SERVERS {
        field.wrong(
            &format!("must have from 1 to {SERVERS} entries"),
            "\"system\" is the operating system's own resolution",
        );
        return Vec::new();
    }
    let mut servers: Vec<DnsServer> = Vec::with_capacity(fields.len());
    for field in &fields {
        let Some(text) = field.text() else {
            continue;
        };
        match text.parse() {
            Ok(server) if servers.contains(&server) => {
                field.wrong(&format!("has {text:?} twice"), "");
            }
            Ok(server) => servers.push(server),
            Err(error) => {
                let hint = "resolvers look like \"system\", \"9.9.9.9\", \"127.0.0.1:5353\", \"tls://1.1.1.1#cloudflare-dns.com\", \"https://dns.example/dns-query\"";
                field.wrong(&format!("cannot be {text:?}: {error}"), hint);
            }
        }
    }
    servers
}

fn trust_anchor(field: &Field<'_>, base: &Path) -> Option<TrustAnchor> {
    let path = base.join(field.text()?);
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) => {
            field.wrong(&format!("cannot be read: {}: {error}", path.display()), "");
            return None;
        }
    };
    match text.parse() {
        Ok(anchor) => Some(anchor),
        Err(error) => {
            let hint = "it holds DNSKEY records as in a zone file: \". IN DNSKEY 257 3 8 AwEAA…\"";
            field.wrong(&format!("cannot be understood: {error}"), hint);
            None
        }
    }
}

/// `allow_ips`: the networks that may be dialled, and no others.
pub(super) fn allow_ips(field: &Field<'_>) -> AddressPolicy {
    let fields = field.one_or_many();
    if fields.is_empty() || fields.len() > NETWORKS {
        let hint = "leave it out for everything that a name of an origin may usually lead to";
        field.wrong(&format!("must have from 1 to {NETWORKS} networks"), hint);
        return AddressPolicy::Usual;
    }
    let mut networks = Vec::with_capacity(fields.len());
    for field in &fields {
        let Some(text) = field.text() else {
            continue;
        };
        match network(&text) {
            Ok(network) => networks.push(network),
            Err(why) => {
                let hint = "networks look like \"203.0.113.0/24\", \"2001:db8::/32\", \"10.0.0.7\"";
                field.wrong(&format!("cannot be {text:?}: {why}"), hint);
            }
        }
    }
    AddressPolicy::Only(networks)
}

fn network(text: &str) -> Result<IpNet, &'static str> {
    if let Ok(ip) = text.parse() {
        return Ok(IpNet::from(std::net::IpAddr::to_canonical(&ip)));
    }
    let network: IpNet = text.parse().map_err(|_| "this is not a network")?;
    if network.trunc() == network {
        Ok(network)
    } else {
        Err("it has bits of a host behind its prefix")
    }
}

/// Whether an address that is written as it is may be dialled.
pub(super) fn judge(policy: &AddressPolicy, ip: std::net::IpAddr) -> Result<(), Denied> {
    policy.judge(ip, Via::Literal)
}

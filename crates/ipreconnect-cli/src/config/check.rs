//! What a plan exposes to whom, as `check` shows it.

mod forward;

use std::net::IpAddr;

use ipreconnect::core::access::{Method, Rule};
use ipreconnect::core::balance::Policy;
use ipreconnect::core::identity::OnKeyChange;
use ipreconnect::resolve::{Dnssec, Roots};
use ipreconnect::tls::{Certificate, Day, TlsSettings, Verification};
use ipreconnect_proxy::{Access, Asking, ClientAuth, ListenAddress, Unmatched};
use serde::Serialize;

use super::plan::{ListenPlan, Plan, RoutePlan};
use super::tls::{ListenTls, Source};
use crate::admin::view::SCHEMA;
use forward::ShownForward;

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
    /// The network namespace in which it listens, if not in ours.
    #[serde(skip_serializing_if = "Option::is_none")]
    netns: Option<String>,
    origin: String,
    refuses_others: bool,
    /// Requests that pages of other sites have made browsers send are refused.
    shielded: bool,
    /// It leads to the ports that are kept by name.
    leases: bool,
    /// Where its clients may go, if they say where they want to.
    forward: Option<ShownForward>,
    routes: Vec<ShownRoute>,
    tls: Option<ShownTls>,
    /// Who comes in: the first that matches decides, and whom none matches is refused.
    access: Vec<ShownRule>,
}

#[derive(Clone, Debug, Serialize)]
struct ShownRule {
    /// Whom it is for comes in, if the method proves who it is.
    admits: bool,
    /// Who asks for a password, if the method is one.
    asked_by: Option<&'static str>,
    place: String,
    rule: String,
}

#[derive(Clone, Debug, Serialize)]
struct ShownRoute {
    hosts: Vec<String>,
    paths: Vec<String>,
    methods: Vec<String>,
    headers: Vec<String>,
    origin: String,
    /// All of them with their weights, where it leads to several.
    split: Vec<ShownBranch>,
    /// Origins without which it is answered here.
    requires: Vec<String>,
}

#[derive(Clone, Debug, Serialize)]
struct ShownBranch {
    origin: String,
    weight: u32,
}

impl ShownRoute {
    /// Which requests it is for.
    fn subject(&self) -> String {
        let mut parts = Vec::new();
        for part in [&self.methods, &self.hosts, &self.paths] {
            if !part.is_empty() {
                parts.push(part.join(", "));
            }
        }
        if !self.headers.is_empty() {
            parts.push(format!("with {}", self.headers.join(", ")));
        }
        if parts.is_empty() {
            return "everything".to_owned();
        }
        parts.join("  ")
    }

    /// Where it leads.
    fn target(&self) -> String {
        let mut target = if self.split.is_empty() {
            format!("origin {}", self.origin)
        } else {
            let branch = |one: &ShownBranch| format!("{} ({})", one.origin, one.weight);
            let branches: Vec<String> = self.split.iter().map(branch).collect();
            format!("origins by weight: {}", branches.join(", "))
        };
        if !self.requires.is_empty() {
            target.push_str(&format!(", while {} is up", self.requires.join(", ")));
        }
        target
    }
}

#[derive(Clone, Debug, Serialize)]
struct ShownTls {
    source: String,
    certificates: Vec<ShownCertificate>,
    clients: &'static str,
}

#[derive(Clone, Debug, Serialize)]
struct ShownCertificate {
    names: Vec<String>,
    issuer: String,
    valid_until: String,
    key: String,
}

#[derive(Clone, Debug, Serialize)]
struct ShownAddress {
    address: String,
    reach: String,
}

#[derive(Clone, Debug, Serialize)]
struct ShownOrigin {
    name: String,
    required: bool,
    balance: &'static str,
    identity: String,
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
        addresses: listener
            .addresses
            .iter()
            .map(|one| show_address(one, listener))
            .collect(),
        netns: listener.netns.as_ref().map(ToString::to_string),
        origin: listener.origin.clone(),
        refuses_others: listener.unmatched == Unmatched::Refused,
        shielded: listener.is_shielded(),
        leases: listener.leases,
        forward: listener.forward.as_ref().map(forward::show),
        routes: listener.routes.iter().map(show_route).collect(),
        tls: listener.tls.as_ref().map(show_tls),
        access: {
            let rules = listener.access.rules().iter();
            rules
                .map(|rule| show_rule(&listener.access, rule))
                .collect()
        },
    });
    let origins = plan.origins.iter().map(|(name, origin)| ShownOrigin {
        name: name.clone(),
        required: origin.is_required(),
        balance: balance_word(origin.settings.balance),
        identity: origin
            .settings
            .tls
            .as_ref()
            .map_or_else(|| UNPROVEN.to_owned(), show_identity),
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

const UNPROVEN: &str = "unproven";

/// How servers prove who they are.
fn show_identity(tls: &TlsSettings) -> String {
    let mut text = match (tls.verification, tls.pins.len()) {
        (Verification::Off, 0) => {
            "INSECURE: whoever is in between can read and change everything".to_owned()
        }
        (Verification::Off, _) => "TLS, by its pinned key alone".to_owned(),
        (Verification::Full, _) => {
            let by = match tls.roots {
                Roots::System => "the system's roots",
                Roots::Only(_) => "an own CA",
            };
            let name = tls.server_name.as_ref().map_or_else(
                || "the name of each address".to_owned(),
                |name| name.to_str().into_owned(),
            );
            format!("TLS, verified for {name} by {by}")
        }
    };
    if let (Verification::Full, pins @ 1..) = (tls.verification, tls.pins.len()) {
        text.push_str(&format!(", and one of {pins} pins"));
    }
    if tls.identity.is_some() {
        text.push_str("; with a certificate of ours");
    }
    match tls.on_key_change {
        OnKeyChange::Verify => {}
        OnKeyChange::Alarm => text.push_str("; a changed key is an alarm"),
        OnKeyChange::Refuse => text.push_str("; a changed key is refused until it is accepted"),
    }
    text
}

fn show_route(route: &RoutePlan) -> ShownRoute {
    let lossy = |text: &[u8]| String::from_utf8_lossy(text).into_owned();
    ShownRoute {
        hosts: route.hosts.iter().map(ToString::to_string).collect(),
        paths: route.paths.iter().map(ToString::to_string).collect(),
        methods: route.methods.iter().map(|one| lossy(one)).collect(),
        headers: route.fields.iter().map(|(name, _)| lossy(name)).collect(),
        origin: route.origin.clone(),
        split: route
            .split
            .iter()
            .map(|(origin, weight)| ShownBranch {
                origin: origin.clone(),
                weight: *weight,
            })
            .collect(),
        requires: route.requires.clone(),
    }
}

fn show_tls(tls: &ListenTls) -> ShownTls {
    let read = |pair: &super::material::Pair| Certificate::read(pair.0.cert.first()?).ok();
    let certificates = tls.pairs.iter().filter_map(read);
    ShownTls {
        source: match &tls.source {
            Source::Files(_) => "files".to_owned(),
            Source::Internal(_) => {
                "made by the local authority; `ipreconnect ca export` prints its root".to_owned()
            }
            Source::Acme(plan) => {
                format!("for {}, from {}", plan.names.join(", "), plan.directory)
            }
        },
        certificates: certificates
            .map(|certificate| ShownCertificate {
                names: certificate.names.to_vec(),
                issuer: certificate.issuer.to_string(),
                valid_until: Day(certificate.not_after).to_string(),
                key: certificate.key.to_string(),
            })
            .collect(),
        clients: match (tls.asks_clients(), tls.client_auth) {
            (false, _) => "no certificate is asked for",
            (true, ClientAuth::Required) => "clients must have a certificate",
            (true, ClientAuth::Optional) => "clients may have a certificate",
        },
    }
}

fn show_address(address: &ListenAddress, listener: &ListenPlan) -> ShownAddress {
    ShownAddress {
        address: match address {
            ListenAddress::Tcp(ip) if ip.port() == 0 => format!("{}:auto", ip.ip()),
            ListenAddress::Udp(ip) if ip.port() == 0 => format!("{}:auto/udp", ip.ip()),
            other => other.to_string(),
        },
        reach: match (&listener.netns, address) {
            (None, _) | (_, ListenAddress::Unix(_)) => reach_of(address),
            (Some(inside), _) => {
                format!("what is inside {inside}, as far as this address reaches there")
            }
        },
    }
}

/// Who can reach a listener there.
pub(super) fn reach_of(address: &ListenAddress) -> String {
    match address {
        ListenAddress::Unix(_) => "users of this machine who may open the path".to_owned(),
        ListenAddress::Abstract(_) => {
            "every user of this machine in its network namespace".to_owned()
        }
        ListenAddress::Tcp(ip) | ListenAddress::Udp(ip) => reach(ip.ip().to_canonical()),
    }
}

/// From where an address can be reached.
fn reach(ip: IpAddr) -> String {
    if ip.is_loopback() {
        return "every user of this machine".to_owned();
    }
    let mut ways: Vec<String> = ipreconnect_ports::interfaces()
        .unwrap_or_default()
        .into_iter()
        .filter(|one| !one.address.is_loopback() && one.address.is_ipv4() == ip.is_ipv4())
        .filter(|one| ip.is_unspecified() || one.address == ip)
        .map(|one| format!("{} {}/{}", one.name, one.address, one.prefix))
        .collect();
    ways.sort();
    if ways.is_empty() {
        return "every user of this machine, and other machines when it has such an address"
            .to_owned();
    }
    format!(
        "every user of this machine, and other machines by {}",
        ways.join(", ")
    )
}

fn show_rule(access: &Access, rule: &Rule) -> ShownRule {
    ShownRule {
        admits: rule.method != Method::Reject,
        asked_by: match (rule.method, access.asking(), access.has_users()) {
            (Method::Trust | Method::Reject | Method::Peer | Method::Cert, ..) => None,
            (_, Asking::Postgres, false) => Some("the server behind"),
            _ => Some("the gateway"),
        },
        place: match rule.place.line {
            0 => "by default".to_owned(),
            line => format!("{}:{line}", rule.place.file.display()),
        },
        rule: rule.text().to_owned(),
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
            text.push_str(&listener.text());
        }
        for origin in &self.origins {
            let required = if origin.required {
                "required"
            } else {
                "optional"
            };
            let why = match origin.identity.as_str() {
                UNPROVEN => " (without TLS nobody can prove who answers)",
                _ => "",
            };
            text.push_str(&format!(
                "origin {}: {required}, {}, {}{why}\n",
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

impl ShownListener {
    /// For people.
    fn text(&self) -> String {
        let mut text = String::new();
        text.push_str(&format!("listener {}\n", self.name));
        for address in &self.addresses {
            text.push_str(&format!(
                "  {:<28} reached by {}\n",
                address.address, address.reach
            ));
        }
        for rule in &self.access {
            let what = if rule.admits { "comes in" } else { "refused" };
            text.push_str(&format!("  {what}: {}  ({})\n", rule.rule, rule.place));
            if let Some(by) = rule.asked_by {
                text.push_str(&format!("            asked for the password by {by}\n"));
            }
        }
        if self.access.is_empty() {
            text.push_str("  comes in: nobody\n");
        }
        if let Some(tls) = &self.tls {
            if tls.certificates.is_empty() {
                text.push_str(&format!(
                    "  TLS with a certificate {}; {}\n",
                    tls.source, tls.clients
                ));
            }
            for one in &tls.certificates {
                text.push_str(&format!(
                    "  TLS as {}, issued by {}, valid until {}; {}\n",
                    one.names.join(", "),
                    one.issuer,
                    one.valid_until,
                    tls.clients
                ));
            }
        }
        if self.shielded {
            text.push_str("  refused: what pages of other sites make browsers send (`shield`)\n");
        }
        for route in &self.routes {
            text.push_str(&format!("  {} -> {}\n", route.subject(), route.target()));
        }
        if let Some(forward) = &self.forward {
            text.push_str(&forward.text());
            return text;
        }
        match self.routes.as_slice() {
            _ if self.leases => text.push_str("  refuses names that no port is kept for\n"),
            [] if self.origin.is_empty() => text.push_str("  serves the status page\n"),
            [] => text.push_str(&format!("  leads to origin {}\n", self.origin)),
            _ if self.refuses_others => {
                text.push_str("  refuses everything that no route matches\n");
            }
            _ => text.push_str(&format!("  everything else -> origin {}\n", self.origin)),
        }
        text
    }
}

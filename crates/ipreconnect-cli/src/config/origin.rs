//! `[origin.NAME]`.

use std::path::Path;
use std::time::Duration;

use ipreconnect::core::address::Address;
use ipreconnect::core::backoff::{BackoffError, BackoffSettings, Jitter};
use ipreconnect::core::balance::Policy;
use ipreconnect::core::carried::Announce;
use ipreconnect::core::origin::{Check, OnDown, OnReturn};
use ipreconnect::core::outlier::Passive;
use ipreconnect::{HoldSettings, OriginSettings, Place, Target, Transport};
use ipreconnect_admin::{Hook, HookPlan};
use ipreconnect_proxy::{AskedHost, HalfClose, HttpSettings, ListenerSettings, Timeouts};

use super::material::Permissions;
use super::plan::{OriginPlan, Protocol, Required};
use super::section::{Field, Section};
use super::tls::{self, OriginFiles};
use super::{alerts, dns, http, question};

/// Entries of one address list.
const ENTRIES: usize = 256;
/// What an origin speaks.
const SPEAKS: [Protocol; 4] = [Protocol::Tcp, Protocol::Udp, Protocol::Http, Protocol::H2];
const SPOKEN: &str = "this version speaks tcp, udp, http and h2";
/// How long a UDP session may be silent: a client that comes back later has a new one.
const UDP_IDLE: Duration = Duration::from_secs(60);

/// One entry as it is written.
struct Written {
    target: Target,
    /// As the address itself says it.
    scheme: Option<Protocol>,
    /// Whether the address says that TLS is spoken there.
    is_tls: bool,
    /// Whether the port is the one of its scheme.
    is_default_port: bool,
    weight: u32,
    backup: bool,
    zone: Option<String>,
}

/// Reads one origin; `zone` is the gateway's own.
pub(crate) fn read(
    section: Section<'_>,
    zone: Option<&str>,
    base: &Path,
    permissions: Permissions,
) -> Option<OriginPlan> {
    let written = entries(&section);
    let declared = section.field("protocol");
    let declared = declared.and_then(|field| protocol(&field, &SPEAKS, &["postgres"]));
    let protocol = common_protocol(&section, declared, written.as_deref().unwrap_or_default());
    let transport = protocol.transport();
    let balance = balance(&section);
    let required = match section.boolean("required") {
        Some(false) => Required::No,
        Some(true) | None => Required::Yes,
    };
    let feature = section.text("feature");
    let mut settings = OriginSettings::new(Vec::new());
    settings.balance = balance;
    let declared_networks = connect(&section, &mut settings, protocol);
    let tls_field = section.field("tls");
    let files = tls(
        &section,
        written.as_deref().unwrap_or_default(),
        &mut settings,
        (base, permissions),
    );
    if let (Protocol::H2, Some(tls)) = (protocol, &mut settings.tls)
        && tls.alpn.is_empty()
    {
        tls.alpn.push(b"h2".to_vec());
    }
    reconnect(&section, &mut settings);
    let mut requests = HttpSettings::default();
    pool(&section, &mut settings, &mut requests, protocol);
    let half_close = hold(&section, &mut settings.hold, &mut requests, protocol);
    let timeouts = timeouts(&section, &mut requests, protocol);
    http::retry(&section, &mut requests, protocol);
    requests.is_h2 = protocol == Protocol::H2;
    requests.idle = timeouts.idle;
    requests.pool_idle = settings.warm.idle;
    let own = own_host(written.as_deref().unwrap_or_default(), &settings);
    let is_tls = settings.tls.is_some();
    http::host(&section, &mut requests, protocol, own.clone(), is_tls);
    let asked = match &requests.host {
        AskedHost::Fixed(host) => Some(host.to_string()),
        AskedHost::Client => own,
    };
    health(&section, &mut settings, protocol, asked.as_deref());
    if balance == Policy::Hash {
        requests.hash_on = http::hash_on(&section, protocol);
    }
    let hooks = section.table("on").map(|table| hooks(table, base));
    section.finish();
    settings.places = places(written?, balance, zone, transport);
    fits_tls(tls_field.as_ref(), &settings, transport);
    if let Some(field) = declared_networks {
        literals_are_allowed(&field, &settings);
    }
    Some(OriginPlan {
        required,
        feature,
        hooks: hooks.unwrap_or_default(),
        protocol,
        settings,
        tls: files?,
        streams: ListenerSettings {
            timeouts,
            half_close,
        },
        http: requests,
    })
}

/// What is done when it is lost, and when it is back.
fn hooks(table: Section<'_>, base: &Path) -> HookPlan {
    let hook = |key| {
        let field = table.field(key)?;
        let one = field.table()?;
        let (exec, webhook) = (one.field("exec"), one.field("webhook"));
        one.finish();
        match (exec, webhook) {
            (Some(exec), None) => Some(Hook::Exec {
                program: base.join(exec.text()?),
            }),
            (None, Some(webhook)) => Some(Hook::Webhook {
                url: alerts::http(&webhook, alerts::secret(&webhook, base)?)?,
            }),
            _ => {
                let hint = "{ exec = \"/usr/local/bin/page-me\" } or { webhook = \"https://…\" }";
                field.wrong("must say one thing to do: exec or webhook", hint);
                None
            }
        }
    };
    let plan = HookPlan {
        down: hook("down"),
        up: hook("up"),
    };
    table.finish();
    plan
}

/// The host that an origin is asked for by its own name: the name that its certificate is for, or the one
/// of its addresses, if they have one in common.
fn own_host(written: &[Written], settings: &OriginSettings) -> Option<String> {
    let named = settings
        .tls
        .as_ref()
        .and_then(|tls| tls.server_name.as_ref());
    if let Some(name) = named {
        return Some(name.to_str().into_owned());
    }
    let host = |one: &Written| match (&one.target, one.is_default_port) {
        (Target::Name { host, .. }, true) => Some(host.clone()),
        (Target::Name { host, port, .. }, false) => Some(format!("{host}:{port}")),
        (Target::Fixed(address), false) => Some(address.to_string()),
        (Target::Fixed(Address::Tcp(address)), true) => Some(match address.ip() {
            std::net::IpAddr::V4(ip) => ip.to_string(),
            std::net::IpAddr::V6(ip) => format!("[{ip}]"),
        }),
        _ => None,
    };
    let first = host(written.first()?)?;
    let is_common = written.iter().all(|one| host(one).as_ref() == Some(&first));
    is_common.then_some(first)
}

/// Takes a protocol, and tells that some words are for later.
pub(super) fn protocol(field: &Field<'_>, known: &[Protocol], later: &[&str]) -> Option<Protocol> {
    let text = field.text()?;
    if later.contains(&text.as_str()) {
        field.unbuilt(&format!("{SPOKEN}, and {text:?} is another one"));
        return None;
    }
    let words: Vec<_> = known.iter().map(|one| (one.word(), *one)).collect();
    field.pick(&text, &words)
}

/// The one protocol of an origin: as it is declared, or as its addresses say.
fn common_protocol(
    section: &Section<'_>,
    declared: Option<Protocol>,
    written: &[Written],
) -> Protocol {
    let address = section.field("address");
    let said = written.iter().find_map(|one| one.scheme);
    // An address that is wrong has said what is spoken there all the same.
    let meant = || {
        let fields = address.as_ref()?.one_or_many();
        let is_http = |field: &Field<'_>| match field.value.get_ref() {
            toml::de::DeValue::String(text) => text.starts_with("http"),
            _ => false,
        };
        fields.iter().any(is_http).then_some(Protocol::Http)
    };
    let protocol = declared.or(said).or_else(meant).unwrap_or_default();
    for one in written {
        // `tcp://` says how it is reached, which is how HTTP is reached, too; `http://` is any version.
        let fits = |scheme: Protocol| {
            let carries = matches!(scheme, Protocol::Tcp | Protocol::Http);
            scheme == protocol
                || (scheme == Protocol::Tcp && protocol == Protocol::Http)
                || (carries && protocol == Protocol::H2)
        };
        let odd = one.scheme.is_some_and(|scheme| !fits(scheme));
        if let (true, Some(address)) = (odd, &address) {
            let hint = "an origin speaks one protocol; make another origin for the other";
            let why = format!(
                "cannot have {} in an origin that speaks {}",
                one.target,
                protocol.word()
            );
            address.wrong(&why, hint);
        }
        let is_unix = one.target.transport().is_none();
        if let (true, Protocol::Udp, Some(address)) = (is_unix, protocol, &address) {
            address.wrong(
                &format!("cannot have {}: UDP has no Unix sockets", one.target),
                "",
            );
        }
    }
    protocol
}

/// Tells that a key says nothing of UDP.
fn not_of_udp(section: &Section<'_>, key: &'static str, transport: Transport) {
    if let (Transport::Udp, Some(field)) = (transport, section.field(key)) {
        field.wrong("goes with TCP only", "");
    }
}

fn entries(section: &Section<'_>) -> Option<Vec<Written>> {
    let Some(field) = section.field("address") else {
        let name = section.full_name("address");
        let mistake = super::mistake::Mistake::new(format!("`{name}` is missing"))
            .hint("an origin needs at least one address: address = \"host:port\"");
        let reader = section.reader;
        let label = "this origin has no address";
        reader.mistake(mistake.at(&reader.source, section.span.clone(), label));
        return None;
    };
    let fields = field.one_or_many();
    if fields.is_empty() || fields.len() > ENTRIES {
        field.wrong(&format!("must have from 1 to {ENTRIES} entries"), "");
        return None;
    }
    let written: Vec<Written> = fields.iter().filter_map(entry).collect();
    let mut sound = written.len() == fields.len();
    for (index, one) in written.iter().enumerate() {
        if written
            .iter()
            .take(index)
            .any(|other| other.target == one.target)
        {
            if let Some(field) = fields.get(index) {
                field.wrong(&format!("has {} twice", one.target), "");
            }
            sound = false;
        }
    }
    sound.then_some(written)
}

fn entry(field: &Field<'_>) -> Option<Written> {
    if !field.is_table() {
        let place = place(field)?;
        return Some(Written {
            target: place.target,
            scheme: place.scheme,
            is_tls: place.is_tls,
            is_default_port: place.is_default_port,
            weight: 1,
            backup: false,
            zone: None,
        });
    }
    let table = field.table()?;
    let to = table.field("to");
    let weight = table.integer("weight", 1..=1000).unwrap_or(1);
    let Some(to) = &to else {
        field.wrong(
            "needs `to`",
            "{ to = \"host:port\", weight = 3, backup = false }",
        );
        return None;
    };
    let place = place(to)?;
    let written = Written {
        target: place.target,
        scheme: place.scheme,
        is_tls: place.is_tls,
        is_default_port: place.is_default_port,
        weight: u32::try_from(weight).unwrap_or(1),
        backup: table.boolean("backup").unwrap_or(false),
        zone: table.text("zone"),
    };
    table.finish();
    Some(written)
}

/// What one address says.
struct Said {
    target: Target,
    scheme: Option<Protocol>,
    is_tls: bool,
    is_default_port: bool,
}

/// Reads one address.
fn place(field: &Field<'_>) -> Option<Said> {
    let written = field.text()?;
    let (scheme, rest) = match written.split_once("://") {
        Some((scheme, rest)) => (Some(scheme), rest),
        None => (None, written.as_str()),
    };
    let (protocol, is_tls, port) = match scheme {
        None => (None, false, None),
        Some("tcp") => (Some(Protocol::Tcp), false, None),
        Some("udp") => (Some(Protocol::Udp), false, None),
        Some("tls") => (None, true, None),
        Some("http") => (Some(Protocol::Http), false, Some(80)),
        Some("https") => (Some(Protocol::Http), true, Some(443)),
        Some("h2c") => (Some(Protocol::H2), false, Some(80)),
        Some("h2") => (Some(Protocol::H2), true, Some(443)),
        Some(scheme @ ("postgres" | "postgresql")) => {
            field.unbuilt(&format!("{SPOKEN}, and {scheme:?} is another one"));
            return None;
        }
        Some(scheme) => {
            let hint =
                "tcp://, udp://, tls://, http://, https://, h2:// or h2c://, or none of them";
            field.wrong(&format!("has a scheme that is not known: {scheme:?}"), hint);
            return None;
        }
    };
    let rest = match (port, rest.split_once('/')) {
        (Some(_), Some((host, ""))) => host,
        (Some(_), Some((_, path))) if !rest.starts_with("unix:") => {
            let why = format!("cannot have a path: {:?}", format!("/{path}"));
            field.wrong(&why, "a path is for [[listen.route]] and its `rewrite`");
            return None;
        }
        _ => rest,
    };
    let has_port = rest
        .rsplit_once(':')
        .is_some_and(|(_, port)| !port.ends_with(']'));
    let is_service = rest.starts_with("srv:");
    let text = match port {
        Some(port) if !has_port && !is_service => format!("{rest}:{port}"),
        _ => rest.to_owned(),
    };
    let own_port = port.map(|port| format!(":{port}"));
    let is_default_port = own_port.is_some_and(|port| text.ends_with(&port));
    let is_told = rest.starts_with("unix:") || is_service;
    let prefix = match (scheme, protocol) {
        (None, _) => "",
        (Some(_), Some(Protocol::Udp)) => "udp://",
        (Some("tcp"), _) => "tcp://",
        (Some(_), _) if is_told => "",
        (Some(_), _) => "tcp://",
    };
    match format!("{prefix}{text}").parse() {
        Ok(target) => {
            let service = match &target {
                Target::Service {
                    transport: Transport::Udp,
                    ..
                } => Some(Protocol::Udp),
                Target::Service { .. } => Some(Protocol::Tcp),
                _ => None,
            };
            Some(Said {
                target,
                scheme: protocol.or(service),
                is_tls,
                is_default_port,
            })
        }
        Err(error) => {
            let hint = "addresses look like \"db.internal:5432\", \"https://api.example\", \"10.0.0.7:5432\", \"[2001:db8::7]:5432\", \"unix:/run/x.sock\", \"srv:_db._tcp.internal\"";
            field.wrong(&format!("cannot be {written:?}: {error}"), hint);
            None
        }
    }
}

/// How its servers prove who they are; returns what that was read from.
fn tls(
    section: &Section<'_>,
    written: &[Written],
    settings: &mut OriginSettings,
    (base, permissions): (&Path, Permissions),
) -> Option<OriginFiles> {
    let field = section.field("tls");
    let (some, all) = (
        written.iter().any(|one| one.is_tls),
        written.iter().all(|one| one.is_tls),
    );
    if some
        && !all
        && field.is_none()
        && let Some(address) = section.field("address")
    {
        let hint = "write tls:// before each, or add a `tls` table";
        address.wrong("has addresses with TLS and others without", hint);
    }
    let (tls, files) = match &field {
        Some(field) => tls::of_origin(field, base, permissions)?,
        None if some => Default::default(),
        None => return Some(OriginFiles::default()),
    };
    settings.tls = Some(tls);
    settings.supervisor.check = Check::Proof;
    Some(files)
}

/// Whether there is a name to verify at each place.
fn fits_tls(field: Option<&Field<'_>>, settings: &OriginSettings, transport: Transport) {
    let (Some(field), Some(tls)) = (field, &settings.tls) else {
        return;
    };
    if transport == Transport::Udp {
        field.wrong("goes with TCP only", "");
    }
    let is_unix = |place: &Place| matches!(place.target, Target::Fixed(Address::Unix(_)));
    if tls.server_name.is_none()
        && let Some(place) = settings.places.iter().find(|place| is_unix(place))
    {
        let why = format!(
            "needs `server_name`: {} has no name to verify",
            place.target
        );
        field.wrong(&why, "server_name = \"db.internal\"");
    }
}

/// Gives each entry its priority: near before far, preferred before backups, and for `failover` each
/// before the next.
fn places(
    written: Vec<Written>,
    balance: Policy,
    zone: Option<&str>,
    transport: Transport,
) -> Vec<Place> {
    let rank = |index: usize, one: &Written| {
        let far = zone.is_some() && one.zone.as_deref() != zone;
        let order = if balance == Policy::Failover {
            index
        } else {
            0
        };
        (one.backup, far, order)
    };
    let mut ranks: Vec<_> = written
        .iter()
        .enumerate()
        .map(|(i, one)| rank(i, one))
        .collect();
    let own = ranks.clone();
    ranks.sort_unstable();
    ranks.dedup();
    written
        .into_iter()
        .zip(own)
        .map(|(one, own)| Place {
            target: one.target.over(transport),
            weight: one.weight,
            priority: ranks
                .binary_search(&own)
                .ok()
                .and_then(|priority| u32::try_from(priority).ok())
                .unwrap_or(u32::MAX),
        })
        .collect()
}

fn balance(section: &Section<'_>) -> Policy {
    let words = [
        ("failover", Policy::Failover),
        ("round-robin", Policy::RoundRobin),
        ("least-connections", Policy::LeastConnections),
        ("p2c-ewma", Policy::P2cEwma),
        ("random", Policy::Random),
        ("hash", Policy::Hash),
    ];
    let policy = section
        .choice("balance", &words)
        .unwrap_or(Policy::Failover);
    if policy != Policy::Hash
        && let Some(field) = section.field("hash_on")
    {
        field.wrong("goes with balance = \"hash\" only", "");
    }
    policy
}

/// An address that is written as it is, and is none of the networks that may be dialled, is a mistake.
fn literals_are_allowed(field: &Field<'_>, settings: &OriginSettings) {
    for place in &settings.places {
        if let Target::Fixed(Address::Tcp(address) | Address::Udp(address)) = &place.target
            && let Err(why) = dns::judge(&settings.addresses, address.ip())
        {
            field.wrong(
                &format!("forbids {}: {why}", place.target),
                "add its network, or leave the address out",
            );
        }
    }
}

/// Returns where the networks are declared, if they are.
fn connect<'a>(
    section: &Section<'a>,
    settings: &mut OriginSettings,
    protocol: Protocol,
) -> Option<Field<'a>> {
    let connect = section.table("connect")?;
    if let Some(timeout) = connect.duration("timeout") {
        settings.supervisor.connect_timeout = timeout;
    }
    if let Some(delay) = connect.duration("attempt_delay") {
        settings.attempt_delay = delay;
    }
    let allow_ips = connect.field("allow_ips");
    if let Some(field) = &allow_ips {
        settings.addresses = dns::allow_ips(field);
    }
    let words = [
        ("off", None),
        ("v1", Some(Announce::V1)),
        ("v2", Some(Announce::V2)),
    ];
    settings.announce = connect.choice("proxy_protocol", &words).flatten();
    if let (Some(_), Some(field)) = (settings.announce, connect.field("proxy_protocol"))
        && protocol != Protocol::Tcp
    {
        let why = format!(
            "goes before streams of one client each, and the origin speaks {}",
            protocol.word()
        );
        field.wrong(
            &why,
            "origins of HTTP are told of clients by X-Forwarded-For: [listen.forwarded]",
        );
    }
    settings.local_ports = connect
        .field("local_ports")
        .and_then(|field| local_ports(&field));
    connect.unbuilt("source", "redundant ways to an origin come later");
    connect.finish();
    allow_ips
}

/// The ports that connections are made from.
fn local_ports(field: &Field<'_>) -> Option<(u16, u16)> {
    let text = field.text()?;
    let number = |text: &str| text.trim().parse().ok().filter(|port: &u16| *port > 0);
    let range = text
        .split_once('-')
        .and_then(|(first, last)| Some((number(first)?, number(last)?)));
    let range = range.filter(|(first, last)| first < last);
    if range.is_none() {
        let why = format!("is no range of ports: {text:?}");
        field.wrong(&why, "local_ports = \"40000-49999\"");
    }
    range
}

fn timeouts(section: &Section<'_>, requests: &mut HttpSettings, protocol: Protocol) -> Timeouts {
    let transport = protocol.transport();
    let mut timeouts = Timeouts {
        idle: match transport {
            Transport::Tcp => Duration::from_secs(3600),
            Transport::Udp => UDP_IDLE,
        },
        stall: Duration::from_secs(30),
    };
    if let Some(table) = section.table("timeouts") {
        timeouts.idle = table.duration("idle").unwrap_or(timeouts.idle);
        not_of_udp(&table, "stall", transport);
        timeouts.stall = table.duration("stall").unwrap_or(timeouts.stall);
        if let Some(patience) = http::first_byte(&table, protocol) {
            requests.first_byte = patience;
        }
        table.finish();
    }
    timeouts
}

/// `health`; `host` is whom the origin is asked for.
fn health(
    section: &Section<'_>,
    settings: &mut OriginSettings,
    protocol: Protocol,
    host: Option<&str>,
) {
    let transport = protocol.transport();
    let supervisor = &mut settings.supervisor;
    if transport == Transport::Udp {
        supervisor.check = Check::Off;
    }
    supervisor.passive = protocol.is_http().then(Passive::default);
    let Some(health) = section.table("health") else {
        return;
    };
    supervisor.passive = http::passive(&health, protocol);
    let field = health.field("check");
    let text = field.as_ref().and_then(Field::text).unwrap_or_default();
    match &field {
        Some(field) if question::speaks(&text) => {
            let asked = question::read(&health, field, &text, protocol, host);
            supervisor.check = asked.unwrap_or_else(|| supervisor.check.clone());
        }
        Some(field) => {
            question::status_is_of_http(&health);
            if let Some(check) = silent_check(field, &text, transport, settings.tls.is_some()) {
                supervisor.check = check;
            }
        }
        None => question::status_is_of_http(&health),
    }
    supervisor.interval = health.duration("interval").unwrap_or(supervisor.interval);
    supervisor.timeout = health.duration("timeout").unwrap_or(supervisor.timeout);
    for (key, threshold) in [
        ("down_after", &mut supervisor.thresholds.down_after),
        ("up_after", &mut supervisor.thresholds.up_after),
    ] {
        if let Some(count) = health.integer(key, 1..=1000) {
            *threshold = u32::try_from(count).unwrap_or(*threshold);
        }
    }
    not_of_udp(&health, "on_down", transport);
    let on_down = [("keep", OnDown::Keep), ("close", OnDown::Close)];
    supervisor.on_down = health
        .choice("on_down", &on_down)
        .unwrap_or(supervisor.on_down);
    let on_return = [("keep", OnReturn::Keep), ("close", OnReturn::Close)];
    supervisor.on_return = health
        .choice("on_return", &on_return)
        .unwrap_or(supervisor.on_return);
    health.finish();
}

/// A check that says nothing; `None` if it is what it would be anyway.
fn silent_check(
    field: &Field<'_>,
    text: &str,
    transport: Transport,
    is_tls: bool,
) -> Option<Check> {
    if text == "postgres" {
        field.unbuilt(&format!("{SPOKEN}, and {text:?} is another one"));
        return None;
    }
    let words = ["auto", "tcp", "tls", "off"].map(|word| (word, word));
    match field.pick(text, &words)? {
        "tcp" => {
            if transport == Transport::Udp {
                field.wrong("cannot be \"tcp\" of an origin that speaks udp", "");
            }
            Some(Check::HalfOpen)
        }
        "tls" => {
            if !is_tls {
                field.wrong("cannot be \"tls\" of an origin without TLS", "tls = {}");
            }
            Some(Check::Proof)
        }
        "off" => Some(Check::Off),
        _ => None,
    }
}

fn reconnect(section: &Section<'_>, settings: &mut OriginSettings) {
    let Some(field) = section.field("reconnect") else {
        return;
    };
    let Some(table) = field.table() else {
        return;
    };
    let first = table.duration("first").unwrap_or(Duration::from_millis(50));
    let factor = table.field("factor");
    let max = table.field("max");
    let words = [
        ("full", Jitter::Full),
        ("equal", Jitter::Equal),
        ("decorrelated", Jitter::Decorrelated),
        ("none", Jitter::None),
    ];
    let jitter = table.choice("jitter", &words).unwrap_or(Jitter::Full);
    let attempts = table
        .integer("attempts", 0..=u64::from(u32::MAX))
        .unwrap_or(0);
    let attempts = u32::try_from(attempts).unwrap_or(u32::MAX);
    let grow = factor.as_ref().map_or(Some(2.0), Field::float);
    let longest = max
        .as_ref()
        .map_or(Some(Duration::from_secs(15)), Field::duration);
    table.finish();
    let (Some(grow), Some(longest)) = (grow, longest) else {
        return;
    };
    match BackoffSettings::new(first, grow, longest, jitter, attempts) {
        Ok(backoff) => settings.supervisor.reconnect = backoff,
        Err(error) => {
            let place = match error {
                BackoffError::Factor => factor.as_ref(),
                BackoffError::Max => max.as_ref(),
                BackoffError::First => None,
            };
            let why = format!("cannot work: {error}");
            place.unwrap_or(&field).wrong(&why, "");
        }
    }
}

/// Connections of one endpoint that are kept ready.
const WARM: u64 = 1000;

fn pool(
    section: &Section<'_>,
    settings: &mut OriginSettings,
    requests: &mut HttpSettings,
    protocol: Protocol,
) {
    match protocol {
        Protocol::Http => settings.warm.connections = http::WARM,
        // One takes many requests.
        Protocol::H2 => settings.warm.connections = 1,
        Protocol::Tcp | Protocol::Udp | Protocol::Postgres => {}
    }
    let transport = protocol.transport();
    let Some(table) = section.table("pool") else {
        return;
    };
    not_of_udp(&table, "warm", transport);
    if let Some(count) = table.integer("warm", 0..=WARM) {
        settings.warm.connections = usize::try_from(count).unwrap_or_default();
        if let (Some(_), Some(field), 1..) = (settings.announce, table.field("warm"), count) {
            let why = "keeps connections ready that would be nobody's: the origin is told whose each is (`connect.proxy_protocol`)";
            field.wrong(why, "leave it out");
        }
    }
    if let Some(idle) = table.duration("idle") {
        settings.warm.idle = idle;
    }
    if http::only_of_http(&table, "max", protocol)
        && let Some(most) = table.integer("max", 0..=100_000)
    {
        requests.pool_max = u32::try_from(most).ok().filter(|most| *most > 0);
    }
    table.finish();
}

fn hold(
    section: &Section<'_>,
    hold: &mut HoldSettings,
    requests: &mut HttpSettings,
    protocol: Protocol,
) -> HalfClose {
    let transport = protocol.transport();
    let Some(table) = section.table("hold") else {
        return HalfClose::Leaves;
    };
    if let Some(patience) = table.field("for").and_then(|field| field.duration()) {
        hold.patience = patience;
    }
    if let Some(clients) = table.integer("clients", 0..=1_000_000) {
        hold.clients = usize::try_from(clients).unwrap_or(hold.clients);
    }
    if http::only_of_http(&table, "bytes", protocol)
        && let Some(bytes) = table.field("bytes").and_then(|field| field.size())
    {
        requests.hold_bytes = bytes;
    }
    not_of_udp(&table, "half_close", transport);
    let half_close = match table.boolean("half_close") {
        Some(true) => HalfClose::Waits,
        Some(false) | None => HalfClose::Leaves,
    };
    table.finish();
    half_close
}

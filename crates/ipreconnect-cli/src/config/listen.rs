//! `[[listen]]`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use super::check::reach_of;
use super::forward;
use super::material::Permissions;
use super::mistake::Mistake;
use super::origin::protocol;
use super::plan::{ListenPlan, OnConflict, Protocol, ShieldPlan, StatusPlan};
use super::route::{self, ReadRoute};
use super::rules::{self, ReadRules};
use super::section::{Field, Section};
use super::tls;
use ipreconnect::core::http::WebOrigin;
use ipreconnect_ports::Inside;
use ipreconnect_proxy::{Access, FileAccess, ListenAddress, Proxied, ProxyProtocol, Unmatched};

/// Addresses of one listener.
const ADDRESSES: usize = 64;

/// One listener as it is read: its name may have to wait for its origin's.
pub(super) struct Read<'a> {
    pub(super) name: Option<(String, Field<'a>)>,
    pub(super) plan: ListenPlan,
    pub(super) address: Field<'a>,
    /// Where everything goes; or the first route's.
    pub(super) origin: Field<'a>,
    /// Its routes, which say where they say what.
    pub(super) routes: Vec<ReadRoute<'a>>,
    /// What it says that only HTTP has.
    pub(super) only_http: Vec<Field<'a>>,
    /// What it says that datagrams have not.
    pub(super) of_streams: Vec<Field<'a>>,
    /// Where TLS is opened, if it is.
    pub(super) tls: Option<Field<'a>>,
    /// What it carries, where that is said; else what its origin speaks.
    pub(super) mode: Option<(Protocol, Field<'a>)>,
    /// The origins that its status page names.
    pub(super) shown: Vec<(String, Field<'a>)>,
    /// Addresses that others than this machine can reach.
    pub(super) public: Vec<ListenAddress>,
    /// What the files say that its access goes by.
    pub(super) rules: ReadRules<'a>,
    /// Where another network namespace is named.
    pub(super) netns: Option<Field<'a>>,
}

/// Reads one listener; relative paths are relative to `base`.
pub(super) fn read<'a>(
    section: Section<'a>,
    base: &Path,
    permissions: Permissions,
) -> Option<Read<'a>> {
    let name = section
        .field("name")
        .and_then(|field| Some((field.text()?, field)));
    let address = section.field("address");
    let origin = section.field("origin");
    let allowed = section.field("public");
    let public = allowed.as_ref().and_then(Field::boolean).unwrap_or(false);
    let said = section.field("mode");
    let is_status = said.as_ref().is_some_and(|mode| is(mode, "status"));
    let is_forward = said.as_ref().is_some_and(|mode| is(mode, "forward"));
    let is_leases = said.as_ref().is_some_and(|mode| is(mode, "leases"));
    let stands_alone = is_status || is_forward || is_leases;
    let status = is_status.then(|| status(&section));
    let mode = said.clone().filter(|_| !stands_alone).and_then(|field| {
        let known = [
            Protocol::Tcp,
            Protocol::Udp,
            Protocol::Http,
            Protocol::Postgres,
        ];
        let later = ["tunnel"];
        Some((protocol(&field, &known, &later)?, field))
    });
    later(&section);
    let tls_field = section.field("tls");
    let tls = tls_field
        .as_ref()
        .map(|field| tls::of_listener(field, base, permissions));
    let routes = section.field("route").map(|field| route::routes(&field));
    let proxied = proxied(&section);
    let (file, section_unix) = (file_access(&section), section.field("unix"));
    let conflict = section.field("on_conflict");
    let words = [("move", OnConflict::Move), ("refuse", OnConflict::Refuse)];
    let on_conflict = section.choice("on_conflict", &words).unwrap_or_default();
    let shield = shield(&section);
    let netns_field = section.field("netns");
    let netns = netns_field.as_ref().and_then(netns);
    let (limits, mut clients, http_limits) = route::limits(&section);
    let mut rules = rules::read(&section, base, permissions);
    let forward = is_forward.then(|| forward::read(&section, base, &mut rules.files));
    let deny = section.field("deny");
    clients.deny = Arc::new(rules.deny(deny.as_ref(), base));
    let error_page = route::error_page(&section, base);
    let forwarding = route::forwarding(&section);
    let compresses = section.boolean("compress").unwrap_or(false);
    let named = |keys: &[&'static str]| -> Vec<Field<'a>> {
        keys.iter().filter_map(|key| section.field(key)).collect()
    };
    let mut only_http = named(&[
        "forwarded",
        "error_page",
        "compress",
        "shield",
        "shield_origins",
    ]);
    only_http.extend(http_limits);
    let of_streams = named(&["limits", "deny"]);
    if address.is_none() {
        missing(&section, "address", "address = \"127.0.0.1:8080\"");
    }
    if is_status {
        leads_nowhere(&section, "serves the status page");
    } else if is_forward {
        leads_nowhere(&section, "is a forward proxy");
    } else if is_leases {
        leads_nowhere(&section, "leads to the ports that are kept by name");
    } else if origin.is_none() && routes.is_none() {
        missing(
            &section,
            "origin",
            "origin = \"NAME\", for an [origin.NAME]",
        );
    }
    section.finish();
    let routes = routes.unwrap_or_default();
    let unmatched = match origin {
        Some(_) if !stands_alone => Unmatched::Served,
        _ => Unmatched::Refused,
    };
    let first = routes.first().map(|route| route.origin.clone());
    let stands_in = said.filter(|_| stands_alone);
    let (address, origin) = (address?, stands_in.or(origin).or(first)?);
    let addresses = addresses(&address, base)?;
    suits(&addresses, section_unix.as_ref(), conflict.as_ref());
    let exposed = exposed(&address, &addresses, public);
    Some(Read {
        name,
        plan: ListenPlan {
            addresses,
            origin: if stands_alone {
                String::new()
            } else {
                origin.text()?
            },
            unmatched,
            status: status.as_ref().map(|(status, _)| status.clone()),
            forward,
            leases: is_leases,
            routes: routes.iter().map(|route| route.plan.clone()).collect(),
            mode: Protocol::default(),
            limits,
            clients,
            compresses,
            forwarding,
            error_page,
            tls: match tls {
                Some(read) => Some(read?),
                None => None,
            },
            access: Access::default(),
            rule_files: Vec::new(),
            proxied,
            file,
            on_conflict,
            shield,
            netns,
        },
        netns: netns_field,
        rules,
        routes,
        only_http,
        of_streams,
        tls: tls_field,
        address,
        origin,
        mode,
        shown: status.map(|(_, shown)| shown).unwrap_or_default(),
        public: exposed,
    })
}

/// What is said of a listener that has no origin, and makes no sense there.
fn leads_nowhere(section: &Section<'_>, what: &str) {
    if let Some(field) = section.field("origin").or_else(|| section.field("route")) {
        let why = format!("leads nowhere: the listener {what}");
        field.wrong(&why, "leave it out");
    }
    let is_forward = what == "is a forward proxy";
    let shields = ["shield", "shield_origins"]
        .into_iter()
        .filter(|_| is_forward);
    for key in ["compress", "forwarded"].into_iter().chain(shields) {
        if let Some(field) = section.field(key) {
            let why = format!("has no effect: the listener {what}");
            field.wrong(&why, "leave it out");
        }
    }
}

/// Which requests of browsers come in.
fn shield(section: &Section<'_>) -> ShieldPlan {
    let said = section.boolean("shield");
    let field = section.field("shield_origins");
    if let (Some(false), Some(field)) = (said, &field) {
        field.wrong(
            "allows what `shield = false` allows already",
            "leave one of them out",
        );
    }
    let mut origins = Vec::new();
    for one in field.iter().flat_map(Field::one_or_many) {
        let Some(text) = one.text() else { continue };
        match WebOrigin::new(&text) {
            Ok(origin) => origins.push(origin),
            Err(error) => {
                let hint =
                    "shield_origins = [\"https://app.example.com\", \"https://*.example.com\"]";
                one.wrong(&format!("cannot be {text:?}: {error}"), hint);
            }
        }
    }
    ShieldPlan { said, origins }
}

/// The network namespace in which it listens.
fn netns(field: &Field<'_>) -> Option<Inside> {
    let text = field.text()?;
    match text.parse() {
        Ok(inside) => Some(inside),
        Err(error) => {
            let hint = "netns = \"container:3f2a9c11\", \"pid:4711\", \"name:blue\" or \"/run/netns/blue\"";
            field.wrong(&format!("cannot be {text:?}: {error}"), hint);
            None
        }
    }
}

fn is(mode: &Field<'_>, word: &str) -> bool {
    let text = mode.value.get_ref();
    matches!(text, toml::de::DeValue::String(text) if text == word)
}

/// What a status page tells, and where the file names the origins.
fn status<'a>(section: &Section<'a>) -> (StatusPlan, Vec<(String, Field<'a>)>) {
    let mut plan = StatusPlan {
        title: "Status".to_owned(),
        origins: Vec::new(),
    };
    let mut shown = Vec::new();
    if let Some(table) = section.table("status") {
        if let Some(title) = table.text("title") {
            plan.title = title;
        }
        if let Some(field) = table.field("origins") {
            if field.one_or_many().is_empty() {
                field.wrong("names nobody", "leave it out to tell of all");
            }
            for one in field.one_or_many() {
                if let Some(name) = one.text() {
                    plan.origins.push(name.clone());
                    shown.push((name, one));
                }
            }
        }
        table.finish();
    }
    (plan, shown)
}

/// What later versions have.
fn later(section: &Section<'_>) {
    for word in ["status", "forward"] {
        let mode = section.field("mode");
        if !mode.as_ref().is_some_and(|mode| is(mode, word))
            && let Some(field) = section.field(word)
        {
            field.wrong(
                &format!("is for `mode = \"{word}\"`"),
                &format!("add mode = \"{word}\", or leave it out"),
            );
        }
    }
}

fn missing(section: &Section<'_>, key: &str, hint: &str) {
    let mistake = Mistake::new(format!("a listener needs `{key}`")).hint(hint);
    let reader = section.reader;
    reader.mistake(mistake.at(&reader.source, section.span.clone(), "this one has none"));
}

/// What is said of addresses of one kind, where there are none of it.
fn suits(addresses: &[ListenAddress], unix: Option<&Field<'_>>, conflict: Option<&Field<'_>>) {
    let is_file = |address: &ListenAddress| matches!(address, ListenAddress::Unix(_));
    if let (Some(field), false) = (unix, addresses.iter().any(is_file)) {
        field.wrong(
            "is for the files of Unix sockets, and there is none here",
            "leave it out; whoever is on this machine reaches an abstract one",
        );
    }
    let is_any = |address: &ListenAddress| address.ip().is_some_and(|ip| ip.port() == 0);
    if let (Some(field), false) = (conflict, addresses.iter().any(is_any)) {
        field.wrong(
            "is for a port `auto`, and there is none here",
            "leave it out",
        );
    }
}

/// Who may open the files of Unix sockets.
fn file_access(section: &Section<'_>) -> FileAccess {
    let mut file = FileAccess::default();
    let Some(table) = section.table("unix") else {
        return file;
    };
    if let Some(field) = table.field("mode")
        && let Some(text) = field.text()
    {
        file.mode = u32::from_str_radix(&text, 8)
            .ok()
            .filter(|mode| *mode <= 0o777);
        if file.mode.is_none() {
            field.wrong(
                &format!("is no mode of a file: {text:?}"),
                "mode = \"0660\"",
            );
        }
    }
    file.owner = somebody(&table, "owner", ipreconnect_ports::user_id);
    file.group = somebody(&table, "group", ipreconnect_ports::group_id);
    table.finish();
    file
}

fn somebody(
    table: &Section<'_>,
    key: &'static str,
    id: impl Fn(&str) -> Option<u32>,
) -> Option<u32> {
    let field = table.field(key)?;
    let name = field.text()?;
    let found = id(&name);
    if found.is_none() {
        field.wrong(&format!("is nobody on this machine: {name:?}"), "");
    }
    found
}

/// What becomes of the headers of proxies, and which are believed.
fn proxied(section: &Section<'_>) -> Proxied {
    let words = [
        ("off", ProxyProtocol::Off),
        ("accept", ProxyProtocol::Accept),
        ("require", ProxyProtocol::Require),
    ];
    let protocol = section.choice("proxy_protocol", &words).unwrap_or_default();
    let field = section.field("proxy_trust");
    let is_local = |one: &Field<'_>| one.text().is_some_and(|text| text == "local");
    let (mut trust, mut trusts_local) = (Vec::new(), false);
    for one in field.iter().flat_map(Field::one_or_many) {
        if is_local(&one) {
            trusts_local = true;
        } else {
            trust.extend(route::networks(&one));
        }
    }
    match (protocol, &field) {
        (ProxyProtocol::Off, Some(field)) => {
            let hint = "proxy_protocol = \"accept\" or \"require\"";
            field.wrong("trusts proxies of whom nothing is read", hint);
        }
        (ProxyProtocol::Accept | ProxyProtocol::Require, None) => {
            if let Some(field) = section.field("proxy_protocol") {
                let hint = "proxy_trust = [\"10.0.0.0/8\"]";
                field.wrong("needs to know which proxies are believed", hint);
            }
        }
        (_, Some(field)) if field.one_or_many().is_empty() => {
            field.wrong(
                "believes nobody",
                "proxy_trust = [\"10.0.0.0/8\", \"local\"]",
            );
        }
        _ => {}
    }
    Proxied {
        protocol,
        trust,
        trusts_local,
    }
}

/// Addresses that others than this machine can reach; that must be meant.
fn exposed(field: &Field<'_>, addresses: &[ListenAddress], public: bool) -> Vec<ListenAddress> {
    let exposed: Vec<ListenAddress> = addresses
        .iter()
        .filter(|one| is_public(one))
        .cloned()
        .collect();
    if !exposed.is_empty() && !public {
        for address in &exposed {
            field.wrong(
                &format!(
                    "has an address that is not loopback: {address} can be reached by {}",
                    reach_of(address)
                ),
                "add `public = true` to this listener if that is meant",
            );
        }
    }
    if public { exposed } else { Vec::new() }
}

fn is_public(address: &ListenAddress) -> bool {
    match address {
        ListenAddress::Tcp(address) | ListenAddress::Udp(address) => {
            !address.ip().to_canonical().is_loopback()
        }
        ListenAddress::Unix(_) | ListenAddress::Abstract(_) => false,
    }
}

fn addresses(field: &Field<'_>, base: &Path) -> Option<Vec<ListenAddress>> {
    let fields = field.one_or_many();
    if fields.is_empty() || fields.len() > ADDRESSES {
        field.wrong(&format!("must have from 1 to {ADDRESSES} addresses"), "");
        return None;
    }
    let mut addresses = Vec::new();
    let mut sound = true;
    for field in &fields {
        match address(field, base) {
            Some(more) => addresses.extend(more),
            None => sound = false,
        }
    }
    sound.then_some(addresses)
}

fn address(field: &Field<'_>, base: &Path) -> Option<Vec<ListenAddress>> {
    let text = field.text()?;
    let hint = "addresses look like \"127.0.0.1:8080\", \"[::1]:8080\", \"localhost:8080\", \"127.0.0.1:auto\", \"unix:/run/x.sock\", \"unix:@name\"";
    let parsed = parse(&text, base);
    if let Err(why) = &parsed {
        field.wrong(&format!("cannot be {text:?}: {why}"), hint);
    }
    parsed.ok()
}

/// One address as it is written; `localhost` is both families.
pub(super) fn parse(text: &str, base: &Path) -> Result<Vec<ListenAddress>, &'static str> {
    if let Some(name) = text.strip_prefix("unix:@") {
        if name.is_empty() || name.len() > 107 || name.contains('\0') {
            return Err("the name of an abstract unix socket has from 1 to 107 bytes");
        }
        return Ok(vec![ListenAddress::Abstract(name.into())]);
    }
    if let Some(path) = text.strip_prefix("unix:") {
        let path = base.join(path);
        if path.as_os_str().len() > 107 {
            return Err("the path of a unix socket has at most 107 bytes");
        }
        return Ok(vec![ListenAddress::Unix(path)]);
    }
    let (host, port) = text.rsplit_once(':').ok_or("the port is missing")?;
    let port = match port {
        "auto" => 0,
        port => port
            .parse()
            .map_err(|_| "the port must be `auto` or a number from 0 to 65535")?,
    };
    let literal = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    let ips: Vec<IpAddr> = match (literal, host) {
        (None, "localhost") => vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()],
        (Some(host), _) => {
            let ip: Ipv6Addr = host.parse().map_err(|_| "this is not an IPv6 address")?;
            vec![ip.into()]
        }
        (None, host) if host.contains(':') => return Err("IPv6 addresses stand in brackets"),
        (None, host) => {
            let ip: Ipv4Addr = host
                .parse()
                .map_err(|_| "a listener has an IP address, or `localhost`")?;
            vec![ip.into()]
        }
    };
    let tcp = |ip| ListenAddress::Tcp(SocketAddr::new(ip, port));
    Ok(ips.into_iter().map(tcp).collect())
}

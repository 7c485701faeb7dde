//! `[[listen.route]]`, and `[listen.limits]`.

use std::net::IpAddr;
use std::num::NonZeroU64;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use ipreconnect::core::http::{PathRule, Pattern, is_method, is_token};
use ipreconnect::core::rate::Rate;
use ipreconnect_proxy::{
    Bandwidth, CacheSettings, Chain, ClientLimits, Fallback, FieldRules, Forwarding, HttpLimits,
    Rewrite,
};
use toml::de::DeValue;

use super::plan::RoutePlan;
use super::section::{Field, Section};

/// Routes of one listener.
const ROUTES: usize = 1024;
/// The longest page that people are shown.
const PAGE: u64 = 256 * 1024;

/// A route as it is read.
pub(super) struct ReadRoute<'a> {
    pub(super) plan: RoutePlan,
    pub(super) origin: Field<'a>,
    /// The whole route.
    pub(super) place: Field<'a>,
    /// What it says that only HTTP has.
    pub(super) only_http: Vec<Field<'a>>,
    /// The origins that it names beside the first one.
    pub(super) requires: Vec<(String, Field<'a>)>,
}

/// Reads the routes.
pub(super) fn routes<'a>(field: &Field<'a>) -> Vec<ReadRoute<'a>> {
    let fields = field.one_or_many();
    if fields.len() > ROUTES {
        field.wrong(&format!("must have at most {ROUTES} routes"), "");
        return Vec::new();
    }
    fields.iter().filter_map(route).collect()
}

fn route<'a>(field: &Field<'a>) -> Option<ReadRoute<'a>> {
    let table = table(field, "write [[listen.route]]")?;
    let host = table.field("host");
    let origin = table.field("origin");
    let keys = [
        "path", "method", "header", "rewrite", "requires", "fallback", "mirror", "cache",
    ];
    let only_http: Vec<Field<'a>> = keys.iter().filter_map(|key| table.field(key)).collect();
    let paths = table.field("path").map(|field| paths(&field));
    let methods = table.field("method").map(|field| methods(&field));
    let fields = table.field("header").map(|field| headers(&field));
    let rewrite = table.field("rewrite").map(|field| rewrite(&field));
    let requires = table.field("requires").map(|field| names(&field));
    let fallback = table.field("fallback").map(|field| fallback(&field));
    let cache = table.field("cache").and_then(|field| cache(&field));
    let mirror = table.field("mirror");
    let mirror = mirror.and_then(|field| Some((field.text()?, field)));
    let split = table.field("split").map(|field| split(&field));
    let sticky = table.field("sticky").and_then(|field| sticky(&field));
    table.finish();
    let split = split.unwrap_or_default();
    if let (Some(origin), false) = (&origin, split.is_empty()) {
        origin.wrong(
            "stands beside `split`",
            "one of them says where the route leads",
        );
    }
    let origin = origin.or_else(|| Some(split.first()?.2.clone()));
    let Some(origin) = origin else {
        let hint = "host = [\"shop.example\", \"*.shop.example\"], origin = \"NAME\"";
        field.wrong("needs `origin`", hint);
        return None;
    };
    let mut hosts = Vec::new();
    for one in host.into_iter().flat_map(|host| host.one_or_many()) {
        let text = one.text()?;
        match text.parse() {
            Ok(pattern) => hosts.push(pattern),
            Err(error) => one.wrong(&format!("cannot be {text:?}: {error}"), ""),
        }
    }
    let requires = requires.unwrap_or_default();
    let plan = RoutePlan {
        hosts,
        origin: origin.text()?,
        split: split
            .iter()
            .map(|(name, weight, _)| (name.clone(), *weight))
            .collect(),
        sticky,
        paths: paths.unwrap_or_default(),
        methods: methods.unwrap_or_default(),
        fields: fields.unwrap_or_default(),
        rewrite: rewrite.unwrap_or_default(),
        requires: requires.iter().map(|(name, _)| name.clone()).collect(),
        fallback: fallback.flatten(),
        mirror: mirror.as_ref().map(|(name, _)| name.clone()),
        cache,
    };
    Some(ReadRoute {
        plan,
        origin,
        place: field.clone(),
        only_http,
        requires: {
            let others = split.into_iter().skip(1);
            let others = others.map(|(name, _, field)| (name, field));
            requires.into_iter().chain(others).chain(mirror).collect()
        },
    })
}

fn table<'a>(field: &Field<'a>, hint: &str) -> Option<Section<'a>> {
    let DeValue::Table(table) = field.value.get_ref() else {
        field.wrong("must be a table", hint);
        return None;
    };
    let span = field.value.span();
    Some(Section::new(field.reader, field.name.clone(), table, span))
}

/// Origins with their weights.
fn split<'a>(field: &Field<'a>) -> Vec<(String, u32, Field<'a>)> {
    let mut split = Vec::new();
    for one in field.one_or_many() {
        let hint =
            "split = [{ origin = \"web-v1\", weight = 95 }, { origin = \"web-v2\", weight = 5 }]";
        let Some(table) = table(&one, hint) else {
            continue;
        };
        let weight = table.integer("weight", 0..=1_000_000).unwrap_or(1);
        let origin = table.field("origin");
        table.finish();
        let Some(origin) = origin else {
            one.wrong("needs `origin`", hint);
            continue;
        };
        if let Some(name) = origin.text() {
            split.push((name, u32::try_from(weight).unwrap_or(1), origin));
        }
    }
    split
}

/// `cookie:NAME`.
fn sticky(field: &Field<'_>) -> Option<String> {
    let text = field.text()?;
    match text
        .strip_prefix("cookie:")
        .filter(|name| is_token(name.as_bytes()))
    {
        Some(name) => Some(name.to_owned()),
        None => {
            field.wrong(&format!("cannot be {text:?}"), "sticky = \"cookie:NAME\"");
            None
        }
    }
}

/// `true`, or a table.
pub(super) fn cache(field: &Field<'_>) -> Option<CacheSettings> {
    if let DeValue::Boolean(is_on) = field.value.get_ref() {
        return is_on.then(CacheSettings::default);
    }
    let hint = "cache = true, or cache = { size = \"256MiB\", object = \"8MiB\" }";
    let DeValue::Table(_) = field.value.get_ref() else {
        field.wrong("must be true, false or a table", hint);
        return None;
    };
    let table = table(field, hint)?;
    let mut settings = CacheSettings::default();
    let bytes = |key: &'static str| {
        let field = table.field(key)?;
        let size = field.size()?;
        if size == 0 {
            field.wrong("must be more than nothing", "cache = false keeps nothing");
        }
        Some(size)
    };
    if let Some(size) = bytes("size") {
        settings.size = size;
        settings.object = settings.object.min(size / 4);
    }
    if let Some(object) = bytes("object") {
        settings.object = object;
        if object > settings.size
            && let Some(field) = table.field("object")
        {
            field.wrong("is more than `size`", hint);
        }
    }
    let stale_if_error = table.field("stale_if_error");
    if let Some(time) = stale_if_error.and_then(|field| field.duration()) {
        settings.stale_if_error = time;
    }
    if let Some(disk) = bytes("disk") {
        settings.disk = disk;
    }
    table.finish();
    Some(settings)
}

fn paths(field: &Field<'_>) -> Vec<PathRule> {
    let mut paths = Vec::new();
    for one in field.one_or_many() {
        let Some(text) = one.text() else {
            continue;
        };
        match PathRule::new(&text) {
            Ok(path) => paths.push(path),
            Err(error) => {
                let hint = "\"/prefix/\", \"= /exact\" or \"~ ^/expression\"";
                one.wrong(&format!("cannot be {text:?}: {error}"), hint);
            }
        }
    }
    paths
}

fn methods(field: &Field<'_>) -> Vec<Box<[u8]>> {
    let mut methods = Vec::new();
    for one in field.one_or_many() {
        match one.text() {
            Some(text) if is_method(&text) => methods.push(text.into_bytes().into()),
            Some(text) => {
                let hint = "methods are written in capitals: \"GET\"";
                one.wrong(&format!("cannot be {text:?}"), hint);
            }
            None => {}
        }
    }
    methods
}

/// Names and texts of a table.
fn pairs<'a>(field: &Field<'a>) -> Vec<(String, Field<'a>)> {
    match table(field, "{ \"x-name\" = \"value\" }") {
        Some(table) => table.names(),
        None => Vec::new(),
    }
}

fn headers(field: &Field<'_>) -> Vec<(Box<[u8]>, Pattern)> {
    let mut headers = Vec::new();
    for (name, one) in pairs(field) {
        let Some(text) = one.text() else {
            continue;
        };
        is_name(&one, &name);
        match Pattern::new(&text) {
            Ok(pattern) => headers.push((name.into_bytes().into(), pattern)),
            Err(error) => {
                let hint = "a value, \"*\" for any, or \"~ expression\"";
                one.wrong(&format!("cannot be {text:?}: {error}"), hint);
            }
        }
    }
    headers
}

/// Tells if a text cannot be the name of a header, or is of one that belongs to the connection.
fn is_name(field: &Field<'_>, name: &str) -> bool {
    if !is_token(name.as_bytes()) {
        field.wrong(&format!("has a header that cannot be: {name:?}"), "");
        return false;
    }
    true
}

fn may_change(field: &Field<'_>, name: &str) -> bool {
    const FRAMING: [&str; 9] = [
        "connection",
        "content-length",
        "host",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ];
    if FRAMING.iter().any(|own| name.eq_ignore_ascii_case(own)) {
        let why = format!("cannot change {name:?}: it says how the message is read");
        field.wrong(&why, "`host` of the origin says whom it is asked for");
        return false;
    }
    is_name(field, name)
}

fn set(field: &Field<'_>) -> Vec<(Box<str>, Box<str>)> {
    /// More would not fit beside those of a client.
    const MOST: usize = 32;
    let mut set = Vec::new();
    let pairs = pairs(field);
    if pairs.len() > MOST {
        field.wrong(&format!("may set at most {MOST} headers"), "");
    }
    for (name, one) in pairs {
        let Some(text) = one.text() else {
            continue;
        };
        let is_value = !text
            .bytes()
            .any(|byte| byte < b' ' && byte != b'\t' || byte == 127);
        if !is_value {
            one.wrong("has a byte that no header may have", "");
        }
        if may_change(&one, &name) && is_value {
            set.push((name.into(), text.into()));
        }
    }
    set
}

fn remove(field: &Field<'_>) -> Vec<Box<str>> {
    let names = names(field).into_iter();
    names
        .filter(|(name, one)| may_change(one, name))
        .map(|(name, _)| name.into())
        .collect()
}

fn names<'a>(field: &Field<'a>) -> Vec<(String, Field<'a>)> {
    let fields = field.one_or_many().into_iter();
    fields.filter_map(|one| Some((one.text()?, one))).collect()
}

pub(super) fn rewrite(field: &Field<'_>) -> Rewrite {
    let Some(table) = table(field, "{ strip_prefix = \"/api\" }") else {
        return Rewrite::default();
    };
    let prefix = |key: &'static str| {
        let field = table.field(key)?;
        let text = field.text()?;
        if !text.starts_with('/') {
            field.wrong(
                &format!("cannot be {text:?}: a path begins with a slash"),
                "",
            );
        }
        Some(text.into_boxed_str())
    };
    let read_set = |key| {
        table
            .field(key)
            .map(|field| set(&field))
            .unwrap_or_default()
    };
    let read_remove = |key| {
        table
            .field(key)
            .map(|field| remove(&field))
            .unwrap_or_default()
    };
    let (both_set, both_remove) = (read_set("set"), read_remove("remove"));
    let rules = |set_key, remove_key| FieldRules {
        set: [both_set.clone(), read_set(set_key)].concat(),
        remove: [both_remove.clone(), read_remove(remove_key)].concat(),
    };
    let rewrite = Rewrite {
        strip_prefix: prefix("strip_prefix"),
        add_prefix: prefix("add_prefix"),
        request: rules("request_set", "request_remove"),
        response: rules("response_set", "response_remove"),
    };
    table.finish();
    rewrite
}

fn fallback(field: &Field<'_>) -> Option<Fallback> {
    let table = table(field, "{ status = 503, body = \"closed for a moment\" }")?;
    let status = table.integer("status", 200..=599).unwrap_or(503);
    let fallback = Fallback {
        status: u16::try_from(status).unwrap_or(503),
        body: table.text("body").unwrap_or_default().into(),
        content_type: table
            .text("content_type")
            .unwrap_or_else(|| "text/plain; charset=utf-8".to_owned())
            .into(),
    };
    table.finish();
    Some(fallback)
}

/// Reads `limits`.
pub(super) fn limits<'a>(section: &Section<'a>) -> (HttpLimits, ClientLimits, Vec<Field<'a>>) {
    const ONLY_HTTP: [&str; 9] = [
        "header_timeout",
        "idle",
        "stall",
        "body",
        "body_rate",
        "requests",
        "streams",
        "rate",
        "burst",
    ];
    let mut limits = HttpLimits::default();
    let Some(table) = section.table("limits") else {
        return (limits, ClientLimits::default(), Vec::new());
    };
    let only_http = ONLY_HTTP
        .iter()
        .filter_map(|key| table.field(key))
        .collect();
    let clients = client_limits(&table);
    for (key, limit) in [
        ("header_timeout", &mut limits.head),
        ("idle", &mut limits.idle),
        ("stall", &mut limits.stall),
    ] {
        if let Some(duration) = table.duration(key) {
            *limit = duration;
        }
    }
    if let Some(size) = table.field("body").and_then(|field| field.size()) {
        limits.body = size;
    }
    if let Some(rate) = table.field("body_rate").and_then(|field| field.size()) {
        limits.body_rate = rate;
    }
    for (key, limit) in [
        ("requests", &mut limits.requests),
        ("streams", &mut limits.streams),
    ] {
        if let Some(count) = table.integer(key, 1..=1_000_000_000) {
            *limit = u32::try_from(count).unwrap_or(*limit);
        }
    }
    limits.rate = rate(&table, "rate", "burst");
    table.finish();
    (limits, clients, only_http)
}

/// What clients may do, whatever they speak.
fn client_limits(table: &Section<'_>) -> ClientLimits {
    let count = |key| {
        let count = table.integer(key, 1..=1_000_000_000)?;
        u32::try_from(count).ok()
    };
    let bandwidth = |key| {
        let field = table.field(key)?;
        let size = field.size()?;
        if size < 1024 {
            field.wrong("must be at least \"1KiB\" a second", "");
        }
        NonZeroU64::new(size)
    };
    let connects = table.field("connects").and_then(|field| frequency(&field));
    ClientLimits {
        clients: count("clients"),
        per_source: count("clients_per_source"),
        connects: connects.map(|(seconds, count)| seconds / count),
        connects_per_source: rate(table, "connects_per_source", "connects_burst"),
        bandwidth: Bandwidth {
            all: bandwidth("bandwidth"),
            source: bandwidth("bandwidth_per_source"),
            connection: bandwidth("bandwidth_per_connection"),
        },
        first_byte: table.duration("first_byte"),
        deny: Arc::default(),
    }
}

/// Reads a rate, and how many may come at once.
pub(super) fn rate(table: &Section<'_>, key: &'static str, burst: &'static str) -> Option<Rate> {
    let burst = table.integer(burst, 1..=1_000_000);
    let (time, count) = frequency(&table.field(key)?)?;
    let burst = burst.and_then(|burst| u32::try_from(burst).ok());
    Some(Rate {
        interval: time / count,
        burst: burst.unwrap_or(count),
    })
}

/// How often in how much time.
fn frequency(field: &Field<'_>) -> Option<(Duration, u32)> {
    let text = field.text()?;
    let seconds = [("s", 1), ("m", 60), ("h", 3600)];
    let read = text.split_once('/').and_then(|(count, unit)| {
        let (_, seconds) = seconds.iter().find(|(word, _)| *word == unit.trim())?;
        let count: u32 = count.trim().parse().ok()?;
        (1..=1_000_000)
            .contains(&count)
            .then_some((Duration::from_secs(*seconds), count))
    });
    if read.is_none() {
        let hint = "rates look like \"100/s\", \"30/m\", \"1000/h\"";
        field.wrong(&format!("is not a rate: {text:?}"), hint);
    }
    read
}

/// IPv4 that is written as IPv6 is IPv4.
fn canonical(network: IpNet) -> IpNet {
    let IpNet::V6(six) = network else {
        return network;
    };
    let four = six.addr().to_ipv4_mapped();
    let prefix = six.prefix_len().checked_sub(96);
    let four = four
        .zip(prefix)
        .and_then(|(address, prefix)| IpNet::new(IpAddr::V4(address), prefix).ok());
    four.unwrap_or(network)
}

/// Networks, and `loopback`.
pub(super) fn networks(field: &Field<'_>) -> Vec<IpNet> {
    let mut networks = Vec::new();
    for one in field.one_or_many() {
        let Some(text) = one.text() else {
            continue;
        };
        let ip = text.parse::<IpAddr>().map(IpNet::from);
        match (text.as_str(), text.parse::<IpNet>().or(ip)) {
            ("loopback", _) => {
                let loopback = ["127.0.0.0/8", "::1/128"];
                let wide = loopback
                    .iter()
                    .filter_map(|network| network.parse::<IpNet>().ok());
                networks.extend(wide);
            }
            (_, Ok(network)) => networks.push(canonical(network)),
            (_, Err(_)) => {
                let hint = "\"loopback\", an address, or a network as \"10.0.0.0/8\"";
                one.wrong(&format!("cannot be {text:?}"), hint);
            }
        }
    }
    networks
}

/// Reads `forwarded`.
pub(super) fn forwarding(section: &Section<'_>) -> Forwarding {
    let mut forwarding = Forwarding::default();
    let Some(table) = section.table("forwarded") else {
        return forwarding;
    };
    forwarding.trust = table
        .field("trust")
        .map_or_else(Vec::new, |field| networks(&field));
    let chains = [
        ("replace", Chain::Replaced),
        ("append", Chain::Appended),
        ("delete", Chain::Deleted),
        ("untouched", Chain::Untouched),
    ];
    forwarding.chain = table.choice("chain", &chains).unwrap_or_default();
    forwarding.standard = table.boolean("standard").unwrap_or_default();
    table.finish();
    forwarding
}

/// Reads the file of `error_page`.
pub(super) fn error_page(section: &Section<'_>, base: &Path) -> Option<Arc<str>> {
    let field = section.field("error_page")?;
    let path = base.join(field.text()?);
    let is_long = std::fs::metadata(&path).is_ok_and(|file| file.len() > PAGE);
    if is_long {
        field.wrong(
            &format!("is longer than {PAGE} bytes: {}", path.display()),
            "",
        );
        return None;
    }
    match std::fs::read_to_string(&path) {
        Ok(text) => Some(text.into()),
        Err(error) => {
            field.wrong(&format!("cannot be read: {}: {error}", path.display()), "");
            None
        }
    }
}

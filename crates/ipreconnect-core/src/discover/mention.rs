//! Servers that settings name: in URLs, connection strings, pairs of host and port, and lists of them.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::LazyLock;

use regex::Regex;

/// One setting, wherever it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// What it is called: `DATABASE_URL`, `spring.datasource.url`.
    pub path: String,
    /// What it says.
    pub value: String,
    /// Where: a file, or the environment.
    pub place: String,
}

/// A server that settings name. There is no secret in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mention {
    /// What it could be called: `orders-database`.
    pub name: String,
    /// Its host: a name or an address, or the domain of a service.
    pub host: String,
    /// Its port; none, where that is looked up with the service.
    pub port: Option<u16>,
    /// What is spoken there, as URLs say it.
    pub scheme: Option<String>,
    /// The settings that name it, each with its place.
    pub places: Vec<(String, String)>,
}

/// Settings that are looked through, servers that are named, and bytes of one setting.
const SETTINGS: usize = 100_000;
const SERVERS: usize = 2_000;
const LONGEST: usize = 16 * 1024;

/// Ports that schemes have, where URLs do not say them.
const PORTS: &[(&str, u16)] = &[
    ("http", 80),
    ("https", 443),
    ("ws", 80),
    ("wss", 443),
    ("postgres", 5432),
    ("postgresql", 5432),
    ("mysql", 3306),
    ("mariadb", 3306),
    ("redis", 6379),
    ("rediss", 6379),
    ("amqp", 5672),
    ("amqps", 5671),
    ("mongodb", 27_017),
    ("kafka", 9092),
    ("nats", 4222),
    ("mqtt", 1883),
    ("mqtts", 8883),
    ("ldap", 389),
    ("ldaps", 636),
    ("smtp", 25),
    ("smtps", 465),
    ("imap", 143),
    ("imaps", 993),
    ("elasticsearch", 9200),
    ("clickhouse", 9000),
    ("memcached", 11_211),
    ("memcache", 11_211),
    ("sqlserver", 1433),
    ("mssql", 1433),
    ("cassandra", 9042),
    ("etcd", 2379),
    ("zookeeper", 2181),
    ("zk", 2181),
    ("cockroachdb", 26_257),
    ("couchdb", 5984),
    ("neo4j", 7687),
    ("bolt", 7687),
    ("consul", 8500),
    ("vault", 8200),
    ("influxdb", 8086),
    ("rabbitmq", 5672),
    ("pg", 5432),
    ("mongo", 27_017),
];
/// Schemes that lead to no server.
const LOCAL: &[&str] = &[
    "file",
    "sqlite",
    "sqlite3",
    "data",
    "unix",
    "classpath",
    "memory",
    "git",
    "ssh",
    "jar",
    "urn",
    "about",
    "h2",
    "chrome",
];
/// Words at the end of a name that say what kind of value it has.
const KINDS: &[&str] = &[
    "bootstrap-servers",
    "connection-string",
    "connectionstring",
    "base-url",
    "url",
    "uri",
    "dsn",
    "hostname",
    "hosts",
    "host",
    "address",
    "addresses",
    "addr",
    "endpoint",
    "endpoints",
    "servers",
    "server",
    "brokers",
    "broker",
    "jdbc",
    "connection",
];
/// Words of settings whose values are secrets, wherever they stand, and at the end.
const SECRET: &[&str] = &[
    "password",
    "passwords",
    "passwd",
    "passphrase",
    "pwd",
    "secret",
    "secrets",
    "credential",
    "credentials",
    "token",
    "tokens",
    "apikey",
    "htpasswd",
    "creds",
    "cred",
    "basicauth",
    "userpass",
    "userpwd",
];
const SECRET_AT_END: &[&str] = &[
    "auth",
    "authorization",
    "authentication",
    "key",
    "keys",
    "user",
    "users",
    "username",
    "login",
    "pass",
    "cookie",
];
/// Of those at the end, the ones whose values are never of another kind.
const SECRET_ITSELF: &[&str] = &["key", "keys", "pass", "cookie"];
/// Settings whose values look like servers and are none that is needed: pictures of containers, documents, sockets of
/// one's own.
const NOT_NEEDED: &[&str] = &[
    "image",
    "$schema",
    "homepage",
    "license",
    "repository",
    "bugs",
    "funding",
    "xmlns",
    "ports",
    "expose",
    "listen",
    "bind",
    "bind-address",
    "listen-address",
    "allowed-hosts",
    "allowed-origins",
    "cors",
    "origin",
    "no-proxy",
    "user-agent",
    "healthcheck",
    "test",
    "ls-colors",
    "referer",
];

static URL: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r#"([A-Za-z][A-Za-z0-9+.-]*)://([^\s/?#;"'<>|\\`]+)"#).ok());
static NEXT: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r",\s*[A-Za-z][A-Za-z0-9+.-]*://").ok());
static WITHIN: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(r#"@(?:tcp\(|//|tcp:)([A-Za-z0-9_.\-]+|\[[0-9A-Fa-f:]+\]):([0-9]{1,5})"#).ok()
});

/// The servers that some settings name, in the order in which they are named first.
#[must_use]
pub fn mentions(settings: &[Setting]) -> Vec<Mention> {
    let mut found: Vec<Mention> = Vec::new();
    let known: BTreeMap<(&str, String), &Setting> = settings
        .iter()
        .take(SETTINGS)
        .map(|setting| ((setting.place.as_str(), plain(&setting.path)), setting))
        .collect();
    for setting in settings.iter().take(SETTINGS) {
        if setting.value.len() > LONGEST || is_not_needed(&setting.path) {
            continue;
        }
        for (scheme, host, port) in servers(setting, &known) {
            note(&mut found, setting, scheme, host, port);
        }
    }
    let mut names: BTreeMap<String, u32> = BTreeMap::new();
    for one in &mut found {
        let count = names.entry(one.name.clone()).or_default();
        *count += 1;
        if *count > 1 {
            one.name = format!("{}-{count}", one.name);
        }
    }
    found
}

/// What is spoken, where, and at which port.
type Server = (Option<String>, String, Option<u16>);

fn note(
    found: &mut Vec<Mention>,
    setting: &Setting,
    scheme: Option<String>,
    host: String,
    port: Option<u16>,
) {
    let place = (setting.path.clone(), setting.place.clone());
    let same = |one: &&mut Mention| one.host == host && one.port == port;
    if let Some(known) = found.iter_mut().find(same) {
        known.scheme = known.scheme.take().or(scheme);
        if !known.places.contains(&place) {
            known.places.push(place);
        }
        return;
    }
    if found.len() >= SERVERS {
        return;
    }
    found.push(Mention {
        name: name_of(&setting.path, &host, scheme.as_deref()),
        host,
        port,
        scheme,
        places: vec![place],
    });
}

fn servers(setting: &Setting, known: &BTreeMap<(&str, String), &Setting>) -> Vec<Server> {
    let value = setting.value.trim();
    let mut found = urls(value);
    if found.is_empty() {
        found = inside(value);
    }
    if found.is_empty() {
        found.extend(connection_string(value, &setting.path));
    }
    if found.is_empty() {
        found = listed(value);
        // `admin:12345` is who comes, and how he shows it.
        let is_doubtful =
            may_be_secret(&setting.path) && !found.iter().all(|(_, host, _)| is_whole(host));
        if is_doubtful || is_secret(&setting.path) {
            found.clear();
        }
    }
    if found.is_empty() {
        found.extend(paired(setting, known));
    }
    found
}

/// `scheme://user:secret@host:port,host:port/…`, also behind `jdbc:`.
fn urls(value: &str) -> Vec<Server> {
    let mut found = Vec::new();
    for one in apart(value) {
        found.extend(urls_of(one));
    }
    found
}

/// The URLs of a list with commas. Several hosts of one URL have commas between them, too.
fn apart(value: &str) -> Vec<&str> {
    let Some(next) = &*NEXT else {
        return vec![value];
    };
    let (mut parts, mut from) = (Vec::new(), 0);
    for found in next.find_iter(value) {
        parts.push(value.get(from..found.start()).unwrap_or_default());
        from = found.start() + 1;
    }
    parts.push(value.get(from..).unwrap_or_default());
    parts
}

fn urls_of(value: &str) -> Vec<Server> {
    let Some(url) = &*URL else { return Vec::new() };
    let mut found = Vec::new();
    for captures in url.captures_iter(value) {
        let (Some(scheme), Some(authority)) = (captures.get(1), captures.get(2)) else {
            continue;
        };
        let scheme = scheme.as_str().to_ascii_lowercase();
        let bare = scheme.split('+').next().unwrap_or(&scheme).to_owned();
        if LOCAL.contains(&bare.as_str()) {
            continue;
        }
        let start = captures.get(0).map_or(0, |all| all.start());
        let around = (
            value.get(..start).unwrap_or_default(),
            value.get(authority.end()..).unwrap_or_default(),
        );
        if is_cut_short(&bare, authority.as_str(), around) {
            continue;
        }
        // What stands before the last `@` is who comes, and how he shows it.
        let hosts = authority.as_str().rsplit('@').next().unwrap_or_default();
        for one in hosts.split(',') {
            if scheme.ends_with("+srv") {
                found.extend(host(one).map(|host| (Some(scheme.clone()), host, None)));
                continue;
            }
            let usual = port_of(&bare);
            found.extend(
                host_and_port(one, usual)
                    .map(|(host, port)| (Some(bare.clone()), host, Some(port))),
            );
        }
    }
    found
}

/// Whether an authority may end inside a secret, which has a character that had to be written otherwise: then what looks
/// like a host and a port is a part of that.
fn is_cut_short(scheme: &str, authority: &str, (before, behind): (&str, &str)) -> bool {
    let is_quote = |one: &char| matches!(one, '"' | '\'' | '`');
    let quote = before.chars().next_back().filter(is_quote);
    // What is not written in quotes has them within.
    let is_end = |one: char| one.is_whitespace() || Some(one) == quote;
    let end = behind.find(is_end).unwrap_or(behind.len());
    let rest = behind.get(..end).unwrap_or_default();
    let Some((path, after)) = rest.split_once('@') else {
        return false;
    };
    let is_web = matches!(scheme, "http" | "https" | "ws" | "wss");
    if !is_web || !path.starts_with('/') {
        return true;
    }
    // `/@scope/package` and `/package@1.2.3` are paths. What is before a name may be who comes, unless it is whole.
    let is_path = path.ends_with('/') || after.starts_with(|one: char| one.is_ascii_digit());
    let host = host_and_port(authority, Some(1)).map(|(host, _)| host);
    let is_whole = host.is_some_and(|host| is_whole(&host));
    authority.contains(':') && !authority.contains('@') && !is_path && !is_whole
}

/// Whether a host is more than a word, which could be a user's name.
fn is_whole(host: &str) -> bool {
    host.contains('.') || host == "localhost" || host.parse::<IpAddr>().is_ok()
}

/// `user:secret@tcp(host:port)/…`, `jdbc:oracle:thin:@//host:port/…`.
fn inside(value: &str) -> Vec<Server> {
    let Some(within) = &*WITHIN else {
        return Vec::new();
    };
    let all = within.captures_iter(value);
    let server = |captures: regex::Captures<'_>| {
        let text = format!(
            "{}:{}",
            captures.get(1)?.as_str(),
            captures.get(2)?.as_str()
        );
        let (host, port) = host_and_port(&text, None)?;
        Some((None, host, Some(port)))
    };
    all.filter_map(server).collect()
}

/// `host=db port=5432 dbname=…`, `Server=tcp:db,1433;Database=…`.
fn connection_string(value: &str, path: &str) -> Option<Server> {
    if !value.contains('=') {
        return None;
    }
    let separator = if value.contains(';') { ';' } else { ' ' };
    let (mut name, mut port) = (None, None);
    for part in value.split(separator) {
        let Some((key, value)) = part.split_once('=') else {
            continue;
        };
        let value = value.trim().trim_matches(['\'', '"']);
        match key.trim().to_ascii_lowercase().as_str() {
            "host" | "hostaddr" | "server" | "data source" | "address" | "addr" => {
                let value = value.strip_prefix("tcp:").unwrap_or(value);
                let (before, after) = value.split_once(',').unwrap_or((value, ""));
                name = host(before.split('\\').next().unwrap_or(before));
                port = port.or(after.trim().parse().ok());
                if let Some((found, at)) = host_and_port(before, None) {
                    (name, port) = (Some(found), Some(at));
                }
            }
            "port" => port = value.parse().ok().or(port),
            _ => {}
        }
    }
    let is_sql_server =
        value.to_ascii_lowercase().contains("initial catalog") || value.contains("Server=tcp:");
    let usual = || {
        if is_sql_server {
            Some(1433)
        } else {
            by_words(path).or(Some(5432))
        }
    };
    Some((None, name?, port.or_else(usual)))
}

/// `host:port`, or some of them.
fn listed(value: &str) -> Vec<Server> {
    let parts = value.split([',', ' ', ';']).filter(|part| !part.is_empty());
    let mut found = Vec::new();
    for part in parts {
        let Some((host, port)) = host_and_port(part.trim(), None) else {
            // A sentence in which something looks like a server names none.
            return Vec::new();
        };
        let is_server =
            host.parse::<IpAddr>().is_ok() || host.contains(|one: char| one.is_ascii_alphabetic());
        if !is_server || port < 80 {
            return Vec::new();
        }
        found.push((None, host, Some(port)));
    }
    found
}

/// `DB_HOST` beside `DB_PORT`.
fn paired(setting: &Setting, known: &BTreeMap<(&str, String), &Setting>) -> Option<Server> {
    let path = plain(&setting.path);
    let word = ["hostname", "host", "server", "address", "addr"]
        .into_iter()
        .find(|word| path.ends_with(word))?;
    let stem = path.get(..path.len() - word.len())?;
    let host = host(setting.value.trim())?;
    let is_name =
        host.parse::<IpAddr>().is_ok() || host.contains(|one: char| one.is_ascii_alphabetic());
    let beside = known.get(&(setting.place.as_str(), format!("{stem}port")));
    let port = beside
        .and_then(|port| port.value.trim().parse().ok())
        .filter(|port| *port > 0);
    let port = port.or_else(|| by_words(stem))?;
    is_name.then_some((None, host, Some(port)))
}

/// The port of a service that a name speaks of.
fn by_words(path: &str) -> Option<u16> {
    let path = plain(path);
    let mut words = path.split('-');
    words
        .find_map(|word| port_of(word).filter(|_| !matches!(word, "http" | "https" | "ws" | "wss")))
}

fn port_of(scheme: &str) -> Option<u16> {
    PORTS
        .iter()
        .find(|(name, _)| *name == scheme)
        .map(|(_, port)| *port)
}

fn host_and_port(text: &str, usual: Option<u16>) -> Option<(String, u16)> {
    let text = text.trim();
    let (name, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (name, behind) = rest.split_once(']')?;
            (name, behind.strip_prefix(':'))
        }
        None => match text.split_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (text, None),
        },
    };
    let port = match port {
        Some(port) => port.parse().ok().filter(|port| *port > 0)?,
        None => usual?,
    };
    Some((host(name)?, port))
}

/// A host to which something can be sent: no wildcard, and nothing that is to be filled in.
fn host(text: &str) -> Option<String> {
    let text = text.trim().trim_matches(['[', ']']);
    if let Ok(ip) = text.parse::<IpAddr>() {
        return (!ip.is_unspecified()).then(|| ip.to_string());
    }
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
            && !label.starts_with('-')
    };
    let name = text.strip_suffix('.').unwrap_or(text);
    let is_name = name.len() <= 253
        && name.split('.').all(label)
        && !name
            .bytes()
            .all(|byte| byte.is_ascii_digit() || byte == b'.');
    is_name.then(|| name.to_ascii_lowercase())
}

/// In small letters, with hyphens between the words.
fn plain(path: &str) -> String {
    let mut text = String::with_capacity(path.len());
    let mut before = '-';
    for one in path.chars() {
        let next = if one.is_ascii_alphanumeric() || one == '$' {
            one
        } else {
            '-'
        };
        if next.is_ascii_uppercase() && before.is_ascii_lowercase() {
            text.push('-');
        }
        if next != '-' || !text.ends_with('-') {
            text.push(next.to_ascii_lowercase());
        }
        before = next;
    }
    // One word, however it is written.
    text.replace("host-name", "hostname")
}

/// Whether a value is who comes, or how he shows it, by what it is called: `admin:12345` is no server then.
fn may_be_secret(path: &str) -> bool {
    let path = plain(path);
    let path = path.trim_matches('-');
    let is_kind = KINDS
        .iter()
        .any(|kind| path == *kind || path.ends_with(&format!("-{kind}")));
    let mut words = path.split('-');
    let last = words.clone().next_back().unwrap_or_default();
    !is_kind && (SECRET_AT_END.contains(&last) || words.any(|word| SECRET.contains(&word)))
}

/// Whether the value itself is a secret, whatever it looks like.
fn is_secret(path: &str) -> bool {
    let path = plain(path);
    let last = path
        .trim_matches('-')
        .rsplit('-')
        .next()
        .unwrap_or_default();
    SECRET.contains(&last) || SECRET_ITSELF.contains(&last)
}

fn is_not_needed(path: &str) -> bool {
    let path = plain(path);
    let path = path.trim_matches('-');
    NOT_NEEDED.iter().any(|word| {
        path == *word || path.ends_with(&format!("-{word}")) || path.contains(&format!("-{word}-"))
    })
}

/// A name for an origin: what the setting is called without the kind of its value.
fn name_of(path: &str, host: &str, scheme: Option<&str>) -> String {
    let segment = |part: &str| {
        let mut name = plain(part).trim_matches('-').to_owned();
        while let Some(kind) = KINDS
            .iter()
            .find(|kind| name == **kind || name.ends_with(&format!("-{kind}")))
        {
            name.truncate(name.len() - kind.len());
            name = name.trim_matches('-').to_owned();
        }
        // `PGHOST`.
        if let Some(stem) = name
            .strip_suffix("host")
            .filter(|stem| port_of(stem).is_some())
        {
            name = stem.to_owned();
        }
        name.trim_matches(|one: char| one == '-' || one.is_ascii_digit())
            .to_owned()
    };
    let parts: Vec<&str> = path.split('.').collect();
    let said = parts
        .iter()
        .rev()
        .map(|part| segment(part))
        .find(|name| !name.is_empty());
    let name = said.filter(|name| name.len() <= 40);
    let first = host
        .split('.')
        .next()
        .filter(|_| host.parse::<IpAddr>().is_err());
    let name = name
        .or_else(|| first.map(str::to_owned))
        .or_else(|| scheme.map(str::to_owned));
    name.unwrap_or_else(|| "origin".to_owned())
}

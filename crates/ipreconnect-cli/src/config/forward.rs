//! `[listen.forward]`.

mod via;

use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ipreconnect::core::forward::{Allowance, ForwardPolicy, Places, Private};
use ipreconnect_proxy::{CacheSettings, FieldRules, Headers};
use toml::de::DeValue;

use super::route;
use super::section::{Field, Section};
pub(crate) use via::{ParentPlan, ViaPlan, WayPlan};

/// Ports that clients may go to unless something else is said: those of the web.
const PORTS: [(u16, u16); 2] = [(80, 80), (443, 443)];
/// A tunnel in which nothing moves ends after that.
const IDLE: Duration = Duration::from_secs(3600);
/// A list is no longer than this.
const LONGEST: u64 = 512 * 1024 * 1024;

/// A listener that is a forward proxy.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ForwardListen {
    /// Where clients may go.
    pub(crate) policy: Arc<ForwardPolicy>,
    /// Whether they may go nowhere else.
    pub(crate) is_enforced: bool,
    /// Whether the kernel leads clients here that wanted to go elsewhere.
    pub(crate) is_transparent: bool,
    /// What origins are told.
    pub(crate) headers: Headers,
    /// What is changed about requests over plain HTTP, and about their answers.
    pub(crate) request: FieldRules,
    pub(crate) response: FieldRules,
    /// What keeping answers goes by, where they are kept.
    pub(crate) cache: Option<CacheSettings>,
    /// The path of the PAC file.
    pub(crate) pac: Option<String>,
    /// How much each user may have.
    pub(crate) allowance: Allowance,
    /// The ways to hosts: those of the first that is for one; straight there, if there is none.
    pub(crate) via: Vec<ViaPlan>,
    /// A tunnel in which nothing moves ends after that.
    pub(crate) idle: Duration,
}

/// Reads it, and adds the lists that it names to `files`; without the table everything is as it is by default.
pub(super) fn read(section: &Section<'_>, base: &Path, files: &mut Vec<PathBuf>) -> ForwardListen {
    let mut read = ForwardListen {
        policy: Arc::default(),
        is_enforced: true,
        is_transparent: false,
        headers: Headers::default(),
        request: FieldRules::default(),
        response: FieldRules::default(),
        cache: None,
        pac: None,
        allowance: Allowance::default(),
        via: Vec::new(),
        idle: IDLE,
    };
    let mut policy = ForwardPolicy {
        ports: PORTS.to_vec(),
        ..ForwardPolicy::default()
    };
    if let Some(table) = section.table("forward") {
        let mut lists = Lists { base, files };
        policy.allow = table.field("allow").map(|field| lists.read(&field));
        if let Some(field) = table.field("block") {
            policy.block = lists.read(&field);
        }
        if let Some(field) = table.field("ports") {
            policy.ports = ports(&field);
        }
        if let Some(field) = table.field("private") {
            policy.private = private(&field);
        }
        read.is_enforced = table.boolean("enforce").unwrap_or(true);
        read.is_transparent = table.boolean("transparent").unwrap_or(false);
        let words = [
            ("hide", Headers::Hide),
            ("tell", Headers::Tell),
            ("untouched", Headers::Untouched),
        ];
        read.headers = table.choice("headers", &words).unwrap_or_default();
        if let Some(field) = table.field("rewrite") {
            let rewrite = route::rewrite(&field);
            if rewrite.strip_prefix.is_some() || rewrite.add_prefix.is_some() {
                let hint = "it changes headers alone here: set, remove, request_set, request_remove, response_set, response_remove";
                field.wrong("changes paths, which are not ours", hint);
            }
            (read.request, read.response) = (rewrite.request, rewrite.response);
        }
        read.cache = table.field("cache").and_then(|field| cache(&field));
        if let Some(table) = table.table("per_user") {
            read.allowance = allowance(table);
        }
        if let Some(idle) = table.duration("idle") {
            read.idle = idle;
        }
        // Read with the rules of the listener.
        let _ = table.field("users");
        if let Some(field) = table.field("via") {
            read.via = via::read(&field, &mut lists);
        }
        if let Some(field) = table.field("pac")
            && let Some(path) = field.text()
        {
            if !path.starts_with('/') || path.contains(['?', '#', ' ']) {
                let why =
                    format!("cannot be {path:?}: it is the path of a file that browsers ask for");
                field.wrong(&why, "pac = \"/proxy.pac\"");
            }
            read.pac = Some(path);
        }
        table.finish();
    }
    read.policy = Arc::new(policy);
    read
}

/// What reads names, networks, and the files that have many of them.
struct Lists<'l> {
    base: &'l Path,
    files: &'l mut Vec<PathBuf>,
}

impl ForwardListen {
    /// The proxies behind it.
    pub(crate) fn parents(&self) -> impl Iterator<Item = &ParentPlan> {
        let ways = self.via.iter().flat_map(|via| &via.ways);
        ways.filter_map(|way| match way {
            WayPlan::Parent(parent) => Some(parent),
            WayPlan::Direct => None,
        })
    }
}

impl Lists<'_> {
    fn read(&mut self, field: &Field<'_>) -> Places {
        let mut places = Places::new(RandomState::new().hash_one("places"));
        for one in field.one_or_many() {
            if one.is_table() {
                self.file(&one, &mut places);
                continue;
            }
            let Some(text) = one.text() else {
                continue;
            };
            if !places.add(&text) {
                let hint = "\"ads.example\", \"*.example\" (all below), \".example\" (it, and all below), \"203.0.113.0/24\", { file = \"hosts.txt\" }";
                one.wrong(&format!("cannot be {text:?}"), hint);
            }
        }
        places.finish();
        places
    }

    fn file(&mut self, field: &Field<'_>, places: &mut Places) {
        let Some(table) = field.table() else {
            return;
        };
        let Some(path) = table.text("file") else {
            field.wrong(
                "needs the `file` that they are in",
                "{ file = \"hosts.txt\" }",
            );
            return;
        };
        table.finish();
        let (shown, path) = (path.clone(), self.base.join(path));
        self.files.push(path.clone());
        let before = (places.len(), places.skipped());
        match text(&path) {
            Ok(text) => places.read(&shown, &text),
            Err(why) => {
                let shown = path.display();
                field.wrong(&format!("cannot be read: {shown}: {why}"), "");
                return;
            }
        }
        let skipped = places.skipped() - before.1;
        if places.len() == before.0 && skipped > 0 {
            let hint = "lines are names, networks, those of hosts files, or ||example.com^";
            field.wrong(&format!("has nothing that can be read: {shown}"), hint);
        }
    }
}

fn text(path: &Path) -> Result<String, String> {
    let words = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => "there is no such file".to_owned(),
        _ => error.to_string(),
    };
    let file = File::open(path).map_err(words)?;
    let mut bytes = Vec::new();
    file.take(LONGEST + 1)
        .read_to_end(&mut bytes)
        .map_err(words)?;
    if bytes.len() as u64 > LONGEST {
        return Err(format!("it is longer than {LONGEST} bytes"));
    }
    // A comment in another encoding is no reason to have no list.
    Ok(match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
    })
}

/// `[80, 443, "8000-8999"]`, or `"all"`.
fn ports(field: &Field<'_>) -> Vec<(u16, u16)> {
    let hint = "ports = [80, 443, \"8000-8999\"], or \"all\"";
    let fields = field.one_or_many();
    if fields.is_empty() {
        field.wrong("has none: nobody could go anywhere", hint);
    }
    let mut ports = Vec::new();
    for one in &fields {
        let DeValue::String(_) = one.value.get_ref() else {
            let port = one
                .integer(1..=65535)
                .and_then(|port| u16::try_from(port).ok());
            ports.extend(port.map(|port| (port, port)));
            continue;
        };
        let Some(text) = one.text() else {
            continue;
        };
        if text == "all" && fields.len() == 1 {
            return Vec::new();
        }
        let range = text.split_once('-').unwrap_or((&text, &text));
        match (range.0.trim().parse::<u16>(), range.1.trim().parse::<u16>()) {
            (Ok(first @ 1..), Ok(last)) if first <= last => ports.push((first, last)),
            _ => one.wrong(&format!("cannot be {text:?}"), hint),
        }
    }
    ports
}

/// `"deny"`, `"allow"`, or networks.
fn private(field: &Field<'_>) -> Private {
    let hint = "\"deny\", \"allow\", or a list of networks as \"10.0.0.0/8\"";
    match field.value.get_ref() {
        DeValue::Array(_) => {
            let networks = route::networks(field);
            if networks.is_empty() {
                field.wrong("has no network", hint);
            }
            Private::Only(networks.into_iter().collect())
        }
        _ => match field.text().as_deref() {
            Some("deny") | None => Private::Deny,
            Some("allow") => Private::Allow,
            Some(other) => {
                field.wrong(&format!("cannot be {other:?}"), hint);
                Private::Deny
            }
        },
    }
}

/// What each user may have.
fn allowance(table: Section<'_>) -> Allowance {
    let connections = table.integer("connections", 1..=1_000_000);
    let allowance = Allowance {
        connections: connections.and_then(|count| u32::try_from(count).ok()),
        rate: route::rate(&table, "rate", "burst"),
        bytes: table.field("bytes_per_day").and_then(|field| field.size()),
    };
    table.finish();
    allowance
}

/// A size, or what routes have.
fn cache(field: &Field<'_>) -> Option<CacheSettings> {
    let DeValue::String(_) = field.value.get_ref() else {
        return route::cache(field);
    };
    let size = field.size()?;
    if size == 0 {
        field.wrong("must be more than nothing", "leave it out to keep nothing");
    }
    let mut settings = CacheSettings {
        size,
        ..CacheSettings::default()
    };
    settings.object = settings.object.min(size / 4);
    Some(settings)
}

//! `discover`: finds the servers that an application needs, and prints configuration for them.

mod read;
mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::IsTerminal;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use ipreconnect::core::discover::{Mention, Observed, Setting, Why, mentions};
use ipreconnect::core::ports::service;
use ipreconnect_ports::holders;
use rustix::process::{Pid, Signal, kill_process};
use serde::Serialize;
use tokio::time::{Instant, sleep, timeout};

use crate::admin::view::SCHEMA;
use crate::args::{Arguments, Discover};
use crate::child::{Restart, Signals, by_signal, launcher};
use crate::exit::{Exit, Refusal};
use crate::gateway::own::quoted;
use crate::paint::plain;
use watch::{Watch, Watched};

/// A name that is not resolved by then is left as it is.
const RESOLVING: Duration = Duration::from_secs(3);
/// A program that does not end within this time is told again, and killed then; so often.
const ENDS: Duration = Duration::from_secs(5);
const ROUNDS: u32 = 4;
/// Where a setting is that no file has.
const ENVIRONMENT: &str = "environment of process";
const OTHERS: &str = " and others";
/// Files that are looked for where nobody names any.
const FILES: [&str; 12] = [
    ".env",
    "compose.yaml",
    "compose.yml",
    "docker-compose.yaml",
    "docker-compose.yml",
    "application.properties",
    "application.yml",
    "application.yaml",
    "appsettings.json",
    "config.toml",
    "config.yaml",
    "config.json",
];

#[derive(Serialize)]
struct Shown {
    schema: u32,
    /// How long it was looked, in milliseconds; 0, if nothing ran.
    watched_ms: u64,
    origins: Vec<Found>,
    configuration: String,
    /// What could not be read.
    unread: Vec<String>,
}

/// A server, by all that is known of it.
#[derive(Debug, Serialize)]
struct Found {
    name: String,
    address: String,
    /// Whether the application looks as if it could not do without; nothing, if nobody looked.
    required: Option<bool>,
    why: String,
    connections: u32,
    /// The settings that name it.
    settings: Vec<String>,
    listen: String,
    /// What is to be said beside it.
    #[serde(skip)]
    note: Option<String>,
}

/// Reads, watches, joins and prints.
pub(crate) fn discover(arguments: &Arguments, wish: &Discover) -> Result<Exit, Refusal> {
    super::block_on(async {
        let mut signals = Signals::new().map_err(|error| {
            Refusal::new(Exit::Wrong, "cannot listen to signals").because(&error)
        })?;
        run(arguments, wish, &mut signals).await
    })
}

async fn run(
    arguments: &Arguments,
    wish: &Discover,
    signals: &mut Signals,
) -> Result<Exit, Refusal> {
    let watched = match (wish.pid, wish.command.is_empty()) {
        (Some(pid), _) => Some(of_process(pid, wish.time, signals).await?),
        (None, false) => Some(of_command(wish, signals).await?),
        (None, true) => None,
    };
    let watched = match watched {
        Some(Seen::Ended(exit)) => return Ok(exit),
        Some(Seen::Watched(watched)) => Some(watched),
        None => None,
    };
    let (files, is_said) = files(wish);
    let mut unread = Vec::new();
    let mut settings: Vec<Setting> = Vec::new();
    let mut known = read::FileSettings::default();
    for path in files {
        match read::file(&path) {
            Ok(read) => {
                settings.extend(read.settings);
                known.published.extend(read.published);
                known.services.extend(read.services);
            }
            Err(error) if is_said => {
                let message = format!("cannot read {}", path.display());
                return Err(Refusal::new(Exit::Wrong, message).because(&error));
            }
            Err(error) => unread.push(format!("{}: {error}", path.display())),
        }
    }
    if let Some(watched) = &watched {
        for one in &watched.environments {
            let others = if one.is_shared { OTHERS } else { "" };
            let place = format!("{ENVIRONMENT} {}{others}", one.pid);
            settings.extend(read::environment(&one.bytes, &place));
        }
    }
    let found = tokio::select! {
        found = join(mentions(&settings), watched.as_ref(), &known) => found,
        signal = signals.stop() => return Ok(by_signal(signal)),
    };
    let shown = Shown {
        schema: SCHEMA,
        watched_ms: watched.map_or(0, |watched| {
            u64::try_from(watched.lasted.as_millis()).unwrap_or(u64::MAX)
        }),
        configuration: configuration(&found),
        origins: found,
        unread,
    };
    for why in &shown.unread {
        eprintln!("ipreconnect: not read: {}", plain(why));
    }
    let is_some = !shown.origins.is_empty();
    if arguments.json {
        super::print_json(&shown);
    } else if is_some {
        print!("{}", shown.configuration);
    } else {
        eprintln!("nothing was found: no file names a server, and no connection was made");
    }
    Ok(if is_some { Exit::Fine } else { Exit::NotFine })
}

/// The files to be read, and whether somebody has named them.
fn files(wish: &Discover) -> (Vec<PathBuf>, bool) {
    if !wish.files.is_empty() {
        return (wish.files.clone(), true);
    }
    // Where the program is at work.
    let place = wish
        .pid
        .and_then(|pid| std::fs::read_link(format!("/proc/{pid}/cwd")).ok());
    let place = place.unwrap_or_else(|| PathBuf::from("."));
    let mut found: Vec<PathBuf> = FILES
        .iter()
        .map(|name| place.join(name))
        .filter(|path| path.is_file())
        .collect();
    let config = std::fs::read_dir(place.join("config"))
        .into_iter()
        .flatten()
        .flatten();
    let mut config: Vec<PathBuf> = config
        .map(|entry| entry.path())
        .filter(|path| is_readable(path))
        .collect();
    config.sort();
    found.extend(config.into_iter().take(100));
    (found, false)
}

fn is_readable(path: &Path) -> bool {
    let extension = path
        .extension()
        .unwrap_or_default()
        .to_string_lossy()
        .to_ascii_lowercase();
    matches!(
        extension.as_str(),
        "toml" | "yaml" | "yml" | "json" | "properties" | "env"
    ) && path.is_file()
}

/// Watches a process that runs already.
async fn of_process(pid: u32, lasts: Duration, signals: &mut Signals) -> Result<Seen, Refusal> {
    let watch = Watch::of(pid);
    if !watch.is_there() {
        let message = format!("there is no process {pid}");
        return Err(Refusal::new(Exit::Wrong, message));
    }
    let open = std::fs::read_dir(format!("/proc/{pid}/fd"));
    if open.is_err_and(|error| error.kind() == std::io::ErrorKind::PermissionDenied) {
        let message = format!("process {pid} cannot be looked into: it is another user's");
        return Err(Refusal::new(Exit::NotFine, message)
            .hint("run it as that user, as root, or with CAP_SYS_PTRACE"));
    }
    told(&format!("process {pid}"), lasts);
    follow(watch, lasts, signals, || true).await
}

/// Runs a program, and watches it until it ends or the time is over; then it is ended, with all that it has started.
async fn of_command(wish: &Discover, signals: &mut Signals) -> Result<Seen, Refusal> {
    let name = wish.command.first();
    let name = name.map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    let refuse = |error: std::io::Error| {
        Refusal::new(Exit::Wrong, format!("{name} cannot be started")).because(&error)
    };
    let mut command = launcher(Restart::Always);
    // What is printed here is configuration, and nothing else. What the terminal says is said to us.
    let out = std::io::stderr();
    let out = rustix::io::dup(&out).map_err(|error| refuse(error.into()))?;
    command
        .arg("--")
        .args(&wish.command)
        .stdin(Stdio::null())
        .stdout(Stdio::from(out))
        .process_group(0);
    let mut child = tokio::process::Command::from(command)
        .kill_on_drop(true)
        .spawn()
        .map_err(refuse)?;
    let pid = child.id().unwrap_or_default();
    told(&name, wish.time);
    let seen = follow(Watch::of(pid), wish.time, signals, || {
        matches!(child.try_wait(), Ok(None))
    })
    .await;
    let own = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let mut status = child.try_wait().map_err(refuse)?;
    for _ in 0..ROUNDS {
        let (None, Some(own)) = (status, own) else {
            break;
        };
        // Who does not listen is killed when it is told again.
        let _ = kill_process(own, Signal::TERM);
        let ended = timeout(ENDS, child.wait()).await;
        status = ended.ok().transpose().map_err(refuse)?;
    }
    if status.is_none() {
        eprintln!(
            "ipreconnect: {} does not end: it may have the rights of another user, and goes on",
            plain(&name)
        );
    }
    let is_none = matches!(&seen, Ok(Seen::Watched(watched)) if watched.servers.is_empty());
    match status.and_then(|status| status.code()) {
        Some(126 | 127) if is_none => Err(Refusal::new(
            Exit::Wrong,
            format!("{name} could not be run, and nothing was seen of it"),
        )),
        _ => seen,
    }
}

fn told(what: &str, lasts: Duration) {
    if std::io::stderr().is_terminal() {
        eprintln!(
            "ipreconnect: watching {what} for {} s: use it as it is used",
            lasts.as_secs()
        );
    }
}

async fn follow(
    mut watch: Watch,
    lasts: Duration,
    signals: &mut Signals,
    mut is_there: impl FnMut() -> bool,
) -> Result<Seen, Refusal> {
    let until = Instant::now() + lasts;
    while Instant::now() < until && is_there() && watch.is_there() {
        let pause = watch.look().map_err(|error| {
            Refusal::new(Exit::NotFine, "connections cannot be looked at").because(&error)
        })?;
        tokio::select! {
            () = sleep(pause) => {}
            signal = signals.stop() => match signal {
                // Whoever has seen enough gets what was found.
                Signal::INT => break,
                signal => return Ok(Seen::Ended(by_signal(signal))),
            },
        }
    }
    Ok(Seen::Watched(watch.end()))
}

/// What became of watching.
enum Seen {
    Watched(Watched),
    /// Nobody waits for it any more.
    Ended(Exit),
}

/// What settings name and what was seen, by address.
async fn join(
    mentions: Vec<Mention>,
    watched: Option<&Watched>,
    known: &read::FileSettings,
) -> Vec<Found> {
    let mut seen: BTreeMap<SocketAddr, &Observed> = watched
        .map(|watched| {
            watched
                .servers
                .iter()
                .map(|(address, observed)| (*address, observed))
                .collect()
        })
        .unwrap_or_default();
    let now = watched.map_or(Duration::ZERO, |watched| watched.lasted);
    let mut found = Vec::new();
    let (mut names, mut taken) = (BTreeSet::new(), BTreeSet::new());
    let mut resolving = Vec::new();
    for mention in &mentions {
        let (place, _) = place(mention, known);
        resolving.push(tokio::spawn(resolve(place, mention.port)));
    }
    for (mention, resolving) in mentions.into_iter().zip(resolving) {
        let (place, note) = place(&mention, known);
        let addresses = resolving.await.unwrap_or_default();
        let own: Vec<&Observed> = addresses
            .iter()
            .filter_map(|address| seen.remove(address))
            .collect();
        let why = own.iter().map(|one| one.why(now)).reduce(both);
        let connections = own.iter().map(|one| one.connections()).sum();
        let address = address(&mention, &place);
        let settings = places(&mention.places);
        found.push(Found {
            name: unique(&mention.name, &mut names),
            listen: listen(mention.port, &addresses, &mut taken),
            address,
            required: watched.map(|_| why.is_some_and(Why::is_required)),
            why: match (why, watched) {
                (Some(why), _) => why.words(),
                (None, Some(_)) => "no connection was seen".to_owned(),
                (None, None) => String::new(),
            },
            connections,
            settings,
            note,
        });
    }
    for (address, observed) in seen {
        // Names are looked up, and that is not what is needed.
        if address.port() == 53 {
            continue;
        }
        let why = observed.why(now);
        let name = service(address.port(), false).map_or("origin", |service| service.name);
        found.push(Found {
            name: unique(name, &mut names),
            address: address.to_string(),
            required: Some(why.is_required()),
            why: why.words(),
            connections: observed.connections(),
            settings: Vec::new(),
            listen: listen(Some(address.port()), &[address], &mut taken),
            note: Some(
                "no setting that was read names it; its name is better than its address".to_owned(),
            ),
        });
    }
    found
}

/// The settings that name a server. What several processes have in their environments is one.
fn places(all: &[(String, String)]) -> Vec<String> {
    let mut shown: Vec<(&str, String)> = Vec::new();
    for (path, place) in all {
        let is_environment = |place: &str| place.starts_with(ENVIRONMENT);
        let mut known = shown.iter_mut();
        let same = known.find(|(other, at)| other == path && is_environment(at));
        match same.filter(|_| is_environment(place)) {
            Some((_, at)) if at.ends_with(OTHERS) => {}
            Some((_, at)) => at.push_str(OTHERS),
            None => shown.push((path, place.clone())),
        }
    }
    let shown = shown.into_iter();
    shown
        .map(|(path, place)| format!("{path} ({place})"))
        .collect()
}

fn both(one: Why, other: Why) -> Why {
    Why {
        at_start: one.at_start || other.at_start,
        held: one.held || other.held,
        again: one.again || other.again,
    }
}

/// The host as it is reached from here, and what there is to say of that.
fn place(mention: &Mention, known: &read::FileSettings) -> (String, Option<String>) {
    let (host, port) = (&mention.host, mention.port);
    if !known.services.contains(host) {
        return (host.clone(), None);
    }
    match port.and_then(|port| known.published.get(&(host.clone(), port))) {
        Some(here) => (
            format!("127.0.0.1:{here}"),
            Some(format!(
                "service {host} of the compose file, whose port is published here"
            )),
        ),
        None => (
            host.clone(),
            Some(format!(
                "service {host} of the compose file: this name is known to its other services only"
            )),
        ),
    }
}

async fn resolve(place: String, port: Option<u16>) -> Vec<SocketAddr> {
    let Some(port) = port else {
        return Vec::new();
    };
    if let Ok(address) = place.parse() {
        return vec![address];
    }
    let looked = timeout(RESOLVING, tokio::net::lookup_host((place.as_str(), port))).await;
    let found = looked.ok().and_then(Result::ok).into_iter().flatten();
    found
        .map(|one| SocketAddr::new(one.ip().to_canonical(), one.port()))
        .collect()
}

/// The address of an origin.
fn address(mention: &Mention, place: &str) -> String {
    let Some(port) = mention.port else {
        let scheme = mention.scheme.as_deref().unwrap_or_default();
        let service = scheme.split('+').next().unwrap_or_default();
        return format!("srv:_{service}._tcp.{place}");
    };
    let host = match place.parse::<IpAddr>() {
        Ok(IpAddr::V6(ip)) => format!("[{ip}]:{port}"),
        _ if place.contains(':') => place.to_owned(),
        _ => format!("{place}:{port}"),
    };
    match mention.scheme.as_deref() {
        Some("http" | "ws") => format!("http://{host}"),
        Some("https" | "wss") => format!("https://{host}"),
        Some("rediss" | "amqps" | "ldaps" | "smtps" | "imaps" | "mqtts") => format!("tls://{host}"),
        _ => host,
    }
}

/// Where the application will find it: at the same port, if that is free here.
fn listen(port: Option<u16>, addresses: &[SocketAddr], taken: &mut BTreeSet<u16>) -> String {
    let auto = "127.0.0.1:auto".to_owned();
    let Some(port) = port else {
        return auto;
    };
    let own = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let is_here = addresses.iter().any(|address| address.ip().is_loopback());
    let is_held = holders(own).is_ok_and(|holders| !holders.is_empty());
    if is_here || is_held || port < 1024 || !taken.insert(port) {
        auto
    } else {
        own.to_string()
    }
}

fn unique(name: &str, names: &mut BTreeSet<String>) -> String {
    let plain: String = name
        .chars()
        .map(|one| {
            if one.is_ascii_alphanumeric() {
                one.to_ascii_lowercase()
            } else {
                '-'
            }
        })
        .collect();
    let first = plain.trim_matches('-').to_owned();
    let first = if first.is_empty() {
        "origin".to_owned()
    } else {
        first
    };
    let mut name = first.clone();
    let mut number = 1;
    while !names.insert(name.clone()) {
        number += 1;
        name = format!("{first}-{number}");
    }
    name
}

fn configuration(found: &[Found]) -> String {
    let mut text = String::from(
        "# Found by `ipreconnect discover`, without any secret. Read it before it is used.\n",
    );
    for one in found {
        text.push('\n');
        for setting in &one.settings {
            let _ = writeln!(text, "# {}", plain(setting));
        }
        if !one.why.is_empty() {
            let count = match one.connections {
                0 => String::new(),
                1 => " (1 connection)".to_owned(),
                many => format!(" ({many} connections)"),
            };
            let _ = writeln!(text, "# {}{count}", one.why);
        }
        if let Some(note) = &one.note {
            let _ = writeln!(text, "# {}", plain(note));
        }
        let _ = writeln!(
            text,
            "[origin.{}]\naddress  = {}",
            one.name,
            quoted(&one.address)
        );
        if let Some(required) = one.required {
            let _ = writeln!(text, "required = {required}");
        }
        let _ = writeln!(
            text,
            "\n[[listen]]\naddress = {}\norigin  = {}",
            quoted(&one.listen),
            quoted(&one.name)
        );
    }
    text.push_str(
        "\n# `ipreconnect exec -- CMD` runs the application with these addresses in its environment; else put the addresses of\n\
         # the listeners in place of the servers' own in the settings above.\n",
    );
    text
}

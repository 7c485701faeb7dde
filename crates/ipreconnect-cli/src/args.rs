//! Arguments as they are typed.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args, Parser, Subcommand};
use clap_complete::Shell;
use ipreconnect::resolve::DnsServer;

use crate::child::Restart;
use crate::config::{Environment, Permissions};

/// Keeps an application connected to the servers it cannot work without.
#[derive(Debug, Parser)]
#[command(name = "ipreconnect", version, propagate_version = true)]
#[command(
    after_help = "Exit codes: 0 fine, 1 the thing asked about is not fine, 2 wrong use or configuration,\n3 the running gateway cannot be reached."
)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,

    /// The configuration: a file, or a directory of *.toml [default: $IPRECONNECT_CONFIG, ./ipreconnect.toml, /etc/ipreconnect/ipreconnect.toml]
    #[arg(long, global = true, value_name = "PATH")]
    pub(crate) config: Option<PathBuf>,

    /// Answer with JSON (an object with "schema": 1)
    #[arg(long, global = true)]
    pub(crate) json: bool,

    /// Use keys that others on this machine can read
    #[arg(long, global = true)]
    pub(crate) insecure_permissions: bool,

    /// More lines in the log; twice for all of them
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub(crate) verbose: u8,

    /// Fewer lines in the log
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the gateway in the foreground
    #[command(
        after_help = "Examples:\n  ipreconnect run\n  ipreconnect run --config /etc/ipreconnect --watch\n  ipreconnect run --listen 127.0.0.1:9200 --origin search-1:9200,search-2:9200\n\nSIGHUP reloads, SIGTERM and SIGINT drain and end."
    )]
    Run(Run),
    /// Validate the configuration, and say what it exposes to whom
    Check {
        /// The configuration, instead of --config
        path: Option<PathBuf>,

        /// Print the reference of all keys instead
        #[arg(long)]
        reference: bool,
    },
    /// Show the proven state of each origin and listener
    #[command(
        after_help = "Examples:\n  ipreconnect status\n  ipreconnect status search\n  ipreconnect status --wait && start-my-application"
    )]
    Status(Status),
    /// Watch origins, losses and held clients live in the terminal
    #[command(
        after_help = "`?` shows the keys. It works over SSH, on 80 by 24, and without colours (NO_COLOR)."
    )]
    Top,
    /// Tell what was lost, for how long, and how much of the time each origin was up
    #[command(
        after_help = "Examples:\n  ipreconnect history\n  ipreconnect history search --limit 500\n  ipreconnect history --csv > losses.csv\n\nWhile no gateway runs, it is what the last one has written."
    )]
    History(HistoryArguments),
    /// Take one connection apart: resolvers, every address, who speaks first
    #[command(
        after_help = "Examples:\n  ipreconnect probe db.internal:5432\n  ipreconnect probe search            (an origin of the configuration)\n  ipreconnect probe srv:_ldap._tcp.example.com --resolver 9.9.9.9,tls://1.1.1.1#cloudflare-dns.com --dnssec validate\n  ipreconnect probe api.example:443 --cold 20 --warm 20 --slo connect=100ms,resolve=20ms\n\nIt exits with 1 if nothing can be connected to, or a limit is missed."
    )]
    Probe(Probe),
    /// Show which keys the servers of each origin had, and accept a change
    #[command(
        args_conflicts_with_subcommands = true,
        after_help = "Examples:\n  ipreconnect identity\n  ipreconnect identity payments\n  ipreconnect identity accept payments\n\nIt exits with 1 while a key waits to be accepted, or a server cannot prove who it is."
    )]
    Identity(IdentityArguments),
    /// The alerts of the configuration
    Alerts {
        #[command(subcommand)]
        action: AlertsAction,
    },
    /// The local authority that `tls = "internal"` uses
    Ca {
        #[command(subcommand)]
        action: CaAction,
    },
    /// The answers that routes with a cache keep
    Cache {
        #[command(subcommand)]
        action: CacheAction,
    },
    /// Say in words how a request ended, by the code of its line in the access log
    #[command(
        after_help = "Examples:\n  ipreconnect explain SH--\n  ipreconnect explain       (all letters)"
    )]
    Explain {
        /// The code, as `end` in the access log
        #[arg(allow_hyphen_values = true)]
        code: Option<String>,
    },
    /// Tell which access rule decides on a client, and why
    #[command(
        after_help = "Examples:\n  ipreconnect why search --from 10.1.2.3\n  ipreconnect why search --from local --user app\n  ipreconnect why proxy --from 127.0.0.1 --to ads.example\n\nIt exits with 1 if the client is refused, or may not go there."
    )]
    Why(WhyArguments),
    /// Print the variables by which programs go through a forward proxy, and prove that they do
    #[command(
        after_help = "Examples:\n  eval \"$(ipreconnect proxy-env)\"\n  ipreconnect proxy-env office --shell fish | source\n  ipreconnect proxy-env --test\n\nWith --test it exits with 1 if a program that is there does not go by the proxy, or not past it to this machine."
    )]
    ProxyEnv(ProxyEnv),
    /// Run an application with its origins: their local addresses are in its environment
    #[command(
        after_help = "Examples:\n  ipreconnect exec --wait -- npm start\n  ipreconnect exec --wait --restart on-recovery -- ./orders\n  ipreconnect exec -- sh -c 'psql -h $ORDERS_DB_HOST -p $ORDERS_DB_PORT'\n\nIt uses the gateway of the configuration that runs, and else one of its own for as long as the application runs.\nVariables of an origin `orders-db`: ORDERS_DB_ADDR, ORDERS_DB_HOST, ORDERS_DB_PORT, and ORDERS_DB_URL where it\nspeaks HTTP; of a forward proxy: HTTP_PROXY and the others of `proxy-env`.\nIts exit code is the application's; 126 and 127 as of a shell."
    )]
    Exec(Exec),
    /// Find the servers that an application needs, and print configuration for them
    #[command(
        after_help = "Examples:\n  ipreconnect discover                          (.env, compose files, config/… of this directory)\n  ipreconnect discover .env config/production.yaml\n  ipreconnect discover --pid 4711 --for 60s     (what it connects to, too)\n  ipreconnect discover -- npm start             (run for a while, and ended then)\n\nServers that are connected to at the start, held open or connected to again are required. Users, passwords and\nkeys are left out. It exits with 1 if nothing was found."
    )]
    Discover(Discover),
    /// Becomes a program that this one runs
    #[command(hide = true)]
    Launch(Launch),
    /// See who listens on this machine, and what its ports are for
    Ports {
        #[command(subcommand)]
        action: PortsAction,
    },
    /// Stand before a tool that listens on this machine, and refuse what pages of the web make browsers send to it
    #[command(
        after_help = "Examples:\n  ipreconnect shield 62893\n  ipreconnect shield 8888 --listen 127.0.0.1:8889\n  ipreconnect shield 62893 --allow https://app.example.com\n\nListeners of a gateway that speak HTTP on loopback are shielded by themselves (`shield`)."
    )]
    Shield(ShieldArguments),
    /// Make the line of a file of users: reads the password from the terminal or from standard input
    Password {
        /// The user
        name: String,
    },
    /// Show what passes through a listener: connections, heads of requests, PostgreSQL's messages, bytes
    #[command(
        after_help = "Examples:\n  ipreconnect tap orders\n  ipreconnect tap orders --client 10.1.2.3 --for 60\n  ipreconnect tap raw --hex\n\nSecrets of HTTP and PostgreSQL are masked; bytes of other protocols are shown with --hex alone, as they are.\nThe log tells everybody that a tap is open. It closes by itself after five minutes."
    )]
    Tap(TapArguments),
    /// Try an origin again now, whatever its schedule says; also ends a drain
    Reconnect {
        /// The origin
        origin: String,
    },
    /// Give an origin no new work; what is open stays
    Drain {
        /// The origin
        origin: String,
    },
    /// Send an origin's new work to one of its servers while that is up
    #[command(
        after_help = "Examples:\n  ipreconnect prefer orders 10.0.0.2:5432\n  ipreconnect prefer orders                  (as the configuration says again)\n\nWhat is open stays where it is. A restart of the gateway forgets it."
    )]
    Prefer {
        /// The origin
        origin: String,
        /// The server, as `status` shows it; without one the configuration decides again
        address: Option<String>,
    },
    /// Make the running gateway take its changed configuration
    Reload,
    /// See it work: two built-in origins that are killed, frozen and revived
    Demo {
        /// Keep origins and gateway running afterwards
        #[arg(long)]
        stay: bool,
    },
    /// Print completions for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Print the manual page, or the reference of all commands
    Man {
        /// Markdown instead of a manual page
        #[arg(long)]
        markdown: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Run {
    /// Where to listen, instead of a file: `ip:port`, `localhost:port`, `ip:auto`, `unix:/path`
    #[arg(
        long,
        value_name = "ADDR",
        requires = "origin",
        value_delimiter = ',',
        conflicts_with = "config"
    )]
    pub(crate) listen: Vec<String>,

    /// The origin's addresses, the preferred one first: host:port, unix:/path
    #[arg(
        long,
        value_name = "ADDR,…",
        requires = "listen",
        value_delimiter = ','
    )]
    pub(crate) origin: Vec<String>,

    /// Reload when a file of the configuration changes
    #[arg(long)]
    pub(crate) watch: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum PortsAction {
    /// Every listening socket of this machine and its containers, with whoever has it open
    #[command(
        after_help = "Examples:\n  ipreconnect ports list\n  ipreconnect ports list --exposed\n  ipreconnect ports list --port 5432,8000-8999 --of nginx.service\n\nIt exits with 1 if something is open to a network that usually is not: databases, debuggers, dashboards.\nWithout root, processes of other users and other network namespaces are not seen; it says so."
    )]
    List(PortsList),
    /// What an address and a port mean on this machine, who has them, and what would become of who wanted them
    #[command(
        after_help = "Examples:\n  ipreconnect ports explain 127.0.0.1:62893\n  ipreconnect ports explain 5432\n  ipreconnect ports explain '*:8080'\n\nIt exits with 1 if nobody could listen at this address now, over TCP or over UDP."
    )]
    Explain(PortsExplain),
    /// Keep a port by name, and run a program behind it whose restarts its clients do not see
    #[command(
        after_help = "Examples:\n  ipreconnect ports lease web                    (its port, from now on)\n  ipreconnect ports lease web -- npm start       (http://web.localhost:PORT/)\n  ipreconnect ports lease api --socket -- ./api  (the listening socket itself: LISTEN_FDS)\n  ipreconnect ports lease                        (all that are kept)\n\nThe program is told a port of its own in PORT, and HOST=127.0.0.1: it listens there, and the kept port leads to it.\nWhoever comes while it is started again waits. With --socket it gets the kept port's socket as descriptor 3.\nA name that was not used for 90 days loses its port."
    )]
    Lease(PortsLease),
    /// Give a kept port back
    Release {
        /// Its name
        name: String,
    },
    /// Who comes to local ports and goes, as it happens
    #[command(
        after_help = "Examples:\n  ipreconnect ports watch\n  ipreconnect ports watch --port 5432,62000-62999\n  ipreconnect ports watch --all --json\n\nWhat is over between two looks is counted; nobody can say whose it was. The user is the kernel's word, the\nprogram's name a hint."
    )]
    Watch(PortsWatch),
    /// How near outgoing connections are to the end of their ports, and what helps
    #[command(
        after_help = "Examples:\n  ipreconnect ports pressure\n  ipreconnect ports pressure --for 10\n\nIt looks twice. It exits with 1 if a destination comes to the end of its ports."
    )]
    Pressure(PortsPressure),
}

/// `ports explain`.
#[derive(Debug, Args)]
pub(crate) struct PortsExplain {
    /// The address with its port, or a port of 127.0.0.1
    pub(crate) address: String,
}

/// `ports lease`.
#[derive(Clone, Debug, Args)]
pub(crate) struct PortsLease {
    /// Letters, digits and hyphens
    pub(crate) name: Option<String>,

    /// This port, and no other one
    #[arg(long, value_name = "PORT", requires = "name", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) port: Option<u16>,

    /// Hand the listening socket itself to the program (LISTEN_FDS), for programs that take one
    #[arg(long, requires = "command")]
    pub(crate) socket: bool,

    /// When the program is started again
    #[arg(long, value_enum, value_name = "WHEN", default_value_t = Restart::OnFailure)]
    pub(crate) restart: Restart,

    /// The program and its arguments
    #[arg(last = true, requires = "name", value_name = "CMD")]
    pub(crate) command: Vec<OsString>,
}

/// `ports watch`.
#[derive(Debug, Args)]
pub(crate) struct PortsWatch {
    /// Only these ports, as 5432 or 8000-8999
    #[arg(long, value_name = "PORT,…", value_delimiter = ',', value_parser = ports)]
    pub(crate) port: Vec<RangeInclusive<u16>>,

    /// What comes from other machines, too
    #[arg(long)]
    pub(crate) all: bool,

    /// For how long; for ever, if nothing is said
    #[arg(long = "for", value_name = "SECONDS")]
    pub(crate) seconds: Option<u64>,
}

/// `ports pressure`.
#[derive(Debug, Args)]
pub(crate) struct PortsPressure {
    /// How long there is between the two looks
    #[arg(long = "for", value_name = "SECONDS", default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub(crate) seconds: u64,

    /// So many destinations
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub(crate) limit: u32,
}

/// `ports list`.
#[derive(Debug, Args)]
pub(crate) struct PortsList {
    /// Only TCP
    #[arg(long, conflicts_with = "udp")]
    pub(crate) tcp: bool,

    /// Only UDP
    #[arg(long)]
    pub(crate) udp: bool,

    /// Only what can be reached from beyond this machine, as far as addresses go
    #[arg(long)]
    pub(crate) exposed: bool,

    /// Only these ports, as 5432 or 8000-8999
    #[arg(long, value_name = "PORT,…", value_delimiter = ',', value_parser = ports)]
    pub(crate) port: Vec<RangeInclusive<u16>>,

    /// Only those of this user
    #[arg(long, value_name = "USER")]
    pub(crate) user: Option<String>,

    /// Only those of this program, process number, unit or container
    #[arg(long, value_name = "NAME")]
    pub(crate) of: Option<String>,

    /// Only this network namespace: no containers
    #[arg(long)]
    pub(crate) own: bool,

    /// In which order
    #[arg(long, value_enum, value_name = "ORDER", default_value_t = SortPorts::Port)]
    pub(crate) sort: SortPorts,
}

/// Orders of `ports list`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum SortPorts {
    /// The lowest first
    Port,
    /// By the program's name
    Program,
    /// By the user's name
    User,
    /// What reaches farthest first
    Exposure,
    /// What was started last first
    Age,
    /// What lost most, and has most waiting, first
    Queue,
}

/// A port, or a range of them.
fn ports(text: &str) -> Result<RangeInclusive<u16>, String> {
    let wrong = |_| format!("{text:?} is neither a port nor a range of ports");
    match text.split_once('-') {
        None => text.parse().map(|port| port..=port).map_err(wrong),
        Some((first, last)) => {
            let range = first.parse().map_err(wrong)?..=last.parse().map_err(wrong)?;
            match range.is_empty() {
                false => Ok(range),
                true => Err(format!("{text:?} ends before it begins")),
            }
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum AlertsAction {
    /// Tell everybody that this is a test, and say who took it; exits with 1 if somebody did not
    Test,
}

#[derive(Debug, Subcommand)]
pub(crate) enum CaAction {
    /// Print its root certificate, for whoever is to trust it
    Export,
}

#[derive(Debug, Subcommand)]
pub(crate) enum CacheAction {
    /// Forget the answers of a URL, of all that begin so, or all of them
    #[command(
        after_help = "Examples:\n  ipreconnect cache purge https://shop.example/logo.svg\n  ipreconnect cache purge /logo.svg        (of any host)\n  ipreconnect cache purge --prefix /images/ --listener shop\n  ipreconnect cache purge                  (everything)"
    )]
    Purge {
        /// As clients ask for it, with its query; one that begins with a slash is of any host
        url: Option<String>,

        /// Every URL that begins so
        #[arg(long, value_name = "URL", conflicts_with = "url")]
        prefix: Option<String>,

        /// Only at this listener
        #[arg(long, value_name = "NAME")]
        listener: Option<String>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct IdentityArguments {
    #[command(subcommand)]
    pub(crate) action: Option<IdentityAction>,

    /// Only this origin
    pub(crate) origin: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum IdentityAction {
    /// Accept every key that was seen of an origin's servers, or one of them
    Accept {
        /// The origin
        origin: String,

        /// Only this key, as `identity` shows it: sha256/…
        key: Option<String>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Probe {
    /// host:port, ip:port, unix:/path, srv:_service._tcp.domain, or an origin of the configuration
    pub(crate) address: String,

    /// Ask these resolvers instead of those of the configuration
    #[arg(long, value_name = "SERVER,…", value_delimiter = ',')]
    pub(crate) resolver: Vec<DnsServer>,

    /// How far DNSSEC is asked for, with --resolver
    #[arg(long, value_name = "LEVEL", value_parser = ["off", "validate", "require"], requires = "resolver")]
    pub(crate) dnssec: Option<String>,

    /// Make so many connections from nothing: looked up, dialled, closed
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=10_000))]
    pub(crate) cold: u32,

    /// Make so many connections to an address that is known
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=10_000))]
    pub(crate) warm: u32,

    /// Limits: resolve, connect, first_byte or total, as connect=100ms
    #[arg(long, value_name = "PHASE=TIME,…", value_delimiter = ',', value_parser = limit)]
    pub(crate) slo: Vec<(Phase, Duration)>,
}

/// `history`.
#[derive(Debug, Args)]
pub(crate) struct HistoryArguments {
    /// Only this origin
    pub(crate) origin: Option<String>,

    /// The latest losses, so many of them
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    pub(crate) limit: u32,

    /// What was counted every ten seconds of the last so many seconds, too
    #[arg(long, value_name = "SECONDS", requires = "origin", value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub(crate) samples: Option<u32>,

    /// The losses as a table for spreadsheets
    #[arg(long, conflicts_with = "json")]
    pub(crate) csv: bool,
}

/// `tap`.
#[derive(Debug, Args)]
pub(crate) struct TapArguments {
    /// The listener
    pub(crate) listener: String,

    /// Only this client
    #[arg(long, value_name = "IP")]
    pub(crate) client: Option<String>,

    /// Show bytes of unknown protocols, too: nothing in them is masked
    #[arg(long)]
    pub(crate) hex: bool,

    /// For how long
    #[arg(long = "for", value_name = "SECONDS")]
    pub(crate) seconds: Option<u64>,
}

/// `shield`.
#[derive(Debug, Args)]
pub(crate) struct ShieldArguments {
    /// The port of the tool, or its address on this machine
    #[arg(value_name = "PORT")]
    pub(crate) tool: String,

    /// Where to stand, as in `[[listen]]`; a free port that stays the same if nothing is said
    #[arg(long, value_name = "ADDR")]
    pub(crate) listen: Option<String>,

    /// Sites whose pages are let in as well
    #[arg(long, value_name = "SITE,…", value_delimiter = ',')]
    pub(crate) allow: Vec<String>,
}

/// `discover`.
#[derive(Debug, Args)]
pub(crate) struct Discover {
    /// Files with settings: .env, compose files, .toml, .yaml, .json, .properties, .ini
    #[arg(value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,

    /// Watch the connections of this process and of all that it has started
    #[arg(long, value_name = "N", conflicts_with = "command", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) pid: Option<u32>,

    /// For how long
    #[arg(long = "for", value_name = "TIME", default_value = "30s", value_parser = time)]
    pub(crate) time: Duration,

    /// Run this and watch its connections
    #[arg(last = true, value_name = "CMD")]
    pub(crate) command: Vec<OsString>,
}

/// `exec`.
#[derive(Clone, Debug, Args)]
pub(crate) struct Exec {
    /// Start it when every required origin is up
    #[arg(long)]
    pub(crate) wait: bool,

    /// Wait for so long at most, as 30s
    #[arg(long, value_name = "TIME", requires = "wait", value_parser = time)]
    pub(crate) timeout: Option<Duration>,

    /// When it is started again
    #[arg(long, value_enum, value_name = "WHEN", default_value_t = Restart::Never)]
    pub(crate) restart: Restart,

    /// Listen there, and pass it the socket (LISTEN_FDS), which stays open while it is started again
    #[arg(long, value_name = "ADDR")]
    pub(crate) socket: Vec<SocketAddr>,

    /// The application and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    pub(crate) command: Vec<OsString>,
}

/// `launch`.
#[derive(Debug, Args)]
pub(crate) struct Launch {
    /// Who starts it
    #[arg(long)]
    pub(crate) parent: i32,

    /// Names of the sockets that were passed
    #[arg(long)]
    pub(crate) sockets: Option<String>,

    /// How many files it may have open
    #[arg(long)]
    pub(crate) files: Option<u64>,

    /// When it is started again: what it leaves behind ends before
    #[arg(long, value_enum)]
    pub(crate) restart: Option<Restart>,

    /// Become the program
    #[arg(long)]
    pub(crate) itself: bool,

    /// The program and its arguments
    #[arg(last = true, required = true)]
    pub(crate) command: Vec<OsString>,
}

fn time(text: &str) -> Result<Duration, String> {
    crate::config::duration(text)
        .ok_or_else(|| format!("{text:?} is no time with its unit, as in 30s"))
}

/// `proxy-env`.
#[derive(Debug, Args)]
pub(crate) struct ProxyEnv {
    /// The listener, if there is more than one forward proxy
    pub(crate) listener: Option<String>,

    /// Who reads it; by $SHELL unless it is said
    #[arg(long, value_enum)]
    pub(crate) shell: Option<Reader>,

    /// Who comes, as USER:PASSWORD, where the proxy asks for that
    #[arg(long, value_name = "USER:PASSWORD")]
    pub(crate) user: Option<String>,

    /// Try each program that is there: curl, wget, Python, Node, git, Java
    #[arg(long)]
    pub(crate) test: bool,
}

/// Who reads variables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Reader {
    /// And sh, zsh.
    Bash,
    Fish,
    Powershell,
    Json,
}

/// `why`.
#[derive(Debug, Args)]
pub(crate) struct WhyArguments {
    /// The listener
    pub(crate) listener: String,

    /// Where the client comes from: an address, or `local` for a Unix socket
    #[arg(long, value_name = "IP")]
    pub(crate) from: String,

    /// Who it is on its machine, or who it says to be, for rules that ask for a name
    #[arg(long, value_name = "NAME")]
    pub(crate) user: Option<String>,

    /// The database that it asks for; `replication` for physical replication
    #[arg(long, value_name = "NAME")]
    pub(crate) database: Option<String>,

    /// It comes inside TLS
    #[arg(long)]
    pub(crate) tls: bool,

    /// Where it wants to go through a forward proxy: a host, host:port or a URL
    #[arg(long, value_name = "HOST")]
    pub(crate) to: Option<String>,
}

/// A part of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Resolve,
    Connect,
    FirstByte,
    Total,
}

impl Phase {
    /// As it is typed.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Resolve => "resolve",
            Self::Connect => "connect",
            Self::FirstByte => "first_byte",
            Self::Total => "total",
        }
    }
}

fn limit(text: &str) -> Result<(Phase, Duration), String> {
    let (word, time) = text.split_once('=').ok_or("write it as connect=100ms")?;
    let phases = [
        Phase::Resolve,
        Phase::Connect,
        Phase::FirstByte,
        Phase::Total,
    ];
    let phase = phases.into_iter().find(|phase| phase.word() == word);
    let phase = phase.ok_or("the phases are resolve, connect, first_byte and total")?;
    let time = crate::config::duration(time).ok_or("the time needs a unit, as in 100ms")?;
    Ok((phase, time))
}

#[derive(Debug, Args)]
pub(crate) struct Status {
    /// Only this origin
    pub(crate) origin: Option<String>,

    /// Wait until the required origins are up, or the one named
    #[arg(long)]
    pub(crate) wait: bool,
}

impl Arguments {
    /// Who may read the keys.
    pub(crate) fn permissions(&self) -> Permissions {
        if self.insecure_permissions {
            Permissions::Any
        } else {
            Permissions::Strict
        }
    }

    /// What the configuration depends on besides its text.
    pub(crate) fn environment(&self) -> Environment {
        Environment::of_process().with_permissions(self.permissions())
    }
}

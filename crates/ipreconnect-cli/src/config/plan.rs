//! The plan: what a configuration means, complete and checked.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipreconnect::core::guard::Guard;
use ipreconnect::core::http::{PathRule, Pattern, WebOrigin};
use ipreconnect::resolve::DnsSettings;
use ipreconnect::{OriginSettings, Transport};
use ipreconnect_admin::{AlertPlan, Collector, HookPlan, LineFormat, SyslogPlace};
use ipreconnect_ports::{Inside, Namespace, Scope};
use ipreconnect_proxy::{
    Access, AccessFormat, CacheSettings, ClientLimits, Fallback, FileAccess, Forwarding,
    HostPattern, HttpLimits, HttpSettings, ListenAddress, ListenerSettings, Proxied, ProxyProtocol,
    Rewrite, Unmatched,
};

pub(crate) use super::forward::{ForwardListen, ParentPlan, ViaPlan, WayPlan};
use super::material::Permissions;
use super::tls::{ListenTls, OriginFiles};

/// Everything that a gateway is to do.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Plan {
    pub(crate) gateway: GatewayPlan,
    pub(crate) log: LogPlan,
    /// The collector of OpenTelemetry, if there is one.
    pub(crate) otlp: Option<OtlpPlan>,
    pub(crate) dns: DnsSettings,
    pub(crate) alerts: AlertPlan,
    /// Who may talk to the ports of this machine, if anybody looks.
    pub(crate) guard: Option<GuardPlan>,
    pub(crate) origins: BTreeMap<String, OriginPlan>,
    pub(crate) listeners: BTreeMap<String, ListenPlan>,
    /// Who may read the keys.
    pub(crate) permissions: Permissions,
}

impl Plan {
    /// The hooks of all origins.
    pub(crate) fn hooks(&self) -> BTreeMap<String, HookPlan> {
        let origins = self.origins.iter();
        origins
            .map(|(name, origin)| (name.clone(), origin.hooks.clone()))
            .collect()
    }
}

/// `[guard]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GuardPlan {
    /// Where it looks.
    pub(crate) scope: Scope,
    /// Only these listening ports; none is all.
    pub(crate) ports: Vec<RangeInclusive<u16>>,
    /// What it goes by.
    pub(crate) guard: Guard,
}

/// `[gateway]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GatewayPlan {
    /// Worker threads; at least 1.
    pub(crate) workers: usize,
    pub(crate) state_dir: PathBuf,
    /// The admin API's Unix socket.
    pub(crate) admin: PathBuf,
    /// Where else it is, behind a token.
    pub(crate) admin_tcp: Vec<SocketAddr>,
    /// Names that requests to those may be for.
    pub(crate) admin_hosts: Vec<String>,
    /// Grace for drains.
    pub(crate) shutdown: Duration,
}

/// Whether the application can do without an origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Required {
    Yes,
    No,
}

/// What is spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// Bytes of any kind.
    #[default]
    Tcp,
    /// Datagrams.
    Udp,
    /// HTTP, to origins in version 1.1.
    Http,
    /// HTTP/2, to origins.
    H2,
    /// PostgreSQL's, at the door.
    Postgres,
}

impl Protocol {
    /// What carries it.
    pub(crate) fn transport(self) -> Transport {
        match self {
            Self::Tcp | Self::Http | Self::H2 | Self::Postgres => Transport::Tcp,
            Self::Udp => Transport::Udp,
        }
    }

    /// As the configuration says it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Http => "http",
            Self::H2 => "h2",
            Self::Postgres => "postgres",
        }
    }

    /// Whether it is HTTP, in whichever version.
    pub(crate) fn is_http(self) -> bool {
        matches!(self, Self::Http | Self::H2)
    }

    /// What clients speak in front of an origin that speaks this.
    pub(crate) fn at_the_door(self) -> Self {
        match self {
            Self::Http | Self::H2 => Self::Http,
            Self::Tcp | Self::Udp | Self::Postgres => self,
        }
    }
}

/// `[origin.NAME]`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct OriginPlan {
    pub(crate) required: Required,
    /// What an application should switch off while it is down.
    pub(crate) feature: Option<String>,
    /// What is done when it is lost, and when it is back.
    pub(crate) hooks: HookPlan,
    pub(crate) protocol: Protocol,
    pub(crate) settings: OriginSettings,
    /// What its TLS was read from.
    pub(crate) tls: OriginFiles,
    /// What listeners in front of it go by.
    pub(crate) streams: ListenerSettings,
    /// What requests to it go by.
    pub(crate) http: HttpSettings,
}

/// What becomes of a listener with a port of its own choice when somebody else has that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum OnConflict {
    /// It takes another one.
    #[default]
    Move,
    /// It is not opened.
    Refuse,
}

/// `[[listen]]`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ListenPlan {
    pub(crate) addresses: Vec<ListenAddress>,
    /// Everything goes there; of a listener with routes, what none of them matches.
    pub(crate) origin: String,
    /// What becomes of a client that no route matches.
    pub(crate) unmatched: Unmatched,
    /// Origins by what the client asks for: in its request, or by name in TLS.
    pub(crate) routes: Vec<RoutePlan>,
    /// The page that it serves itself, in place of any origin.
    pub(crate) status: Option<StatusPlan>,
    /// Where clients go who say where, in place of any origin.
    pub(crate) forward: Option<ForwardListen>,
    /// Clients go to the ports that are kept by name, as `NAME.localhost`.
    pub(crate) leases: bool,
    /// What its clients speak.
    pub(crate) mode: Protocol,
    /// What its clients may ask for.
    pub(crate) limits: HttpLimits,
    /// What its clients may do, whatever they speak.
    pub(crate) clients: ClientLimits,
    /// Whether answers are compressed for clients that want it.
    pub(crate) compresses: bool,
    /// What origins are told of clients.
    pub(crate) forwarding: Forwarding,
    /// What people are shown in place of our own words.
    pub(crate) error_page: Option<Arc<str>>,
    /// TLS that is opened here.
    pub(crate) tls: Option<ListenTls>,
    /// Who may come in.
    pub(crate) access: Access,
    /// The files that its rules, maps, roles and users were read from.
    pub(crate) rule_files: Vec<PathBuf>,
    /// How proxies before this one say whose connections they bring.
    pub(crate) proxied: Proxied,
    /// Who may open the files of its Unix sockets.
    pub(crate) file: FileAccess,
    /// What becomes of it when somebody else has the port that it had before.
    pub(crate) on_conflict: OnConflict,
    /// Which requests of browsers come in.
    pub(crate) shield: ShieldPlan,
    /// The network namespace in which it listens, if not in ours.
    pub(crate) netns: Option<Inside>,
}

/// `shield` and `shield_origins`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ShieldPlan {
    /// Whether requests that pages of other sites have sent are refused, where that is said.
    pub(crate) said: Option<bool>,
    /// Pages of there are let in.
    pub(crate) origins: Vec<WebOrigin>,
}

impl ListenPlan {
    /// Whether it leads to origins of the configuration.
    pub(crate) fn has_origin(&self) -> bool {
        self.status.is_none() && self.forward.is_none() && !self.leases
    }

    /// Whether the network namespace in which it listens may come and go.
    pub(crate) fn comes_and_goes(&self) -> bool {
        matches!(&self.netns, Some(inside) if !matches!(inside, Inside::Pid(_)))
    }

    /// Its addresses in a network namespace that was found; none while its own is not there.
    pub(crate) fn addresses_in(&self, found: Option<&Namespace>) -> &[ListenAddress] {
        match (&self.netns, found) {
            (Some(_), None) => &[],
            _ => &self.addresses,
        }
    }

    /// Whether requests that browsers have been made to send are refused: where that is said, else where only this
    /// machine reaches it, and no proxy stands before it whose clients come from anywhere.
    pub(crate) fn is_shielded(&self) -> bool {
        let is_behind_proxy =
            self.proxied.protocol != ProxyProtocol::Off || !self.forwarding.trust.is_empty();
        let mut ips = self
            .addresses
            .iter()
            .filter_map(ListenAddress::ip)
            .peekable();
        let is_loopback =
            ips.peek().is_some() && ips.all(|ip| ip.ip().to_canonical().is_loopback());
        self.mode == Protocol::Http
            && self.forward.is_none()
            && self.shield.said.unwrap_or(is_loopback && !is_behind_proxy)
    }
}

/// `[listen.status]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StatusPlan {
    pub(crate) title: String,
    /// Those that are told of; none is all.
    pub(crate) origins: Vec<String>,
}

/// `[[listen.route]]`.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct RoutePlan {
    pub(crate) hosts: Vec<HostPattern>,
    /// Where it leads, or the first of several.
    pub(crate) origin: String,
    /// All the origins it leads to, with their weights, where they are several.
    pub(crate) split: Vec<(String, u32)>,
    /// The cookie that keeps a client to one of them.
    pub(crate) sticky: Option<String>,
    pub(crate) paths: Vec<PathRule>,
    pub(crate) methods: Vec<Box<[u8]>>,
    pub(crate) fields: Vec<(Box<[u8]>, Pattern)>,
    pub(crate) rewrite: Rewrite,
    /// Origins without which it is answered by `fallback`.
    pub(crate) requires: Vec<String>,
    pub(crate) fallback: Option<Fallback>,
    /// The origin that gets a copy of each request.
    pub(crate) mirror: Option<String>,
    /// What keeping answers goes by, where they are kept.
    pub(crate) cache: Option<CacheSettings>,
}

/// `[log]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LogPlan {
    pub(crate) level: LogLevel,
    pub(crate) format: LineFormat,
    /// Where lines go.
    pub(crate) to: Vec<LogTo>,
    /// The file of the access log.
    pub(crate) access: Option<PathBuf>,
    pub(crate) access_format: AccessFormat,
}

/// The least important lines that are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// Where lines of the log go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LogTo {
    Stderr,
    File(PathBuf),
    Syslog(SyslogPlace),
    /// The collector of `[otlp]`.
    Otlp,
}

/// `[otlp]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OtlpPlan {
    pub(crate) collector: Collector,
    /// Whether requests are traced.
    pub(crate) traces: bool,
    /// Of a million requests that nobody has begun to trace, so many are.
    pub(crate) sampled: u32,
}

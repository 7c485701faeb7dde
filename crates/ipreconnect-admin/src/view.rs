//! What the API shows: plain data, read back by the commands.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The version of everything that is shown.
pub const SCHEMA: u32 = 1;

/// All origins.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Origins {
    /// Always [`SCHEMA`].
    pub schema: u32,
    /// By name.
    pub origins: Vec<OriginView>,
}

/// One origin.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct OriginView {
    /// Its name.
    pub name: String,
    /// `unknown`, `connecting`, `up`, `suspect`, `down` or `draining`.
    pub phase: String,
    /// For how many milliseconds.
    pub for_ms: u64,
    /// Whether the application cannot do without it.
    pub required: bool,
    /// What an application should switch off while it is down.
    pub feature: Option<String>,
    /// Clients that wait in its hold.
    pub waiting: u32,
    /// Whether the attempts to reconnect are used up.
    pub given_up: bool,
    /// The server that new work goes to by the operator's wish.
    #[serde(default)]
    pub preferred: Option<String>,
    /// Why it is not up.
    pub failure: Option<FailureView>,
    /// Whether its servers prove who they are: `unproven` (they cannot, without TLS), `insecure`,
    /// `not yet proven`, `proven`, `key changed` or `impersonated?`.
    pub identity: String,
    /// By preference.
    pub endpoints: Vec<EndpointView>,
    /// What is known of its names, in the order of its address list.
    pub names: Vec<NameView>,
}

/// Which answers are to be forgotten: all of them where nothing is said. A word that is not known is refused:
/// whoever mistypes one does not mean everything.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PurgeWish {
    /// Only at this listener.
    pub listener: Option<String>,
    /// Of this URL; of any host, if it begins with a slash.
    #[schema(pattern = "^/|://")]
    pub url: Option<String>,
    /// Of every URL that begins so.
    #[schema(pattern = "^/|://")]
    pub prefix: Option<String>,
}

/// Which server new work is to go to. A word that is not known is refused.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Preference {
    /// Its address, as it is shown; without one the configuration decides again.
    pub address: Option<String>,
}

/// Which key is to be accepted.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct Acceptance {
    /// As pins are written; every key that was seen, if there is none.
    pub key: Option<String>,
}

/// What was seen of the identity of every origin's servers.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Identities {
    /// Always [`SCHEMA`].
    pub schema: u32,
    /// By name.
    pub origins: Vec<IdentityView>,
}

/// What was seen of the identity of one origin's servers.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct IdentityView {
    /// The origin's name.
    pub name: String,
    /// As in [`OriginView`].
    pub identity: String,
    /// Why what was kept cannot be read, if it cannot.
    pub failure: Option<String>,
    /// By the time they were first seen.
    pub sightings: Vec<SightingView>,
}

/// One key at one address.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct SightingView {
    /// The entry of the address list that led there.
    pub entry: String,
    /// Where it was seen.
    pub address: String,
    /// The key, as pins are written.
    pub key: String,
    /// Who issued the certificate last seen with it.
    pub issuer: String,
    /// The names of that certificate.
    pub names: Vec<String>,
    /// The end of its time.
    pub valid_until: String,
    /// The version of TLS.
    pub tls: String,
    /// How the address was proven: `unchecked`, `insecure` or `secure`.
    pub dnssec: String,
    /// When it was first seen.
    pub first_seen: String,
    /// When it was last seen, exact to an hour.
    pub last_seen: String,
    /// `accepted`, `alarming` or `refused`.
    pub acceptance: String,
}

/// One name of an origin.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct NameView {
    /// The entry of the address list.
    pub name: String,
    /// What its addresses are worth: `fresh`, `doubtful`, `stale`, `remembered`, `unknown` or `gone`.
    pub knowledge: String,
    /// Whether they are proven by DNSSEC: `unchecked`, `insecure` or `secure`.
    pub dnssec: String,
    /// Whether they were proven once, and provably are not signed any more.
    pub turned_insecure: bool,
    /// How many there are.
    pub addresses: usize,
    /// Addresses of the answer that are not dialled, and why.
    pub denied: Vec<String>,
    /// Their time to live, in milliseconds.
    pub ttl_ms: u64,
    /// The resolver that answered last.
    pub resolver: Option<String>,
    /// What is wrong.
    pub failure: Option<FailureView>,
}

/// One endpoint.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct EndpointView {
    /// Where it is.
    pub address: String,
    /// 0 is preferred.
    pub priority: u32,
    /// `unknown`, `up`, `suspect` or `down`.
    pub health: String,
    /// For how many milliseconds.
    pub for_ms: u64,
    /// Whether new clients go there.
    pub takes_work: bool,
    /// The smoothed time to connect, in microseconds.
    pub connect_us: Option<u64>,
    /// Connections that are ready for whoever comes next.
    pub warm: usize,
    /// Links open now.
    pub open: u32,
    /// Links opened so far.
    pub served: u64,
    /// That it is set aside for its answers, if it is.
    pub ejected: Option<EjectedView>,
    /// Dials that this machine had no port, descriptor or permission for.
    pub failed_here: u64,
    /// Why it is not up.
    pub failure: Option<FailureView>,
}

/// That an endpoint is set aside.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct EjectedView {
    /// For what.
    pub why: String,
    /// For how many milliseconds more.
    pub for_ms: u64,
}

/// One failure.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct FailureView {
    /// The layer it happened at.
    pub layer: String,
    /// What happened.
    pub cause: String,
    /// What a person can look at.
    pub advice: String,
}

/// All listeners.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Listeners {
    /// Always [`SCHEMA`].
    pub schema: u32,
    /// By name.
    pub listeners: Vec<ListenerView>,
}

/// One listener.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ListenerView {
    /// Its name.
    pub name: String,
    /// Where it listens.
    pub addresses: Vec<String>,
    /// Who can reach it, before any rule decides.
    #[serde(default)]
    pub exposure: String,
    /// The origin behind it.
    pub origin: String,
    /// Streams carried now.
    pub carrying: u64,
    /// Connections accepted.
    pub accepted: u64,
    /// Of those, refused by access.
    pub denied: u64,
    /// Clients that were not served.
    pub unserved: u64,
    /// Datagrams that were not passed on.
    pub dropped: u64,
    /// Streams that ended in order.
    pub ended: u64,
    /// Streams that were reset, stalled or closed.
    pub failed: u64,
    /// Bytes carried to the origin.
    pub bytes_to_origin: u64,
    /// Bytes carried to clients.
    pub bytes_to_client: u64,
    /// Whom its access rules have refused since they are in force.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refusals: Vec<RefusalView>,
    /// The branches of routes that have several.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub branches: Vec<BranchView>,
}

/// Whom one rule has refused.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct RefusalView {
    /// File and line; none of those whom no rule was for.
    pub place: Option<String>,
    /// The rule.
    pub rule: Option<String>,
    /// How many clients.
    pub count: u64,
}

/// One branch of a route, since the last reload.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct BranchView {
    /// The route's place among those of its listener, from 1.
    pub route: usize,
    /// The branch's origin.
    pub origin: String,
    /// Its part of the requests.
    pub weight: u32,
    /// Requests that are done.
    pub requests: u64,
    /// Of those, answered with a status of 400 to 499.
    pub client_errors: u64,
    /// Of those, answered with a status of 500 to 599, by the origin or in its place.
    pub server_errors: u64,
    /// Of those, not answered to the end.
    pub cut_off: u64,
    /// From request to answer, on the average.
    pub first_byte_ms: Option<f64>,
}

/// What `why` asks.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct WhyQuestion {
    /// The listener.
    pub listener: String,
    /// The address that a client would come from, or `local` for a Unix socket.
    pub from: String,
    /// Who it would be.
    #[serde(default)]
    pub user: Option<String>,
    /// The database that it would ask for; `replication` for physical replication.
    #[serde(default)]
    pub database: Option<String>,
    /// Whether it would come inside TLS.
    #[serde(default)]
    pub tls: bool,
    /// Where it would want to go, through a forward proxy: a host, `host:port` or a URL.
    #[serde(default)]
    pub to: Option<String>,
}

/// Whether a client is let in, and by which rule.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Why {
    /// Always [`SCHEMA`].
    pub schema: u32,
    /// The listener.
    pub listener: String,
    /// Where the client comes from.
    pub from: String,
    /// Who it is.
    pub user: Option<String>,
    /// The database that it asks for.
    pub database: Option<String>,
    /// Whether it comes inside TLS.
    pub tls: bool,
    /// Whether it has to show its password.
    pub asks: bool,
    /// The name of its host, where a rule asks for it.
    pub host: Option<String>,
    /// Whether it is let in.
    pub admitted: bool,
    /// Why it is refused.
    pub refusal: Option<String>,
    /// The rules that were looked at, in order.
    pub rules: Vec<WhyRule>,
    /// Whether it may go where it wants to, if that was asked.
    #[serde(default)]
    pub to: Option<WhyTo>,
}

/// Whether clients may go to one place.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct WhyTo {
    /// The place, in the one spelling that is judged.
    pub target: String,
    /// Whether they may.
    pub allowed: bool,
    /// Whether the rules are enforced; else what they say is only told.
    pub enforced: bool,
    /// Why not, as it is written.
    pub denied: Option<String>,
    /// Its addresses.
    pub addresses: Vec<WhyAddress>,
    /// Why it has none.
    pub nameless: Option<String>,
    /// The proxies by which it may be gone to, in order.
    #[serde(default)]
    pub proxies: Vec<String>,
}

/// One address of that place.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct WhyAddress {
    /// The address.
    pub address: String,
    /// Why it is not dialled.
    pub denied: Option<String>,
}

/// One rule that was looked at.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct WhyRule {
    /// File and line.
    pub place: String,
    /// The rule.
    pub rule: String,
    /// What it demands.
    pub method: String,
    /// Whether it decides.
    pub decides: bool,
    /// Why it does not.
    pub mismatch: Option<String>,
}

/// Whether the required origins are up.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Readiness {
    /// Always [`SCHEMA`].
    pub schema: u32,
    /// Whether all are.
    pub ready: bool,
    /// The required ones that are not.
    pub missing: Vec<String>,
}

/// How a change was taken.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Outcome {
    /// Always [`SCHEMA`].
    pub schema: u32,
    /// Whether it was done.
    pub done: bool,
    /// What was changed, or why nothing was.
    pub messages: Vec<String>,
}

impl Outcome {
    /// It was done.
    #[must_use]
    pub fn done(messages: Vec<String>) -> Self {
        Self {
            schema: SCHEMA,
            done: true,
            messages,
        }
    }

    /// It was not done, and why.
    #[must_use]
    pub fn not_done(why: impl Into<String>) -> Self {
        Self {
            schema: SCHEMA,
            done: false,
            messages: vec![why.into()],
        }
    }
}

/// What an application can do now.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Features {
    /// Always [`SCHEMA`].
    pub schema: u32,
    /// By name.
    pub features: Vec<FeatureView>,
}

/// One feature that needs origins.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct FeatureView {
    /// Its name.
    pub name: String,
    /// Whether all of its origins are up.
    pub on: bool,
    /// The origins that it needs.
    pub origins: Vec<String>,
    /// Those that are not up.
    pub missing: Vec<String>,
}

/// What of a listener is to be shown.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema, utoipa::IntoParams)]
#[serde(default)]
pub struct TapQuestion {
    /// Only this client; by the address of its connection.
    pub client: Option<String>,
    /// Whether bytes of unknown protocols are shown, too: nothing in them is masked.
    pub hex: bool,
    /// For how long, up to an hour; five minutes if nothing is said.
    #[param(minimum = 1, maximum = 3600)]
    pub seconds: Option<u64>,
}

/// Something that passed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TapView {
    /// When, as RFC 3339 has it.
    pub time: String,
    /// The client; none over a Unix socket.
    pub client: Option<String>,
    /// `opened`, `closed`, `head`, `answered`, `messages`, `bytes`, or `lost`: there was too much.
    pub kind: String,
    /// `origin` or `client`.
    pub towards: Option<String>,
    /// What.
    pub lines: Vec<String>,
}

/// Something that happened, in the words of the log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct EventView {
    /// Counts up; where some are missing, they were too many at once.
    pub id: u64,
    /// When, as RFC 3339 has it.
    pub time: String,
    /// `error`, `warn` or `info`.
    pub level: String,
    /// What happened.
    pub message: String,
    /// What else is known of it, by name.
    pub fields: Vec<FieldView>,
}

/// One thing that is known of an event.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct FieldView {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
}

/// What happened lately.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Events {
    /// Always [`SCHEMA`].
    pub schema: u32,
    /// The latest last.
    pub events: Vec<EventView>,
}

/// Which part of the ledger is wanted.
#[derive(Clone, Debug, Default, Deserialize, ToSchema, utoipa::IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct HistoryQuestion {
    /// Of this origin only.
    pub origin: Option<String>,
    /// No more losses than so many, the latest; 100 unless told otherwise.
    #[param(maximum = 100_000)]
    pub limit: Option<u32>,
    /// Only losses of this scope: `origin` or `endpoint`.
    pub scope: Option<String>,
    /// With what was counted every ten seconds of the last so many seconds; of one origin, and of a day at most.
    #[param(minimum = 1, maximum = 86_400)]
    pub samples: Option<u32>,
}

/// The outage ledger.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct History {
    /// Always [`SCHEMA`].
    pub schema: u32,
    /// What became of each origin, by name.
    pub origins: Vec<OriginHistory>,
    /// Losses, the latest first.
    pub losses: Vec<LossView>,
    /// What the guard of local ports has found, the latest first.
    #[serde(default)]
    pub findings: Vec<FindingView>,
    /// Entries that were not kept, because there were too many at once or the disk would not take them.
    pub dropped: u64,
    /// Why nothing can be written just now, if nothing can.
    pub problem: Option<String>,
}

/// What became of one origin.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct OriginHistory {
    /// Its name.
    pub name: String,
    /// Over the last 24 hours.
    pub day: UptimeView,
    /// Over the last 7 days.
    pub week: UptimeView,
    /// Over the last 30 days.
    pub month: UptimeView,
    /// Over the last 365 days.
    pub year: UptimeView,
    /// Response times of the last 24 hours.
    pub response: Option<ResponseView>,
    /// The median response time of each of the last 60 minutes in milliseconds, the oldest first.
    pub recent: Vec<Option<f64>>,
    /// The last 90 days, the oldest first; days on which nothing was observed are missing.
    pub days: Vec<DayView>,
    /// What was counted every ten seconds, the oldest first, where that was asked for; those in which nothing happened
    /// are missing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub samples: Vec<SampleView>,
}

/// How much of a time an origin was up.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct UptimeView {
    /// For how many milliseconds it was observed.
    pub observed_ms: u64,
    /// For how many of them it was down.
    pub down_ms: u64,
    /// The part of the time in which it was not down, in percent; none if it was not observed.
    pub percent: Option<f64>,
}

impl OriginHistory {
    /// How much it was up over each time, and what that time is called.
    #[must_use]
    pub fn spans(&self) -> [(&'static str, &UptimeView); 4] {
        [
            ("24 h", &self.day),
            ("7 days", &self.week),
            ("30 days", &self.month),
            ("365 days", &self.year),
        ]
    }
}

impl UptimeView {
    /// In percent: never 100 where something is missing, and a dash where nothing was observed.
    #[must_use]
    pub fn shown(&self) -> String {
        match self.percent {
            None => "–".to_owned(),
            Some(percent) if percent >= 100.0 => "100 %".to_owned(),
            Some(percent) => format!("{:.3} %", (percent * 1000.0).floor() / 1000.0),
        }
    }
}

/// Response times.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct ResponseView {
    /// How many answers there were.
    pub count: u64,
    /// Half of them came in so many milliseconds.
    pub p50_ms: f64,
    /// 95 of 100 did.
    pub p95_ms: f64,
    /// 99 of 100 did.
    pub p99_ms: f64,
}

/// Ten seconds of an origin.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct SampleView {
    /// When they began, as RFC 3339 has it.
    pub time: String,
    /// For how many milliseconds it was down.
    pub down_ms: u64,
    /// Answers.
    pub requests: u64,
    /// Of those, with a status of 500 or more.
    pub failed: u64,
    /// Clients that waited.
    pub held: u64,
    /// Requests that were sent again.
    pub retried: u64,
    /// Requests and streams that came to nothing.
    pub lost: u64,
    /// Clients that waited at the end.
    pub waiting: u64,
    /// Response times.
    pub response: Option<ResponseView>,
}

/// One day of an origin.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct DayView {
    /// As 2026-11-22, in UTC.
    pub date: String,
    /// How much of it the origin was up.
    pub uptime: UptimeView,
}

/// One loss.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct LossView {
    /// Its number.
    pub id: u64,
    /// The origin.
    pub origin: String,
    /// `origin`: nothing could be reached; `endpoint`: one of its servers was lost.
    pub scope: String,
    /// The server that was lost, or the last one of them.
    pub endpoint: Option<String>,
    /// The layer that it failed at.
    pub layer: String,
    /// What failed.
    pub cause: String,
    /// Whose fault it was, as far as could be told: `origin` or `own network`.
    pub blame: String,
    /// When the first sign of it was, as RFC 3339 has it.
    pub first_sign: String,
    /// The same in milliseconds since the beginning of 1970.
    pub first_sign_ms: u64,
    /// The server's last sign of life was so many milliseconds before the loss was certain.
    pub silent_ms: Option<u64>,
    /// From the first sign until the loss was certain.
    pub notice_ms: u64,
    /// From the first sign until it was over; none while it lasts.
    pub lasted_ms: Option<u64>,
    /// Where new work went meanwhile.
    pub took_over: Option<String>,
    /// From the first sign until new work went there.
    pub took_over_ms: Option<u64>,
    /// What ended it.
    pub healed_by: Option<String>,
    /// Requests and connections that waited for the origin meanwhile, and went on.
    pub held: u64,
    /// Requests that were sent again meanwhile.
    pub retried: u64,
    /// Requests and connections that came to nothing meanwhile.
    pub lost: u64,
}

impl OriginView {
    /// Whether it is up by a backup, since no preferred server is.
    #[must_use]
    pub fn is_on_backup(&self) -> bool {
        let mut used = self.endpoints.iter().filter(|one| one.takes_work);
        let best = self.endpoints.iter().map(|one| one.priority).min();
        self.phase == "up" && used.next().map(|one| one.priority) > best
    }
}

impl LossView {
    /// Whether the loss of a whole origin tells of it already: it was the last server, and was lost at that time.
    #[must_use]
    pub fn is_told_by(&self, losses: &[Self]) -> bool {
        const AT_ONCE_MS: u64 = 1_000;
        self.scope == "endpoint"
            && losses.iter().any(|other| {
                other.scope == "origin"
                    && other.origin == self.origin
                    && other.endpoint == self.endpoint
                    && other.first_sign_ms.abs_diff(self.first_sign_ms) < AT_ONCE_MS
            })
    }

    /// How exact it is how long it lasted.
    #[must_use]
    pub fn lasted_word(&self) -> &'static str {
        match self.healed_by.as_deref() {
            Some(UNSEEN) => "lasted at least",
            _ => "lasted",
        }
    }
}

/// What is said to have ended a loss that lasted when its gateway ended.
pub const UNSEEN: &str = "its end was not seen: the gateway ended first";

/// The listening sockets of this machine.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct Ports {
    /// Always [`SCHEMA`].
    pub schema: u32,
    /// By namespace and port.
    pub sockets: Vec<PortView>,
    /// The first and the last port that the kernel gives to connections by itself.
    pub ephemeral: Option<[u16; 2]>,
    /// Processes of other users, whose sockets are not shown to us with them.
    pub hidden_processes: usize,
    /// What else is not in it, and why: sockets of UDP, or processes of other users that `/proc` does not tell of.
    pub hidden: Vec<String>,
    /// Network namespaces that could not be looked into, and why.
    pub hidden_namespaces: Vec<String>,
}

/// One place where somebody listens, be it with several sockets.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct PortView {
    /// `tcp` or `udp`.
    pub transport: Cow<'static, str>,
    /// The address with its port.
    pub address: String,
    /// The port.
    pub port: u16,
    /// Whether it is an IPv6 wildcard that takes IPv4, too.
    pub takes_both: bool,
    /// The interface that it is bound to, or that has its address.
    pub interface: Option<String>,
    /// `loopback`, `interface` or `everywhere`.
    pub exposure: Cow<'static, str>,
    /// `system`, `user` or `dynamic`.
    pub class: Cow<'static, str>,
    /// Whether the kernel gives this port to connections by itself.
    pub ephemeral: bool,
    /// The name that the port is assigned to.
    pub service: Option<Cow<'static, str>>,
    /// What is usually found there.
    pub usual: Option<Cow<'static, str>>,
    /// Who has the same port of the other address family: `same` or `other`; nobody, if it is not said.
    pub twin: Option<Cow<'static, str>>,
    /// The user who opened it.
    pub user: String,
    /// Those who have it open, as far as they can be seen; the first 32.
    pub processes: Vec<ProcessView>,
    /// Further ones.
    #[serde(default)]
    pub more_processes: u32,
    /// How many sockets it has.
    pub sockets: usize,
    /// Connections that wait to be accepted; of UDP, bytes that wait to be read.
    pub waiting: u32,
    /// How many may wait, of TCP.
    pub room: Option<u32>,
    /// How many found no room.
    pub dropped: Option<u32>,
    /// The network namespace, if it is not ours.
    pub namespace: Option<String>,
    /// Why it had better reach less far.
    pub concern: Option<String>,
}

/// A process that has a socket open.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct ProcessView {
    /// Its number.
    pub pid: u32,
    /// Its name, which it can set to what it likes.
    pub name: String,
    /// The file that it runs.
    pub path: Option<String>,
    /// For how many milliseconds it has run.
    pub for_ms: Option<u64>,
    /// Its unit of systemd.
    pub unit: Option<String>,
    /// Its container.
    pub container: Option<String>,
}

/// What the guard of local ports knows.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct GuardView {
    /// Always [`SCHEMA`].
    pub schema: u32,
    /// `off`, `learn` or `enforce`.
    pub mode: String,
    /// Whether connections are counted that are over before anybody has looked at them.
    pub counts_all: bool,
    /// What it cannot do here, and what would allow it.
    pub limits: Vec<String>,
    /// How often it has looked.
    pub looks: u64,
    /// Ports that somebody has talked to.
    pub ports: Vec<GuardPort>,
    /// Rules that were learned.
    pub learned: usize,
    /// What is worth a look, the latest first.
    pub findings: Vec<FindingView>,
}

/// What was seen at one port.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct GuardPort {
    /// The port; 0 stands for all beyond the first 4,096.
    pub port: u16,
    /// Connections, since the gateway runs.
    pub seen: u64,
    /// Of those, with a known user; the others were over between two looks.
    pub attributed: u64,
    /// Connections now.
    pub open: u64,
    /// Connections that were closed.
    pub closed: u64,
}

/// Something that the guard has found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FindingView {
    /// Its number.
    pub id: u64,
    /// When it was found, in milliseconds since the beginning of 1970.
    pub first_ms: u64,
    /// When it was so last.
    pub last_ms: u64,
    /// How often.
    pub count: u64,
    /// `unknown peer`, `rule`, `unknown listener`, `beacon`, `volume`, `relay` or `unseen`.
    pub kind: String,
    /// The listening port.
    pub port: u16,
    /// The other end.
    pub peer: String,
    /// Its user, who is the kernel's word.
    pub user: Option<String>,
    /// Its program, whose name is a hint; empty, if it was not seen.
    pub program: String,
    /// `allow`, `report` or `close`.
    pub action: String,
    /// The rule that decided, from 1.
    pub rule: Option<usize>,
    /// What is to be said of it.
    pub told: String,
}

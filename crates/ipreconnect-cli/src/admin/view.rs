//! What the API shows: plain data, read back by the commands.

use serde::{Deserialize, Serialize};

/// The version of everything that is shown.
pub(crate) const SCHEMA: u32 = 1;

/// All origins.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Origins {
    /// Always [`SCHEMA`].
    pub(crate) schema: u32,
    /// By name.
    pub(crate) origins: Vec<OriginView>,
}

/// One origin.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct OriginView {
    /// Its name.
    pub(crate) name: String,
    /// `unknown`, `connecting`, `up`, `suspect`, `down` or `draining`.
    pub(crate) phase: String,
    /// For how many milliseconds.
    pub(crate) for_ms: u64,
    /// Whether the application cannot do without it.
    pub(crate) required: bool,
    /// What an application should switch off while it is down.
    pub(crate) feature: Option<String>,
    /// Clients that wait in its hold.
    pub(crate) waiting: u32,
    /// Whether the attempts to reconnect are used up.
    pub(crate) given_up: bool,
    /// Why it is not up.
    pub(crate) failure: Option<FailureView>,
    /// Whether its servers prove who they are: `unproven` (they cannot, without TLS), `insecure`,
    /// `not yet proven`, `proven`, `key changed` or `impersonated?`.
    pub(crate) identity: String,
    /// By preference.
    pub(crate) endpoints: Vec<EndpointView>,
    /// What is known of its names, in the order of its address list.
    pub(crate) names: Vec<NameView>,
}

/// Which answers are to be forgotten: all of them where nothing is said. A word that is not known is refused:
/// whoever mistypes one does not mean everything.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct PurgeWish {
    /// Only at this listener.
    pub(crate) listener: Option<String>,
    /// Of this URL; of any host, if it begins with a slash.
    pub(crate) url: Option<String>,
    /// Of every URL that begins so.
    pub(crate) prefix: Option<String>,
}

/// Which key is to be accepted.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Acceptance {
    /// As pins are written; every key that was seen, if there is none.
    pub(crate) key: Option<String>,
}

/// What was seen of the identity of every origin's servers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Identities {
    /// Always [`SCHEMA`].
    pub(crate) schema: u32,
    /// By name.
    pub(crate) origins: Vec<IdentityView>,
}

/// What was seen of the identity of one origin's servers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct IdentityView {
    /// The origin's name.
    pub(crate) name: String,
    /// As in [`OriginView`].
    pub(crate) identity: String,
    /// Why what was kept cannot be read, if it cannot.
    pub(crate) failure: Option<String>,
    /// By the time they were first seen.
    pub(crate) sightings: Vec<SightingView>,
}

/// One key at one address.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct SightingView {
    /// The entry of the address list that led there.
    pub(crate) entry: String,
    /// Where it was seen.
    pub(crate) address: String,
    /// The key, as pins are written.
    pub(crate) key: String,
    /// Who issued the certificate last seen with it.
    pub(crate) issuer: String,
    /// The names of that certificate.
    pub(crate) names: Vec<String>,
    /// The end of its time.
    pub(crate) valid_until: String,
    /// The version of TLS.
    pub(crate) tls: String,
    /// How the address was proven: `unchecked`, `insecure` or `secure`.
    pub(crate) dnssec: String,
    /// When it was first seen.
    pub(crate) first_seen: String,
    /// When it was last seen, exact to an hour.
    pub(crate) last_seen: String,
    /// `accepted`, `alarming` or `refused`.
    pub(crate) acceptance: String,
}

/// One name of an origin.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct NameView {
    /// The entry of the address list.
    pub(crate) name: String,
    /// What its addresses are worth: `fresh`, `doubtful`, `stale`, `remembered`, `unknown` or `gone`.
    pub(crate) knowledge: String,
    /// Whether they are proven by DNSSEC: `unchecked`, `insecure` or `secure`.
    pub(crate) dnssec: String,
    /// Whether they were proven once, and provably are not signed any more.
    pub(crate) turned_insecure: bool,
    /// How many there are.
    pub(crate) addresses: usize,
    /// Addresses of the answer that are not dialled, and why.
    pub(crate) denied: Vec<String>,
    /// Their time to live, in milliseconds.
    pub(crate) ttl_ms: u64,
    /// The resolver that answered last.
    pub(crate) resolver: Option<String>,
    /// What is wrong.
    pub(crate) failure: Option<FailureView>,
}

/// One endpoint.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct EndpointView {
    /// Where it is.
    pub(crate) address: String,
    /// 0 is preferred.
    pub(crate) priority: u32,
    /// `unknown`, `up`, `suspect` or `down`.
    pub(crate) health: String,
    /// For how many milliseconds.
    pub(crate) for_ms: u64,
    /// Whether new clients go there.
    pub(crate) takes_work: bool,
    /// The smoothed time to connect, in microseconds.
    pub(crate) connect_us: Option<u64>,
    /// Connections that are ready for whoever comes next.
    pub(crate) warm: usize,
    /// Links open now.
    pub(crate) open: u32,
    /// Links opened so far.
    pub(crate) served: u64,
    /// That it is set aside for its answers, if it is.
    pub(crate) ejected: Option<EjectedView>,
    /// Dials that this machine had no port, descriptor or permission for.
    pub(crate) failed_here: u64,
    /// Why it is not up.
    pub(crate) failure: Option<FailureView>,
}

/// That an endpoint is set aside.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct EjectedView {
    /// For what.
    pub(crate) why: String,
    /// For how many milliseconds more.
    pub(crate) for_ms: u64,
}

/// One failure.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct FailureView {
    /// The layer it happened at.
    pub(crate) layer: String,
    /// What happened.
    pub(crate) cause: String,
    /// What a person can look at.
    pub(crate) advice: String,
}

/// All listeners.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Listeners {
    /// Always [`SCHEMA`].
    pub(crate) schema: u32,
    /// By name.
    pub(crate) listeners: Vec<ListenerView>,
}

/// One listener.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ListenerView {
    /// Its name.
    pub(crate) name: String,
    /// Where it listens.
    pub(crate) addresses: Vec<String>,
    /// The origin behind it.
    pub(crate) origin: String,
    /// Streams carried now.
    pub(crate) carrying: u64,
    /// Connections accepted.
    pub(crate) accepted: u64,
    /// Of those, refused by access.
    pub(crate) denied: u64,
    /// Clients that were not served.
    pub(crate) unserved: u64,
    /// Datagrams that were not passed on.
    pub(crate) dropped: u64,
    /// Streams that ended in order.
    pub(crate) ended: u64,
    /// Streams that were reset, stalled or closed.
    pub(crate) failed: u64,
    /// Bytes carried to the origin.
    pub(crate) bytes_to_origin: u64,
    /// Bytes carried to clients.
    pub(crate) bytes_to_client: u64,
    /// Whom its access rules have refused since they are in force.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) refusals: Vec<RefusalView>,
    /// The branches of routes that have several.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) branches: Vec<BranchView>,
}

/// Whom one rule has refused.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct RefusalView {
    /// File and line; none of those whom no rule was for.
    pub(crate) place: Option<String>,
    /// The rule.
    pub(crate) rule: Option<String>,
    /// How many clients.
    pub(crate) count: u64,
}

/// One branch of a route, since the last reload.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct BranchView {
    /// The route's place among those of its listener, from 1.
    pub(crate) route: usize,
    /// The branch's origin.
    pub(crate) origin: String,
    /// Its part of the requests.
    pub(crate) weight: u32,
    /// Requests that are done.
    pub(crate) requests: u64,
    /// Of those, answered with a status of 400 to 499.
    pub(crate) client_errors: u64,
    /// Of those, answered with a status of 500 to 599, by the origin or in its place.
    pub(crate) server_errors: u64,
    /// Of those, not answered to the end.
    pub(crate) cut_off: u64,
    /// From request to answer, on the average.
    pub(crate) first_byte_ms: Option<f64>,
}

/// What `why` asks.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WhyQuestion {
    /// The listener.
    pub(crate) listener: String,
    /// The address that a client would come from, or `local` for a Unix socket.
    pub(crate) from: String,
    /// Who it would be.
    #[serde(default)]
    pub(crate) user: Option<String>,
    /// The database that it would ask for; `replication` for physical replication.
    #[serde(default)]
    pub(crate) database: Option<String>,
    /// Whether it would come inside TLS.
    #[serde(default)]
    pub(crate) tls: bool,
}

/// Whether a client is let in, and by which rule.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Why {
    /// Always [`SCHEMA`].
    pub(crate) schema: u32,
    /// The listener.
    pub(crate) listener: String,
    /// Where the client comes from.
    pub(crate) from: String,
    /// Who it is.
    pub(crate) user: Option<String>,
    /// The database that it asks for.
    pub(crate) database: Option<String>,
    /// Whether it comes inside TLS.
    pub(crate) tls: bool,
    /// Whether it has to show its password.
    pub(crate) asks: bool,
    /// The name of its host, where a rule asks for it.
    pub(crate) host: Option<String>,
    /// Whether it is let in.
    pub(crate) admitted: bool,
    /// Why it is refused.
    pub(crate) refusal: Option<String>,
    /// The rules that were looked at, in order.
    pub(crate) rules: Vec<WhyRule>,
}

/// One rule that was looked at.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct WhyRule {
    /// File and line.
    pub(crate) place: String,
    /// The rule.
    pub(crate) rule: String,
    /// What it demands.
    pub(crate) method: String,
    /// Whether it decides.
    pub(crate) decides: bool,
    /// Why it does not.
    pub(crate) mismatch: Option<String>,
}

/// Whether the required origins are up.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Readiness {
    /// Always [`SCHEMA`].
    pub(crate) schema: u32,
    /// Whether all are.
    pub(crate) ready: bool,
    /// The required ones that are not.
    pub(crate) missing: Vec<String>,
}

/// How a change was taken.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// Always [`SCHEMA`].
    pub(crate) schema: u32,
    /// Whether it was done.
    pub(crate) done: bool,
    /// What was changed, or why nothing was.
    pub(crate) messages: Vec<String>,
}

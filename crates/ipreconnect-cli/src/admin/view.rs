//! What the API shows: plain data, read back by the commands.

use serde::{Deserialize, Serialize};

/// The version of everything that is shown.
pub const SCHEMA: u32 = 1;

/// All origins.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Origins {
    /// Always [`SCHEMA`].
    pub schema: u32,
    /// By name.
    pub origins: Vec<OriginView>,
}

/// One origin.
#[derive(Clone, Debug, Serialize, Deserialize)]
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
    /// Why it is not up.
    pub failure: Option<FailureView>,
    /// Whether a server can prove that it is the right one; raw TCP cannot.
    pub identity: String,
    /// By preference.
    pub endpoints: Vec<EndpointView>,
}

/// One endpoint.
#[derive(Clone, Debug, Serialize, Deserialize)]
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
    /// Links open now.
    pub open: u32,
    /// Links opened so far.
    pub served: u64,
    /// Why it is not up.
    pub failure: Option<FailureView>,
}

/// One failure.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FailureView {
    /// The layer it happened at.
    pub layer: String,
    /// What happened.
    pub cause: String,
    /// What a person can look at.
    pub advice: String,
}

/// All listeners.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Listeners {
    /// Always [`SCHEMA`].
    pub schema: u32,
    /// By name.
    pub listeners: Vec<ListenerView>,
}

/// One listener.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ListenerView {
    /// Its name.
    pub name: String,
    /// Where it listens.
    pub addresses: Vec<String>,
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
    /// Streams that ended in order.
    pub ended: u64,
    /// Streams that were reset, stalled or closed.
    pub failed: u64,
    /// Bytes carried to the origin.
    pub bytes_to_origin: u64,
    /// Bytes carried to clients.
    pub bytes_to_client: u64,
}

/// Whether the required origins are up.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Readiness {
    /// Always [`SCHEMA`].
    pub schema: u32,
    /// Whether all are.
    pub ready: bool,
    /// The required ones that are not.
    pub missing: Vec<String>,
}

/// How a change was taken.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Outcome {
    /// Always [`SCHEMA`].
    pub schema: u32,
    /// Whether it was done.
    pub done: bool,
    /// What was changed, or why nothing was.
    pub messages: Vec<String>,
}

//! What the operator's side wants of a running gateway. It knows no more of it than this.

use async_trait::async_trait;
use ipreconnect::stats::Counts;
use tokio::sync::mpsc;

use crate::view::{
    Acceptance, FindingView, GuardView, IdentityView, ListenerView, OriginView, Outcome, Ports,
    Preference, PurgeWish, Readiness, TapQuestion, TapView, Why, WhyQuestion,
};

/// A running gateway. What is shown is read without waiting; commands may wait.
#[async_trait]
pub trait Gateway: Send + Sync + 'static {
    /// All origins, by name.
    fn origins(&self) -> Vec<OriginView>;

    /// One origin.
    fn origin(&self, name: &str) -> Option<OriginView>;

    /// All listeners, by name.
    fn listeners(&self) -> Vec<ListenerView>;

    /// Whether the required origins are up.
    fn readiness(&self) -> Readiness;

    /// How all origins are, for those who keep it.
    fn pulses(&self) -> Vec<Pulse>;

    /// Whether this machine itself is cut off: everything beyond it fails.
    fn is_offline(&self) -> bool;

    /// Why a changed configuration is not in force, if one is not.
    fn stale(&self) -> Option<String>;

    /// What was seen of the identities of all origins' servers.
    async fn identities(&self) -> Vec<IdentityView>;

    /// Tries an origin again now.
    async fn reconnect(&self, origin: &str) -> Result<Outcome, Denial>;

    /// Gives an origin no new work.
    async fn drain(&self, origin: &str) -> Result<Outcome, Denial>;

    /// Has an origin's new work go to one of its servers while that is up, or again as the configuration says.
    async fn prefer(&self, origin: &str, wish: Preference) -> Result<Outcome, Denial>;

    /// Accepts keys that were seen of an origin's servers.
    async fn accept_identity(&self, origin: &str, wish: Acceptance) -> Result<Outcome, Denial>;

    /// Which rule decides whether a client may come in.
    async fn why(&self, question: WhyQuestion) -> Result<Why, Denial>;

    /// The listening sockets of this machine.
    async fn ports(&self) -> Result<Ports, Denial>;

    /// What the guard of local ports knows.
    fn guard(&self) -> GuardView;

    /// What that has found lately.
    fn findings(&self) -> Vec<FindingView>;

    /// Shows what passes through a listener, for as long as it is taken.
    fn tap(&self, listener: &str, question: TapQuestion) -> Result<Tapped, Denial>;

    /// Forgets answers that were kept.
    async fn purge(&self, wish: PurgeWish) -> Result<Outcome, Denial>;

    /// Reads the configuration again.
    async fn reload(&self) -> Result<Outcome, Denial>;
}

/// What passes through a listener.
pub type Tapped = mpsc::Receiver<TapView>;

/// How one origin is.
#[derive(Clone, Debug)]
pub struct Pulse {
    /// Its name.
    pub origin: String,
    /// Whether nothing of it can be reached.
    pub is_down: bool,
    /// Whether some of it can, or it is drained; while that is not known yet it is neither.
    pub is_up: bool,
    /// The addresses of its servers, and whether each is up.
    pub endpoints: Vec<(String, bool)>,
    /// Clients that wait for it.
    pub waiting: u32,
    /// So many may.
    pub hold: u32,
    /// Whether its servers show other keys than before, or cannot prove who they are.
    pub is_doubtful: bool,
    /// Dials that this machine had no port, descriptor or permission for.
    pub failed_here: u64,
    /// What was counted of its clients.
    pub counts: Counts,
}

/// Why something is not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Denial {
    /// There is no such thing.
    Unknown(String),
    /// It makes no sense.
    Wrong(Vec<String>),
    /// It cannot be done now.
    Unable(String),
}

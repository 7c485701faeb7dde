//! What the kernel knows and tells: the state of a path, changes of the network, sleep.

pub mod network;
pub(crate) mod options;
mod peer;
pub mod tcp;
pub mod wake;

pub use options::max_pacing_rate;
pub use peer::peer_user;

//! What the kernel knows and tells: the state of a path, changes of the network, sleep.

pub mod network;
pub(crate) mod options;
pub mod tcp;
pub mod wake;

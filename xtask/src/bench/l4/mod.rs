//! What it costs to carry raw TCP and UDP.

pub(in crate::bench) mod client;
mod datagrams;
mod play;
pub(crate) mod server;
mod table;
mod task;
mod usage;

pub(super) use play::costing;
pub(crate) use play::run as round;
pub(crate) use task::Task;
pub(super) use usage::Tree;

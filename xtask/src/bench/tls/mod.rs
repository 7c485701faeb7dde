//! What TLS costs, and what it takes to the first byte.

mod client;
mod play;
mod table;
mod task;

pub(crate) use play::run as round;
pub(crate) use task::Task;

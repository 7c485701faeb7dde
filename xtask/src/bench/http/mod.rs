//! What it costs to carry requests.

mod client;
mod h2load;
mod play;
mod proxies;
pub(crate) mod server;
mod table;
mod task;

pub(crate) use play::run as round;
pub(super) use proxies::{Around, command};
pub(crate) use task::Task;

//! `ports`: the listening sockets of this machine, and what its ports are for.

mod explain;
mod lease;
mod list;
mod pressure;
mod watch;

use crate::args::{Arguments, PortsAction};
use crate::exit::{Exit, Refusal};

/// Does what is asked.
pub(crate) fn ports(arguments: &Arguments, action: &PortsAction) -> Result<Exit, Refusal> {
    match action {
        PortsAction::List(wish) => list::list(arguments, wish),
        PortsAction::Explain(wish) => explain::explain(arguments, wish),
        PortsAction::Lease(wish) => lease::lease(arguments, wish),
        PortsAction::Release { name } => lease::release(arguments, name),
        PortsAction::Watch(wish) => watch::watch(arguments, wish),
        PortsAction::Pressure(wish) => pressure::pressure(arguments, wish),
    }
}

//! `ports`: the listening sockets of this machine, and what its ports are for.

mod explain;
mod list;
mod pressure;

use crate::args::{Arguments, PortsAction};
use crate::exit::{Exit, Refusal};

/// Does what is asked.
pub(crate) fn ports(arguments: &Arguments, action: &PortsAction) -> Result<Exit, Refusal> {
    match action {
        PortsAction::List(wish) => list::list(arguments, wish),
        PortsAction::Explain(wish) => explain::explain(arguments, wish),
        PortsAction::Pressure(wish) => pressure::pressure(arguments, wish),
    }
}

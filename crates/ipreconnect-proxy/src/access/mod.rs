//! Who may come in.

use std::net::IpAddr;

/// Until there are access rules, only this machine is served: loopback, and its own addresses.
pub(crate) fn is_this_machine(from: IpAddr, local: Option<IpAddr>) -> bool {
    let from = from.to_canonical();
    from.is_loopback() || local.map(|local| local.to_canonical()) == Some(from)
}

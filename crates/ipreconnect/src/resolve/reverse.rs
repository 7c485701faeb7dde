//! The name of an address, by the system's resolution.

use std::net::IpAddr;

use dns_lookup::{lookup_addr, lookup_host};

/// The name of the host at an address, if looking that name up leads back to the address: whoever owns an
/// address may call it what he likes. It blocks for as long as the system's resolver does.
#[must_use]
pub fn reverse(address: IpAddr) -> Option<String> {
    let address = address.to_canonical();
    let name = lookup_addr(&address).ok()?;
    // An address without a name is called by its number.
    if name.parse::<IpAddr>().is_ok() {
        return None;
    }
    let mut found = lookup_host(&name).ok()?;
    let leads_back = found.any(|one| one.to_canonical() == address);
    leads_back.then_some(name)
}

//! What ports and local addresses mean: classes, services, how far a listening socket reaches, and what should not.

mod cgroup;
mod lease;
mod pressure;
mod service;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use crate::policy::{Scope, scope};

pub use cgroup::{Group, group};
pub use lease::{Lease, LeaseError, Leases};
pub use pressure::{Pressure, TIME_WAIT};
pub use service::{Kind, Service, kind_of_program, service};

/// The class of a port (RFC 6335, section 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PortClass {
    /// 0 to 1023, the well-known ports: on most machines only root may have one.
    System,
    /// 1024 to 49151, the registered ports.
    User,
    /// 49152 to 65535: nobody is assigned one of them.
    Dynamic,
}

impl PortClass {
    /// The class of a port.
    #[must_use]
    pub fn of(port: u16) -> Self {
        match port {
            0..=1023 => Self::System,
            1024..=49_151 => Self::User,
            49_152.. => Self::Dynamic,
        }
    }

    /// What it is called.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Dynamic => "dynamic",
        }
    }
}

impl fmt::Display for PortClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Who can reach a listening socket, as far as its address goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Exposure {
    /// Processes of this machine alone.
    Loopback,
    /// Whoever reaches the interface that has the address.
    Interface,
    /// Whoever reaches any interface.
    Everywhere,
}

impl Exposure {
    /// That of a socket at this address.
    #[must_use]
    pub fn of(ip: IpAddr) -> Self {
        match ip.to_canonical() {
            ip if ip.is_unspecified() => Self::Everywhere,
            ip if ip.is_loopback() => Self::Loopback,
            _ => Self::Interface,
        }
    }

    /// What it is called.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Loopback => "loopback",
            Self::Interface => "interface",
            Self::Everywhere => "everywhere",
        }
    }
}

impl fmt::Display for Exposure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What an address is good for, in a sentence.
#[must_use]
pub fn meaning(ip: IpAddr) -> &'static str {
    if ip == Ipv4Addr::BROADCAST {
        return "what is sent to it goes to every machine of the same link; nothing of TCP does.";
    }
    match scope(ip) {
        Scope::Unspecified => {
            "who listens there listens on every address of this machine, and everybody who reaches one of those gets in."
        }
        Scope::Loopback => {
            "what is sent to it never leaves this machine. Every process of this machine can connect to it, of whichever \
             user; nobody else can."
        }
        Scope::LinkLocal => {
            "it is good on one link alone, which has to be named beside it, and no router passes it on."
        }
        Scope::Metadata => {
            "machines of a cloud ask there for what they are, and for their credentials; nobody else should be able to."
        }
        Scope::Multicast => "what is sent to it goes to everybody who has joined that group.",
        Scope::Private => {
            "machines of the same private network reach it, and others only through a router or a VPN that lets them."
        }
        Scope::Shared => "machines behind the same carrier's address translation reach it.",
        Scope::Reserved => {
            "no host of the Internet has it: it is for examples, tests or the future."
        }
        Scope::Global => {
            "every host of the Internet reaches it, unless something between keeps it away."
        }
    }
}

/// Why a listening socket had better reach less far, if it had: what it is, is known by the name of its program, or
/// else by its port.
#[must_use]
pub fn concern(
    exposure: Exposure,
    program: Option<&str>,
    service: Option<&Service>,
) -> Option<String> {
    if exposure == Exposure::Loopback {
        return None;
    }
    let (what, kind) = match (program.and_then(kind_of_program), service) {
        (Some((what, kind)), _) => (what, kind),
        // Whoever is there may be somebody else: the port is a hint where the program cannot be seen.
        (None, Some(service)) if program.is_none() => (service.title, service.kind),
        // These are what they are, whatever runs them.
        (None, Some(service)) if service.kind == Kind::Debugger => (service.title, service.kind),
        (None, _) => return None,
    };
    let why = match kind {
        Kind::Ordinary => return None,
        Kind::Database => "is a database",
        Kind::Debugger => "lets whoever reaches it run code in the program",
        Kind::Dashboard => "shows and changes what runs here",
        Kind::Control => "controls this machine, or what runs on it",
    };
    let reach = match exposure {
        Exposure::Everywhere => "every network of this machine",
        Exposure::Interface | Exposure::Loopback => "a network",
    };
    Some(format!("{what} {why}, and is open to {reach}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_have_classes() {
        for (port, wanted) in [
            (0, "system"),
            (1023, "system"),
            (1024, "user"),
            (49_151, "user"),
            (49_152, "dynamic"),
            (62_893, "dynamic"),
            (65_535, "dynamic"),
        ] {
            assert_eq!(PortClass::of(port).to_string(), wanted, "{port}");
        }
    }

    #[test]
    fn addresses_reach_so_far() {
        for (ip, wanted) in [
            ("127.0.0.1", Exposure::Loopback),
            ("127.9.9.9", Exposure::Loopback),
            ("::1", Exposure::Loopback),
            ("::ffff:127.0.0.1", Exposure::Loopback),
            ("0.0.0.0", Exposure::Everywhere),
            ("::", Exposure::Everywhere),
            ("192.0.2.1", Exposure::Interface),
            ("fe80::1", Exposure::Interface),
        ] {
            assert_eq!(Exposure::of(ip.parse().unwrap()), wanted, "{ip}");
        }
    }

    #[test]
    fn what_is_open_and_should_not_be_is_told() {
        let told = |exposure, program, port| concern(exposure, program, service(port, false));
        let words = told(Exposure::Everywhere, Some("redis-server"), 6379).unwrap();
        assert_eq!(
            words,
            "Redis is a database, and is open to every network of this machine"
        );
        assert!(told(Exposure::Loopback, Some("redis-server"), 6379).is_none());
        assert!(told(Exposure::Everywhere, Some("nginx"), 443).is_none());
        // Another program at the port of a database is no database.
        assert!(told(Exposure::Everywhere, Some("nginx"), 5432).is_none());
        assert!(told(Exposure::Interface, None, 5432).is_some());
        // A debugger is one wherever it is, and a database under another port as well.
        assert!(told(Exposure::Everywhere, Some("node"), 9229).is_some());
        assert!(told(Exposure::Everywhere, Some("postgres"), 7000).is_some());
    }
}

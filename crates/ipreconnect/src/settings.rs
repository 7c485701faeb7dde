//! Everything that can be set for one origin.

use std::net::IpAddr;
use std::time::Duration;

use ipreconnect_core::backoff::BackoffSettings;
use ipreconnect_core::balance::Policy;
use ipreconnect_core::carried::Announce;
use ipreconnect_core::detector::Thresholds;
use ipreconnect_core::origin::{Check, Entry, EntryAddress, OnDown, OnReturn, Settings};
use ipreconnect_core::policy::AddressPolicy;

use crate::target::Target;
use crate::tls::TlsSettings;

/// One entry of the address list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Where it leads.
    pub target: Target,
    /// 0 is preferred; higher ones are backups, in order.
    pub priority: u32,
    /// Its weight among places of the same priority; at least 1.
    pub weight: u32,
}

/// Clients wait here while the origin is away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HoldSettings {
    /// How long one client waits at most; zero fails at once.
    pub patience: Duration,
    /// How many may wait at once, over all workers.
    pub clients: usize,
}

/// Connections that are kept ready, on the preferred endpoint and on the first backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WarmSettings {
    /// How many for each of the two.
    pub connections: usize,
    /// How long one is kept; less, where the origin was seen to close it before.
    pub idle: Duration,
}

/// Settings of one [`Origin`](crate::Origin).
#[derive(Clone, Debug, PartialEq)]
pub struct OriginSettings {
    /// Where the origin may be found.
    pub places: Vec<Place>,
    /// How an endpoint is chosen among those of one priority.
    pub balance: Policy,
    /// What the supervisor goes by.
    pub supervisor: Settings,
    /// Between two dials of one race (RFC 8305).
    pub attempt_delay: Duration,
    /// The hold.
    pub hold: HoldSettings,
    /// The local address to dial from.
    pub source: Option<IpAddr>,
    /// The local ports to dial from, the first and the last: a part of those that the kernel gives
    /// (`ip_local_port_range`), which are meant by default. It takes Linux 6.3.
    pub local_ports: Option<(u16, u16)>,
    /// Which addresses of names may be dialled.
    pub addresses: AddressPolicy,
    /// How servers prove who they are; none, if they cannot.
    pub tls: Option<TlsSettings>,
    /// Connections that are kept ready.
    pub warm: WarmSettings,
    /// Whether the origin is told whose connection each is (the PROXY protocol). Then none is kept ready: it would
    /// be nobody's.
    pub announce: Option<Announce>,
}

impl OriginSettings {
    /// The defaults of `interface.md`, for these targets: the first is preferred, the others are
    /// backups in order.
    #[must_use]
    pub fn new(targets: impl IntoIterator<Item = Target>) -> Self {
        let places = targets
            .into_iter()
            .enumerate()
            .map(|(index, target)| Place {
                target,
                priority: u32::try_from(index).unwrap_or(u32::MAX),
                weight: 1,
            });
        Self {
            places: places.collect(),
            balance: Policy::Failover,
            supervisor: Settings {
                check: Check::HalfOpen,
                interval: Duration::from_secs(5),
                timeout: Duration::from_millis(500),
                thresholds: Thresholds {
                    down_after: 2,
                    up_after: 2,
                },
                passive: None,
                connect_timeout: Duration::from_secs(2),
                reconnect: BackoffSettings::default(),
                on_down: OnDown::Keep,
                on_return: OnReturn::Keep,
            },
            attempt_delay: Duration::from_millis(250),
            hold: HoldSettings {
                patience: Duration::from_secs(10),
                clients: 10_000,
            },
            source: None,
            local_ports: None,
            addresses: AddressPolicy::default(),
            tls: None,
            warm: WarmSettings {
                connections: 0,
                idle: Duration::from_secs(60),
            },
            announce: None,
        }
    }

    pub(crate) fn entries(&self) -> Vec<Entry> {
        self.places
            .iter()
            .map(|place| Entry {
                address: match &place.target {
                    Target::Fixed(address) => EntryAddress::Fixed(address.clone()),
                    Target::Name { .. } | Target::Service { .. } => {
                        EntryAddress::Name(place.target.to_string().into())
                    }
                },
                priority: place.priority,
                weight: place.weight,
            })
            .collect()
    }
}

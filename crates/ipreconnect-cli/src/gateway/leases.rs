//! Ports that listeners keep: a listener that takes any port has the same one at the next start.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use ipreconnect::Store;
use ipreconnect_ports::{candidates, ephemeral, holders, reserved};
use ipreconnect_proxy::ListenAddress;

use crate::config::{ListenPlan, OnConflict};

/// Where leases are kept.
const TABLE: &str = "ports";
/// Ports that are tried before the kernel chooses one.
const TRIES: usize = 64;
/// The ports that the kernel gives to connections, where it does not say so (ip(7)).
const EPHEMERAL: std::ops::RangeInclusive<u16> = 32_768..=60_999;

/// The leases of ports.
#[derive(Debug)]
pub(super) struct Leases {
    store: Option<Arc<dyn Store>>,
    /// Two gateways of one machine had better try other ports.
    state: PathBuf,
}

/// The ports that a listener may have.
#[derive(Debug, Default)]
pub(super) struct Ports {
    /// Those that are tried first, in order.
    pub(super) first: Vec<u16>,
    /// Whether it gets no other one.
    pub(super) only_these: bool,
    /// The one that it had before.
    leased: Option<u16>,
}

impl Leases {
    pub(super) fn new(store: Option<Arc<dyn Store>>, state: PathBuf) -> Self {
        Self { store, state }
    }

    /// The ports that a listener may have, if it takes any.
    pub(super) fn ports(&self, name: &str, listener: &ListenPlan) -> Ports {
        if !listener.addresses.iter().any(wants_any) {
            return Ports::default();
        }
        let leased = self.leased(name);
        let ephemeral = ephemeral().unwrap_or(EPHEMERAL);
        let known_as = format!("{name} of {}", self.state.display());
        let others = candidates(
            &known_as,
            &ephemeral,
            &reserved().unwrap_or_default(),
            TRIES,
        );
        let only_these = leased.is_some() && listener.on_conflict == OnConflict::Refuse;
        let others = others.into_iter().filter(|_| !only_these);
        Ports {
            first: leased.into_iter().chain(others).collect(),
            only_these,
            leased,
        }
    }

    fn leased(&self, name: &str) -> Option<u16> {
        let kept = self.store.as_ref()?.load(TABLE, name);
        let text = kept.unwrap_or_else(|error| {
            tracing::warn!(listener = name, %error, "the port that it had cannot be read");
            None
        })?;
        text.trim().parse().ok().filter(|port| *port > 0)
    }

    /// A listener has been opened there: that port is its own from now on.
    pub(super) fn took(
        &self,
        name: &str,
        ports: &Ports,
        asked: &[ListenAddress],
        bound: &[ListenAddress],
    ) {
        let mut both = asked.iter().zip(bound);
        let taken = both.find_map(|(asked, bound)| bound.ip().filter(|_| wants_any(asked)));
        let Some(taken) = taken else {
            return;
        };
        if ports.leased == Some(taken.port()) {
            return;
        }
        if let Some(before) = ports.leased {
            let held = holders(SocketAddr::new(taken.ip(), before)).unwrap_or_default();
            let held: Vec<String> = held.iter().map(ToString::to_string).collect();
            tracing::warn!(
                listener = name,
                before,
                now = taken.port(),
                held_by = held.join(", "),
                advice = "end that process and start again, or tell clients the new port; `on_conflict = \"refuse\"` keeps a listener from moving",
                "the port that it had is taken, and it has moved"
            );
        }
        let saved = self
            .store
            .as_ref()
            .map(|store| store.save(TABLE, name, &taken.port().to_string()));
        if let Some(Err(error)) = saved {
            tracing::warn!(listener = name, %error, "its port cannot be kept, and may be another one at the next start");
        }
    }
}

fn wants_any(address: &ListenAddress) -> bool {
    address.ip().is_some_and(|ip| ip.port() == 0)
}

/// Warns where another program has the same port on the loopback address of the other family: whoever asks for
/// `localhost` may get that.
pub(super) fn tell_twins(name: &str, bound: &[ListenAddress]) {
    for address in bound {
        let ListenAddress::Tcp(own) = address else {
            continue;
        };
        let twin: IpAddr = match own.ip() {
            IpAddr::V4(Ipv4Addr::LOCALHOST) => Ipv6Addr::LOCALHOST.into(),
            IpAddr::V6(Ipv6Addr::LOCALHOST) => Ipv4Addr::LOCALHOST.into(),
            _ => continue,
        };
        let twin = SocketAddr::new(twin, own.port());
        if bound.contains(&ListenAddress::Tcp(twin)) {
            continue;
        }
        let held = holders(twin).unwrap_or_default();
        if held.is_empty() {
            continue;
        }
        let held: Vec<String> = held.iter().map(ToString::to_string).collect();
        tracing::warn!(
            listener = name,
            %address,
            %twin,
            held_by = held.join(", "),
            advice = "choose another port, or let it listen on `localhost`, which is both",
            "whoever asks for localhost may reach another program"
        );
    }
}

//! Names to addresses, by the operating system's own resolution (getaddrinfo(3), NSS included).

use std::sync::Arc;
use std::time::Duration;

use ipreconnect_core::address::Address;
use ipreconnect_core::failure::{Cause, Failure};
use tokio::sync::Semaphore;

use crate::target::Transport;

/// A lookup that takes longer is told as failed; the system's own resolver may go on for longer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Lookups that may be stuck in the system's resolver at once, for one name.
const STUCK: usize = 2;

/// Looks one name up.
#[derive(Clone, Debug)]
pub(crate) struct Resolver {
    host: Arc<str>,
    port: u16,
    transport: Transport,
    slots: Arc<Semaphore>,
}

/// Resolvers of one name are the same, whatever is under way.
impl PartialEq for Resolver {
    fn eq(&self, other: &Self) -> bool {
        (&self.host, self.port, self.transport) == (&other.host, other.port, other.transport)
    }
}

impl Resolver {
    pub(crate) fn new(host: &str, port: u16, transport: Transport) -> Self {
        Self {
            host: host.into(),
            port,
            transport,
            slots: Arc::new(Semaphore::new(STUCK)),
        }
    }

    /// All addresses of the name, in the system's order (RFC 6724), each once.
    pub(crate) async fn resolve(&self) -> Result<Vec<Address>, Failure> {
        let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() else {
            return Err(self.failure("earlier lookups are still stuck in the system's resolver"));
        };
        let (host, port, transport) = (Arc::clone(&self.host), self.port, self.transport);
        // The thread outlives the patience, and so does its slot.
        let lookup = tokio::task::spawn_blocking(move || {
            let _slot = slot;
            std::net::ToSocketAddrs::to_socket_addrs(&(&*host, port)).map(|addresses| {
                addresses
                    .map(|address| transport.to(address))
                    .collect::<Vec<_>>()
            })
        });
        match tokio::time::timeout(PATIENCE, lookup).await {
            Err(_) => Err(self.failure(&format!("no answer within {PATIENCE:?}"))),
            Ok(Err(join)) => Err(self.failure(&join.to_string())),
            Ok(Ok(Err(error))) => Err(lookup_failure(&self.host, &error)),
            Ok(Ok(Ok(mut addresses))) => {
                let mut seen = std::collections::BTreeSet::new();
                addresses.retain(|address| seen.insert(address.clone()));
                if addresses.is_empty() {
                    Err(Failure::with_detail(Cause::NoSuchName, &*self.host))
                } else {
                    Ok(addresses)
                }
            }
        }
    }

    fn failure(&self, words: &str) -> Failure {
        Failure::with_detail(Cause::ResolverFailed, format!("{}: {words}", self.host))
    }
}

/// The standard library tells failures of getaddrinfo(3) only by their text.
fn lookup_failure(host: &str, error: &std::io::Error) -> Failure {
    let text = error.to_string();
    let words = text
        .strip_prefix("failed to lookup address information: ")
        .unwrap_or(&text);
    let gone = [
        "Name or service not known",
        "No address associated",
        "nodename nor servname",
    ];
    let cause = if gone.iter().any(|known| words.contains(known)) {
        Cause::NoSuchName
    } else {
        Cause::ResolverFailed
    };
    Failure::with_detail(cause, format!("{host}: {words}"))
}

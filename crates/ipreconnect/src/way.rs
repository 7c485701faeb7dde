//! Datagrams: an endpoint is chosen, not dialled, and its word comes later or never.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

use ipreconnect_core::address::{Address, EndpointId};
use ipreconnect_core::failure::Failure;
use ipreconnect_core::origin::{Event, Health, Phase};

use crate::chooser::Chooser;
use crate::clock;
use crate::dial::{Dialer, failure, sock_addr};
use crate::error::{Error, Kind};
use crate::meter::Usage;
use crate::origin::Origin;
use crate::waiters::{Refused, Ticket, Word};

/// A way for datagrams to one endpoint of an origin.
#[derive(Debug)]
pub struct Way {
    /// A connected, non-blocking UDP socket. ICMP errors reach it (udp(7)).
    pub socket: OwnedFd,
    /// The endpoint.
    pub endpoint: EndpointId,
    /// Its address.
    pub address: SocketAddr,
    /// Counts the way as open until dropped.
    pub usage: Usage,
}

/// A place in an origin's hold, for those who keep datagrams meanwhile.
#[derive(Debug, Default)]
pub struct Hold {
    ticket: Option<Ticket>,
}

impl Origin {
    /// The best endpoint for new datagrams, of those that `is_wanted` accepts; `None` while none is
    /// usable, or the origin takes no new work.
    ///
    /// Nothing is sent. Endpoints that this machine has no room for are passed over and told.
    pub fn way(
        &self,
        chooser: &Chooser,
        hash: Option<u64>,
        is_wanted: impl Fn(EndpointId) -> bool,
    ) -> Option<Way> {
        let snapshot = self.snapshot();
        if snapshot.view().phase == Phase::Draining {
            return None;
        }
        let dialer = Dialer {
            source: self.shared.settings.load().source,
            ports: self.shared.settings.load().local_ports,
            announce: None,
        };
        chooser
            .order(&snapshot, hash)
            .into_iter()
            .filter_map(|index| snapshot.view().endpoints.get(index))
            .filter(|endpoint| is_wanted(endpoint.id))
            .find_map(|endpoint| {
                let Address::Udp(address) = endpoint.address else {
                    return None;
                };
                let meter = snapshot.meter(endpoint.id)?;
                match open(dialer, &endpoint.address) {
                    Ok(socket) => Some(Way {
                        socket,
                        endpoint: endpoint.id,
                        address,
                        usage: Usage::begin(meter),
                    }),
                    Err(error) => {
                        self.refused(endpoint.id, &error);
                        None
                    }
                }
            })
    }

    /// Tells that an endpoint answered a datagram.
    pub fn answered(&self, way: EndpointId, usage: &Usage) {
        if !usage.meter().answer(clock::now()) {
            return;
        }
        let snapshot = self.snapshot();
        let endpoints = &snapshot.view().endpoints;
        let known = endpoints
            .iter()
            .find(|endpoint| endpoint.id == way)
            .is_some_and(|endpoint| endpoint.health == Health::Up);
        if !known {
            self.report(Event::Dialled {
                endpoint: way,
                took: Duration::ZERO,
            });
        }
    }

    /// Tells that a datagram could not be sent, or that an ICMP error came back for one.
    pub fn refused(&self, way: EndpointId, error: &io::Error) -> Failure {
        let failure = failure(error);
        if failure.cause.is_ours()
            && let Some(meter) = self.snapshot().meter(way)
        {
            meter.fail_here();
        }
        self.report(Event::DialFailed {
            endpoint: way,
            failure: failure.clone(),
        });
        failure
    }

    /// Waits in the hold, behind those who came earlier, until it is worth trying.
    ///
    /// # Errors
    /// [`Kind::HoldFull`], [`Kind::GivenUp`] or [`Kind::Closed`].
    ///
    /// # Cancel safety
    /// Dropping the future gives the place up; waiting again with the same [`Hold`] takes it back.
    pub async fn wait(&self, hold: &mut Hold) -> Result<(), Error> {
        let settings = self.shared.settings.load_full();
        if hold.ticket.is_some() {
            self.report(Event::ReleaseFailed);
        }
        let waiting = self
            .shared
            .waiters
            .wait(&mut hold.ticket, settings.hold.clients);
        let kind = match waiting.await {
            Ok(Word::Go) => return Ok(()),
            Ok(Word::GivenUp) => Kind::GivenUp,
            Err(Refused::Full) => Kind::HoldFull,
            Err(Refused::Closed) => Kind::Closed,
        };
        Err(Error::new(kind, &self.shared.name))
    }
}

fn open(dialer: Dialer, address: &Address) -> io::Result<OwnedFd> {
    let socket = dialer.socket(address)?;
    socket.connect(&sock_addr(address)?)?;
    Ok(socket.into())
}

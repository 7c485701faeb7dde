//! One client before it is carried: access is given, an endpoint is found, or it is held.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use ipreconnect::core::access::Source;
use ipreconnect::core::address::{Address, EndpointId};
use ipreconnect::socket::{Socket, register};
use ipreconnect::tls::Session as Tls;
use ipreconnect::{Error, Link, Usage};
use rustix::net::Shutdown;
use tokio::io::Interest;

use super::carrier::Plain;
use super::relay::Relay;
use super::sealed::Sealed;
use super::stream::Stream;
use super::{HalfClose, Route};
use crate::access::{Entering, Refusal};
use crate::counters::Counters;
use crate::http;
use crate::notice;
use crate::number;
use crate::places::Seat;
use crate::watch;

/// A client that was taken in.
pub(crate) struct Session {
    pub(crate) route: Arc<Route>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) seat: Seat,
    pub(crate) from: Option<IpAddr>,
    /// Where it comes from, if more has to be known of it before it is let in.
    pub(crate) to_judge: Option<Source>,
}

impl Session {
    /// Decides on a client, by its own address or by the one that a proxy brings.
    async fn judge(&mut self, client: &Socket, mut source: Source) -> Result<(), Refusal> {
        let taken = self.route.proxied().take(client, self.from).await;
        let carried = taken.map_err(Refusal::Header)?;
        // Even where the proxy does not know who it is, it is not the proxy.
        let is_brought = carried.as_ref().is_some_and(|carried| !carried.is_own);
        if let Some((from, _)) = carried.and_then(|carried| carried.addresses) {
            let from = from.ip().to_canonical();
            // Its loopback interface is not ours.
            let is_here = |proxy: IpAddr| proxy.is_loopback();
            if from.is_loopback() && !self.from.is_none_or(is_here) {
                let why =
                    "a proxy elsewhere brings a client of its own machine, which is not this one";
                return Err(Refusal::Header(why));
            }
            self.from = Some(from);
            source = Source::Ip(from);
        }
        if let Some(decided) = self.route.access().at_once(source) {
            return decided;
        }
        let entering = Entering {
            source,
            socket: client.get_ref(),
            is_brought,
        };
        self.route.access().admit(&entering).await
    }

    /// Finds an endpoint, then hands over to a [`Relay`], in a task of its own so that what was
    /// needed to connect is given back.
    pub(crate) async fn run(mut self, client: OwnedFd) {
        let Ok(client) = register(client) else {
            self.counters.unserved();
            return;
        };
        if let Some(source) = self.to_judge
            && let Err(refusal) = Box::pin(self.judge(&client, source)).await
        {
            self.counters.denied();
            let from = self.from.map(|from| from.to_string());
            notice::denied(
                self.route.name(),
                from.as_deref().unwrap_or_default(),
                &refusal,
            );
            end(&client);
            return;
        }
        let tls = match self.enter(&client).await {
            Ok(tls) => tls,
            Err(why) => {
                tracing::debug!(listener = self.route.name(), why, "client not let in");
                self.counters.unserved();
                end(&client);
                return;
            }
        };
        if let Some(site) = self.route.site() {
            let site = Arc::clone(site);
            http::serve(self, site, client, tls).await;
            return;
        }
        let connected = tokio::select! {
            biased;
            connected = Box::pin(self.connect()) => Some(connected),
            () = gone(&client, self.route.settings.half_close) => None,
        };
        match connected {
            Some(Ok(link)) => self.carry(client, tls, link),
            Some(Err(error)) => {
                let cause = error.failure().map(tracing::field::display);
                tracing::debug!(
                    listener = self.route.name(), %error, cause, "client not served"
                );
                self.counters.unserved();
                end(&client);
            }
            None => {
                self.counters.unserved();
                end(&client);
            }
        }
    }

    async fn connect(&self) -> Result<Link, Error> {
        let origin = self.route.origin();
        match self.route.chooser(number::get()) {
            Some(chooser) => origin.connect_by(chooser, self.from.map(hash)).await,
            None => origin.connect().await,
        }
    }

    /// Passes the door; returns the client's TLS, if that was opened.
    async fn enter(&mut self, client: &Socket) -> Result<Option<Box<Tls>>, String> {
        let Some(entrance) = self.route.entrance() else {
            return Ok(None);
        };
        let guest = Box::pin(entrance.enter(client)).await?;
        if let Some(route) = guest.route {
            self.route = route;
        }
        Ok(guest.tls)
    }

    fn carry(self, client: Socket, tls: Option<Box<Tls>>, link: Link) {
        let parts = link.into_parts();
        let is_tcp = matches!(parts.address, Address::Tcp(_));
        let carried = Carried {
            client,
            client_tls: tls,
            origin: parts.socket,
            origin_tls: parts.tls,
            endpoint: parts.endpoint,
            is_tcp,
            usage: parts.usage,
            early_up: Vec::new(),
            early_down: Vec::new(),
        };
        carry(carried, self);
    }
}

/// Both sides of a stream, and what has come already.
pub(crate) struct Carried {
    pub(crate) client: Socket,
    pub(crate) client_tls: Option<Box<Tls>>,
    pub(crate) origin: Socket,
    pub(crate) origin_tls: Option<Box<Tls>>,
    pub(crate) endpoint: EndpointId,
    pub(crate) is_tcp: bool,
    pub(crate) usage: Usage,
    /// For the origin.
    pub(crate) early_up: Vec<u8>,
    /// For the client.
    pub(crate) early_down: Vec<u8>,
}

/// Carries a stream, in a task of its own.
pub(crate) fn carry(carried: Carried, session: Session) {
    let Carried {
        client_tls,
        origin_tls,
        early_up,
        early_down,
        ..
    } = carried;
    let stream = Arc::new(Stream::new(
        (carried.client, carried.origin),
        (carried.endpoint, carried.is_tcp, carried.usage),
        session.route,
        session.counters,
        session.seat,
    ));
    let watched = Arc::clone(&stream);
    let key = watch::enter(watched);
    if client_tls.is_none() && origin_tls.is_none() {
        tokio::spawn(Relay::new(stream, key, Plain::new(early_up, early_down)));
    } else {
        let carrier = Sealed::new((client_tls, early_down), (origin_tls, early_up), &stream);
        tokio::spawn(Relay::new(stream, key, carrier));
    }
}

/// Waits until a held client goes away. Nothing is read from it.
async fn gone(client: &Socket, half_close: HalfClose) {
    loop {
        let Ok(mut guard) = client.ready(Interest::READABLE | Interest::ERROR).await else {
            return;
        };
        let ready = guard.ready();
        let closed = match half_close {
            HalfClose::Leaves => ready.is_read_closed(),
            HalfClose::Waits => ready.is_read_closed() && ready.is_write_closed(),
        };
        if closed || ready.is_error() {
            return;
        }
        guard.clear_ready();
        if half_close == HalfClose::Waits && ready.is_read_closed() {
            // That readiness is never taken back; only an error can follow it.
            let _ = client.ready(Interest::ERROR).await;
            return;
        }
    }
}

/// Ends a client that was not served.
fn end(client: &Socket) {
    // A client that left has nothing left to shut down.
    let _ = rustix::net::shutdown(client.get_ref(), Shutdown::Both);
}

pub(super) fn hash(from: IpAddr) -> u64 {
    let mut hasher = DefaultHasher::new();
    from.hash(&mut hasher);
    hasher.finish()
}

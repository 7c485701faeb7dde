//! One client before it is carried: access is given, an endpoint is found, or it is held.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU64;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use ipreconnect::core::access::Source;
use ipreconnect::core::address::{Address, EndpointId};
use ipreconnect::core::carried::{Announced, AnnouncedTls};
use ipreconnect::sense::max_pacing_rate;
use ipreconnect::socket::{Socket, register};
use ipreconnect::stats::Outcome;
use ipreconnect::tls::{Holder, Session as Tls};
use ipreconnect::{Error, Link, Origin, Parts, Usage};
use rustix::net::{Shutdown, getpeername, getsockname};
use tokio::io::Interest;

use super::carrier::{Carrier, Plain, Throttled};
use super::relay::{Relay, number_of};
use super::sealed::Sealed;
use super::stream::Stream;
use super::{HalfClose, Route};
use crate::access::{Access, Admission, Asking, Entering, Refusal};
use crate::counters::Counters;
use crate::crowd::{Crowd, TooMuch};
use crate::door::Entrance;
use crate::door::postgres::{self, Guess, Talk, Turned};
use crate::http::{self, Tale};
use crate::notice;
use crate::number;
use crate::places::Seat;
use crate::tap;
use crate::watch;

/// For the last words to a client that wants no more.
const FAREWELL: Duration = Duration::from_secs(1);

/// A client that was taken in.
pub(crate) struct Session {
    pub(crate) route: Arc<Route>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) seat: Seat,
    pub(crate) from: Option<IpAddr>,
    /// Where it comes from, if more has to be known of it before it is let in.
    pub(crate) to_judge: Option<Source>,
    /// Who has connected to whom, where a proxy brings it.
    pub(crate) carried: Option<Box<(SocketAddr, SocketAddr)>>,
    /// Among whom it is to be counted when it is known who has brought it.
    pub(crate) crowd: Option<Arc<Crowd>>,
}

/// Where a client comes from, when it is known who brings it.
#[derive(Clone, Copy)]
struct Brought {
    source: Source,
    /// A proxy brings it.
    by_proxy: bool,
}

/// A client at the door that was let in.
#[derive(Default)]
struct Inside {
    /// Its TLS, if that was opened.
    tls: Option<Box<Tls>>,
    /// What it has said already, for the origin.
    early: Vec<u8>,
    /// The rule by which the server behind has to ask who it is.
    must_ask: Option<Box<str>>,
}

impl Inside {
    /// One that has said nothing yet.
    fn with(tls: Option<Box<Tls>>) -> Self {
        Self {
            tls,
            ..Self::default()
        }
    }
}

/// A client that was not let in.
enum Outside {
    /// It has had what it came for.
    Done,
    /// A rule says so.
    Denied(Refusal),
    /// A limit says so.
    TooMuch(TooMuch),
    /// It cannot be served, or wants no more than it had.
    Unserved(String),
}

impl Session {
    /// Hears from a proxy whom it brings.
    async fn brought(&mut self, client: &Socket, source: Source) -> Result<Brought, Refusal> {
        let taken = self.route.proxied().take(client, self.from).await;
        let carried = taken.map_err(Refusal::Header)?;
        // Even where the proxy does not know who it is, it is not the proxy.
        let by_proxy = carried.as_ref().is_some_and(|carried| !carried.is_own);
        let Some((from, to)) = carried.and_then(|carried| carried.addresses) else {
            return Ok(Brought { source, by_proxy });
        };
        self.carried = Some(Box::new((from, to)));
        let from = from.ip().to_canonical();
        // Its loopback interface is not ours.
        let is_here = |proxy: IpAddr| proxy.is_loopback();
        if from.is_loopback() && !self.from.is_none_or(is_here) {
            let why = "a proxy elsewhere brings a client of its own machine, which is not this one";
            return Err(Refusal::Header(why));
        }
        self.from = Some(from);
        let source = Source::Ip(from);
        Ok(Brought { source, by_proxy })
    }

    /// Decides on a client, by all that can be known of it, and opens the door.
    async fn judge(&mut self, client: &Socket, source: Source) -> Result<Inside, Outside> {
        let brought = self
            .brought(client, source)
            .await
            .map_err(Outside::Denied)?;
        self.to_judge = None;
        if let Some(crowd) = self.crowd.take() {
            let held = self.route.limiter().admit(&crowd, self.from);
            self.seat.holds(held.map_err(Outside::TooMuch)?);
        }
        if self.route.access().asking() == Asking::Postgres {
            return self.hear(client, brought).await;
        }
        if self.route.access().needs_certificate() {
            // Whom no rule is for need not open TLS first.
            if !self.route.access().knows(brought.source) {
                return Err(Outside::Denied(Refusal::NoRule));
            }
            // The rules are those of the listener, wherever the client then goes.
            let access = self.route.access().clone();
            let tls = self.enter(client).await.map_err(Outside::Unserved)?;
            self.admit(&access, client, brought, tls.as_deref()).await?;
            return Ok(Inside::with(tls));
        }
        let access = self.route.access().clone();
        self.admit(&access, client, brought, None).await?;
        let tls = self.enter(client).await.map_err(Outside::Unserved)?;
        Ok(Inside::with(tls))
    }

    async fn admit(
        &mut self,
        access: &Access,
        client: &Socket,
        brought: Brought,
        tls: Option<&Tls>,
    ) -> Result<(), Outside> {
        let source = brought.source;
        let admitted = match access.at_once(source) {
            Some(decided) => decided.map(|()| Admission::LetIn),
            None => {
                let holder = tls.and_then(holder);
                let entering = Entering {
                    source,
                    socket: client.get_ref(),
                    is_brought: brought.by_proxy,
                    said: None,
                    is_tls: tls.is_some(),
                    holder: holder.as_ref(),
                };
                access.admit(&entering).await
            }
        };
        match admitted.map_err(Outside::Denied)? {
            Admission::LetIn | Admission::LetServerAsk(_) => {}
            // Each of its requests is to show who it is.
            Admission::Ask(_) => self.to_judge = Some(source),
        }
        Ok(())
    }

    /// Hears what a client of PostgreSQL wants, and decides by that.
    async fn hear(&mut self, client: &Socket, brought: Brought) -> Result<Inside, Outside> {
        let listener = Arc::clone(&self.route);
        let access = listener.access();
        let (mut talk, mut to) = (Talk::new(client), None);
        let open = async || {
            let Some(entrance) = listener.entrance() else {
                return Err("there is no TLS here".to_owned());
            };
            let guest = Box::pin(entrance.enter(client)).await?;
            to = guest.route;
            guest.tls.ok_or_else(|| "there is no TLS here".to_owned())
        };
        let source = brought.source;
        let open = listener.entrance().is_some().then_some(open);
        let heard = postgres::hear(&mut talk, access.knows(source), open).await;
        let caller = match heard {
            Ok(caller) => caller,
            Err(turned) => return Err(turn_away(&mut talk, &turned).await),
        };
        let Some(start_up) = caller.start_up else {
            return Err(self.cancel(&mut talk, source, &caller.early).await);
        };
        let is_tls = talk.tls().is_some();
        if !is_tls && listener.entrance().is_some_and(Entrance::refuses_nameless) {
            let told = postgres::nameless();
            talk.turn_away(&told).await;
            return Err(Outside::Unserved(told.message));
        }
        if let Some(to) = to {
            self.route = to;
        }
        let holder = talk.tls().and_then(holder);
        let entering = Entering {
            source,
            socket: client.get_ref(),
            is_brought: brought.by_proxy,
            said: Some(&start_up),
            is_tls,
            holder: holder.as_ref(),
        };
        let mut must_ask = None;
        match access.admit(&entering).await {
            Ok(Admission::LetIn) => {}
            Ok(Admission::LetServerAsk(place)) => must_ask = Some(place),
            Err(refusal) => {
                let told = postgres::refusal(&refusal, source, is_tls, &start_up);
                talk.turn_away(&told).await;
                return Err(Outside::Denied(refusal));
            }
            Ok(Admission::Ask(way)) => {
                let Some(users) = access.users() else {
                    return Err(Outside::Denied(Refusal::NoRule));
                };
                let whose = (source, &start_up);
                if let Err(turned) = postgres::authenticate(&mut talk, whose, way, users).await {
                    let outside = turn_away(&mut talk, &turned).await;
                    let user = String::from_utf8_lossy(&start_up.user).into_owned();
                    return Err(match turned {
                        Turned::Guessed(_, Guess::Wrong) => {
                            Outside::Denied(Refusal::Password(user))
                        }
                        Turned::Guessed(_, Guess::NotLookedAt) => {
                            Outside::Denied(Refusal::Guesses(user))
                        }
                        Turned::Gone(_) | Turned::Away(_) => outside,
                    });
                }
            }
        }
        let (tls, rest) = talk.into_parts();
        let mut early = caller.early;
        early.extend_from_slice(&rest);
        Ok(Inside {
            tls,
            early,
            must_ask,
        })
    }

    /// Passes a request to cancel on, which clients make in the clear, even where their session is inside TLS.
    async fn cancel(&self, talk: &mut Talk<'_>, source: Source, request: &[u8]) -> Outside {
        if !self.route.access().knows(source) {
            return Outside::Denied(Refusal::NoRule);
        }
        // By which name the session came it does not say.
        let named = self.route.entrance().into_iter();
        let named = named
            .flat_map(|entrance| entrance.routes())
            .map(|route| route.origin());
        let mut origins: Vec<&Origin> = std::iter::once(self.route.origin()).chain(named).collect();
        origins.sort_by(|one, other| one.name().cmp(other.name()));
        origins.dedup_by(|one, other| one.name() == other.name());
        postgres::cancel(&origins, request).await;
        // It has got all that it came for.
        let _ = tokio::time::timeout(FAREWELL, talk.close()).await;
        Outside::Done
    }

    /// Finds an endpoint, then hands over to a [`Relay`], in a task of its own so that what was
    /// needed to connect is given back.
    pub(crate) async fn run(mut self, client: OwnedFd) {
        let Ok(client) = register(client) else {
            self.counters.unserved();
            return;
        };
        let limits = &self.route.limiter().limits;
        if let Some(rate) = limits.bandwidth.connection {
            pace(&client, rate);
        }
        if let Some(patience) = limits.first_byte
            && self.route.site().is_none()
            && !Box::pin(speaks(&client, patience)).await
        {
            let why = format!("it said nothing for {patience:?}");
            self.leave_outside(&Outside::Unserved(why));
            end(&client);
            return;
        }
        let speaks_postgres = self.route.access().asking() == Asking::Postgres;
        let entered = match self.to_judge {
            Some(source) => Box::pin(self.judge(&client, source)).await,
            None => match self.enter(&client).await {
                Ok(tls) => Ok(Inside::with(tls)),
                Err(why) => Err(Outside::Unserved(why)),
            },
        };
        let inside = match entered {
            Ok(inside) => inside,
            Err(outside) => {
                self.leave_outside(&outside);
                end(&client);
                return;
            }
        };
        if let Some(site) = self.route.site() {
            let site = Arc::clone(site);
            // What was needed to let it in is given back.
            tokio::spawn(http::serve(self, site, client, inside.tls));
            return;
        }
        let header = self.header(&client, inside.tls.as_deref());
        let is_away = |origin: &Origin| !origin.look(|snapshot| snapshot.view().is_usable());
        let was_held = is_away(self.route.origin());
        let connected = tokio::select! {
            biased;
            connected = Box::pin(self.connect(header.as_deref())) => Some(connected),
            () = gone(&client, self.route.settings.half_close) => None,
        };
        if was_held || matches!(connected, Some(Err(_))) {
            let outcome = Outcome {
                was_held,
                was_lost: matches!(connected, Some(Err(_))),
                ..Outcome::default()
            };
            let stats = self.route.origin().stats();
            stats.desk(number::get()).count(&outcome);
        }
        match connected {
            Some(Ok(link)) if inside.must_ask.is_some() => {
                Box::pin(self.carry_asked(client, inside, link)).await;
            }
            Some(Ok(link)) => self.carry(client, inside, link.into_parts()),
            Some(Err(error)) => {
                let cause = error.failure().map(tracing::field::display);
                tracing::debug!(
                    listener = self.route.name(), %error, cause, "client not served"
                );
                self.counters.unserved();
                if speaks_postgres {
                    let told = postgres::away(&error, self.from);
                    let mut talk = Talk::resume(&client, inside.tls);
                    Box::pin(talk.turn_away(&told)).await;
                }
                end(&client);
            }
            None => {
                self.counters.unserved();
                end(&client);
            }
        }
    }

    fn tell(&self, why: &dyn std::fmt::Display) {
        self.counters.denied();
        let from = self.from.map(|from| from.to_string());
        notice::denied(self.route.name(), from.as_deref().unwrap_or_default(), why);
    }

    fn leave_outside(&self, outside: &Outside) {
        match outside {
            Outside::Done => {}
            Outside::Denied(refusal) => self.tell(refusal),
            Outside::TooMuch(too_much) => self.tell(too_much),
            Outside::Unserved(why) => {
                tracing::debug!(listener = self.route.name(), why, "client not let in");
                self.counters.unserved();
            }
        }
    }

    async fn connect(&self, header: Option<&[u8]>) -> Result<Link, Error> {
        let origin = self.route.origin();
        match self.route.chooser(number::get()) {
            Some(chooser) => {
                let hash = self.from.map(hash);
                origin.connect_for(chooser, hash, header).await
            }
            None => origin.connect().await,
        }
    }

    /// What the origin is told of a client, if it is told anything (the PROXY protocol).
    fn header(&self, client: &Socket, tls: Option<&Tls>) -> Option<Vec<u8>> {
        let announce = self.route.origin().settings().announce?;
        let carried = self.carried.as_deref().copied();
        let holder = tls.and_then(holder);
        // As OpenSSL calls them, which is what others write there.
        let suite = tls.and_then(Tls::suite);
        let suite = suite.as_deref().and_then(|suite| suite.split(',').next());
        let suite = suite.map(|suite| suite.replacen("TLS13_", "TLS_", 1));
        let version = tls.map(|tls| tls.version().replacen("TLS ", "TLSv", 1));
        let told = Announced {
            addresses: carried.or_else(|| ends(client)),
            tls: tls.map(|tls| AnnouncedTls {
                version: version.as_deref().unwrap_or_default(),
                cipher: suite.as_deref(),
                alpn: tls.alpn(),
                certificate: holder.as_ref().map(|holder| {
                    let name = holder.common_name.as_deref();
                    name.unwrap_or_default()
                }),
            }),
        };
        Some(announce.header(&told))
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

    /// The same, if the server asks the client who it is.
    async fn carry_asked(self, client: Socket, inside: Inside, link: Link) {
        let mut parts = link.into_parts();
        let asked = tokio::select! {
            asked = postgres::is_asked(&parts.socket, parts.tls.take(), &inside.early) => asked,
            () = gone(&client, HalfClose::Leaves) => Err(std::io::ErrorKind::ConnectionAborted.into()),
        };
        match asked {
            Ok((true, tls, said)) => {
                parts.tls = tls;
                let inside = Inside {
                    early: Vec::new(),
                    ..inside
                };
                self.carry_from(client, inside, parts, said);
            }
            Ok((false, ..)) => {
                end(&parts.socket);
                let place = inside.must_ask.unwrap_or_default();
                let mut talk = Talk::resume(&client, inside.tls);
                talk.turn_away(&postgres::unasked(&place)).await;
                self.tell(&format_args!(
                    "the server behind does not ask who it is, as the rule at {place} wants"
                ));
                end(&client);
            }
            Err(error) => {
                tracing::debug!(listener = self.route.name(), %error, "client not served");
                self.counters.unserved();
                end(&parts.socket);
                let mut talk = Talk::resume(&client, inside.tls);
                talk.turn_away(&postgres::lost()).await;
                end(&client);
            }
        }
    }

    fn carry(self, client: Socket, inside: Inside, parts: Parts) {
        self.carry_from(client, inside, parts, Vec::new());
    }

    /// `said` is what the server has said already.
    fn carry_from(self, client: Socket, inside: Inside, parts: Parts, said: Vec<u8>) {
        let said = [parts.early, said].concat();
        let is_tcp = matches!(parts.address, Address::Tcp(_));
        if let Some(rate) = self.route.limiter().limits.bandwidth.connection {
            pace(&parts.socket, rate);
        }
        let carried = Carried {
            client,
            client_tls: inside.tls,
            origin: parts.socket,
            origin_tls: parts.tls,
            endpoint: parts.endpoint,
            is_tcp,
            usage: parts.usage,
            early_up: inside.early,
            early_down: said,
            tale: None,
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
    /// What is told of it in the end, if that is more than is counted.
    pub(crate) tale: Option<Box<Tale>>,
}

/// Carries a stream, in a task of its own.
pub(crate) fn carry(carried: Carried, session: Session) {
    let Carried {
        client_tls,
        origin_tls,
        early_up,
        early_down,
        tale,
        ..
    } = carried;
    let stream = Arc::new(Stream::new(
        (carried.client, carried.origin),
        (carried.endpoint, carried.is_tcp, carried.usage),
        session.route,
        session.counters,
        (session.seat, tale),
    ));
    if tap::is_on() {
        let subject = (stream.route.name(), number_of(&stream));
        tap::opened(subject, &stream.client);
    }
    let watched = Arc::clone(&stream);
    let key = watch::enter(watched);
    if client_tls.is_none() && origin_tls.is_none() {
        relay(stream, key, Plain::new(early_up, early_down));
    } else {
        let carrier = Sealed::new((client_tls, early_down), (origin_tls, early_up), &stream);
        relay(stream, key, carrier);
    }
}

fn relay(stream: Arc<Stream>, key: watch::Key, carrier: impl Carrier + Send + 'static) {
    match stream.seat().throttles() {
        None => tokio::spawn(Relay::new(stream, key, carrier)),
        Some(throttles) => {
            let carrier = Throttled::new(carrier, *throttles);
            tokio::spawn(Relay::new(stream, key, carrier))
        }
    };
}

/// Tells a client of PostgreSQL why it does not come in.
async fn turn_away(talk: &mut Talk<'_>, turned: &postgres::Turned) -> Outside {
    if let Turned::Away(refusal) | Turned::Guessed(refusal, _) = turned {
        talk.turn_away(refusal).await;
    }
    Outside::Unserved(turned.to_string())
}

/// Who has connected to whom; none of Unix sockets.
fn ends(client: &Socket) -> Option<(SocketAddr, SocketAddr)> {
    let peer = SocketAddr::try_from(getpeername(client.get_ref()).ok()??).ok()?;
    let here = SocketAddr::try_from(getsockname(client.get_ref()).ok()?).ok()?;
    Some((peer, here))
}

/// Has the kernel send no more than so many bytes a second.
fn pace(socket: &Socket, rate: NonZeroU64) {
    if let Err(error) = max_pacing_rate(socket.get_ref(), rate.get()) {
        tracing::debug!(%error, "a stream is not paced");
    }
}

/// Whether a client says something, or leaves, in time.
async fn speaks(client: &Socket, patience: Duration) -> bool {
    let said = client.ready(Interest::READABLE | Interest::ERROR);
    tokio::time::timeout(patience, said).await.is_ok()
}

/// Who holds the certificate that a client has shown, which was verified when TLS was opened.
fn holder(tls: &Tls) -> Option<Holder> {
    Holder::read(tls.peer_certificates().first()?)
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

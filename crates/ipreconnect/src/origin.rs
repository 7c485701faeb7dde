//! One origin: connect to it, watch it, wait for it.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use ipreconnect_core::address::{Address, EndpointId};
use ipreconnect_core::failure::{Cause, Failure};
use ipreconnect_core::identity::{KeyId, Sighting};
use ipreconnect_core::origin::{EndpointView, Event, Health, Phase};

use tokio::sync::watch;

use crate::chooser::Chooser;
use crate::clock;
use crate::dial::Dialer;
use crate::error::{Error, Kind};
use crate::light::{self, Light, Way};
use crate::link::Link;
use crate::meter::Usage;
use crate::race::{self, Boxed, Course, Runner};
use crate::reconnecting::Reconnecting;
use crate::settings::OriginSettings;
use crate::shared::{Fact, Life, Shared, connector};
use crate::snapshot::Snapshot;
use crate::socket::Socket;
use crate::stats::Stats;
use crate::status::Status;
use crate::task::Task;
use crate::tls::{Connector, Session};
use crate::waiters::{Refused, Ticket, Word};
use crate::warm::Opened;

/// Proves a connection before it is used: returns what it made of it, or why it cannot be.
pub(crate) type Prove<'a, T> = dyn Fn(Link) -> Boxed<'a, Result<T, Failure>> + Send + Sync + 'a;

/// An origin that is kept connected. Cheap to clone; the supervision ends with the last clone.
#[derive(Clone, Debug)]
pub struct Origin {
    pub(crate) shared: Arc<Shared>,
    /// Ends with the last clone of the origin.
    pub(crate) tasks: Arc<Tasks>,
}

/// The changes of what is known of an origin. Does not keep the origin alive.
#[derive(Debug)]
pub struct Changes {
    life: watch::Receiver<Life>,
}

impl Changes {
    /// Waits for the next one; `None` when the origin has ended. Changes that follow each other closely
    /// are one.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn next(&mut self) -> Option<()> {
        if *self.life.borrow() == Life::Closed {
            return None;
        }
        self.life.changed().await.ok()?;
        (*self.life.borrow_and_update() != Life::Closed).then_some(())
    }
}

/// What works for an origin.
#[derive(Debug, Default)]
pub(crate) struct Tasks {
    pub(crate) driver: Option<Task>,
    /// Keeps connections ready; ends by itself when the origin is closed.
    pub(crate) _keeper: Option<Task>,
}

/// For whom an endpoint is dialled.
#[derive(Clone, Copy, Default)]
pub(crate) struct Whom<'w> {
    /// What [`Policy::Hash`](ipreconnect_core::balance::Policy::Hash) goes by.
    hash: Option<u64>,
    /// The header that says whose connection it is.
    header: Option<&'w [u8]>,
}

impl Origin {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// A connection to the best endpoint.
    ///
    /// While the origin is away the caller waits in its hold, in order, for as long as the hold
    /// allows. A connect failure moves on to the next endpoint by itself.
    ///
    /// # Errors
    /// [`Kind::HoldTimedOut`] and its kin if the origin stayed away.
    ///
    /// # Cancel safety
    /// Dropping the future gives the place in the hold up and closes whatever was being dialled.
    pub async fn connect(&self) -> Result<Link, Error> {
        let chooser = self.shared.chooser.load_full();
        self.connect_by(&chooser, None).await
    }

    /// Like [`connect`](Self::connect), with a chooser of the caller's own, and what to hash by.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    ///
    /// # Cancel safety
    /// As [`connect`](Self::connect).
    pub async fn connect_by(&self, chooser: &Chooser, hash: Option<u64>) -> Result<Link, Error> {
        self.connect_for(chooser, hash, None).await
    }

    /// Like [`connect_by`](Self::connect_by), for somebody whose header (the PROXY protocol) goes before
    /// everything else, where the settings want one ([`OriginSettings::announce`]); without it the connection
    /// says that it is our own.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    ///
    /// # Cancel safety
    /// As [`connect`](Self::connect).
    pub async fn connect_for(
        &self,
        chooser: &Chooser,
        hash: Option<u64>,
        header: Option<&[u8]>,
    ) -> Result<Link, Error> {
        let whom = Whom { hash, header };
        self.connect_proven(chooser, whom, &|link| {
            Box::pin(std::future::ready(Ok(link)))
        })
        .await
    }

    /// Whether it is made on the fly ([`light`](Self::light), [`beyond`](Self::beyond)), for one host that somebody named.
    #[must_use]
    pub fn is_made_on_the_fly(&self) -> bool {
        self.shared.way.is_some()
    }

    /// Looks up where an origin is that is made on the fly ([`light`](Self::light)), if that is not known; returns how
    /// long it took, if it had to. Of any other origin there is nothing to do. No `source` has more than half of all
    /// such hosts looked up at once.
    ///
    /// # Errors
    /// [`Kind::Down`] if it has no address, or none that may be dialled.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn find(&self, source: Option<IpAddr>) -> Result<Option<Duration>, Error> {
        let Some(light) = self.shared.light() else {
            return Ok(None);
        };
        let found = light.find(&self.shared, source).await;
        found.map_err(|failure| self.error(Kind::Down, &Place::default(), Some(failure)))
    }

    /// Whether [`find`](Self::find) has nothing to do.
    #[must_use]
    pub fn is_found(&self) -> bool {
        let light = self.shared.light();
        light.is_none_or(|light| light.is_found(&self.shared))
    }

    /// A connection without waiting in the hold for it, and to another endpoint than this one.
    ///
    /// # Errors
    /// [`Kind::Down`] if none can be reached now.
    ///
    /// # Cancel safety
    /// Dropping the future closes whatever was being dialled.
    pub async fn connect_at_once(&self, avoided: Option<EndpointId>) -> Result<Link, Error> {
        let chooser = Chooser::new(self.settings().balance, 0).avoiding(avoided);
        self.dial_now(&chooser).await
    }

    /// A connection to this endpoint, and no other, without waiting for it.
    ///
    /// # Errors
    /// [`Kind::Down`] if it cannot be reached now.
    ///
    /// # Cancel safety
    /// Dropping the future closes whatever was being dialled.
    pub async fn connect_to(&self, endpoint: EndpointId) -> Result<Link, Error> {
        let chooser = Chooser::new(self.settings().balance, 0).only(endpoint);
        self.dial_now(&chooser).await
    }

    async fn dial_now(&self, chooser: &Chooser) -> Result<Link, Error> {
        let snapshot = self.snapshot();
        let dialled = self.dial(&snapshot, chooser, Whom::default(), &|link| {
            Box::pin(std::future::ready(Ok(link)))
        });
        dialled
            .await
            .map_err(|failure| self.error(Kind::Down, &Place::default(), Some(failure)))
    }

    /// Keeps one connection: connects, proves it by `handshake`, and does so again whenever it is
    /// lost.
    ///
    /// ```no_run
    /// # async fn example(origin: ipreconnect::Origin) -> Result<(), Box<dyn std::error::Error>> {
    /// use tokio::io::{AsyncReadExt, AsyncWriteExt};
    ///
    /// let mut cache = origin.reconnecting(|mut link| async move {
    ///     link.write_all(b"PING\r\n").await?;
    ///     let mut answer = [0; 7];
    ///     link.read_exact(&mut answer).await?;
    ///     Ok(link)
    /// });
    /// let link = cache.ready().await?; // connects, or waits in the hold
    /// if link.write_all(b"SET a 1\r\n").await.is_err() {
    ///     cache.lost(); // the next `ready` reconnects
    /// }
    /// # Ok(()) }
    /// ```
    pub fn reconnecting<T, F, H>(&self, handshake: H) -> Reconnecting<T>
    where
        T: Send + 'static,
        F: Future<Output = std::io::Result<T>> + Send + 'static,
        H: Fn(Link) -> F + Send + Sync + 'static,
    {
        Reconnecting::new(self.clone(), handshake)
    }

    /// What is known of the origin now.
    #[must_use]
    pub fn status(&self) -> Status {
        Status::of(
            &self.shared.name,
            &self.snapshot(),
            self.shared.waiters.len(),
            self.shared.tls.load().as_deref(),
            self.shared.identities.is_alarming(),
            &self.shared.warm,
        )
    }

    /// The published state: immutable, and free to keep.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.shared.snapshot.load_full()
    }

    /// Looks at the published state for a moment, without taking hold of it.
    pub fn look<T>(&self, with: impl FnOnce(&Snapshot) -> T) -> T {
        with(&self.shared.snapshot.load())
    }

    /// What becomes known from now on.
    #[must_use]
    pub fn changes(&self) -> Changes {
        Changes {
            life: self.shared.life.subscribe(),
        }
    }

    /// Waits until the status is one that `is_good` accepts, and returns it.
    ///
    /// # Errors
    /// [`Kind::Closed`] if the origin is closed before.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn watch(&self, mut is_good: impl FnMut(&Status) -> bool) -> Result<Status, Error> {
        let mut life = self.shared.life.subscribe();
        loop {
            let now = *life.borrow_and_update();
            let status = self.status();
            if is_good(&status) {
                return Ok(status);
            }
            if now == Life::Closed || life.changed().await.is_err() {
                return Err(Error::new(Kind::Closed, &self.shared.name));
            }
        }
    }

    /// Tries again now, whatever the schedule says; also ends a drain.
    ///
    /// # Errors
    /// [`Kind::Closed`] if the origin has ended.
    pub async fn reconnect(&self) -> Result<(), Error> {
        self.order(Fact::Event(Event::ReconnectAsked)).await
    }

    /// Takes no new work from now on.
    ///
    /// # Errors
    /// [`Kind::Closed`] if the origin has ended.
    pub async fn drain(&self) -> Result<(), Error> {
        self.order(Fact::Event(Event::DrainAsked)).await
    }

    /// Has new work go to this address as long as it is up, whatever the settings say of its priority; without one
    /// by the settings again. What is open stays where it is.
    ///
    /// # Errors
    /// [`Kind::Closed`] if the origin has ended.
    pub async fn prefer(&self, address: Option<Address>) -> Result<(), Error> {
        self.order(Fact::Event(Event::PreferAsked { address }))
            .await
    }

    /// Changes the settings. Links and waiting clients stay, and so does all that is known of
    /// endpoints that stay.
    ///
    /// # Errors
    /// [`Kind::Closed`] if the origin has ended.
    pub async fn reconfigure(&self, settings: OriginSettings) -> Result<(), Error> {
        if settings.balance != self.shared.settings.load().balance {
            let chooser = Chooser::new(settings.balance, clock::stamp(clock::now()));
            self.shared.chooser.store(Arc::new(chooser));
        }
        let before = self.shared.settings.swap(Arc::new(settings.clone()));
        if before.tls != settings.tls || before.places != settings.places {
            self.shared.tls.store(connector(&settings));
        }
        self.shared.warm.changed.notify_one();
        self.order(Fact::Reconfigure(Box::new(settings))).await
    }

    /// Unlike what workers tell, an order is never dropped.
    async fn order(&self, fact: Fact) -> Result<(), Error> {
        let sent = self.shared.facts.send(fact).await;
        sent.map_err(|_| Error::new(Kind::Closed, &self.shared.name))
    }

    /// Ends the supervision and sends every waiting client away. Links that are open stay.
    pub fn close(&self) {
        self.shared.waiters.close();
        self.shared.life.send_replace(Life::Closed);
        if let Some(driver) = &self.tasks.driver {
            driver.abort_handle().abort();
        }
    }

    /// Tells what the carrier of a link saw of it.
    pub fn report(&self, event: Event) {
        self.shared.tell(event);
    }

    /// What was seen of the identity of its servers, by this process and those before; nothing of an
    /// origin without TLS.
    ///
    /// # Errors
    /// If what was kept of them cannot be read.
    pub async fn identities(&self) -> std::io::Result<Vec<Sighting>> {
        self.shared.identities.read().await?;
        Ok(self.shared.identities.sightings())
    }

    /// Accepts one key that was seen of its servers, or every one; returns what was not accepted
    /// before. What was refused for its key is tried again at once.
    ///
    /// # Errors
    /// If what was kept of them cannot be read.
    pub async fn accept_identity(&self, only: Option<KeyId>) -> std::io::Result<Vec<Sighting>> {
        let accepted = self.shared.identities.accept(only).await?;
        if !accepted.is_empty() {
            // An origin that has ended needs no attempt.
            let _ = self.reconnect().await;
        }
        Ok(accepted)
    }

    /// What is counted of its clients, by whoever carries them.
    #[must_use]
    pub fn stats(&self) -> &Arc<Stats> {
        &self.shared.stats
    }

    /// The settings in force.
    #[must_use]
    pub fn settings(&self) -> Arc<OriginSettings> {
        self.shared.settings.load_full()
    }

    pub(crate) async fn connect_proven<T: Send>(
        &self,
        chooser: &Chooser,
        whom: Whom<'_>,
        prove: &Prove<'_, T>,
    ) -> Result<T, Error> {
        match &self.shared.way {
            None => {}
            Some(Way::Light(light)) => {
                return Box::pin(self.connect_light(light, chooser, whom, prove)).await;
            }
            Some(Way::Beyond(way)) => {
                let proven = async { prove(light::beyond(&self.shared, &**way).await?).await };
                let down = |failure| self.error(Kind::Down, &Place::default(), Some(failure));
                return Box::pin(proven).await.map_err(down);
            }
        }
        let mut place = Place::default();
        loop {
            let snapshot = self.snapshot();
            let view = snapshot.view();
            if view.phase == Phase::Draining {
                return Err(self.error(Kind::Draining, &place, None));
            }
            let mut failure = view.failure.clone();
            if view.is_usable() {
                match self.dial(&snapshot, chooser, whom, prove).await {
                    Ok(proven) => return Ok(proven),
                    Err(last) => failure = Some(last),
                }
                if place.ticket.is_some() {
                    self.shared.tell(Event::ReleaseFailed);
                }
            }
            self.hold(&mut place, failure).await?;
        }
    }

    /// The same of an origin that is made on the fly.
    async fn connect_light<T: Send>(
        &self,
        light: &Light,
        chooser: &Chooser,
        whom: Whom<'_>,
        prove: &Prove<'_, T>,
    ) -> Result<T, Error> {
        let down = |failure| self.error(Kind::Down, &Place::default(), Some(failure));
        let mut tried: Option<(BTreeSet<EndpointId>, Failure)> = None;
        loop {
            let looked_up = light.find(&self.shared, None).await.map_err(down)?;
            let snapshot = self.snapshot();
            let endpoints = snapshot.view().endpoints.iter();
            let endpoints = endpoints.map(|endpoint| endpoint.id).collect();
            if let Some((_, failure)) = tried.take_if(|(before, _)| *before == endpoints) {
                return Err(down(failure));
            }
            let failure = match self.dial(&snapshot, chooser, whom, prove).await {
                Ok(proven) => return Ok(proven),
                Err(failure) => failure,
            };
            light.lost().await;
            // What is known of before may have been of before: it is looked up again, once.
            if looked_up.is_some() || tried.is_some() {
                return Err(down(failure));
            }
            tried = Some((endpoints, failure));
        }
    }

    async fn dial<T: Send>(
        &self,
        snapshot: &Arc<Snapshot>,
        chooser: &Chooser,
        Whom { hash, header }: Whom<'_>,
        prove: &Prove<'_, T>,
    ) -> Result<T, Failure> {
        let settings = self.shared.settings.load_full();
        let dialer = Dialer {
            source: settings.source,
            ports: settings.local_ports,
            announce: settings.announce,
        };
        let warm_took = AtomicU64::new(0);
        let mut field = Field {
            shared: &self.shared,
            chooser,
            hash,
            seen: Arc::clone(snapshot),
            life: None,
            warm_took: &warm_took,
        };
        let order = chooser.order(snapshot, hash);
        let tls = self.shared.tls.load_full();
        let is_plain = tls.is_none() && settings.warm.connections == 0;
        race::run(
            Runner::line_up(snapshot, order).collect(),
            settings.attempt_delay,
            settings.supervisor.connect_timeout,
            &mut field,
            |runner| {
                let (tls, warm_took) = (tls.clone(), &warm_took);
                Box::pin(async move {
                    let endpoint = runner.endpoint();
                    let (socket, tls) = if is_plain {
                        let dialled = dialer.connect_for(&endpoint.address, header);
                        (dialled.await?, None)
                    } else {
                        // Most dials need no room for all that a handshake needs.
                        let opened = self.open(endpoint, tls.as_ref(), (dialer, header), warm_took);
                        Box::pin(opened).await?
                    };
                    let meter = runner.meter().cloned().unwrap_or_default();
                    let usage = Usage::begin(&meter);
                    let address = endpoint.address.clone();
                    prove(Link::new(socket, tls, endpoint.id, address, usage)).await
                })
            },
        )
        .await
    }

    /// A connection that is ready, or a fresh one, with TLS on it if the origin has it. Tells how long
    /// one that was ready had taken.
    async fn open(
        &self,
        endpoint: &EndpointView,
        connector: Option<&Arc<Connector>>,
        (dialer, header): (Dialer, Option<&[u8]>),
        warm_took: &AtomicU64,
    ) -> Result<(Socket, Option<Box<Session>>), Failure> {
        if let Some((socket, opened)) = self.warm(endpoint, connector).await {
            let took = u64::try_from(opened.took.as_micros());
            warm_took.store(took.unwrap_or(u64::MAX).max(1), Relaxed);
            return Ok((socket, opened.tls));
        }
        warm_took.store(0, Relaxed);
        let socket = dialer.connect_for(&endpoint.address, header).await?;
        let session = match connector {
            Some(connector) => {
                let (entry, address) = (endpoint.entry, &endpoint.address);
                let opened = self.shared.open(connector, &socket, entry, address);
                Some(opened.await?.0)
            }
            None => None,
        };
        Ok((socket, session))
    }

    /// A connection that was kept ready and still is what it has to be.
    async fn warm(
        &self,
        endpoint: &EndpointView,
        connector: Option<&Arc<Connector>>,
    ) -> Option<(Socket, Opened)> {
        let settings = self.shared.settings.load();
        // One that was kept ready is nobody's, and has said so.
        if settings.warm.connections == 0 || settings.announce.is_some() {
            return None;
        }
        let (socket, opened) = self.shared.warm.take(endpoint.id, connector)?;
        if let (Some(connector), Some(proof)) = (connector, opened.proof()) {
            let admitted = self.shared.admit(connector, proof, &endpoint.address);
            if admitted.await.is_err() {
                // A fresh one tells why.
                let _ = rustix::net::shutdown(socket.get_ref(), rustix::net::Shutdown::Both);
                return None;
            }
        }
        Some((socket, opened))
    }

    /// Waits for the driver's word, or for the end of patience.
    async fn hold(&self, place: &mut Place, failure: Option<Failure>) -> Result<(), Error> {
        let hold = self.shared.settings.load().hold;
        if hold.patience.is_zero() {
            return Err(self.error(Kind::Down, place, failure));
        }
        let since = *place.since.get_or_insert_with(clock::now);
        let deadline = since.checked_add(hold.patience);
        let wait = self.shared.waiters.wait(&mut place.ticket, hold.clients);
        let word = match deadline {
            Some(deadline) => tokio::time::timeout_at(deadline.into(), wait).await,
            None => Ok(wait.await),
        };
        match word {
            Ok(Ok(Word::Go)) => Ok(()),
            Ok(Ok(Word::GivenUp)) => Err(self.error(Kind::GivenUp, place, failure)),
            Ok(Err(Refused::Full)) => Err(self.error(Kind::HoldFull, place, failure)),
            Ok(Err(Refused::Closed)) => Err(self.error(Kind::Closed, place, failure)),
            Err(_) => {
                let latest = self.snapshot().view().failure.clone().or(failure);
                Err(self.error(Kind::HoldTimedOut, place, latest))
            }
        }
    }

    fn error(&self, kind: Kind, place: &Place, failure: Option<Failure>) -> Error {
        let waited = place.since.map_or(Duration::ZERO, |since| since.elapsed());
        let refused = failure
            .as_ref()
            .is_some_and(|failure| failure.cause == Cause::Handshake);
        let kind = match kind {
            Kind::Down | Kind::HoldTimedOut if refused => Kind::Handshake,
            kind => kind,
        };
        Error::new(kind, &self.shared.name)
            .because(failure)
            .after(waited)
    }
}

/// One client's place in the hold.
#[derive(Default)]
struct Place {
    ticket: Option<Ticket>,
    since: Option<Instant>,
}

/// The field of a race: tells the driver how it goes, and lets new endpoints in.
struct Field<'a> {
    shared: &'a Shared,
    chooser: &'a Chooser,
    hash: Option<u64>,
    seen: Arc<Snapshot>,
    /// Most races end before anybody waits for arrivals.
    life: Option<watch::Receiver<Life>>,
    /// Microseconds that the connection had taken, if it was one that was kept ready; else 0.
    warm_took: &'a AtomicU64,
}

impl Course for Field<'_> {
    fn dial_failed(&self, runner: &Runner, failure: &Failure) {
        if failure.cause.is_ours()
            && let Some(meter) = runner.meter()
        {
            meter.fail_here();
        }
        self.shared.tell(Event::DialFailed {
            endpoint: runner.endpoint().id,
            failure: failure.clone(),
        });
    }

    fn dial_hung(&self, runner: &Runner) {
        self.shared.tell(Event::DialHung {
            endpoint: runner.endpoint().id,
        });
    }

    fn proven(&self, runner: &Runner, took: Duration) {
        let endpoint = runner.endpoint();
        // One that was ready took nothing now, and says nothing of the path now.
        let took = match self.warm_took.load(Relaxed) {
            0 => took,
            micros => Duration::from_micros(micros),
        };
        // What is known already need not be told again and again.
        if let Some(meter) = runner.meter() {
            let now = clock::now();
            let fresh = meter
                .proven()
                .is_some_and(|at| now.saturating_duration_since(at) < Duration::from_millis(100));
            meter.prove(now);
            let known = endpoint.health == Health::Up && endpoint.latency.is_some();
            if known && fresh && self.shared.waiters.len() == 0 {
                return;
            }
        }
        if let Some(light) = self.shared.light() {
            return light.reached(self.shared, &endpoint.address);
        }
        self.shared.tell(Event::Dialled {
            endpoint: endpoint.id,
            took,
        });
    }

    async fn arrivals(&mut self) -> Vec<Runner> {
        let shared = self.shared;
        let life = self.life.get_or_insert_with(|| shared.life.subscribe());
        loop {
            let snapshot = shared.snapshot.load_full();
            if !Arc::ptr_eq(&snapshot, &self.seen) {
                self.seen = snapshot;
                let order = self.chooser.order(&self.seen, self.hash);
                return Runner::line_up(&self.seen, order).collect();
            }
            if life.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }
}

impl Origin {
    pub(crate) fn chooser(&self) -> Arc<Chooser> {
        self.shared.chooser.load_full()
    }

    /// A number that is this origin's alone among those that exist now.
    #[must_use]
    pub fn identity(&self) -> usize {
        Arc::as_ptr(&self.shared).addr()
    }
}

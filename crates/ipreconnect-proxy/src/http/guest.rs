//! Who a client is, how it came in, and that it is told when its worker drains.

use std::cell::{Cell, RefCell};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use atomic_waker::AtomicWaker;
use data_encoding::BASE64;
use ipreconnect::clock;
use ipreconnect::core::http::{Field, RequestHead, Role};

use super::forwarding::Told;
use super::record::Record;
use super::wire::Half;
use super::{HttpLimits, Site};
use crate::access::{self, Admission, Fit, Refusal};
use crate::forward::{Headers, nameless};
use crate::l4::{End, HalfClose, Session};
use crate::notice;
use crate::places::{Counts, Seat};
use crate::throttle::Throttle;

thread_local! {
    static DRAINING: Cell<bool> = const { Cell::new(false) };
    /// Clients of this worker, to be woken when it drains.
    static CLIENTS: RefCell<Vec<Option<Arc<AtomicWaker>>>> = const { RefCell::new(Vec::new()) };
    static FREE: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
}

/// Whether this worker takes no more requests.
pub(super) fn is_draining() -> bool {
    DRAINING.get()
}

/// Lets every client finish the request that is under way, and no other one.
pub(crate) fn drain() {
    DRAINING.set(true);
    CLIENTS.with_borrow(|clients| {
        for waker in clients.iter().flatten() {
            waker.wake();
        }
    });
}

/// A client among those of its worker, until dropped.
pub(super) struct Place {
    at: usize,
    pub(super) waker: Arc<AtomicWaker>,
}

impl Place {
    pub(super) fn take() -> Self {
        let waker = Arc::new(AtomicWaker::new());
        let free = FREE.with_borrow_mut(Vec::pop);
        let at = CLIENTS.with_borrow_mut(|clients| {
            let at = free.unwrap_or(clients.len());
            match clients.get_mut(at) {
                Some(place) => *place = Some(Arc::clone(&waker)),
                None => clients.push(Some(Arc::clone(&waker))),
            }
            at
        });
        Self { at, waker }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        CLIENTS.with_borrow_mut(|clients| {
            if let Some(place) = clients.get_mut(self.at) {
                *place = None;
            }
        });
        FREE.with_borrow_mut(|free| free.push(self.at));
    }
}

/// A name and a password that a request shows (RFC 7617).
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Credentials {
    pub(super) user: Vec<u8>,
    pub(super) password: Vec<u8>,
}

impl Credentials {
    /// Those of a request; none if it has none, or more than one.
    pub(super) fn of(head: &RequestHead, text: &[u8], role: Role) -> Option<Self> {
        let wanted: &[u8] = match role {
            Role::Reverse => b"authorization",
            Role::Forward => b"proxy-authorization",
        };
        let named = |field: &&Field| field.name.of(text).eq_ignore_ascii_case(wanted);
        let mut fields = head.fields.iter().filter(named);
        let (Some(field), None) = (fields.next(), fields.next()) else {
            return None;
        };
        let value = field.value.of(text).trim_ascii();
        let (scheme, rest) = value.split_at_checked(6)?;
        if !scheme.eq_ignore_ascii_case(b"basic ") {
            return None;
        }
        let shown = BASE64.decode(rest.trim_ascii()).ok()?;
        let colon = shown.iter().position(|byte| *byte == b':')?;
        let (user, password) = shown.split_at(colon);
        Some(Self {
            user: user.to_vec(),
            password: password.get(1..)?.to_vec(),
        })
    }
}

/// Who the client is, and how it came in.
pub(super) struct Guest {
    session: Session,
    site: Arc<Site>,
    from: Box<str>,
    is_sealed: bool,
    /// Requests of this connection.
    asked: AtomicU32,
    /// Where it wanted to go before it was led here.
    led_to: Option<Box<SocketAddr>>,
}

impl Guest {
    pub(super) fn new(session: Session, site: Arc<Site>, is_sealed: bool) -> Self {
        let from = session.from.map(|from| from.to_string().into());
        session.counters.began();
        Self {
            from: from.unwrap_or_default(),
            is_sealed,
            asked: AtomicU32::new(0),
            led_to: None,
            session,
            site,
        }
    }

    /// Whether clients may have been led here on their way elsewhere.
    pub(super) fn expects_redirected(&self) -> bool {
        let forward = self.site.forward.as_ref();
        forward.is_some_and(|forward| forward.plan.is_transparent)
    }

    /// The same client, which wanted to go there.
    pub(super) fn led_to(mut self, to: SocketAddr) -> Self {
        self.led_to = Some(Box::new(to));
        self
    }

    /// Where it wanted to go before it was led here.
    pub(super) fn wanted(&self) -> Option<SocketAddr> {
        self.led_to.as_deref().copied()
    }

    /// The same client, for work that it has caused and does not wait for.
    pub(super) fn beside(&self) -> Self {
        let session = &self.session;
        Self {
            session: Session {
                route: Arc::clone(&session.route),
                counters: Arc::clone(&session.counters),
                seat: session.seat.beside(),
                from: session.from,
                to_judge: session.to_judge,
                carried: None,
                crowd: None,
            },
            site: Arc::clone(&self.site),
            from: self.from.clone(),
            is_sealed: self.is_sealed,
            asked: AtomicU32::new(0),
            led_to: self.led_to.clone(),
        }
    }

    /// Whether its listener is as it was when the client came.
    pub(super) fn is_current(&self) -> bool {
        self.session.route.is_current()
    }

    /// Goes by what its listener is now, if that would have let the client in; else it is to leave.
    pub(super) fn renew(&mut self) {
        while let Some((route, site)) = self.session.route.next() {
            let source = access::source(self.session.from);
            let before = &self.session.route;
            if route.proxied() != before.proxied() {
                return;
            }
            let is_denied = |from| route.limiter().limits.deny.contains(from);
            if self.session.from.is_some_and(is_denied) {
                return;
            }
            let is_as_before = route.access() == before.access();
            // What a certificate had shown, the roots of now may not verify.
            if route.access().needs_certificate() {
                return;
            }
            if !is_as_before {
                if route.access().at_once(source) != Some(Ok(())) {
                    return;
                }
                self.session.to_judge = None;
            }
            self.site = site;
            self.session.route = route;
        }
    }

    /// The same client, going by what its listener is now.
    pub(super) fn renewed(&self) -> Self {
        let mut guest = self.beside();
        guest.asked = AtomicU32::new(self.asked.load(Relaxed));
        guest.renew();
        guest
    }

    pub(super) fn site(&self) -> &Site {
        &self.site
    }

    /// A place for one more connection that it has opened; none, if there is none left.
    pub(super) fn one_more(&self) -> Option<Seat> {
        self.session.seat.one_more()
    }

    /// What holds its bytes to the rates that it shares with others, if anything does.
    pub(super) fn throttles(&self) -> Option<Box<[Throttle; 2]>> {
        self.session.seat.throttles()
    }

    /// The name of its listener.
    pub(super) fn name(&self) -> &str {
        self.session.route.name()
    }

    /// Whose account a request goes to.
    pub(super) fn account(&self, record: &Record) -> String {
        let user = record.journey.as_deref().map(|journey| &*journey.user);
        match user.filter(|user| !user.is_empty()) {
            Some(user) => format!("user {user}"),
            None => nameless(self.session.from),
        }
    }

    /// For how long nothing may move in a tunnel of its.
    pub(super) fn idle(&self) -> Duration {
        self.session.route.timeouts().idle
    }

    /// The name of its listener, for who keeps it longer.
    pub(super) fn shared_name(&self) -> Arc<str> {
        self.session.route.shared_name()
    }

    /// A request came.
    pub(super) fn asks(&self) {
        self.asked.fetch_add(1, Relaxed);
    }

    /// Whether the connection takes no more requests.
    pub(super) fn is_last(&self) -> bool {
        self.asked.load(Relaxed) >= self.limits().requests || is_draining() || !self.is_current()
    }

    /// The client, as whoever looks at what passes is told.
    pub(super) fn peer(&self) -> Option<SocketAddr> {
        self.session.from.map(|ip| SocketAddr::new(ip, 0))
    }

    /// The other end of the connection; empty if that has no address.
    pub(super) fn from(&self) -> &str {
        &self.from
    }

    /// What origins are told of it.
    pub(super) fn told(&self) -> Told<'_> {
        let forwarding = &self.site.forwarding;
        let told = Told::new(forwarding, self.session.from, &self.from, self.scheme());
        match &self.site.forward {
            Some(forward) => told.through(forward.plan.headers, forward.pseudonym()),
            None => told.hiding_credentials(self.is_asked()),
        }
    }

    /// How clients are told on whose behalf we are, where they are.
    pub(super) fn via(&self) -> Option<&str> {
        let forward = self.site.forward.as_ref()?;
        let is_told = forward.plan.headers == Headers::Tell;
        is_told.then(|| forward.via())
    }

    /// For whom requests are read here.
    pub(super) fn role(&self) -> Role {
        match self.site.forward {
            Some(_) => Role::Forward,
            None => Role::Reverse,
        }
    }

    /// Whether each request has to show who makes it.
    pub(super) fn is_asked(&self) -> bool {
        self.session.to_judge.is_some()
    }

    /// Who makes a request, if it shows that this is somebody who may come in (RFC 7617).
    ///
    /// Cancel safety: nothing is lost.
    pub(super) async fn shows_who(
        &self,
        credentials: Option<Credentials>,
    ) -> Result<Option<Box<str>>, ()> {
        let access = self.session.route.access();
        let (Some(source), Some(users)) = (self.session.to_judge, access.users()) else {
            return Ok(None);
        };
        // Who shows nothing has not guessed.
        let Some(Credentials { user, password }) = credentials else {
            return Err(());
        };
        let welcome = || Ok(Some(String::from_utf8_lossy(&user).into()));
        let named = || String::from_utf8_lossy(&user).into_owned();
        let admitted = access.admit_named(source, &user).await;
        let is_known = || users.remembers(&user, &password);
        let refusal = if admitted.is_ok() && is_known() {
            return welcome();
        } else if let Some(attempt) = access::attempt(source, &user, is_known).await {
            // It takes as long for those whom no rule is for.
            let refusal = match (admitted, users.fits(&user, &password).await) {
                (Ok(Admission::Ask(_)), Fit::Wrong) => Some(Refusal::Password(named())),
                (Ok(Admission::Ask(_)), Fit::NotLookedAt) => None,
                (Ok(_), _) => return welcome(),
                (Err(refusal), _) => Some(refusal),
            };
            match refusal {
                Some(refusal) => {
                    tokio::time::sleep_until(attempt.failed().into()).await;
                    refusal
                }
                None => Refusal::Guesses(named()),
            }
        } else {
            Refusal::Guesses(named())
        };
        notice::denied(self.name(), self.from(), &refusal);
        Err(())
    }

    /// Whether its connection is of TLS.
    pub(super) fn is_sealed(&self) -> bool {
        self.is_sealed
    }

    pub(super) fn scheme(&self) -> &'static str {
        if self.is_sealed { "https" } else { "http" }
    }

    pub(super) fn limits(&self) -> &HttpLimits {
        &self.site.limits
    }

    /// What people are shown in place of our own words.
    pub(super) fn error_page(&self) -> Option<&str> {
        self.site.error_page.as_deref()
    }

    pub(super) fn half(&self) -> Half {
        match self.session.route.half_close() {
            HalfClose::Leaves => Half::Gone,
            HalfClose::Waits => Half::Listens,
        }
    }

    /// The client of a request.
    pub(super) fn source(&self, head: &RequestHead, text: &[u8]) -> Option<IpAddr> {
        self.told().client(head, text).or(self.session.from)
    }

    /// Whether it may ask for something now, which it has not done by a request of HTTP.
    ///
    /// # Errors
    /// How long it has to wait.
    pub(super) fn may_ask(&self) -> Result<(), Duration> {
        match (&self.site.rates, self.session.from) {
            (Some(rates), Some(from)) => rates.admit(clock::since_start(clock::now()), from),
            _ => Ok(()),
        }
    }

    pub(super) fn counts_down(&self, bytes: usize) {
        self.session.counters.carried_to_client(bytes);
    }

    pub(super) fn ended(&self, end: End) {
        self.session.counters.ended(end);
    }

    pub(super) fn counts_up(&self, bytes: usize) {
        self.session.counters.carried_to_origin(bytes);
    }

    /// What counts it among the clients of its listener: until that is dropped.
    pub(super) fn take_counts(&mut self) -> Counts {
        self.session.seat.take_counts()
    }

    /// What is carried on as it is: it needs nothing more of HTTP.
    pub(super) fn into_session(mut self) -> Session {
        if let Some(plain) = self.session.route.plain() {
            self.session.route = plain;
        }
        self.session
    }
}

//! One request and its answer.

use std::future::poll_fn;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::{Duration, Instant};

use ipreconnect::core::address::EndpointId;
use ipreconnect::core::budget::Permit;
use ipreconnect::core::http::{
    Body, Key, Known, Method, Outcome, Replay, RequestHead, Version, replay,
};
use ipreconnect::{Error, Link, clock};

use super::answer::{self, Away, Fate, Form, Trouble};
use super::body::Reader;
use super::cache::{self, Entry, How, Keeping, Voiding};
use super::guest::Guest;
use super::h2::{self, Mux, Refusal, Word};
use super::line::Upstream;
use super::pool::Room;
use super::record::{End, Record, When, Who};
use super::render::{self, Coding, Onward};
use super::side::Side;
use super::site::{Choice, Route};
use super::through::{self, Ways};
use super::trial::{Loss, Trial};
use super::tunnel::Tunnel;
use super::way::Way;
use super::window::Window;
use super::writing::Writing;
use super::{Behind, Fallback, buffer, mirror, pool};

/// Sendings of one request of which nothing was processed: an origin that takes connections and lets go
/// of them at once is no good.
const FREE: u32 = 20;

pub(super) type Dial<'d> = Pin<Box<dyn Future<Output = Result<Upstream, DialError>> + Send + 'd>>;

/// How an exchange ended.
pub(super) enum Ended {
    /// The client is to be read from again.
    Onward,
    /// The connection is to be closed.
    Close,
    /// It goes on as something else than HTTP.
    Tunnel(Box<Tunnel>),
}

/// What a wait ended with.
pub(super) enum Event {
    Answered(Which, Begun),
    Lost(Which, Loss),
    /// The endpoint is in doubt, and another one is not.
    Doubt,
    Dialled(Result<Upstream, DialError>),
    /// The client has gone.
    Gone,
    /// Its body cannot be read.
    Broken,
    /// Its body is too long.
    TooMuch,
    /// Its user has had the bytes of the day.
    UsedUp,
    /// The client says nothing more of its body.
    Slow,
    Late,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    First,
    Second,
}

/// What sending came to.
enum Sending<'b> {
    /// The answer is to come.
    Sent(Trial<'b>),
    /// The connection was lost at once.
    Lost(Trial<'b>, Loss),
    /// The origin had closed the connection before.
    Stale,
}

/// An answer that began.
pub(super) enum Begun {
    Answer {
        reader: Reader,
        writing: Writing,
        onward: Onward,
        /// The connection to the origin can be used again.
        is_reusable: bool,
        sound: Result<(), ()>,
    },
    /// The client gets what is stored.
    Stored {
        entry: Arc<Entry>,
        how: How,
        is_reusable: bool,
    },
    /// The origin goes on with another protocol; what it has said in it.
    Switched(Vec<u8>),
    /// The proxy behind this one does not know us.
    Unwelcome,
    /// What it says is no answer to what it was asked.
    Nonsense,
}

/// One request.
pub(super) struct Exchange<'e, S> {
    pub(super) client: &'e mut S,
    pub(super) guest: &'e Guest,
    pub(super) head: &'e RequestHead,
    pub(super) route: &'e Route,
    pub(super) behind: &'e Behind,
    pub(super) record: &'e mut Record,
    /// The body, as far as it has come.
    pub(super) window: Window,
    pub(super) reader: Reader,
    /// The client does not take what it was sent.
    pub(super) is_stalled: bool,
    /// Answers that only informed.
    pub(super) informed: u32,
    /// Bytes of their heads.
    pub(super) informed_bytes: usize,
    /// Its endpoint fell silent for good.
    pub(super) is_mute: bool,
    /// What keeps the client to the origin that it was given.
    pub(super) cookie: Option<String>,
    /// What it does for the cache.
    pub(super) keeping: Option<Box<Keeping>>,
    /// What it makes void in caches.
    pub(super) voiding: Option<Box<Voiding>>,
    /// What it is kept to one endpoint by.
    hash: Option<u64>,
    /// The endpoint that it must not leave.
    bound: Option<EndpointId>,
    /// What its time is compared by, where it is.
    pace: Option<u64>,
    /// After how long it is later than is usual, while its timer waits for that.
    pub(super) late: Option<Duration>,
    /// Nothing more of the body is read.
    pub(super) is_deaf: bool,
    /// It was sent before, and nobody knows what became of that.
    was_unknown: bool,
    /// The ways to where the client wants to go.
    pub(super) ways: Option<Box<Ways<'e>>>,
}

impl<'e, S: Side> Exchange<'e, S> {
    pub(super) fn new(
        client: &'e mut S,
        guest: &'e Guest,
        (route, choice): (&'e Route, Choice<'e>),
        head: &'e RequestHead,
        record: &'e mut Record,
    ) -> Self {
        let text = client.text();
        let hash = choice.behind.hash(head, text, guest.source(head, text));
        let pace = choice.behind.pace(head, text);
        Self {
            client,
            guest,
            head,
            route,
            behind: choice.behind,
            cookie: choice.cookie,
            record,
            window: Window::default(),
            reader: Reader::of_request(head.body),
            is_stalled: false,
            informed: 0,
            informed_bytes: 0,
            is_mute: false,
            keeping: None,
            voiding: None,
            hash,
            bound: None,
            pace,
            late: None,
            is_deaf: false,
            was_unknown: false,
            ways: None,
        }
    }

    /// Carries it out.
    pub(super) async fn run(&mut self) -> Ended {
        if let Some(fallback) = self.route.fallback() {
            return self.fall_back(fallback).await;
        }
        if matches!(self.head.body, Body::Length(length) if length > self.guest.limits().body) {
            return self.refuse(Trouble::TooMuch).await;
        }
        if self
            .client
            .take_early(&mut self.reader, &mut self.window)
            .is_err()
        {
            return self.refuse(Trouble::Body).await;
        }
        let ended = self.carry_out().await;
        self.record.bytes_in += self.window.end();
        if let Some(mirror) = &self.route.mirror {
            self.mirror(mirror);
        }
        ended
    }

    /// Sends a copy of the request, if all of it is here.
    fn mirror(&mut self, mirror: &Arc<Behind>) {
        let is_whole = self.reader.is_done() && self.window.is_whole();
        if !is_whole || self.head.upgrade.is_some() || !mirror::has_room(mirror) {
            return;
        }
        let mut out = Vec::with_capacity(self.head.length + 256);
        render::request(
            &mut out,
            self.client.text(),
            self.head,
            &mirror.settings().host,
            &self.route.rewrite,
            &self.guest.told(),
            None,
        );
        mirror::send(
            mirror,
            self.head.method,
            out,
            std::mem::take(&mut self.window),
        );
    }

    pub(super) async fn carry_out(&mut self) -> Ended {
        let mut second: Option<Trial<'e>> = None;
        let mut dialling: Option<Dial<'e>> = None;
        let mut first = match self.begin().await {
            Ok(trial) => trial,
            Err(ended) => return ended,
        };
        loop {
            let event =
                poll_fn(|cx| self.poll_wait(cx, &mut first, &mut second, &mut dialling)).await;
            match event {
                Event::Answered(which, begun) => {
                    let trial = match (which, second.take()) {
                        (Which::Second, Some(second)) => {
                            // It would have taken longer still.
                            self.note_pace(&first);
                            second
                        }
                        _ => first,
                    };
                    self.note_pace(&trial);
                    return self.relay(trial, begun).await;
                }
                Event::Lost(Which::Second, loss) => {
                    if let Some(second) = second.take() {
                        second.report(loss);
                    }
                }
                Event::Lost(Which::First, loss) => {
                    first.report(loss);
                    if let Some(trial) = second.take() {
                        first = trial;
                        // What was waited for was the other's answer.
                        self.is_mute = false;
                        self.late = None;
                        let patience = self.patience();
                        self.client.timer().set(clock::now(), patience);
                        continue;
                    }
                    dialling = None;
                    if let Err(trouble) = self.may_repeat(&first, loss) {
                        return self.refuse(trouble).await;
                    }
                    self.record.repeats(loss.word());
                    drop(first);
                    first = match self.begin().await {
                        Ok(trial) => trial,
                        Err(ended) => return ended,
                    };
                }
                Event::Doubt => {
                    if let Some(endpoint) = first.endpoint()
                        && self.permits(clock::now())
                    {
                        dialling = Some(dial_at_once(self.behind, Some(endpoint)));
                    }
                }
                Event::Dialled(dialled) => {
                    dialling = None;
                    if let Ok(upstream) = dialled {
                        self.record.is_tried_elsewhere();
                        if let Sending::Sent(trial) = self.send(upstream) {
                            second = Some(trial);
                        }
                    }
                }
                Event::Gone => {
                    self.record.end = End::by(Who::Client, When::Headers);
                    return Ended::Close;
                }
                Event::Broken => return self.refuse(Trouble::Body).await,
                Event::TooMuch => return self.refuse(Trouble::TooMuch).await,
                Event::UsedUp => return through::refuse_used_up(self).await,
                Event::Slow => return self.refuse(Trouble::Slow).await,
                Event::Late => {
                    if let Some(upstream) = first.upstream() {
                        upstream.loses();
                    }
                    return self.refuse(Trouble::Late).await;
                }
            }
        }
    }

    /// Sends the request over some connection; waits for one while the origin is away.
    async fn begin(&mut self) -> Result<Trial<'e>, Ended> {
        loop {
            let now = clock::now();
            let idle = match self.bound {
                None => pool::take(self.behind, self.hash, now),
                Some(endpoint) => pool::again(self.behind, endpoint, now),
            };
            let upstream = match idle {
                Some(upstream) => upstream,
                // What is needed to find one is given back, and not kept by a connection that rests.
                None => Box::pin(self.find()).await?,
            };
            if self
                .bound
                .is_some_and(|bound| bound != upstream.line().endpoint())
            {
                // Nobody there would know that it is the same request.
                return Err(self.refuse(Trouble::Lost(Fate::Unknown)).await);
            }
            let is_fresh = upstream.served() == 0;
            self.record.sent += 1;
            match self.send(upstream) {
                Sending::Sent(trial) => return Ok(trial),
                Sending::Stale if is_fresh && self.record.sent >= FREE => {
                    return Err(self.refuse(Trouble::Lost(Fate::NotProcessed)).await);
                }
                Sending::Stale if is_fresh => {}
                // Nothing was sent, and nothing is counted.
                Sending::Stale => self.record.sent -= 1,
                Sending::Lost(trial, loss) => {
                    trial.report(loss);
                    if let Err(trouble) = self.may_repeat(&trial, loss) {
                        return Err(self.refuse(trouble).await);
                    }
                    self.record.repeats(loss.word());
                }
            }
        }
    }

    /// A fresh connection, or the next one that is free where there may be no more.
    async fn find(&mut self) -> Result<Upstream, Ended> {
        let began = clock::now();
        let mut queued = None;
        let mut held = None;
        loop {
            let room = pool::room(self.behind, self.hash, queued.is_some());
            let place = match room {
                Room::Free => return self.dial().await,
                Room::Given(opening) => {
                    drop((queued, held));
                    let dialled = self.dial().await;
                    drop(opening);
                    return dialled;
                }
                Room::Left(upstream) => {
                    self.record.waited(began.elapsed());
                    return Ok(upstream);
                }
                Room::Crowded => return Err(self.refuse(Trouble::Nobody(Away::Full)).await),
                Room::Full(place) => place,
            };
            if held.is_none() {
                held = pool::hold(self.behind, self.window.end());
                if held.is_none() {
                    return Err(self.refuse(Trouble::Nobody(Away::Full)).await);
                }
            }
            let patience = self.behind.origin().settings().hold.patience;
            let rest = patience.saturating_sub(began.elapsed());
            self.client.timer().set(clock::now(), rest);
            let half = self.guest.half();
            let client = &mut *self.client;
            let event = {
                let mut freed = std::pin::pin!(place.room());
                poll_fn(|cx| {
                    if freed.as_mut().poll(cx).is_ready() {
                        return Poll::Ready(None);
                    }
                    if client.poll_gone(cx, half).is_ready() {
                        return Poll::Ready(Some(Event::Gone));
                    }
                    client.timer().poll(cx).map(|()| Some(Event::Late))
                })
                .await
            };
            match event {
                Some(Event::Gone) => {
                    self.record.end = End::by(Who::Client, When::Queue);
                    return Err(Ended::Close);
                }
                Some(_) => return Err(self.refuse(Trouble::Nobody(Away::Full)).await),
                None => queued = Some(place),
            }
        }
    }

    /// A fresh connection, or the answer that there is none.
    async fn dial(&mut self) -> Result<Upstream, Ended> {
        let began = clock::now();
        let is_away = self.is_away();
        let has_stale = self.keeping.as_ref().map(|keeping| keeping.last_resort());
        // Of those that are made on the fly nobody says whether they are down.
        let has_stale = has_stale.flatten().filter(|_| !self.is_through());
        let mut down = has_stale.map(|_| Box::pin(down(self.behind)));
        // Whoever dials may come to wait.
        let Some(held) = pool::hold(self.behind, self.window.end()) else {
            return Err(self.refuse(Trouble::Nobody(Away::Full)).await);
        };
        let mut found = None;
        let source = self.guest.peer().map(|peer| peer.ip());
        let mut dial = match self.is_through() {
            true => dial_through(self.behind, source, &mut found),
            false => dial(self.behind, self.hash),
        };
        let half = self.guest.half();
        let client = &mut *self.client;
        let dialled = poll_fn(|cx| {
            if let Poll::Ready(dialled) = dial.as_mut().poll(cx) {
                return Poll::Ready(Some(dialled));
            }
            if let Some(down) = &mut down
                && down.as_mut().poll(cx).is_ready()
            {
                return Poll::Ready(Some(Err(DialError::Down)));
            }
            client.poll_gone(cx, half).map(|()| None)
        })
        .await;
        drop((dial, held));
        if found.is_some() {
            self.record.journey().found = found;
        }
        let took = began.elapsed();
        if is_away {
            self.record.waited(took);
        }
        self.record.connected = Some(self.record.connected.unwrap_or_default() + took);
        match dialled {
            Some(Ok(upstream)) => Ok(upstream),
            Some(Err(error)) => {
                let listener = self.guest.name();
                let trouble = match error {
                    DialError::Away(error) if self.is_through() => {
                        through::note_scarcity(&error);
                        if !through::is_decided(&error) && self.turns() {
                            return Box::pin(self.find()).await;
                        }
                        return Err(through::refuse_away(self, &error).await);
                    }
                    DialError::Away(error) => {
                        let cause = error.failure().map(tracing::field::display);
                        tracing::debug!(listener, %error, cause, "request not served");
                        Trouble::of(&error)
                    }
                    DialError::Down => Trouble::Nobody(answer::Away::Down),
                    DialError::Unusable(refusal) => {
                        tracing::debug!(listener, %refusal, "request not served");
                        Trouble::Another
                    }
                };
                Err(self.refuse(trouble).await)
            }
            None => {
                self.record.end = End::by(Who::Client, When::Connect);
                Err(Ended::Close)
            }
        }
    }

    /// Sends the request over this connection.
    fn send(&mut self, upstream: Upstream) -> Sending<'e> {
        let now = clock::now();
        let needs_evidence = !self.head.method.is_idempotent();
        let Some(mut trial) = Trial::new(self.behind, upstream, now, needs_evidence) else {
            return Sending::Stale;
        };
        let settings = self.behind.settings();
        let told = self.guest.told().tracing(self.record.trail.as_deref());
        let told = match self.ways.as_deref().and_then(Ways::asked) {
            Some((authority, authorization)) => told.beyond(authority, authorization),
            None => told,
        };
        let mut out = buffer::bytes();
        render::request(
            &mut out,
            self.client.text(),
            self.head,
            &settings.host,
            &self.route.rewrite,
            &told,
            self.keeping
                .as_ref()
                .and_then(|keeping| keeping.conditions()),
        );
        self.record.goes_to(trial.shown());
        self.is_mute = false;
        if let Some(upstream) = trial.upstream()
            && let Way::Call(call) = &mut upstream.way
        {
            call.takes_trailers = h2::takes_trailers(self.head, self.client.text());
        }
        let sent = trial.send(&out, &self.window);
        buffer::give_bytes(out);
        let patience = self.patience();
        self.late = self.late_after(&trial).filter(|late| *late < patience);
        let first = self.late.unwrap_or(patience);
        self.client.timer().set(now, first);
        match sent {
            Ok(()) => Sending::Sent(trial),
            Err(loss) => Sending::Lost(trial, loss),
        }
    }

    /// Whether a request whose connection was lost may be sent once more.
    fn may_repeat(&mut self, trial: &Trial<'_>, loss: Loss) -> Result<(), Trouble> {
        let outcome = trial.outcome();
        let fate = match outcome {
            Outcome::NotProcessed => Fate::NotProcessed,
            Outcome::Unknown => Fate::Unknown,
        };
        self.was_unknown |= fate == Fate::Unknown;
        let trouble = match loss {
            Loss::Unsayable => return Err(Trouble::TooLong),
            Loss::Nonsense(_) | Loss::TooLong => return Err(Trouble::Nonsense),
            Loss::Reset | Loss::Closed | Loss::Condemned | Loss::Mute => Trouble::Lost(fate),
        };
        let key = if self.behind.settings().trusts_keys && self.has_key() {
            Key::Counts
        } else {
            Key::None
        };
        let may = match replay(self.head.method, outcome, key) {
            // It was not processed, but it was work all the same for an origin that has too much of it.
            Replay::Free if trial.word() != Word::Refused => self.record.sent < FREE,
            Replay::Free | Replay::Anywhere => {
                self.record.sent < self.behind.settings().attempts && self.permits(clock::now())
            }
            Replay::SameEndpoint => {
                self.bound = trial.endpoint();
                self.record.sent < self.behind.settings().attempts && self.permits(clock::now())
            }
            Replay::Never => false,
        };
        if may && self.window.is_whole() {
            Ok(())
        } else {
            Err(trouble)
        }
    }

    /// Whether the client says that the origin recognises a repetition.
    fn has_key(&self) -> bool {
        let mut fields = self.head.fields.iter();
        fields.any(|field| field.known == Known::IdempotencyKey)
    }

    /// After how long the answer of a trial is late; `None` if that is of no consequence.
    fn late_after(&self, trial: &Trial<'_>) -> Option<Duration> {
        let (key, endpoint) = (self.pace?, trial.endpoint()?);
        // What is still being said is nobody's delay but the client's.
        let is_said = self.reader.is_done() && self.window.is_whole();
        if !is_said {
            return None;
        }
        pool::late_after(self.behind, endpoint, key)
    }

    /// How long the endpoint of a trial took, or would have taken at least.
    fn note_pace(&self, trial: &Trial<'_>) {
        if let (Some(key), Some(endpoint)) = (self.pace, trial.endpoint()) {
            let took = clock::now().saturating_duration_since(trial.began());
            pool::paced(self.behind, endpoint, key, took);
        }
    }

    /// Goes by the next way; false if there is none.
    pub(super) fn turns(&mut self) -> bool {
        let Some(route) = self.ways.as_mut().and_then(|ways| ways.turn()) else {
            return false;
        };
        let Some(choice) = route.choose(self.head, self.client.text()) else {
            return false;
        };
        (self.route, self.behind) = (route, choice.behind);
        self.note_way();
        true
    }

    /// Whether the client has said where it wants to go.
    pub(super) fn is_through(&self) -> bool {
        self.guest.site().forward.is_some()
    }

    /// Whether the origin cannot be reached at the moment, as far as is known.
    pub(super) fn is_away(&self) -> bool {
        // Nobody watches over those that are made on the fly.
        if self.is_through() {
            return false;
        }
        let origin = self.behind.origin();
        origin.look(|snapshot| !snapshot.view().is_usable())
    }

    fn permits(&self, now: Instant) -> bool {
        pool::withdraw(self.behind, now) == Permit::Granted
    }

    pub(super) fn onward(&self, coding: Coding) -> Onward {
        onward(
            self.guest,
            self.head,
            self.reader.is_done() && coding != Coding::UntilClose,
        )
    }

    /// Answers in place of the origin.
    pub(super) async fn refuse(&mut self, trouble: Trouble) -> Ended {
        if trouble.is_of_origin()
            && let Some(keeping) = self.keeping.take()
            && let Some(entry) = keeping.last_resort()
        {
            return Box::pin(cache::answer(self, entry, How::Silent)).await;
        }
        // Whatever it failed by in the end: it may have been carried out before.
        let trouble = match trouble {
            Trouble::Nobody(_) | Trouble::Lost(_)
                if self.was_unknown && !self.head.method.is_safe() =>
            {
                Trouble::Lost(Fate::Unknown)
            }
            trouble => trouble,
        };
        self.record.status = trouble.status();
        self.record.end = trouble.end();
        let onward = self.onward(Coding::AsItIs);
        let is_head = self.head.method == Method::Head;
        let form = Form::of(self.client.text(), self.guest.error_page());
        let mut out = buffer::bytes();
        trouble.render(&mut out, onward, is_head, form);
        deliver(self.client, self.guest, out, onward).await
    }

    /// Answers as the route says, while something that it needs is down.
    async fn fall_back(&mut self, fallback: Option<&Fallback>) -> Ended {
        let Some(fallback) = fallback else {
            return self.refuse(Trouble::Missing).await;
        };
        self.record.status = fallback.status;
        self.record.end = End::by(Who::Local, When::Request);
        let onward = self.onward(Coding::AsItIs);
        let mut out = buffer::bytes();
        answer::fallback(&mut out, fallback, onward, self.head.method == Method::Head);
        deliver(self.client, self.guest, out, onward).await
    }
}

/// Whether the client's connection goes on after an answer of our own, which comes before anything else is read. What
/// stands behind a request for a tunnel was meant for its other end, and nobody here takes it for a request.
pub(super) fn onward_unread<S: Side>(client: &S, guest: &Guest, head: &RequestHead) -> Onward {
    let is_for_another = head.method == Method::Connect && client.says_more(head);
    onward(guest, head, head.body == Body::None && !is_for_another)
}

/// Whether the client's connection goes on after an answer, where nothing of the request is left to be
/// read.
pub(super) fn onward(guest: &Guest, head: &RequestHead, is_clean: bool) -> Onward {
    match (
        head.is_persistent && is_clean && !guest.is_last(),
        head.version,
    ) {
        (false, _) => Onward::Closed,
        (true, Version::Http10) => Onward::KeptAloud,
        (true, Version::Http11) => Onward::Kept,
    }
}

/// Sends a whole answer of our own.
pub(super) async fn deliver<S: Side>(
    client: &mut S,
    guest: &Guest,
    out: Vec<u8>,
    onward: Onward,
) -> Ended {
    let sent = client.deliver(&out);
    buffer::give_bytes(out);
    if sent.is_err() {
        return Ended::Close;
    }
    match (flush(client, guest.limits().stall).await, onward) {
        (true, Onward::Kept | Onward::KeptAloud) => Ended::Onward,
        _ => Ended::Close,
    }
}

/// Has the client take what was written; false if it does not.
pub(super) async fn flush<S: Side>(client: &mut S, patience: Duration) -> bool {
    let mut is_waiting = false;
    poll_fn(|cx| {
        loop {
            if let Poll::Ready(flushed) = client.poll_flush(cx) {
                return Poll::Ready(flushed.is_ok());
            }
            if is_waiting {
                ready!(client.timer().poll(cx));
                if !client.is_throttled() {
                    return Poll::Ready(false);
                }
            }
            // What was waited for before is over; or it is we who do not write.
            client.timer().set(clock::now(), patience);
            is_waiting = true;
        }
    })
    .await
}

/// Why there is no connection.
#[derive(Debug)]
pub(super) enum DialError {
    /// The origin is away.
    Away(Error),
    /// The origin is away, and there is something else to answer with.
    Down,
    /// What answers does not speak HTTP/2.
    Unusable(Refusal),
}

/// Waits until the origin is away.
async fn down(behind: &Behind) {
    let mut changes = behind.origin().changes();
    while behind.origin().look(|snapshot| snapshot.view().is_usable()) {
        if changes.next().await.is_none() {
            return;
        }
    }
}

fn dial(behind: &Behind, hash: Option<u64>) -> Dial<'_> {
    if behind.settings().is_h2 {
        return Box::pin(dial_shared(behind, hash));
    }
    let origin = behind.origin();
    let connecting = origin.connect_by(behind.chooser(), hash);
    Box::pin(async move {
        let link = connecting.await.map_err(DialError::Away)?;
        Ok(Upstream::new(origin, link))
    })
}

/// The same of an origin that is made on the fly; `found` is how long it took to look it up, if it had to be.
fn dial_through<'d>(
    behind: &'d Behind,
    source: Option<IpAddr>,
    found: &'d mut Option<Duration>,
) -> Dial<'d> {
    let origin = behind.origin();
    Box::pin(async move {
        *found = origin.find(source).await.map_err(DialError::Away)?;
        let connecting = origin.connect_by(behind.chooser(), None);
        let link = connecting.await.map_err(DialError::Away)?;
        Ok(Upstream::new(origin, link))
    })
}

/// For what does not wait: a second try, at another endpoint than this one, or a copy.
pub(super) fn dial_at_once(behind: &Behind, avoided: Option<EndpointId>) -> Dial<'_> {
    Box::pin(async move {
        let now = clock::now();
        let idle = match avoided {
            Some(avoided) => pool::elsewhere(behind, avoided, now),
            None => pool::join(behind, None, now),
        };
        if let Some(upstream) = idle {
            return Ok(upstream);
        }
        let origin = behind.origin();
        let link = origin.connect_at_once(avoided).await;
        let link = link.map_err(DialError::Away)?;
        if !behind.settings().is_h2 {
            return Ok(Upstream::new(origin, link));
        }
        open_shared(behind, link).await
    })
}

async fn open_shared(behind: &Behind, link: Link) -> Result<Upstream, DialError> {
    let allowed = pool::allowed(behind, link.endpoint());
    let mux = Mux::open(link, allowed).await;
    let mux = mux.map_err(DialError::Unusable)?;
    Ok(pool::admit(behind, mux))
}

/// A part of a connection that may be there already, or be dialled for somebody else.
async fn dial_shared(behind: &Behind, hash: Option<u64>) -> Result<Upstream, DialError> {
    let origin = behind.origin();
    loop {
        let came = pool::came(behind);
        let mut came = std::pin::pin!(came.notified());
        came.as_mut().enable();
        if let Some(upstream) = pool::join(behind, hash, clock::now()) {
            return Ok(upstream);
        }
        // While the origin is away everybody waits for it in the order of coming.
        let is_usable = origin.look(|snapshot| snapshot.view().is_usable());
        if is_usable && pool::is_dialling(behind) {
            came.await;
            continue;
        }
        let _dialling = pool::Dialling::begin(behind);
        let link = tokio::select! {
            biased;
            link = origin.connect_by(behind.chooser(), hash) => link.map_err(DialError::Away)?,
            () = came => continue,
        };
        return open_shared(behind, link).await;
    }
}

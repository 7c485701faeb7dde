//! One request and its answer.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use ipreconnect::core::balance::Standing;
use ipreconnect::core::budget::Permit;
use ipreconnect::core::http::{
    Body, Key, Method, Outcome, Replay, RequestHead, ResponseHead, Version, replay,
};
use ipreconnect::{Error, Link, clock};

use super::answer::{self, Fate, Trouble};
use super::body::{LAST_CHUNK, Reader, chunk};
use super::client::{self, Client, Guest};
use super::line::{Upstream, Word};
use super::record::{End, Record, When, Who};
use super::render::{self, Back, Coding, Onward, Told};
use super::site::Route;
use super::trial::{Loss, Trial};
use super::tunnel::Tunnel;
use super::window::Window;
use super::wire::Wire;
use super::{AskedHost, Behind, Fallback, Hedge, buffer, pool};

/// Reads of an answer in one turn, before others have theirs.
const BUDGET: u32 = 16;

/// To copy so little costs less than to send two parts.
const SMALL: usize = 4 * 1024;
/// Sendings of one request of which nothing was processed: an origin that takes connections and lets go
/// of them at once is no good.
const FREE: u32 = 20;

type Dial<'d> = Pin<Box<dyn Future<Output = Result<Link, Error>> + Send + 'd>>;

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
enum Event {
    Answered(Which, Begun),
    Lost(Which, Loss),
    /// The endpoint is in doubt, and another one is not.
    Doubt,
    Dialled(Result<Link, Error>),
    /// The client has gone.
    Gone,
    /// Its body cannot be read.
    Broken,
    /// Its body is too long.
    TooMuch,
    /// The client says nothing more of its body.
    Slow,
    Late,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Which {
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
enum Begun {
    Answer {
        reader: Reader,
        coding: Coding,
        onward: Onward,
        /// The connection to the origin can be used again.
        is_reusable: bool,
        sound: Result<(), ()>,
    },
    /// The origin goes on with another protocol; what it has said in it.
    Switched(Vec<u8>),
}

/// One request.
pub(super) struct Exchange<'e> {
    client: &'e mut Client,
    guest: &'e Guest,
    head: &'e RequestHead,
    route: &'e Route,
    behind: &'e Behind,
    record: &'e mut Record,
    /// The body, as far as it has come.
    window: Window,
    reader: Reader,
    /// The client does not take what it was sent.
    is_stalled: bool,
}

impl<'e> Exchange<'e> {
    pub(super) fn new(
        client: &'e mut Client,
        guest: &'e Guest,
        route: &'e Route,
        head: &'e RequestHead,
        record: &'e mut Record,
    ) -> Self {
        Self {
            client,
            guest,
            head,
            route,
            behind: &route.behind,
            record,
            window: Window::default(),
            reader: Reader::of_request(head.body),
            is_stalled: false,
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
        if self.take_early().is_err() {
            return self.refuse(Trouble::Body).await;
        }
        let ended = self.carry_out().await;
        self.record.bytes_in += self.window.end();
        ended
    }

    async fn carry_out(&mut self) -> Ended {
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
                        (Which::Second, Some(second)) => second,
                        _ => first,
                    };
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
                        continue;
                    }
                    dialling = None;
                    if let Err(trouble) = self.may_repeat(&first, loss) {
                        return self.refuse(trouble).await;
                    }
                    drop(first);
                    first = match self.begin().await {
                        Ok(trial) => trial,
                        Err(ended) => return ended,
                    };
                }
                Event::Doubt => {
                    if self.permits(clock::now()) {
                        dialling = Some(dial(self.behind, self.guest));
                    }
                }
                Event::Dialled(dialled) => {
                    dialling = None;
                    if let Ok(link) = dialled {
                        let upstream = Upstream::new(self.behind.origin(), link);
                        self.record.sent += 1;
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
                Event::Slow => return self.refuse(Trouble::Slow).await,
                Event::Late => return self.refuse(Trouble::Late).await,
            }
        }
    }

    /// What came of the body together with the head.
    fn take_early(&mut self) -> Result<(), ()> {
        let early = self.client.input.get(self.client.at..).unwrap_or_default();
        if self.reader.is_done() || early.is_empty() {
            return Ok(());
        }
        let used = self.reader.read(early, |_| {}).map_err(|_| ())?;
        self.window.push(early.get(..used).unwrap_or_default());
        self.client.at += used;
        Ok(())
    }

    /// Sends the request over some connection; waits for one while the origin is away.
    async fn begin(&mut self) -> Result<Trial<'e>, Ended> {
        loop {
            let now = clock::now();
            let upstream = match pool::take(self.behind, self.guest.hash(), now) {
                Some(upstream) => upstream,
                None => self.dial().await?,
            };
            self.record.sent += 1;
            match self.send(upstream) {
                Sending::Sent(trial) => return Ok(trial),
                // Nothing was sent, and nothing is counted.
                Sending::Stale => self.record.sent -= 1,
                Sending::Lost(trial, loss) => {
                    trial.report(loss);
                    if let Err(trouble) = self.may_repeat(&trial, loss) {
                        return Err(self.refuse(trouble).await);
                    }
                }
            }
        }
    }

    /// A fresh connection, or the answer that there is none.
    async fn dial(&mut self) -> Result<Upstream, Ended> {
        let began = clock::now();
        let is_away = self
            .behind
            .origin()
            .look(|snapshot| !snapshot.view().is_usable());
        let mut dial = dial(self.behind, self.guest);
        let half = self.guest.half();
        let wire = &self.client.wire;
        let dialled = poll_fn(|cx| {
            if let Poll::Ready(dialled) = dial.as_mut().poll(cx) {
                return Poll::Ready(Some(dialled));
            }
            wire.poll_gone(cx, half).map(|()| None)
        })
        .await;
        drop(dial);
        let took = began.elapsed();
        if is_away {
            self.record.held += took;
        }
        self.record.connected = Some(self.record.connected.unwrap_or_default() + took);
        match dialled {
            Some(Ok(link)) => Ok(Upstream::new(self.behind.origin(), link)),
            Some(Err(error)) => {
                let cause = error.failure().map(tracing::field::display);
                tracing::debug!(listener = self.guest.name(), %error, cause, "request not served");
                Err(self.refuse(Trouble::of(&error)).await)
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
        let told = Told {
            from: self.guest.from(),
            scheme: self.guest.scheme(),
        };
        let mut out = buffer::bytes();
        render::request(
            &mut out,
            &self.client.input,
            self.head,
            &settings.host,
            &self.route.rewrite,
            &told,
        );
        self.record.endpoint = trial.shown();
        let sent = trial.send(&out, &self.window);
        buffer::give_bytes(out);
        self.client.timer.set(now, self.patience());
        match sent {
            Ok(()) => Sending::Sent(trial),
            Err(loss) => Sending::Lost(trial, loss),
        }
    }

    /// Whether a request whose connection was lost may be sent once more.
    fn may_repeat(&self, trial: &Trial<'_>, loss: Loss) -> Result<(), Trouble> {
        let outcome = trial.outcome();
        let fate = match outcome {
            Outcome::NotProcessed => Fate::NotProcessed,
            Outcome::Unknown => Fate::Unknown,
        };
        let trouble = match loss {
            Loss::Nonsense(_) | Loss::TooLong => return Err(Trouble::Nonsense),
            Loss::Reset | Loss::Closed | Loss::Condemned => Trouble::Lost(fate),
        };
        let may = match replay(self.head.method, outcome, Key::None) {
            Replay::Free => self.record.sent < FREE,
            Replay::Anywhere => {
                self.record.sent < self.behind.settings().attempts && self.permits(clock::now())
            }
            Replay::SameEndpoint | Replay::Never => false,
        };
        if may && self.window.is_whole() {
            Ok(())
        } else {
            Err(trouble)
        }
    }

    fn permits(&self, now: Instant) -> bool {
        pool::withdraw(self.behind, now) == Permit::Granted
    }

    fn poll_wait(
        &mut self,
        cx: &mut Context<'_>,
        first: &mut Trial<'e>,
        second: &mut Option<Trial<'e>>,
        dialling: &mut Option<Dial<'e>>,
    ) -> Poll<Event> {
        if let Poll::Ready(event) = self.poll_body(cx, first, second.as_mut()) {
            return Poll::Ready(event);
        }
        let trials = [
            (Which::First, Some(&mut *first)),
            (Which::Second, second.as_mut()),
        ];
        for (which, trial) in trials {
            let Some(trial) = trial else {
                continue;
            };
            match trial.poll_hear(cx, |head, text| self.hear(head, text)) {
                Poll::Ready(Ok(begun)) => return Poll::Ready(Event::Answered(which, begun)),
                Poll::Ready(Err(loss)) => return Poll::Ready(Event::Lost(which, loss)),
                Poll::Pending => {}
            }
        }
        if let Some(dial) = dialling
            && let Poll::Ready(dialled) = dial.as_mut().poll(cx)
        {
            return Poll::Ready(Event::Dialled(dialled));
        }
        let alone = second.is_none() && dialling.is_none();
        if let Poll::Ready(event) = self.poll_word(cx, first, alone) {
            return Poll::Ready(event);
        }
        if self.reader.is_done() && self.client.wire.poll_gone(cx, self.guest.half()).is_ready() {
            return Poll::Ready(Event::Gone);
        }
        match self.client.timer.poll(cx) {
            Poll::Ready(()) if !self.reader.is_done() => Poll::Ready(Event::Slow),
            Poll::Ready(()) => Poll::Ready(Event::Late),
            Poll::Pending => Poll::Pending,
        }
    }

    /// What the watch says of the first trial's connection; whether it is to be doubted.
    fn poll_word(&self, cx: &mut Context<'_>, first: &mut Trial<'_>, alone: bool) -> Poll<Event> {
        let Some(upstream) = first.upstream() else {
            return Poll::Pending;
        };
        while let Poll::Ready(word) = upstream.line().poll_word(cx) {
            match word {
                Word::Condemned => {
                    return Poll::Ready(Event::Lost(Which::First, Loss::Condemned));
                }
                Word::News => {
                    let may = self.behind.settings().hedge != Hedge::Off
                        && self.head.method.is_idempotent()
                        && self.window.is_whole()
                        && self.reader.is_done();
                    if alone && may && self.has_better(upstream) {
                        return Poll::Ready(Event::Doubt);
                    }
                }
            }
        }
        Poll::Pending
    }

    /// Whether the endpoint of a connection is in doubt and another one is not.
    fn has_better(&self, upstream: &Upstream) -> bool {
        let own = upstream.line().endpoint();
        self.behind.origin().look(|snapshot| {
            let mut endpoints = snapshot.view().endpoints.iter();
            let is_good = |standing| standing == Standing::Good;
            let own_is_good = endpoints
                .clone()
                .any(|one| one.id == own && is_good(one.standing));
            !own_is_good && endpoints.any(|one| one.id != own && is_good(one.standing))
        })
    }

    /// Carries the body on: to every trial, as it comes.
    fn poll_body(
        &mut self,
        cx: &mut Context<'_>,
        first: &mut Trial<'e>,
        mut second: Option<&mut Trial<'e>>,
    ) -> Poll<Event> {
        loop {
            let mut slowest = u64::MAX;
            let mut waits = false;
            let trials = [
                (Which::First, Some(&mut *first)),
                (Which::Second, second.as_deref_mut()),
            ];
            for (which, trial) in trials {
                let Some(trial) = trial else {
                    continue;
                };
                match trial.poll_send(cx, &self.window, clock::now) {
                    Poll::Ready(Ok(())) => {}
                    // It may have been answered before it was all sent.
                    Poll::Ready(Err(loss)) => {
                        return match trial.poll_hear(cx, |head, text| self.hear(head, text)) {
                            Poll::Ready(Ok(begun)) => Poll::Ready(Event::Answered(which, begun)),
                            _ => Poll::Ready(Event::Lost(which, loss)),
                        };
                    }
                    Poll::Pending => waits = true,
                }
                slowest = slowest.min(trial.position());
            }
            if self.reader.is_done() {
                return Poll::Pending;
            }
            self.window.sent(slowest);
            if waits && !self.window.has_room() {
                return Poll::Pending;
            }
            match self
                .client
                .poll_more(cx, &mut self.reader, &mut self.window)
            {
                Poll::Ready(Ok(true)) => {
                    if self.window.end() > self.guest.limits().body {
                        return Poll::Ready(Event::TooMuch);
                    }
                    let patience = self.patience();
                    self.client.timer.set(clock::now(), patience);
                }
                Poll::Ready(Ok(false)) => return Poll::Ready(Event::Gone),
                Poll::Ready(Err(())) => return Poll::Ready(Event::Broken),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// How long whoever has the next word may take: the client, of its body, or the origin.
    fn patience(&self) -> Duration {
        if self.reader.is_done() {
            self.behind.settings().first_byte
        } else {
            self.guest.limits().stall
        }
    }

    /// Takes a head of the origin, with all that has come behind it.
    fn hear(&mut self, head: &ResponseHead, text: &[u8]) -> Option<Begun> {
        let rest = text.get(head.length..).unwrap_or_default();
        if head.is_informational() {
            self.inform(head, text);
            return None;
        }
        let mut out = buffer::bytes();
        if head.status == 101 && self.head.upgrade.is_some() {
            render::interim(&mut out, text, head);
            let _ = self.client.wire.write(&out);
            buffer::give_bytes(out);
            return Some(Begun::Switched(rest.to_vec()));
        }
        let body = head.body(self.head.method);
        let mut reader = Reader::of_response(body);
        let coding = render::coding(body, self.head.version);
        let onward = self.onward(coding);
        let rules = &self.route.rewrite.response;
        let asked = match &self.behind.settings().host {
            AskedHost::Fixed(host) => host.as_bytes(),
            AskedHost::Client => b"",
        };
        let host = self.head.host.span();
        let back = Back {
            origin: [asked, self.record.endpoint.as_bytes()],
            scheme: self.guest.scheme(),
            host: host.map_or(&b""[..], |host| host.of(&self.client.input)),
        };
        let client = (self.head.version, onward);
        render::response(&mut out, text, head, body, rules, &back, client);
        self.record.status = head.status;
        let begins = out.len();
        let (mut used, mut sound) = (0, Ok(()));
        if !reader.is_done() {
            let read = reader.read(rest, |data| {
                code(data, coding, &mut out);
            });
            match read {
                Ok(count) => used = count,
                Err(_) => sound = Err(()),
            }
            if coding == Coding::AsItIs {
                out.truncate(begins);
            }
        }
        let as_it_is = match coding {
            Coding::AsItIs => rest.get(..used).unwrap_or_default(),
            Coding::Chunks | Coding::UntilClose => &[],
        };
        self.record.bytes_out += (out.len() - begins + as_it_is.len()) as u64;
        self.guest.counts_down(out.len() + as_it_is.len());
        // What is wrong with the client is found when more is sent, or asked for.
        let _ = if as_it_is.len() <= SMALL {
            out.extend_from_slice(as_it_is);
            self.client.wire.write(&out)
        } else {
            self.client.wire.write_both(&out, as_it_is)
        };
        buffer::give_bytes(out);
        Some(Begun::Answer {
            is_reusable: head.is_persistent && used == rest.len() && head.status != 101,
            reader,
            coding,
            onward,
            sound,
        })
    }

    fn inform(&mut self, head: &ResponseHead, text: &[u8]) {
        let is_wanted = head.status != 100 || self.head.expects_continue;
        if self.head.version == Version::Http11 && is_wanted {
            let mut out = buffer::bytes();
            render::interim(&mut out, text, head);
            let _ = self.client.wire.write(&out);
            buffer::give_bytes(out);
        }
    }

    fn onward(&self, coding: Coding) -> Onward {
        onward(
            self.head,
            self.reader.is_done() && coding != Coding::UntilClose,
        )
    }

    /// Carries the answer to the client.
    async fn relay(&mut self, mut trial: Trial<'e>, begun: Begun) -> Ended {
        let now = clock::now();
        self.record.endpoint = trial.shown();
        self.record.first_byte = Some(now.saturating_duration_since(self.record.began));
        if let Some(upstream) = trial.upstream() {
            upstream.answers(now);
        }
        let (mut reader, coding, onward, is_reusable, sound) = match begun {
            Begun::Answer {
                reader,
                coding,
                onward,
                is_reusable,
                sound,
            } => (reader, coding, onward, is_reusable, sound),
            Begun::Switched(rest) => return self.switch(trial, rest),
        };
        if sound.is_err() {
            self.record.end = End::by(Who::Proxy, When::Data);
            self.client.wire.abort();
            return Ended::Close;
        }
        if !reader.is_done() || self.client.wire.is_blocked() || !self.reader.is_done() {
            let carried = poll_fn(|cx| self.poll_down(cx, &mut trial, &mut reader, coding)).await;
            if let Err(end) = carried {
                self.record.end = end;
                // Nobody may take a part of it for the whole.
                self.client.wire.abort();
                return Ended::Close;
            }
        }
        if is_reusable && self.reader.is_done() && trial.has_sent(&self.window) {
            self.keep(&mut trial);
        }
        match onward {
            Onward::Closed => Ended::Close,
            Onward::Kept | Onward::KeptAloud => Ended::Onward,
        }
    }

    /// Keeps the connection to the origin for the next request.
    fn keep(&self, trial: &mut Trial<'_>) {
        let keeps_for = trial.head().and_then(|head| head.keeps_for);
        let Some(mut upstream) = trial.take() else {
            return;
        };
        pool::end(self.behind, upstream.line().endpoint());
        if upstream.input.is_empty() && !upstream.wire.is_blocked() {
            upstream.rest(clock::now(), keeps_for);
            pool::give(self.behind, upstream);
        }
    }

    fn switch(&mut self, mut trial: Trial<'e>, rest: Vec<u8>) -> Ended {
        let Some(mut upstream) = trial.take() else {
            return Ended::Close;
        };
        pool::end(self.behind, upstream.line().endpoint());
        upstream.input = rest;
        Ended::Tunnel(Box::new(Tunnel { upstream }))
    }

    fn poll_down(
        &mut self,
        cx: &mut Context<'_>,
        trial: &mut Trial<'e>,
        reader: &mut Reader,
        coding: Coding,
    ) -> Poll<Result<(), End>> {
        let by = |who| End::by(who, When::Data);
        for _ in 0..BUDGET {
            if !self.reader.is_done() || !trial.has_sent(&self.window) {
                // An origin that has answered may still read on, or not.
                let _ = self.poll_body(cx, trial, None);
            }
            if self.client.wire.is_blocked() {
                if !std::mem::replace(&mut self.is_stalled, true) {
                    let patience = self.guest.limits().stall;
                    self.client.timer.set(clock::now(), patience);
                }
                match self.client.wire.poll_flush(cx) {
                    Poll::Ready(Ok(())) => self.is_stalled = false,
                    Poll::Ready(Err(_)) => return Poll::Ready(Err(by(Who::Client))),
                    Poll::Pending => {
                        return self
                            .client
                            .timer
                            .poll(cx)
                            .map(|()| Err(by(Who::ClientLate)));
                    }
                }
            }
            if reader.is_done() {
                return Poll::Ready(Ok(()));
            }
            let Some(upstream) = trial.upstream() else {
                return Poll::Ready(Err(by(Who::Proxy)));
            };
            let client = &mut self.client.wire;
            let (guest, record) = (self.guest, &mut *self.record);
            let taken = upstream.wire.poll_take(cx, |bytes| {
                if bytes.is_empty() {
                    return end(reader, coding, client);
                }
                guest.counts_down(bytes.len());
                record.bytes_out += bytes.len() as u64;
                carry(bytes, reader, coding, client)
            });
            match taken {
                Poll::Ready(Ok(Ok(excess))) => {
                    upstream.input.extend_from_slice(&excess);
                    let patience = self.behind.settings().idle;
                    self.client.timer.set(clock::now(), patience);
                }
                Poll::Ready(Ok(Err(who))) => return Poll::Ready(Err(by(who))),
                Poll::Ready(Err(_)) => {
                    trial.report(Loss::Reset);
                    return Poll::Ready(Err(by(Who::Server)));
                }
                Poll::Pending => {
                    let half = self.guest.half();
                    if self.reader.is_done() && self.client.wire.poll_gone(cx, half).is_ready() {
                        return Poll::Ready(Err(by(Who::Client)));
                    }
                    return self
                        .client
                        .timer
                        .poll(cx)
                        .map(|()| Err(by(Who::ServerLate)));
                }
            }
        }
        crate::turn::later(cx);
        Poll::Pending
    }

    /// Answers in place of the origin.
    async fn refuse(&mut self, trouble: Trouble) -> Ended {
        self.record.status = trouble.status();
        self.record.end = trouble.end();
        let onward = self.onward(Coding::AsItIs);
        let page = self.guest.error_page();
        let method = self.head.method;
        self.client.answer(trouble, page, onward, method).await
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
        self.client.deliver(out, onward).await
    }
}

/// Whether the client's connection goes on after an answer, where nothing of the request is left to be
/// read.
pub(super) fn onward(head: &RequestHead, is_clean: bool) -> Onward {
    match (
        head.is_persistent && is_clean && !client::is_draining(),
        head.version,
    ) {
        (false, _) => Onward::Closed,
        (true, Version::Http10) => Onward::KeptAloud,
        (true, Version::Http11) => Onward::Kept,
    }
}

fn dial<'d>(behind: &'d Behind, guest: &Guest) -> Dial<'d> {
    let (origin, hash) = (behind.origin(), guest.hash());
    Box::pin(origin.connect_by(behind.chooser(), hash))
}

/// Writes data of a body as the client reads it.
fn code(data: &[u8], coding: Coding, out: &mut Vec<u8>) {
    match coding {
        Coding::Chunks => chunk(data, out),
        Coding::AsItIs | Coding::UntilClose => out.extend_from_slice(data),
    }
}

/// Carries a part of an answer to the client; returns what does not belong to it.
fn carry(
    bytes: &[u8],
    reader: &mut Reader,
    coding: Coding,
    client: &mut Wire,
) -> Result<Vec<u8>, Who> {
    let used = match coding {
        Coding::AsItIs => {
            let used = reader.read(bytes, |_| {}).map_err(|_| Who::Proxy)?;
            let part = bytes.get(..used).unwrap_or_default();
            client.write(part).map_err(|_| Who::Client)?;
            used
        }
        Coding::Chunks | Coding::UntilClose => {
            let mut out = buffer::bytes();
            let read = reader.read(bytes, |data| code(data, coding, &mut out));
            let sent = client.write(&out);
            buffer::give_bytes(out);
            sent.map_err(|_| Who::Client)?;
            read.map_err(|_| Who::Proxy)?
        }
    };
    Ok(bytes.get(used..).unwrap_or_default().to_vec())
}

/// The origin has closed the connection: that ends the answer, or cuts it off.
fn end(reader: &mut Reader, coding: Coding, client: &mut Wire) -> Result<Vec<u8>, Who> {
    if !matches!(reader, Reader::UntilClose) {
        return Err(Who::Server);
    }
    *reader = Reader::Done;
    if coding == Coding::Chunks {
        client.write(LAST_CHUNK).map_err(|_| Who::Client)?;
    }
    Ok(Vec::new())
}

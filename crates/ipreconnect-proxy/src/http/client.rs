//! A client that speaks HTTP/1: one request after the other.

use std::future::{Future, poll_fn};
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use ipreconnect::clock;
use ipreconnect::core::http::{
    Method, Parsed, RequestHead, ResponseBody, ResponseHead, Role, path_of,
};
use ipreconnect::socket::Socket;
use ipreconnect::tls::Session as Tls;

use super::answer::{self, Form, Trouble};
use super::body::{LAST_CHUNK, Reader};
use super::exchange::{self, Ended, Exchange};
use super::guest::{Credentials, Guest, Place, is_draining};
use super::record::{self, Record, Subject};
use super::redirected;
use super::render::{self, Coding, Onward};
use super::side::{Lead, Side};
use super::site::{Choice, Page, Route};
use super::socks;
use super::through;
use super::timer::Timer;
use super::trail;
use super::window::Window;
use super::wire::{Half, Wire};
use super::{HEAD, HttpLimits, Site, buffer, cache, h2};
use crate::forward::Forward;
use crate::l4::{End, Session};
use crate::notice;
use crate::number;
use crate::tap::{self, Towards, What};

/// What a client begins with that speaks HTTP/2 (RFC 9113, section 3.4).
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// To copy so little costs less than to send two parts.
const SMALL: usize = 4 * 1024;
/// Bytes of a request that is refused which are read, so that the answer is not lost to a reset.
const LINGER: usize = 256 * 1024;

/// One connection of a client.
pub(super) struct Client {
    pub(super) wire: Wire,
    /// The head of the request, and what has come behind it.
    pub(super) input: Vec<u8>,
    /// How much of it is done with.
    pub(super) at: usize,
    pub(super) timer: Timer,
}

/// What waiting for a request came to.
enum Next {
    Request,
    /// There is none, and there will be none.
    None,
    Refused(Trouble),
}

/// Serves a client for as long as it has requests. What it takes is made before, so that a connection that rests does
/// not keep what it was made of.
pub(crate) fn serve(
    session: Session,
    site: Arc<Site>,
    socket: Socket,
    tls: Option<Box<Tls>>,
) -> impl Future<Output = ()> + Send {
    let idle = site.limits.idle;
    let throttles = session.seat.throttles();
    let mut guest = Guest::new(session, site, tls.is_some());
    let is_h2 = tls.as_ref().is_some_and(|tls| tls.alpn() == Some(b"h2"));
    let mut client = Client {
        wire: Wire::new(Arc::new(socket), tls).throttled(throttles),
        input: Vec::new(),
        at: 0,
        timer: Timer::new(clock::now(), idle),
    };
    // What a block captures it keeps once; what a function is given it keeps twice.
    async move {
        let mut place = Place::take();
        if guest.expects_redirected()
            && let Some(to) = redirected::original(&client)
        {
            match Box::pin(redirected::serve(client, guest, place, to)).await {
                Some(back) => (client, guest, place) = back,
                None => return,
            }
        }
        if is_h2 || client.begins_h2(guest.limits(), &place).await {
            // A connection of HTTP/2 needs far more room than one of HTTP/1.
            Box::pin(h2::serve(client, guest, place)).await;
            return;
        }
        if guest.role() == Role::Forward && client.begins_socks(guest.limits(), &place).await {
            Box::pin(socks::serve(client, guest, place)).await;
            return;
        }
        loop {
            let mut head = buffer::request();
            let read_by = (guest.limits(), guest.role());
            let next = client.next(&mut head, read_by, &place).await;
            let ended = match next {
                Next::Request if !client.has_its_turn(&place, guest.half()).await => None,
                Next::Request => {
                    guest.renew();
                    guest.counts_up(head.length);
                    Some(serve_one(&mut client, &guest, &head, "HTTP/1.1").await)
                }
                Next::Refused(trouble) => {
                    notice::refused(guest.name(), guest.from(), &trouble.words());
                    record_refusal(&guest, trouble, "HTTP/1.1");
                    let (onward, mut out) = (Onward::Closed, buffer::bytes());
                    trouble.render(
                        &mut out,
                        onward,
                        false,
                        Form::for_people(guest.error_page()),
                    );
                    Some(exchange::deliver(&mut client, &guest, out, onward).await)
                }
                Next::None => None,
            };
            buffer::give_request(head);
            match ended {
                Some(Ended::Onward) => client.rest(guest.limits()),
                Some(Ended::Tunnel(tunnel)) => {
                    guest.ended(End::ByClient);
                    tunnel.carry(client, guest);
                    return;
                }
                Some(Ended::Close) => {
                    client.linger().await;
                    break;
                }
                None => break,
            }
        }
        buffer::give_bytes(std::mem::take(&mut client.input));
        guest.ended(End::ByClient);
    }
}

/// Carries out one request.
pub(super) async fn serve_one<S: Side>(
    client: &mut S,
    guest: &Guest,
    head: &RequestHead,
    protocol: &'static str,
) -> Ended {
    let began = clock::now();
    let mut record = Record::new(began, protocol);
    if tap::is_on() {
        let text = text_of(client, head);
        tap::tell(
            guest.name(),
            guest.peer(),
            What::Head(Towards::Origin, text),
        );
    }
    record.bytes_in = head.length as u64;
    record.trail = trail::begin(head, client.text());
    guest.asks();
    let own = through::page(client, guest, head, protocol);
    let may = limited(client, guest, head).and_then(|()| shielded(client, guest, head));
    let chosen = match (may, own) {
        (Ok(()), Some(page)) => Ok(Chosen::Page(page)),
        // What that takes is given back, and not kept by a connection that rests.
        (Ok(()), None) if guest.is_asked() => {
            match Box::pin(shows_who(client, guest, head)).await {
                Some(Ok(user)) => {
                    if let Some(user) = user {
                        record.journey().user = user;
                    }
                    choose(client, guest, head).map_err(Some)
                }
                Some(Err(())) => Err(Some(Trouble::unnamed(guest.role()))),
                None => Err(None),
            }
        }
        (Ok(()), None) => choose(client, guest, head).map_err(Some),
        (Err(trouble), _) => Err(Some(trouble)),
    };
    let (ended, origin) = match chosen {
        Ok(Chosen::Page(page)) => {
            record.status = 200;
            record.end = record::End::by(record::Who::Local, record::When::Request);
            record.bytes_out = page.body.len() as u64;
            let onward = exchange::onward_unread(client, guest, head);
            let mut out = buffer::bytes();
            answer::page(&mut out, &page, onward, head.method == Method::Head);
            (exchange::deliver(client, guest, out, onward).await, "")
        }
        Ok(Chosen::Through(forward)) => {
            return Box::pin(through::serve(client, guest, forward, head, record)).await;
        }
        Ok(Chosen::Behind(route, choice)) => {
            let origin = choice.behind.origin();
            let tally = choice.tally;
            let mut exchange = Exchange::new(client, guest, (route, choice), head, &mut record);
            let ended = if guest.site().has_caches {
                Box::pin(cache::serve(&mut exchange)).await
            } else {
                exchange.run().await
            };
            if let Some(tally) = tally {
                tally.count(&record);
            }
            let desk = origin.stats().desk(number::get());
            desk.count(&record.outcome());
            (ended, origin.name())
        }
        // It has gone before it was known whether it may come in.
        Err(None) => {
            record.end = record::End::by(record::Who::Client, record::When::Request);
            (Ended::Close, "")
        }
        Err(Some(trouble)) => {
            record.status = trouble.status();
            record.end = trouble.end();
            let onward = exchange::onward_unread(client, guest, head);
            let mut out = buffer::bytes();
            let is_head = head.method == Method::Head;
            let form = Form::of(client.text(), guest.error_page());
            trouble.render(&mut out, onward, is_head, form);
            (exchange::deliver(client, guest, out, onward).await, "")
        }
    };
    tell(client, guest, head, origin, record);
    ended
}

/// The head of a request, as it came.
fn text_of<'c, S: Side>(client: &'c S, head: &RequestHead) -> &'c [u8] {
    client.text().get(..head.length).unwrap_or_default()
}

/// Tells of a request that is over whoever wants to hear of it.
pub(super) fn tell<S: Side>(
    client: &S,
    guest: &Guest,
    head: &RequestHead,
    origin: &str,
    mut record: Record,
) {
    let address = guest.told().client(head, client.text());
    let address = address.map(|address| address.to_string());
    let subject = Subject {
        scheme: guest.scheme(),
        listener: guest.name(),
        origin,
        from: address.as_deref().unwrap_or(guest.from()),
        head,
        text: client.text(),
    };
    let now = clock::now();
    record::write(now, &record, &subject);
    record.leaves_trail(now, &subject);
    if tap::is_on() {
        let what = What::Answered {
            request: text_of(client, head),
            status: record.status,
            bytes: record.bytes_out,
            after: now.saturating_duration_since(record.began),
            sent: record.sent,
            end: std::str::from_utf8(&record.end.0).unwrap_or_default(),
        };
        tap::tell(guest.name(), guest.peer(), what);
    }
}

/// Whether the client may make one more request now.
fn limited<S: Side>(client: &S, guest: &Guest, head: &RequestHead) -> Result<(), Trouble> {
    if let Some(rates) = &guest.site().rates
        && let Some(source) = guest.source(head, client.text())
        && let Err(wait) = rates.admit(clock::since_start(clock::now()), source)
    {
        return Err(Trouble::TooOften(wait));
    }
    Ok(())
}

/// Whether a request is none that a browser has been made to send by a page of somebody else's.
fn shielded<S: Side>(client: &S, guest: &Guest, head: &RequestHead) -> Result<(), Trouble> {
    // No browser comes by a Unix socket.
    let shield = guest
        .site()
        .shield
        .as_ref()
        .filter(|_| guest.peer().is_some());
    let Some(shield) = shield else {
        return Ok(());
    };
    let judged = shield.judge(head, client.text(), guest.is_sealed());
    judged.map_err(|foreign| {
        let why = format!("A request was refused: {foreign}.");
        notice::refused(guest.name(), guest.from(), &why);
        Trouble::Foreign(foreign)
    })
}

/// Who makes a request, if that is somebody who may come in; `None` if the client has gone meanwhile.
async fn shows_who<S: Side>(
    client: &mut S,
    guest: &Guest,
    head: &RequestHead,
) -> Option<Result<Option<Box<str>>, ()>> {
    let credentials = Credentials::of(head, client.text(), guest.role());
    let half = guest.half();
    tokio::select! {
        biased;
        shown = guest.shows_who(credentials) => Some(shown),
        () = poll_fn(|cx| client.poll_gone(cx, half)) => None,
    }
}

/// What answers a request.
enum Chosen<'g> {
    /// An origin.
    Behind(&'g Route, Choice<'g>),
    /// We do.
    Page(Page),
    /// Whoever the client has named.
    Through(&'g Forward),
}

/// Where a request goes, if it may go anywhere.
fn choose<'g, S: Side>(
    client: &S,
    guest: &'g Guest,
    head: &RequestHead,
) -> Result<Chosen<'g>, Trouble> {
    let (site, text) = (guest.site(), client.text());
    if let Some(forward) = &site.forward {
        return Ok(Chosen::Through(forward));
    }
    if let Some(pages) = &site.pages {
        if !matches!(head.method, Method::Get | Method::Head) {
            return Err(Trouble::NotAsked);
        }
        let page = pages.page(path_of(head.target.of(text)));
        return page.map(Chosen::Page).ok_or(Trouble::NoRoute);
    }
    let route = site.route(head, text).ok_or(Trouble::NoRoute)?;
    let choice = route.choose(head, text).ok_or(Trouble::NoRoute)?;
    Ok(Chosen::Behind(route, choice))
}

/// Writes the line of a request that could not be read.
pub(super) fn record_refusal(guest: &Guest, trouble: Trouble, protocol: &'static str) {
    let now = clock::now();
    let mut record = Record::new(now, protocol);
    record.status = trouble.status();
    record.end = trouble.end();
    let subject = Subject {
        scheme: guest.scheme(),
        listener: guest.name(),
        origin: "",
        from: guest.from(),
        head: &RequestHead::default(),
        text: b"",
    };
    record::write(now, &record, &subject);
}

impl Client {
    /// The exchange is over; what the client has said beyond it stays.
    fn rest(&mut self, limits: &HttpLimits) {
        if self.at >= self.input.len() {
            buffer::give_bytes(std::mem::take(&mut self.input));
        } else {
            self.input.drain(..self.at);
        }
        self.at = 0;
        self.timer.set(clock::now(), limits.idle);
    }

    /// Whether the client speaks HTTP/2 without having asked (RFC 9113, section 3.3): it begins with words
    /// that are no request of HTTP/1.
    async fn begins_h2(&mut self, limits: &HttpLimits, place: &Place) -> bool {
        loop {
            let known = self.input.len().min(PREFACE.len());
            if self.input.get(..known) != PREFACE.get(..known) {
                return false;
            }
            if known == PREFACE.len() {
                return true;
            }
            let is_first = self.input.is_empty();
            match poll_fn(|cx| self.poll_head(cx, place)).await {
                More::Came if is_first => self.timer.set(clock::now(), limits.head),
                More::Came => {}
                // Whoever reads next comes to the same.
                More::Ended | More::Late => return false,
            }
        }
    }

    /// Whether the client speaks SOCKS.
    async fn begins_socks(&mut self, limits: &HttpLimits, place: &Place) -> bool {
        while self.input.is_empty() {
            match poll_fn(|cx| self.poll_head(cx, place)).await {
                More::Came => self.timer.set(clock::now(), limits.head),
                // Whoever reads next comes to the same.
                More::Ended | More::Late => return false,
            }
        }
        socks::begins(&self.input)
    }

    /// Waits until it may be answered, by the rates that it shares with others; false if it has gone.
    async fn has_its_turn(&mut self, place: &Place, half: Half) -> bool {
        if !self.wire.is_throttled() && !self.wire.is_unread() {
            return true;
        }
        poll_fn(|cx| {
            place.waker.register(cx.waker());
            if is_draining() {
                return Poll::Ready(true);
            }
            if self.wire.poll_gone(cx, half).is_ready() {
                return Poll::Ready(false);
            }
            self.wire.poll_paid(cx).map(|()| true)
        })
        .await
    }

    /// Waits for the head of a request.
    async fn next(
        &mut self,
        head: &mut RequestHead,
        (limits, role): (&HttpLimits, Role),
        place: &Place,
    ) -> Next {
        if !self.input.is_empty() {
            self.timer.set(clock::now(), limits.head);
        }
        loop {
            if !self.input.is_empty() {
                let skipped = self.skip_empty_lines();
                let input = self.input.get(skipped..).unwrap_or_default();
                match head.parse_for(role, input) {
                    Ok(Parsed::Whole) if head.length > HEAD => {
                        return Next::Refused(Trouble::TooLong);
                    }
                    Ok(Parsed::Whole) => {
                        if skipped > 0 {
                            self.input.drain(..skipped);
                        }
                        self.at = head.length;
                        return Next::Request;
                    }
                    Ok(Parsed::Partial) if self.input.len() > HEAD => {
                        return Next::Refused(Trouble::TooLong);
                    }
                    Ok(Parsed::Partial) => {}
                    Err(error) => return Next::Refused(Trouble::Request(error)),
                }
            }
            let is_first = self.input.is_empty();
            let more = poll_fn(|cx| self.poll_head(cx, place)).await;
            match more {
                More::Came if is_first => self.timer.set(clock::now(), limits.head),
                More::Came => {}
                More::Ended => return Next::None,
                More::Late if is_first => return Next::None,
                More::Late => return Next::Refused(Trouble::Slow),
            }
        }
    }

    /// Empty lines before a request are none of it (RFC 9112, section 2.2).
    fn skip_empty_lines(&self) -> usize {
        let mut rest = self.input.as_slice();
        while let Some(more) = rest.strip_prefix(b"\r\n") {
            rest = more;
        }
        self.input.len() - rest.len()
    }

    pub(super) fn poll_head(&mut self, cx: &mut Context<'_>, place: &Place) -> Poll<More> {
        if self.wire.is_blocked() && self.wire.poll_flush(cx).is_pending() {
            return self.timer.poll(cx).map(|()| More::Ended);
        }
        let input = &mut self.input;
        // A head is short, and what it asks for waits its turn.
        let taken = self.wire.poll_take_at_once(cx, |bytes| {
            if input.capacity() == 0 && !bytes.is_empty() {
                *input = buffer::bytes();
            }
            input.extend_from_slice(bytes);
            bytes.len()
        });
        match taken {
            Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(More::Ended),
            Poll::Ready(Ok(_)) => return Poll::Ready(More::Came),
            Poll::Pending => {}
        }
        if self.input.is_empty() {
            place.waker.register(cx.waker());
            if is_draining() {
                return Poll::Ready(More::Ended);
            }
        }
        self.timer.poll(cx).map(|()| More::Late)
    }

    /// Says that nothing more comes, and reads for a moment what the client still sends: closing the
    /// connection before would reset it, and what was said last would be lost with it.
    pub(super) async fn linger(&mut self) {
        const PATIENCE: Duration = Duration::from_secs(2);
        self.timer.set(clock::now(), PATIENCE);
        let mut is_told = false;
        let mut read = 0;
        poll_fn(|cx| {
            if !is_told {
                match self.wire.poll_finish(cx) {
                    Poll::Ready(Ok(())) => is_told = true,
                    Poll::Ready(Err(_)) => return Poll::Ready(()),
                    Poll::Pending => return self.timer.poll(cx),
                }
            }
            while read < LINGER {
                match self.wire.poll_take(cx, <[u8]>::len) {
                    Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(()),
                    Poll::Ready(Ok(count)) => read += count,
                    Poll::Pending => return self.timer.poll(cx),
                }
            }
            Poll::Ready(())
        })
        .await;
    }
}

impl Side for Client {
    fn text(&self) -> &[u8] {
        &self.input
    }

    fn says_more(&self, head: &RequestHead) -> bool {
        self.input.len() > head.length
    }

    fn timer(&mut self) -> &mut Timer {
        &mut self.timer
    }

    fn take_early(&mut self, reader: &mut Reader, window: &mut Window) -> Result<(), ()> {
        let early = self.input.get(self.at..).unwrap_or_default();
        if reader.is_done() || early.is_empty() {
            return Ok(());
        }
        let used = reader.read(early, |_| {}).map_err(|_| ())?;
        window.push(early.get(..used).unwrap_or_default());
        self.at += used;
        Ok(())
    }

    fn poll_more(
        &mut self,
        cx: &mut Context<'_>,
        reader: &mut Reader,
        window: &mut Window,
    ) -> Poll<Result<bool, ()>> {
        let input = &mut self.input;
        let taken = self.wire.poll_take(cx, |bytes| {
            if bytes.is_empty() {
                return Ok(false);
            }
            let used = reader.read(bytes, |_| {}).map_err(|_| ())?;
            window.push(bytes.get(..used).unwrap_or_default());
            input.extend_from_slice(bytes.get(used..).unwrap_or_default());
            Ok(true)
        });
        match taken {
            Poll::Ready(Ok(taken)) => Poll::Ready(taken),
            Poll::Ready(Err(_)) => Poll::Ready(Ok(false)),
            Poll::Pending => Poll::Pending,
        }
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>, half: Half) -> Poll<()> {
        self.wire.poll_gone(cx, half)
    }

    fn coding(&self, body: ResponseBody, asked: &RequestHead) -> Coding {
        render::coding(body, asked.version)
    }

    fn inform(&mut self, head: &ResponseHead, text: &[u8]) {
        let mut out = buffer::bytes();
        render::interim(&mut out, text, head);
        // What is wrong with the client is found when more is sent, or asked for.
        let _ = self.wire.write(&out);
        buffer::give_bytes(out);
    }

    fn respond(&mut self, lead: &Lead<'_>, body: &[u8]) -> usize {
        let mut out = buffer::bytes();
        render::response(&mut out, lead, &self.input);
        let sent = out.len() + body.len();
        // What is wrong with the client is found when more is sent, or asked for.
        let _ = if body.len() <= SMALL {
            out.extend_from_slice(body);
            self.wire.write(&out)
        } else {
            self.wire.write_both(&out, body)
        };
        buffer::give_bytes(out);
        sent
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.wire.write(bytes)
    }

    fn finish(&mut self, coding: Coding, trailers: &[u8]) -> io::Result<()> {
        match coding {
            Coding::Chunks if trailers.is_empty() => self.wire.write(LAST_CHUNK),
            Coding::Chunks => {
                let last = [b"0\r\n", trailers, b"\r\n"].concat();
                self.wire.write(&last)
            }
            // What ends it has passed, or is the end of the connection.
            Coding::AsItIs | Coding::UntilClose | Coding::Frames => Ok(()),
        }
    }

    fn deliver(&mut self, answer: &[u8]) -> io::Result<()> {
        self.wire.write(answer)
    }

    fn is_blocked(&self) -> bool {
        self.wire.is_blocked()
    }

    fn waiting(&self) -> usize {
        self.wire.waiting()
    }

    fn is_unread(&self) -> bool {
        self.wire.is_unread()
    }

    fn is_throttled(&self) -> bool {
        self.wire.is_throttled()
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.wire.poll_flush(cx)
    }

    fn abort(&mut self) {
        self.wire.abort();
    }

    fn wire(&mut self) -> Option<&mut Wire> {
        Some(&mut self.wire)
    }
}

/// What came of a client.
pub(super) enum More {
    Came,
    Ended,
    Late,
}

//! The answer of an origin, on its way to the client.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

use ipreconnect::clock;
use ipreconnect::core::http::cache::Fields;
use ipreconnect::core::http::{ChunkError, ResponseBody, ResponseHead, Version, compress};
use ipreconnect::core::outlier::is_failing;

use super::answer::Trouble;
use super::body::Reader;
use super::cache::{self, Entry, Heard, How, Keeping, Verdict};
use super::exchange::{Begun, Ended, Event, Exchange};
use super::record::{End, Shown, When, Who};
use super::render::Onward;
use super::side::{Lead, Side, Told};
use super::through;
use super::trial::{Loss, Trial};
use super::tunnel::Tunnel;
use super::way::Way;
use super::writing::Writing;
use super::{Behind, buffer, pool};
use crate::tap::{self, Towards, What};
use crate::watch::Said;

/// Answers to one request that only inform; an origin that says more has lost its way.
const INFORMED: u32 = 64;
/// Bytes of their heads that are passed on; what comes after that is left out.
const INFORMED_BYTES: usize = 16 * 1024;
/// Reads of an answer in one turn, before others have theirs.
const BUDGET: u32 = 16;

/// By which names an origin leads to itself, where its clients are not to be led there.
pub(super) fn leads_back<'b>(
    behind: &'b Behind,
    is_through: bool,
    endpoint: &'b Shown,
) -> [&'b [u8]; 2] {
    if is_through {
        return [b""; 2];
    }
    [behind.asked_host(), endpoint.as_bytes()]
}

impl<'e, S: Side> Exchange<'e, S> {
    /// Takes a head of the origin, with all that has come behind it.
    pub(super) fn hear(&mut self, head: &ResponseHead, text: &[u8]) -> Option<Begun> {
        let rest = text.get(head.length..).unwrap_or_default();
        if tap::is_on() {
            let text = text.get(..head.length).unwrap_or_default();
            tap::tell(
                self.guest.name(),
                self.guest.peer(),
                What::Head(Towards::Client, text),
            );
        }
        if head.is_informational() {
            self.informed += 1;
            if self.informed > INFORMED {
                return Some(Begun::Nonsense);
            }
            self.inform(head, text);
            return None;
        }
        let is_asked = self
            .ways
            .as_deref()
            .is_some_and(|ways| ways.asked().is_some());
        if head.status == 407 && is_asked {
            return Some(Begun::Unwelcome);
        }
        let may_switch = self.head.upgrade.is_some() && self.client.wire().is_some();
        if head.status == 101 && !may_switch {
            return Some(Begun::Nonsense);
        }
        if head.status == 101 {
            self.record.status = head.status;
            self.client.inform(head, text);
            return Some(Begun::Switched(rest.to_vec()));
        }
        let body = head.body(self.head.method);
        let is_known = self.keeping.is_some() || self.voiding.is_some();
        let told = match is_known.then(|| self.hear_for_cache(head, text, body)) {
            None => String::new(),
            Some(Ok(told)) => told,
            Some(Err((entry, how))) => {
                self.record.status = head.status;
                return Some(Begun::Stored {
                    entry,
                    how,
                    is_reusable: head.is_persistent
                        && rest.is_empty()
                        && body == ResponseBody::None,
                });
            }
        };
        Some(self.begin_answer((head, text), body, &told))
    }

    /// Begins to pass on an answer, with what has come of its body; `told` is what the cache says of it.
    fn begin_answer(
        &mut self,
        (head, text): (&ResponseHead, &[u8]),
        body: ResponseBody,
        told: &str,
    ) -> Begun {
        let rest = text.get(head.length..).unwrap_or_default();
        let mut reader = match body {
            // Over HTTP/2 trailers may follow whatever its length is, and the end is told by itself.
            ResponseBody::Length(1..) if self.behind.settings().is_h2 => Reader::UntilClose,
            body => Reader::of_response(body),
        };
        let may_compress = self.guest.site().compresses && self.client.is_there();
        let wanted = match body {
            _ if !may_compress => None,
            // It varies if the answer that it stands for does, and does not say what that is.
            ResponseBody::None if head.status == 304 => Some(None),
            ResponseBody::None => None,
            _ => compress((self.head, self.client.text()), (head, text)),
        };
        let (mut writing, body) = Writing::new(body, wanted.flatten(), |body| {
            self.client.coding(body, self.head)
        });
        let onward = self.onward(writing.coding());
        let mut coded = Vec::new();
        let (mut used, mut sound) = (0, Ok(()));
        if !reader.is_done() {
            if !writing.is_as_it_is() && !rest.is_empty() {
                coded = buffer::bytes();
            }
            match read(
                &mut reader,
                rest,
                &mut writing,
                self.keeping.as_deref_mut(),
                &mut coded,
            ) {
                Ok(count) => used = count,
                Err(_) => sound = Err(()),
            }
        } else if let Some(keeping) = &mut self.keeping {
            keeping.finish();
        }
        let part = if writing.is_as_it_is() {
            rest.get(..used).unwrap_or_default()
        } else {
            &coded
        };
        let told = self.told(told);
        let lead = Lead {
            head,
            text,
            body,
            rules: &self.route.rewrite.response,
            origin: leads_back(self.behind, self.is_through(), &self.record.endpoint),
            is_through: self.is_through(),
            scheme: self.guest.scheme(),
            asked: self.head,
            cookie: self.cookie.as_deref(),
            compressed: writing.compressed(),
            varies: wanted.is_some(),
            told: &told,
            onward,
        };
        let sent = self.client.respond(&lead, part);
        self.record.status = head.status;
        self.record.bytes_out += part.len() as u64;
        self.guest.counts_down(sent);
        buffer::give_bytes(coded);
        if sound.is_ok() && reader.is_done() {
            // What is wrong with the client is found when more is sent, or asked for.
            let _ = self.client.finish(writing.coding(), reader.trailers());
        }
        Begun::Answer {
            is_reusable: head.is_persistent && used == rest.len(),
            reader,
            writing,
            onward,
            sound,
        }
    }

    /// What else the client is told: by the cache, if there is anything, and on whose behalf we are.
    pub(super) fn told<'t>(&self, cache: &'t str) -> Told<'t>
    where
        'e: 't,
    {
        let mut told = Told::default();
        if !cache.is_empty() {
            told.add("Cache-Status", cache);
        }
        if let Some(via) = self.guest.via() {
            told.add("Via", via);
        }
        told
    }

    /// Tells the cache of an answer: what the client is told of it, or what it gets in its place.
    fn hear_for_cache(
        &mut self,
        head: &ResponseHead,
        text: &[u8],
        body: ResponseBody,
    ) -> Result<String, (Arc<Entry>, How)> {
        if let Some(voiding) = &self.voiding {
            voiding.hear(self.head.method, head, text);
        }
        let Some(keeping) = &mut self.keeping else {
            return Ok(String::new());
        };
        let verdict = keeping.hear(&Heard {
            request: Fields::new(&self.head.fields, self.client.text()),
            head,
            text,
            body,
            endpoint: self.record.endpoint,
        });
        match verdict {
            Verdict::Pass(told) => {
                self.record.cache = "miss";
                Ok(told)
            }
            Verdict::Confirmed(entry) => Err((entry, How::Confirmed)),
            Verdict::Instead(entry) => Err((entry, How::Error(head.status))),
        }
    }

    fn inform(&mut self, head: &ResponseHead, text: &[u8]) {
        let is_wanted = head.status != 100 || self.head.expects_continue;
        self.informed_bytes += head.length;
        // Nobody needs it, and nobody keeps it for a client that does not take it.
        let has_room = self.informed_bytes <= INFORMED_BYTES && !self.client.is_blocked();
        if self.head.version == Version::Http11 && is_wanted && has_room {
            self.client.inform(head, text);
        }
    }

    /// Carries the answer to the client.
    pub(super) async fn relay(&mut self, mut trial: Trial<'e>, begun: Begun) -> Ended {
        let now = clock::now();
        self.record.goes_to(trial.shown());
        self.record.first_byte = Some(now.saturating_duration_since(self.record.began));
        if let Some(upstream) = trial.upstream() {
            let is_bad = matches!(begun, Begun::Nonsense) || is_failing(self.record.status);
            let said = if is_bad { Said::Badly } else { Said::Well };
            upstream.answers(now, said);
        }
        let (mut reader, mut writing, onward, is_reusable, sound) = match begun {
            Begun::Answer {
                reader,
                writing,
                onward,
                is_reusable,
                sound,
            } => (reader, writing, onward, is_reusable, sound),
            Begun::Stored {
                entry,
                how,
                is_reusable,
            } => {
                if is_reusable && self.reader.is_done() && trial.has_sent(&self.window) {
                    keep(self.behind, &mut trial);
                }
                drop(trial);
                self.keeping = None;
                return Box::pin(cache::answer(self, &entry, how)).await;
            }
            Begun::Switched(rest) => return self.switch(trial, rest),
            Begun::Unwelcome => {
                drop(trial);
                if self.window.is_whole() && self.turns() {
                    return Box::pin(self.carry_out()).await;
                }
                return through::refuse_unwelcome(self).await;
            }
            Begun::Nonsense => return self.refuse(Trouble::Nonsense).await,
        };
        if sound.is_err() {
            self.record.end = End::by(Who::Proxy, When::Data);
            self.client.abort();
            return Ended::Close;
        }
        if !reader.is_done() || self.client.is_blocked() || !self.reader.is_done() {
            let patience = self.behind.settings().idle;
            self.client.timer().set(now, patience);
            let carried =
                poll_fn(|cx| self.poll_down(cx, &mut trial, &mut reader, &mut writing)).await;
            if let Err(end) = carried {
                self.record.end = end;
                // Nobody may take a part of it for the whole.
                self.client.abort();
                return Ended::Close;
            }
        }
        if is_reusable && !self.is_deaf && self.reader.is_done() && trial.has_sent(&self.window) {
            keep(self.behind, &mut trial);
        }
        match onward {
            Onward::Closed => Ended::Close,
            Onward::Kept | Onward::KeptAloud => Ended::Onward,
        }
    }

    fn switch(&mut self, mut trial: Trial<'e>, rest: Vec<u8>) -> Ended {
        let Some(mut upstream) = trial.take() else {
            return Ended::Close;
        };
        pool::end(self.behind, upstream.line().endpoint());
        upstream.input = rest;
        match Tunnel::switched(upstream) {
            Some(tunnel) => Ended::Tunnel(Box::new(tunnel)),
            None => Ended::Close,
        }
    }

    fn poll_down(
        &mut self,
        cx: &mut Context<'_>,
        trial: &mut Trial<'e>,
        reader: &mut Reader,
        writing: &mut Writing,
    ) -> Poll<Result<(), End>> {
        let by = |who| End::by(who, When::Data);
        for _ in 0..BUDGET {
            let mut says_no_more = self.reader.is_done() || self.is_deaf;
            if !self.is_deaf && (!says_no_more || !trial.has_sent(&self.window)) {
                // An origin that has answered may still read on, or not.
                match self.poll_body(cx, trial, None) {
                    Poll::Ready(Event::Gone) => says_no_more = true,
                    // What follows has no meaning any more.
                    Poll::Ready(Event::Broken) => return Poll::Ready(Err(by(Who::Client))),
                    Poll::Ready(Event::TooMuch | Event::UsedUp | Event::Slow) => {
                        self.is_deaf = true;
                        says_no_more = true;
                    }
                    _ => {}
                }
            }
            if self.client.is_blocked() {
                let waits = self.client.waiting();
                let flushed = self.client.poll_flush(cx);
                // A client that takes little at a time takes it all the same.
                let is_taken = self.client.waiting() < waits || self.client.is_throttled();
                if !std::mem::replace(&mut self.is_stalled, true) || is_taken {
                    let patience = self.guest.limits().stall;
                    self.client.timer().set(clock::now(), patience);
                }
                match flushed {
                    Poll::Ready(Ok(())) => {
                        if let Some(keeping) = &self.keeping {
                            keeping.is_blocked(false);
                        }
                        self.is_stalled = false;
                        let patience = self.behind.settings().idle;
                        self.client.timer().set(clock::now(), patience);
                    }
                    Poll::Ready(Err(_)) => return Poll::Ready(Err(by(Who::Client))),
                    Poll::Pending => {
                        if let Some(keeping) = &self.keeping {
                            keeping.is_blocked(true);
                        }
                        return self
                            .client
                            .timer()
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
            let client = &mut *self.client;
            let (guest, record) = (self.guest, &mut *self.record);
            let keeping = self.keeping.as_deref_mut();
            let taken = upstream.way.poll_take(cx, |bytes| {
                if bytes.is_empty() {
                    return Ok(None);
                }
                guest.counts_down(bytes.len());
                record.bytes_out += bytes.len() as u64;
                carry(bytes, reader, writing, (client, keeping)).map(Some)
            });
            match taken {
                Poll::Ready(Ok(Ok(None))) => {
                    let trailers = upstream.way.trailers();
                    if let Err(who) = end(reader, writing, client, trailers) {
                        if who == Who::Server {
                            upstream.loses();
                        }
                        return Poll::Ready(Err(by(who)));
                    }
                    // Where nothing but the end of the connection told of the end, it may as well have been
                    // cut off.
                    match &mut self.keeping {
                        Some(keeping) if matches!(upstream.way, Way::Wire(_)) => keeping.give_up(),
                        Some(keeping) => keeping.finish(),
                        None => {}
                    }
                }
                Poll::Ready(Ok(Ok(Some(excess)))) => {
                    upstream.input.extend_from_slice(&excess);
                    let carried = self.record.bytes_out + self.window.end();
                    let ways = self.ways.as_deref_mut();
                    if ways.is_some_and(|ways| !ways.carries(carried)) && !reader.is_done() {
                        return Poll::Ready(Err(by(Who::Proxy)));
                    }
                    let patience = self.behind.settings().idle;
                    self.client.timer().set(clock::now(), patience);
                }
                Poll::Ready(Ok(Err(who))) => return Poll::Ready(Err(by(who))),
                Poll::Ready(Err(_)) => {
                    trial.report(Loss::Reset);
                    return Poll::Ready(Err(by(Who::Server)));
                }
                Poll::Pending => {
                    let half = self.guest.half();
                    if says_no_more && self.client.poll_gone(cx, half).is_ready() {
                        return Poll::Ready(Err(by(Who::Client)));
                    }
                    return self
                        .client
                        .timer()
                        .poll(cx)
                        .map(|()| Err(by(Who::ServerLate)));
                }
            }
        }
        crate::turn::later(cx);
        Poll::Pending
    }
}

/// Keeps the connection to the origin for the next request.
pub(super) fn keep(behind: &Behind, trial: &mut Trial<'_>) {
    let keeps_for = trial.head().and_then(|head| head.keeps_for);
    let Some(upstream) = trial.take() else {
        return;
    };
    pool::end(behind, upstream.line().endpoint());
    let Some(mut upstream) = upstream.leave() else {
        return;
    };
    if upstream.input.is_empty() && !upstream.way.is_blocked() {
        upstream.rest(clock::now(), keeps_for);
        pool::give(behind, upstream);
    }
}

/// Reads what has come of a body: for the cache, and for the client where it is not written as it is.
/// Returns how much of it belongs to the body.
fn read(
    reader: &mut Reader,
    bytes: &[u8],
    writing: &mut Writing,
    mut keeping: Option<&mut Keeping>,
    out: &mut Vec<u8>,
) -> Result<usize, ChunkError> {
    let is_as_it_is = writing.is_as_it_is();
    let read = reader.read(bytes, |data| {
        if let Some(keeping) = &mut keeping {
            keeping.take(data);
        }
        if !is_as_it_is {
            writing.push(data, out);
        }
    });
    writing.settle(reader.is_done(), out);
    // Whoever hears of the answer and asks again finds it.
    if let (Ok(_), true, Some(keeping)) = (&read, reader.is_done(), keeping) {
        keeping.finish();
    }
    read
}

/// Carries a part of an answer to the client; returns what does not belong to it.
fn carry<S: Side>(
    bytes: &[u8],
    reader: &mut Reader,
    writing: &mut Writing,
    (client, keeping): (&mut S, Option<&mut Keeping>),
) -> Result<Vec<u8>, Who> {
    let used = if writing.is_as_it_is() {
        let read = read(reader, bytes, writing, keeping, &mut Vec::new());
        let used = read.map_err(|_| Who::Proxy)?;
        let part = bytes.get(..used).unwrap_or_default();
        client.write(part).map_err(|_| Who::Client)?;
        used
    } else {
        let mut out = buffer::bytes();
        let read = read(reader, bytes, writing, keeping, &mut out);
        let sent = client.write(&out);
        buffer::give_bytes(out);
        sent.map_err(|_| Who::Client)?;
        read.map_err(|_| Who::Proxy)?
    };
    if reader.is_done() {
        let finished = client.finish(writing.coding(), reader.trailers());
        finished.map_err(|_| Who::Client)?;
    }
    Ok(bytes.get(used..).unwrap_or_default().to_vec())
}

/// The origin has closed the connection: that ends the answer, or cuts it off.
fn end<S: Side>(
    reader: &mut Reader,
    writing: &mut Writing,
    client: &mut S,
    trailers: &[u8],
) -> Result<(), Who> {
    if !matches!(reader, Reader::UntilClose) {
        return Err(Who::Server);
    }
    *reader = Reader::default();
    let mut last = Vec::new();
    writing.settle(true, &mut last);
    let written = client.write(&last);
    written
        .and_then(|()| client.finish(writing.coding(), trailers))
        .map_err(|_| Who::Client)
}

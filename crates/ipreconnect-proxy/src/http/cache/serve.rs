//! A request before its origin is asked: it is answered by what is kept, waits for somebody who asks the
//! same, or asks.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use ipreconnect::clock;
use ipreconnect::core::http::cache::{
    Condition, Directives, Fields, Part, State, brief, condition, if_range, part,
};
use ipreconnect::core::http::{
    Body, Method, Parsed, RequestHead, ResponseBody, ResponseHead, compress,
};

use super::background::refresh;
use super::entry::seconds;
use super::keeping::{Keeping, Task, Voiding};
use super::store::{Flight, Found, Lead as Leader, PATIENCE, Way};
use super::{Cache, Entry, key};
use crate::http::buffer;
use crate::http::exchange::{self, Ended, Exchange};
use crate::http::record::{End, When, Who};
use crate::http::relay::leads_back;
use crate::http::render::Onward;
use crate::http::side::{Lead, Side};
use crate::http::writing::Writing;

/// How often those who wait look whether that is of use.
const LOOK: Duration = Duration::from_millis(250);
/// What is written at once.
const PIECE: usize = 64 * 1024;

/// How a request came to be answered from here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::http) enum How {
    /// It was there.
    Hit,
    /// Somebody else had asked for it.
    Collapsed,
    /// The origin says that it is good still.
    Confirmed,
    /// The origin is known to be down.
    Down,
    /// The origin does not answer.
    Silent,
    /// The origin answers with this error.
    Error(u16),
}

impl How {
    /// For the access log.
    fn word(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Collapsed => "collapsed",
            Self::Confirmed => "revalidated",
            Self::Down | Self::Silent | Self::Error(_) => "stale",
        }
    }

    /// `Cache-Status` (RFC 9211).
    fn told(self, entry: &Entry) -> String {
        let ttl = match entry.state() {
            State::Fresh(left) => i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            State::Refreshable | State::Stale => -entry.late(),
        };
        match self {
            Self::Hit => format!("ipreconnect; hit; ttl={ttl}"),
            Self::Collapsed => format!("ipreconnect; fwd=uri-miss; collapsed; ttl={ttl}"),
            Self::Confirmed => format!("ipreconnect; fwd=stale; fwd-status=304; ttl={ttl}"),
            Self::Down => format!("ipreconnect; hit; ttl={ttl}; detail=\"origin down\""),
            Self::Silent => format!("ipreconnect; fwd=stale; ttl={ttl}; detail=\"no answer\""),
            Self::Error(status) => {
                format!("ipreconnect; fwd=stale; fwd-status={status}; ttl={ttl}; detail=error")
            }
        }
    }
}

/// Carries out a request of a listener that has caches.
pub(in crate::http) async fn serve<S: Side>(exchange: &mut Exchange<'_, S>) -> Ended {
    if !exchange.head.method.is_safe() {
        exchange.voiding = voiding(exchange);
    }
    let Some(cache) = exchange.route.cache.as_ref() else {
        return exchange.run().await;
    };
    if is_beside(exchange.head, exchange.client.text()) || exchange.route.fallback().is_some() {
        exchange.record.cache = "bypass";
        return exchange.run().await;
    }
    let url = url(exchange);
    let mut how = How::Hit;
    let began = exchange.record.began;
    let mut may_wait = is_for_all(exchange);
    if cache.settings().disk > 0
        && matches!(find(exchange, cache, &url), Found::Others | Found::Nothing)
    {
        cache.thaw(&url, |entry| is_for(exchange, entry)).await;
    }
    let lead = loop {
        let found = find(exchange, cache, &url);
        if let Found::Entry(entry) = &found {
            match entry.state() {
                State::Fresh(_) => return answer(exchange, entry, how).await,
                State::Refreshable => {
                    begin_refresh(exchange, cache, &url, entry);
                    return answer(exchange, entry, how).await;
                }
                State::Stale => {}
            }
            let ours = cache.settings().stale_if_error;
            if entry.covers_silence(ours) && exchange.is_away() {
                return answer(exchange, entry, How::Down).await;
            }
            // Each has to ask for himself.
            may_wait &= entry.policy.is_ever_fresh();
        }
        let way = if may_wait && began.elapsed() < PATIENCE {
            cache.way(&url)
        } else {
            Way::Alone
        };
        let lead = match way {
            Way::Follow(flight) => {
                how = How::Collapsed;
                if !wait(exchange, &flight).await {
                    exchange.record.end = End::by(Who::Client, When::Queue);
                    return Ended::Close;
                }
                // Whoever asked may have left without an answer; then somebody else asks for all.
                may_wait = !flight.is_settled();
                continue;
            }
            Way::Lead(lead) => Some(lead),
            Way::Alone => None,
        };
        break (lead, found);
    };
    exchange.keeping = Some(Box::new(keeping(exchange, cache, &url, lead)));
    exchange.run().await
}

/// What the exchange is to do for the cache.
fn keeping<S: Side>(
    exchange: &Exchange<'_, S>,
    cache: &Cache,
    url: &[u8],
    (lead, found): (Option<Leader>, Found),
) -> Keeping {
    let (head, text) = (exchange.head, exchange.client.text());
    let request = Fields::new(&head.fields, text);
    let is_own = request.has(b"range") || Directives::read(request).no_store;
    let task = match (&found, head.method) {
        _ if is_own => Task::Pass,
        (_, Method::Head) => Task::Compare,
        (Found::Entry(_), _) => Task::Ask,
        (Found::Others | Found::Nothing, _) => Task::Keep,
    };
    let origin = exchange.behind.origin().name();
    let keeping = Keeping::new(cache, url, origin, task).with_lead(lead);
    match found {
        Found::Entry(entry) => keeping.with_stale(entry),
        Found::Others => keeping.because("vary-miss"),
        Found::Nothing => keeping,
    }
}

/// Requests that are none of a cache's: those that change something, carry something, or want to go on with
/// another protocol; and those whose conditions only the origin can judge.
fn is_beside(head: &RequestHead, text: &[u8]) -> bool {
    let request = Fields::new(&head.fields, text);
    !matches!(head.method, Method::Get | Method::Head)
        || head.body != Body::None
        || head.upgrade.is_some()
        || request.has(b"if-match")
        || request.has(b"if-unmodified-since")
}

/// Whether what this request asks for may be what others ask for too.
fn is_for_all<S: Side>(exchange: &Exchange<'_, S>) -> bool {
    let request = Fields::new(&exchange.head.fields, exchange.client.text());
    exchange.head.method == Method::Get
        && !request.has(b"authorization")
        && !request.has(b"range")
        && !Directives::read(request).no_store
}

fn host<'t, S: Side>(exchange: &'t Exchange<'_, S>) -> &'t [u8] {
    // Where it goes, whatever the field says of it.
    if let Some(ways) = exchange.ways.as_deref() {
        return ways.authority().as_bytes();
    }
    let host = exchange.head.host.span();
    host.map_or(&b""[..], |host| host.of(exchange.client.text()))
}

fn url<S: Side>(exchange: &Exchange<'_, S>) -> Vec<u8> {
    let target = exchange.head.target.of(exchange.client.text());
    let text = exchange.client.text();
    let (scheme, more) = exchange.guest.told().asked_by(exchange.head, text);
    let mut key = key(scheme, host(exchange), target);
    key.extend_from_slice(&more);
    key
}

fn voiding<S: Side>(exchange: &Exchange<'_, S>) -> Option<Box<Voiding>> {
    let text = exchange.client.text();
    let target = exchange.head.target.of(text);
    let (scheme, more) = exchange.guest.told().asked_by(exchange.head, text);
    Some(Box::new(Voiding {
        caches: exchange.guest.site().caches().cloned().collect(),
        scheme: scheme.into(),
        more: more.into(),
        host: host(exchange).into(),
        target: target.into(),
    }))
}

fn find<S: Side>(exchange: &Exchange<'_, S>, cache: &Cache, url: &[u8]) -> Found {
    cache.store().find(url, |entry| is_for(exchange, entry))
}

/// Whether an answer is for this request, as far as what it asks for goes.
fn is_for<S: Side>(exchange: &Exchange<'_, S>, entry: &Entry) -> bool {
    let request = Fields::new(&exchange.head.fields, exchange.client.text());
    let origin = exchange.behind.origin().name();
    *entry.origin == *origin && entry.policy.answers(request)
}

/// Has the origin asked in the background, unless it is asked already.
fn begin_refresh<S: Side>(
    exchange: &Exchange<'_, S>,
    cache: &Cache,
    url: &[u8],
    entry: &Arc<Entry>,
) {
    // What is asked for all is not asked in somebody's name.
    if !is_for_all(exchange) || exchange.is_away() {
        return;
    }
    if let Way::Lead(lead) = cache.way(url) {
        let origin = exchange.behind.origin().name();
        let keeping = Keeping::new(cache, url, origin, Task::Ask)
            .with_lead(Some(lead))
            .with_stale(Arc::clone(entry));
        refresh(exchange, entry, keeping);
    }
}

/// Waits for the answer to somebody else; false if the client has gone.
async fn wait<S: Side>(exchange: &mut Exchange<'_, S>, flight: &Flight) -> bool {
    exchange.client.timer().set(clock::now(), LOOK);
    let half = exchange.guest.half();
    let mut over = pin!(flight.over());
    let client = &mut *exchange.client;
    let is_there = poll_fn(|cx| {
        if over.as_mut().poll(cx).is_ready() {
            return Poll::Ready(true);
        }
        while client.timer().poll(cx).is_ready() {
            if flight.is_slow() {
                return Poll::Ready(true);
            }
            client.timer().set(clock::now(), LOOK);
        }
        client.poll_gone(cx, half).map(|()| false)
    });
    is_there.await
}

/// What of a stored answer is sent.
struct Piece<'e> {
    head: &'e ResponseHead,
    text: &'e [u8],
    body: &'e [u8],
}

/// Answers from what is kept.
pub(in crate::http) async fn answer<S: Side>(
    exchange: &mut Exchange<'_, S>,
    entry: &Arc<Entry>,
    how: How,
) -> Ended {
    exchange.record.cache = how.word();
    if !exchange.client.is_there() {
        return Ended::Close;
    }
    let request = Fields::new(&exchange.head.fields, exchange.client.text());
    let text = changed(request, entry, exchange.head.method);
    let mut head = buffer::response();
    let piece = match &text {
        Some((text, from, to)) if matches!(head.parse(text), Ok(Parsed::Whole)) => Piece {
            head: &head,
            text,
            body: entry.body.get(*from..*to).unwrap_or_default(),
        },
        _ => Piece {
            head: &entry.head,
            text: &entry.text,
            body: &entry.body,
        },
    };
    let ended = send(exchange, entry, &piece, how).await;
    buffer::give_response(head);
    ended
}

/// The head of an answer that is not all of the stored one, and which bytes of that are its body.
fn changed(request: Fields<'_>, entry: &Entry, method: Method) -> Option<(Vec<u8>, usize, usize)> {
    let stored = entry.fields();
    let is_success = matches!(entry.head.status, 200..=299);
    if is_success && condition(request, stored, seconds()) == Condition::Unchanged {
        return Some((brief(stored), 0, 0));
    }
    let range = request.first(b"range")?;
    if method != Method::Get || entry.head.status != 200 || !if_range(request, stored) {
        return None;
    }
    let length = entry.body.len();
    match part(range, length as u64) {
        Part::Whole => None,
        Part::Missing => {
            let text = format!(
                "HTTP/1.1 416 Range Not Satisfiable\r\nContent-Range: bytes */{length}\r\nContent-Length: 0\r\n\r\n"
            );
            Some((text.into_bytes(), 0, 0))
        }
        Part::Bytes(first, last) => {
            let mut text = b"HTTP/1.1 206 Partial Content\r\n".to_vec();
            for (name, value) in stored.passed_on() {
                if !name.eq_ignore_ascii_case(b"content-length") {
                    crate::http::render::line(&mut text, name, value);
                }
            }
            let count = last - first + 1;
            let more = format!(
                "Content-Range: bytes {first}-{last}/{length}\r\nContent-Length: {count}\r\n\r\n"
            );
            text.extend_from_slice(more.as_bytes());
            let narrow = |at| usize::try_from(at).unwrap_or(length);
            Some((text, narrow(first), narrow(last + 1)))
        }
    }
}

async fn send<S: Side>(
    exchange: &mut Exchange<'_, S>,
    entry: &Entry,
    piece: &Piece<'_>,
    how: How,
) -> Ended {
    let data = match exchange.head.method {
        Method::Head => &[],
        _ => piece.body,
    };
    let body = match data.len() {
        0 => ResponseBody::None,
        length => ResponseBody::Length(length as u64),
    };
    let request = (exchange.head, exchange.client.text());
    let wanted = match body {
        _ if !exchange.guest.site().compresses => None,
        // What stands for the stored answer varies as that does.
        ResponseBody::None if piece.head.status == 304 => {
            compress(request, (&entry.head, &entry.text)).map(|_| None)
        }
        ResponseBody::None => None,
        _ => compress(request, (piece.head, piece.text)),
    };
    let (mut writing, body) = Writing::new(body, wanted.flatten(), |body| {
        exchange.client.coding(body, exchange.head)
    });
    let onward = exchange.onward(writing.coding());
    let told = how.told(entry);
    let age = entry.age().as_secs().to_string();
    let mut more = exchange.told(&told);
    more.add("Age", &age);
    let lead = Lead {
        head: piece.head,
        text: piece.text,
        body,
        rules: &exchange.route.rewrite.response,
        origin: leads_back(exchange.behind, exchange.is_through(), &entry.endpoint),
        is_through: exchange.is_through(),
        scheme: exchange.guest.scheme(),
        asked: exchange.head,
        cookie: exchange.cookie.as_deref(),
        compressed: writing.compressed(),
        varies: wanted.is_some(),
        told: &more,
        onward,
    };
    let mut pieces = data.chunks(PIECE).peekable();
    let mut coded = buffer::bytes();
    let first = pieces.next().unwrap_or_default();
    let first = written(first, pieces.peek().is_none(), &mut writing, &mut coded);
    let sent = exchange.client.respond(&lead, first);
    exchange.record.status = piece.head.status;
    exchange.record.first_byte = Some(exchange.record.began.elapsed());
    exchange.record.bytes_out += first.len() as u64;
    exchange.guest.counts_down(sent);
    let mut is_fine = flush(exchange).await;
    while is_fine && let Some(more) = pieces.next() {
        // Others have their turn, however little comes of it.
        tokio::task::yield_now().await;
        let more = written(more, pieces.peek().is_none(), &mut writing, &mut coded);
        exchange.record.bytes_out += more.len() as u64;
        exchange.guest.counts_down(more.len());
        is_fine = exchange.client.write(more).is_ok() && flush(exchange).await;
    }
    buffer::give_bytes(coded);
    if !data.is_empty() {
        let coding = writing.coding();
        is_fine = is_fine && exchange.client.finish(coding, &[]).is_ok() && flush(exchange).await;
    }
    match (is_fine, onward) {
        (true, Onward::Kept | Onward::KeptAloud) => Ended::Onward,
        (true, Onward::Closed) => Ended::Close,
        (false, _) => {
            exchange.record.end = End::by(Who::Client, When::Data);
            // Nobody may take a part of it for the whole.
            exchange.client.abort();
            Ended::Close
        }
    }
}

/// A part of a body as it is written; the last one with the end of what is compressed.
fn written<'p>(
    part: &'p [u8],
    is_last: bool,
    writing: &mut Writing,
    coded: &'p mut Vec<u8>,
) -> &'p [u8] {
    if writing.is_as_it_is() {
        return part;
    }
    coded.clear();
    writing.push(part, coded);
    writing.settle(is_last, coded);
    coded
}

/// Has the client take what was written; false if it does not.
async fn flush<S: Side>(exchange: &mut Exchange<'_, S>) -> bool {
    let patience = exchange.guest.limits().stall;
    exchange::flush(&mut *exchange.client, patience).await
}

//! Requests of clients that say where they want to go: by the absolute form, or for a tunnel.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

use ipreconnect::core::failure::{Cause, Failure};
use ipreconnect::core::forward::{Over, Target};
use ipreconnect::core::http::{Body, Method, RequestHead, path_of};
use ipreconnect::{Error, clock};

use super::answer;
use super::client::tell;
use super::exchange::{self, Ended, Exchange};
use super::forwarding::{HOPS, hops};
use super::guest::Guest;
use super::reach::{note_would_be, reach_for};
use super::record::{End, Record, When, Who};
use super::render::Coding;
use super::side::Side;
use super::site::Route;
use super::tunnel::Tunnel;
use super::wire::Half;
use super::{Page, buffer, cache, pool};
use crate::forward::{Errand, Forward, Place, Refusal, Speech, Stay};

/// Carries out one request, and tells of it.
pub(super) async fn serve<S: Side>(
    client: &mut S,
    guest: &Guest,
    forward: &Forward,
    head: &RequestHead,
    mut record: Record,
) -> Ended {
    let entered = match client.has_room() {
        true => forward
            .enter(|| guest.account(&record))
            .map_err(Refusal::over),
        false => Err(Refusal::full()),
    };
    let placed = entered.and_then(|stay| {
        let place = place(client, forward, (head, guest.wanted()))?;
        Ok((place, stay))
    });
    let (place, stay) = match placed {
        Ok(placed) => placed,
        Err(refusal) => {
            let ended = refuse(client, guest, head, &mut record, &refusal).await;
            tell(client, guest, head, "", record);
            return ended;
        }
    };
    if head.method == Method::Connect {
        return open(client, (guest, forward), head, record, (&place, stay)).await;
    }
    let ways = Ways::new(forward, &place);
    let Some(route) = ways.route() else {
        let why = "requests of https go by no other proxy from here: ask for a tunnel by CONNECT";
        let refusal = Refusal::refused_behind(place.target(), why.to_owned(), 501);
        let ended = refuse(client, guest, head, &mut record, &refusal).await;
        tell(client, guest, head, "", record);
        return ended;
    };
    let Some(choice) = route.choose(head, client.text()) else {
        return Ended::Close;
    };
    let mut exchange = Exchange::new(client, guest, (route, choice), head, &mut record);
    exchange.ways = Some(Box::new(Ways { stay, ..ways }));
    exchange.note_way();
    let mut ended = if guest.site().has_caches {
        Box::pin(cache::serve(&mut exchange)).await
    } else {
        exchange.run().await
    };
    let carried = exchange.record.bytes_in + exchange.record.bytes_out;
    let stay = exchange.ways.take().and_then(|mut ways| {
        // What is too much is told at the next request.
        ways.carries(carried);
        ways.stay
    });
    note_would_be(&mut record, guest, &place);
    if let Ended::Tunnel(tunnel) = &mut ended {
        let method = head.method_text.of(client.text()).to_vec();
        tunnel.is_told_of((record, stay), (method.into(), place.target()));
        return ended;
    }
    tell(client, guest, head, place.origin().name(), record);
    ended
}

/// What is answered here, where the request is for the proxy itself: whoever may come in by showing who he is has to
/// find out first how.
pub(super) fn page<S: Side>(
    client: &S,
    guest: &Guest,
    head: &RequestHead,
    protocol: &str,
) -> Option<Page> {
    use ipreconnect::core::http::Host;
    let forward = guest.site().forward.as_ref()?;
    let host = match head.host {
        // HTTP/2 has no other form; who comes by this port to this port wants nobody else.
        Host::Target(host) if protocol == "HTTP/2.0" => {
            let target = Target::or_port(host.of(client.text()), 443).ok()?;
            if !forward.has_port(target.port) {
                return None;
            }
            host.of(client.text())
        }
        Host::Target(_) => return None,
        Host::Field(host) => host.of(client.text()),
        Host::None => b"",
    };
    if guest.wanted().is_some() || !matches!(head.method, Method::Get | Method::Head) {
        return None;
    }
    let path = path_of(head.target.of(client.text()));
    forward.pac(path, host, guest.scheme() == "https")
}

/// Where a request is to go, if it may go there.
pub(super) fn place<S: Side>(
    client: &S,
    forward: &Forward,
    (head, wanted): (&RequestHead, Option<SocketAddr>),
) -> Result<Arc<Place>, Refusal> {
    let target = target(head, client.text(), wanted)?;
    if head.method == Method::Connect && head.body != Body::None {
        let why = "a request for a tunnel has no body";
        return Err(Refusal::uncarried(400, why));
    }
    if let Some(why) = circles(forward, head, client.text()) {
        return Err(Refusal::circular(&target, why));
    }
    let speech = match head.is_secure {
        true => Speech::Sealed,
        false => Speech::Plain,
    };
    forward.place_by(&target, speech)
}

fn target(head: &RequestHead, text: &[u8], wanted: Option<SocketAddr>) -> Result<Target, Refusal> {
    use ipreconnect::core::http::Host;
    let authority = match (head.host, wanted) {
        (Host::Target(authority), _) => authority.of(text),
        // Who was led here names the host as it would have there.
        (Host::Field(host), Some(to)) => {
            let target = Target::or_port(host.of(text), to.port());
            return target.map_err(Refusal::unread);
        }
        _ => return Err(Refusal::direct()),
    };
    let target = match head.method {
        Method::Connect => Target::authority(authority),
        _ if head.is_secure => Target::or_port(authority, 443),
        _ => Target::or_port(authority, 80),
    };
    target.map_err(Refusal::unread)
}

/// Why a request must not go on: it has passed this proxy before (RFC 9110, section 7.6.3), or so many others that it
/// goes in circles.
fn circles(forward: &Forward, head: &RequestHead, text: &[u8]) -> Option<&'static str> {
    let fields = head.fields.iter();
    let fields = fields.filter(|field| field.name.of(text).eq_ignore_ascii_case(b"via"));
    let mut hops = 0;
    for value in fields.map(|field| field.value.of(text)) {
        if is_within(forward.pseudonym().as_bytes(), value) {
            return Some("the request has come through this proxy before");
        }
        hops += value.split(|byte| *byte == b',').count();
    }
    (hops > HOPS).then_some("the request has come through too many proxies")
}

fn is_within(name: &[u8], text: &[u8]) -> bool {
    text.windows(name.len()).any(|part| part == name)
}

/// Answers in place of an origin.
pub(super) async fn refuse<S: Side>(
    client: &mut S,
    guest: &Guest,
    head: &RequestHead,
    record: &mut Record,
    refusal: &Refusal,
) -> Ended {
    record.refused(guest, refusal);
    let onward = exchange::onward_unread(client, guest, head);
    let mut out = buffer::bytes();
    answer::refusal(&mut out, refusal, onward, head.method == Method::Head);
    exchange::deliver(client, guest, out, onward).await
}

/// Whether a rule keeps a client from there, by whatever way.
pub(super) fn is_decided(error: &Error) -> bool {
    let is_rule = |failure: &Failure| failure.cause == Cause::NotAllowed;
    error.failure().is_some_and(is_rule)
}

/// Where there are no descriptors left, connections that rest give theirs back.
pub(super) fn note_scarcity(error: &Error) {
    let is_scarce = |failure: &Failure| failure.cause == Cause::NoResources;
    if error.failure().is_some_and(is_scarce) {
        pool::make_room();
    }
}

/// The origin of an exchange cannot be reached.
pub(super) async fn refuse_away<S: Side>(exchange: &mut Exchange<'_, S>, error: &Error) -> Ended {
    let Some(ways) = exchange.ways.as_deref() else {
        return Ended::Close;
    };
    let refusal = match ways.proxy() {
        None => Refusal::away(ways.target, error),
        Some(proxy) => Refusal::behind(ways.target, proxy, error),
    };
    if !refusal.is_denied
        && let Some(keeping) = exchange.keeping.take()
        && let Some(entry) = keeping.last_resort()
    {
        return Box::pin(cache::answer(exchange, entry, cache::How::Silent)).await;
    }
    answer_refusal(exchange, &refusal).await
}

/// Its user has had the bytes of the day, in the middle of what he sends.
pub(super) async fn refuse_used_up<S: Side>(exchange: &mut Exchange<'_, S>) -> Ended {
    let refusal = Refusal::over(Over::until_tomorrow(clock::since_unix()));
    answer_refusal(exchange, &refusal).await
}

async fn answer_refusal<S: Side>(exchange: &mut Exchange<'_, S>, refusal: &Refusal) -> Ended {
    let onward = exchange.onward(Coding::AsItIs);
    exchange.record.refused(exchange.guest, refusal);
    let mut out = buffer::bytes();
    let is_head = exchange.head.method == Method::Head;
    answer::refusal(&mut out, refusal, onward, is_head);
    exchange::deliver(exchange.client, exchange.guest, out, onward).await
}

/// The ways of one request to where its client wants to go.
pub(super) struct Ways<'w> {
    /// The way that is tried now.
    now: Option<Errand<'w>>,
    /// Those after it.
    later: VecDeque<Errand<'w>>,
    target: &'w Target,
    /// The same as proxies are told it.
    authority: &'w str,
    /// What its user has, where that is bounded, and the bytes that are counted there.
    stay: Option<Stay>,
    counted: u64,
}

impl<'w> Ways<'w> {
    pub(super) fn new(forward: &Forward, place: &'w Place) -> Self {
        let ways = place.ways();
        let mut errands = ways.filter_map(|(at, _)| place.errand(&forward.plan, at));
        Self {
            now: errands.next(),
            later: errands.collect(),
            target: place.target(),
            authority: place.authority(),
            stay: None,
            counted: 0,
        }
    }

    /// So many bytes were carried by now; says whether there may be more.
    pub(super) fn carries(&mut self, bytes: u64) -> bool {
        let more = bytes.saturating_sub(self.counted);
        self.counted += more;
        self.stay.as_ref().is_none_or(|stay| stay.counts(more))
    }

    /// What the way goes by that is tried now.
    pub(super) fn route(&self) -> Option<&'w Route> {
        Some(self.now?.route.route())
    }

    /// Whom the proxy is to ask that is asked now, and what shows it who we are.
    pub(super) fn asked(&self) -> Option<(&str, Option<&str>)> {
        let authorization = self.now?.asked?;
        Some((self.authority, authorization))
    }

    /// Where it goes, as it stands in URLs.
    pub(super) fn authority(&self) -> &'w str {
        self.authority
    }

    /// The proxy that is asked now.
    fn proxy(&self) -> Option<&'w str> {
        self.now?.proxy
    }

    /// The next way, if there is one.
    pub(super) fn turn(&mut self) -> Option<&'w Route> {
        // The last one stays: what becomes of it is told.
        self.now = Some(self.later.pop_front()?);
        self.route()
    }
}

impl<S: Side> Exchange<'_, S> {
    /// Notes by which proxy it goes.
    pub(super) fn note_way(&mut self) {
        let via = self.ways.as_deref().and_then(Ways::proxy);
        if via.is_some() || self.record.journey.is_some() {
            self.record.journey().via = via.map(Into::into);
        }
    }
}

/// The proxy behind this one does not know us: its client is not asked for what is ours to know.
pub(super) async fn refuse_unwelcome<S: Side>(exchange: &mut Exchange<'_, S>) -> Ended {
    let Some(ways) = exchange.ways.as_deref() else {
        return Ended::Close;
    };
    let what = match ways.asked() {
        Some((_, Some(_))) => "does not take our credentials",
        _ => "wants credentials",
    };
    let proxy = ways.proxy().unwrap_or_default();
    let why = format!("the proxy {proxy} on the way there {what}");
    let refusal = Refusal::refused_behind(ways.target, why, 502);
    answer_refusal(exchange, &refusal).await
}

/// Opens a tunnel (RFC 9110, section 9.3.6).
async fn open<S: Side>(
    client: &mut S,
    (guest, forward): (&Guest, &Forward),
    head: &RequestHead,
    mut record: Record,
    (place, stay): (&Place, Option<Stay>),
) -> Ended {
    let hops = hops(head, client.text(), forward.pseudonym());
    // Who says nothing more may still want to hear.
    let reached = reach_for((&mut record, guest), (place, &hops), |cx| {
        client.poll_gone(cx, Half::Listens)
    })
    .await;
    let reached = match reached {
        Some(Ok(reached)) => reached,
        Some(Err(refusal)) => {
            let ended = refuse(client, guest, head, &mut record, &refusal).await;
            tell(client, guest, head, "", record);
            return ended;
        }
        None => {
            record.end = End::by(Who::Client, When::Connect);
            tell(client, guest, head, "", record);
            return Ended::Close;
        }
    };
    record.status = 200;
    record.reached(&reached);
    let Ok(()) = client.go_through() else {
        record.end = End::by(Who::Client, When::Headers);
        tell(client, guest, head, "", record);
        return Ended::Close;
    };
    Ended::Tunnel(Box::new(Tunnel::through(
        reached.parts,
        (record, stay),
        place.target(),
    )))
}

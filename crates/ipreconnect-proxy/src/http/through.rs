//! Requests of clients that say where they want to go: by the absolute form, or for a tunnel.

use std::future::{Future, poll_fn};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use ipreconnect::core::forward::Target;
use ipreconnect::core::http::{Body, Method, RequestHead};
use ipreconnect::{Error, Link, Parts, clock};

use super::answer;
use super::client::tell;
use super::exchange::{self, Ended, Exchange};
use super::guest::Guest;
use super::record::{End, Journey, Record, Shown, When, Who};
use super::render::Coding;
use super::side::Side;
use super::tunnel::Tunnel;
use super::wire::Half;
use super::{buffer, cache};
use crate::forward::{Forward, Place, Refusal, Stay, pseudonym};
use crate::notice;

/// Carries out one request, and tells of it.
pub(super) async fn serve<S: Side>(
    client: &mut S,
    guest: &Guest,
    forward: &Forward,
    head: &RequestHead,
    mut record: Record,
) -> Ended {
    let placed = place(client, forward, head).and_then(|place| {
        let stay = forward.enter(|| guest.account(&record));
        Ok((place, stay.map_err(Refusal::over)?))
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
        return open(client, guest, head, record, (&place, stay)).await;
    }
    let Some(choice) = place
        .route(&forward.plan)
        .route()
        .choose(head, client.text())
    else {
        return Ended::Close;
    };
    let route = place.route(&forward.plan).route();
    let mut exchange = Exchange::new(client, guest, (route, choice), head, &mut record);
    let ended = if guest.site().has_caches {
        Box::pin(cache::serve(&mut exchange)).await
    } else {
        exchange.run().await
    };
    note_would_be(&mut record, guest, &place);
    if let Some(stay) = stay {
        // What is too much is told at the next request.
        stay.counts(record.bytes_in + record.bytes_out);
    }
    tell(client, guest, head, place.origin().name(), record);
    ended
}

/// Where a request is to go, if it may go there.
pub(super) fn place<S: Side>(
    client: &S,
    forward: &Forward,
    head: &RequestHead,
) -> Result<Arc<Place>, Refusal> {
    let target = target(head, client.text())?;
    if head.method == Method::Connect && head.body != Body::None {
        let why = "a request for a tunnel has no body";
        return Err(Refusal::uncarried(400, why));
    }
    if has_been_here(head, client.text()) {
        let why = "the request has come through this proxy before";
        return Err(Refusal::circular(&target, why));
    }
    forward.place(&target)
}

fn target(head: &RequestHead, text: &[u8]) -> Result<Target, Refusal> {
    use ipreconnect::core::http::Host;
    let Host::Target(authority) = head.host else {
        return Err(Refusal::direct());
    };
    let authority = authority.of(text);
    let target = match head.method {
        Method::Connect => Target::authority(authority),
        _ => Target::or_port(authority, 80),
    };
    if head.is_secure {
        let why = "a proxy is asked for https by CONNECT, so that nobody on the way can read it";
        return Err(Refusal::uncarried(501, why));
    }
    target.map_err(Refusal::unread)
}

/// Whether a request has passed this proxy before (RFC 9110, section 7.6.3).
fn has_been_here(head: &RequestHead, text: &[u8]) -> bool {
    let mut fields = head.fields.iter();
    fields.any(|field| {
        field.name.of(text).eq_ignore_ascii_case(b"via")
            && is_within(pseudonym().as_bytes(), field.value.of(text))
    })
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
    record.status = refusal.status;
    record.end = match refusal.is_denied {
        true => End::by(Who::Proxy, When::Request),
        false if refusal.status < 500 => End::by(Who::Proxy, When::Request),
        false => End::by(Who::Server, When::Connect),
    };
    record.journey().refused(refusal);
    if refusal.is_denied {
        notice::refused(guest.name(), guest.from(), &refusal.words());
    }
    let onward = exchange::onward(guest, head, head.body == Body::None);
    let mut out = buffer::bytes();
    answer::refusal(&mut out, refusal, onward, head.method == Method::Head);
    exchange::deliver(client, guest, out, onward).await
}

/// The origin of an exchange cannot be reached.
pub(super) async fn refuse_away<S: Side>(exchange: &mut Exchange<'_, S>, error: &Error) -> Ended {
    let target = target(exchange.head, exchange.client.text());
    let refusal = match target {
        Ok(target) => Refusal::away(&target, error),
        Err(refusal) => refusal,
    };
    if !refusal.is_denied
        && let Some(keeping) = exchange.keeping.take()
        && let Some(entry) = keeping.last_resort()
    {
        return Box::pin(cache::answer(exchange, entry, cache::How::Silent)).await;
    }
    let onward = exchange.onward(Coding::AsItIs);
    exchange.record.status = refusal.status;
    exchange.record.end = match refusal.is_denied {
        true => End::by(Who::Proxy, When::Connect),
        false => End::by(Who::Server, When::Connect),
    };
    exchange.record.journey().refused(&refusal);
    if refusal.is_denied {
        notice::refused(
            exchange.guest.name(),
            exchange.guest.from(),
            &refusal.words(),
        );
    }
    let mut out = buffer::bytes();
    let is_head = exchange.head.method == Method::Head;
    answer::refusal(&mut out, &refusal, onward, is_head);
    exchange::deliver(exchange.client, exchange.guest, out, onward).await
}

/// A connection to a place, and what finding it took.
pub(super) struct Reached {
    pub(super) parts: Parts,
    /// Looking it up.
    pub(super) found: Option<Duration>,
    /// All of it.
    pub(super) took: Duration,
}

/// Goes there.
///
/// Cancel safety: dropping the future closes whatever was being dialled.
pub(super) async fn reach(place: &Place) -> Result<Reached, Error> {
    let began = clock::now();
    let found = place.origin().find().await?;
    let link: Link = place.origin().connect().await?;
    Ok(Reached {
        parts: link.into_parts(),
        found,
        took: began.elapsed(),
    })
}

/// Opens a tunnel (RFC 9110, section 9.3.6).
async fn open<S: Side>(
    client: &mut S,
    guest: &Guest,
    head: &RequestHead,
    mut record: Record,
    (place, stay): (&Place, Option<Stay>),
) -> Ended {
    let reached = {
        let mut reaching = std::pin::pin!(reach(place));
        poll_fn(|cx| {
            if let Poll::Ready(reached) = reaching.as_mut().poll(cx) {
                return Poll::Ready(Some(reached));
            }
            // Who says nothing more may still want to hear.
            client.poll_gone(cx, Half::Listens).map(|()| None)
        })
        .await
    };
    note_would_be(&mut record, guest, place);
    let reached = match reached {
        Some(Ok(reached)) => reached,
        Some(Err(error)) => {
            let refusal = Refusal::away(place.target(), &error);
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

impl Record {
    /// A connection was there.
    pub(super) fn reached(&mut self, reached: &Reached) {
        self.connected = Some(reached.took);
        self.endpoint = Shown::new(&reached.parts.address.to_string());
        self.journey().found = reached.found;
    }
}

/// Tells that a rule would have refused it, if one had.
pub(super) fn note_would_be(record: &mut Record, guest: &Guest, place: &Place) {
    if let Some(denial) = place.would_be() {
        let journey = record.journey();
        journey.decision = "would be denied";
        journey.why = Some(denial.to_string().into());
        let target = place.target();
        let words = format!("{target} would be denied, and the rules are not enforced: {denial}.");
        notice::refused(guest.name(), guest.from(), &words);
    }
}

impl Journey {
    pub(super) fn refused(&mut self, refusal: &Refusal) {
        self.decision = if refusal.is_denied { "denied" } else { "" };
        self.why = Some(refusal.why.as_str().into());
    }
}

//! The way to where a client wants to go: there, or by other proxies.

use std::future::{Future, poll_fn};
use std::net::IpAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use ipreconnect::{Error, Link, Parts, clock};

use super::guest::Guest;
use super::record::{End, Record, Shown, When, Who};
use super::through::note_scarcity;
use crate::forward::{Failed, Leg, Place, Refusal, Whose};
use crate::notice;

/// The way there, for a client that waits for it: none, once `gone` says that it does so no more. Tells that a rule
/// would have refused it, if one had; other proxies are told the `hops` before them.
pub(super) async fn reach_for(
    (record, guest): (&mut Record, &Guest),
    (place, hops): (&Place, &str),
    mut gone: impl FnMut(&mut Context<'_>) -> Poll<()>,
) -> Option<Result<Reached, Refusal>> {
    let search = Search {
        place,
        hops,
        source: guest.peer().map(|peer| peer.ip()),
    };
    let mut reaching = std::pin::pin!(search.reach());
    let reached = poll_fn(|cx| {
        if let Poll::Ready(reached) = reaching.as_mut().poll(cx) {
            return Poll::Ready(Some(reached));
        }
        gone(cx).map(|()| None)
    })
    .await;
    note_would_be(record, guest, place);
    reached
}

/// A connection to a place, and what finding it took.
pub(super) struct Reached {
    pub(super) parts: Parts,
    /// Looking it up.
    pub(super) found: Option<Duration>,
    /// All of it.
    pub(super) took: Duration,
    /// The proxy by which it goes.
    via: Option<Box<str>>,
}

/// A way that has not led anywhere by then is not given up, and the next one is tried beside it.
const STAGGER: Duration = Duration::from_secs(2);

/// One way that is being tried.
type Trying<'p> = Pin<Box<dyn Future<Output = Result<Gone, Failed>> + Send + 'p>>;

/// Looking for a way to a place.
#[derive(Clone, Copy)]
struct Search<'p> {
    place: &'p Place,
    /// What other proxies are told of those before them.
    hops: &'p str,
    /// Whom it is for.
    source: Option<IpAddr>,
}

impl<'p> Search<'p> {
    /// Goes there, by the first way that leads there.
    ///
    /// Cancel safety: dropping the future closes whatever was being dialled.
    async fn reach(self) -> Result<Reached, Refusal> {
        let began = clock::now();
        let mut ways = self.place.ways().peekable();
        let Some((_, way)) = ways.next() else {
            return Err(self.nowhere());
        };
        let gone = match ways.peek() {
            None => self.go(way).await.map_err(|failed| failed.refusal),
            Some(_) => self.go_some_way(way, ways.map(|(_, way)| way)).await,
        };
        let (link, found, via) = gone?;
        Ok(Reached {
            parts: link.into_parts(),
            found,
            took: began.elapsed(),
            via,
        })
    }

    async fn go_some_way(
        self,
        way: &'p Leg,
        mut others: impl Iterator<Item = &'p Leg>,
    ) -> Result<Gone, Refusal> {
        let mut trying: Vec<Trying<'_>> = vec![Box::pin(self.go(way))];
        let mut last = None;
        loop {
            let ended = tokio::time::timeout(STAGGER, first(&mut trying)).await;
            match ended {
                Ok(Some(Ok(gone))) => return Ok(gone),
                Ok(Some(Err(failed))) if failed.is_final => return Err(failed.refusal),
                Ok(Some(Err(failed))) => last = Some(failed.refusal),
                Ok(None) | Err(_) => {}
            }
            match others.next() {
                Some(way) => trying.push(Box::pin(self.go(way))),
                None if trying.is_empty() => return Err(last.unwrap_or_else(|| self.nowhere())),
                None => {}
            }
        }
    }

    fn nowhere(self) -> Refusal {
        Refusal::wayless(self.place.target(), "no way leads there")
    }

    async fn go(self, way: &Leg) -> Result<Gone, Failed> {
        let place = self.place;
        // Who denies it has decided, whatever other ways there are.
        let away = |error: Error| {
            note_scarcity(&error);
            let refusal = Refusal::away(place.target(), &error);
            Failed {
                is_final: refusal.is_denied,
                refusal,
            }
        };
        match way {
            Leg::Direct => {
                let found = place.origin().find(self.source).await.map_err(away)?;
                let link = place.origin().connect().await.map_err(away)?;
                Ok((link, found, None))
            }
            Leg::Parent(asked) => {
                let link = asked.open(place.target(), self.hops).await?;
                Ok((link, None, Some(asked.origin().name().into())))
            }
        }
    }
}

/// Waits for the first one that ends; `None` if there are none.
async fn first(trying: &mut Vec<Trying<'_>>) -> Option<Result<Gone, Failed>> {
    poll_fn(|cx| {
        for at in 0..trying.len() {
            let one = trying.get_mut(at).map(|one| one.as_mut().poll(cx));
            if let Some(Poll::Ready(ended)) = one {
                drop(trying.swap_remove(at));
                return Poll::Ready(Some(ended));
            }
        }
        match trying.is_empty() {
            true => Poll::Ready(None),
            false => Poll::Pending,
        }
    })
    .await
}

type Gone = (Link, Option<Duration>, Option<Box<str>>);

impl Record {
    /// A connection was there.
    pub(super) fn reached(&mut self, reached: &Reached) {
        self.connected = Some(reached.took);
        self.endpoint = Shown::new(&reached.parts.address.to_string());
        let journey = self.journey();
        journey.found = reached.found;
        journey.via.clone_from(&reached.via);
    }

    /// Its client does not get where it wants to go: this tells it, and whoever looks after the proxy.
    pub(super) fn refused(&mut self, guest: &Guest, refusal: &Refusal) {
        self.status = refusal.status;
        self.end = match refusal.whose {
            Whose::Ours => End::by(Who::Proxy, When::Request),
            Whose::Proof => End::by(Who::Proxy, When::Connect),
            Whose::Theirs => End::by(Who::Server, When::Connect),
        };
        let journey = self.journey();
        journey.decision = if refusal.is_denied { "denied" } else { "" };
        journey.why = Some(refusal.why.as_str().into());
        if refusal.is_denied {
            notice::refused(guest.name(), guest.from(), &refusal.words());
        }
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

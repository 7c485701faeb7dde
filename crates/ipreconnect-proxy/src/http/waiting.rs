//! Waiting for the answer: what the origin, the client, the watch and the clock say, whoever speaks first.

use std::task::{Context, Poll};
use std::time::Duration;

use ipreconnect::clock;
use ipreconnect::core::address::EndpointId;
use ipreconnect::core::balance::Standing;
use ipreconnect::core::failure::Cause;
use ipreconnect::core::origin::Health;

use super::exchange::{Dial, Event, Exchange, Which};
use super::line::{Upstream, Word};
use super::side::Side;
use super::trial::{Loss, Trial};
use super::{Hedge, pool};

/// An endpoint that fell silent may be back within this time.
const MUTE: Duration = Duration::from_secs(1);
/// A body may be as slow as it likes for so long.
const GRACE: Duration = Duration::from_secs(10);

impl<'e, S: Side> Exchange<'e, S> {
    pub(super) fn poll_wait(
        &mut self,
        cx: &mut Context<'_>,
        first: &mut Trial<'e>,
        second: &mut Option<Trial<'e>>,
        dialling: &mut Option<Dial<'e>>,
    ) -> Poll<Event> {
        match self.poll_body(cx, first, second.as_mut()) {
            // It may have been answered before it was all sent.
            Poll::Ready(Event::Lost(which, loss)) => {
                let trial = match (which, second.as_mut()) {
                    (Which::Second, Some(second)) => second,
                    _ => first,
                };
                return match trial
                    .poll_hear(cx, self.head.method, |head, text| self.hear(head, text))
                {
                    Poll::Ready(Ok(begun)) => Poll::Ready(Event::Answered(which, begun)),
                    _ => Poll::Ready(Event::Lost(which, loss)),
                };
            }
            Poll::Ready(event) => return Poll::Ready(event),
            Poll::Pending => {}
        }
        let trials = [
            (Which::First, Some(&mut *first)),
            (Which::Second, second.as_mut()),
        ];
        for (which, trial) in trials {
            let Some(trial) = trial else {
                continue;
            };
            match trial.poll_hear(cx, self.head.method, |head, text| self.hear(head, text)) {
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
        let half = self.guest.half();
        let is_gone = self.reader.is_done() && self.client.poll_gone(cx, half).is_ready();
        if is_gone || self.client.poll_reset(cx).is_ready() {
            return Poll::Ready(Event::Gone);
        }
        if self.late.is_some() && self.client.timer().poll(cx).is_ready() {
            // It is late; how late it may be at most has not changed.
            let late = self.late.take().unwrap_or_default();
            let rest = self.patience().saturating_sub(late);
            self.client.timer().set(clock::now(), rest);
            let is_here = first.has_begun_answer();
            if alone && !is_here && first.upstream().is_some_and(|one| self.has_other(one)) {
                return Poll::Ready(Event::Doubt);
            }
        }
        match self.client.timer().poll(cx) {
            // While there is no room for more of the body, it is the origin that takes nothing.
            Poll::Ready(()) if !self.reader.is_done() && self.window.has_room() => {
                if !self.client.is_unread() {
                    return Poll::Ready(Event::Slow);
                }
                // It is we who do not read.
                let patience = self.patience();
                self.client.timer().set(clock::now(), patience);
                self.client.timer().poll(cx).map(|()| Event::Slow)
            }
            Poll::Ready(()) if self.is_mute => {
                self.is_mute = false;
                Poll::Ready(Event::Lost(Which::First, Loss::Mute))
            }
            Poll::Ready(()) => Poll::Ready(Event::Late),
            Poll::Pending => Poll::Pending,
        }
    }

    /// What the watch says of the first trial's connection; whether it is to be doubted.
    fn poll_word(
        &mut self,
        cx: &mut Context<'_>,
        first: &mut Trial<'_>,
        alone: bool,
    ) -> Poll<Event> {
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
                    self.mind(upstream.line().endpoint());
                }
            }
        }
        Poll::Pending
    }

    /// An endpoint that fell silent for good is not waited for: whoever has no second try there is told so
    /// after a moment, in which it may be back. One that only refuses connections may be ending in order,
    /// and answer what it has.
    fn mind(&mut self, endpoint: EndpointId) {
        let is_mute = self.behind.origin().look(|snapshot| {
            let mut endpoints = snapshot.view().endpoints.iter();
            let own = endpoints.find(|one| one.id == endpoint);
            own.is_some_and(|own| {
                let cause = own.failure.as_ref().map(|failure| failure.cause);
                let silence = [
                    Cause::Silent,
                    Cause::TimedOut,
                    Cause::Frozen,
                    Cause::Unreachable,
                ];
                own.health == Health::Down && cause.is_some_and(|cause| silence.contains(&cause))
            })
        });
        if self.reader.is_done() && std::mem::replace(&mut self.is_mute, is_mute) != is_mute {
            self.late = None;
            let patience = if is_mute { MUTE } else { self.patience() };
            self.client.timer().set(clock::now(), patience);
        }
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

    /// Whether there is another endpoint in good standing.
    fn has_other(&self, upstream: &Upstream) -> bool {
        let own = upstream.line().endpoint();
        let origin = self.behind.origin();
        origin.look(|snapshot| !pool::others(snapshot, own).is_empty())
    }

    /// Carries the body on: to every trial, as it comes.
    pub(super) fn poll_body(
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
                    Poll::Ready(Err(loss)) => return Poll::Ready(Event::Lost(which, loss)),
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
                    let carried = self.record.bytes_out + self.window.end();
                    let ways = self.ways.as_deref_mut();
                    if ways.is_some_and(|ways| !ways.carries(carried)) {
                        return Poll::Ready(Event::UsedUp);
                    }
                    if !self.client.is_unread() && self.is_trickling() {
                        return Poll::Ready(Event::Slow);
                    }
                    let patience = self.patience();
                    self.client.timer().set(clock::now(), patience);
                }
                Poll::Ready(Ok(false)) => return Poll::Ready(Event::Gone),
                Poll::Ready(Err(())) => return Poll::Ready(Event::Broken),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Whether the body comes more slowly than it may.
    fn is_trickling(&self) -> bool {
        let least = self.guest.limits().body_rate;
        if least == 0 || self.reader.is_done() {
            return false;
        }
        let lasted = self.record.began.elapsed();
        let held = self.record.held;
        let seconds = lasted.saturating_sub(held).saturating_sub(GRACE).as_secs();
        self.window.end() < least.saturating_mul(seconds)
    }

    /// How long whoever has the next word may take: the client, of its body, or the origin. Once the
    /// answer has begun it may be either, as in a conversation.
    pub(super) fn patience(&self) -> Duration {
        if self.record.first_byte.is_some() {
            self.behind.settings().idle
        } else if self.reader.is_done() {
            self.behind.settings().first_byte
        } else {
            self.guest.limits().stall
        }
    }
}

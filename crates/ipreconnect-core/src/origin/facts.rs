//! What each fact changes.

use std::time::{Duration, Instant};

use super::endpoint::{AGAIN, Endpoint, FAST};
use super::{
    Action, Event, Health, Notice, OnDown, Order, Pending, Phase, ProbeKind, Purpose, Supervisor,
};
use crate::address::EndpointId;
use crate::detector::Opinion;
use crate::failure::{Cause, Failure};
use crate::freeze::{Answers, Verdict};
use crate::watchdog::Found;

/// An origin that is down for so long takes an endpoint that was found frozen for better than none.
const ALONE: Duration = Duration::from_secs(3);

impl Supervisor {
    pub(super) fn apply(&mut self, now: Instant, event: Event, out: &mut Vec<Action>) {
        match event {
            Event::Started => {
                self.started = true;
                self.add_fixed(now, out);
            }
            Event::Named { entry, found } => self.named(now, entry, &found, out),
            Event::ProbeAnswered { order, took } => self.probe_answered(now, order, took, out),
            Event::ProbeFailed { order, failure } => self.probe_failed(now, order, failure, out),
            Event::ProbeSilent { order } => self.probe_silent(now, order, out),
            Event::Dialled { endpoint, took } => self.dialled(now, endpoint, took, out),
            Event::DialFailed { endpoint, failure } => {
                self.dial_failed(now, endpoint, failure, out);
            }
            Event::DialHung { endpoint } => self.dial_hung(now, endpoint),
            Event::LinkLost { endpoint, .. } => self.link_lost(now, endpoint),
            Event::PathSilent { endpoint } => self.path_silent(now, endpoint),
            Event::Traffic { endpoint, at } => self.traffic(endpoint, at),
            Event::Answers {
                endpoint,
                worker,
                answers,
            } => self.answers(now, endpoint, worker, answers, out),
            Event::Held { waiting } => self.waiting = waiting,
            Event::ReleaseFailed => self.release.failed(now),
            Event::NetworkChanged | Event::Resumed => self.begin_again(now),
            Event::ReconnectAsked => {
                self.draining = false;
                self.endpoints.values_mut().for_each(Endpoint::absolve);
                self.begin_again(now);
            }
            Event::DrainAsked => self.draining = true,
            Event::PreferAsked { address } => self.prefer(address, out),
            Event::Elapsed => {}
        }
    }

    fn probe_answered(
        &mut self,
        now: Instant,
        order: Order,
        took: Duration,
        out: &mut Vec<Action>,
    ) {
        let Some(pending) = self.pending.remove(&order) else {
            return;
        };
        if pending.purpose == Purpose::Watchdog {
            self.watchdog_answered(now, Found::Reachable, out);
        }
        let Some(endpoint) = self.endpoints.get_mut(&pending.endpoint) else {
            return;
        };
        match pending.kind {
            ProbeKind::Handshake | ProbeKind::Proof | ProbeKind::Question => {
                endpoint.path.observe(took);
            }
            ProbeKind::HangUp => endpoint.freeze.closed(now, took),
        }
        if endpoint.canary == Some(order) {
            endpoint.canary = None;
        }
        if !pending.kind.disproves(endpoint.needs) {
            // Whoever answers there has proven nothing.
            return;
        }
        if endpoint.needs == ProbeKind::HangUp && pending.kind == ProbeKind::Handshake {
            // The kernel of a frozen process answers too; but a verdict is of use only beside another
            // endpoint that serves, and this one may be wrong.
            let alone =
                self.phase == Phase::Down && now.saturating_duration_since(self.since) >= ALONE;
            if !alone {
                return;
            }
            endpoint.absolve();
        }
        self.succeeded(now, pending.endpoint, out);
    }

    fn probe_failed(
        &mut self,
        now: Instant,
        order: Order,
        failure: Failure,
        out: &mut Vec<Action>,
    ) {
        let Some(pending) = self.pending.remove(&order) else {
            return;
        };
        if pending.purpose == Purpose::Watchdog {
            self.watchdog_answered(now, Found::Unreachable, out);
            return;
        }
        let Some(endpoint) = self.endpoints.get_mut(&pending.endpoint) else {
            return;
        };
        if pending.kind == ProbeKind::HangUp {
            endpoint.freeze.inconclusive();
        }
        if endpoint.canary == Some(order) {
            endpoint.canary = None;
        }
        if !failure.cause.is_ours() {
            let answered = failure.cause.is_answered();
            // Where a kernel refuses, resets or cannot be reached, another process may stand next.
            if answered || pending.kind == ProbeKind::Handshake {
                endpoint.absolve();
            }
            if answered && endpoint.health == Health::Down && !failure.cause.is_refusal() {
                self.round.answered();
            }
        }
        match pending.purpose {
            Purpose::Health => self.failed(now, pending.endpoint, failure, out),
            Purpose::Learn | Purpose::Convict | Purpose::Canary | Purpose::Watchdog => {
                endpoint.check_by(now);
            }
        }
    }

    fn probe_silent(&mut self, now: Instant, order: Order, out: &mut Vec<Action>) {
        let Some(pending) = self.pending.get_mut(&order) else {
            return;
        };
        let Some(endpoint) = self.endpoints.get_mut(&pending.endpoint) else {
            return;
        };
        match pending.purpose {
            Purpose::Learn => {
                endpoint.freeze.unanswered(now);
                self.pending.remove(&order);
                out.push(Action::Cancel { order });
            }
            Purpose::Convict => {
                let Verdict::Frozen = endpoint.freeze.unanswered(now) else {
                    return;
                };
                pending.purpose = Purpose::Canary;
                endpoint.canary = Some(order);
                let id = pending.endpoint;
                self.lose(now, id, Failure::new(Cause::Frozen), out);
                if let Some(endpoint) = self.endpoints.get_mut(&id) {
                    endpoint.needs = ProbeKind::HangUp;
                }
            }
            Purpose::Health | Purpose::Canary | Purpose::Watchdog => {
                pending.purpose = Purpose::Canary;
                endpoint.canary.get_or_insert(order);
            }
        }
    }

    fn dialled(&mut self, now: Instant, id: EndpointId, took: Duration, out: &mut Vec<Action>) {
        self.watchdog.moved();
        let Some(endpoint) = self.endpoints.get_mut(&id) else {
            return;
        };
        endpoint.path.observe(took);
        if endpoint.needs == ProbeKind::HangUp {
            return;
        }
        endpoint.won = Some(now);
        self.release.served(now);
        if endpoint.needs == ProbeKind::Question {
            // It can be connected to, which nobody doubted.
            return;
        }
        self.succeeded(now, id, out);
    }

    fn dial_failed(
        &mut self,
        now: Instant,
        id: EndpointId,
        failure: Failure,
        out: &mut Vec<Action>,
    ) {
        if failure.cause.is_ours() {
            // It says nothing about the endpoint; who waits tries again at the hold's pace.
            if let Some(endpoint) = self.endpoints.get_mut(&id)
                && endpoint.cramp(now)
            {
                let address = endpoint.address.clone();
                out.push(Action::Tell(Notice::NoRoom { address, failure }));
            }
            return;
        }
        self.doubt_name_of(id);
        self.failed(now, id, failure, out);
    }

    fn dial_hung(&mut self, now: Instant, id: EndpointId) {
        if let Some(endpoint) = self.endpoints.get_mut(&id)
            && endpoint.is_second_hang(now)
            && endpoint.believes_silence(now)
        {
            endpoint.suspect(now, Failure::new(Cause::TimedOut), true);
            self.doubt_name_of(id);
        }
    }

    fn path_silent(&mut self, now: Instant, id: EndpointId) {
        if let Some(endpoint) = self.endpoints.get_mut(&id)
            && endpoint.believes_silence(now)
        {
            endpoint.suspect(now, Failure::new(Cause::Silent), true);
        }
    }

    /// A reset link is a reason to look, not a verdict: servers reset single connections for reasons
    /// of their own.
    fn link_lost(&mut self, now: Instant, id: EndpointId) {
        self.doubt_name_of(id);
        if let Some(endpoint) = self.endpoints.get_mut(&id)
            && endpoint.health == Health::Up
            && endpoint
                .proven
                .is_none_or(|proven| now.saturating_duration_since(proven) >= AGAIN)
        {
            endpoint.check_by(now);
        }
    }

    fn traffic(&mut self, id: EndpointId, at: Instant) {
        let Some(endpoint) = self.endpoints.get_mut(&id) else {
            return;
        };
        if endpoint.health == Health::Up {
            endpoint.proven = endpoint.proven.max(Some(at));
        }
    }

    fn answers(
        &mut self,
        now: Instant,
        id: EndpointId,
        worker: u16,
        answers: Answers,
        out: &mut Vec<Action>,
    ) {
        let Some(endpoint) = self.endpoints.get_mut(&id) else {
            return;
        };
        endpoint.freeze.report(worker, answers);
        if self.settings.passive.is_some() {
            endpoint.window.add(now, &answers.tally);
            self.has_answers |= !answers.tally.is_empty();
        }
        let convicted = endpoint.needs == ProbeKind::HangUp && endpoint.health == Health::Down;
        if convicted && answers.latest_asked > Some(endpoint.since) {
            endpoint.freeze.disproved(now);
            endpoint.absolve();
            self.succeeded(now, id, out);
        }
    }

    fn succeeded(&mut self, now: Instant, id: EndpointId, out: &mut Vec<Action>) {
        let served = self.has_rival(now, id);
        let Some(endpoint) = self.endpoints.get_mut(&id) else {
            return;
        };
        let opinion = endpoint.detector.succeeded();
        if endpoint.health == Health::Down && served && opinion != Opinion::Good {
            endpoint.check_by(now + FAST);
            return;
        }
        let (was, since) = (endpoint.health, endpoint.since);
        endpoint.prove(now);
        endpoint.next_check = None;
        let canary = endpoint.canary.take();
        if was == Health::Down {
            out.push(Action::Tell(Notice::EndpointUp {
                address: endpoint.address.clone(),
                away: now.saturating_duration_since(since),
            }));
        }
        if let Some(order) = canary {
            self.pending.remove(&order);
            out.push(Action::Cancel { order });
        }
        if was == Health::Down && !self.any_down() {
            self.round.reset();
        }
    }

    fn failed(&mut self, now: Instant, id: EndpointId, failure: Failure, out: &mut Vec<Action>) {
        let Some(endpoint) = self.endpoints.get_mut(&id) else {
            return;
        };
        if failure.cause.is_ours() {
            endpoint.check_by(now + FAST);
            if endpoint.health != Health::Up {
                endpoint.failure = Some(failure.clone());
                self.failure = Some(failure);
            }
            return;
        }
        if endpoint.health == Health::Down {
            endpoint.detector.reset();
            if endpoint.needs != ProbeKind::HangUp {
                let is_news = failure.cause.is_refusal() && !endpoint.is_refused();
                endpoint.note_refusal(now, &failure);
                endpoint.failure = Some(failure.clone());
                if is_news {
                    out.push(Action::Tell(Notice::EndpointDown {
                        address: endpoint.address.clone(),
                        failure: failure.clone(),
                        doubted: Duration::ZERO,
                    }));
                }
                self.failure = Some(failure);
            }
            self.doubt_name_of(id);
            return;
        }
        if failure.cause.is_refusal() {
            // One proof is enough, and another try would give the same.
            self.lose(now, id, failure, out);
            return;
        }
        let answered = failure.cause.is_answered();
        match endpoint.detector.failed() {
            Opinion::Bad => self.lose(now, id, failure, out),
            Opinion::None | Opinion::Good | Opinion::Better | Opinion::Doubtful => {
                endpoint.suspect(now, failure, false);
                endpoint.next_check = Some(now + if answered { AGAIN } else { FAST });
                self.doubt_name_of(id);
            }
        }
    }

    fn lose(&mut self, now: Instant, id: EndpointId, failure: Failure, out: &mut Vec<Action>) {
        let first_loss = !self.any_down();
        let Some(endpoint) = self.endpoints.get_mut(&id) else {
            return;
        };
        let doubted = match endpoint.health {
            Health::Suspect => now.saturating_duration_since(endpoint.since),
            Health::Unknown | Health::Up | Health::Down => Duration::ZERO,
        };
        endpoint.lose(now, failure.clone());
        out.push(Action::Tell(Notice::EndpointDown {
            address: endpoint.address.clone(),
            failure: failure.clone(),
            doubted,
        }));
        if self.settings.on_down == OnDown::Close {
            out.push(Action::CloseLinks { endpoint: id });
        }
        if first_loss {
            self.round.reset();
        }
        if failure.cause.is_answered() && !failure.cause.is_refusal() {
            self.round.answered();
        }
        self.failure = Some(failure);
        self.doubt_name_of(id);
        self.cancel_where(out, |pending| {
            pending.endpoint == id
                && pending.kind == ProbeKind::Handshake
                && pending.purpose == Purpose::Health
        });
    }

    /// The world may be another one: nothing that failed before counts.
    fn begin_again(&mut self, now: Instant) {
        self.round.reset();
        for name in &mut self.names {
            name.doubt();
        }
        for endpoint in self.endpoints.values_mut() {
            endpoint.freeze.forget_requests();
            if endpoint.health != Health::Down {
                endpoint.check_by(now);
            }
        }
    }

    pub(super) fn any_down(&self) -> bool {
        self.endpoints
            .values()
            .any(|endpoint| endpoint.health == Health::Down)
    }

    fn doubt_name_of(&mut self, id: EndpointId) {
        if let Some(endpoint) = self.endpoints.get(&id)
            && let Some(name) = self.names.get_mut(endpoint.entry.0 as usize)
        {
            name.doubt();
        }
    }

    pub(super) fn cancel_where(
        &mut self,
        out: &mut Vec<Action>,
        mut matches: impl FnMut(&Pending) -> bool,
    ) {
        self.pending.retain(|order, pending| {
            let cancelled = matches(pending);
            if cancelled {
                out.push(Action::Cancel { order: *order });
            }
            !cancelled
        });
    }
}

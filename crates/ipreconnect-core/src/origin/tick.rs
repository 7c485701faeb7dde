//! What is due now, and when the next thing is.

use std::time::{Duration, Instant};

use super::round::{Demand, Turn};
use super::{Action, Health, Notice, OnReturn, Pending, ProbeKind, Purpose, Supervisor, Wakeup};
use crate::address::EndpointId;
use crate::balance::Standing;
use crate::failure::{Cause, Failure};
use crate::freeze::{Rivals, Suspicion};

/// Probes of one endpoint that may be under way at once.
const CONCURRENT: usize = 8;
/// An order that was not answered for so much longer than its patience is lost.
const GRACE: Duration = Duration::from_secs(2);
/// Between two looks at a lost endpoint while another one serves.
const LOST: Duration = Duration::from_secs(1);
/// A canary is renewed after this, in case something on the way has forgotten the connection.
const CANARY: Duration = Duration::from_secs(600);

impl Supervisor {
    pub(super) fn tick(&mut self, now: Instant, out: &mut Vec<Action>) {
        self.expire(now, out);
        self.drop_departed(now, out);
        self.judge_freezes(now, out);
        self.judge_answers(now, out);
        self.check(now, out);
        self.try_again(now, out);
        self.look_up(now, out);
        self.end_quiet(now, out);
        self.let_go(now, out);
        self.watch(now, out);
    }

    /// An order that is never answered must not stop anything for ever.
    fn expire(&mut self, now: Instant, out: &mut Vec<Action>) {
        let expired: Vec<_> = self
            .pending
            .iter()
            .filter(|(_, pending)| now >= pending.expires)
            .map(|(order, pending)| (*order, *pending))
            .collect();
        for (order, pending) in expired {
            out.push(Action::Cancel { order });
            if let Some(endpoint) = self.endpoints.get_mut(&pending.endpoint)
                && endpoint.canary == Some(order)
            {
                endpoint.canary = None;
            }
            let event = super::Event::ProbeFailed {
                order,
                failure: Failure::new(Cause::TimedOut),
            };
            self.apply(now, event, out);
        }
    }

    fn judge_freezes(&mut self, now: Instant, out: &mut Vec<Action>) {
        let ids: Vec<EndpointId> = self.endpoints.keys().copied().collect();
        for id in ids {
            let rivals = if self.has_rival(now, id) {
                Rivals::Some
            } else {
                Rivals::None
            };
            let Some(endpoint) = self.endpoints.get_mut(&id) else {
                continue;
            };
            if endpoint.health != Health::Up {
                continue;
            }
            match endpoint.freeze.judge(now, rivals) {
                Suspicion::None => {}
                Suspicion::Learn { patience } => {
                    self.probe(now, id, ProbeKind::HangUp, Purpose::Learn, patience, out);
                }
                Suspicion::Check { patience } => {
                    self.probe(now, id, ProbeKind::HangUp, Purpose::Convict, patience, out);
                }
            }
        }
    }

    /// Heartbeats, and closer looks at what is in doubt or on its way back.
    fn check(&mut self, now: Instant, out: &mut Vec<Action>) {
        let ids: Vec<EndpointId> = self.endpoints.keys().copied().collect();
        for id in ids {
            let spread = self
                .dice
                .between(Duration::ZERO, self.settings.interval / 10);
            let underway = self.underway(id);
            let Some(endpoint) = self.endpoints.get_mut(&id) else {
                continue;
            };
            if endpoint.due(&self.settings).is_none_or(|due| now < due) {
                continue;
            }
            let kind = endpoint.probe_kind(&self.settings);
            let patience = endpoint.patience(&self.settings);
            endpoint.looked(now, spread);
            if underway < CONCURRENT {
                self.probe(now, id, kind, Purpose::Health, patience, out);
            }
        }
    }

    /// The one schedule for what is lost.
    fn try_again(&mut self, now: Instant, out: &mut Vec<Action>) {
        if !self.any_down() {
            let nameless = self.endpoints.is_empty() && !self.names.is_empty();
            if !nameless {
                return;
            }
        }
        let demand = self.demand(now);
        self.last_demand = demand;
        match self.round.turn(now, demand, &mut self.dice) {
            Turn::NotYet => {}
            Turn::GivenUp => self.give_up(out),
            Turn::Now => {
                for name in &mut self.names {
                    name.doubt();
                }
                let lost: Vec<EndpointId> = self
                    .endpoints
                    .values()
                    .filter(|endpoint| endpoint.health == Health::Down)
                    .map(|endpoint| endpoint.id)
                    .collect();
                for id in lost {
                    self.try_lost(now, id, demand, out);
                }
            }
        }
    }

    fn try_lost(&mut self, now: Instant, id: EndpointId, demand: Demand, out: &mut Vec<Action>) {
        let limit = if demand == Demand::Waiting {
            CONCURRENT
        } else {
            1
        };
        if self.underway(id) >= limit {
            return;
        }
        let Some(endpoint) = self.endpoints.get(&id) else {
            return;
        };
        if endpoint.refused_until.is_some_and(|until| now < until) {
            return;
        }
        // With a canary out, only its death is of interest: one handshake tells.
        let kind = match endpoint.canary {
            Some(_) => ProbeKind::Handshake,
            None => endpoint.probe_kind(&self.settings),
        };
        let patience = endpoint.patience(&self.settings);
        self.probe(now, id, kind, Purpose::Health, patience, out);
    }

    fn give_up(&mut self, out: &mut Vec<Action>) {
        out.push(Action::Tell(Notice::GivenUp {
            attempts: self.round.attempts(),
        }));
        self.dismiss(out);
    }

    /// Links go back to a preferred endpoint when its quiet period ends.
    fn end_quiet(&mut self, now: Instant, out: &mut Vec<Action>) {
        let mut ended = Vec::new();
        for endpoint in self.endpoints.values_mut() {
            if endpoint.health == Health::Up && endpoint.quiet.ends(now) {
                ended.push(endpoint.id);
            }
        }
        let ended = ended.iter().filter_map(|id| self.endpoints.get(id));
        let priorities = ended.map(|endpoint| self.priority_at(endpoint));
        let Some(best) = priorities.min() else {
            return;
        };
        if self.settings.on_return == OnReturn::Close {
            for endpoint in self.endpoints.values() {
                if self.priority_at(endpoint) > best {
                    out.push(Action::CloseLinks {
                        endpoint: endpoint.id,
                    });
                }
            }
        }
    }

    /// Lets waiting clients go while the origin can be dialled.
    fn let_go(&mut self, now: Instant, out: &mut Vec<Action>) {
        if self.round.is_given_up() && !self.is_usable(now) {
            self.dismiss(out);
            return;
        }
        if self.draining || !self.is_usable(now) {
            return;
        }
        let count = self.release.release(now, self.waiting);
        if count > 0 {
            self.waiting -= count;
            out.push(Action::Release { count });
        }
    }

    fn dismiss(&mut self, out: &mut Vec<Action>) {
        if self.waiting > 0 {
            self.waiting = 0;
            out.push(Action::Dismiss);
        }
    }

    fn demand(&self, now: Instant) -> Demand {
        if self
            .endpoints
            .values()
            .any(|endpoint| self.standing(now, endpoint) == Standing::Good)
        {
            Demand::Served(self.settings.interval.min(LOST))
        } else if self.waiting > 0 {
            Demand::Waiting
        } else {
            Demand::Idle
        }
    }

    fn is_usable(&self, now: Instant) -> bool {
        self.endpoints
            .values()
            .any(|endpoint| self.standing(now, endpoint) != Standing::Bad)
    }

    fn underway(&self, id: EndpointId) -> usize {
        self.pending
            .values()
            .filter(|pending| pending.endpoint == id && pending.purpose == Purpose::Health)
            .count()
    }

    pub(super) fn probe(
        &mut self,
        now: Instant,
        id: EndpointId,
        kind: ProbeKind,
        purpose: Purpose,
        patience: Duration,
        out: &mut Vec<Action>,
    ) {
        let Some(endpoint) = self.endpoints.get(&id) else {
            return;
        };
        let (entry, address) = (endpoint.entry, endpoint.address.clone());
        let order = self.order();
        let stays = match kind {
            ProbeKind::Handshake | ProbeKind::Proof | ProbeKind::Question => GRACE,
            ProbeKind::HangUp => CANARY,
        };
        self.pending.insert(
            order,
            Pending {
                endpoint: id,
                kind,
                purpose,
                expires: now + patience + stays,
            },
        );
        out.push(Action::Probe {
            order,
            endpoint: id,
            entry,
            address,
            kind,
            patience,
        });
    }

    /// The earliest of all that is due.
    pub(super) fn due(&self) -> Option<Wakeup> {
        if !self.started {
            return None;
        }
        let mut earliest: Option<Wakeup> = None;
        let mut consider = |at: Option<Instant>, why: &'static str| {
            if let Some(at) = at
                && earliest.is_none_or(|wakeup| at < wakeup.at)
            {
                earliest = Some(Wakeup { at, why });
            }
        };
        for endpoint in self.endpoints.values() {
            consider(endpoint.due(&self.settings), "a heartbeat is due");
            let ejected = endpoint.ejection.current();
            consider(
                ejected.map(|ejected| ejected.until),
                "an endpoint was set aside long enough",
            );
            if endpoint.health == Health::Up {
                consider(endpoint.quiet.pending(), "a quiet period ends");
                consider(endpoint.freeze.wakeup(), "silence becomes odd");
            }
        }
        consider(self.next_lookup(), "a lookup is due");
        consider(self.next_departure(), "an address left its name");
        consider(
            self.pending.values().map(|pending| pending.expires).min(),
            "an order was never answered",
        );
        let trying = self.any_down() || self.endpoints.is_empty();
        if trying {
            consider(self.round.next(self.last_demand), "an attempt is due");
        }
        if self.waiting > 0 {
            if self.view().is_usable() {
                consider(self.release.wakeup(), "waiting clients may leave");
            }
            if !self.draining {
                consider(self.watchdog.wakeup(), "the watchdog looks for progress");
            }
        }
        earliest
    }
}

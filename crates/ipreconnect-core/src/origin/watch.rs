//! The watchdog at work: a probe that goes by nothing that is remembered, and the rebuild.

use std::time::Instant;

use super::{Action, EndpointId, Health, Notice, ProbeKind, Purpose, Supervisor};
use crate::hold::Release;
use crate::watchdog::{Cure, Found, Verdict};

impl Supervisor {
    pub(super) fn watch(&mut self, now: Instant, out: &mut Vec<Action>) {
        if self.draining || self.watchdog.observe(now, self.waiting) == Verdict::Fine {
            return;
        }
        // In turns, those found frozen too: with nobody else to serve, a doubt is better than nothing.
        self.watched = self.watched.wrapping_add(1);
        let turn = self.watched.checked_rem(self.endpoints.len());
        match turn.and_then(|turn| self.endpoints.keys().nth(turn).copied()) {
            Some(id) => {
                let endpoint = self.endpoints.get(&id);
                // Those found frozen are looked at like the others; a proof is never replaced by less.
                let kind = match endpoint.map(|endpoint| endpoint.probe_kind(&self.settings)) {
                    Some(kind @ (ProbeKind::Proof | ProbeKind::Question)) => kind,
                    _ => ProbeKind::Handshake,
                };
                let patience = self.settings.connect_timeout;
                self.probe(now, id, kind, Purpose::Watchdog, patience, out);
            }
            None => self.watchdog_answered(now, Found::Unreachable, out),
        }
        for name in &mut self.names {
            name.doubt();
        }
    }

    pub(super) fn watchdog_answered(&mut self, now: Instant, found: Found, out: &mut Vec<Action>) {
        if self.watchdog.probed(now, found) == Cure::Rebuild {
            out.push(Action::Tell(Notice::Rebuilt));
            self.rebuild(now, out);
        }
    }

    /// Forgets all that could be wrong; what is configured and who waits stays.
    fn rebuild(&mut self, now: Instant, out: &mut Vec<Action>) {
        self.cancel_where(out, |_| true);
        self.release = Release::new();
        self.round.reset();
        for name in &mut self.names {
            name.forget();
        }
        let ids: Vec<EndpointId> = self.endpoints.keys().copied().collect();
        for id in ids {
            if let Some(endpoint) = self.endpoints.get_mut(&id) {
                endpoint.rebuild(now, &self.settings);
                endpoint.turn(now, Health::Unknown);
            }
        }
    }
}

//! Endpoints whose real answers are far worse than those of the others are set aside for a while.

use std::time::{Duration, Instant};

use super::{Action, Health, Notice, Supervisor};
use crate::address::EndpointId;
use crate::outlier::{Ejection, Offence, Tally, judge};

/// Between two judgements.
const PAUSE: Duration = Duration::from_millis(250);

impl Supervisor {
    /// Ends ejections whose time is over, and judges by what has come since the last time.
    pub(super) fn judge_answers(&mut self, now: Instant, out: &mut Vec<Action>) {
        for endpoint in self.endpoints.values_mut() {
            if !endpoint.ejection.ends(now) {
                continue;
            }
            endpoint.window.clear();
            if endpoint.health == Health::Up {
                let address = endpoint.address.clone();
                out.push(Action::Tell(Notice::Readmitted { address }));
            }
        }
        let is_early = self
            .judged
            .is_some_and(|judged| now.saturating_duration_since(judged) < PAUSE);
        if is_early || !std::mem::take(&mut self.has_answers) {
            return;
        }
        self.judged = Some(now);
        while let Some((id, offence)) = self.worst(now) {
            self.eject(now, id, offence, out);
        }
    }

    /// Takes back what was decided by answers: they are not judged any more.
    pub(super) fn readmit_all(&mut self) {
        for endpoint in self.endpoints.values_mut() {
            endpoint.ejection = Ejection::default();
            endpoint.window.clear();
        }
    }

    /// The worst endpoint that may be set aside.
    fn worst(&self, now: Instant) -> Option<(EndpointId, Offence)> {
        let passive = self.settings.passive?;
        let ejected = self.endpoints.values();
        let ejected = ejected.filter(|endpoint| endpoint.ejection.current().is_some());
        if !passive.allows(ejected.count(), self.endpoints.len()) {
            return None;
        }
        let judged: Vec<(EndpointId, Tally)> = self
            .endpoints
            .values()
            .filter(|one| one.health == Health::Up && one.ejection.current().is_none())
            .map(|one| (one.id, one.window.tally(now)))
            .collect();
        let offences = judged.iter().filter_map(|(id, own)| {
            let others = judged.iter().filter(|(other, _)| other != id);
            let others: Vec<Tally> = others.map(|(_, tally)| *tally).collect();
            Some((*id, judge(own, &others)?))
        });
        offences
            .filter(|(id, _)| self.has_rival(now, *id))
            .max_by_key(|(_, offence)| offence.gravity())
    }

    fn eject(&mut self, now: Instant, id: EndpointId, offence: Offence, out: &mut Vec<Action>) {
        let Some(endpoint) = self.endpoints.get_mut(&id) else {
            return;
        };
        let pause = endpoint.ejection.begin(now, offence);
        out.push(Action::Tell(Notice::Ejected {
            address: endpoint.address.clone(),
            offence,
            pause,
        }));
    }
}

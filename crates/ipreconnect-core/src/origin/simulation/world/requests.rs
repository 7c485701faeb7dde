//! Requests, shared among endpoints as a worker shares them.

use std::time::Duration;

use super::{Fault, MS, World};
use crate::balance::{Balance, Candidate, Policy};
use crate::freeze::Answers;
use crate::origin::Event;
use crate::outlier::Tally;

impl World {
    /// Requests of so many in 10 ms, each to the endpoint that a worker chooses. Returns how many each
    /// endpoint had.
    pub(in crate::origin::simulation) fn requests(
        &mut self,
        duration: Duration,
        policy: Policy,
        rate: u32,
    ) -> Vec<u32> {
        let seed = self.dice.below(u64::MAX);
        let mut balance = Balance::new(policy, seed, 10_000 * MS);
        let (end, mut order) = (self.now + duration, Vec::new());
        let mut shares = vec![0; self.faults.len()];
        while self.now < end {
            self.run_for(10 * MS);
            let mut tallies = vec![Tally::default(); self.faults.len()];
            for _ in 0..rate {
                let hash = self.dice.below(u64::MAX);
                let candidates = self.candidates();
                balance.order(self.now, &candidates, Some(hash), &mut order);
                let Some(first) = order.first() else {
                    continue;
                };
                let view = self.supervisor.view();
                let index = self.index_of(&view.endpoints[*first].address);
                shares[index] += 1;
                self.count(index, &mut tallies[index]);
            }
            for (index, tally) in tallies.into_iter().enumerate() {
                if let (Some(endpoint), false) = (self.id_of(index), tally.is_empty()) {
                    self.hear(Event::Answers {
                        endpoint,
                        worker: 0,
                        answers: Answers {
                            answered: tally.answered,
                            slowest: 2 * MS,
                            last_answer: Some(self.now),
                            tally,
                            ..Answers::default()
                        },
                    });
                }
            }
            self.check_ceiling();
        }
        shares
    }

    fn count(&mut self, index: usize, tally: &mut Tally) {
        let fault = self.faults[index];
        if !fault.serves() {
            tally.lost += 1;
            return;
        }
        tally.answered += 1;
        let usual = self.dice.below(100) > 0;
        tally.failed += u32::from(fault == Fault::Failing || !usual);
        let slowest = if fault == Fault::Slow { 800 } else { 8 };
        tally
            .times
            .add(self.dice.between(slowest * MS / 4, slowest * MS));
    }

    fn candidates(&self) -> Vec<Candidate> {
        let view = self.supervisor.view();
        let candidates = view.endpoints.iter().map(|endpoint| Candidate {
            key: endpoint.id.0,
            priority: endpoint.priority,
            weight: endpoint.weight,
            open: 0,
            latency: endpoint.latency,
            usable: endpoint.standing,
            returned: endpoint.returned,
            by_weight: endpoint.by_weight,
        });
        candidates.collect()
    }

    pub(in crate::origin::simulation) fn random_fault(&mut self) {
        let index = usize::try_from(self.dice.below(self.faults.len() as u64)).unwrap();
        let fault = [
            Fault::None,
            Fault::Failing,
            Fault::Slow,
            Fault::Refusing,
            Fault::Silent,
        ][usize::try_from(self.dice.below(5)).unwrap()];
        self.set(index, fault);
    }

    pub(in crate::origin::simulation) fn is_usable(&self) -> bool {
        self.supervisor.view().is_usable()
    }

    /// Which endpoints are set aside.
    pub(in crate::origin::simulation) fn ejected(&self) -> Vec<usize> {
        let view = self.supervisor.view();
        let ejected = view.endpoints.iter().filter(|one| one.ejected.is_some());
        ejected.map(|one| self.index_of(&one.address)).collect()
    }

    fn check_ceiling(&self) {
        let (ejected, count) = (self.ejected().len(), self.supervisor.view().endpoints.len());
        self.check(ejected * 2 <= count, "too many are set aside");
    }
}

//! `cargo xtask bench recovery`: how long clients of a raw TCP proxy suffer from a fault of the origin.

use std::collections::BTreeMap;

use super::figures::middle;
use super::frame::{Bench, Outcome};
use super::namespace::in_namespaces;
use super::proxy::Program;
use super::round::Order;
use super::scenario::Scenario;
use super::sight::Sight;

impl Bench for Scenario {
    const NAME: &'static str = "recovery";
    type Seen = Sight;

    fn play(self, program: &Program) -> Outcome<Sight> {
        let order = Order {
            scenario: self,
            program: program.clone(),
        };
        in_namespaces("bench-round", &order)
    }

    fn line(sight: &Sight) -> String {
        format!(
            "lost {} in flight and {} after, stalled {} ms, answered {:.1} %",
            sight.lost_in_flight,
            sight.lost_after,
            sight.longest_stall,
            sight.share()
        )
    }

    fn preface() -> (&'static str, &'static str) {
        (
            "Recovery of raw TCP",
            "Load: 20 clients, each a new connection and a request every 20 ms whatever became of the earlier \
             ones (1,000 requests a second), a deadline of 5 s, times from the scheduled moment. The proxy has \
             one core, origins and load another; each round has a network namespace of its own. Peers are \
             configured as a careful operator would, for each scenario's own topology: checks every 500 ms with two \
             failures or successes (Envoy, HAProxy, the latter every 100 ms once in doubt), \
             `max_fails=1 fail_timeout=1s` (nginx), connect timeouts of 500 ms, as many retries as bridge some \
             seconds, redispatch; HAProxy does not check an origin without a backup, because it would turn clients \
             away as soon as it is down. Where the origin is known by a name, HAProxy has a `resolvers` section (asked every \
             second), nginx `resolve` in its upstream (a variable and `resolver` before 1.27.3), Envoy `STRICT_DNS` with \
             the time to live respected. The configurations are in `xtask/src/bench/proxy.rs`. ipreconnect has its default settings.\n\n\
             *Lost in flight*: requests without an answer that had begun when the fault struck; the struck origin \
             may have had them. *Lost after*: those that began later. *Longest stall*: the longest time between two \
             consecutive answers. *First new answer*: from the fault to the first answer to a request that began \
             after it. Times in ms.",
        )
    }

    fn section(self) -> String {
        let extra = match self.mended_after() {
            Some(_) => (" outage | used again after |", "---:|---:|"),
            None if self.moves() => (" old address until |", "---:|"),
            None => ("", ""),
        };
        format!(
            "\n## {}\n\n{} Aim: {}.\n\n\
             | proxy | lost in flight | lost after | longest stall | first new answer | answered, % |{} how requests were lost |\n\
             |---|---:|---:|---:|---:|---:|{}---|\n",
            self.title(),
            self.story(),
            self.aim(),
            extra.0,
            extra.1,
        )
    }

    fn columns(self) -> usize {
        match self.mended_after() {
            Some(_) => 8,
            None if self.moves() => 7,
            None => 6,
        }
    }

    fn cells(self, seen: &[&Sight]) -> Vec<String> {
        let middle = |of: &dyn Fn(&Sight) -> Option<f64>| {
            middle(seen.iter().map(|sight| of(sight)).collect())
        };
        let mut cells = vec![
            middle(&|sight| Some(sight.lost_in_flight as f64)),
            middle(&|sight| Some(sight.lost_after as f64)),
            middle(&|sight| Some(sight.longest_stall)),
            middle(&|sight| sight.first_new_answer),
            middle(&|sight| Some((sight.share() * 10.0).floor() / 10.0)),
        ];
        if self.mended_after().is_some() {
            cells.push(middle(&|sight| sight.outage));
            cells.push(middle(&|sight| sight.used_again));
        } else if self.moves() {
            cells.push(middle(&|sight| sight.left_after));
        }
        cells.push(kinds(seen));
        cells
    }
}

/// The kinds of all losses of all rounds, the most frequent first.
fn kinds(seen: &[&Sight]) -> String {
    let mut kinds: BTreeMap<&str, u64> = BTreeMap::new();
    for (kind, count) in seen.iter().flat_map(|sight| &sight.kinds) {
        *kinds.entry(kind).or_default() += count;
    }
    let mut kinds: Vec<_> = kinds.into_iter().collect();
    kinds.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let names: Vec<&str> = kinds.into_iter().map(|(kind, _)| kind).collect();
    match names.is_empty() {
        true => "–".to_owned(),
        false => names.join(", "),
    }
}

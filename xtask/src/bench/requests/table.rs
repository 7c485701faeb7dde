//! The table of requests in faults.

use super::case::Case;
use super::load::Seen;
use super::play::Order;
use crate::bench::figures::middle;
use crate::bench::frame::{Bench, Outcome, head};
use crate::bench::namespace::in_namespaces;
use crate::bench::proxy::Program;

const COLUMNS: &[&str] = &[
    "GETs failed",
    "longest stall, ms",
    "outage, ms",
    "POSTs failed",
    "of these, outcome unknown",
    "executed twice",
    "told wrongly",
];

impl Bench for Case {
    const NAME: &'static str = "requests";
    type Seen = Seen;

    fn play(self, program: &Program) -> Outcome<Seen> {
        let order = Order {
            case: self,
            program: program.clone(),
        };
        in_namespaces("bench-requests-round", &order)
    }

    fn line(seen: &Seen) -> String {
        format!(
            "{} of {} GETs failed, longest {:.1} ms; {} of {} POSTs failed, {} unknown, {} twice, {} told wrongly",
            seen.asked_in_vain,
            seen.asked,
            seen.longest,
            seen.posted_in_vain,
            seen.posted,
            seen.unknown,
            seen.executed_twice,
            seen.told_wrongly
        )
    }

    fn preface() -> (&'static str, &'static str) {
        (
            "Requests in faults of their origin",
            "20 clients ask (GET) and 20 others post, each every 20 ms on a connection that it keeps, with a patience of \
             5 s; an answer takes the origin 2 ms. The origins write down every POST before they answer, into a file \
             that survives them: *executed twice* counts requests that were written down more than once, *told wrongly* \
             those of which the client was told that they were not processed, and they were. *Longest stall*: from the \
             moment a GET was due to its answer. The proxy has one core, origins and clients another; each round has a \
             network namespace of its own. Peers are configured as a careful operator would who does not want a POST \
             executed twice; see `xtask/src/bench/http/proxies.rs`. ipreconnect has its default settings.",
        )
    }

    fn section(self) -> String {
        head(self.title(), self.story(), COLUMNS)
    }

    fn columns(self) -> usize {
        COLUMNS.len()
    }

    fn cells(self, seen: &[&Seen]) -> Vec<String> {
        let of = |figure: &dyn Fn(&Seen) -> Option<f64>| {
            middle(seen.iter().map(|one| figure(one)).collect())
        };
        vec![
            of(&|seen| Some(seen.asked_in_vain as f64)),
            of(&|seen| Some(seen.longest)),
            match self.back_after() {
                Some(_) => of(&|seen| seen.outage),
                None => "–".to_owned(),
            },
            of(&|seen| Some(seen.posted_in_vain as f64)),
            of(&|seen| Some(seen.unknown as f64)),
            of(&|seen| Some(seen.executed_twice as f64)),
            of(&|seen| Some(seen.told_wrongly as f64)),
        ]
    }
}

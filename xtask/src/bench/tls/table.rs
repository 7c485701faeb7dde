//! The table of TLS.

use super::play::Order;
use super::task::Task;
use crate::bench::figures::middle;
use crate::bench::frame::{Bench, Outcome, head};
use crate::bench::namespace::in_namespaces;
use crate::bench::proxy::Program;

impl Bench for Task {
    const NAME: &'static str = "tls";
    /// The task's figures, in their order.
    type Seen = Vec<f64>;

    fn play(self, program: &Program) -> Outcome<Vec<f64>> {
        let order = Order {
            task: self,
            program: program.clone(),
        };
        in_namespaces("bench-tls-round", &order)
    }

    fn line(figures: &Vec<f64>) -> String {
        let words: Vec<String> = figures.iter().map(|one| format!("{one:.3}")).collect();
        words.join("  ")
    }

    fn preface() -> (&'static str, &'static str) {
        (
            "TLS: what it costs",
            "The proxy has one core and one worker, origin and clients another; each round has a network \
             namespace of its own. Clients verify nothing, so that the proxy is the one who works. Processor time is \
             that of all threads of all processes of the proxy, kernel included, the connection to the origin with \
             it. Sessions may be resumed by tickets at all of them. The configurations are in \
             `xtask/src/bench/proxy.rs`.",
        )
    }

    fn section(self) -> String {
        head(self.title(), self.story(), self.figures())
    }

    fn columns(self) -> usize {
        self.figures().len()
    }

    fn cells(self, seen: &[&Vec<f64>]) -> Vec<String> {
        (0..self.columns())
            .map(|figure| middle(seen.iter().map(|one| one.get(figure).copied()).collect()))
            .collect()
    }
}

//! The table of HTTP.

use super::play::Order;
use super::task::Task;
use crate::bench::figures::middle;
use crate::bench::frame::{Bench, Outcome, head};
use crate::bench::namespace::in_namespaces;
use crate::bench::proxy::Program;

impl Bench for Task {
    const NAME: &'static str = "http";
    /// The task's figures, in their order.
    type Seen = Vec<f64>;

    fn play(self, program: &Program) -> Outcome<Vec<f64>> {
        let order = Order {
            task: self,
            program: program.clone(),
        };
        in_namespaces("bench-http-round", &order)
    }

    fn line(figures: &Vec<f64>) -> String {
        let words: Vec<String> = figures.iter().map(|one| format!("{one:.3}")).collect();
        words.join("  ")
    }

    fn preface() -> (&'static str, &'static str) {
        (
            "HTTP: what it costs",
            "The proxy has one core and one worker, origin and clients another; each round has a network \
             namespace of its own. All keep connections to the origin, pass on the client's address, try again on \
             another connection, check the origin's health where they can (nginx does not), and write a line for each \
             request into a file. Processor time is that of all threads of all processes of the proxy, kernel \
             included. The configurations are in `xtask/src/bench/http/proxies.rs`.",
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

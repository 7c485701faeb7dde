//! Which servers one lookup asks, and whose answer counts.
//!
//! In order, the next server joins when the one before it is slow or has failed. A positive answer
//! counts at once, whoever gives it. A negative one counts only when every server that is preferred to
//! the one that gave it has had its say, even one that is set aside: where the first server knows
//! internal names and the second does not, the second's quick "no such name" must not win.

use std::time::{Duration, Instant};

/// How the servers take part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Strategy {
    /// In order; the next one joins after a while, or at once on failure.
    #[default]
    Order,
    /// All at once.
    Race,
}

/// A server that is silent for so long is joined by the next one.
const HEDGE: Duration = Duration::from_millis(300);

/// What a server said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Records.
    Positive,
    /// That there are none.
    Negative,
    /// Nothing of use.
    Failed,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Ask this server.
    Ask(usize),
    /// Wait for an answer, until then.
    WaitUntil(Instant),
    /// Wait for an answer.
    Wait,
    /// The lookup is over.
    Done(Decision),
}

/// Whose answer counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// This server's records.
    Positive(usize),
    /// This server's word that there are none.
    Negative {
        /// The server.
        server: usize,
        /// Whether another one said the same.
        is_confirmed: bool,
    },
    /// Nobody's.
    Failed,
}

/// One lookup. Servers go by their numbers: the lower, the more their word counts.
#[derive(Debug)]
pub struct Inquiry {
    strategy: Strategy,
    /// The servers in the order in which they are asked, and what each said.
    servers: Vec<(usize, Option<Reply>)>,
    asked: usize,
    /// When the last one was asked.
    last: Option<Instant>,
    /// When the first of a race said that there is nothing.
    negative: Option<Instant>,
}

impl Inquiry {
    /// A lookup that asks these servers, in this order.
    #[must_use]
    pub fn new(strategy: Strategy, order: &[usize]) -> Self {
        Self {
            strategy,
            servers: order.iter().map(|server| (*server, None)).collect(),
            asked: 0,
            last: None,
            negative: None,
        }
    }

    /// A server replied. The first reply of each counts.
    pub fn replied(&mut self, now: Instant, server: usize, reply: Reply) {
        let asked = self.servers.iter_mut().take(self.asked);
        for (known, said) in asked {
            if *known == server && said.is_none() {
                *said = Some(reply);
                if reply == Reply::Negative {
                    self.negative.get_or_insert(now);
                }
            }
        }
    }

    /// What to do now.
    pub fn step(&mut self, now: Instant) -> Step {
        if let Some(decision) = self.decide(now) {
            return Step::Done(decision);
        }
        let waiting = self.asked_ones().any(|(_, said)| said.is_none());
        if let Some((server, _)) = self.servers.get(self.asked).copied() {
            let joins = match (self.strategy, self.last) {
                (Strategy::Race, _) | (_, None) => now,
                (Strategy::Order, Some(_)) if self.negative.is_some() => now,
                (Strategy::Order, Some(last)) if waiting => last + HEDGE,
                (Strategy::Order, Some(_)) => now,
            };
            if now < joins {
                return Step::WaitUntil(joins);
            }
            self.asked += 1;
            self.last = Some(now);
            return Step::Ask(server);
        }
        match self.negative {
            Some(at) if self.strategy == Strategy::Race => Step::WaitUntil(at + HEDGE),
            _ => Step::Wait,
        }
    }

    fn asked_ones(&self) -> impl Iterator<Item = &(usize, Option<Reply>)> {
        self.servers.iter().take(self.asked)
    }

    fn decide(&self, now: Instant) -> Option<Decision> {
        let mut said = self.asked_ones();
        if let Some((server, _)) = said.find(|(_, said)| *said == Some(Reply::Positive)) {
            return Some(Decision::Positive(*server));
        }
        let patient_until = self.negative.map(|at| at + HEDGE);
        let impatient = self.strategy == Strategy::Race && patient_until.is_some_and(|t| now >= t);
        let mut by_rank: Vec<&(usize, Option<Reply>)> = self.servers.iter().collect();
        by_rank.sort_unstable_by_key(|(server, _)| *server);
        for (server, said) in by_rank {
            match said {
                Some(Reply::Negative) => {
                    let others = self.asked_ones();
                    let agreed = others.filter(|(_, said)| *said == Some(Reply::Negative));
                    return Some(Decision::Negative {
                        server: *server,
                        is_confirmed: agreed.count() > 1,
                    });
                }
                // In a race the preferred one is waited for, but not for long.
                None if !impatient => return None,
                Some(_) | None => {}
            }
        }
        Some(Decision::Failed)
    }
}

#[cfg(test)]
mod tests;

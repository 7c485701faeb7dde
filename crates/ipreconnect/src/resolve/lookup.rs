//! One lookup: the servers asked as the inquiry says, and what came of it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use ipreconnect_core::failure::{Cause, Failure};
use ipreconnect_core::names::{Decision, Fault, Inquiry, Outcome, Panel, Reply, Step, Strategy};
use tokio::task::JoinSet;

use super::answer::{Question, Record};
use super::ask::{Answer, Said, Server};
use super::visits::Visit;
use crate::clock;

/// A server that was silent for so long when another one answered counts as failed.
const SILENT: std::time::Duration = std::time::Duration::from_millis(250);

/// Whom to ask.
#[derive(Clone, Debug)]
pub(super) struct Circle {
    pub(super) servers: Arc<[Arc<Server>]>,
    pub(super) panel: Arc<Mutex<Panel>>,
    pub(super) strategy: Strategy,
}

/// What a lookup brought, and of whom.
#[derive(Debug)]
pub(super) struct Brought {
    pub(super) outcome: Outcome<Record>,
    pub(super) server: Option<usize>,
}

/// What one server of a lookup did.
struct Asked {
    server: usize,
    at: Instant,
    said: Option<Said>,
}

impl Circle {
    /// Asks, beginning with another server than `last` if there is one.
    ///
    /// Cancel safety: dropping the future gives the questions up.
    pub(super) async fn look_up(&self, question: &Question, last: Option<usize>) -> Brought {
        self.look_up_in(question, last, None).await
    }

    /// The same in somebody's turn, which lasts until all that it was begun for has ended.
    pub(super) async fn look_up_in(
        &self,
        question: &Question,
        last: Option<usize>,
        turn: Option<Arc<Visit>>,
    ) -> Brought {
        let order = self.with_panel(|panel| panel.order(clock::now(), last));
        let mut inquiry = Inquiry::new(self.strategy, &order);
        let mut under_way: JoinSet<(usize, Said)> = JoinSet::new();
        let mut asked: Vec<Asked> = Vec::new();
        let decision = loop {
            let until = match inquiry.step(clock::now()) {
                Step::Done(decision) => break decision,
                Step::Ask(server) => {
                    self.ask(&mut under_way, server, question, turn.as_ref());
                    asked.push(Asked {
                        server,
                        at: clock::now(),
                        said: None,
                    });
                    continue;
                }
                Step::WaitUntil(until) => Some(until),
                Step::Wait => None,
            };
            let Some((server, said)) = next(&mut under_way, until).await else {
                // A question that panicked is told by its task, and is never answered.
                if under_way.is_empty() {
                    for one in asked.iter().filter(|one| one.said.is_none()) {
                        inquiry.replied(clock::now(), one.server, Reply::Failed);
                    }
                }
                continue;
            };
            inquiry.replied(clock::now(), server, reply(&said));
            if let Some(asked) = asked.iter_mut().find(|asked| asked.server == server) {
                asked.said = Some(said);
            }
        };
        self.note(&asked, decision);
        conclude(question, asked, decision)
    }

    fn ask(
        &self,
        under_way: &mut JoinSet<(usize, Said)>,
        index: usize,
        question: &Question,
        turn: Option<&Arc<Visit>>,
    ) {
        let (server, question) = (self.servers.get(index).cloned(), question.clone());
        let turn = turn.cloned();
        under_way.spawn(async move {
            let said = match server {
                Some(server) => server.ask(&question, turn).await,
                None => Said::failed(&question, "there is no such server"),
            };
            (index, said)
        });
    }

    fn with_panel<T>(&self, work: impl FnOnce(&mut Panel) -> T) -> T {
        work(&mut self.panel.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What the lookup showed of the servers. A name that no server can answer says nothing about
    /// them.
    fn note(&self, asked: &[Asked], decision: Decision) {
        let now = clock::now();
        let contradicted = !matches!(decision, Decision::Failed);
        self.with_panel(|panel| {
            for one in asked {
                match &one.said {
                    Some(Said::Answer(_) | Said::Nothing { .. }) => panel.worked(one.server),
                    Some(Said::Failed { is_away: true, .. }) => {
                        panel.failed(now, one.server, Fault::Failed);
                    }
                    Some(Said::Failed { failure, .. }) if contradicted => {
                        let fault = match failure.cause {
                            Cause::Bogus => Fault::Lied,
                            _ => Fault::Failed,
                        };
                        panel.failed(now, one.server, fault);
                    }
                    Some(Said::Failed { .. }) => {}
                    None if now.saturating_duration_since(one.at) >= SILENT => {
                        panel.failed(now, one.server, Fault::Failed);
                    }
                    None => {}
                }
            }
        });
    }
}

fn reply(said: &Said) -> Reply {
    match said {
        Said::Answer(_) => Reply::Positive,
        Said::Nothing { .. } => Reply::Negative,
        Said::Failed { .. } => Reply::Failed,
    }
}

/// The next answer, or none by then.
async fn next(
    under_way: &mut JoinSet<(usize, Said)>,
    until: Option<Instant>,
) -> Option<(usize, Said)> {
    let joined = under_way.join_next();
    let joined = match until {
        Some(until) => tokio::time::timeout_at(until.into(), joined).await.ok()?,
        None => joined.await,
    };
    joined?.ok()
}

fn conclude(question: &Question, asked: Vec<Asked>, decision: Decision) -> Brought {
    let said = |server: usize| {
        let mut asked = asked.iter();
        asked.find(|one| one.server == server)?.said.clone()
    };
    match decision {
        Decision::Positive(server) => {
            if let Some(Said::Answer(answer)) = said(server) {
                let Answer {
                    records,
                    ttl,
                    security,
                } = answer;
                return Brought {
                    outcome: Outcome::Found {
                        records,
                        ttl,
                        security,
                    },
                    server: Some(server),
                };
            }
        }
        Decision::Negative {
            server,
            is_confirmed,
        } => {
            if let Some(Said::Nothing { failure, ttl }) = said(server) {
                return Brought {
                    outcome: Outcome::Nothing {
                        failure,
                        ttl,
                        is_confirmed,
                    },
                    server: Some(server),
                };
            }
        }
        Decision::Failed => {}
    }
    // The preferred server's word is the one to look into.
    let mut failures = asked.into_iter().filter_map(|one| match one.said {
        Some(Said::Failed { failure, .. }) => Some((one.server, failure)),
        _ => None,
    });
    let first = failures.by_ref().min_by_key(|(server, _)| *server);
    let failure = first.map_or_else(
        || Failure::with_detail(Cause::ResolverFailed, question.to_string()),
        |(_, failure)| failure,
    );
    Brought {
        outcome: Outcome::Failed(failure),
        server: None,
    }
}

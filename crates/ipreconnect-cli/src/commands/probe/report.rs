//! What a probe found, as programs read it.

use std::time::Duration;

use ipreconnect::core::failure::{Cause, Failure};
use ipreconnect::inspect::{Cost, FirstByte, Inspection, Shaken};
use ipreconnect::resolve::{Record, ServerAnswer};
use ipreconnect::tls::Day;
use serde::Serialize;

use crate::admin::view::SCHEMA;
use crate::args::Phase;

#[derive(Debug, Serialize)]
pub(super) struct All<'a> {
    schema: u32,
    probes: &'a [Report],
}

pub(super) fn all(probes: &[Report]) -> All<'_> {
    All {
        schema: SCHEMA,
        probes,
    }
}

/// One target taken apart.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) target: String,
    pub(super) resolvers: Vec<Answered>,
    /// Until the name led to an address.
    pub(super) resolve_us: Option<u64>,
    pub(super) resolve_failure: Option<String>,
    pub(super) denied: Vec<String>,
    pub(super) addresses: Vec<Dialled>,
    pub(super) tls: Option<Tls>,
    pub(super) first_byte: Option<First>,
    pub(super) total_us: Option<u64>,
    pub(super) cold: Option<Rounds>,
    pub(super) warm: Option<Rounds>,
    pub(super) slo: Vec<Limit>,
}

/// What one resolver said to one question.
#[derive(Debug, Serialize)]
pub(super) struct Answered {
    pub(super) resolver: String,
    pub(super) name: String,
    pub(super) kind: String,
    pub(super) took_us: u64,
    pub(super) records: Vec<String>,
    pub(super) ttl_s: Option<u64>,
    pub(super) dnssec: Option<String>,
    pub(super) failure: Option<String>,
}

/// How one address answered.
#[derive(Debug, Serialize)]
pub(super) struct Dialled {
    pub(super) address: String,
    pub(super) took_us: u64,
    pub(super) won: bool,
    pub(super) failure: Option<String>,
}

/// TLS, and who answered.
#[derive(Debug, Serialize)]
pub(super) struct Tls {
    pub(super) took_us: u64,
    /// The handshake of a second connection, if it resumed the session of the first.
    pub(super) resumed_us: Option<u64>,
    pub(super) version: String,
    pub(super) alpn: Option<String>,
    pub(super) certificate: Option<Shown>,
    pub(super) failure: Option<String>,
    pub(super) advice: Option<&'static str>,
}

/// What a server showed of itself.
#[derive(Debug, Serialize)]
pub(super) struct Shown {
    pub(super) names: Vec<String>,
    pub(super) issuer: String,
    pub(super) valid_from: String,
    pub(super) valid_until: String,
    /// As `pins` takes it.
    pub(super) key: String,
}

/// Who speaks first.
#[derive(Debug, Serialize)]
pub(super) struct First {
    /// `server`, `client` or `closed`.
    pub(super) who: &'static str,
    pub(super) after_us: u64,
}

/// Many connections, each with what it cost, in microseconds, and those that failed.
#[derive(Debug, Default, Serialize)]
pub(super) struct Rounds {
    pub(super) resolve_us: Spread,
    pub(super) connect_us: Spread,
    /// None without TLS.
    pub(super) tls_us: Option<Spread>,
    pub(super) total_us: Spread,
    pub(super) failed: u32,
    pub(super) failure: Option<String>,
    #[serde(skip)]
    costs: Vec<Cost>,
}

/// Least, median, 90th percentile and most.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct Spread {
    pub(super) least: u64,
    pub(super) median: u64,
    pub(super) p90: u64,
    pub(super) most: u64,
}

/// One limit, and what it was held against: the median of the cold connections, or the one connection.
#[derive(Debug, Serialize)]
pub(super) struct Limit {
    pub(super) phase: &'static str,
    pub(super) limit_us: u64,
    /// None if that phase did not come about.
    pub(super) took_us: Option<u64>,
    pub(super) holds: bool,
}

impl Report {
    pub(super) fn new(target: String, inspection: &Inspection, slo: &[(Phase, Duration)]) -> Self {
        let resolvers = inspection.asked.iter().flat_map(|asked| {
            let question = &asked.question;
            asked.answers.iter().map(|answer| {
                let (name, kind) = (question.name.to_string(), question.kind.to_string());
                answered(answer, name, kind)
            })
        });
        let winner = inspection.winner();
        let first = inspection.first_byte.map(first);
        let total = winner.map(|winner| {
            let spoke = match inspection.first_byte {
                Some(FirstByte::Server(after)) => after,
                _ => Duration::ZERO,
            };
            let tls = inspection
                .tls
                .as_ref()
                .map_or(Duration::ZERO, |tls| tls.took);
            micros(inspection.resolve.unwrap_or_default() + winner.took + tls + spoke)
        });
        Self {
            target,
            resolvers: resolvers.collect(),
            resolve_us: inspection.resolve.map(micros),
            resolve_failure: inspection.resolve_failure.as_ref().map(ToString::to_string),
            denied: inspection.denied.clone(),
            addresses: inspection
                .dialled
                .iter()
                .map(|dialled| Dialled {
                    address: dialled.address.to_string(),
                    took_us: micros(dialled.took),
                    won: dialled.won,
                    failure: dialled.failure.as_ref().map(ToString::to_string),
                })
                .collect(),
            tls: inspection.tls.as_ref().map(tls),
            first_byte: first,
            total_us: total,
            cold: None,
            warm: None,
            slo: Vec::with_capacity(slo.len()),
        }
    }

    /// Holds every limit against what was measured.
    pub(super) fn judge(&mut self, slo: &[(Phase, Duration)]) {
        for (phase, limit) in slo {
            let took = self.took(*phase);
            let limit = micros(*limit);
            self.slo.push(Limit {
                phase: phase.word(),
                limit_us: limit,
                took_us: took,
                holds: took.is_some_and(|took| took <= limit),
            });
        }
    }

    fn took(&self, phase: Phase) -> Option<u64> {
        let cold = self.cold.as_ref().filter(|cold| !cold.costs.is_empty());
        let winner = self.addresses.iter().find(|address| address.won);
        match (phase, cold) {
            (Phase::Resolve, Some(cold)) => Some(cold.resolve_us.median),
            (Phase::Connect, Some(cold)) => Some(cold.connect_us.median),
            (Phase::Total, Some(cold)) => Some(cold.total_us.median),
            (Phase::Resolve, None) => self.resolve_us.filter(|_| self.resolve_failure.is_none()),
            (Phase::Connect, None) => winner.map(|winner| winner.took_us),
            (Phase::Total, None) => self.total_us,
            (Phase::FirstByte, _) => {
                let first = self.first_byte.as_ref();
                first
                    .filter(|first| first.who == "server")
                    .map(|first| first.after_us)
            }
        }
    }

    /// Whether there is a connection, and every limit holds.
    pub(super) fn is_fine(&self) -> bool {
        let connected = self.addresses.iter().any(|address| address.won);
        let verified = self.tls.as_ref().is_none_or(|tls| tls.failure.is_none());
        connected && verified && self.slo.iter().all(|limit| limit.holds)
    }
}

impl Rounds {
    pub(super) fn add(&mut self, cost: Result<Cost, Failure>) {
        match cost {
            Ok(cost) => self.costs.push(cost),
            Err(failure) => {
                self.failed += 1;
                self.failure = Some(failure.to_string());
            }
        }
    }

    /// Takes the measure of all.
    pub(super) fn measured(mut self) -> Self {
        let of = |part: fn(&Cost) -> Duration| spread(self.costs.iter().map(part));
        let (resolve, connect) = (of(|cost| cost.resolve), of(|cost| cost.connect));
        let total = of(|cost| cost.resolve + cost.connect + cost.tls.unwrap_or_default());
        let is_tls = self.costs.iter().any(|cost| cost.tls.is_some());
        self.tls_us = is_tls.then(|| of(|cost| cost.tls.unwrap_or_default()));
        (self.resolve_us, self.connect_us, self.total_us) = (resolve, connect, total);
        self
    }

    pub(super) fn count(&self) -> usize {
        self.costs.len() + self.failed as usize
    }
}

fn spread(times: impl Iterator<Item = Duration>) -> Spread {
    let mut times: Vec<u64> = times.map(micros).collect();
    times.sort_unstable();
    let at = |share: usize| times.get((times.len() * share / 100).min(times.len().max(1) - 1));
    Spread {
        least: times.first().copied().unwrap_or(0),
        median: at(50).copied().unwrap_or(0),
        p90: at(90).copied().unwrap_or(0),
        most: times.last().copied().unwrap_or(0),
    }
}

fn answered(answer: &ServerAnswer, name: String, kind: String) -> Answered {
    let (records, ttl, dnssec, failure) = match &answer.answer {
        Ok((records, ttl, security)) => (
            records.iter().map(Record::to_string).collect(),
            Some(ttl.as_secs()),
            Some(security.to_string()),
            None,
        ),
        Err(failure) => (Vec::new(), None, None, Some(words(failure))),
    };
    Answered {
        resolver: answer.server.to_string(),
        name,
        kind,
        took_us: micros(answer.took),
        records,
        ttl_s: ttl,
        dnssec,
        failure,
    }
}

/// A resolver's failure without what its row says already.
fn words(failure: &Failure) -> String {
    match (failure.cause, &failure.detail) {
        (Cause::NoSuchName, _) => "no such records".to_owned(),
        (Cause::ResolverFailed, Some(detail)) => {
            let words = detail.rsplit(": ").next();
            words.unwrap_or(detail).to_owned()
        }
        (cause, _) => cause.words().to_owned(),
    }
}

fn tls(tls: &Shaken) -> Tls {
    Tls {
        took_us: micros(tls.took),
        resumed_us: tls.resumed.map(micros),
        version: tls.version.clone(),
        alpn: tls.alpn.clone(),
        certificate: tls.certificate.as_ref().map(|certificate| Shown {
            names: certificate.names.to_vec(),
            issuer: certificate.issuer.to_string(),
            valid_from: Day(certificate.not_before).to_string(),
            valid_until: Day(certificate.not_after).to_string(),
            key: certificate.key.to_string(),
        }),
        failure: tls.failure.as_ref().map(ToString::to_string),
        advice: tls.failure.as_ref().map(|failure| failure.cause.advice()),
    }
}

fn first(first: FirstByte) -> First {
    let (who, after) = match first {
        FirstByte::Server(after) => ("server", after),
        FirstByte::Client(after) => ("client", after),
        FirstByte::Closed(after) => ("closed", after),
    };
    First {
        who,
        after_us: micros(after),
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

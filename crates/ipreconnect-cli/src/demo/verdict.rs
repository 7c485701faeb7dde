//! What the clients saw, act by act.

use std::time::Duration;

use ipreconnect_lab::load::{Outcome, Report, Request};
use serde::Serialize;

use super::play::{Act, Play};

/// The longest time without an answer that may pass for unnoticed, with another origin there.
const UNNOTICED: Duration = Duration::from_secs(1);

/// What the clients saw in one act.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Seen {
    pub(super) act: &'static str,
    pub(super) at_ms: u128,
    pub(super) answered: usize,
    /// Lost, and in flight when the act began.
    pub(super) lost_in_flight: usize,
    /// Lost, and sent afterwards.
    pub(super) lost: usize,
    pub(super) longest_stall_ms: u128,
    #[serde(skip)]
    excused: Duration,
}

/// What the clients saw.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Verdict {
    pub(super) schema: u32,
    pub(super) offered: u64,
    pub(super) answered: u64,
    pub(super) lost_in_flight: usize,
    pub(super) lost: usize,
    pub(super) longest_stall_ms: u128,
    pub(super) acts: Vec<Seen>,
}

impl Verdict {
    pub(super) fn new(play: &Play, marks: &[Duration], report: &Report) -> Self {
        let ends = marks.iter().skip(1).copied().chain([play.length()]);
        let acts: Vec<Seen> = play
            .acts()
            .iter()
            .zip(marks)
            .zip(ends)
            .map(|((act, from), to)| see(*act, *from, to, report))
            .collect();
        Self {
            schema: crate::admin::view::SCHEMA,
            offered: report.offered(),
            answered: report.answered(),
            lost_in_flight: acts.iter().map(|seen| seen.lost_in_flight).sum(),
            lost: acts.iter().map(|seen| seen.lost).sum(),
            longest_stall_ms: report.longest_stall.as_millis(),
            acts,
        }
    }

    /// Nothing was lost but what was in flight, and no act left the clients without answers for
    /// longer than its fault explains.
    pub(super) fn holds(&self) -> bool {
        let stalled = |seen: &Seen| seen.longest_stall_ms > (UNNOTICED + seen.excused).as_millis();
        self.lost == 0 && !self.acts.iter().any(stalled)
    }
}

fn see(act: Act, from: Duration, to: Duration, report: &Report) -> Seen {
    let answered = |request: &&Request| request.outcome == Outcome::Answered;
    let mut ends: Vec<Duration> = report
        .requests
        .iter()
        .filter(answered)
        .map(Request::ended)
        .filter(|ended| (from..to).contains(ended))
        .collect();
    ends.sort_unstable();
    let edges = [from].into_iter().chain(ends.iter().copied());
    let gaps = edges.zip(ends.iter().copied().chain([to]));
    let stall = gaps
        .map(|(a, b)| b.saturating_sub(a))
        .max()
        .unwrap_or_default();
    let failed = || report.requests.iter().filter(|request| !answered(request));
    let in_flight = failed()
        .filter(|request| request.scheduled < from && request.ended() >= from)
        .count();
    let lost = failed()
        .filter(|request| (from..to).contains(&request.scheduled))
        .filter(|request| request.ended() < to)
        .count();
    Seen {
        act: act.title(),
        at_ms: from.as_millis(),
        answered: ends.len(),
        lost_in_flight: in_flight,
        lost,
        longest_stall_ms: stall.as_millis(),
        excused: match act {
            Act::KillBoth => act.length(),
            _ => Duration::ZERO,
        },
    }
}

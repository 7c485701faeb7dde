//! One endpoint: what is known of it, and what is due.

use std::fmt;
use std::time::{Duration, Instant};

use super::names::Left;
use super::{Check, EndpointView, Order, ProbeKind, Settings, Supervisor};
use crate::address::{Address, EndpointId, EntryId};
use crate::balance::Standing;
use crate::detector::Detector;
use crate::failover::Quiet;
use crate::failure::{Cause, Failure, Layer};
use crate::freeze::Freeze;
use crate::outlier::{Ejection, Window};
use crate::path::{HANG_FLOOR, PathHistory};

/// Between heartbeats of an endpoint in doubt, and of one that is coming back.
pub(super) const FAST: Duration = Duration::from_millis(250);
/// Before a second dial that makes a failure independent of the first.
pub(super) const AGAIN: Duration = Duration::from_millis(5);
/// Before another look at an address where another server answers.
const REFUSED: Duration = Duration::from_secs(1);
/// Two dials that hung within this time are evidence.
const HUNG_WINDOW: Duration = Duration::from_secs(1);
/// So long without a dial that failed on this machine ends the trouble.
const ROOM_AGAIN: Duration = Duration::from_secs(10);
/// After a suspicion that a probe disproved, silence is not believed for so long, doubling.
const DISPROVED_FIRST: Duration = Duration::from_secs(1);
const DISPROVED_LAST: Duration = Duration::from_secs(60);

/// What is known of an endpoint's health.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Health {
    /// Nothing yet.
    Unknown,
    /// Proven.
    Up,
    /// In doubt: looked at closely, used only if nothing better is there.
    Suspect,
    /// Lost.
    Down,
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unknown => "unknown",
            Self::Up => "up",
            Self::Suspect => "suspect",
            Self::Down => "down",
        })
    }
}

#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) id: EndpointId,
    pub(super) entry: EntryId,
    pub(super) address: Address,
    pub(super) weight: u32,
    /// Its place in the resolver's answer.
    pub(super) rank: u32,
    /// Its priority among the places that one entry leads to; 0 is preferred.
    pub(super) tier: u32,
    /// Whether clients are drawn by weight.
    pub(super) by_weight: bool,
    pub(super) health: Health,
    pub(super) since: Instant,
    pub(super) detector: Detector,
    pub(super) path: PathHistory,
    pub(super) quiet: Quiet,
    pub(super) freeze: Freeze,
    /// What became of requests of late, and what followed from it.
    pub(super) window: Window,
    pub(super) ejection: Ejection,
    pub(super) failure: Option<Failure>,
    /// The last time anything proved it.
    pub(super) proven: Option<Instant>,
    /// The last race it won.
    pub(super) won: Option<Instant>,
    /// The last probe sent.
    looked: Option<Instant>,
    /// Taken off the next heartbeat's interval, so that endpoints do not beat in step.
    spread: Duration,
    /// When to look at it next.
    pub(super) next_check: Option<Instant>,
    /// What it takes to prove it when it is down.
    pub(super) needs: ProbeKind,
    pub(super) canary: Option<Order>,
    /// It is another server, as far as can be proven, and is not looked at again before then.
    pub(super) refused_until: Option<Instant>,
    /// Why its address is no longer in the answer for its name, if it is not.
    pub(super) left: Option<Left>,
    hung: Option<(Instant, u32)>,
    by_silence: bool,
    disproved: Option<(Instant, Duration)>,
    /// The last dial that this machine had no room for.
    cramped: Option<Instant>,
}

impl Endpoint {
    pub(super) fn new(
        id: EndpointId,
        entry: EntryId,
        address: Address,
        settings: &Settings,
        now: Instant,
    ) -> Self {
        Self {
            id,
            entry,
            address,
            weight: 1,
            rank: 0,
            tier: 0,
            by_weight: false,
            health: Health::Unknown,
            since: now,
            detector: Detector::new(settings.thresholds),
            path: PathHistory::default(),
            quiet: Quiet::default(),
            freeze: Freeze::new(),
            window: Window::default(),
            ejection: Ejection::default(),
            failure: None,
            proven: None,
            won: None,
            looked: None,
            spread: Duration::ZERO,
            next_check: Some(now),
            needs: ProbeKind::Handshake,
            canary: None,
            refused_until: None,
            left: None,
            hung: None,
            by_silence: false,
            disproved: None,
            cramped: None,
        }
    }

    pub(super) fn turn(&mut self, now: Instant, health: Health) {
        if self.health != health {
            self.health = health;
            self.since = now;
        }
    }

    /// Forgets everything but where it is.
    pub(super) fn rebuild(&mut self, now: Instant, settings: &Settings) {
        let (entry, address) = (self.entry, self.address.clone());
        *self = Self {
            weight: self.weight,
            rank: self.rank,
            tier: self.tier,
            by_weight: self.by_weight,
            left: self.left,
            health: self.health,
            since: self.since,
            ..Self::new(self.id, entry, address, settings, now)
        };
    }

    /// When to look at it: by its heartbeat, or earlier where somebody asked for it.
    pub(super) fn due(&self, settings: &Settings) -> Option<Instant> {
        if self.health != Health::Up || settings.check == Check::Off {
            return self.next_check;
        }
        let seen = match settings.check {
            // Traffic does not say what the endpoint says of itself.
            Check::Question(_) => self.looked,
            // Real traffic is a better heartbeat than ours.
            Check::Off | Check::HalfOpen | Check::Proof => self.proven.max(self.looked),
        };
        let seen = seen.unwrap_or(self.since);
        let heartbeat = seen + settings.interval.saturating_sub(self.spread);
        Some(
            self.next_check
                .map_or(heartbeat, |next| next.min(heartbeat)),
        )
    }

    /// A probe was sent; the next one follows closely only while the endpoint is in doubt.
    pub(super) fn looked(&mut self, now: Instant, spread: Duration) {
        self.looked = Some(now);
        self.spread = spread;
        self.next_check = (self.health == Health::Suspect).then(|| now + FAST);
    }

    /// Looks again no later than `at`.
    pub(super) fn check_by(&mut self, at: Instant) {
        self.next_check = Some(self.next_check.map_or(at, |next| next.min(at)));
    }

    /// Counts a dial that hangs; true when it is the second of late.
    pub(super) fn is_second_hang(&mut self, now: Instant) -> bool {
        let count = match self.hung {
            Some((since, count)) if now.saturating_duration_since(since) <= HUNG_WINDOW => {
                count + 1
            }
            _ => 1,
        };
        self.hung = Some((now, count));
        count >= 2
    }

    /// Whether silence may be believed now.
    pub(super) fn believes_silence(&self, now: Instant) -> bool {
        self.disproved
            .is_none_or(|(since, pause)| now.saturating_duration_since(since) >= pause)
    }

    /// Turns a usable endpoint into one in doubt, to be looked at at once.
    pub(super) fn suspect(&mut self, now: Instant, failure: Failure, by_silence: bool) {
        if matches!(self.health, Health::Up | Health::Unknown) {
            self.turn(now, Health::Suspect);
            self.by_silence = by_silence;
            self.next_check = Some(now);
        }
        if self.health == Health::Suspect {
            if failure.cause == Cause::Unhealthy {
                self.needs = ProbeKind::Question;
            }
            self.failure = Some(failure);
        }
    }

    /// This machine had no room for a dial; true if that is news.
    pub(super) fn cramp(&mut self, now: Instant) -> bool {
        let last = self.cramped.replace(now);
        last.is_none_or(|last| now.saturating_duration_since(last) >= ROOM_AGAIN)
    }

    /// Proven: by a probe, or by a client's own dial.
    pub(super) fn prove(&mut self, now: Instant) {
        if self.health == Health::Suspect && std::mem::take(&mut self.by_silence) {
            let pause = self.disproved.map_or(DISPROVED_FIRST, |(_, pause)| {
                pause.saturating_mul(2).min(DISPROVED_LAST)
            });
            self.disproved = Some((now, pause));
        }
        self.hung = None;
        self.proven = Some(now);
        self.failure = None;
        self.needs = ProbeKind::Handshake;
        self.refused_until = None;
        self.quiet.returned(now);
        self.turn(now, Health::Up);
    }

    pub(super) fn lose(&mut self, now: Instant, failure: Failure) {
        self.quiet.lost(now);
        self.detector.reset();
        self.freeze.forget_requests();
        self.window.clear();
        self.hung = None;
        self.disproved = None;
        self.next_check = None;
        self.note_refusal(now, &failure);
        self.failure = Some(failure);
        self.turn(now, Health::Down);
    }

    /// What failed above the transport is disproved by nothing less.
    pub(super) fn note_refusal(&mut self, now: Instant, failure: &Failure) {
        if matches!(failure.layer(), Layer::Tls | Layer::Identity) {
            self.needs = ProbeKind::Proof;
        }
        if failure.cause == Cause::Unhealthy {
            self.needs = ProbeKind::Question;
        }
        self.refused_until = failure.cause.is_refusal().then(|| now + REFUSED);
    }

    /// Takes back that it is frozen; what its kernel answers counts again.
    pub(super) fn absolve(&mut self) {
        if self.needs == ProbeKind::HangUp {
            self.needs = ProbeKind::Handshake;
        }
    }

    /// Nobody is asked anything any more: what was answered badly counts no longer.
    pub(super) fn excuse(&mut self) {
        if self.needs == ProbeKind::Question {
            self.needs = ProbeKind::Handshake;
        }
    }

    /// How to look at it: by what it takes to prove it, or by more where that is the check.
    pub(super) fn probe_kind(&self, settings: &Settings) -> ProbeKind {
        match (self.needs, &settings.check) {
            (ProbeKind::Handshake | ProbeKind::Proof, Check::Question(_)) => ProbeKind::Question,
            (ProbeKind::Handshake, Check::Proof) => ProbeKind::Proof,
            (needs, _) => needs,
        }
    }

    /// Whether what answers there is another server.
    pub(super) fn is_refused(&self) -> bool {
        let cause = self.failure.as_ref().map(|failure| failure.cause);
        self.health == Health::Down && cause.is_some_and(Cause::is_refusal)
    }

    /// How long a probe of its present state waits.
    pub(super) fn patience(&self, settings: &Settings) -> Duration {
        if self.probe_kind(settings) == ProbeKind::Question {
            // Round trips do not say how long an answer takes.
            return match self.health {
                Health::Up | Health::Suspect => settings.timeout,
                Health::Unknown | Health::Down => settings.connect_timeout.max(settings.timeout),
            };
        }
        match self.health {
            Health::Up => settings.timeout,
            Health::Suspect => self
                .path
                .hangs_after()
                .max(HANG_FLOOR)
                .min(settings.timeout),
            Health::Unknown | Health::Down => settings.connect_timeout,
        }
    }

    pub(super) fn view(&self, priority: u32, standing: Standing) -> EndpointView {
        EndpointView {
            id: self.id,
            entry: self.entry,
            address: self.address.clone(),
            priority,
            weight: self.weight,
            health: self.health,
            standing,
            since: self.since,
            failure: self.failure.clone(),
            latency: self.path.smoothed(),
            hangs_after: self.path.hangs_after(),
            returned: self.quiet.returned_at().max(self.ejection.returned_at()),
            ejected: self.ejection.current(),
            by_weight: self.by_weight,
        }
    }
}

impl Supervisor {
    /// Whether an endpoint may be dialled, and how gladly.
    pub(super) fn standing(&self, now: Instant, endpoint: &Endpoint) -> Standing {
        match endpoint.health {
            Health::Down => Standing::Bad,
            Health::Suspect => Standing::Doubtful,
            Health::Unknown | Health::Up if self.has_left(now, endpoint) => Standing::Doubtful,
            Health::Unknown if self.awaits_proof(endpoint) => Standing::Doubtful,
            Health::Unknown => Standing::Good,
            Health::Up if endpoint.quiet.until().is_some_and(|until| now < until) => {
                Standing::Doubtful
            }
            Health::Up if endpoint.ejection.current().is_some() => Standing::Doubtful,
            Health::Up => Standing::Good,
        }
    }

    /// Whether its address left the name and another one is there to be preferred.
    fn has_left(&self, now: Instant, endpoint: &Endpoint) -> bool {
        match endpoint.left {
            None => false,
            Some(Left::Absent { until }) => now >= until,
            Some(Left::Moved { .. }) => self.is_replaced(endpoint.entry),
        }
    }

    /// Whether some endpoint other than `id` is proven and takes work.
    pub(super) fn has_rival(&self, now: Instant, id: EndpointId) -> bool {
        self.endpoints.values().any(|endpoint| {
            endpoint.id != id
                && endpoint.health == Health::Up
                && self.standing(now, endpoint) == Standing::Good
        })
    }
}

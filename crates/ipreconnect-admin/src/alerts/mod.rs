//! Telling people: what is wrong is found by looking, told when the [`Pager`] says so, and delivered at least once.
//!
//! It runs on a thread of its own. What is to be delivered is kept on disk until it was taken; a way out that is
//! slow, broken or away holds up no other one.

mod hooks;
mod outbox;
mod sink;
mod words;

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipreconnect::clock;
use ipreconnect::core::alert::{AlertSettings, Key, Page, PageKind, Pager, Severity, Trouble};
use tokio::sync::{Notify, watch};

use crate::gateway::Gateway;
use crate::history::Ledger;
use crate::moment::millis;
use crate::view::SightingView;
pub use hooks::{Hook, HookPlan, Hooks};
use outbox::Outbox;
pub use sink::Sink;
pub use words::Message;

/// Between two looks.
const LOOK: Duration = Duration::from_secs(1);
/// Between two looks at what changes by the day.
const SELDOM: Duration = Duration::from_secs(3600);
/// A certificate that ends so soon is told of, and so soon is told loudly.
const ENDS_SOON_DAYS: i64 = 14;
const ENDS_NOW_DAYS: i64 = 3;
/// A hold that is so full, in parts of a hundred, is told of.
const FULL: u64 = 80;
/// A machine that ran out of ports is well again after so long without.
const ROOM_AGAIN: Duration = Duration::from_secs(30);

/// Whom to tell, and when.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AlertPlan {
    /// When.
    pub settings: AlertSettings,
    /// Whom.
    pub sinks: Vec<Sink>,
    /// What this gateway is called.
    pub instance: String,
}

/// The alerts of a running gateway. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Alerts {
    plans: watch::Sender<AlertPlan>,
}

impl Alerts {
    /// Begins to look, and to tell, in a thread of its own.
    ///
    /// # Errors
    /// If there can be no thread, or no place on disk for what is to be told.
    pub fn begin(
        directory: &Path,
        plan: AlertPlan,
        gateway: Arc<dyn Gateway>,
        ledger: Ledger,
    ) -> io::Result<Self> {
        let (plans, planned) = watch::channel(plan.clone());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(4)
            .build()?;
        let outbox = Outbox::at(&directory.join("alerts.db"));
        std::thread::Builder::new()
            .name("alerts".to_owned())
            .spawn(move || {
                let watch = Watch {
                    pager: Pager::new(plan.settings),
                    gateway,
                    ledger,
                    outbox,
                    rung: Arc::default(),
                    plan,
                    failed_here: None,
                    cramped: None,
                    seldom: None,
                    down: BTreeSet::new(),
                };
                runtime.block_on(watch.run(planned));
            })?;
        Ok(Self { plans })
    }

    /// Goes by another plan from now on. What is queued for those who are in both stays.
    pub fn change(&self, plan: AlertPlan) {
        self.plans.send_replace(plan);
    }
}

/// Looks, and tells.
struct Watch {
    pager: Pager,
    plan: AlertPlan,
    gateway: Arc<dyn Gateway>,
    ledger: Ledger,
    outbox: Outbox,
    /// Rung when there is something to deliver.
    rung: Arc<Notify>,
    failed_here: Option<u64>,
    /// When a dial last found no room.
    cramped: Option<Instant>,
    seldom: Option<Instant>,
    /// Origins that were down, and were not up since.
    down: BTreeSet<String>,
}

impl Watch {
    async fn run(mut self, mut plans: watch::Receiver<AlertPlan>) {
        self.remember();
        let mut posts = self.open_posts();
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                changed = plans.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let plan = plans.borrow_and_update().clone();
                    self.pager.reconfigure(plan.settings);
                    self.plan = plan;
                    posts = self.open_posts();
                }
                _ = look.tick() => self.look().await,
            }
            // Those that are dropped end with their last delivery.
            posts.retain(|post| !post.is_finished());
        }
    }

    /// What an earlier process has told is told to be over by this one, and not told again.
    fn remember(&mut self) {
        let (now, wall) = (clock::now(), millis(clock::since_unix()));
        for (item, began) in self.outbox.told_before(&self.plan.sinks) {
            let Some(kind) = KINDS.iter().find(|kind| **kind == item.kind) else {
                self.outbox.over(&item);
                continue;
            };
            if *kind == DOWN {
                self.down.insert(item.subject.clone());
            }
            let lasted = Duration::from_millis(wall.saturating_sub(began));
            let trouble = Trouble {
                subject: item.subject.into(),
                kind,
                severity: match item.severity.as_str() {
                    "critical" => Severity::Critical,
                    _ => Severity::Warning,
                },
                summary: item.summary,
                advice: item.advice,
                at_once: *kind != DOWN && *kind != LEDGER,
            };
            let began = now.checked_sub(lasted).unwrap_or(now);
            self.pager.restore(now, trouble, began);
        }
    }

    /// One task for each way out.
    fn open_posts(&self) -> Vec<Post> {
        self.outbox.keep_only(&self.plan.sinks);
        let sinks = self.plan.sinks.iter();
        let open = |sink: &Sink| {
            let delivery = sink::Delivery {
                sink: sink.clone(),
                outbox: self.outbox.clone(),
                rung: Arc::clone(&self.rung),
            };
            Post(tokio::spawn(delivery.run()))
        };
        sinks.map(open).collect()
    }

    async fn look(&mut self) {
        let now = clock::now();
        let mut pages = Vec::new();
        self.pager
            .set_offline(now, self.gateway.is_offline(), &mut pages);
        self.look_at_origins(now);
        self.look_at_itself(now);
        self.look_at_ports(now);
        if self
            .seldom
            .is_none_or(|last| now.saturating_duration_since(last) >= SELDOM)
        {
            self.seldom = Some(now);
            self.look_at_certificates(now).await;
        }
        self.pager.tick(now, &mut pages);
        for page in pages {
            self.tell(&page);
        }
        self.tell_those_who_want_to_hear_it_again(now);
    }

    fn look_at_origins(&mut self, now: Instant) {
        let pulses = self.gateway.pulses();
        let (mut down, mut changed, mut full) = (Vec::new(), Vec::new(), Vec::new());
        let mut failed_here = 0;
        for pulse in &pulses {
            failed_here += pulse.failed_here;
            if pulse.is_down {
                self.down.insert(pulse.origin.clone());
            } else if pulse.is_up {
                self.down.remove(&pulse.origin);
            }
            // One that is looked for anew is not up before it is found.
            if pulse.is_down || !pulse.is_up && self.down.contains(&pulse.origin) {
                down.extend(self.down(&pulse.origin));
            }
            if pulse.is_doubtful {
                changed.push(identity_changed(&pulse.origin));
            }
            let is_full = u64::from(pulse.waiting) * 100 >= u64::from(pulse.hold) * FULL;
            if pulse.hold > 0 && is_full {
                full.push(hold_fills(&pulse.origin, pulse.waiting, pulse.hold));
            }
        }
        for (kind, troubles) in [(DOWN, down), (IDENTITY, changed), (HOLD, full)] {
            self.know(now, kind, troubles);
        }
        if self.failed_here.is_some_and(|before| failed_here > before) {
            self.cramped = Some(now);
        }
        self.failed_here = Some(failed_here);
        let is_cramped = |last| now.saturating_duration_since(last) < ROOM_AGAIN;
        let cramped = self.cramped.filter(|last| is_cramped(*last));
        self.know(
            now,
            PORTS,
            cramped.map(|_| no_ports()).into_iter().collect(),
        );
    }

    fn down(&self, origin: &str) -> Option<Trouble> {
        let view = self.gateway.origin(origin)?;
        let failure = view.failure.as_ref();
        let cause = failure.map_or_else(
            || "nothing of it could be reached yet".to_owned(),
            |failure| format!("{}: {}", failure.layer, failure.cause),
        );
        let given_up = if view.given_up {
            "; the attempts are used up"
        } else {
            ""
        };
        let feature = view
            .feature
            .map(|feature| format!("; feature {feature} is off"));
        Some(Trouble {
            subject: origin.into(),
            kind: DOWN,
            severity: if view.required {
                Severity::Critical
            } else {
                Severity::Warning
            },
            summary: format!(
                "origin {origin} is down: {cause}{given_up}{}",
                feature.unwrap_or_default()
            ),
            advice: failure
                .map(|failure| failure.advice.clone())
                .unwrap_or_default(),
            at_once: false,
        })
    }

    fn look_at_itself(&mut self, now: Instant) {
        let stale = self.gateway.stale().map(|why| Trouble {
            subject: SELF.into(),
            kind: STALE,
            severity: Severity::Warning,
            summary: format!("the configuration is stale: the changed one has errors: {why}"),
            advice: "`ipreconnect check` tells what is wrong; what runs goes by the one before"
                .to_owned(),
            at_once: true,
        });
        self.know(now, STALE, stale.into_iter().collect());
        let ledger = self.ledger.problem().map(|why| Trouble {
            subject: SELF.into(),
            kind: LEDGER,
            severity: Severity::Warning,
            summary: format!("the outage ledger cannot be written: {why}"),
            advice: "make room on that disk; the gateway goes on meanwhile".to_owned(),
            at_once: false,
        });
        self.know(now, LEDGER, ledger.into_iter().collect());
    }

    /// What the guard of local ports has found is over when it was not so for a while.
    fn look_at_ports(&mut self, now: Instant) {
        let mut troubles: Vec<Trouble> = Vec::new();
        for finding in self.gateway.findings() {
            let subject: Arc<str> = format!("port {}: {}", finding.port, finding.kind).into();
            if troubles.iter().any(|known| known.subject == subject) {
                continue;
            }
            troubles.push(Trouble {
                subject,
                kind: GUARD,
                severity: Severity::Warning,
                summary: finding.told,
                advice: "`ipreconnect history` and /v1/guard tell all of it; a rule in [guard] allows what is meant to be"
                    .to_owned(),
                at_once: true,
            });
        }
        self.know(now, GUARD, troubles);
    }

    async fn look_at_certificates(&mut self, now: Instant) {
        let today = i64::try_from(clock::since_unix().as_secs() / 86_400).unwrap_or(i64::MAX);
        let identities = self.gateway.identities().await;
        let ends = identities.iter().filter_map(|identity| {
            let sightings = identity.sightings.iter();
            let latest = sightings.max_by(|one, other| one.last_seen.cmp(&other.last_seen))?;
            let left = crate::moment::day_number(&latest.valid_until)? - today;
            (left <= ENDS_SOON_DAYS).then(|| certificate_ends(&identity.name, latest, left))
        });
        let ends = ends.collect();
        self.know(now, CERTIFICATE, ends);
    }

    /// These are wrong, and nothing else of the kind.
    fn know(&mut self, now: Instant, kind: &'static str, troubles: Vec<Trouble>) {
        let keys: Vec<Key> = troubles.iter().map(Trouble::key).collect();
        for trouble in troubles {
            self.pager.wrong(now, trouble);
        }
        self.pager.only(now, kind, &keys);
    }

    fn tell(&self, page: &Page) {
        let message = Message::of(page, &self.plan.instance, clock::since_unix());
        match page.kind {
            PageKind::Resolved => tracing::info!(alert = message.title, "people are told"),
            _ => tracing::warn!(alert = message.title, "people are told"),
        }
        // First it waits to be delivered: who ends in between tells it twice, and not never.
        self.outbox.put(&self.plan.sinks, &message);
        for item in &message.items {
            if page.kind == PageKind::Resolved && !item.is_on {
                self.outbox.over(item);
            } else if item.is_on || page.kind == PageKind::Flapping {
                let began = millis(clock::since_unix()).saturating_sub(item.lasted_ms);
                self.outbox.told(item, began, &self.plan.sinks);
            }
        }
        self.rung.notify_waiters();
    }

    /// Alertmanager forgets what it does not hear of again.
    fn tell_those_who_want_to_hear_it_again(&self, now: Instant) {
        let sinks = self.plan.sinks.iter();
        let again: Vec<Sink> = sinks.filter(|sink| sink.hears_again()).cloned().collect();
        if again.is_empty() {
            return;
        }
        let firing = self.pager.firing(now);
        if firing.is_empty() {
            // What is over must not be told as if it still were.
            self.outbox.forget_reminders();
            return;
        }
        let page = Page {
            kind: PageKind::Reminder,
            items: firing,
        };
        let message = Message::of(&page, &self.plan.instance, clock::since_unix());
        self.outbox.replace_reminder(&again, &message);
        self.rung.notify_waiters();
    }
}

/// The kinds of trouble, as receivers know them.
const DOWN: &str = "origin_down";
const IDENTITY: &str = "identity_changed";
const HOLD: &str = "hold_filling";
const PORTS: &str = "ports_exhausted";
const STALE: &str = "configuration_stale";
const LEDGER: &str = "ledger_failing";
const CERTIFICATE: &str = "certificate_ends";
const GUARD: &str = "guard";
const KINDS: [&str; 8] = [
    DOWN,
    IDENTITY,
    HOLD,
    PORTS,
    STALE,
    LEDGER,
    CERTIFICATE,
    GUARD,
];
/// What troubles of the gateway itself are about.
const SELF: &str = "ipreconnect";

fn identity_changed(origin: &str) -> Trouble {
    Trouble {
        subject: origin.into(),
        kind: IDENTITY,
        severity: Severity::Critical,
        summary: format!(
            "origin {origin} shows another key than before, or cannot prove who it is"
        ),
        advice: "`ipreconnect identity` shows it; accept it only if you know of the change"
            .to_owned(),
        at_once: true,
    }
}

fn hold_fills(origin: &str, waiting: u32, most: u32) -> Trouble {
    Trouble {
        subject: origin.into(),
        kind: HOLD,
        severity: Severity::Critical,
        summary: format!("{waiting} clients wait for origin {origin}, and no more than {most} may"),
        advice: "those beyond are refused; `hold.clients` says how many may wait".to_owned(),
        at_once: true,
    }
}

fn no_ports() -> Trouble {
    Trouble {
        subject: SELF.into(),
        kind: PORTS,
        severity: Severity::Critical,
        summary: "this machine has no port, descriptor or permission left for connections to origins"
            .to_owned(),
        advice: "`ipreconnect status` tells for which; look at `net.ipv4.ip_local_port_range` and LimitNOFILE"
            .to_owned(),
        at_once: true,
    }
}

fn certificate_ends(origin: &str, seen: &SightingView, left: i64) -> Trouble {
    let name = seen.names.first().map_or("?", String::as_str);
    let when = match left {
        ..0 => format!("ended {} days ago", -left),
        0 => "ends today".to_owned(),
        1 => "ends tomorrow".to_owned(),
        left => format!("ends in {left} days"),
    };
    Trouble {
        subject: origin.into(),
        kind: CERTIFICATE,
        severity: if left <= ENDS_NOW_DAYS {
            Severity::Critical
        } else {
            Severity::Warning
        },
        summary: format!(
            "the certificate of {name} at origin {origin} {when} ({})",
            seen.valid_until
        ),
        advice: "who runs that server has to renew it; without that it is refused then".to_owned(),
        at_once: true,
    }
}

/// One way out; ended when it is dropped.
struct Post(tokio::task::JoinHandle<()>);

impl Post {
    fn is_finished(&self) -> bool {
        self.0.is_finished()
    }
}

impl Drop for Post {
    fn drop(&mut self) {
        self.0.abort();
    }
}

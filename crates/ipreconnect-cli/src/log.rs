//! The log: where lines go, and which.

use std::io::IsTerminal;

use ipreconnect_admin::Events;
use tracing_subscriber::filter::{Filtered, LevelFilter, Targets};
use tracing_subscriber::layer::{Layered, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt, reload};

use crate::config::{LogFormat, LogLevel, LogPlan};

/// Changes the level of a log that runs.
pub(crate) struct Log {
    level: reload::Handle<Targets, Lines>,
    louder: i8,
    events: Events,
}

/// What lines are written on: events are kept whatever is written.
type Lines = Layered<Filtered<Events, Targets, Registry>, Registry>;

/// Begins to write lines to standard error. `louder` is what the command line asked for.
pub(crate) fn begin(plan: &LogPlan, louder: i8) -> Log {
    let (filter, level) = reload::Layer::new(filter(plan.level, louder));
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let colour = std::io::stderr().is_terminal() && !plain;
    let lines = fmt::layer().with_writer(std::io::stderr).with_target(false);
    let layer = match plan.format {
        LogFormat::Text => lines.with_ansi(colour).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    let events = Events::default();
    let kept = Targets::new().with_target("ipreconnect", LevelFilter::INFO);
    tracing_subscriber::registry()
        .with(events.clone().with_filter(kept))
        .with(layer.with_filter(filter))
        .init();
    Log {
        level,
        louder,
        events,
    }
}

impl Log {
    /// What happened lately, in the words of the log.
    pub(crate) fn events(&self) -> Events {
        self.events.clone()
    }

    /// Takes another level. The format stays what it was at the start.
    pub(crate) fn change(&self, plan: &LogPlan) {
        if let Err(error) = self.level.reload(filter(plan.level, self.louder)) {
            tracing::warn!(%error, "the log's level cannot be changed");
        }
    }
}

/// Our own lines by the level; those of libraries only where somebody looks for the cause of trouble.
fn filter(level: LogLevel, louder: i8) -> Targets {
    let steps = [
        LevelFilter::ERROR,
        LevelFilter::WARN,
        LevelFilter::INFO,
        LevelFilter::DEBUG,
        LevelFilter::TRACE,
    ];
    let own: i8 = match level {
        LogLevel::Error => 0,
        LogLevel::Warn => 1,
        LogLevel::Info => 2,
        LogLevel::Debug => 3,
        LogLevel::Trace => 4,
    };
    let step = own.saturating_add(louder).clamp(0, 4);
    let step = steps.get(usize::try_from(step).unwrap_or(2)).copied();
    let step = step.unwrap_or(LevelFilter::INFO);
    let others = if step >= LevelFilter::DEBUG {
        step
    } else {
        LevelFilter::OFF
    };
    Targets::new()
        .with_target("ipreconnect", step)
        .with_default(others)
}

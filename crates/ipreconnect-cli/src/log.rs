//! The log: where lines go, and which.

use std::io::IsTerminal;

use ipreconnect_admin::{Events, Journal, LogWay};
use tracing::Level;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, reload};

use crate::config::{LogLevel, LogPlan, LogTo, OtlpPlan};
use crate::exit::{Exit, Refusal};

/// A log that runs. What waits is written when it is dropped.
pub(crate) struct Log {
    journal: Journal,
    filter: reload::Handle<Targets, Registry>,
    louder: i8,
    coloured: bool,
}

/// Begins to write lines. `louder` is what the command line asked for.
///
/// # Errors
/// If the log's file cannot be opened.
pub(crate) fn begin(plan: &LogPlan, otlp: Option<&OtlpPlan>, louder: i8) -> Result<Log, Refusal> {
    let (filter, handle) = reload::Layer::new(Targets::new());
    let journal = Journal::default();
    tracing_subscriber::registry()
        .with(journal.clone().with_filter(filter))
        .init();
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let log = Log {
        journal,
        filter: handle,
        louder,
        coloured: std::io::stderr().is_terminal() && !plain,
    };
    log.level(plan);
    let ways = log.ways(plan, otlp);
    let begun = log.journal.write_to(&ways);
    begun.map_err(|error| Refusal::new(Exit::Wrong, "cannot start").because(&error))?;
    Ok(log)
}

impl Log {
    /// What happened lately, in the words of the log.
    pub(crate) fn events(&self) -> Events {
        self.journal.events()
    }

    /// Takes another level, and other ways.
    pub(crate) fn change(&self, plan: &LogPlan, otlp: Option<&OtlpPlan>) {
        self.level(plan);
        if let Err(error) = self.journal.write_to(&self.ways(plan, otlp)) {
            tracing::error!(%error, "the log goes where it went before");
        }
    }

    fn level(&self, plan: &LogPlan) {
        let level = louder(plan.level, self.louder);
        self.journal.set_level(level);
        // A subscriber that is gone has no lines.
        let _ = self.filter.reload(filter(level));
    }

    fn ways(&self, plan: &LogPlan, otlp: Option<&OtlpPlan>) -> Vec<LogWay> {
        let format = plan.format;
        let ways = plan.to.iter().filter_map(|to| {
            Some(match to {
                LogTo::Stderr => LogWay::Stderr {
                    format,
                    coloured: self.coloured,
                },
                LogTo::File(path) => LogWay::File {
                    path: path.clone(),
                    format,
                },
                LogTo::Syslog(place) => LogWay::Syslog(place.clone()),
                LogTo::Otlp => LogWay::Otlp(otlp?.collector.clone()),
            })
        });
        ways.collect()
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.journal.end();
    }
}

fn louder(level: LogLevel, louder: i8) -> Level {
    let own: i8 = match level {
        LogLevel::Error => 0,
        LogLevel::Warn => 1,
        LogLevel::Info => 2,
        LogLevel::Debug => 3,
        LogLevel::Trace => 4,
    };
    match own.saturating_add(louder) {
        ..=0 => Level::ERROR,
        1 => Level::WARN,
        2 => Level::INFO,
        3 => Level::DEBUG,
        4.. => Level::TRACE,
    }
}

/// Our own events are kept whatever is written; those of libraries are wanted only where somebody looks for the cause
/// of trouble.
fn filter(level: Level) -> Targets {
    let own = level.max(Level::INFO);
    let others = if level >= Level::DEBUG {
        LevelFilter::from_level(level)
    } else {
        LevelFilter::OFF
    };
    Targets::new()
        .with_target("ipreconnect", own)
        .with_default(others)
}

//! The log: one line for each event, in the same words everywhere. Lines are written by threads of their own, so that
//! nobody waits for a terminal that is stopped, a disk that is full, or a collector that is away.

mod file;
mod line;
mod queue;
mod syslog;

use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use ipreconnect::clock;
use ipreconnect::core::storm::{Storms, Summary};
use tracing::subscriber::NoSubscriber;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use crate::events::Events;
use crate::otlp::{Collector, LogExporter};
use file::{LogFile, Stderr};
pub use line::LineFormat;
pub(crate) use line::{Line, shorten};
use line::{Paint, Said};
use queue::Queue;
use syslog::Syslog;
pub use syslog::SyslogPlace;

/// Lines that are written at once.
const BATCH: usize = 512;
/// Between two looks whether a storm is to be told.
const LOOK: Duration = Duration::from_secs(1);
/// A writer waits so long for lines before it looks around.
const QUIET: Duration = Duration::from_secs(60);
/// Between two tries of a way that takes nothing, from the first to the last.
const FIRST: Duration = Duration::from_millis(200);
const LAST: Duration = Duration::from_secs(10);
/// For what is written at the end.
const FAREWELL: Duration = Duration::from_secs(2);

/// Where lines go, and how they look there.
#[derive(Clone, PartialEq, Eq)]
pub enum LogWay {
    /// Standard error. In colours if that is a terminal and nobody minds.
    Stderr {
        /// How.
        format: LineFormat,
        /// Whether colours are wanted.
        coloured: bool,
    },
    /// A file, which may be moved away at any time.
    File {
        /// Where.
        path: PathBuf,
        /// How.
        format: LineFormat,
    },
    /// A syslog daemon.
    Syslog(SyslogPlace),
    /// An OpenTelemetry collector.
    Otlp(Collector),
}

impl fmt::Display for LogWay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stderr { .. } => f.write_str("standard error"),
            Self::File { path, .. } => write!(f, "the file {}", path.display()),
            Self::Syslog(place) => write!(f, "syslog at {place}"),
            Self::Otlp(collector) => write!(f, "the collector at {collector}"),
        }
    }
}

impl fmt::Debug for LogWay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Why lines were not written.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// They are lost.
    Lost(String),
    /// They are written, and something else is wrong.
    Told(String),
    /// They may be given again, but for the first ones.
    Again { done: usize, why: String },
}

/// What writes lines. It may wait: it has a thread of its own.
pub(crate) trait Way: Send {
    fn write(&mut self, lines: &[Arc<Line>]) -> Result<(), Failure>;
}

/// A layer that makes lines of events. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Journal(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// Lines of less importance are not written.
    level: AtomicU8,
    events: Events,
    storms: Mutex<Storms<Arc<Line>>>,
    writers: Mutex<Vec<Writer>>,
    tells_storms: AtomicBool,
}

#[derive(Debug)]
struct Writer {
    way: LogWay,
    queue: Arc<Queue>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.queue.close();
    }
}

impl Default for Journal {
    fn default() -> Self {
        Self(Arc::new(Shared {
            level: AtomicU8::new(importance(Level::INFO)),
            events: Events::default(),
            storms: Mutex::default(),
            writers: Mutex::default(),
            tells_storms: AtomicBool::new(false),
        }))
    }
}

impl Journal {
    /// What happened lately.
    #[must_use]
    pub fn events(&self) -> Events {
        self.0.events.clone()
    }

    /// Lines of less importance are not written from now on.
    pub fn set_level(&self, level: Level) {
        self.0.level.store(importance(level), Relaxed);
    }

    /// Writes lines these ways from now on. A way that is the same as before is not interrupted. One after the other
    /// may call it.
    ///
    /// # Errors
    /// If a file cannot be opened or no thread can be made. Everything stays as it was then.
    pub fn write_to(&self, ways: &[LogWay]) -> std::io::Result<()> {
        let before: Vec<LogWay> = {
            let writers = self.writers();
            writers.iter().map(|writer| writer.way.clone()).collect()
        };
        // Whoever says something meanwhile does not wait for a file that takes its time to open.
        let new = ways.iter().filter(|way| !before.contains(way));
        let new: Vec<Writer> = new
            .map(|way| self.begin(way))
            .collect::<std::io::Result<_>>()?;
        let mut writers = self.writers();
        let mut gone = Vec::new();
        for writer in std::mem::take(&mut *writers) {
            if ways.contains(&writer.way) {
                writers.push(writer);
            } else {
                gone.push(writer);
            }
        }
        writers.extend(new);
        drop(writers);
        self.keep_telling_storms()
    }

    /// One thread tells of storms, whether anything is written or not.
    fn keep_telling_storms(&self) -> std::io::Result<()> {
        if self.0.tells_storms.swap(true, Relaxed) {
            return Ok(());
        }
        let shared = Arc::downgrade(&self.0);
        let thread = std::thread::Builder::new().name("storms".to_owned());
        thread.spawn(move || {
            while let Some(shared) = shared.upgrade() {
                Self(shared).tell_storms();
                std::thread::sleep(LOOK);
            }
        })?;
        Ok(())
    }

    /// Writes what waits, and nothing after that. What cannot be written within two seconds is lost.
    pub fn end(&self) {
        let summaries = self.storms().end(clock::now());
        for summary in summaries {
            self.pass_on(&told(summary));
        }
        let deadline = clock::now() + FAREWELL;
        let writers = std::mem::take(&mut *self.writers());
        for writer in &writers {
            writer.queue.close();
        }
        for mut writer in writers {
            if writer.queue.drained(deadline)
                && let Some(thread) = writer.thread.take()
            {
                // A thread that panicked has written nothing more.
                let _ = thread.join();
            }
        }
    }

    fn begin(&self, way: &LogWay) -> std::io::Result<Writer> {
        let writes: Box<dyn Way> = match way {
            LogWay::Stderr { format, coloured } => Box::new(Stderr {
                format: *format,
                paint: if *coloured {
                    Paint::Colour
                } else {
                    Paint::Plain
                },
            }),
            LogWay::File { path, format } => {
                let opened = LogFile::open(path, *format);
                Box::new(opened.map_err(|error| {
                    let why = format!("the log cannot be written to {}: {error}", path.display());
                    std::io::Error::new(error.kind(), why)
                })?)
            }
            LogWay::Syslog(place) => Box::new(Syslog::new(place.clone())),
            LogWay::Otlp(collector) => Box::new(LogExporter::new(collector.clone())?),
        };
        let queue = Arc::new(Queue::default());
        let task = Task {
            name: way.to_string(),
            journal: self.clone(),
            queue: Arc::clone(&queue),
            is_failing: false,
        };
        let thread = std::thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || task.run(writes))?;
        Ok(Writer {
            way: way.clone(),
            queue,
            thread: Some(thread),
        })
    }

    /// Tells the storms that were counted long enough.
    fn tell_storms(&self) {
        let due = self.storms().due(clock::now());
        for summary in due {
            self.pass_on(&told(summary));
        }
    }

    fn pass_on(&self, line: &Arc<Line>) {
        if line.level <= Level::INFO {
            self.0.events.keep(line);
        }
        if importance(line.level) <= self.0.level.load(Relaxed) {
            for writer in self.writers().iter() {
                writer.queue.put(line);
            }
        }
    }

    fn storms(&self) -> MutexGuard<'_, Storms<Arc<Line>>> {
        self.0.storms.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn writers(&self) -> MutexGuard<'_, Vec<Writer>> {
        self.0
            .writers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: Subscriber> Layer<S> for Journal {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let line = Arc::new(Line::of(event));
        // Whoever looks for the cause of trouble wants to see all.
        let admitted = if line.level <= Level::INFO {
            self.storms().admit(clock::now(), line.key(), line)
        } else {
            Some(line)
        };
        if let Some(line) = admitted {
            self.pass_on(&line);
        }
    }
}

/// More important is less.
fn importance(level: Level) -> u8 {
    match level {
        Level::ERROR => 0,
        Level::WARN => 1,
        Level::INFO => 2,
        Level::DEBUG => 3,
        Level::TRACE => 4,
    }
}

fn told(summary: Summary<Arc<Line>>) -> Arc<Line> {
    let mut line = Arc::unwrap_or_clone(summary.last);
    line.stands_for = Some((summary.count, summary.within));
    Arc::new(line)
}

/// The thread of one way.
struct Task {
    name: String,
    journal: Journal,
    queue: Arc<Queue>,
    is_failing: bool,
}

impl Task {
    fn run(mut self, mut way: Box<dyn Way>) {
        // What libraries say while lines are delivered would be lines to be delivered.
        let _quiet = tracing::subscriber::set_default(NoSubscriber::default());
        loop {
            let mut batch = self.queue.take(BATCH, QUIET);
            if batch.lost > 0 {
                let text = format!(
                    "{} lines of the log were lost here: they could not be written, or came too fast",
                    batch.lost
                );
                batch
                    .lines
                    .insert(0, Arc::new(Line::own(Level::WARN, &text)));
            }
            if !batch.lines.is_empty() {
                self.insist(way.as_mut(), &batch.lines);
            }
            if batch.is_last {
                return;
            }
        }
    }

    /// Writes lines; those that can be given again are, until they are taken or the log ends.
    fn insist(&mut self, way: &mut dyn Way, lines: &[Arc<Line>]) {
        let (mut rest, mut pause) = (lines, FIRST);
        loop {
            match way.write(rest) {
                Ok(()) => {
                    if std::mem::take(&mut self.is_failing) {
                        self.says(Level::INFO, "the log is written again", None);
                    }
                    return;
                }
                Err(Failure::Lost(why)) => {
                    self.queue.lose(rest.len() as u64);
                    return self.fails(&why);
                }
                Err(Failure::Told(why)) => return self.fails(&why),
                Err(Failure::Again { done, why }) => {
                    self.fails(&why);
                    rest = rest.get(done..).unwrap_or_default();
                    if self.queue.is_closed() {
                        return;
                    }
                    self.queue.rest(pause);
                    pause = (pause * 2).min(LAST);
                }
            }
        }
    }

    fn fails(&mut self, why: &str) {
        if !std::mem::replace(&mut self.is_failing, true) {
            let text =
                "the log cannot be written here; nothing waits for it, and it is tried again";
            self.says(Level::ERROR, text, Some(why));
        }
    }

    /// Tells it by all ways: by others, for now.
    fn says(&self, level: Level, text: &str, why: Option<&str>) {
        let mut line = Line::own(level, text);
        line.fields.push(("to", Said::Text(self.name.clone())));
        line.fields
            .extend(why.map(|why| ("error", Said::Shown(why.to_owned()))));
        self.journal.pass_on(&Arc::new(line));
    }
}

#[cfg(test)]
mod tests;

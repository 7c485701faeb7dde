//! What happened lately, in the words of the log: a layer of the log that keeps the last lines and passes them
//! on to whoever watches.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ipreconnect::clock;
use tokio::sync::broadcast;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use crate::moment::{millis, rfc3339};
use crate::view::{EventView, FieldView};

/// Events that are kept.
const KEPT: usize = 500;
/// Events that a watcher may be behind before it misses some.
const BEHIND: usize = 512;
/// The longest value that is kept of one field.
const LONGEST: usize = 2048;

/// The last events. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Events(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    next: AtomicU64,
    kept: Mutex<VecDeque<Arc<EventView>>>,
    told: broadcast::Sender<Arc<EventView>>,
}

impl Default for Events {
    fn default() -> Self {
        Self(Arc::new(Shared {
            next: AtomicU64::new(1),
            kept: Mutex::default(),
            told: broadcast::Sender::new(BEHIND),
        }))
    }
}

impl Events {
    /// The last ones, the latest last.
    #[must_use]
    pub fn latest(&self, count: usize) -> Vec<Arc<EventView>> {
        let kept = self.kept();
        let skipped = kept.len().saturating_sub(count);
        kept.iter().skip(skipped).cloned().collect()
    }

    /// Those that come from now on.
    #[must_use]
    pub fn watch(&self) -> broadcast::Receiver<Arc<EventView>> {
        self.0.told.subscribe()
    }

    fn keep(&self, event: EventView) {
        let event = Arc::new(event);
        let mut kept = self.kept();
        if kept.len() >= KEPT {
            kept.pop_front();
        }
        kept.push_back(Arc::clone(&event));
        drop(kept);
        // Without anybody who watches there is nobody to tell.
        let _ = self.0.told.send(event);
    }

    fn kept(&self) -> MutexGuard<'_, VecDeque<Arc<EventView>>> {
        self.0.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: Subscriber> Layer<S> for Events {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let level = *event.metadata().level();
        if level > Level::INFO {
            return;
        }
        let mut said = Said::default();
        event.record(&mut said);
        self.keep(EventView {
            id: self.0.next.fetch_add(1, Relaxed),
            time: rfc3339(millis(clock::since_unix())),
            level: level.as_str().to_lowercase(),
            message: said.message,
            fields: said.fields,
        });
    }
}

/// What an event says.
#[derive(Default)]
struct Said {
    message: String,
    fields: Vec<FieldView>,
}

impl Said {
    fn take(&mut self, field: &Field, mut value: String) {
        if value.len() > LONGEST {
            let end = (0..=LONGEST).rev().find(|end| value.is_char_boundary(*end));
            value.truncate(end.unwrap_or_default());
            value.push('…');
        }
        if field.name() == "message" {
            self.message = value;
        } else {
            self.fields.push(FieldView {
                name: field.name().to_owned(),
                value,
            });
        }
    }
}

impl Visit for Said {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.take(field, value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.take(field, format!("{value:?}"));
    }
}

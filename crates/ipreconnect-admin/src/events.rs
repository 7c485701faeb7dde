//! What happened lately, in the words of the log: the last lines are kept, and passed on to whoever watches.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::broadcast;

use crate::log::{Line, shorten};
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

    /// Keeps what a line says.
    pub(crate) fn keep(&self, line: &Line) {
        let fields = line.fields.iter().map(|(name, value)| FieldView {
            name: (*name).to_owned(),
            value: shortened(value.text()),
        });
        let mut kept = self.kept();
        let event = Arc::new(EventView {
            id: self.0.next.fetch_add(1, Relaxed),
            time: rfc3339(millis(line.at)),
            level: line.level.as_str().to_lowercase(),
            message: shortened(line.words()),
            fields: fields.collect(),
        });
        if kept.len() >= KEPT {
            kept.pop_front();
        }
        kept.push_back(Arc::clone(&event));
        // Without anybody who watches there is nobody to tell.
        let _ = self.0.told.send(event);
    }

    fn kept(&self) -> MutexGuard<'_, VecDeque<Arc<EventView>>> {
        self.0.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is longer than anybody reads loses its end.
fn shortened(mut value: String) -> String {
    if shorten(&mut value, LONGEST) {
        value.push('…');
    }
    value
}

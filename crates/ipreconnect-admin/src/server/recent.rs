//! What the ledger said last: pages ask for it far more often than it changes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ipreconnect::clock;
use tokio::sync::Mutex;

use super::Api;
use crate::view::{History, HistoryQuestion};

/// Losses that pages show.
const LOSSES: u32 = 20;
/// What was read is good for so long, or for so many times as long as reading it took.
const GOOD_FOR: Duration = Duration::from_secs(2);
const TIMES: u32 = 10;
/// A disk that takes longer is told of.
const PATIENCE: Duration = Duration::from_secs(5);

/// The last answer. Whoever asks while it is read waits for the same one.
#[derive(Default)]
pub(super) struct Recent(Mutex<Option<(Instant, Arc<History>)>>);

impl Recent {
    pub(super) async fn of(&self, api: &Api) -> Arc<History> {
        let mut last = self.0.lock().await;
        let began = clock::now();
        if let Some((until, history)) = &*last
            && began < *until
        {
            return Arc::clone(history);
        }
        let question = HistoryQuestion {
            limit: Some(LOSSES),
            ..HistoryQuestion::default()
        };
        let read = tokio::time::timeout(PATIENCE, api.read(question)).await;
        let history = match read {
            Ok(Ok(history)) => history,
            Ok(Err(why)) => failed(why),
            Err(_) => failed("the disk does not answer".to_owned()),
        };
        let now = clock::now();
        let took = now.saturating_duration_since(began);
        let history = Arc::new(history);
        *last = Some((now + GOOD_FOR.max(took * TIMES), Arc::clone(&history)));
        history
    }
}

fn failed(why: String) -> History {
    History {
        problem: Some(why),
        ..History::default()
    }
}

//! Clients that cannot be understood, or may not come in, told once a minute each.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use ipreconnect::clock;

/// Between two lines about one client.
const PAUSE: Duration = Duration::from_secs(60);
/// Clients that are remembered; of more than these, nothing is told until some are forgotten.
const CLIENTS: usize = 1024;

/// Between two looks for those who can be forgotten.
const SWEEP: Duration = Duration::from_secs(1);

/// What was told of whom, and when it was last looked for those who can be forgotten.
#[derive(Debug, Default)]
struct Told(BTreeMap<Box<str>, Entry>, Option<Instant>);

#[derive(Debug)]
struct Entry {
    at: Instant,
    /// What was not told since.
    since: u32,
}

/// One for all workers: a client is told of once, whichever of them it reaches. Only refusals come here.
static TOLD: Mutex<Told> = Mutex::new(Told(BTreeMap::new(), None));

impl Told {
    /// Whether it is time to tell of this client, and how often there was reason to since the last time.
    fn take(&mut self, now: Instant, client: &str) -> Option<u32> {
        let is_old = |at: Instant| now.saturating_duration_since(at) >= PAUSE;
        if let Some(entry) = self.0.get_mut(client) {
            entry.since = entry.since.saturating_add(1);
            if !is_old(entry.at) {
                return None;
            }
            entry.at = now;
            return Some(std::mem::take(&mut entry.since));
        }
        let is_due = |at: Instant| now.saturating_duration_since(at) >= SWEEP;
        if self.0.len() >= CLIENTS && self.1.is_none_or(is_due) {
            self.1 = Some(now);
            self.0.retain(|_, entry| !is_old(entry.at));
        }
        if self.0.len() >= CLIENTS {
            return None;
        }
        let entry = Entry { at: now, since: 0 };
        self.0.insert(client.into(), entry);
        Some(1)
    }
}

/// A request was refused.
pub(crate) fn refused(listener: &str, client: &str, why: &dyn Display) {
    if let Some(requests) = count(client) {
        let client = named(client);
        tracing::info!(
            listener,
            client,
            requests,
            "{why} More of this client is told in a minute"
        );
    }
}

/// A client was not let in.
pub(crate) fn denied(listener: &str, client: &str, why: &dyn Display) {
    if let Some(connections) = count(client) {
        let client = named(client);
        tracing::info!(
            listener,
            client,
            connections,
            "not let in: {why}; `ipreconnect why` tells more. More of this client is told in a minute"
        );
    }
}

fn count(client: &str) -> Option<u32> {
    let mut told = TOLD.lock().unwrap_or_else(PoisonError::into_inner);
    told.take(clock::now(), client)
}

fn named(client: &str) -> &str {
    if client.is_empty() {
        "a Unix socket"
    } else {
        client
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_told_of_once_a_minute() {
        let (mut told, now) = (Told::default(), clock::now());
        assert_eq!(told.take(now, "a"), Some(1));
        assert_eq!(told.take(now, "a"), None);
        assert_eq!(told.take(now + PAUSE / 2, "a"), None);
        assert_eq!(told.take(now, "b"), Some(1));
        assert_eq!(told.take(now + PAUSE, "a"), Some(3));
        assert_eq!(told.take(now + PAUSE, "a"), None);
    }

    #[test]
    fn many_clients_take_no_more_room() {
        let (mut told, now) = (Told::default(), clock::now());
        for client in 0..CLIENTS * 2 {
            let is_told = told.take(now, &client.to_string()).is_some();
            assert_eq!(is_told, client < CLIENTS);
        }
        assert_eq!(told.0.len(), CLIENTS);
        assert_eq!(told.take(now + PAUSE, "another"), Some(1));
        assert_eq!(told.0.len(), 1);
    }
}

//! What became of the requests of each branch of a route, so that branches can be compared.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::record::Record;

/// What became of the requests that one branch was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BranchStatus {
    /// The route's place among those of its listener, from 1.
    pub route: usize,
    /// The branch's origin.
    pub origin: String,
    /// Its part of the requests.
    pub weight: u32,
    /// Requests that are done.
    pub requests: u64,
    /// Of those, answered with a status of 400 to 499.
    pub client_errors: u64,
    /// Of those, answered with a status of 500 to 599, by the origin or in its place.
    pub server_errors: u64,
    /// Of those, not answered to the end.
    pub cut_off: u64,
    /// From request to answer, on the average of those that were answered by the origin.
    pub first_byte: Option<Duration>,
}

/// The same while it is counted.
#[derive(Debug, Default)]
pub(super) struct Tally {
    requests: AtomicU64,
    client_errors: AtomicU64,
    server_errors: AtomicU64,
    cut_off: AtomicU64,
    answered: AtomicU64,
    micros: AtomicU64,
}

impl Tally {
    pub(super) fn count(&self, record: &Record) {
        self.requests.fetch_add(1, Relaxed);
        match record.status {
            400..=499 => self.client_errors.fetch_add(1, Relaxed),
            500..=599 => self.server_errors.fetch_add(1, Relaxed),
            _ => 0,
        };
        if record.is_cut_off() {
            self.cut_off.fetch_add(1, Relaxed);
        }
        if let Some(first_byte) = record.first_byte {
            let micros = u64::try_from(first_byte.as_micros()).unwrap_or(u64::MAX);
            self.answered.fetch_add(1, Relaxed);
            self.micros.fetch_add(micros, Relaxed);
        }
    }

    pub(super) fn status(&self, route: usize, origin: &str, weight: u32) -> BranchStatus {
        let (answered, micros) = (self.answered.load(Relaxed), self.micros.load(Relaxed));
        let first_byte = micros.checked_div(answered).map(Duration::from_micros);
        BranchStatus {
            route,
            origin: origin.to_owned(),
            weight,
            requests: self.requests.load(Relaxed),
            client_errors: self.client_errors.load(Relaxed),
            server_errors: self.server_errors.load(Relaxed),
            cut_off: self.cut_off.load(Relaxed),
            first_byte,
        }
    }
}

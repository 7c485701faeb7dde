//! Local or remote? Before an origin is blamed, a look at all the others.
//!
//! If every origin beyond this machine failed within the same short time, at a layer where the
//! network is at work, then it is most likely our own network that is gone.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::failure::Layer;

/// Failures further apart are no coincidence of one cause.
const WINDOW: Duration = Duration::from_secs(10);
/// Fewer origins prove nothing.
const WITNESSES: usize = 2;

/// Whose fault it seems to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// The origin's own.
    Origin,
    /// This machine's network: every origin beyond it fails.
    OwnNetwork,
}

/// How far an address is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// On this machine: it says nothing about the network.
    Local,
    /// Beyond this machine.
    Remote,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fortune {
    Unknown,
    Works,
    Failed(Instant),
}

/// The judgement over all origins of a process.
#[derive(Debug, Default)]
pub struct Locality {
    origins: BTreeMap<u32, Fortune>,
}

impl Locality {
    /// An origin is there, under a number of its own.
    pub fn add(&mut self, origin: u32) {
        self.origins.entry(origin).or_insert(Fortune::Unknown);
    }

    /// An origin is gone.
    pub fn remove(&mut self, origin: u32) {
        self.origins.remove(&origin);
    }

    /// An origin lost its last endpoint, at that layer; its addresses reach that far.
    pub fn failed(&mut self, now: Instant, origin: u32, layer: Layer, reach: Reach) {
        self.origins.insert(origin, fortune(now, layer, reach));
    }

    /// An origin was reached, and is looked at again and again; only one beyond this machine says anything about the
    /// network.
    pub fn worked(&mut self, origin: u32, reach: Reach) {
        let fortune = match reach {
            Reach::Remote => Fortune::Works,
            Reach::Local => Fortune::Unknown,
        };
        self.origins.insert(origin, fortune);
    }

    /// An origin says nothing about the network.
    pub fn silent(&mut self, origin: u32) {
        self.origins.insert(origin, Fortune::Unknown);
    }

    /// Whose fault it seems to be that origins fail.
    #[must_use]
    pub fn blame(&self) -> Blame {
        judge(self.origins.values().copied())
    }

    /// Whose fault it seems to be that one server of an origin fails, at that layer, which reaches that far: what
    /// others of its servers have to say comes later.
    #[must_use]
    pub fn blame_for(&self, now: Instant, origin: u32, layer: Layer, reach: Reach) -> Blame {
        let others = self.origins.iter().filter(|(other, _)| **other != origin);
        let others = others.map(|(_, fortune)| *fortune);
        judge(others.chain([fortune(now, layer, reach)]))
    }
}

fn fortune(now: Instant, layer: Layer, reach: Reach) -> Fortune {
    match (layer, reach) {
        (Layer::LocalNetwork | Layer::Dns | Layer::Transport, Reach::Remote) => {
            Fortune::Failed(now)
        }
        // It fails for reasons of its own, and cannot testify about the network.
        _ => Fortune::Unknown,
    }
}

fn judge(fortunes: impl Iterator<Item = Fortune>) -> Blame {
    let mut failures: Vec<Instant> = Vec::new();
    for fortune in fortunes {
        match fortune {
            Fortune::Unknown => {}
            Fortune::Works => return Blame::Origin,
            Fortune::Failed(at) => failures.push(at),
        }
    }
    let (Some(first), Some(last)) = (failures.iter().min(), failures.iter().max()) else {
        return Blame::Origin;
    };
    let together = last.saturating_duration_since(*first) <= WINDOW;
    if together && failures.len() >= WITNESSES {
        Blame::OwnNetwork
    } else {
        Blame::Origin
    }
}

#[cfg(test)]
mod tests;

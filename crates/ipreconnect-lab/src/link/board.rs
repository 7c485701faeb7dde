//! The faults that are set on a link, and the signal that tells its tasks of a change.

use super::part::{Gate, Opening, PIECE, Part, Passage};
use super::{Fault, Kind, Way};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// The one place where the faults of a link are decided.
#[derive(Default)]
pub(super) struct Board {
    parts: Mutex<BTreeMap<Kind, Box<dyn Part>>>,
    signal: watch::Sender<Signal>,
}

/// What the tasks of a link hear of.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Signal {
    /// How often faults were lifted: what waits for its time goes at once.
    pub(super) releases: u64,
    /// How often connections were reset: those that are older end.
    pub(super) resets: u64,
    /// The link is gone.
    pub(super) over: bool,
}

impl Board {
    /// Sets the fault, in place of one of its kind.
    pub(super) fn set(&self, fault: Fault) {
        self.parts().insert(fault.kind(), fault.part());
        self.signal.send_modify(|signal| {
            signal.resets += u64::from(fault == Fault::Reset);
        });
    }

    /// Takes back the fault of this kind.
    pub(super) fn lift(&self, kind: Kind) {
        self.parts().remove(&kind);
        self.signal.send_modify(|signal| signal.releases += 1);
    }

    /// Takes back every fault.
    pub(super) fn clear(&self) {
        self.parts().clear();
        self.signal.send_modify(|signal| signal.releases += 1);
    }

    /// Resets the connections that are open now.
    pub(super) fn reset_all(&self) {
        self.signal.send_modify(|signal| signal.resets += 1);
    }

    /// Ends every task of the link.
    pub(super) fn end(&self) {
        self.signal.send_modify(|signal| signal.over = true);
    }

    /// Decides what becomes of the passage.
    pub(super) fn pass(&self, mut passage: Passage) -> Passage {
        for part in self.parts().values_mut() {
            part.pass(&mut passage);
        }
        passage
    }

    pub(super) fn watch(&self) -> watch::Receiver<Signal> {
        self.signal.subscribe()
    }

    pub(super) fn opening(&self) -> Opening {
        let parts = self.parts();
        let openings = parts.values().map(|part| part.opening());
        openings.max().unwrap_or(Opening::Carried)
    }

    pub(super) fn gate(&self, way: Way) -> Gate {
        let parts = self.parts();
        let gates = parts.values().map(|part| part.gate(way));
        gates.max().unwrap_or(Gate::Open)
    }

    pub(super) fn bite(&self) -> usize {
        let parts = self.parts();
        parts
            .values()
            .map(|part| part.bite())
            .fold(PIECE, usize::min)
    }

    fn parts(&self) -> MutexGuard<'_, BTreeMap<Kind, Box<dyn Part>>> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

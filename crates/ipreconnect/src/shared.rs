//! What the handles of one origin and its driver share.

use std::sync::Arc;

use arc_swap::ArcSwap;
use ipreconnect_core::origin::Event;
use tokio::sync::{mpsc, watch};

use crate::chooser::Chooser;
use crate::settings::OriginSettings;
use crate::snapshot::Snapshot;
use crate::waiters::Waiters;

/// What reaches a driver from outside.
#[derive(Debug)]
pub(crate) enum Fact {
    Event(Event),
    Reconfigure(Box<OriginSettings>),
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) name: Arc<str>,
    pub(crate) waiters: Waiters,
    pub(crate) snapshot: ArcSwap<Snapshot>,
    pub(crate) settings: ArcSwap<OriginSettings>,
    pub(crate) life: watch::Sender<Life>,
    pub(crate) facts: mpsc::Sender<Fact>,
    pub(crate) chooser: ArcSwap<Chooser>,
}

/// What those who watch an origin wake up for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    /// So many snapshots were published.
    Published(u64),
    /// Its owner closed it: nothing more is published.
    Closed,
}

impl Shared {
    pub(crate) fn new(
        name: Arc<str>,
        settings: OriginSettings,
        snapshot: Snapshot,
        facts: mpsc::Sender<Fact>,
        seed: u64,
    ) -> Self {
        Self {
            name,
            waiters: Waiters::default(),
            snapshot: ArcSwap::from_pointee(snapshot),
            chooser: ArcSwap::from_pointee(Chooser::new(settings.balance, seed)),
            settings: ArcSwap::from_pointee(settings),
            life: watch::Sender::new(Life::Published(0)),
            facts,
        }
    }

    pub(crate) fn publish(&self, snapshot: Snapshot) {
        self.snapshot.store(Arc::new(snapshot));
        self.life.send_modify(|life| {
            if let Life::Published(count) = life {
                *count += 1;
            }
        });
    }

    /// Tells the driver; a fact that finds the inbox full is dropped, since the same kind of fact
    /// fills it.
    pub(crate) fn tell(&self, event: Event) {
        let _ = self.facts.try_send(Fact::Event(event));
    }
}

//! What the handles of one origin and its driver share.

use std::sync::Arc;

use arc_swap::{ArcSwap, ArcSwapOption};
use ipreconnect_core::address::{Address, EntryId};
use ipreconnect_core::failure::Failure;
use ipreconnect_core::names::Security;
use ipreconnect_core::origin::Event;
use tokio::sync::{mpsc, watch};

use crate::chooser::Chooser;
use crate::identity::Identities;
use crate::light::{Light, Way};
use crate::settings::OriginSettings;
use crate::snapshot::Snapshot;
use crate::socket::Socket;
use crate::stats::Stats;
use crate::store::Store;
use crate::tls::{Connector, Proof, Session};
use crate::waiters::Waiters;
use crate::warm::Warm;

/// What reaches a driver from outside.
#[expect(clippy::large_enum_variant, reason = "nearly all facts are events")]
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
    /// How its servers prove who they are; none, if they cannot.
    pub(crate) tls: ArcSwapOption<Connector>,
    pub(crate) identities: Arc<Identities>,
    pub(crate) warm: Arc<Warm>,
    pub(crate) stats: Arc<Stats>,
    /// How it finds its endpoints, if nobody watches over it.
    pub(crate) way: Option<Way>,
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
        store: Option<Arc<dyn Store>>,
    ) -> Self {
        Self {
            tls: ArcSwapOption::new(connector(&settings)),
            identities: Identities::new(&name, store),
            warm: Arc::default(),
            stats: Arc::new(Stats::new()),
            way: None,
            name,
            waiters: Waiters::default(),
            snapshot: ArcSwap::from_pointee(snapshot),
            chooser: ArcSwap::from_pointee(Chooser::new(settings.balance, seed)),
            settings: ArcSwap::from_pointee(settings),
            life: watch::Sender::new(Life::Published(0)),
            facts,
        }
    }

    /// How it finds its endpoints by itself.
    pub(crate) fn light(&self) -> Option<&Light> {
        match &self.way {
            Some(Way::Light(light)) => Some(light),
            Some(Way::Beyond(_)) | None => None,
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

    /// Opens TLS on a connected socket: the server verified, and is one that may be used.
    ///
    /// Cancel safety: the connection is of no use afterwards.
    pub(crate) async fn open(
        &self,
        connector: &Connector,
        socket: &Socket,
        entry: EntryId,
        address: &Address,
    ) -> Result<(Box<Session>, Proof), Failure> {
        let (session, proof) = connector.handshake(socket, entry).await?;
        self.admit(connector, &proof, address).await?;
        Ok((session, proof))
    }

    /// Whether a server that verified may be used, by all that is known of the origin's servers.
    ///
    /// Cancel safety: nothing is lost.
    pub(crate) async fn admit(
        &self,
        connector: &Connector,
        proof: &Proof,
        address: &Address,
    ) -> Result<(), Failure> {
        let policy = connector.settings().on_key_change;
        let snapshot = self.snapshot.load();
        let mut names = snapshot.names().iter();
        let name = names.find(|name| *name.name == *proof.entry);
        let dnssec = name.map_or(Security::Unchecked, |name| name.security);
        self.identities.admit(proof, address, dnssec, policy).await
    }

    /// Tells the driver; a fact that finds the inbox full is dropped, since the same kind of fact
    /// fills it.
    pub(crate) fn tell(&self, event: Event) {
        let _ = self.facts.try_send(Fact::Event(event));
    }
}

/// What makes TLS connections by these settings.
pub(crate) fn connector(settings: &OriginSettings) -> Option<Arc<Connector>> {
    let tls = settings.tls.as_ref()?;
    Some(Arc::new(Connector::new(tls, &settings.places)))
}

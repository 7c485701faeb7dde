//! The orders that take time: probes, each a task that ends with a fact.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ipreconnect_core::address::{Address, EndpointId, EntryId};
use ipreconnect_core::failure::{Cause, Failure};
use ipreconnect_core::origin::{Event, Order, ProbeKind};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};

use crate::dial::Dialer;
use crate::probe::{HangUp, handshake, knock, proof, question};
use crate::settings::OriginSettings;
use crate::shared::Shared;

pub(super) struct Orders {
    tasks: JoinSet<Event>,
    probes: BTreeMap<Order, AbortHandle>,
    dialer: Dialer,
    /// What a task tells before it ends.
    interim: mpsc::Sender<Event>,
    told: mpsc::Receiver<Event>,
}

impl Orders {
    pub(super) fn new(settings: &OriginSettings) -> Self {
        let (interim, told) = mpsc::channel(64);
        let mut orders = Self {
            tasks: JoinSet::new(),
            probes: BTreeMap::new(),
            dialer: Dialer::default(),
            interim,
            told,
        };
        orders.reconfigure(settings);
        orders
    }

    pub(super) fn reconfigure(&mut self, settings: &OriginSettings) {
        self.dialer = Dialer {
            source: settings.source,
            ports: settings.local_ports,
            announce: settings.announce,
        };
    }

    /// The next fact; pending for ever while nothing is under way.
    ///
    /// Cancel safety: no fact is lost.
    pub(super) async fn next(&mut self) -> Option<Event> {
        loop {
            tokio::select! {
                Some(event) = self.told.recv() => return Some(event),
                Some(ended) = self.tasks.join_next() => {
                    // A cancelled task has nothing to tell.
                    if let Ok(event) = ended {
                        self.forget(&event);
                        return Some(event);
                    }
                }
                else => return std::future::pending().await,
            }
        }
    }

    pub(super) fn probe(
        &mut self,
        shared: &Arc<Shared>,
        order: Order,
        (endpoint, entry, address): (EndpointId, EntryId, Address),
        kind: ProbeKind,
        patience: Duration,
    ) {
        let shared = Arc::clone(shared);
        let dialer = self.dialer;
        let interim = self.interim.clone();
        let handle = self.tasks.spawn(async move {
            let answer = match kind {
                ProbeKind::Handshake => match address {
                    Address::Udp(_) => knock(dialer, &address, patience).await,
                    Address::Tcp(_) | Address::Unix(_) => {
                        handshake(dialer, &address, patience).await
                    }
                },
                ProbeKind::HangUp => hang_up(dialer, &address, patience, order, interim).await,
                ProbeKind::Proof => proof(&shared, dialer, entry, &address, patience).await,
                ProbeKind::Question => {
                    question(&shared, dialer, (endpoint, entry), &address, patience).await
                }
            };
            match answer {
                Ok(took) => Event::ProbeAnswered { order, took },
                Err(failure) => Event::ProbeFailed { order, failure },
            }
        });
        self.probes.insert(order, handle);
    }

    pub(super) fn cancel(&mut self, order: Order) {
        if let Some(handle) = self.probes.remove(&order) {
            handle.abort();
        }
    }

    fn forget(&mut self, event: &Event) {
        if let Event::ProbeAnswered { order, .. } | Event::ProbeFailed { order, .. } = event {
            self.probes.remove(order);
        }
    }
}

async fn hang_up(
    dialer: Dialer,
    address: &Address,
    patience: Duration,
    order: Order,
    interim: mpsc::Sender<Event>,
) -> Result<Duration, Failure> {
    let hang_up = HangUp::begin(dialer, address, patience).await?;
    if let Ok(answer) = tokio::time::timeout(patience, hang_up.answered()).await {
        return answer;
    }
    if interim.send(Event::ProbeSilent { order }).await.is_err() {
        return Err(Failure::new(Cause::TimedOut));
    }
    hang_up.answered().await
}

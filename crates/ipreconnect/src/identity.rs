//! The identity ledger of one origin: what its servers showed of themselves, judged and kept.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use ipreconnect_core::address::Address;
use ipreconnect_core::failure::{Cause, Failure};
use ipreconnect_core::identity::{
    Acceptance, History, KeyId, OnKeyChange, Presented, Seen, Sighting,
};
use ipreconnect_core::names::Security;

use crate::clock;
use crate::store::Store;
use crate::tls::Proof;

/// Nobody writes any more, whatever became of who did: a runtime may end at any time.
struct Writing(Option<Weak<Identities>>);

impl Drop for Writing {
    fn drop(&mut self) {
        if let Some(identities) = self.0.as_ref().and_then(Weak::upgrade) {
            identities.writing.store(false, Ordering::SeqCst);
        }
    }
}

/// Names of one certificate that are kept.
const NAMES: usize = 64;
/// What could not be written is tried again after this.
const AGAIN: Duration = Duration::from_secs(60);

/// The ledger of one origin.
#[derive(Debug)]
pub(crate) struct Identities {
    origin: Arc<str>,
    store: Option<Arc<dyn Store>>,
    /// `None` until it was read.
    history: Mutex<Option<History>>,
    /// The same, to be looked at without waiting.
    published: ArcSwapOption<History>,
    writing: AtomicBool,
    dirty: AtomicBool,
}

impl Identities {
    pub(crate) fn new(origin: &Arc<str>, store: Option<Arc<dyn Store>>) -> Arc<Self> {
        Arc::new(Self {
            origin: Arc::clone(origin),
            store,
            history: Mutex::default(),
            published: ArcSwapOption::empty(),
            writing: AtomicBool::new(false),
            dirty: AtomicBool::new(false),
        })
    }

    /// Judges a server that verified. Must be asked on every connection, before its first byte.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub(crate) async fn admit(
        self: &Arc<Self>,
        proof: &Proof,
        address: &Address,
        dnssec: Security,
        policy: OnKeyChange,
    ) -> Result<(), Failure> {
        let certificate = &proof.certificate;
        let presented = Presented {
            entry: Arc::clone(&proof.entry),
            address: address.clone(),
            key: certificate.key,
            issuer: Arc::clone(&certificate.issuer),
            names: match certificate.names.get(..NAMES) {
                Some(first) => first.into(),
                None => Arc::clone(&certificate.names),
            },
            not_after: certificate.not_after,
            version: proof.version,
            dnssec,
            pinned: proof.pinned,
        };
        let now = clock::since_unix().as_secs();
        let published = self.published.load();
        if published
            .as_ref()
            .is_some_and(|history| history.knows(&presented, now))
        {
            return Ok(());
        }
        if let Err(error) = self.read().await
            && policy == OnKeyChange::Refuse
            && !proof.pinned
        {
            let why = format!("which keys it had before cannot be read: {error}");
            return Err(Failure::with_detail(Cause::KeyChanged, why));
        }
        let (verdict, alarming) = {
            let mut history = self.history();
            let history = history.get_or_insert_default();
            let verdict = history.see(&presented, policy, now);
            if verdict.changed {
                self.published.store(Some(Arc::new(history.clone())));
            }
            (verdict, history.is_alarming())
        };
        if verdict.changed {
            self.keep();
        }
        if verdict.is_news {
            self.tell(&presented, &verdict.seen, verdict.acceptance);
        }
        match (verdict.acceptance, &verdict.seen) {
            (Acceptance::Refused, Seen::Rotated { from }) => Err(Failure::with_detail(
                Cause::KeyChanged,
                format!("expected {from}, as before; it presented {certificate}"),
            )),
            _ => {
                tracing::trace!(origin = %self.origin, alarming, "identity verified");
                Ok(())
            }
        }
    }

    fn tell(&self, presented: &Presented, seen: &Seen, acceptance: Acceptance) {
        let (origin, address, key) = (&*self.origin, &presented.address, presented.key);
        let issuer = &*presented.issuer;
        match (seen, acceptance) {
            (Seen::Known, _) => {}
            (Seen::First, _) => {
                tracing::info!(origin, %address, %key, issuer, "identity seen for the first time");
            }
            (Seen::Moved { from }, _) => {
                tracing::info!(
                    origin, %address, from = &**from, %key,
                    "moved: the same key at a new address"
                );
            }
            (Seen::Rotated { from }, Acceptance::Accepted) => {
                tracing::info!(
                    origin, %address, %key, %from, issuer,
                    "rotated: a new key; chain and name are valid"
                );
            }
            (Seen::Rotated { from }, Acceptance::Alarming) => {
                tracing::error!(
                    origin, %address, %key, %from, issuer,
                    advice = Cause::KeyChanged.advice(),
                    "the key has changed; it is used, and nobody has accepted it"
                );
            }
            (Seen::Rotated { from }, Acceptance::Refused) => {
                tracing::error!(
                    origin, %address, %key, %from, issuer,
                    advice = Cause::KeyChanged.advice(),
                    "the key has changed; it is refused until somebody accepts it"
                );
            }
        }
    }

    /// All that was seen; empty before the first handshake.
    pub(crate) fn sightings(&self) -> Vec<Sighting> {
        let published = self.published.load();
        published
            .as_ref()
            .map(|history| history.sightings().to_vec())
            .unwrap_or_default()
    }

    /// Whether a key waits to be accepted.
    pub(crate) fn is_alarming(&self) -> bool {
        let published = self.published.load();
        published
            .as_ref()
            .is_some_and(|history| history.is_alarming())
    }

    /// A person accepts one key, or every one that was seen; returns what was not accepted before.
    pub(crate) async fn accept(
        self: &Arc<Self>,
        only: Option<KeyId>,
    ) -> std::io::Result<Vec<Sighting>> {
        self.read().await?;
        let accepted = {
            let mut history = self.history();
            let history = history.get_or_insert_default();
            let accepted = history.accept(only);
            self.published.store(Some(Arc::new(history.clone())));
            accepted
        };
        if !accepted.is_empty() {
            self.keep();
        }
        Ok(accepted)
    }

    /// Reads what was kept, once; after an error, at the next time again.
    pub(crate) async fn read(self: &Arc<Self>) -> std::io::Result<()> {
        if self.history().is_some() {
            return Ok(());
        }
        let own = Arc::clone(self);
        let read = tokio::task::spawn_blocking(move || {
            own.store
                .as_ref()
                .map_or(Ok(Vec::new()), |store| store.load_sightings(&own.origin))
        });
        let sightings = read.await.unwrap_or_else(|error| Err(error.into()));
        if let Err(error) = &sightings {
            tracing::warn!(origin = %self.origin, %error, "the identity ledger cannot be read");
        }
        let mut history = self.history();
        if history.is_none() {
            let read = History::new(sightings?);
            self.published.store(Some(Arc::new(read.clone())));
            *history = Some(read);
        }
        Ok(())
    }

    /// Writes what is known, on a thread that may wait for the disk; one at a time.
    fn keep(self: &Arc<Self>) {
        let Some(store) = self.store.clone() else {
            return;
        };
        self.dirty.store(true, Ordering::SeqCst);
        if self.writing.swap(true, Ordering::SeqCst) {
            return;
        }
        let own = Arc::downgrade(self);
        let writing = Writing(Some(Weak::clone(&own)));
        tokio::spawn(write(own, store, writing));
    }

    fn history(&self) -> MutexGuard<'_, Option<History>> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes until nothing has changed meanwhile.
async fn write(own: Weak<Identities>, store: Arc<dyn Store>, mut writing: Writing) {
    while let Some(identities) = own.upgrade() {
        identities.dirty.store(false, Ordering::SeqCst);
        let (origin, sightings) = (Arc::clone(&identities.origin), identities.sightings());
        let store = Arc::clone(&store);
        let work = tokio::task::spawn_blocking(move || store.save_sightings(&origin, &sightings));
        let written = work.await.unwrap_or_else(|error| Err(error.into()));
        if let Err(error) = &written {
            tracing::warn!(
                origin = %identities.origin, %error,
                "the identity ledger cannot be written; it is tried again"
            );
            drop(identities);
            tokio::time::sleep(AGAIN).await;
            continue;
        }
        identities.writing.store(false, Ordering::SeqCst);
        let more = identities.dirty.load(Ordering::SeqCst)
            && !identities.writing.swap(true, Ordering::SeqCst);
        if !more {
            // Somebody else may write by now.
            writing.0 = None;
            return;
        }
    }
}

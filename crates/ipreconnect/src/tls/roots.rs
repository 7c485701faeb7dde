//! The roots of trust, and the configuration of those who need no more than them.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustls::{ClientConfig, ConfigBuilder, RootCertStore, WantsVerifier};

use crate::clock;
use crate::resolve::Roots;

/// Certificates that are issued by `roots` count. They are read on a thread that may wait for the disk;
/// those of the system once a minute at most.
///
/// Cancel safety: nothing is lost; the reading goes on in its thread.
pub(crate) async fn with_roots(roots: &Roots) -> Result<ClientConfig, String> {
    Ok(config(read(roots).await?))
}

/// The roots themselves, read in the same way.
///
/// Cancel safety: as [`with_roots`].
pub(crate) async fn read(roots: &Roots) -> Result<Arc<RootCertStore>, String> {
    let roots = roots.clone();
    let read = tokio::task::spawn_blocking(move || store(&roots));
    read.await.map_err(|error| error.to_string())
}

/// No certificate counts.
pub(crate) fn without_roots() -> ClientConfig {
    config(Arc::new(RootCertStore::empty()))
}

fn config(store: Arc<RootCertStore>) -> ClientConfig {
    builder()
        .with_root_certificates(store)
        .with_no_client_auth()
}

pub(super) fn builder() -> ConfigBuilder<ClientConfig, WantsVerifier> {
    let builder = ClientConfig::builder_with_provider(super::provider());
    match builder.with_safe_default_protocol_versions() {
        Ok(builder) => builder,
        Err(_) => unreachable!("the provider has suites for the default versions"),
    }
}

/// What was read of the system's roots is read again after this: a machine gets new ones while
/// programs run.
pub(super) const READ_AGAIN: Duration = Duration::from_secs(60);

fn store(roots: &Roots) -> Arc<RootCertStore> {
    let certificates = match roots {
        Roots::System => return system(),
        Roots::Only(certificates) => certificates.iter().map(|der| der.clone().into()),
    };
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(certificates);
    Arc::new(store)
}

fn system() -> Arc<RootCertStore> {
    static SYSTEM: Mutex<Option<(Instant, Arc<RootCertStore>)>> = Mutex::new(None);
    let mut read = SYSTEM.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((at, store)) = &*read
        && at.elapsed() < READ_AGAIN
    {
        return Arc::clone(store);
    }
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let store = Arc::new(store);
    *read = Some((clock::now(), Arc::clone(&store)));
    store
}

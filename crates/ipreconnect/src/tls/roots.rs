//! The roots of trust, and the configuration of those who need no more than them.

use std::sync::{Arc, OnceLock};

use rustls::{ClientConfig, ConfigBuilder, RootCertStore, WantsVerifier};

use crate::resolve::Roots;

/// Certificates that are issued by `roots` count. They are read on a thread that may wait for the disk;
/// those of the system once a process.
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

fn store(roots: &Roots) -> Arc<RootCertStore> {
    static SYSTEM: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    let certificates = match roots {
        Roots::System => {
            let system = SYSTEM.get_or_init(|| {
                let mut store = RootCertStore::empty();
                store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
                Arc::new(store)
            });
            return Arc::clone(system);
        }
        Roots::Only(certificates) => certificates.iter().map(|der| der.clone().into()),
    };
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(certificates);
    Arc::new(store)
}

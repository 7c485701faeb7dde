//! TLS towards servers: whose certificates count.

use std::sync::{Arc, OnceLock};

use rustls::{ClientConfig, ConfigBuilder, RootCertStore, WantsVerifier};

use crate::resolve::Roots;

/// Certificates that are issued by `roots` count. They are read on a thread that may wait for the disk;
/// those of the system once a process.
///
/// Cancel safety: nothing is lost; the reading goes on in its thread.
pub(crate) async fn with_roots(roots: &Roots) -> Result<ClientConfig, String> {
    let roots = roots.clone();
    let read = tokio::task::spawn_blocking(move || store(&roots));
    let store = read.await.map_err(|error| error.to_string())?;
    Ok(config(store))
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

fn builder() -> ConfigBuilder<ClientConfig, WantsVerifier> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider);
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

//! TLS: towards servers, whose identity is proven before a byte is sent, and towards clients.

mod certificate;
mod connector;
mod postgres;
mod records;
mod roots;
mod session;
mod settings;
mod trust;

use std::sync::Arc;

use rustls::crypto::CryptoProvider;

pub use certificate::{Certificate, Day, Holder};
pub(crate) use connector::{Connector, Proof, failure_of};
pub(crate) use roots::{with_roots, without_roots};
pub use session::{Received, Session, Trouble};
pub use settings::{ClientIdentity, KeyError, Opening, TlsSettings, Verification, certified};

/// The one provider of cryptography.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    use std::sync::OnceLock;
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    Arc::clone(PROVIDER.get_or_init(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider())))
}

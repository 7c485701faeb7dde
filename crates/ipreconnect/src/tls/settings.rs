//! What the configuration says about TLS towards an origin.

use std::fmt;
use std::sync::Arc;

use ipreconnect_core::identity::{KeyId, OnKeyChange};
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::sign::CertifiedKey;
use zeroize::Zeroize;

use crate::resolve::Roots;

/// How far a server's certificate is verified.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verification {
    /// Chain, name and time; pins too, if there are any.
    #[default]
    Full,
    /// Nothing but pins, if there are any: whoever is in between can read everything.
    Off,
}

/// How TLS begins on a fresh connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Opening {
    /// At once.
    #[default]
    Direct,
    /// After PostgreSQL's SSLRequest was granted (PostgreSQL, protocol flow, "SSL session encryption").
    Postgres,
}

/// Our own certificate and key.
#[derive(Clone)]
pub struct ClientIdentity(Arc<CertifiedKey>);

/// Why a certificate and a key are no pair to use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyError(String);

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for KeyError {}

impl ClientIdentity {
    /// A chain, our own certificate first, and its key.
    ///
    /// # Errors
    /// If the key cannot be used, or is not the certificate's.
    pub fn new(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Self, KeyError> {
        certified(chain, key).map(|pair| Self(Arc::new(pair)))
    }

    /// A pair that [`certified`] made.
    #[must_use]
    pub fn from_pair(pair: Arc<CertifiedKey>) -> Self {
        Self(pair)
    }

    pub(super) fn pair(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.0)
    }
}

/// A chain and its key, for either side. The key that is handed in is wiped from memory.
///
/// # Errors
/// If the key cannot be used, or is not the certificate's.
pub fn certified(
    chain: Vec<CertificateDer<'static>>,
    mut key: PrivateKeyDer<'static>,
) -> Result<CertifiedKey, KeyError> {
    let loaded = any_supported_type(&key);
    // The library keeps the key for itself, and wipes it when it is done with.
    key.zeroize();
    let key = loaded.map_err(|error| KeyError(format!("the key cannot be used: {error}")))?;
    let pair = CertifiedKey::new(chain, key);
    match pair.keys_match() {
        Ok(()) => Ok(pair),
        Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::KeyMismatch)) => {
            let why = "the key is not the one of the certificate";
            Err(KeyError(why.to_owned()))
        }
        Err(error) => Err(KeyError(format!("the certificate cannot be used: {error}"))),
    }
}

/// Keys are never shown.
impl fmt::Debug for ClientIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = self.0.cert.first().and_then(super::Certificate::key_of);
        f.debug_tuple("ClientIdentity").field(&key).finish()
    }
}

impl PartialEq for ClientIdentity {
    fn eq(&self, other: &Self) -> bool {
        self.0.cert == other.0.cert
    }
}

impl Eq for ClientIdentity {}

/// TLS towards the servers of one origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsSettings {
    /// The name that certificates must be valid for; that of each address unless given.
    pub server_name: Option<ServerName<'static>>,
    /// The roots that chains must lead to.
    pub roots: Roots,
    /// Keys of which the chain must have one; any, if there are none.
    pub pins: Arc<[KeyId]>,
    /// How far certificates are verified.
    pub verification: Verification,
    /// What a key means that is another one than before.
    pub on_key_change: OnKeyChange,
    /// Our own certificate, for servers that ask for one.
    pub identity: Option<ClientIdentity>,
    /// The protocols offered (ALPN, RFC 7301), the preferred one first.
    pub alpn: Vec<Vec<u8>>,
    /// How TLS begins.
    pub opening: Opening,
}

impl Default for TlsSettings {
    /// Verified against the system's roots.
    fn default() -> Self {
        Self {
            server_name: None,
            roots: Roots::System,
            pins: Arc::default(),
            verification: Verification::Full,
            on_key_change: OnKeyChange::Verify,
            identity: None,
            alpn: Vec::new(),
            opening: Opening::Direct,
        }
    }
}

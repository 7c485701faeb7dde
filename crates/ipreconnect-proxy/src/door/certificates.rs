//! Which certificate a client is shown.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use ipreconnect::tls::Certificate;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

/// The protocol by which an ACME server asks for a proof (RFC 8737).
pub const ACME_TLS: &[u8] = b"acme-tls/1";

/// Makes certificates, or renews them: asked at every handshake, so that none is shown whose time is
/// over, however long this machine slept.
pub trait Certify: Send + Sync + fmt::Debug {
    /// The certificate to show to a client that asks for that name, or for none.
    fn certificate(&self, name: Option<&str>) -> Option<Arc<CertifiedKey>>;

    /// Whether a challenge is open now.
    fn is_challenged(&self) -> bool {
        false
    }

    /// The certificate that answers an ACME server's TLS-ALPN-01 challenge for that name.
    fn challenge(&self, name: &str) -> Option<Arc<CertifiedKey>>;
}

/// The certificates of one listener.
#[derive(Debug)]
pub(super) enum Certificates {
    Fixed(Fixed),
    Made(Arc<dyn Certify>),
}

/// Certificates that are there, found by their names.
#[derive(Debug)]
pub(super) struct Fixed {
    by_name: BTreeMap<String, Vec<Arc<CertifiedKey>>>,
    /// In the order in which they are given; the first is for those who ask for nothing that is known.
    all: Vec<Arc<CertifiedKey>>,
}

impl Fixed {
    pub(super) fn new(all: Vec<Arc<CertifiedKey>>) -> Self {
        let mut by_name: BTreeMap<String, Vec<_>> = BTreeMap::new();
        for pair in &all {
            let read = pair.cert.first().map(|der| Certificate::read(der));
            for name in read.iter().flatten().flat_map(|one| one.names.iter()) {
                let same = by_name.entry(name.to_ascii_lowercase()).or_default();
                same.push(Arc::clone(pair));
            }
        }
        Self { by_name, all }
    }

    /// By the name itself, else by a wildcard for its first label (RFC 9525, section 6.3).
    fn named(&self, name: &str) -> Option<&Vec<Arc<CertifiedKey>>> {
        self.by_name.get(name).or_else(|| {
            let (_, parent) = name.split_once('.')?;
            self.by_name.get(&format!("*.{parent}"))
        })
    }

    fn find(&self, hello: &ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name().map(str::to_ascii_lowercase);
        let candidates = name.and_then(|name| self.named(&name)).unwrap_or(&self.all);
        let usable =
            |pair: &&Arc<CertifiedKey>| pair.key.choose_scheme(hello.signature_schemes()).is_some();
        let found = candidates.iter().find(usable).or(candidates.first());
        found.map(Arc::clone)
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let made = match self {
            Self::Fixed(fixed) => return fixed.find(&hello),
            Self::Made(made) => made,
        };
        let is_challenge = hello
            .alpn()
            .is_some_and(|mut offered| offered.any(|protocol| protocol == ACME_TLS));
        match hello.server_name() {
            Some(name) if is_challenge => made.challenge(name),
            name => made.certificate(name),
        }
    }
}

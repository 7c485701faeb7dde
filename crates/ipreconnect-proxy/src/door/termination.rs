//! TLS towards clients.

use std::fmt;
use std::sync::Arc;

use ipreconnect::core::hello::Hello;
use ipreconnect::socket::Socket;
use ipreconnect::tls::{Session, Trouble, provider};
use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::pki_types::CertificateDer;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ProducesTickets, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{RootCertStore, ServerConfig};

use super::certificates::{ACME_TLS, Certificates, Certify, Fixed};
use super::peek;

/// Whether clients must have a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientAuth {
    /// Without one that verifies, they do not come in.
    #[default]
    Required,
    /// They may come without one; one that does not verify is refused.
    Optional,
}

/// The oldest version that is spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MinVersion {
    /// TLS 1.2.
    #[default]
    Tls12,
    /// TLS 1.3.
    Tls13,
}

/// TLS of one listener.
#[derive(Clone, Debug, Default)]
pub struct TerminationSettings {
    /// Chains with their keys and staples; the name that the client asks for chooses, the first is for
    /// those who ask for none that is known.
    pub pairs: Vec<Arc<CertifiedKey>>,
    /// What makes certificates, instead of `pairs`.
    pub made: Option<Arc<dyn Certify>>,
    /// The roots that clients' certificates must lead to, in DER; none are asked for without.
    pub client_roots: Vec<Vec<u8>>,
    /// Whether clients must have a certificate, where roots are given.
    pub client_auth: ClientAuth,
    /// The oldest version that is spoken.
    pub min_version: MinVersion,
    /// The protocols that are spoken inside (ALPN), the preferred one first.
    pub alpn: Vec<Vec<u8>>,
}

/// Opens TLS towards clients. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Termination {
    config: Arc<ServerConfig>,
    /// For ACME servers that look for a proof: they alone speak that protocol.
    challenge: Option<(Arc<dyn Certify>, Arc<ServerConfig>)>,
    client_roots: Arc<[Vec<u8>]>,
    client_auth: ClientAuth,
}

/// Why TLS cannot be opened by some settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TerminationError(String);

impl fmt::Display for TerminationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for TerminationError {}

impl Termination {
    /// By these settings. Clients resume the sessions that they had with the one `before`, unless
    /// another rule holds for their certificates now.
    ///
    /// # Errors
    /// If no certificate is there, or the roots are of no use.
    pub fn new(
        settings: TerminationSettings,
        before: Option<&Self>,
    ) -> Result<Self, TerminationError> {
        if settings.pairs.is_empty() && settings.made.is_none() {
            return Err(TerminationError("there is no certificate".to_owned()));
        }
        let wrong = |error: &dyn fmt::Display| TerminationError(error.to_string());
        let versions: &[_] = match settings.min_version {
            MinVersion::Tls12 => &[&TLS13, &TLS12],
            MinVersion::Tls13 => &[&TLS13],
        };
        let builder = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(versions)
            .map_err(|error| wrong(&error))?;
        let builder = if settings.client_roots.is_empty() {
            builder.with_no_client_auth()
        } else {
            let verifier = verifier(&settings.client_roots, settings.client_auth)?;
            builder.with_client_cert_verifier(verifier)
        };
        let made = settings.made.clone();
        let certificates = match settings.made {
            Some(made) => Certificates::Made(made),
            None => Certificates::Fixed(Fixed::new(settings.pairs)),
        };
        let mut config = builder.with_cert_resolver(Arc::new(certificates));
        let challenge = made.map(|made| {
            let mut config = config.clone();
            config.alpn_protocols = vec![ACME_TLS.to_vec()];
            (made, Arc::new(config))
        });
        config.alpn_protocols = settings.alpn;
        // A ticket holds what was known of a client: where another rule holds, it must be of no use.
        let same = |before: &&Self| {
            *before.client_roots == *settings.client_roots
                && before.client_auth == settings.client_auth
        };
        config.ticketer = match before.filter(same) {
            Some(before) => Arc::clone(&before.config.ticketer),
            None => tickets()?,
        };
        Ok(Self {
            config: Arc::new(config),
            challenge,
            client_roots: settings.client_roots.into(),
            client_auth: settings.client_auth,
        })
    }

    /// By what a client is to be spoken to. While no challenge is open, nothing is looked at.
    async fn config_for(&self, client: &Socket) -> Arc<ServerConfig> {
        if let Some((made, config)) = &self.challenge
            && made.is_challenged()
            && let Hello::Tls(hello) = peek::hello(client).await
            && hello.protocols.iter().any(|offered| offered == ACME_TLS)
        {
            return Arc::clone(config);
        }
        Arc::clone(&self.config)
    }

    /// Whether nobody comes in without a certificate.
    pub(super) fn demands_certificate(&self) -> bool {
        self.client_auth == ClientAuth::Required && !self.client_roots.is_empty()
    }

    /// Makes the handshake with a client.
    ///
    /// Cancel safety: the connection is of no use afterwards.
    pub(super) async fn open(&self, client: &Socket) -> Result<Box<Session>, String> {
        let session = Session::server(self.config_for(client).await);
        let mut session = Box::new(session.map_err(|error| error.to_string())?);
        match session.handshake(client).await {
            // It was the answer to an ACME server, which wants no more than that.
            Ok(()) if session.alpn() == Some(ACME_TLS) => {
                Err("an ACME server had the proof that it asked for".to_owned())
            }
            Ok(()) => Ok(session),
            Err(Trouble::Tls(error)) => Err(format!("TLS handshake failed: {error}")),
            Err(other) => Err(other.to_string()),
        }
    }
}

fn tickets() -> Result<Arc<dyn ProducesTickets>, TerminationError> {
    Ticketer::new().map_err(|error| TerminationError(error.to_string()))
}

fn verifier(
    roots: &[Vec<u8>],
    auth: ClientAuth,
) -> Result<Arc<dyn ClientCertVerifier>, TerminationError> {
    let mut store = RootCertStore::empty();
    for root in roots {
        store
            .add(CertificateDer::from(root.clone()))
            .map_err(|error| TerminationError(format!("client_ca: {error}")))?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(store), provider());
    let builder = match auth {
        ClientAuth::Required => builder,
        ClientAuth::Optional => builder.allow_unauthenticated(),
    };
    builder
        .build()
        .map_err(|error| TerminationError(format!("client_ca: {error}")))
}

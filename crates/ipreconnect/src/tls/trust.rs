//! Who a server must be: chain, name, time, pins, and what its issuer says of it.

use std::fmt;
use std::sync::Arc;

use ipreconnect_core::failure::{Cause, Failure};
use ipreconnect_core::identity::KeyId;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_cert_signed_by_trust_anchor};
use rustls::pki_types::{CertificateDer, ServerName, TrustAnchor, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme,
};
use x509_cert::der::Decode;
use x509_ocsp::{BasicOcspResponse, CertStatus, OcspResponse};

use super::Verification;
use super::certificate::{Certificate, Day};

/// RSA keys shorter than this prove nothing any more (NIST SP 800-131A).
const SHORTEST_RSA: usize = 2048;

/// Verifies servers.
#[derive(Debug)]
pub(super) struct Trust {
    /// Signatures, and with [`Verification::Full`] the chain, the name and the time.
    inner: Option<Arc<WebPkiServerVerifier>>,
    /// What the chain must lead to, unless verification is off.
    roots: Option<Arc<RootCertStore>>,
    algorithms: rustls::crypto::WebPkiSupportedAlgorithms,
    pins: Arc<[KeyId]>,
}

/// Why a server is refused, in a form that passes through the handshake.
#[derive(Debug)]
pub(super) struct Refusal(pub(super) Failure);

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Refusal {}

impl Trust {
    pub(super) fn new(
        roots: Arc<RootCertStore>,
        verification: Verification,
        pins: Arc<[KeyId]>,
    ) -> Result<Self, String> {
        let provider = super::provider();
        let inner = match verification {
            Verification::Off => None,
            Verification::Full if roots.is_empty() => {
                return Err("there is no root certificate to trust".to_owned());
            }
            Verification::Full => Some(
                WebPkiServerVerifier::builder_with_provider(
                    Arc::clone(&roots),
                    Arc::clone(&provider),
                )
                .build()
                .map_err(|error| error.to_string())?,
            ),
        };
        Ok(Self {
            roots: inner.is_some().then_some(roots),
            inner,
            algorithms: provider.signature_verification_algorithms,
            pins,
        })
    }

    /// Whether the key is pinned, or that of an issuer in the chain that is proven. Certificates that
    /// a server only lays beside its chain count for nothing.
    fn is_pinned(
        &self,
        end_entity: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> bool {
        let pinned = |der: &CertificateDer<'_>| {
            Certificate::key_of(der).is_some_and(|key| self.pins.contains(&key))
        };
        if self.pins.is_empty() || pinned(end_entity) {
            return true;
        }
        let Some(roots) = &self.roots else {
            return false;
        };
        let mut anchors = RootCertStore::empty();
        anchors.add_parsable_certificates(others.iter().filter(|der| pinned(der)).cloned());
        let of_root = |root: &&TrustAnchor<'_>| self.pins.contains(&key_of_root(root));
        anchors.extend(roots.roots.iter().filter(of_root).cloned());
        if anchors.is_empty() {
            return false;
        }
        ParsedCertificate::try_from(end_entity).is_ok_and(|certificate| {
            let algorithms = self.algorithms.all;
            verify_server_cert_signed_by_trust_anchor(
                &certificate,
                &anchors,
                others,
                now,
                algorithms,
            )
            .is_ok()
        })
    }
}

/// The key of a root; a trust anchor keeps what is inside the SubjectPublicKeyInfo (RFC 5914).
fn key_of_root(root: &TrustAnchor<'_>) -> KeyId {
    let inside = root.subject_public_key_info.as_ref();
    let mut spki = Vec::with_capacity(inside.len() + 5);
    spki.push(0x30);
    match u8::try_from(inside.len()) {
        Ok(short) if short < 0x80 => spki.push(short),
        _ => {
            let length = inside.len().to_be_bytes();
            let digits: Vec<u8> = length.into_iter().skip_while(|byte| *byte == 0).collect();
            spki.push(0x80 | u8::try_from(digits.len()).unwrap_or_default());
            spki.extend(digits);
        }
    }
    spki.extend(inside);
    super::certificate::key_id(&spki)
}

impl ServerCertVerifier for Trust {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let shown = Certificate::read(end_entity);
        let refuse = |cause, expected: String| {
            let presented = match &shown {
                Ok(certificate) => certificate.to_string(),
                Err(error) => format!("a certificate that cannot be read: {error}"),
            };
            refusal(cause, format!("{expected}; it presented {presented}"))
        };
        if let Ok(certificate) = &shown
            && let Some(bits) = certificate.rsa_bits.filter(|bits| *bits < SHORTEST_RSA)
        {
            let expected = format!("an RSA key of {bits} bits; at least {SHORTEST_RSA} are needed");
            return Err(refuse(Cause::BadCertificate, expected));
        }
        if let Some(inner) = &self.inner {
            inner
                .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
                .map_err(|error| {
                    let (cause, expected) = explain(&error, server_name, shown.as_ref().ok(), now);
                    refuse(cause, expected)
                })?;
        }
        if let Ok(certificate) = &shown
            && is_revoked(ocsp_response, certificate)
        {
            let expected = "its own OCSP staple says that it is revoked".to_owned();
            return Err(refuse(Cause::Revoked, expected));
        }
        if !self.is_pinned(end_entity, intermediates, now) {
            let pins: Vec<String> = self.pins.iter().map(ToString::to_string).collect();
            let expected = format!("expected one of the pins {}", pins.join(", "));
            return Err(refuse(Cause::WrongPin, expected));
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

fn refusal(cause: Cause, detail: String) -> Error {
    let refusal = Refusal(Failure::with_detail(cause, detail));
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(refusal))))
}

/// What was expected, in a person's words.
fn explain(
    error: &Error,
    server_name: &ServerName<'_>,
    shown: Option<&Certificate>,
    now: UnixTime,
) -> (Cause, String) {
    let name = server_name.to_str();
    let today = Day(now.as_secs());
    match error {
        Error::InvalidCertificate(error) => match error {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => (
                Cause::Expired,
                format!("expected one that is valid now, at {today}"),
            ),
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => (
                Cause::NotYetValid,
                format!("expected one that is valid now, at {today}"),
            ),
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                (Cause::WrongName, format!("expected one for {name}"))
            }
            CertificateError::UnknownIssuer => (
                Cause::UnknownIssuer,
                if shown.is_some_and(|certificate| certificate.self_issued) {
                    "it is self-signed, and is none of the trusted roots".to_owned()
                } else {
                    "its chain leads to none of the trusted roots".to_owned()
                },
            ),
            CertificateError::Revoked => (Cause::Revoked, "its issuer revoked it".to_owned()),
            other => (
                Cause::BadCertificate,
                format!("expected a sound one: {other}"),
            ),
        },
        other => (Cause::BadCertificate, other.to_string()),
    }
}

/// Whether a stapled OCSP response says that the certificate is revoked (RFC 6960). The server itself
/// says so in its own handshake: no signature is needed to believe what speaks against it.
fn is_revoked(response: &[u8], certificate: &Certificate) -> bool {
    let Ok(response) = OcspResponse::from_der(response) else {
        return false;
    };
    let Some(bytes) = response.response_bytes else {
        return false;
    };
    let Ok(basic) = BasicOcspResponse::from_der(bytes.response.as_bytes()) else {
        return false;
    };
    basic.tbs_response_data.responses.iter().any(|single| {
        single.cert_id.serial_number.as_bytes() == &*certificate.serial
            && matches!(single.cert_status, CertStatus::Revoked(_))
    })
}

//! Certificates and keys of a round, in its own directory.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// The name of all of them.
pub(crate) const HOST: &str = "origin.bench";

/// Writes `ca.pem`, and `site` (ECDSA, P-256) and `rsa` (2,048 bits) as `.pem`, `.key`, and both in one.
pub(crate) fn write(directory: &Path) -> io::Result<()> {
    let wrong = io::Error::other::<rcgen::Error>;
    let key = KeyPair::generate().map_err(wrong)?;
    let mut params = CertificateParams::default();
    params
        .distinguished_name
        .push(DnType::CommonName, "Bench CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = params.self_signed(&key).map_err(wrong)?;
    fs::write(directory.join("ca.pem"), ca.pem())?;
    let issuer = Issuer::new(params, key);
    let kinds = [
        ("site", &rcgen::PKCS_ECDSA_P256_SHA256),
        ("rsa", &rcgen::PKCS_RSA_SHA256),
    ];
    for (name, kind) in kinds {
        let key = KeyPair::generate_for(kind).map_err(wrong)?;
        let params = CertificateParams::new(vec![HOST.to_owned()]).map_err(wrong)?;
        let certificate = params.signed_by(&key, &issuer).map_err(wrong)?;
        let (pem, key) = (certificate.pem(), key.serialize_pem());
        for (ending, text) in [
            ("pem", pem.clone()),
            ("key", key.clone()),
            ("both", pem + &key),
        ] {
            let path = directory.join(format!("{name}.{ending}"));
            fs::write(&path, text)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        }
    }
    Ok(())
}

/// An origin's own TLS.
pub(crate) fn server(directory: &Path) -> io::Result<Arc<ServerConfig>> {
    let chain = CertificateDer::pem_file_iter(directory.join("site.pem"));
    let chain: Result<Vec<_>, _> = chain.map_err(io::Error::other)?.collect();
    let key = PrivateKeyDer::from_pem_file(directory.join("site.key")).map_err(io::Error::other)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_no_client_auth()
        .with_single_cert(chain.map_err(io::Error::other)?, key)
        .map_err(io::Error::other)?;
    config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new().map_err(io::Error::other)?;
    Ok(Arc::new(config))
}

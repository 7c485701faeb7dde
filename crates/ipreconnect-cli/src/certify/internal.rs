//! A local authority: certificates for development, trusted by whoever trusts its root.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use ipreconnect::tls::{Certificate, certified};
use ipreconnect_proxy::Certify;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use time::OffsetDateTime;

use super::{now, two_thirds};

const DAY: u64 = 86_400;
/// The root is trusted by hand, and lasts.
const ROOT: u64 = 3650 * DAY;
/// Leaves are made in a moment, and are short-lived.
const LEAF: u64 = 7 * DAY;
/// Clocks of one machine and its guests differ.
const SKEW: u64 = 3600;

/// A root certificate and its key, in `state_dir`.
#[derive(Debug)]
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    root: CertificateDer<'static>,
}

impl Authority {
    /// Reads it from its directory, or makes it there.
    pub(crate) fn open(directory: &Path) -> io::Result<Self> {
        let (root, key) = (root_file(directory), directory.join("root.key"));
        let told = |path: &Path, error: &dyn std::fmt::Display| {
            io::Error::other(format!("{}: {error}", path.display()))
        };
        let key = match std::fs::read_to_string(&key) {
            Ok(text) => KeyPair::from_pem(&text).map_err(|error| told(&key, &error))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let made = KeyPair::generate().map_err(io::Error::other)?;
                super::write(&key, &made.serialize_pem()).map_err(|error| told(&key, &error))?;
                made
            }
            Err(error) => return Err(told(&key, &error)),
        };
        let params = params(&key);
        let read = CertificateDer::from_pem_file(&root).ok();
        let fits = |der: &CertificateDer<'_>| is_of(der, &params, &key);
        let root = match read.filter(fits) {
            Some(der) => der,
            None => {
                let made = params.self_signed(&key).map_err(io::Error::other)?;
                super::write(&root, &made.pem()).map_err(|error| told(&root, &error))?;
                made.der().clone()
            }
        };
        Ok(Self {
            issuer: Issuer::new(params, key),
            root,
        })
    }

    fn issue(&self, names: &[String]) -> Result<Leaf, String> {
        let wrong = |error: rcgen::Error| error.to_string();
        let key = KeyPair::generate().map_err(wrong)?;
        let mut params = CertificateParams::new(names).map_err(wrong)?;
        let first = names.first().map_or("ipreconnect", String::as_str);
        params.distinguished_name.push(DnType::CommonName, first);
        let now = now();
        let (not_before, not_after) = (now - SKEW, now + LEAF);
        params.not_before = moment(not_before);
        params.not_after = moment(not_after);
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let certificate = params.signed_by(&key, &self.issuer).map_err(wrong)?;
        let chain = vec![certificate.der().clone(), self.root.clone()];
        let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(str::to_owned)?;
        let pair = certified(chain, key).map_err(|error| error.to_string())?;
        Ok(Leaf {
            pair: Arc::new(pair),
            from: not_before,
            renew_at: two_thirds(not_before, not_after),
        })
    }
}

/// Where the root certificate is.
pub(crate) fn root_file(directory: &Path) -> PathBuf {
    directory.join("root.pem")
}

/// What the root says; its name is its key's, so that a new one is not taken for an old one.
fn params(key: &KeyPair) -> CertificateParams {
    let mut params = CertificateParams::default();
    let id: String = key
        .public_key_raw()
        .iter()
        .rev()
        .take(4)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let name = &mut params.distinguished_name;
    name.push(DnType::CommonName, format!("ipreconnect local CA {id}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let now = now();
    params.not_before = moment(now - SKEW);
    params.not_after = moment(now + ROOT);
    params
}

/// Whether a root certificate is that of the key, and will be valid for longer than what it issues.
fn is_of(der: &CertificateDer<'_>, params: &CertificateParams, key: &KeyPair) -> bool {
    let own = params.self_signed(key).ok();
    let own = own.and_then(|own| Certificate::read(own.der()).ok());
    let (Some(own), Ok(found)) = (own, Certificate::read(der)) else {
        return false;
    };
    found.key == own.key && found.subject == own.subject && found.not_after > now() + 2 * LEAF
}

fn moment(seconds: u64) -> OffsetDateTime {
    let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
    OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

#[derive(Debug)]
struct Leaf {
    pair: Arc<CertifiedKey>,
    from: u64,
    renew_at: u64,
}

/// The certificate of one listener.
#[derive(Debug)]
pub(crate) struct Internal {
    authority: Arc<Authority>,
    names: Vec<String>,
    leaf: ArcSwapOption<Leaf>,
}

impl Internal {
    pub(crate) fn new(authority: Arc<Authority>, names: Vec<String>) -> Result<Self, String> {
        let first = authority.issue(&names)?;
        Ok(Self {
            authority,
            names,
            leaf: ArcSwapOption::from_pointee(first),
        })
    }
}

impl Certify for Internal {
    fn certificate(&self, _: Option<&str>) -> Option<Arc<CertifiedKey>> {
        let leaf = self.leaf.load_full();
        let now = now();
        if let Some(leaf) = &leaf
            && (leaf.from..leaf.renew_at).contains(&now)
        {
            return Some(Arc::clone(&leaf.pair));
        }
        match self.authority.issue(&self.names) {
            Ok(new) => {
                let pair = Arc::clone(&new.pair);
                self.leaf.store(Some(Arc::new(new)));
                Some(pair)
            }
            Err(error) => {
                tracing::error!(%error, "a local certificate cannot be made");
                leaf.map(|leaf| Arc::clone(&leaf.pair))
            }
        }
    }

    fn challenge(&self, _: &str) -> Option<Arc<CertifiedKey>> {
        None
    }
}

#[cfg(test)]
mod tests;

//! Certificates and keys, read from their files.

use std::fmt;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ipreconnect::tls::certified;
use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use zeroize::Zeroizing;

/// A file that is longer is none of these.
const LONGEST: u64 = 4 * 1024 * 1024;

/// Who else than its owner may read a key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Permissions {
    /// Nobody; the group too, if the file is root's (the rule of PostgreSQL).
    #[default]
    Strict,
    /// Whoever may, by `--insecure-permissions`.
    Any,
}

/// A chain, its key, and what its issuer says of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PairFiles {
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
    pub(crate) ocsp: Option<PathBuf>,
}

/// What such files hold. Two are the same if clients see no difference.
#[derive(Clone)]
pub(crate) struct Pair(pub(crate) Arc<CertifiedKey>);

impl fmt::Debug for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pair")
    }
}

impl PartialEq for Pair {
    fn eq(&self, other: &Self) -> bool {
        self.0.cert == other.0.cert && self.0.ocsp == other.0.ocsp
    }
}

impl PairFiles {
    /// Reads all of them, or says which one is wrong, and why.
    pub(crate) fn read(&self, permissions: Permissions) -> Result<Pair, String> {
        let chain = certificates(&self.cert)?;
        let key = key(&self.key, permissions)?;
        let mut pair = certified(chain, key)
            .map_err(|error| format!("{} and {}: {error}", shown(&self.cert), shown(&self.key)))?;
        if let Some(path) = &self.ocsp {
            pair.ocsp = Some(bytes(path)?.to_vec());
        }
        Ok(Pair(Arc::new(pair)))
    }

    /// Every file, to be watched.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &Path> {
        let ocsp = self.ocsp.as_deref();
        [&*self.cert, &*self.key].into_iter().chain(ocsp)
    }
}

/// The certificates of a PEM file, in their order; at least one.
pub(crate) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let bytes = bytes(path)?;
    let wrong = |error: PemError| format!("{}: {}", shown(path), pem(&error));
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let found = found.map_err(wrong)?;
    if found.is_empty() {
        return Err(format!("{} has no certificate in PEM", shown(path)));
    }
    for der in &found {
        ipreconnect::tls::Certificate::read(der)
            .map_err(|error| format!("{} has a certificate that is none: {error}", shown(path)))?;
    }
    Ok(found)
}

/// The first key of a PEM file.
pub(crate) fn key(path: &Path, permissions: Permissions) -> Result<PrivateKeyDer<'static>, String> {
    let bytes = bytes(path)?;
    let key = PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| match error {
        PemError::NoItemsFound if is_encrypted(&bytes) => format!(
            "{} is encrypted; `openssl pkey` writes it without a passphrase",
            shown(path)
        ),
        PemError::NoItemsFound => format!("{} has no private key in PEM", shown(path)),
        error => format!("{}: {}", shown(path), pem(&error)),
    })?;
    kept_from_others(path, permissions)?;
    Ok(key)
}

/// Whether nobody else may read a secret.
pub(crate) fn kept_from_others(path: &Path, permissions: Permissions) -> Result<(), String> {
    let found = fs::metadata(path).map_err(|error| format!("{}: {error}", shown(path)))?;
    let allowed = if found.uid() == 0 { 0o640 } else { 0o600 };
    let mode = found.mode() & 0o777;
    if permissions == Permissions::Strict && mode & !(allowed | 0o100) != 0 {
        return Err(format!(
            "{} can be read by others (mode {mode:o}); `chmod {allowed:o}` it, or run with --insecure-permissions",
            shown(path)
        ));
    }
    Ok(())
}

fn is_encrypted(bytes: &[u8]) -> bool {
    let word = b"ENCRYPTED";
    bytes.windows(word.len()).any(|window| window == word)
}

/// The whole of a file; it is wiped from memory when it is done with, since it may hold a key.
fn bytes(path: &Path) -> Result<Zeroizing<Vec<u8>>, String> {
    let read = |error: std::io::Error| format!("{}: {error}", shown(path));
    let file = File::open(path).map_err(read)?;
    let length = file.metadata().map_err(read)?.len();
    if length > LONGEST {
        return Err(format!("{} is too long: {length} bytes", shown(path)));
    }
    // Room for all of it at once: a buffer that grows leaves copies behind.
    let room = usize::try_from(length).unwrap_or_default() + 1;
    let mut bytes = Zeroizing::new(Vec::with_capacity(room));
    file.take(LONGEST).read_to_end(&mut bytes).map_err(read)?;
    Ok(bytes)
}

fn pem(error: &PemError) -> String {
    format!("this is no PEM: {error}")
}

fn shown(path: &Path) -> std::path::Display<'_> {
    path.display()
}

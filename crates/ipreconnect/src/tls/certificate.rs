//! A certificate as people and the ledger see it.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use ipreconnect_core::identity::KeyId;
use rustls::pki_types::CertificateDer;
use x509_cert::Certificate as Parsed;
use x509_cert::der::asn1::{ObjectIdentifier, UintRef};
use x509_cert::der::{Decode, Encode, Reader, SliceReader};
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

/// RSA, as keys name it (RFC 3279, section 2.3.1).
const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
/// The common name (RFC 4519, section 2.3).
const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");
/// Names that are shown where one is refused.
const SHOWN: usize = 5;
/// Characters of one name that are shown and kept.
const LONGEST: usize = 256;

/// What a certificate says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// Its key.
    pub key: KeyId,
    /// Who it is about.
    pub subject: Arc<str>,
    /// Who issued it.
    pub issuer: Arc<str>,
    /// The names and addresses it is valid for.
    pub names: Arc<[String]>,
    /// The beginning of its time, in seconds since 1970.
    pub not_before: u64,
    /// The end of its time, in seconds since 1970.
    pub not_after: u64,
    /// Whether its issuer is itself.
    pub self_issued: bool,
    /// The number its issuer gave it.
    pub serial: Arc<[u8]>,
    /// The bits of its key's modulus, if it is an RSA key.
    pub rsa_bits: Option<usize>,
}

impl Certificate {
    /// Reads a certificate in DER. Nothing is verified.
    ///
    /// # Errors
    /// If it is none.
    pub fn read(der: &[u8]) -> Result<Self, String> {
        let parsed = Parsed::from_der(der).map_err(|error| error.to_string())?;
        let tbs = &parsed.tbs_certificate;
        let key = &tbs.subject_public_key_info;
        let spki = key.to_der().map_err(|error| error.to_string())?;
        let rsa_bits = (key.algorithm.oid == RSA)
            .then(|| key.subject_public_key.as_bytes().and_then(modulus_bits))
            .flatten();
        Ok(Self {
            key: key_id(&spki),
            subject: shown(&tbs.subject.to_string()).into(),
            issuer: shown(&tbs.issuer.to_string()).into(),
            names: names(&parsed).into(),
            not_before: tbs.validity.not_before.to_unix_duration().as_secs(),
            not_after: tbs.validity.not_after.to_unix_duration().as_secs(),
            self_issued: tbs.subject == tbs.issuer,
            serial: tbs.serial_number.as_bytes().into(),
            rsa_bits,
        })
    }

    /// The key of a certificate, if it is one.
    pub(crate) fn key_of(der: &CertificateDer<'_>) -> Option<KeyId> {
        Self::read(der).ok().map(|certificate| certificate.key)
    }
}

/// The hash of a SubjectPublicKeyInfo.
pub(super) fn key_id(spki: &[u8]) -> KeyId {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, spki).as_ref());
    KeyId(hash)
}

/// As it is shown where it is refused.
impl fmt::Display for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut names = match self.names.get(..SHOWN) {
            None if self.names.is_empty() => "no name".to_owned(),
            None => self.names.join(", "),
            Some(first) => first.join(", "),
        };
        if let Some(more @ 1..) = self.names.len().checked_sub(SHOWN) {
            names.push_str(&format!(" and {more} more"));
        }
        write!(
            f,
            "a certificate for {names}; issuer {}; valid {} to {}; key {}",
            self.issuer,
            Day(self.not_before),
            Day(self.not_after),
            self.key
        )
    }
}

/// A moment in seconds since 1970, shown as a date and a time of UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Day(pub u64);

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let moment = std::time::Duration::from_secs(self.0);
        match x509_cert::der::DateTime::from_unix_duration(moment) {
            Ok(date) => write!(
                f,
                "{:04}-{:02}-{:02} {:02}:{:02} UTC",
                date.year(),
                date.month(),
                date.day(),
                date.hour(),
                date.minutes()
            ),
            Err(_) => f.write_str("a date beyond the year 9999"),
        }
    }
}

/// The names and addresses of the subject's alternative names (RFC 9525, section 4.1).
fn names(parsed: &Parsed) -> Vec<String> {
    let Ok(Some((_, found))) = parsed.tbs_certificate.get::<SubjectAltName>() else {
        return Vec::new();
    };
    let name = |name: &GeneralName| match name {
        GeneralName::DnsName(name) => Some(shown(name.as_str())),
        GeneralName::IpAddress(octets) => match octets.as_bytes() {
            &[a, b, c, d] => Some(std::net::Ipv4Addr::new(a, b, c, d).to_string()),
            bytes => {
                let bytes: [u8; 16] = bytes.try_into().ok()?;
                Some(std::net::Ipv6Addr::from(bytes).to_string())
            }
        },
        _ => None,
    };
    found.0.iter().filter_map(name).collect()
}

/// Who holds a certificate, as access rules see it: the bytes are those of the certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holder {
    /// The common name of the subject; none if there are several, or if it could be taken for another one.
    pub common_name: Option<Vec<u8>>,
    /// The whole subject (RFC 4514).
    pub subject: Vec<u8>,
    /// The host names, mail addresses and URIs of the subject's alternative names.
    pub names: Vec<String>,
}

impl Holder {
    /// Reads a certificate in DER. Nothing is verified.
    #[must_use]
    pub fn read(der: &[u8]) -> Option<Self> {
        let parsed = Parsed::from_der(der).ok()?;
        let tbs = &parsed.tbs_certificate;
        let parts = tbs.subject.0.iter().flat_map(|part| part.0.iter());
        let mut common = parts.filter(|part| part.oid == COMMON_NAME);
        let common_name = match (common.next(), common.next()) {
            (Some(one), None) => Some(one.value.value().to_vec()),
            _ => None,
        };
        let names = match tbs.get::<SubjectAltName>() {
            Ok(Some((_, found))) => found.0,
            _ => Vec::new(),
        };
        let name = |name: &GeneralName| match name {
            GeneralName::DnsName(name) => Some(name.as_str().to_owned()),
            GeneralName::Rfc822Name(name) => Some(name.as_str().to_owned()),
            GeneralName::UniformResourceIdentifier(name) => Some(name.as_str().to_owned()),
            _ => None,
        };
        Some(Self {
            // What ends a name in C is none in it.
            common_name: common_name.filter(|name| !name.is_empty() && !name.contains(&0)),
            subject: tbs.subject.to_string().into_bytes(),
            names: names.iter().filter_map(name).collect(),
        })
    }
}

/// What a stranger wrote, fit for a line of a log.
fn shown(text: &str) -> String {
    text.chars()
        .take(LONGEST)
        .map(|letter| if letter.is_control() { '?' } else { letter })
        .collect()
}

/// The bits of the modulus of an RSA key (RFC 8017, appendix A.1.1).
fn modulus_bits(key: &[u8]) -> Option<usize> {
    let mut reader = SliceReader::new(key).ok()?;
    let modulus = reader.sequence(|fields| {
        let modulus = UintRef::decode(fields)?;
        UintRef::decode(fields).map(|_exponent| modulus)
    });
    let modulus = modulus.ok()?.as_bytes();
    let first = modulus.first()?;
    Some(modulus.len() * 8 - first.leading_zeros() as usize)
}

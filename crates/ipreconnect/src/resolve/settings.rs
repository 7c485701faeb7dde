//! What the configuration says about resolving.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::proto::dnssec::TrustAnchors;
use ipreconnect_core::names::{Limits, Security, Strategy};

use super::server::DnsServer;

/// How far DNSSEC is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dnssec {
    /// Not at all.
    #[default]
    Off,
    /// False answers are never used; unsigned zones are as good as others.
    Validate,
    /// Only proven answers are used.
    Require,
}

impl Dnssec {
    /// What records must be proven by to be used.
    #[must_use]
    pub fn proof(self) -> Security {
        match self {
            Self::Off => Security::Unchecked,
            Self::Validate => Security::Insecure,
            Self::Require => Security::Secure,
        }
    }
}

/// The certificates that a resolver's own may be issued by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Roots {
    /// The operating system's.
    #[default]
    System,
    /// These, in DER.
    Only(Arc<[Vec<u8>]>),
}

/// The keys that DNSSEC begins with.
#[derive(Clone)]
pub struct TrustAnchor {
    text: Arc<str>,
    anchors: Arc<TrustAnchors>,
}

/// Why a text has no trust anchor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustAnchorError(String);

impl fmt::Display for TrustAnchorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for TrustAnchorError {}

impl TrustAnchor {
    pub(crate) fn anchors(&self) -> Arc<TrustAnchors> {
        Arc::clone(&self.anchors)
    }
}

/// DNSKEY records, one a line, as in a zone file (RFC 4034, section 2.2).
impl FromStr for TrustAnchor {
    type Err = TrustAnchorError;

    fn from_str(text: &str) -> Result<Self, TrustAnchorError> {
        let keys = text
            .lines()
            .filter(|line| !line.trim_start().starts_with(';'))
            .filter(|line| line.split_whitespace().any(|word| word == "DNSKEY"));
        if keys.count() == 0 {
            let why = "it has no DNSKEY record; a DS record is not enough";
            return Err(TrustAnchorError(why.to_owned()));
        }
        let anchors = TrustAnchors::from_str(text).map_err(|e| TrustAnchorError(e.to_string()))?;
        Ok(Self {
            text: text.into(),
            anchors: Arc::new(anchors),
        })
    }
}

impl PartialEq for TrustAnchor {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for TrustAnchor {}

impl fmt::Debug for TrustAnchor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TrustAnchor").field(&self.text).finish()
    }
}

/// Settings of the resolving that all origins share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsSettings {
    /// Whom to ask, the preferred one first; none means the system.
    pub servers: Vec<DnsServer>,
    /// How they take part in a lookup.
    pub strategy: Strategy,
    /// How far DNSSEC is asked for.
    pub dnssec: Dnssec,
    /// The keys that DNSSEC begins with; the root's own unless given.
    pub trust_anchor: Option<TrustAnchor>,
    /// Times to live. What records must be proven by follows from `dnssec`.
    pub limits: Limits,
    /// What resolvers over TLS and HTTPS must be certified by.
    pub roots: Roots,
    /// The file of names that no server is asked for.
    pub hosts: PathBuf,
}

impl DnsSettings {
    /// The limits, with the proof that `dnssec` asks for.
    pub(crate) fn memory(&self) -> Limits {
        Limits {
            proof: self.dnssec.proof(),
            ..self.limits
        }
    }
}

impl Default for DnsSettings {
    fn default() -> Self {
        Self {
            servers: vec![DnsServer::System],
            strategy: Strategy::Order,
            dnssec: Dnssec::Off,
            trust_anchor: None,
            limits: Limits {
                min_ttl: Duration::from_secs(1),
                max_ttl: Duration::from_secs(3600),
                stale_for: Duration::from_secs(86_400),
                proof: Security::Unchecked,
            },
            roots: Roots::System,
            hosts: PathBuf::from("/etc/hosts"),
        }
    }
}

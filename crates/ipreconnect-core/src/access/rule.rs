//! One rule: for whom it is, and what is demanded of them.

use super::address::From;
use super::names::{Database, User};
use super::words::Place;

/// The connections that a rule is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Those over a Unix socket.
    Local,
    /// Those over IP.
    Host,
    /// Those over IP with TLS.
    HostSsl,
    /// Those over IP without TLS.
    HostNoSsl,
    /// Those with GSSAPI encryption: none, here.
    HostGssEnc,
    /// Those over IP without GSSAPI encryption: all, here.
    HostNoGssEnc,
}

/// What is demanded of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Nothing.
    Trust,
    /// It is refused.
    Reject,
    /// To be a user of this machine who may use the name.
    Peer,
    /// A password, in clear text.
    Password,
    /// A password, of which only a proof is shown (RFC 7677).
    ScramSha256,
    /// A certificate.
    Cert,
    /// What only a PostgreSQL server asks for.
    Other(Foreign),
}

/// Methods of PostgreSQL that are read, and asked for by nobody here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Foreign {
    /// `ident` (RFC 1413).
    Ident,
    /// `md5`.
    Md5,
    /// `gss`.
    Gss,
    /// `pam`.
    Pam,
    /// `ldap`.
    Ldap,
    /// `radius`.
    Radius,
}

impl Method {
    /// Its name in a file of rules.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Trust => "trust",
            Self::Reject => "reject",
            Self::Peer => "peer",
            Self::Password => "password",
            Self::ScramSha256 => "scram-sha-256",
            Self::Cert => "cert",
            Self::Other(Foreign::Ident) => "ident",
            Self::Other(Foreign::Md5) => "md5",
            Self::Other(Foreign::Gss) => "gss",
            Self::Other(Foreign::Pam) => "pam",
            Self::Other(Foreign::Ldap) => "ldap",
            Self::Other(Foreign::Radius) => "radius",
        }
    }

    pub(super) fn of(name: &str) -> Option<Self> {
        const ALL: [Method; 12] = [
            Method::Trust,
            Method::Reject,
            Method::Peer,
            Method::Password,
            Method::ScramSha256,
            Method::Cert,
            Method::Other(Foreign::Ident),
            Method::Other(Foreign::Md5),
            Method::Other(Foreign::Gss),
            Method::Other(Foreign::Pam),
            Method::Other(Foreign::Ldap),
            Method::Other(Foreign::Radius),
        ];
        ALL.into_iter().find(|method| method.name() == name)
    }
}

/// What is asked of a client's certificate, beside the method.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientCert {
    /// Nothing.
    #[default]
    Off,
    /// It must be there, and be verified.
    Verified,
    /// And its name must be the user's.
    Named,
}

/// A rule.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// Where it stands.
    pub place: Place,
    /// The connections it is for.
    pub kind: Kind,
    /// What is demanded.
    pub method: Method,
    /// The map of names that is used, if one is.
    pub map: Option<String>,
    /// What is asked of a certificate.
    pub client_cert: ClientCert,
    /// Its name is the whole of the subject (RFC 2253), not the common name alone.
    pub by_subject: bool,
    /// Its alternative names count, too.
    pub by_alternative: bool,
    pub(super) databases: Vec<Database>,
    pub(super) users: Vec<User>,
    /// Nothing of a local one.
    pub(super) from: Option<From>,
    /// As it is written.
    pub(super) text: Box<str>,
}

impl Rule {
    /// As it is written, with one space between its words.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether it can be decided only by who belongs to which role.
    #[must_use]
    pub fn needs_roles(&self) -> bool {
        let same = |one: &Database| matches!(one, Database::SameRole);
        let member = |one: &User| matches!(one, User::Member(_));
        self.databases.iter().any(same) || self.users.iter().any(member)
    }

    /// Whether it is for some names alone.
    #[must_use]
    pub fn needs_name(&self) -> bool {
        !self.users.iter().any(|one| matches!(one, User::All))
    }

    /// Whether it is for some databases alone.
    #[must_use]
    pub fn needs_database(&self) -> bool {
        !self
            .databases
            .iter()
            .any(|one| matches!(one, Database::All))
    }

    /// Whether it is for addresses of this machine or its networks.
    #[must_use]
    pub fn needs_interfaces(&self) -> bool {
        matches!(self.from, Some(From::SameHost | From::SameNet))
    }

    /// Whether somebody may come by it from another machine, as far as it says.
    #[must_use]
    pub fn is_for_others(&self) -> bool {
        match &self.from {
            None | Some(From::SameHost) => false,
            Some(From::Net { address, mask }) => {
                let is_host = match mask {
                    std::net::IpAddr::V4(mask) => mask.to_bits() >> 24 == 0xff,
                    std::net::IpAddr::V6(mask) => mask.to_bits() == u128::MAX,
                };
                !(address.is_loopback() && is_host)
            }
            Some(From::All | From::SameNet | From::Host(_)) => true,
        }
    }

    /// Whether it names hosts, which have to be looked up.
    #[must_use]
    pub fn needs_host(&self) -> bool {
        matches!(self.from, Some(From::Host(_)))
    }
}

//! Failures, by layer: what went wrong between us and an origin.

use std::fmt;
use std::sync::Arc;

/// Where a failure happened, from the machine outwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Layer {
    /// This machine: out of ports, out of descriptors, no route.
    LocalNetwork,
    /// Name resolution.
    Dns,
    /// The transport: refused, reset, silent.
    Transport,
    /// The TLS handshake.
    Tls,
    /// The peer is not who it must be.
    Identity,
    /// The protocol above the transport said no.
    Protocol,
    /// The transport works, the process behind it does not.
    Application,
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::LocalNetwork => "local network",
            Self::Dns => "dns",
            Self::Transport => "transport",
            Self::Tls => "tls",
            Self::Identity => "identity",
            Self::Protocol => "protocol",
            Self::Application => "application",
        })
    }
}

/// What went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cause {
    /// The port is closed: ECONNREFUSED, or no such Unix socket.
    Refused,
    /// The connection was reset.
    Reset,
    /// The peer closed the connection before it had to.
    Closed,
    /// No answer in time.
    TimedOut,
    /// Packets leave and nothing comes back on a connection that exists.
    Silent,
    /// No route, or a router said the destination cannot be reached.
    Unreachable,
    /// The kernel accepts connections, the process behind it serves none.
    Frozen,
    /// The name does not exist, or has no address.
    NoSuchName,
    /// The resolver did not answer, or failed.
    ResolverFailed,
    /// The answer is provably false: its DNSSEC signatures do not hold.
    Bogus,
    /// The answer is not proven by DNSSEC, and must be.
    Unsigned,
    /// The name leads only to addresses that must not be dialled.
    NotAllowed,
    /// No local port is left towards that destination (EADDRNOTAVAIL).
    NoLocalPort,
    /// No descriptor or memory is left on this machine.
    NoResources,
    /// This machine forbids it: a firewall, or the rights of a Unix socket.
    Forbidden,
    /// What answers does not speak TLS.
    NoTls,
    /// The TLS handshake failed: no common version or suite, an alert, a certificate that we lack.
    TlsFailed,
    /// The chain of certificates leads to no issuer that is trusted.
    UnknownIssuer,
    /// The certificate is for other names.
    WrongName,
    /// The certificate's time is over.
    Expired,
    /// The certificate's time has not come.
    NotYetValid,
    /// The certificate was revoked by its issuer.
    Revoked,
    /// The certificate cannot prove anything: malformed, badly signed, too weak, or for another purpose.
    BadCertificate,
    /// No key of the chain is one of those that are pinned.
    WrongPin,
    /// The key is another one than before, and must not change unasked.
    KeyChanged,
    /// The handshake above the transport failed.
    Handshake,
    /// The health check was answered badly, or not at all; the detail is a whole sentence.
    Unhealthy,
    /// Anything else, told by the detail.
    Other,
}

impl Cause {
    /// The layer the cause belongs to.
    #[must_use]
    pub fn layer(self) -> Layer {
        match self {
            Self::NoLocalPort | Self::NoResources | Self::Forbidden => Layer::LocalNetwork,
            Self::NoSuchName
            | Self::ResolverFailed
            | Self::Bogus
            | Self::Unsigned
            | Self::NotAllowed => Layer::Dns,
            Self::Refused
            | Self::Reset
            | Self::Closed
            | Self::TimedOut
            | Self::Silent
            | Self::Unreachable
            | Self::Other => Layer::Transport,
            Self::NoTls | Self::TlsFailed => Layer::Tls,
            Self::UnknownIssuer
            | Self::WrongName
            | Self::Expired
            | Self::NotYetValid
            | Self::Revoked
            | Self::BadCertificate
            | Self::WrongPin
            | Self::KeyChanged => Layer::Identity,
            Self::Handshake => Layer::Protocol,
            Self::Frozen | Self::Unhealthy => Layer::Application,
        }
    }

    /// Whether somebody answered, so that trying again soon costs nobody a timeout, and a server no work.
    #[must_use]
    pub fn is_answered(self) -> bool {
        !matches!(
            self,
            Self::TimedOut | Self::Silent | Self::Frozen | Self::Unhealthy
        )
    }

    /// Whether the fault is this machine's and says nothing about the endpoint.
    #[must_use]
    pub fn is_ours(self) -> bool {
        self.layer() == Layer::LocalNetwork
    }

    /// Whether a server answered that is not the right one, as far as it can be proven. Nothing is sent
    /// to it, and trying it again soon is of no use.
    #[must_use]
    pub fn is_refusal(self) -> bool {
        self.layer() == Layer::Identity
    }

    /// What happened, in words.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Refused => "connection refused",
            Self::Reset => "connection reset",
            Self::Closed => "closed by the peer",
            Self::TimedOut => "no answer in time",
            Self::Silent => "the path is silent",
            Self::Unreachable => "unreachable",
            Self::Frozen => "accepts connections and serves none",
            Self::NoSuchName => "name does not resolve to any address",
            Self::ResolverFailed => "the resolver failed",
            Self::Bogus => "the answer is false by DNSSEC",
            Self::Unsigned => "the answer is not proven by DNSSEC",
            Self::NotAllowed => "address not allowed",
            Self::NoLocalPort => "no local port left",
            Self::NoResources => "no descriptors or memory left",
            Self::Forbidden => "forbidden by this machine",
            Self::NoTls => "the server does not speak TLS",
            Self::TlsFailed => "TLS handshake failed",
            Self::UnknownIssuer => "the certificate's issuer is not trusted",
            Self::WrongName => "the certificate is for another name",
            Self::Expired => "the certificate has expired",
            Self::NotYetValid => "the certificate is not valid yet",
            Self::Revoked => "the certificate is revoked",
            Self::BadCertificate => "the certificate proves nothing",
            Self::WrongPin => "the key is none of those pinned",
            Self::KeyChanged => "the key has changed",
            Self::Handshake => "handshake failed",
            Self::Unhealthy => "the health check failed",
            Self::Other => "failed",
        }
    }

    /// What a person can look at next.
    #[must_use]
    pub fn advice(self) -> &'static str {
        match self {
            Self::Refused => "is the server running, and listening on that address?",
            Self::Reset | Self::Closed => "look into the server's own log",
            Self::TimedOut | Self::Silent => "a firewall, a route or the machine itself is gone",
            Self::Unreachable => "check the route to that network",
            Self::Frozen => "the process is stopped, swapped out or deadlocked",
            Self::NoSuchName => "check the spelling and the search domains",
            Self::ResolverFailed => "check the resolvers: [dns] servers, or /etc/resolv.conf",
            Self::Bogus => "the zone is broken, the clock is wrong, or somebody forges answers",
            Self::Unsigned => "sign the zone, or set dnssec = \"validate\"",
            Self::NotAllowed => "see connect.allow_ips of this origin",
            Self::NoLocalPort => "too many connections to one destination: see ip_local_port_range",
            Self::NoResources => "raise the limit of open files (LimitNOFILE, ulimit -n)",
            Self::Forbidden => "check the firewall and the rights of the socket's path",
            Self::NoTls => {
                "is it the TLS port? if that server has no TLS, leave the origin's `tls` out"
            }
            Self::TlsFailed => {
                "compare versions, and whether the server asks for a client certificate"
            }
            Self::UnknownIssuer => "if a CA of your own issued it, name it: tls.ca = \"ca.pem\"",
            Self::WrongName => {
                "is it the right server? else set tls.server_name to a name of its certificate"
            }
            Self::Expired => "renew the server's certificate, and check this machine's clock",
            Self::NotYetValid => "check this machine's clock, and the server's certificate",
            Self::Revoked => "give the server a new certificate and key; the old key may be stolen",
            Self::BadCertificate => "give the server a sound certificate",
            Self::WrongPin => {
                "if its key was changed on purpose, add the new pin; else somebody is in between"
            }
            Self::KeyChanged => {
                "if that was on purpose: `ipreconnect identity accept` with the origin's name"
            }
            Self::Handshake => "does the server speak that protocol on that port?",
            Self::Unhealthy => "ask the server what it lacks; health.check says what it is asked",
            Self::Other => "see the detail",
        }
    }
}

/// One failure: its cause, and what the system said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What went wrong.
    pub cause: Cause,
    /// The system's own words, if they add anything.
    pub detail: Option<Arc<str>>,
}

impl Failure {
    /// A failure with nothing to add to its cause.
    #[must_use]
    pub fn new(cause: Cause) -> Self {
        Self {
            cause,
            detail: None,
        }
    }

    /// A failure with the system's own words.
    #[must_use]
    pub fn with_detail(cause: Cause, detail: impl Into<Arc<str>>) -> Self {
        Self {
            cause,
            detail: Some(detail.into()),
        }
    }

    /// The layer it happened at.
    #[must_use]
    pub fn layer(&self) -> Layer {
        self.cause.layer()
    }
}

impl std::error::Error for Failure {}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.detail, self.cause) {
            (Some(detail), Cause::Unhealthy) => f.write_str(detail),
            (Some(detail), cause) => write!(f, "{} ({detail})", cause.words()),
            (None, cause) => f.write_str(cause.words()),
        }
    }
}

//! What is measured, and in which figures.

use serde::{Deserialize, Serialize};

use crate::bench::wish::Subject;

/// One kind of work for a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Task {
    Full,
    FullRsa,
    FullHybrid,
    Resumed,
    Bulk,
    FirstByte,
    FirstByteWarm,
}

impl Subject for Task {
    const ALL: &'static [Self] = &[
        Self::Full,
        Self::FullRsa,
        Self::FullHybrid,
        Self::Resumed,
        Self::Bulk,
        Self::FirstByte,
        Self::FirstByteWarm,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::FullRsa => "full-rsa",
            Self::FullHybrid => "full-hybrid",
            Self::Resumed => "resumed",
            Self::Bulk => "bulk",
            Self::FirstByte => "first-byte",
            Self::FirstByteWarm => "first-byte-warm",
        }
    }
}

impl Task {
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Full => "Full handshakes, ECDSA",
            Self::FullRsa => "Full handshakes, RSA",
            Self::FullHybrid => "Full handshakes with a post-quantum key exchange",
            Self::Resumed => "Resumed handshakes",
            Self::Bulk => "One long stream",
            Self::FirstByte => "First byte from an origin inside TLS",
            Self::FirstByteWarm => "First byte, with connections kept ready",
        }
    }

    /// What happens.
    pub(crate) fn story(self) -> &'static str {
        match self {
            Self::Full => {
                "32 clients make a TLS 1.3 connection to the proxy (a certificate with a P-256 key, X25519, nothing \
                 resumed), ask one line of a plain origin, read the answer to its end, and begin again, for 5 s."
            }
            Self::FullRsa => "The same with a key of RSA, 2,048 bits.",
            Self::FullHybrid => {
                "The same as the first, but clients offer X25519MLKEM768 before X25519, as browsers do. Who does not know \
                 it takes X25519."
            }
            Self::Resumed => "The same as the first, but clients resume their sessions.",
            Self::Bulk => {
                "The origin sends as fast as it can for 5 s on one connection; the proxy encrypts, the client decrypts."
            }
            Self::FirstByte => {
                "The origin speaks TLS 1.3, and is 20 ms away (a link of the fault lab; its TCP handshake is not \
                 delayed). A client opens a plain connection to the proxy every 100 ms and asks one line; the time from \
                 its connect to the first byte of the answer."
            }
            Self::FirstByteWarm => {
                "The same; ipreconnect keeps 4 connections ready (`pool.warm = 4`). Its peers have no such thing for raw \
                 TCP, and are as before."
            }
        }
    }

    /// The figures of a row.
    pub(crate) fn figures(self) -> &'static [&'static str] {
        match self {
            Self::Full | Self::FullRsa | Self::FullHybrid | Self::Resumed => {
                &["CPU µs a connection", "connections a second", "failed"]
            }
            Self::Bulk => &["CPU s/GB", "Gbit/s"],
            Self::FirstByte | Self::FirstByteWarm => &["p50 ms", "p99 ms", "failed"],
        }
    }

    /// The papers that the proxy shows, if it opens TLS.
    pub(super) fn door(self) -> Option<&'static str> {
        match self {
            Self::FirstByte | Self::FirstByteWarm => None,
            Self::FullRsa => Some("rsa"),
            _ => Some("site"),
        }
    }
}

//! What is measured, and in which figures.

use serde::{Deserialize, Serialize};

use crate::bench::wish::Subject;

/// One kind of work for a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Task {
    Small,
    Large,
    Steady,
    Idle,
    Tls,
    H2,
    H2Tls,
}

impl Subject for Task {
    const ALL: &'static [Self] = &[
        Self::Small,
        Self::Large,
        Self::Steady,
        Self::Idle,
        Self::Tls,
        Self::H2,
        Self::H2Tls,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Small => "small",
            Self::Large => "large",
            Self::Steady => "steady",
            Self::Idle => "idle",
            Self::Tls => "tls",
            Self::H2 => "h2",
            Self::H2Tls => "h2-tls",
        }
    }
}

impl Task {
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Small => "Answers of 1 KiB, on 64 connections",
            Self::Large => "Answers of 64 KiB, on 64 connections",
            Self::Steady => "4,000 requests a second",
            Self::Idle => "Idle connections",
            Self::Tls => "Answers of 1 KiB inside TLS",
            Self::H2 => "Answers of 1 KiB over HTTP/2",
            Self::H2Tls => "Answers of 1 KiB over HTTP/2, inside TLS",
        }
    }

    /// What happens.
    pub(crate) fn story(self) -> &'static str {
        match self {
            Self::Small | Self::Large => {
                "Each of 64 connections asks again as soon as it has its answer, for 5 s."
            }
            Self::Steady => {
                "One after the other of 64 connections asks for 1 KiB, every 250 µs, whatever became of the \
                 earlier requests, for 5 s. Latency counts from the scheduled moment."
            }
            Self::Idle => {
                "8,000 connections ask once and then rest. Memory: what the proxy's processes hold more than before \
                 (resident, private), for each connection."
            }
            Self::Tls => {
                "Each of 64 connections of HTTP/1.1 (TLS 1.3, a certificate with a P-256 key) asks again as soon as it \
                 has its answer, for 5 s. The clients are `h2load`'s; the 64 handshakes are counted. The origin is asked \
                 in the clear."
            }
            Self::H2 => {
                "8 connections, without TLS, of 8 requests at once each; otherwise the same. The origin is asked in HTTP/1.1."
            }
            Self::H2Tls => "The same inside TLS 1.3, as browsers ask.",
        }
    }

    /// The bytes of an answer's body.
    pub(crate) fn answer(self) -> usize {
        match self {
            Self::Large => 64 * 1024,
            _ => 1024,
        }
    }

    /// The figures of a row.
    pub(crate) fn figures(self) -> &'static [&'static str] {
        match self {
            Self::Small | Self::Large => &["CPU µs a request", "requests a second"],
            Self::Steady => &["CPU µs a request", "p50 µs", "p99 µs", "answered, %"],
            Self::Idle => &["bytes a connection"],
            Self::Tls | Self::H2 | Self::H2Tls => {
                &["CPU µs a request", "requests a second", "failed"]
            }
        }
    }

    /// Connections, and requests at once on each of them.
    pub(super) fn shape(self) -> (u32, u32) {
        match self {
            Self::H2 | Self::H2Tls => (8, 8),
            _ => (64, 1),
        }
    }

    /// Whether clients speak HTTP/2.
    pub(super) fn is_h2(self) -> bool {
        matches!(self, Self::H2 | Self::H2Tls)
    }

    /// The papers that the proxy shows, if it opens TLS.
    pub(super) fn door(self) -> Option<&'static str> {
        matches!(self, Self::Tls | Self::H2Tls).then_some("site")
    }
}

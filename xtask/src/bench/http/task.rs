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
}

impl Subject for Task {
    const ALL: &'static [Self] = &[Self::Small, Self::Large, Self::Steady, Self::Idle];

    fn name(self) -> &'static str {
        match self {
            Self::Small => "small",
            Self::Large => "large",
            Self::Steady => "steady",
            Self::Idle => "idle",
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
        }
    }

    /// The bytes of an answer's body.
    pub(crate) fn answer(self) -> usize {
        match self {
            Self::Large => 64 * 1024,
            Self::Small | Self::Steady | Self::Idle => 1024,
        }
    }

    /// The figures of a row.
    pub(crate) fn figures(self) -> &'static [&'static str] {
        match self {
            Self::Small | Self::Large => &["CPU µs a request", "requests a second"],
            Self::Steady => &["CPU µs a request", "p50 µs", "p99 µs", "answered, %"],
            Self::Idle => &["bytes a connection"],
        }
    }
}

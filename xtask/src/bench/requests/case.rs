//! The faults.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::bench::scenario::Scenario;
use crate::bench::wish::Subject;

/// What happens to the preferred origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Case {
    Crash,
    Restart,
    Silent,
    Frozen,
}

impl Subject for Case {
    const ALL: &'static [Self] = &[Self::Crash, Self::Restart, Self::Silent, Self::Frozen];

    fn name(self) -> &'static str {
        match self {
            Self::Crash => "crash",
            Self::Restart => "restart",
            Self::Silent => "silent",
            Self::Frozen => "frozen",
        }
    }
}

impl Case {
    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Crash => "Crash, with a backup",
            Self::Restart => "Crash, back after 2 s, no backup",
            Self::Silent => "Silent path, with a backup",
            Self::Frozen => "Frozen process, with a backup",
        }
    }

    /// What happens, and what ipreconnect is to reach.
    pub(super) fn story(self) -> &'static str {
        match self {
            Self::Crash => {
                "After 2 s the preferred origin is killed (SIGKILL). Aim: no GET fails, longest stall at most 50 ms."
            }
            Self::Restart => {
                "After 2 s the only origin is killed (SIGKILL); 2 s later a new process listens on its port. Aim: no GET \
                 fails, longest stall at most the outage and 50 ms."
            }
            Self::Silent => {
                "After 2 s nftables drops every packet from and to the preferred origin. Aim: no GET fails, longest \
                 stall at most 300 ms."
            }
            Self::Frozen => {
                "After 2 s the preferred origin is stopped (SIGSTOP), for good. Aim: no GET fails, longest stall at most \
                 800 ms."
            }
        }
    }

    /// The fault, as it is made for connections too.
    pub(super) fn scenario(self) -> Scenario {
        match self {
            Self::Crash => Scenario::CrashWithBackup,
            Self::Restart => Scenario::CrashAndReturn,
            Self::Silent => Scenario::SilentOnInput,
            Self::Frozen => Scenario::Frozen,
        }
    }

    pub(super) fn has_backup(self) -> bool {
        self != Self::Restart
    }

    /// How long after the fault a new process listens.
    pub(super) fn back_after(self) -> Option<Duration> {
        (self == Self::Restart).then_some(Duration::from_secs(2))
    }
}

//! The faults that are measured, and what each asks of a proxy.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::wish::Subject;

/// When the fault begins, from the start of the load: every proxy has a history by then.
pub(crate) const FAULT_AT: Duration = Duration::from_secs(2);

/// What happens to the preferred origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Scenario {
    CrashWithBackup,
    CrashAndReturn,
    SilentOnInput,
    SilentOnOutput,
    Frozen,
}

impl Subject for Scenario {
    const ALL: &'static [Self] = &[
        Self::CrashWithBackup,
        Self::CrashAndReturn,
        Self::SilentOnInput,
        Self::SilentOnOutput,
        Self::Frozen,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::CrashWithBackup => "crash-with-backup",
            Self::CrashAndReturn => "crash-and-return",
            Self::SilentOnInput => "silent-on-input",
            Self::SilentOnOutput => "silent-on-output",
            Self::Frozen => "frozen",
        }
    }
}

impl Scenario {
    pub(crate) fn title(self) -> &'static str {
        match self {
            Scenario::CrashWithBackup => "Crash, with a backup",
            Scenario::CrashAndReturn => "Crash, back after 2 s, no backup",
            Scenario::SilentOnInput => "Silent path (dropped on input), with a backup",
            Scenario::SilentOnOutput => "Silent path (dropped on output), with a backup",
            Scenario::Frozen => "Frozen process, with a backup",
        }
    }

    /// What happens, and when.
    pub(crate) fn story(self) -> &'static str {
        match self {
            Scenario::CrashWithBackup => {
                "After 2 s the preferred origin is killed (SIGKILL) and stays away. The run lasts 8 s."
            }
            Scenario::CrashAndReturn => {
                "After 2 s the only origin is killed (SIGKILL); 2 s later a new process listens on its port. \
                 The run lasts 8 s."
            }
            Scenario::SilentOnInput => {
                "After 2 s nftables drops every packet from and to the preferred origin in the input hook: \
                 they were sent and nobody acknowledges them. The run lasts 8 s."
            }
            Scenario::SilentOnOutput => {
                "After 2 s nftables drops every packet from and to the preferred origin in the output hook: \
                 the kernel cannot even send them. The run lasts 8 s."
            }
            Scenario::Frozen => {
                "After 2 s the preferred origin is stopped (SIGSTOP): its kernel goes on accepting and \
                 acknowledging, and nobody answers; its accept queue is long enough not to fill. 6 s later it goes on \
                 (SIGCONT). The run lasts 12 s."
            }
        }
    }

    /// What ipreconnect is to reach.
    pub(crate) fn aim(self) -> &'static str {
        match self {
            Scenario::CrashWithBackup => {
                "nothing lost after the fault, longest stall at most 50 ms"
            }
            Scenario::CrashAndReturn => {
                "nothing lost after the fault, longest stall at most the outage and 50 ms"
            }
            Scenario::SilentOnInput | Scenario::SilentOnOutput => {
                "nothing lost after the fault, longest stall at most 350 ms"
            }
            Scenario::Frozen => "first new answer within 1,000 ms, and used again after it goes on",
        }
    }

    pub(crate) fn has_backup(self) -> bool {
        self != Scenario::CrashAndReturn
    }

    /// How long after the fault it is mended, if it is.
    pub(crate) fn mended_after(self) -> Option<Duration> {
        match self {
            Scenario::CrashAndReturn => Some(Duration::from_secs(2)),
            // Longer than a request's deadline, so that what the frozen process holds is lost.
            Scenario::Frozen => Some(Duration::from_secs(6)),
            _ => None,
        }
    }

    pub(crate) fn lasting(self) -> Duration {
        match self {
            Scenario::Frozen => Duration::from_secs(12),
            _ => Duration::from_secs(8),
        }
    }
}

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
    TlsCrashWithBackup,
    CrashAndReturn,
    SilentOnInput,
    SilentOnOutput,
    Frozen,
    NameMovesAndDies,
    NameMoves,
    ResolverSilent,
}

impl Subject for Scenario {
    const ALL: &'static [Self] = &[
        Self::CrashWithBackup,
        Self::TlsCrashWithBackup,
        Self::CrashAndReturn,
        Self::SilentOnInput,
        Self::SilentOnOutput,
        Self::Frozen,
        Self::NameMovesAndDies,
        Self::NameMoves,
        Self::ResolverSilent,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::CrashWithBackup => "crash-with-backup",
            Self::TlsCrashWithBackup => "tls-crash-with-backup",
            Self::CrashAndReturn => "crash-and-return",
            Self::SilentOnInput => "silent-on-input",
            Self::SilentOnOutput => "silent-on-output",
            Self::Frozen => "frozen",
            Self::NameMovesAndDies => "name-moves-and-dies",
            Self::NameMoves => "name-moves",
            Self::ResolverSilent => "resolver-silent",
        }
    }
}

impl Scenario {
    pub(crate) fn title(self) -> &'static str {
        match self {
            Scenario::CrashWithBackup => "Crash, with a backup",
            Scenario::TlsCrashWithBackup => "Crash, with a backup, both inside TLS",
            Scenario::CrashAndReturn => "Crash, back after 2 s, no backup",
            Scenario::SilentOnInput => "Silent path (dropped on input), with a backup",
            Scenario::SilentOnOutput => "Silent path (dropped on output), with a backup",
            Scenario::Frozen => "Frozen process, with a backup",
            Scenario::NameMovesAndDies => "The name moves, the old address dies",
            Scenario::NameMoves => "The name moves, the old address works on",
            Scenario::ResolverSilent => "The resolver falls silent, then the origin restarts",
        }
    }

    /// What happens, and when.
    pub(crate) fn story(self) -> &'static str {
        match self {
            Scenario::CrashWithBackup => {
                "After 2 s the preferred origin is killed (SIGKILL) and stays away. The run lasts 8 s."
            }
            Scenario::TlsCrashWithBackup => {
                "The same with origins that speak TLS, verified by the proxies against a CA of their own, sessions \
                 resumed where the proxy can. Clients speak plain TCP to the proxy."
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
            Scenario::NameMovesAndDies => {
                "The origin is known by a name with a time to live of 5 s. After 2 s the name moves to another address, \
                 where a server is ready, and the old one is killed (SIGKILL). The run lasts 12 s."
            }
            Scenario::NameMoves => {
                "The same, but the old server works on. *Old address until*: from the move to the last request that \
                 still went there. The run lasts 12 s."
            }
            Scenario::ResolverSilent => {
                "The origin is known by a name with a time to live of 5 s. After 2 s the resolver says nothing any more; \
                 6 s later the origin is killed (SIGKILL), and 1 s after that a new process listens on its port. The \
                 run lasts 14 s."
            }
        }
    }

    /// What ipreconnect is to reach.
    pub(crate) fn aim(self) -> &'static str {
        match self {
            Scenario::CrashWithBackup => {
                "nothing lost after the fault, longest stall at most 50 ms"
            }
            Scenario::TlsCrashWithBackup => {
                "nothing lost after the fault, longest stall at most 60 ms"
            }
            Scenario::CrashAndReturn => {
                "nothing lost after the fault, longest stall at most the outage and 50 ms"
            }
            Scenario::SilentOnInput | Scenario::SilentOnOutput => {
                "nothing lost after the fault, longest stall at most 350 ms"
            }
            Scenario::Frozen => "first new answer within 1,000 ms, and used again after it goes on",
            Scenario::NameMovesAndDies => {
                "nothing lost after the fault, longest stall at most 100 ms"
            }
            Scenario::NameMoves => "nothing lost, and the old address left within 5,100 ms",
            Scenario::ResolverSilent => {
                "nothing lost after the fault, longest stall at most the outage and 100 ms"
            }
        }
    }

    pub(crate) fn has_backup(self) -> bool {
        self != Scenario::CrashAndReturn && !self.has_name()
    }

    /// Whether the origins speak TLS.
    pub(crate) fn has_tls(self) -> bool {
        self == Scenario::TlsCrashWithBackup
    }

    /// Whether the origin is known by a name.
    pub(crate) fn has_name(self) -> bool {
        matches!(
            self,
            Scenario::NameMovesAndDies | Scenario::NameMoves | Scenario::ResolverSilent
        )
    }

    /// Whether the name leads to another address after the fault.
    pub(crate) fn moves(self) -> bool {
        matches!(self, Scenario::NameMovesAndDies | Scenario::NameMoves)
    }

    /// How long the resolver is silent before the fault.
    pub(crate) fn silence(self) -> Option<Duration> {
        (self == Scenario::ResolverSilent).then_some(Duration::from_secs(6))
    }

    /// How long after the fault it is mended, if it is.
    pub(crate) fn mended_after(self) -> Option<Duration> {
        match self {
            Scenario::CrashAndReturn => Some(Duration::from_secs(2)),
            Scenario::ResolverSilent => Some(Duration::from_secs(1)),
            // Longer than a request's deadline, so that what the frozen process holds is lost.
            Scenario::Frozen => Some(Duration::from_secs(6)),
            _ => None,
        }
    }

    pub(crate) fn lasting(self) -> Duration {
        match self {
            Scenario::Frozen | Scenario::NameMovesAndDies | Scenario::NameMoves => {
                Duration::from_secs(12)
            }
            Scenario::ResolverSilent => Duration::from_secs(14),
            _ => Duration::from_secs(8),
        }
    }
}

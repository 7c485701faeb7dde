//! What happens on stage, and for how long.

use std::time::Duration;

/// One act.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    Calm,
    KillBlue,
    ReviveBlue,
    FreezeBlue,
    ThawBlue,
    KillBoth,
    ReviveGreen,
}

impl Act {
    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Calm => "all is well",
            Self::KillBlue => "blue is killed",
            Self::ReviveBlue => "blue is started again",
            Self::FreezeBlue => "blue is frozen: accepts, answers nobody",
            Self::ThawBlue => "blue thaws",
            Self::KillBoth => "both are killed: clients are held",
            Self::ReviveGreen => "green is started: the held are served",
        }
    }

    pub(super) fn length(self) -> Duration {
        Duration::from_millis(match self {
            Self::Calm => 1500,
            Self::KillBlue | Self::KillBoth => 2000,
            Self::ReviveBlue => 3500,
            Self::FreezeBlue => 2500,
            Self::ThawBlue => 4000,
            Self::ReviveGreen => 1500,
        })
    }
}

/// All acts, in order.
pub(super) struct Play([Act; 7]);

impl Play {
    pub(super) fn new() -> Self {
        Self([
            Act::Calm,
            Act::KillBlue,
            Act::ReviveBlue,
            Act::FreezeBlue,
            Act::ThawBlue,
            Act::KillBoth,
            Act::ReviveGreen,
        ])
    }

    pub(super) fn acts(&self) -> &[Act] {
        &self.0
    }

    pub(super) fn length(&self) -> Duration {
        self.0.iter().map(|act| act.length()).sum()
    }
}

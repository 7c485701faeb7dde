//! When the ports for outgoing connections come to an end.

use std::time::Duration;

/// How long a connection that is over keeps its port (`TCP_TIMEWAIT_LEN` of Linux, which nothing changes).
pub const TIME_WAIT: Duration = Duration::from_secs(60);
/// The same where ports are given again (tcp(7), `tcp_tw_reuse`).
const REUSED: Duration = Duration::from_secs(1);

/// What connections from one address to one destination use. Each needs a port of its own; other destinations may
/// have the same ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pressure {
    /// Connections that are open.
    pub open: u32,
    /// Connections that are over, and keep their port.
    pub waiting: u32,
    /// Ports that there are.
    pub room: u32,
    /// New connections a second.
    pub rate: u32,
    /// The port of one that is over is given again after a second (`net.ipv4.tcp_tw_reuse` of Linux).
    pub is_reused: bool,
}

impl Pressure {
    /// Ports that nobody can have now.
    #[must_use]
    pub fn used(self) -> u32 {
        self.open.saturating_add(self.kept())
    }

    /// Those that wait, and whose ports are not given again yet.
    fn kept(self) -> u32 {
        match self.is_reused {
            true => self.waiting.min(self.rate),
            false => self.waiting,
        }
    }

    /// After how long there are none left, if it goes on like this: each new connection ends as it began, and keeps
    /// its port for [`TIME_WAIT`]. None, if there will always be some.
    #[must_use]
    pub fn exhausted_after(self) -> Option<Duration> {
        let left = self.room.saturating_sub(self.used());
        if left == 0 {
            return Some(Duration::ZERO);
        }
        let kept_for = if self.is_reused { REUSED } else { TIME_WAIT };
        let seconds = u32::try_from(kept_for.as_secs()).unwrap_or(u32::MAX);
        if self.open.saturating_add(self.rate.saturating_mul(seconds)) <= self.room {
            return None;
        }
        // Those that wait now are let go of by and by.
        let freed = self.kept() / seconds;
        let growth = self.rate.saturating_sub(freed).max(1);
        Some(Duration::from_secs((left / growth).into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_told_if_there_is_one() {
        let at = |open, waiting, rate| {
            let pressure = Pressure {
                open,
                waiting,
                room: 28_000,
                rate,
                is_reused: false,
            };
            pressure.exhausted_after().map(|after| after.as_secs())
        };
        assert_eq!(at(10, 0, 0), None);
        assert_eq!(at(10, 0, 400), None);
        // 500 a second are 30,000 in a minute.
        assert_eq!(at(0, 0, 500), Some(56));
        assert_eq!(at(0, 12_000, 500), Some(53));
        assert_eq!(at(28_000, 0, 0), Some(0));
        assert_eq!(at(1, 27_999, 10), Some(0));
        assert_eq!(at(27_999, 0, 1), Some(1));
        assert_eq!(at(u32::MAX, u32::MAX, u32::MAX), Some(0));
    }

    #[test]
    fn ports_that_are_given_again_come_to_no_end() {
        let at = |open, waiting, rate| Pressure {
            open,
            waiting,
            room: 200,
            rate,
            is_reused: true,
        };
        assert_eq!(at(0, 200, 10).exhausted_after(), None);
        assert_eq!(at(0, 200, 10).used(), 10);
        let busy = at(190, 100, 20);
        assert_eq!(busy.exhausted_after(), Some(Duration::ZERO));
        assert_eq!(at(200, 0, 0).exhausted_after(), Some(Duration::ZERO));
    }
}

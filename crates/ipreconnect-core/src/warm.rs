//! How long a connection that is kept ready may be kept: as long as the origin lets it be idle.

use std::time::Duration;

/// An origin that closes so young connections closes them for another reason.
const YOUNGEST: Duration = Duration::from_secs(1);
/// Ours are retired when so much of the origin's limit is over.
const SHARE: u32 = 80;
/// What one retirement in peace adds to what is believed of the limit, so that an origin whose limit
/// has grown, or that closed for another reason, is found out.
const RELAX: u32 = 102;

/// What is known of the time that an origin lets a connection be idle.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IdleLimit {
    shortest: Option<Duration>,
}

impl IdleLimit {
    /// The origin closed, in order, a connection that had been idle for that long.
    pub fn closed(&mut self, idle: Duration) {
        if idle >= YOUNGEST {
            self.shortest = Some(self.shortest.map_or(idle, |known| known.min(idle)));
        }
    }

    /// One was retired that the origin had let be.
    pub fn retired(&mut self) {
        self.shortest = self.shortest.map(|known| known * RELAX / 100);
    }

    /// The limit, as far as it is known.
    #[must_use]
    pub fn known(&self) -> Option<Duration> {
        self.shortest
    }

    /// After which idle time one is retired; `longest` is what the configuration allows.
    #[must_use]
    pub fn retire_after(&self, longest: Duration) -> Duration {
        let learned = self.shortest.map(|known| known * SHARE / 100);
        learned.map_or(longest, |learned| learned.min(longest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn ours_are_retired_before_the_origin_closes_them() {
        let mut limit = IdleLimit::default();
        assert_eq!(limit.retire_after(60 * SECOND), 60 * SECOND);
        limit.closed(10 * SECOND);
        assert_eq!(limit.retire_after(60 * SECOND), 8 * SECOND);
        limit.closed(20 * SECOND);
        assert_eq!(limit.retire_after(60 * SECOND), 8 * SECOND);
        assert_eq!(limit.retire_after(5 * SECOND), 5 * SECOND);
    }

    #[test]
    fn a_crash_is_no_limit_and_what_is_not_one_is_forgotten() {
        let mut limit = IdleLimit::default();
        limit.closed(SECOND / 10);
        assert_eq!(limit.known(), None);
        limit.closed(2 * SECOND);
        let mut retired = 0;
        while limit.retire_after(60 * SECOND) < 60 * SECOND {
            limit.retired();
            retired += 1;
        }
        assert!((100..300).contains(&retired), "{retired}");
    }
}

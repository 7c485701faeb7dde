//! How much each user of a forward proxy may have of it: at once, a second, and a day.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::rate::Rate;

/// Users that are remembered, beside those who have something open.
const PEOPLE: usize = 65_536;
/// Of those, so many at least are forgotten when there has to be room.
const ROOM: usize = PEOPLE / 8;
const DAY: u64 = 86_400;

/// What one user may have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Allowance {
    /// Requests and tunnels at once.
    pub connections: Option<u32>,
    /// Requests and tunnels, in time.
    pub rate: Option<Rate>,
    /// Bytes of a day (UTC), both ways together.
    pub bytes: Option<u64>,
}

impl Allowance {
    /// Whether it bounds anything.
    #[must_use]
    pub fn is_bounded(&self) -> bool {
        *self != Self::default()
    }
}

/// Why a user has to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// So many are open, which is all there may be.
    Connections(u32),
    /// They come too fast; the next one may come after that.
    Rate(Duration),
    /// The day's bytes are used up; the next day begins after that.
    Bytes(Duration),
}

impl Over {
    /// The bytes of the day are used up, so long after the beginning of 1970.
    #[must_use]
    pub fn until_tomorrow(unix: Duration) -> Self {
        let next = Duration::from_secs((unix.as_secs() / DAY + 1) * DAY);
        Self::Bytes(next.saturating_sub(unix))
    }

    /// After how long another try makes sense, if that is known.
    #[must_use]
    pub fn wait(self) -> Option<Duration> {
        match self {
            Self::Connections(_) => None,
            Self::Rate(wait) | Self::Bytes(wait) => Some(wait),
        }
    }
}

impl fmt::Display for Over {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connections(open) => {
                write!(f, "{open} connections are open, and there may be no more")
            }
            Self::Rate(_) => f.write_str("requests come faster than is allowed"),
            Self::Bytes(_) => f.write_str("the bytes of this day are used up"),
        }
    }
}

/// What one user has used of one day. Whoever carries bytes counts them here.
#[derive(Debug, Default)]
pub struct Spent(AtomicU64);

impl Spent {
    /// Counts bytes; says whether there may be more of them.
    pub fn add(&self, bytes: u64, allowance: &Allowance) -> bool {
        let before = self.0.fetch_add(bytes, Relaxed);
        allowance
            .bytes
            .is_none_or(|most| before.saturating_add(bytes) < most)
    }
}

#[derive(Debug, Default)]
struct Account {
    open: u32,
    /// When the next one may come, since some beginning.
    next: Duration,
    /// Days since the beginning of 1970.
    day: u64,
    spent: Arc<Spent>,
}

/// All users.
#[derive(Debug, Default)]
pub struct Allowances(BTreeMap<Box<str>, Account>);

impl Allowances {
    /// A request or a tunnel of this user begins, if it may. `now` is so long after some beginning, and `unix` after
    /// that of 1970.
    ///
    /// # Errors
    /// Why it may not.
    pub fn open(
        &mut self,
        (now, unix): (Duration, Duration),
        who: &str,
        allowance: &Allowance,
    ) -> Result<Arc<Spent>, Over> {
        let day = unix.as_secs() / DAY;
        if !self.0.contains_key(who) {
            self.make_room(day, now);
            self.0.insert(who.into(), Account::default());
        }
        let Some(account) = self.0.get_mut(who) else {
            return Ok(Arc::default());
        };
        if account.day != day {
            account.day = day;
            account.spent = Arc::default();
        }
        if allowance
            .connections
            .is_some_and(|most| account.open >= most)
        {
            return Err(Over::Connections(account.open));
        }
        if allowance.bytes.is_some() && !account.spent.add(0, allowance) {
            return Err(Over::until_tomorrow(unix));
        }
        if let Some(rate) = allowance.rate {
            let ahead = rate.interval.saturating_mul(rate.burst.saturating_sub(1));
            let early = account.next.saturating_sub(now);
            if early > ahead {
                return Err(Over::Rate(early.saturating_sub(ahead)));
            }
            account.next = account.next.max(now).saturating_add(rate.interval);
        }
        account.open += 1;
        Ok(Arc::clone(&account.spent))
    }

    /// It is over.
    pub fn close(&mut self, who: &str) {
        if let Some(account) = self.0.get_mut(who) {
            account.open = account.open.saturating_sub(1);
        }
    }

    /// Forgets those first who have nothing open and nothing used of this day, then those who have used the least,
    /// and last those who come too fast.
    fn make_room(&mut self, day: u64, now: Duration) {
        if self.0.len() < PEOPLE {
            return;
        }
        let owes = |account: &Account| {
            let used = match account.day == day {
                true => account.spent.0.load(Relaxed),
                false => 0,
            };
            (account.next.saturating_sub(now), used)
        };
        let idle = self.0.values().filter(|account| account.open == 0);
        let mut idle: Vec<(Duration, u64)> = idle.map(owes).collect();
        idle.sort_unstable();
        let Some(most) = idle.get(ROOM.min(idle.len().saturating_sub(1))).copied() else {
            return;
        };
        self.0
            .retain(|_, account| account.open > 0 || owes(account) > most);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: Duration = Duration::from_secs(20_779 * DAY + DAY / 2);

    fn at(seconds: u64) -> (Duration, Duration) {
        let after = Duration::from_secs(seconds);
        (after, NOON + after)
    }

    #[test]
    fn so_many_at_once_and_no_more() {
        let allowance = Allowance {
            connections: Some(2),
            ..Allowance::default()
        };
        let mut all = Allowances::default();
        assert!(all.open(at(0), "ann", &allowance).is_ok());
        assert!(all.open(at(0), "ann", &allowance).is_ok());
        assert_eq!(
            all.open(at(0), "ann", &allowance).unwrap_err(),
            Over::Connections(2)
        );
        assert!(all.open(at(0), "bob", &allowance).is_ok());
        all.close("ann");
        assert!(all.open(at(0), "ann", &allowance).is_ok());
        all.close("nobody");
    }

    #[test]
    fn so_fast_and_no_faster() {
        let allowance = Allowance {
            rate: Some(Rate {
                interval: Duration::from_secs(1),
                burst: 2,
            }),
            ..Allowance::default()
        };
        let mut all = Allowances::default();
        assert!(all.open(at(0), "ann", &allowance).is_ok());
        assert!(all.open(at(0), "ann", &allowance).is_ok());
        let over = all.open(at(0), "ann", &allowance).unwrap_err();
        assert_eq!(over, Over::Rate(Duration::from_secs(1)));
        assert!(all.open(at(1), "ann", &allowance).is_ok());
        assert!(all.open(at(1), "ann", &allowance).is_err());
    }

    #[test]
    fn so_much_a_day_and_no_more() {
        let allowance = Allowance {
            bytes: Some(100),
            ..Allowance::default()
        };
        let mut all = Allowances::default();
        let spent = all.open(at(0), "ann", &allowance).unwrap();
        assert!(spent.add(60, &allowance));
        assert!(!spent.add(60, &allowance));
        let over = all.open(at(10), "ann", &allowance).unwrap_err();
        let midnight = Duration::from_secs(DAY / 2 - 10);
        assert_eq!(over, Over::Bytes(midnight));
        assert!(all.open(at(10), "bob", &allowance).is_ok());
        let next = all.open(at(DAY / 2), "ann", &allowance).unwrap();
        assert!(next.add(99, &allowance));
    }

    #[test]
    fn there_is_room_for_so_many() {
        let allowance = Allowance {
            bytes: Some(100),
            ..Allowance::default()
        };
        let mut all = Allowances::default();
        let used = all.open(at(0), "used", &allowance).unwrap();
        used.add(50, &allowance);
        all.close("used");
        let _open = all.open(at(0), "open", &allowance).unwrap();
        for number in 0..PEOPLE + 10 {
            let name = format!("user{number}");
            all.open(at(0), &name, &allowance).unwrap();
            all.close(&name);
        }
        assert!(all.0.len() <= PEOPLE);
        assert!(all.0.contains_key("open") && all.0.contains_key("used"));
        // Nor do those stay for ever who may come once an hour.
        let hourly = Allowance {
            rate: Some(Rate {
                interval: Duration::from_secs(3600),
                burst: 2,
            }),
            ..Allowance::default()
        };
        for _ in 0..2 {
            all.open(at(0), "hasty", &hourly).unwrap();
            all.close("hasty");
        }
        for number in 0..PEOPLE + 10 {
            let name = format!("hourly{number}");
            all.open(at(0), &name, &hourly).unwrap();
            all.close(&name);
        }
        assert!(all.0.len() <= PEOPLE);
        assert!(all.open(at(0), "hasty", &hourly).is_err());
    }
}

//! Ports that are kept by name: a program has the same one at every start.
//!
//! Time is given as seconds of the calendar, since leases outlive the machine that they were made on.

use std::collections::BTreeMap;
use std::fmt;

/// Names that may have a port at once.
const MOST: usize = 1024;
/// A lease that was not used for so long has nobody any more.
const LIFE: u64 = 90 * 24 * 60 * 60;

/// A port that a name has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The port.
    pub port: u16,
    /// Since when, in seconds of the calendar.
    pub since: u64,
    /// When it was used last.
    pub used: u64,
}

/// All leases.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leases {
    kept: BTreeMap<String, Lease>,
}

/// Why a name gets no port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeaseError {
    /// It is no label of a host name, and `NAME.localhost` would be none.
    Name,
    /// The port that is wanted is another name's.
    Taken(String),
    /// It has another port, and would lose it.
    Other(u16),
    /// There are too many leases.
    Full,
    /// No port is free.
    NoPort,
}

impl fmt::Display for LeaseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name => f.write_str(
                "a name has from 1 to 63 lower-case letters, digits and hyphens, and no hyphen at its ends",
            ),
            Self::Taken(name) => write!(f, "{name} has that port"),
            Self::Other(port) => write!(f, "it has port {port} already"),
            Self::Full => write!(f, "{MOST} names have a port, and no more can"),
            Self::NoPort => f.write_str("no port is free"),
        }
    }
}

impl std::error::Error for LeaseError {}

impl Leases {
    /// Those that were kept; what cannot be is left out.
    #[must_use]
    pub fn of(kept: impl IntoIterator<Item = (String, Lease)>) -> Self {
        let mut leases = Self::default();
        for (name, lease) in kept.into_iter().take(MOST) {
            if is_name(&name) && lease.port > 0 && leases.holder(lease.port).is_none() {
                leases.kept.insert(name, lease);
            }
        }
        leases
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Lease)> {
        self.kept.iter().map(|(name, lease)| (&**name, *lease))
    }

    /// The one of a name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Lease> {
        self.kept.get(name).copied()
    }

    /// Who has a port.
    #[must_use]
    pub fn holder(&self, port: u16) -> Option<&str> {
        let mut kept = self.kept.iter();
        let found = kept.find(|(_, lease)| lease.port == port);
        found.map(|(name, _)| name.as_str())
    }

    /// The port of a name, from now on and as before: the one that is wanted, the one that it has, or the first of
    /// `candidates` that is nobody else's.
    ///
    /// # Errors
    /// Why it gets none.
    pub fn take(
        &mut self,
        name: &str,
        now: u64,
        wanted: Option<u16>,
        candidates: impl IntoIterator<Item = u16>,
    ) -> Result<Lease, LeaseError> {
        if !is_name(name) {
            return Err(LeaseError::Name);
        }
        if let Some(port) = wanted
            && let Some(holder) = self.holder(port).filter(|holder| *holder != name)
        {
            return Err(LeaseError::Taken(holder.to_owned()));
        }
        if let Some(lease) = self.kept.get_mut(name) {
            if wanted.is_some_and(|port| port != lease.port) {
                return Err(LeaseError::Other(lease.port));
            }
            lease.used = now;
            return Ok(*lease);
        }
        if self.kept.len() >= MOST {
            return Err(LeaseError::Full);
        }
        let mut candidates = candidates.into_iter();
        let free =
            wanted.or_else(|| candidates.find(|port| *port > 0 && self.holder(*port).is_none()));
        let port = free.ok_or(LeaseError::NoPort)?;
        let lease = Lease {
            port,
            since: now,
            used: now,
        };
        self.kept.insert(name.to_owned(), lease);
        Ok(lease)
    }

    /// A name gives its port back.
    pub fn release(&mut self, name: &str) -> Option<Lease> {
        self.kept.remove(name)
    }

    /// Those whose names were not used for a long time go, but for ports that somebody listens on.
    pub fn expire(&mut self, now: u64, is_held: impl Fn(u16) -> bool) -> Vec<(String, Lease)> {
        let is_dead =
            |lease: &Lease| now.saturating_sub(lease.used) >= LIFE && !is_held(lease.port);
        let dead = self.kept.iter().filter(|(_, lease)| is_dead(lease));
        let dead: Vec<(String, Lease)> = dead.map(|(name, lease)| (name.clone(), *lease)).collect();
        for (name, _) in &dead {
            self.kept.remove(name);
        }
        dead
    }
}

/// Whether `NAME.localhost` is a host (RFC 1123, section 2.1).
fn is_name(name: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=63).contains(&name.len())
        && name.bytes().all(is_part)
        && !name.starts_with('-')
        && !name.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_keeps_its_port() {
        let mut leases = Leases::default();
        let first = leases.take("web", 10, None, [0, 61_001, 61_002]).unwrap();
        assert_eq!((first.port, first.since), (61_001, 10));
        let again = leases.take("web", 20, None, [61_009]).unwrap();
        assert_eq!((again.port, again.since, again.used), (61_001, 10, 20));
        let other = leases.take("api", 20, None, [61_001, 61_002]).unwrap();
        assert_eq!(other.port, 61_002);
        assert_eq!(leases.holder(61_002), Some("api"));
        assert_eq!(
            leases.take("db", 20, None, [61_001]),
            Err(LeaseError::NoPort)
        );
        assert_eq!(leases.release("web").map(|lease| lease.port), Some(61_001));
        assert_eq!(leases.release("web"), None);
        assert!(leases.take("db", 20, None, [61_001]).is_ok());
    }

    #[test]
    fn a_port_that_is_wanted_is_not_taken_from_anybody() {
        let mut leases = Leases::default();
        assert_eq!(leases.take("web", 0, Some(8080), []).unwrap().port, 8080);
        assert_eq!(leases.take("web", 0, Some(8080), []).unwrap().port, 8080);
        assert_eq!(
            leases.take("web", 0, Some(8081), []),
            Err(LeaseError::Other(8080))
        );
        assert_eq!(
            leases.take("api", 0, Some(8080), []),
            Err(LeaseError::Taken("web".to_owned()))
        );
    }

    #[test]
    fn what_nobody_uses_goes_unless_somebody_listens() {
        let mut leases = Leases::default();
        leases.take("old", 0, Some(1), []).unwrap();
        leases.take("held", 0, Some(2), []).unwrap();
        leases.take("new", LIFE, Some(3), []).unwrap();
        assert!(leases.clone().expire(LIFE - 1, |_| false).is_empty());
        let gone = leases.expire(LIFE, |port| port == 2);
        assert_eq!(gone.len(), 1);
        assert_eq!(gone[0].0, "old");
        // A clock that was set back makes nobody old.
        assert!(leases.expire(0, |_| false).is_empty());
    }

    #[test]
    fn names_are_labels_and_there_is_an_end_of_them() {
        let mut leases = Leases::default();
        for name in [
            "",
            "-a",
            "a-",
            "A",
            "a.b",
            "a/b",
            "..",
            "ä",
            &"a".repeat(64),
        ] {
            assert_eq!(
                leases.take(name, 0, None, [1]),
                Err(LeaseError::Name),
                "{name:?}"
            );
        }
        for number in 0..MOST {
            let port = u16::try_from(number + 1).unwrap();
            leases
                .take(&format!("n{number}"), 0, Some(port), [])
                .unwrap();
        }
        assert_eq!(
            leases.take("more", 0, Some(60_000), []),
            Err(LeaseError::Full)
        );
        assert!(leases.take("n7", 0, None, []).is_ok());
    }

    #[test]
    fn what_was_kept_is_believed_as_far_as_it_can_be() {
        let lease = |port| Lease {
            port,
            since: 0,
            used: 0,
        };
        let kept = [("a", 1), ("b", 1), ("../c", 2), ("d", 0), ("e", 3)];
        let kept = kept.map(|(name, port)| (name.to_owned(), lease(port)));
        let leases = Leases::of(kept);
        let names: Vec<&str> = leases.iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["a", "e"]);
    }
}

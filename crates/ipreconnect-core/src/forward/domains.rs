//! Domain names, as many as there are: whether a host is one of them, and which entry says so.

use std::hash::{DefaultHasher, Hash, Hasher};

/// The longest name of a host (RFC 1035, section 2.3.4).
const LONGEST: usize = 253;
/// A place of the table that is free.
const FREE: u32 = u32::MAX;

/// Which hosts an entry is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Reach {
    /// That name alone.
    Exact,
    /// All names below it.
    Below,
    /// Both.
    Suffix,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    /// Where its name begins in all the text.
    from: u32,
    length: u8,
    reach: Reach,
    /// Where it was read, from 1.
    line: u32,
}

/// A set of names. It takes about 31 bytes for each, beside the text of the names.
#[derive(Clone, Debug, Default)]
pub(super) struct Domains {
    text: String,
    entries: Vec<Entry>,
    /// Numbers of entries, where their hashes put them, or after.
    table: Vec<u32>,
    seed: u64,
}

/// The same names out of the same places, wherever the hashes put them.
impl PartialEq for Domains {
    fn eq(&self, other: &Self) -> bool {
        self.entries == other.entries && self.text == other.text
    }
}

impl Domains {
    /// An empty one. Who knows the seed can choose names that are slow to find.
    #[must_use]
    pub(super) fn new(seed: u64) -> Self {
        Self {
            seed,
            ..Self::default()
        }
    }

    pub(super) fn seed(&self) -> u64 {
        self.seed
    }

    /// How many there are.
    #[must_use]
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Takes a name, in small letters and without a dot at its end, and the line where it was read. Of the same name with the same reach the first
    /// one stays. False if it is too long to be a host's, or there are too many.
    pub(super) fn insert(&mut self, name: &str, reach: Reach, line: u32) -> bool {
        let (Ok(length), Ok(from)) = (u8::try_from(name.len()), u32::try_from(self.text.len()))
        else {
            return false;
        };
        if name.is_empty() || name.len() > LONGEST || self.entries.len() >= FREE as usize {
            return false;
        }
        if self.table.len() < (self.entries.len() + 1) * 2 {
            self.grow();
        }
        let (found, free) = self.look(name, |entry| entry.reach == reach);
        if found.is_some() {
            return true;
        }
        let Ok(number) = u32::try_from(self.entries.len()) else {
            return false;
        };
        if let Some(place) = self.table.get_mut(free) {
            *place = number;
        }
        self.text.push_str(name);
        self.entries.push(Entry {
            from,
            length,
            reach,
            line,
        });
        true
    }

    /// The entry that a host is in: the one with the longest name. The host is in small letters, and without a dot at
    /// its end.
    #[must_use]
    pub(super) fn find(&self, host: &str) -> Option<(&str, Reach, u32)> {
        if self.entries.is_empty() {
            return None;
        }
        let (mut rest, mut is_whole) = (host, true);
        loop {
            let fits = |entry: &Entry| match entry.reach {
                Reach::Exact => is_whole,
                Reach::Below => !is_whole,
                Reach::Suffix => true,
            };
            if let Some(entry) = self.look(rest, fits).0 {
                return Some((self.name(entry), entry.reach, entry.line));
            }
            rest = rest.split_once('.')?.1;
            is_whole = false;
        }
    }

    /// Gives back what was taken for names to come.
    pub(super) fn shrink(&mut self) {
        self.text.shrink_to_fit();
        self.entries.shrink_to_fit();
    }

    fn name(&self, entry: &Entry) -> &str {
        let from = entry.from as usize;
        self.text
            .get(from..from + usize::from(entry.length))
            .unwrap_or_default()
    }

    /// The entry of a name that fits, and the free place where one would be.
    fn look(&self, name: &str, fits: impl Fn(&Entry) -> bool) -> (Option<&Entry>, usize) {
        let count = self.table.len();
        if count == 0 {
            return (None, 0);
        }
        let mut at = self.place(name);
        loop {
            match self.table.get(at) {
                None | Some(&FREE) => return (None, at),
                Some(number) => {
                    let entry = self.entries.get(*number as usize);
                    if let Some(entry) = entry.filter(|entry| self.name(entry) == name)
                        && fits(entry)
                    {
                        return (Some(entry), at);
                    }
                }
            }
            at = (at + 1) % count;
        }
    }

    fn place(&self, name: &str) -> usize {
        let mut hasher = DefaultHasher::new();
        self.seed.hash(&mut hasher);
        name.hash(&mut hasher);
        // It is less than the length of the table.
        usize::try_from(hasher.finish() % self.table.len().max(1) as u64).unwrap_or_default()
    }

    fn grow(&mut self) {
        let count = (self.table.len() * 2).max(16);
        self.table = vec![FREE; count];
        let entries = std::mem::take(&mut self.entries);
        for (number, entry) in (0_u32..).zip(&entries) {
            let mut at = self.place(self.name(entry));
            while self.table.get(at).is_some_and(|place| *place != FREE) {
                at = (at + 1) % count;
            }
            if let Some(place) = self.table.get_mut(at) {
                *place = number;
            }
        }
        self.entries = entries;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(entries: &[(&str, Reach)]) -> Domains {
        let mut domains = Domains::new(7);
        for ((name, reach), line) in entries.iter().zip(1..) {
            assert!(domains.insert(name, *reach, line));
        }
        domains
    }

    #[test]
    fn a_host_is_found_by_the_longest_entry_that_reaches_it() {
        let domains = set(&[
            ("ads.example", Reach::Exact),
            ("tracker.example", Reach::Below),
            ("evil.example", Reach::Suffix),
            ("deep.evil.example", Reach::Suffix),
            ("example", Reach::Exact),
        ]);
        for (host, line) in [
            ("ads.example", Some(1)),
            ("x.ads.example", None),
            ("tracker.example", None),
            ("a.tracker.example", Some(2)),
            ("a.b.tracker.example", Some(2)),
            ("evil.example", Some(3)),
            ("www.evil.example", Some(3)),
            ("x.deep.evil.example", Some(4)),
            ("notevil.example", None),
            ("example", Some(5)),
            ("other.example", None),
            ("", None),
            ("..", None),
        ] {
            let found = domains.find(host).map(|(_, _, line)| line);
            assert_eq!(found, line, "{host}");
        }
    }

    #[test]
    fn the_same_name_may_be_there_with_another_reach() {
        let domains = set(&[("a.example", Reach::Exact), ("a.example", Reach::Below)]);
        assert_eq!(domains.find("a.example").unwrap().1, Reach::Exact);
        assert_eq!(domains.find("b.a.example").unwrap().1, Reach::Below);
        let twice = set(&[("a.example", Reach::Exact), ("a.example", Reach::Exact)]);
        assert_eq!((twice.len(), twice.find("a.example").unwrap().2), (1, 1));
    }

    #[test]
    fn many_are_found_all_and_nothing_else() {
        let mut domains = Domains::new(7);
        for number in 0..50_000 {
            assert!(domains.insert(&format!("h{number}.example"), Reach::Suffix, 1));
        }
        domains.shrink();
        for number in 0..50_000 {
            assert!(domains.find(&format!("www.h{number}.example")).is_some());
            assert!(domains.find(&format!("h{number}x.example")).is_none());
        }
        assert!(domains.table.len() < 50_000 * 4);
        assert!(!domains.insert(&"x".repeat(254), Reach::Exact, 1));
        assert!(!domains.insert("", Reach::Exact, 1));
    }
}

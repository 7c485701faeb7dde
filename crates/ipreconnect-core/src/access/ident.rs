//! `pg_ident.conf` (PostgreSQL 16 and later): which users of the system may be which users of a database
//! (`hba.c`: `parse_ident_line`, `check_ident_usermap`).

use std::path::Path;

use super::names::{Name, User};
use super::words::{Files, Mistake, Place, Record, Word, records};

/// One line of a map.
#[derive(Clone, Debug, PartialEq)]
struct Mapping {
    map: String,
    system: Name,
    /// Whom they may be, as it is written.
    text: String,
    user: User,
}

/// The maps of names.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Maps(Vec<Mapping>);

/// Reads a file and those that it names.
///
/// # Errors
/// Everything that is wrong with them: a file with a mistake is not used at all.
pub fn read_ident(path: &Path, files: &mut dyn Files) -> Result<Maps, Vec<Mistake>> {
    let (records, mut mistakes) = records(path, files);
    let mut maps = Vec::with_capacity(records.len());
    for record in &records {
        match mapping(record) {
            Ok(mapping) => maps.push(mapping),
            Err(mistake) => mistakes.push(mistake),
        }
    }
    if mistakes.is_empty() {
        Ok(Maps(maps))
    } else {
        Err(mistakes)
    }
}

fn mapping(record: &Record) -> Result<Mapping, Mistake> {
    let one = |at: usize| -> Result<&Word, Mistake> {
        match record.fields.get(at).map(Vec::as_slice) {
            Some([word]) => Ok(word),
            Some(words) => {
                let at = words.get(1).map_or(&record.end, |word| &word.at);
                Err(record.mistake(at, "multiple values in ident field"))
            }
            None => Err(record.mistake(&record.end, "missing entry at end of line")),
        }
    };
    let (map, system, user) = (one(0)?, one(1)?, one(2)?);
    let is_asked_back = system.text.starts_with('/') && user.text.contains(FOUND);
    if let (true, Name::Like(regex)) = (is_asked_back, Name::of(system, record)?)
        && regex.captures_len() < 2
        && matches!(User::of(user, record)?, User::Named(Name::Exact(_)))
    {
        let what = format!(
            "regular expression \"{}\" has no subexpressions as requested by backreference in \"{}\"",
            regex.as_str(),
            user.text
        );
        return Err(record.mistake(&user.at, what));
    }
    Ok(Mapping {
        map: map.text.clone(),
        system: Name::of(system, record)?,
        text: user.text.clone(),
        user: User::of(user, record)?,
    })
}

/// Whom a line names.
enum Expanded {
    /// Whom it says.
    AsItIs,
    /// This one, with what the expression has found.
    Name(Vec<u8>),
    /// The expression has not found what is asked for: PostgreSQL calls that an error, and refuses.
    Nothing,
}

/// The place of what an expression has found.
const FOUND: &str = "\\1";

impl Maps {
    /// Whether a map is there.
    #[must_use]
    pub fn has(&self, map: &str) -> bool {
        self.0.iter().any(|one| one.map == map)
    }

    /// Adds a line, as the configuration has it.
    ///
    /// # Errors
    /// If one of the names is an expression that cannot be read.
    pub fn add(
        &mut self,
        place: &Place,
        map: &str,
        system: &str,
        user: &str,
    ) -> Result<(), Mistake> {
        let word = |text: &str| Word::plain(text, place.line);
        let record = Record::of(
            place,
            vec![vec![word(map)], vec![word(system)], vec![word(user)]],
        );
        self.0.push(mapping(&record)?);
        Ok(())
    }

    /// Puts the lines of others behind these.
    pub fn append(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// Whether a user of the system may be this one, by the lines of a map; without a map, by the same name.
    #[must_use]
    pub fn permit(
        &self,
        map: Option<&str>,
        system: &[u8],
        user: &[u8],
        is_member: &dyn Fn(&[u8], &str) -> bool,
    ) -> bool {
        let Some(map) = map.filter(|map| !map.is_empty()) else {
            return system == user;
        };
        let mut lines = self.0.iter().filter(|line| line.map == map);
        // A line that asks for what was not found ends it, as for PostgreSQL.
        let decided = lines.find_map(|line| line.permits(system, user, is_member));
        decided.unwrap_or(false)
    }

    /// The first name that a user of the system has by a map, where a line names one; without a map, its own.
    #[must_use]
    pub fn name(&self, map: Option<&str>, system: &[u8]) -> Option<Vec<u8>> {
        let Some(map) = map.filter(|map| !map.is_empty()) else {
            return Some(system.to_vec());
        };
        let mut lines = self.0.iter().filter(|line| line.map == map);
        lines.find_map(|line| line.name(system)).flatten()
    }
}

impl Mapping {
    /// Whether it decides, and how.
    fn permits(
        &self,
        system: &[u8],
        user: &[u8],
        is_member: &dyn Fn(&[u8], &str) -> bool,
    ) -> Option<bool> {
        match self.expanded(system)? {
            Expanded::Nothing => Some(false),
            Expanded::Name(name) => (name == user).then_some(true),
            Expanded::AsItIs => self.user.matches(user, is_member).then_some(true),
        }
    }

    /// Whether it decides on a name, and which one that is.
    fn name(&self, system: &[u8]) -> Option<Option<Vec<u8>>> {
        match (self.expanded(system)?, &self.user) {
            (Expanded::Nothing, _) => Some(None),
            (Expanded::Name(name), _) => Some(Some(name)),
            (Expanded::AsItIs, User::Named(Name::Exact(name))) => {
                Some(Some(name.clone().into_bytes()))
            }
            (Expanded::AsItIs, _) => None,
        }
    }

    /// Whom a line names for a user of the system; `None` if that is not meant.
    fn expanded(&self, system: &[u8]) -> Option<Expanded> {
        let regex = match &self.system {
            Name::Exact(name) => {
                return (name.as_bytes() == system).then_some(Expanded::AsItIs);
            }
            Name::Like(regex) => regex,
        };
        let found = regex.captures(system)?;
        let (User::Named(Name::Exact(_)), Some(at)) = (&self.user, self.text.find(FOUND)) else {
            return Some(Expanded::AsItIs);
        };
        let Some(part) = found.get(1) else {
            return Some(Expanded::Nothing);
        };
        let (before, after) = self.text.split_at(at);
        let after = after.strip_prefix(FOUND).unwrap_or_default();
        let name = [before.as_bytes(), part.as_bytes(), after.as_bytes()].concat();
        Some(Expanded::Name(name))
    }
}

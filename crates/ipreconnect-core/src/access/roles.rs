//! Who belongs to which role: for a database only its server knows, and so it has to be written down for us.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::words::{Files, Mistake, Record, records};

/// Who belongs to which role, directly or by other roles.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roles(BTreeMap<Box<str>, BTreeSet<Box<str>>>);

/// Reads a file, and those that it names: in each line a role, and those who belong to it, with commas between
/// them. Words are read as in `pg_hba.conf`.
///
/// # Errors
/// Everything that is wrong with them: a file with a mistake is not used at all.
pub fn read_roles(path: &Path, files: &mut dyn Files) -> Result<Roles, Vec<Mistake>> {
    let (records, mut mistakes) = records(path, files);
    let mut roles = Roles::default();
    for record in &records {
        if let Err(mistake) = roles.add(record) {
            mistakes.push(mistake);
        }
    }
    if mistakes.is_empty() {
        Ok(roles)
    } else {
        Err(mistakes)
    }
}

impl Roles {
    fn add(&mut self, record: &Record) -> Result<(), Mistake> {
        let [roles, members] = record.fields.as_slice() else {
            let what = "a line has a role, and those who belong to it, with commas between them";
            let at = record.fields.get(2).and_then(|field| field.first());
            return Err(record.mistake(at.map_or(&record.end, |word| &word.at), what));
        };
        let [role] = roles.as_slice() else {
            let at = roles.get(1).map_or(&record.end, |word| &word.at);
            return Err(record.mistake(at, "a line begins with one role"));
        };
        let of = self.0.entry(role.text.as_str().into()).or_default();
        of.extend(members.iter().map(|word| Box::from(word.text.as_str())));
        Ok(())
    }

    /// Whether nothing is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a user belongs to a role, directly or by other roles; each belongs to the one of its own name.
    #[must_use]
    pub fn is_member(&self, user: &[u8], role: &str) -> bool {
        if user == role.as_bytes() {
            return true;
        }
        let mut seen = BTreeSet::new();
        let mut open = vec![role];
        while let Some(role) = open.pop() {
            // Roles that belong to each other are no end of them.
            if !seen.insert(role) {
                continue;
            }
            let Some(members) = self.0.get(role) else {
                continue;
            };
            if std::str::from_utf8(user).is_ok_and(|user| members.contains(user)) {
                return true;
            }
            open.extend(members.iter().map(|member| &**member));
        }
        false
    }
}

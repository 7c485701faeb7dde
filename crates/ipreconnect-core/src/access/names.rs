//! Names of databases and users, as rules say them.

use regex::bytes::Regex;

use super::words::{Mistake, Record, Word};

/// A regular expression takes at most so much memory.
const REGEX: usize = 1 << 20;

/// One word of a list of databases.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Database {
    All,
    SameUser,
    /// The user belongs to a role of the database's name.
    SameRole,
    /// A connection for physical replication.
    Replication,
    Named(Name),
}

/// One word of a list of users.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum User {
    All,
    /// Whoever belongs to this role, directly or not.
    Member(String),
    Named(Name),
}

/// A name, or all that match an expression.
#[derive(Clone, Debug)]
pub(super) enum Name {
    Exact(String),
    Like(Regex),
}

impl PartialEq for Name {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Exact(one), Self::Exact(other)) => one == other,
            (Self::Like(one), Self::Like(other)) => one.as_str() == other.as_str(),
            _ => false,
        }
    }
}

impl Name {
    /// An expression is one in quotation marks, too.
    pub(super) fn of(word: &Word, record: &Record) -> Result<Self, Mistake> {
        let Some(pattern) = word.text.strip_prefix('/') else {
            return Ok(Self::Exact(word.text.clone()));
        };
        let built = regex::bytes::RegexBuilder::new(pattern)
            .size_limit(REGEX)
            .dot_matches_new_line(true)
            .build();
        built.map(Self::Like).map_err(|error| {
            let why = last_line(&error);
            let what = format!("invalid regular expression \"{pattern}\": {why}");
            Mistake {
                hint: Some("expressions are those of the regex crate: no back references and no looking around"),
                ..record.mistake(&word.at, what)
            }
        })
    }

    pub(super) fn matches(&self, name: &[u8]) -> bool {
        match self {
            Self::Exact(exact) => exact.as_bytes() == name,
            // What is no text is one of characters that nobody has: an expression that is for all is for it.
            Self::Like(regex) => match std::str::from_utf8(name) {
                Ok(_) => regex.is_match(name),
                Err(_) => regex.is_match(String::from_utf8_lossy(name).as_bytes()),
            },
        }
    }
}

/// What the error of an expression says in the end; before, it shows the expression.
fn last_line(error: &regex::Error) -> String {
    let text = error.to_string();
    let last = text.lines().last().unwrap_or_default();
    last.trim_start_matches("error: ").to_owned()
}

impl Database {
    pub(super) fn of(word: &Word, record: &Record) -> Result<Self, Mistake> {
        Ok(match word.text.as_str() {
            "all" if !word.is_quoted => Self::All,
            "sameuser" if !word.is_quoted => Self::SameUser,
            "samerole" | "samegroup" if !word.is_quoted => Self::SameRole,
            "replication" if !word.is_quoted => Self::Replication,
            _ => Self::Named(Name::of(word, record)?),
        })
    }
}

impl User {
    pub(super) fn of(word: &Word, record: &Record) -> Result<Self, Mistake> {
        Ok(match word.text.strip_prefix('+') {
            Some(role) if !word.is_quoted => Self::Member(role.to_owned()),
            _ if word.text == "all" && !word.is_quoted => Self::All,
            _ => Self::Named(Name::of(word, record)?),
        })
    }

    /// Whether this user is meant.
    pub(super) fn matches(&self, user: &[u8], is_member: &dyn Fn(&[u8], &str) -> bool) -> bool {
        match self {
            Self::All => true,
            Self::Member(role) => is_member(user, role),
            Self::Named(name) => name.matches(user),
        }
    }
}

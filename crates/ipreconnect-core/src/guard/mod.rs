//! Who may talk to the ports of this machine: rules, what was learned, and habits that are worth a look.
//!
//! Plain values: time comes in as a parameter, connections as what was seen of them. What a rule does not name is never
//! closed because of the rule, and what was only counted, since it was over before anybody could look whose it was,
//! matches no rule that asks for a user or a program.

mod habit;
mod learn;

use std::fmt;
use std::net::IpAddr;
use std::ops::RangeInclusive;

use ipnet::IpNet;

pub use habit::{Habit, Habits, Noticed, Parties};
pub use learn::Learned;

/// What becomes of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    /// Nothing.
    Allow,
    /// It is told of.
    Report,
    /// It is told of, and closed where that is possible.
    Close,
}

impl Action {
    /// As the configuration says it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Report => "report",
            Self::Close => "close",
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// What the guard does about what it sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// It only looks, tells of what is strange, and writes down rules that allow what it has seen.
    #[default]
    Learn,
    /// It goes by its rules.
    Enforce,
}

/// One rule: all that it names must fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Any of these listening ports; none is every one.
    pub ports: Vec<RangeInclusive<u16>>,
    /// Any of these users, by number; none is everybody.
    pub users: Vec<u32>,
    /// Any of these programs: the file that is run, or its name; none is every one. A program can be called what its
    /// maker likes.
    pub programs: Vec<Box<str>>,
    /// Any of these networks of the peer; none is everywhere.
    pub addresses: Vec<IpNet>,
    /// What becomes of it.
    pub action: Action,
}

/// A connection to a port of this machine, as far as it was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sighting<'s> {
    /// The listening port.
    pub port: u16,
    /// Where the peer is.
    pub peer: IpAddr,
    /// The peer's user, if the peer is of this machine and was there to be looked at.
    pub user: Option<u32>,
    /// The file that the peer runs, or its name.
    pub program: Option<&'s str>,
    /// Whether the peer is of this machine, so that its user and program could be known.
    pub is_local: bool,
}

/// Whether a rule is for a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fit {
    Yes,
    No,
    /// It could be, if more were known of the peer.
    Perhaps,
}

impl Rule {
    fn fits(&self, seen: &Sighting<'_>) -> Fit {
        let peer = seen.peer.to_canonical();
        let is_there = (self.ports.is_empty()
            || self.ports.iter().any(|ports| ports.contains(&seen.port)))
            && (self.addresses.is_empty()
                || self.addresses.iter().any(|network| network.contains(&peer)));
        let by_user = match seen.user {
            _ if self.users.is_empty() => Fit::Yes,
            Some(user) if self.users.contains(&user) => Fit::Yes,
            None if seen.is_local => Fit::Perhaps,
            _ => Fit::No,
        };
        let by_program = match seen.program {
            _ if self.programs.is_empty() => Fit::Yes,
            Some(program) if self.names(program) => Fit::Yes,
            None if seen.is_local => Fit::Perhaps,
            _ => Fit::No,
        };
        match (is_there, by_user, by_program) {
            (true, Fit::Yes, Fit::Yes) => Fit::Yes,
            (false, _, _) | (_, Fit::No, _) | (_, _, Fit::No) => Fit::No,
            _ => Fit::Perhaps,
        }
    }

    fn names(&self, program: &str) -> bool {
        // As the kernel says of a file that was replaced while it runs.
        let program = program.strip_suffix(" (deleted)").unwrap_or(program);
        let name = program.rsplit('/').next().unwrap_or(program);
        self.programs.iter().any(|wanted| {
            if wanted.starts_with('/') {
                **wanted == *program
            } else {
                **wanted == *name
            }
        })
    }
}

/// What the guard goes by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guard {
    /// The first that is for a connection decides.
    pub rules: Vec<Rule>,
    /// What becomes of those that none is for.
    pub default: Action,
    /// Whether it acts.
    pub mode: Mode,
}

/// What becomes of a connection, and by which rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// What is done.
    pub action: Action,
    /// The rule's number, from 0; none if no rule is for it.
    pub rule: Option<usize>,
}

impl Guard {
    /// Whether a rule is for certain programs.
    #[must_use]
    pub fn names_programs(&self) -> bool {
        self.rules.iter().any(|rule| !rule.programs.is_empty())
    }

    /// Whether more would have to be known of the peer to tell what becomes of a connection.
    #[must_use]
    pub fn is_open(&self, seen: &Sighting<'_>) -> bool {
        let mut fits = self.rules.iter().map(|rule| rule.fits(seen));
        fits.find(|fit| *fit != Fit::No) == Some(Fit::Perhaps)
    }

    /// What becomes of a connection. While it learns nothing is closed, and what a rule does not name is not told of.
    /// What an earlier rule might be for, if more were known, no later one closes.
    #[must_use]
    pub fn judge(&self, seen: &Sighting<'_>) -> Verdict {
        let rule = self
            .rules
            .iter()
            .position(|rule| rule.fits(seen) == Fit::Yes);
        let said = rule.and_then(|rule| self.rules.get(rule));
        let action = match (said, self.mode) {
            (Some(rule), Mode::Enforce) if !self.is_open(seen) => rule.action,
            (Some(rule), _) => rule.action.min(Action::Report),
            (None, Mode::Learn) => Action::Allow,
            // Whose it is was not seen.
            (None, Mode::Enforce) if seen.user.is_none() || self.is_open(seen) => {
                self.default.min(Action::Report)
            }
            (None, Mode::Enforce) => self.default,
        };
        Verdict { action, rule }
    }

    /// The same of a connection of which nobody can tell which of its ends has connected, `turned` as it would be if it
    /// were the other one. What no rule is for is closed only if that would be so, too.
    #[must_use]
    pub fn judge_either(&self, seen: &Sighting<'_>, turned: &Sighting<'_>) -> Verdict {
        let verdict = self.judge(seen);
        if verdict.rule.is_some() || self.judge(turned).action == Action::Close {
            return verdict;
        }
        Verdict {
            action: verdict.action.min(Action::Report),
            ..verdict
        }
    }
}

#[cfg(test)]
mod tests;

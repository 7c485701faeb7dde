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

pub use habit::{Habit, Habits, Parties};
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
}

impl Rule {
    /// Whether it is for a connection.
    #[must_use]
    pub fn is_for(&self, seen: &Sighting<'_>) -> bool {
        let peer = seen.peer.to_canonical();
        (self.ports.is_empty() || self.ports.iter().any(|ports| ports.contains(&seen.port)))
            && (self.users.is_empty() || seen.user.is_some_and(|user| self.users.contains(&user)))
            && (self.programs.is_empty() || seen.program.is_some_and(|program| self.names(program)))
            && (self.addresses.is_empty()
                || self.addresses.iter().any(|network| network.contains(&peer)))
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

    /// Whether a rule would be for a connection, if it were known which program that is.
    #[must_use]
    pub fn may_name(&self, seen: &Sighting<'_>) -> bool {
        let would_fit = |rule: &Rule| {
            let bare = Rule {
                programs: Vec::new(),
                ..rule.clone()
            };
            !rule.programs.is_empty() && bare.is_for(seen)
        };
        seen.program.is_none() && self.rules.iter().any(would_fit)
    }

    /// What becomes of a connection. While it learns nothing is closed, and what a rule does not name is not told of.
    #[must_use]
    pub fn judge(&self, seen: &Sighting<'_>) -> Verdict {
        let rule = self.rules.iter().position(|rule| rule.is_for(seen));
        let said = rule.and_then(|rule| self.rules.get(rule));
        let action = match (said, self.mode) {
            (Some(rule), Mode::Enforce) => rule.action,
            (Some(rule), Mode::Learn) => rule.action.min(Action::Report),
            (None, Mode::Learn) => Action::Allow,
            // Whose it is was not seen: a rule might have been for it.
            (None, Mode::Enforce) if seen.user.is_none() || self.may_name(seen) => {
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

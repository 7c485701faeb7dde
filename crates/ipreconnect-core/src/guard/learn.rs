//! Who talks to which port, as rules that would allow it.

use std::collections::{BTreeMap, BTreeSet};

use super::Rule;
use super::habit::Parties;

/// So many are kept, and of one user so many; a machine on which more talk is not learned by looking.
const MOST: usize = 4096;
const OF_ONE: usize = 1024;

/// What was seen while learning.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Learned {
    seen: BTreeSet<Parties>,
    of_users: BTreeMap<Option<u32>, usize>,
    is_full: bool,
}

impl Learned {
    /// Somebody talks to a port. True if there is something to be written: it was not known, or is the first that finds no
    /// room.
    pub fn saw(&mut self, parties: &Parties) -> bool {
        if self.seen.contains(parties) {
            return false;
        }
        let of_one = self.of_users.entry(parties.user).or_default();
        if self.seen.len() >= MOST || *of_one >= OF_ONE {
            return !std::mem::replace(&mut self.is_full, true);
        }
        *of_one += 1;
        self.seen.insert(parties.clone())
    }

    /// What a rule allows that was learned before.
    pub fn know(&mut self, rule: &Rule) {
        if rule.action != super::Action::Allow || !rule.addresses.is_empty() {
            return;
        }
        let any: Box<str> = Box::default();
        let programs = match rule.programs.as_slice() {
            [] => std::slice::from_ref(&any),
            programs => programs,
        };
        let ports = rule.ports.iter().cloned().flatten();
        for port in ports.take(MOST) {
            for (user, program) in rule
                .users
                .iter()
                .flat_map(|user| programs.iter().map(move |program| (user, program)))
            {
                self.saw(&Parties {
                    port,
                    user: Some(*user),
                    program: program.clone(),
                    address: None,
                });
            }
        }
    }

    /// Whether more talk than can be kept.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.is_full
    }

    /// Rules that allow what was seen and nothing else: one for each user and program, with all their ports.
    #[must_use]
    pub fn rules(&self) -> Vec<Rule> {
        let mut by: BTreeMap<(u32, &str), Vec<u16>> = BTreeMap::new();
        for one in &self.seen {
            // Of whom nothing is known no rule can be made that would not allow everybody.
            if let Some(user) = one.user {
                by.entry((user, &one.program)).or_default().push(one.port);
            }
        }
        let rules = by.into_iter().map(|((user, program), ports)| Rule {
            ports: ports.into_iter().map(|port| port..=port).collect(),
            users: vec![user],
            programs: Some(program)
                .filter(|program| !program.is_empty())
                .map(Into::into)
                .into_iter()
                .collect(),
            addresses: Vec::new(),
            action: super::Action::Allow,
        });
        rules.collect()
    }
}

//! All rules of a listener: the first one that a client matches decides.
//!
//! There may be thousands of them, and a client must not wait for each to be looked at. Rules are found by the
//! network that they are for, and there by the exact name of a user or a database; whichever of those that
//! match stands first is the one. What is found so is what looking at one after the other finds.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::address::From;
use super::names::{Database, Name, User};
use super::rule::{Kind, Method, Rule};

/// Where a client comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// This machine, over a Unix socket.
    Local,
    /// An address, which is the canonical one: IPv4 is never written as IPv6.
    Ip(IpAddr),
}

/// Whether clients of a listener say who they are, before it is proven.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Names {
    /// They do, and a rule is for those who say the name that it is for.
    Said,
    /// They do not: a rule is for those of whom its method proves the name that it is for.
    #[default]
    Proven,
}

/// Who wants to come in, as far as that was said.
#[derive(Clone, Copy, Debug)]
pub struct Visitor<'v> {
    /// Where it comes from.
    pub source: Source,
    /// Its connection is inside TLS.
    pub is_tls: bool,
    /// The name that it says is its own.
    pub user: Option<&'v [u8]>,
    /// The database that it asks for.
    pub database: Option<&'v [u8]>,
    /// It asks for the stream of changes of all databases (physical replication).
    pub is_replication: bool,
}

/// What the rules need to know of the world.
pub trait World {
    /// Whether this is an address of this machine.
    fn is_own_address(&self, address: IpAddr) -> bool;

    /// Whether this machine is in the network of this address.
    fn is_own_network(&self, address: IpAddr) -> bool;

    /// Whether a user belongs to a role, directly or by other roles; each belongs to the one of its name.
    fn is_member(&self, user: &[u8], role: &str) -> bool;

    /// Whether the method of a rule proves that the visitor has a name, by the rule's map, that `is_meant`;
    /// asked where it has said none.
    fn proves(&self, rule: &Rule, is_meant: &dyn Fn(&[u8]) -> bool) -> bool;

    /// The host of the visitor's address, if its name leads back to that address.
    fn host(&self) -> Host<'_>;
}

/// What is known of the name of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Host<'h> {
    /// Nobody has looked.
    Unknown,
    /// It has none that leads back to it.
    None,
    /// This one.
    Named(&'h str),
}

/// Why a rule is not for a visitor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mismatch {
    /// It comes over a Unix socket, or does not.
    Transport,
    /// It is inside TLS, or is not.
    Tls,
    /// Nobody has GSSAPI encryption here.
    Gss,
    /// It comes from elsewhere.
    Address,
    /// The name of its host is another one, or there is none.
    Host,
    /// It wants another database.
    Database,
    /// It is somebody else.
    User,
}

/// What the rules say.
#[derive(Clone, Copy, Debug)]
pub enum Verdict<'r> {
    /// This one decides.
    Rule(&'r Rule),
    /// No rule is for this visitor: it is refused.
    None,
    /// The name of its host has to be looked up first.
    NeedsHost,
}

/// The rules of a listener.
#[derive(Debug, Default)]
pub struct Rules {
    rules: Vec<Rule>,
    index: Index,
}

impl Rules {
    /// In this order.
    #[must_use]
    pub fn new(rules: Vec<Rule>, names: Names) -> Self {
        let index = Index::of(&rules, names);
        Self { rules, index }
    }

    /// All of them, in order.
    #[must_use]
    pub fn all(&self) -> &[Rule] {
        &self.rules
    }

    /// The number of one of these rules, from 0.
    #[must_use]
    pub fn number(&self, rule: &Rule) -> Option<usize> {
        let at = std::ptr::from_ref(rule);
        // They stand behind each other.
        let number = self
            .rules
            .partition_point(|one| std::ptr::from_ref(one) < at);
        let found = self.rules.get(number)?;
        std::ptr::eq(found, rule).then_some(number)
    }

    /// The first rule that is for this visitor.
    #[must_use]
    pub fn decide(&self, visitor: &Visitor<'_>, world: &dyn World) -> Verdict<'_> {
        let mut best = usize::MAX;
        self.index.visit(visitor, |numbers| {
            for number in numbers {
                let number = *number as usize;
                if number >= best {
                    break;
                }
                let rule = self.rules.get(number);
                if rule.is_some_and(|rule| mismatch(rule, visitor, world).is_none()) {
                    best = number;
                    break;
                }
            }
        });
        // Looked up only where it may change something.
        if world.host() == Host::Unknown {
            let mut hosts = self.index.hosts.iter().map(|number| *number as usize);
            let may_change = hosts
                .by_ref()
                .take_while(|number| *number < best)
                .any(|number| {
                    let rule = self.rules.get(number);
                    rule.is_some_and(|rule| mismatch(rule, visitor, world) == Some(Mismatch::Host))
                });
            if may_change {
                return Verdict::NeedsHost;
            }
        }
        self.rules.get(best).map_or(Verdict::None, Verdict::Rule)
    }

    /// Whether somebody from there may come in, whoever it is, by a method that is one of these.
    #[must_use]
    pub fn may_admit(
        &self,
        visitor: &Visitor<'_>,
        world: &dyn World,
        is_one: impl Fn(Method) -> bool,
    ) -> bool {
        let here = |rule: &&Rule| elsewhere(rule, visitor, world).is_none();
        let mut rules = self.rules.iter().filter(here);
        let decides = |rule: &Rule| {
            let is_for_all = !rule.needs_name() && !rule.needs_database() && !rule.needs_host();
            match rule.method {
                Method::Reject => is_for_all.then_some(false),
                method if is_one(method) => Some(true),
                _ => is_for_all.then_some(false),
            }
        };
        rules.find_map(decides).unwrap_or(false)
    }

    /// Every rule up to the one that decides, and why those before it do not.
    pub fn explain<'r>(
        &'r self,
        visitor: &'r Visitor<'_>,
        world: &'r dyn World,
    ) -> impl Iterator<Item = (&'r Rule, Option<Mismatch>)> {
        let mut is_over = false;
        let rules = self.rules.iter();
        rules.map_while(move |rule| {
            let mismatch = (!is_over).then(|| mismatch(rule, visitor, world))?;
            is_over = mismatch.is_none();
            Some((rule, mismatch))
        })
    }
}

/// Why a rule is not for a visitor; `None` if it is. The name of a host is looked at last, as it may have to be
/// looked up.
fn mismatch(rule: &Rule, visitor: &Visitor<'_>, world: &dyn World) -> Option<Mismatch> {
    if let Some(elsewhere) = elsewhere(rule, visitor, world) {
        return Some(elsewhere);
    }
    if !wants(rule, visitor, world) {
        return Some(Mismatch::Database);
    }
    if !is_meant(rule, visitor, world) {
        return Some(Mismatch::User);
    }
    let Some(From::Host(name)) = &rule.from else {
        return None;
    };
    let is_host = match world.host() {
        Host::Named(actual) => is_host(name, actual),
        Host::Unknown | Host::None => false,
    };
    (!is_host).then_some(Mismatch::Host)
}

/// Why a rule is not for whoever comes from there. The name of its host is not looked at.
fn elsewhere(rule: &Rule, visitor: &Visitor<'_>, world: &dyn World) -> Option<Mismatch> {
    let address = match (rule.kind, visitor.source) {
        (Kind::Local, Source::Local) => None,
        (Kind::Local, Source::Ip(_)) | (_, Source::Local) => return Some(Mismatch::Transport),
        (_, Source::Ip(address)) => Some(address),
    };
    match rule.kind {
        Kind::HostSsl if !visitor.is_tls => return Some(Mismatch::Tls),
        Kind::HostNoSsl if visitor.is_tls => return Some(Mismatch::Tls),
        Kind::HostGssEnc => return Some(Mismatch::Gss),
        _ => {}
    }
    let is_from = match (&rule.from, address) {
        (None | Some(From::All | From::Host(_)), _) | (_, None) => true,
        (Some(From::SameHost), Some(address)) => world.is_own_address(address),
        (Some(From::SameNet), Some(address)) => world.is_own_network(address),
        (Some(From::Net { address: net, mask }), Some(address)) => is_within(address, *net, *mask),
    };
    (!is_from).then_some(Mismatch::Address)
}

/// `hba.c`: `check_db`.
fn wants(rule: &Rule, visitor: &Visitor<'_>, world: &dyn World) -> bool {
    rule.databases.iter().any(|one| {
        if visitor.is_replication {
            return matches!(one, Database::Replication);
        }
        let (user, database) = (visitor.user, visitor.database);
        match one {
            Database::All => true,
            Database::SameUser => user.is_some() && user == database,
            Database::SameRole => {
                let role = database.and_then(|database| std::str::from_utf8(database).ok());
                let pair = user.zip(role);
                pair.is_some_and(|(user, role)| world.is_member(user, role))
            }
            Database::Replication => false,
            Database::Named(name) => database.is_some_and(|database| name.matches(database)),
        }
    })
}

/// `hba.c`: `check_role`.
fn is_meant(rule: &Rule, visitor: &Visitor<'_>, world: &dyn World) -> bool {
    let is_member = |user: &[u8], role: &str| world.is_member(user, role);
    if rule.users.iter().any(|one| matches!(one, User::All)) {
        return true;
    }
    let is_one = |user: &[u8]| rule.users.iter().any(|one| one.matches(user, &is_member));
    match visitor.user {
        Some(user) => is_one(user),
        None => world.proves(rule, &is_one),
    }
}

fn is_within(address: IpAddr, net: IpAddr, mask: IpAddr) -> bool {
    match (address, net, mask) {
        (IpAddr::V4(address), IpAddr::V4(net), IpAddr::V4(mask)) => {
            (address.to_bits() ^ net.to_bits()) & mask.to_bits() == 0
        }
        (IpAddr::V6(address), IpAddr::V6(net), IpAddr::V6(mask)) => {
            (address.to_bits() ^ net.to_bits()) & mask.to_bits() == 0
        }
        _ => false,
    }
}

/// `hba.c`: `hostname_match`.
fn is_host(name: &str, actual: &str) -> bool {
    if !name.starts_with('.') {
        return name.eq_ignore_ascii_case(actual);
    }
    let Some(start) = actual.len().checked_sub(name.len()) else {
        return false;
    };
    let suffix = actual.as_bytes().get(start..).unwrap_or_default();
    start > 0 && suffix.eq_ignore_ascii_case(name.as_bytes())
}

/// Numbers of rules, each list in order.
#[derive(Debug, Default)]
struct Index {
    /// Those of Unix sockets.
    local: ByName,
    /// Those that are for any address, or cannot be found by one.
    anywhere: ByName,
    four: Nets,
    six: Nets,
    /// Those that name hosts.
    hosts: Vec<u32>,
}

/// Rules by the exact names that they are for.
#[derive(Debug, Default)]
struct ByName {
    users: BTreeMap<Box<[u8]>, Vec<u32>>,
    databases: BTreeMap<Box<[u8]>, Vec<u32>>,
    others: Vec<u32>,
}

/// Networks, so ordered that whatever is within one follows it.
#[derive(Debug, Default)]
struct Nets(Vec<Net>);

#[derive(Debug)]
struct Net {
    first: u128,
    prefix: u32,
    /// The smallest one that this is within.
    parent: Option<usize>,
    names: ByName,
}

impl Index {
    fn of(rules: &[Rule], are_said: Names) -> Self {
        let mut index = Self::default();
        let mut nets: [BTreeMap<(u128, u32), ByName>; 2] = Default::default();
        for (number, rule) in rules.iter().enumerate() {
            let Ok(number) = u32::try_from(number) else {
                break;
            };
            let names = match &rule.from {
                None => &mut index.local,
                Some(From::Host(_)) => {
                    index.hosts.push(number);
                    &mut index.anywhere
                }
                Some(From::All | From::SameHost | From::SameNet) => &mut index.anywhere,
                Some(From::Net { address, mask }) => match key(*address, *mask) {
                    Some((at, key)) => match nets.get_mut(at) {
                        Some(nets) => nets.entry(key).or_default(),
                        None => &mut index.anywhere,
                    },
                    None => &mut index.anywhere,
                },
            };
            match are_said {
                Names::Said => names.add(number, rule),
                Names::Proven => names.others.push(number),
            }
        }
        let [four, six] = nets;
        index.four = Nets::of(four, 32);
        index.six = Nets::of(six, 128);
        index
    }

    /// Hands over every list that may have a rule for this visitor.
    fn visit(&self, visitor: &Visitor<'_>, mut with: impl FnMut(&[u32])) {
        let nets = match visitor.source {
            Source::Local => {
                self.local.visit(visitor, &mut with);
                return;
            }
            Source::Ip(IpAddr::V4(address)) => self.four.around(address.to_bits().into(), 32),
            Source::Ip(IpAddr::V6(address)) => self.six.around(address.to_bits(), 128),
        };
        for names in nets.chain([&self.anywhere]) {
            names.visit(visitor, &mut with);
        }
    }
}

/// Which list of networks a rule belongs to, and where; none if its mask has holes.
fn key(address: IpAddr, mask: IpAddr) -> Option<(usize, (u128, u32))> {
    let (at, width, address, mask): (_, _, u128, u128) = match (address, mask) {
        (IpAddr::V4(address), IpAddr::V4(mask)) => {
            (0, 32, address.to_bits().into(), mask.to_bits().into())
        }
        (IpAddr::V6(address), IpAddr::V6(mask)) => (1, 128, address.to_bits(), mask.to_bits()),
        _ => return None,
    };
    let prefix = mask.count_ones();
    (mask == bits(prefix, width)).then_some((at, (address & mask, prefix)))
}

/// A mask of so many ones.
fn bits(prefix: u32, width: u32) -> u128 {
    let all = u128::MAX >> (128 - width);
    let holes = all.checked_shr(prefix).unwrap_or(0);
    all & !holes
}

impl ByName {
    fn add(&mut self, number: u32, rule: &Rule) {
        let users = rule.users.iter().map(|user| match user {
            User::Named(Name::Exact(name)) => Some(name.as_bytes()),
            _ => None,
        });
        if let Some(users) = users.collect::<Option<Vec<_>>>() {
            add(&mut self.users, number, &users);
            return;
        }
        let databases = rule.databases.iter().map(|database| match database {
            Database::Named(Name::Exact(name)) => Some(name.as_bytes()),
            _ => None,
        });
        match databases.collect::<Option<Vec<_>>>() {
            Some(databases) => add(&mut self.databases, number, &databases),
            None => self.others.push(number),
        }
    }

    fn visit(&self, visitor: &Visitor<'_>, with: &mut impl FnMut(&[u32])) {
        if let Some(numbers) = visitor.user.and_then(|user| self.users.get(user)) {
            with(numbers);
        }
        let database = visitor.database.filter(|_| !visitor.is_replication);
        if let Some(numbers) = database.and_then(|database| self.databases.get(database)) {
            with(numbers);
        }
        with(&self.others);
    }
}

fn add(map: &mut BTreeMap<Box<[u8]>, Vec<u32>>, number: u32, names: &[&[u8]]) {
    for name in names {
        let numbers = map.entry((*name).into()).or_default();
        // A name that is said twice is one.
        if numbers.last() != Some(&number) {
            numbers.push(number);
        }
    }
}

impl Nets {
    fn of(nets: BTreeMap<(u128, u32), ByName>, width: u32) -> Self {
        let mut ordered: Vec<Net> = Vec::with_capacity(nets.len());
        let mut open: Vec<usize> = Vec::new();
        for ((first, prefix), names) in nets {
            while let Some(net) = open.last().and_then(|at| ordered.get(*at))
                && (first ^ net.first) & bits(net.prefix, width) != 0
            {
                open.pop();
            }
            let parent = open.last().copied();
            open.push(ordered.len());
            ordered.push(Net {
                first,
                prefix,
                parent,
                names,
            });
        }
        Self(ordered)
    }

    /// The networks that an address is in.
    fn around(&self, address: u128, width: u32) -> impl Iterator<Item = &ByName> {
        let behind = self.0.partition_point(|net| net.first <= address);
        let mut next = behind.checked_sub(1);
        std::iter::from_fn(move || {
            let net = self.0.get(next?)?;
            next = net.parent;
            Some(net)
        })
        .filter(move |net| (address ^ net.first) & bits(net.prefix, width) == 0)
        .map(|net| &net.names)
    }
}

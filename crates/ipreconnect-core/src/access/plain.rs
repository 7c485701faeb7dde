//! Rules of our own configuration: the same, in other words.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::address::{From, Read};
use super::ident::Maps;
use super::names::{Database, User};
use super::rule::{ClientCert, Kind, Method, Rule};
use super::words::{Files, Mistake, Place, Record, Word, field};

/// An `[[access]]`, as it is written. Each word is read as a field of `pg_hba.conf` is: with quotation marks,
/// commas, and `@file`.
#[derive(Clone, Copy, Debug)]
pub struct Plain<'p> {
    /// Where it stands.
    pub place: &'p Place,
    /// `local`, `loopback`, `samehost`, `samenet`, `all`, a network, an address and its mask, a host, a suffix.
    pub from: &'p [String],
    /// The names it is for; none is all of them.
    pub users: &'p [String],
    /// The databases it is for; none is all of them, but not replication, as with `all`.
    pub databases: &'p [String],
    /// What is demanded.
    pub method: &'p str,
    /// The map of names.
    pub map: Option<&'p str>,
}

/// The part of a rule that a mistake is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlainField {
    /// This one of `from`.
    From(usize),
    /// This one of `user`.
    User(usize),
    /// This one of `database`.
    Database(usize),
    /// `method`.
    Method,
    /// `map`.
    Map,
}

/// What is wrong with a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlainMistake {
    /// Where it is.
    pub field: PlainField,
    /// What it is.
    pub what: String,
}

/// The rules that an `[[access]]` is, one for each source.
///
/// # Errors
/// If a word cannot be read.
pub fn plain(plain: &Plain<'_>, files: &mut dyn Files) -> Result<Vec<Rule>, PlainMistake> {
    let wrong = |field: PlainField| {
        move |mistake: Mistake| PlainMistake {
            field,
            what: mistake.what,
        }
    };
    let method = Method::of(plain.method).filter(|method| !matches!(method, Method::Other(_)));
    let method = method.ok_or_else(|| PlainMistake {
        field: PlainField::Method,
        what: format!("{:?} is no method", plain.method),
    })?;
    if plain.map.is_some() && !matches!(method, Method::Peer | Method::Cert) {
        return Err(PlainMistake {
            field: PlainField::Map,
            what: "only `peer` and `cert` prove a name that a map can change".to_owned(),
        });
    }
    let mut words = |texts: &[String], at: fn(usize) -> PlainField| {
        let mut all = Vec::new();
        for (number, text) in texts.iter().enumerate() {
            let words = field(text, plain.place, files);
            all.extend(words.map_err(wrong(at(number)))?);
        }
        Ok::<Vec<Word>, PlainMistake>(all)
    };
    let record = Record::of(plain.place, Vec::new());
    let mut users = Vec::new();
    for word in words(plain.users, PlainField::User)? {
        users.push(User::of(&word, &record).map_err(wrong(PlainField::User(0)))?);
    }
    let mut databases = Vec::new();
    for word in words(plain.databases, PlainField::Database)? {
        databases.push(Database::of(&word, &record).map_err(wrong(PlainField::Database(0)))?);
    }
    if plain.users.is_empty() {
        users.push(User::All);
    }
    if plain.databases.is_empty() {
        databases.push(Database::All);
    }
    let mut rules = Vec::new();
    for (number, text) in plain.from.iter().enumerate() {
        let sources = sources(text, &record).map_err(wrong(PlainField::From(number)))?;
        rules.extend(sources.into_iter().map(|from| Rule {
            place: plain.place.clone(),
            kind: if from.is_none() {
                Kind::Local
            } else {
                Kind::Host
            },
            method,
            map: plain.map.map(str::to_owned),
            client_cert: match method {
                Method::Cert => ClientCert::Named,
                _ => ClientCert::Off,
            },
            by_subject: false,
            by_alternative: true,
            databases: databases.clone(),
            users: users.clone(),
            from,
            text: text_of(plain, text).into(),
        }));
    }
    Ok(rules)
}

/// The rules of a listener for which none are written: whatever is of this machine is trusted.
#[must_use]
pub fn this_machine() -> Vec<Rule> {
    by_default(&[], "trust")
}

/// The same, where only these users of this machine are trusted.
#[must_use]
pub fn our_own(users: &[String]) -> Vec<Rule> {
    by_default(users, "peer")
}

/// The same, where clients say a name of their own, and any name is good.
#[must_use]
pub fn our_own_said(users: &[String]) -> (Vec<Rule>, Maps) {
    const MAP: &str = "our own";
    let mut maps = Maps::default();
    for user in users {
        // A name that begins like an expression is none of a user of the system.
        let _ = maps.add(&default_place(), MAP, user, "all");
    }
    let mut rules = by_default(&[], "peer");
    for rule in &mut rules {
        rule.map = Some(MAP.to_owned());
    }
    (rules, maps)
}

fn default_place() -> Place {
    Place {
        file: std::path::Path::new("default").into(),
        line: 0,
    }
}

fn by_default(users: &[String], method: &str) -> Vec<Rule> {
    let place = default_place();
    let from = ["local", "loopback"].map(str::to_owned);
    let rules = Plain {
        place: &place,
        from: &from,
        users,
        databases: &[],
        method,
        map: None,
    };
    plain(&rules, &mut Nothing).unwrap_or_default()
}

/// No files at all.
struct Nothing;

impl Files for Nothing {
    fn read(&mut self, _: &std::path::Path) -> Result<Option<Vec<u8>>, String> {
        Ok(None)
    }

    fn list(&mut self, _: &std::path::Path) -> Result<Vec<std::path::PathBuf>, String> {
        Ok(Vec::new())
    }
}

fn sources(text: &str, record: &Record) -> Result<Vec<Option<From>>, Mistake> {
    let four = From::net(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 0)), 8);
    match text {
        "local" => return Ok(vec![None]),
        "loopback" => {
            let six = From::one(IpAddr::V6(Ipv6Addr::LOCALHOST));
            return Ok(four.into_iter().chain([six]).map(Some).collect());
        }
        _ => {}
    }
    let mut parts = text.split_ascii_whitespace();
    let (address, mask) = (parts.next().unwrap_or_default(), parts.next());
    let word = |text: &str| Word::plain(text, record.place.line);
    let from = match (From::read(&word(address), record)?, mask) {
        (Read::Address(address), None) => From::one(address),
        (Read::Address(address), Some(mask)) => From::masked(address, &word(mask), record)?,
        (Read::Whole(from), None) => from,
        (Read::Whole(_), Some(_)) => {
            let what = format!("a mask follows an address, and nothing else: \"{text}\"");
            return Err(record.mistake(&record.end, what));
        }
    };
    let is_nothing = matches!(&from, From::Host(host) if !is_host(host));
    if is_nothing || parts.next().is_some() {
        let what = format!("this is no source: \"{text}\"");
        return Err(record.mistake(&record.end, what));
    }
    Ok(vec![Some(canonical(from))])
}

/// Whether a text may be the name of a host, or the end of one: a number that is no address is none.
fn is_host(text: &str) -> bool {
    let name = text.strip_prefix('.').unwrap_or(text);
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    let last = name.rsplit('.').next().unwrap_or_default();
    let is_number = last.bytes().all(|byte| byte.is_ascii_digit());
    name.len() <= 253 && name.split('.').all(label) && !is_number
}

/// IPv4 that is written as IPv6 is IPv4, as clients are.
fn canonical(from: From) -> From {
    let From::Net {
        address: IpAddr::V6(address),
        mask: IpAddr::V6(mask),
    } = from
    else {
        return from;
    };
    let bits = mask.to_bits();
    let low = u32::try_from(bits & u128::from(u32::MAX)).unwrap_or(u32::MAX);
    match address.to_ipv4_mapped() {
        Some(four) if bits >> 32 == u128::MAX >> 32 => From::Net {
            address: IpAddr::V4(four),
            mask: IpAddr::V4(Ipv4Addr::from_bits(low)),
        },
        _ => from,
    }
}

fn text_of(plain: &Plain<'_>, from: &str) -> String {
    let list = |texts: &[String]| match texts {
        [] => "all".to_owned(),
        texts => texts.join(","),
    };
    let (users, databases) = (list(plain.users), list(plain.databases));
    let map = plain.map.map(|map| format!(" map={map}"));
    let (method, map) = (plain.method, map.unwrap_or_default());
    format!("from {from} user {users} database {databases} method {method}{map}")
}

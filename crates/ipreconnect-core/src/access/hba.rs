//! `pg_hba.conf` (PostgreSQL 16 and later; `hba.c`: `parse_hba_line`).

use std::path::Path;

use super::address::{From, Read};
use super::names::{Database, User};
use super::rule::{ClientCert, Foreign, Kind, Method, Rule};
use super::words::{Files, Mistake, Record, Word, records};

/// Reads a file and those that it names.
///
/// # Errors
/// Everything that is wrong with them: a file with a mistake is not used at all.
pub fn read_hba(path: &Path, files: &mut dyn Files) -> Result<Vec<Rule>, Vec<Mistake>> {
    let (records, mut mistakes) = records(path, files);
    let mut rules = Vec::with_capacity(records.len());
    for record in &records {
        match rule(record) {
            Ok(rule) => rules.push(rule),
            Err(mistake) => mistakes.push(mistake),
        }
    }
    if mistakes.is_empty() {
        Ok(rules)
    } else {
        Err(mistakes)
    }
}

/// The fields of a record, one after the other.
struct Fields<'r> {
    record: &'r Record,
    rest: std::slice::Iter<'r, Vec<Word>>,
}

impl<'r> Fields<'r> {
    fn next(&mut self, missing: &str) -> Result<&'r [Word], Mistake> {
        let end = || self.record.mistake(&self.record.end, missing);
        self.rest.next().map(Vec::as_slice).ok_or_else(end)
    }

    /// A field of one word.
    fn one(&mut self, missing: &str, what: &str, hint: &'static str) -> Result<&'r Word, Mistake> {
        match self.next(missing)? {
            [word] => Ok(word),
            words => {
                let at = words.get(1).map_or(&self.record.end, |word| &word.at);
                Err(Mistake {
                    hint: Some(hint),
                    ..self
                        .record
                        .mistake(at, format!("multiple values specified for {what}"))
                })
            }
        }
    }
}

fn rule(record: &Record) -> Result<Rule, Mistake> {
    let mut fields = Fields {
        record,
        rest: record.fields.iter(),
    };
    let kind = fields.one(
        "end-of-line before connection type",
        "connection type",
        "Specify exactly one connection type per line.",
    )?;
    let kind = kind_of(kind, record)?;
    let databases = fields.next("end-of-line before database specification")?;
    let databases = databases.iter().map(|word| Database::of(word, record));
    let databases = databases.collect::<Result<_, _>>()?;
    let users = fields.next("end-of-line before role specification")?;
    let users = users.iter().map(|word| User::of(word, record));
    let users = users.collect::<Result<_, _>>()?;
    let from = match kind {
        Kind::Local => None,
        _ => Some(from(&mut fields)?),
    };
    let word = fields.one(
        "end-of-line before authentication method",
        "authentication type",
        "Specify exactly one authentication type per line.",
    )?;
    let method = method(word, kind, record)?;
    let mut rule = Rule {
        place: record.place.clone(),
        kind,
        method,
        map: None,
        client_cert: match method {
            Method::Cert => ClientCert::Named,
            _ => ClientCert::Off,
        },
        by_subject: false,
        by_alternative: false,
        databases,
        users,
        from,
        text: text_of(record).into(),
    };
    for option in fields.rest.flatten() {
        set(&mut rule, option, record)?;
    }
    Ok(rule)
}

fn kind_of(word: &Word, record: &Record) -> Result<Kind, Mistake> {
    Ok(match word.text.as_str() {
        "local" => Kind::Local,
        "host" => Kind::Host,
        "hostssl" => Kind::HostSsl,
        "hostnossl" => Kind::HostNoSsl,
        "hostgssenc" => Kind::HostGssEnc,
        "hostnogssenc" => Kind::HostNoGssEnc,
        other => {
            let what = format!("invalid connection type \"{other}\"");
            return Err(record.mistake(&word.at, what));
        }
    })
}

fn from(fields: &mut Fields<'_>) -> Result<From, Mistake> {
    let record = fields.record;
    let word = fields.one(
        "end-of-line before IP address specification",
        "host address",
        "Specify one address range per line.",
    )?;
    match From::read(word, record)? {
        Read::Whole(from) => Ok(from),
        Read::Address(address) => {
            const HINT: &str =
                "Specify an address range in CIDR notation, or provide a separate netmask.";
            let mask = fields.one("end-of-line before netmask specification", "netmask", HINT);
            let mask = mask.map_err(|mistake| Mistake {
                hint: Some(HINT),
                ..mistake
            })?;
            From::masked(address, mask, record)
        }
    }
}

fn method(word: &Word, kind: Kind, record: &Record) -> Result<Method, Mistake> {
    let wrong = |what: &str| Err(record.mistake(&word.at, what));
    let name = word.text.as_str();
    let Some(method) = Method::of(name) else {
        if matches!(name, "sspi" | "bsd" | "oauth") {
            return wrong(&format!(
                "invalid authentication method \"{name}\": not supported by this build"
            ));
        }
        return wrong(&format!("invalid authentication method \"{name}\""));
    };
    match (kind, method) {
        // As they were one once.
        (Kind::Local, Method::Other(Foreign::Ident)) => Ok(Method::Peer),
        (Kind::Local, Method::Other(Foreign::Gss)) => {
            wrong("gssapi authentication is not supported on local sockets")
        }
        (kind, Method::Peer) if kind != Kind::Local => {
            wrong("peer authentication is only supported on local sockets")
        }
        (kind, Method::Cert) if kind != Kind::HostSsl => {
            wrong("cert authentication is only supported on hostssl connections")
        }
        (_, method) => Ok(method),
    }
}

/// Takes an option (`hba.c`: `parse_hba_auth_opt`).
fn set(rule: &mut Rule, word: &Word, record: &Record) -> Result<(), Mistake> {
    let wrong = |what: String| Err(record.mistake(&word.at, what));
    let Some((name, value)) = word.text.split_once('=') else {
        return wrong(format!(
            "authentication option not in name=value format: {}",
            word.text
        ));
    };
    let only = |methods: &str| {
        wrong(format!(
            "authentication option \"{name}\" is only valid for authentication methods {methods}"
        ))
    };
    match name {
        "map" => {
            let maps = matches!(
                rule.method,
                Method::Peer | Method::Cert | Method::Other(Foreign::Ident | Foreign::Gss)
            );
            if !maps {
                return only("ident, peer, gssapi, sspi, and cert");
            }
            rule.map = Some(value.to_owned());
        }
        "clientcert" => {
            if rule.kind != Kind::HostSsl {
                return wrong("clientcert can only be configured for \"hostssl\" rows".to_owned());
            }
            rule.client_cert = match value {
                "verify-full" => ClientCert::Named,
                "verify-ca" if rule.method == Method::Cert => {
                    return wrong(
                        "clientcert only accepts \"verify-full\" when using \"cert\" authentication"
                            .to_owned(),
                    );
                }
                "verify-ca" => ClientCert::Verified,
                other => return wrong(format!("invalid value for clientcert: \"{other}\"")),
            };
        }
        "clientname" => {
            if rule.kind != Kind::HostSsl {
                return wrong("clientname can only be configured for \"hostssl\" rows".to_owned());
            }
            rule.by_subject = match value {
                "CN" => false,
                "DN" => true,
                other => return wrong(format!("invalid value for clientname: \"{other}\"")),
            };
        }
        _ => {
            // What belongs to methods that only a server asks for is its affair.
            let is_theirs = matches!(rule.method, Method::Other(_)) && is_option(name);
            if !is_theirs {
                return wrong(format!(
                    "unrecognized authentication option name: \"{name}\""
                ));
            }
        }
    }
    Ok(())
}

fn is_option(name: &str) -> bool {
    name.starts_with("ldap")
        || name.starts_with("pam")
        || name.starts_with("radius")
        || matches!(
            name,
            "krb_realm" | "include_realm" | "compat_realm" | "upn_username"
        )
}

/// A record in one line.
fn text_of(record: &Record) -> String {
    let field = |words: &Vec<Word>| {
        let words = words.iter().map(|word| match word.is_quoted {
            true => format!("\"{}\"", word.text.replace('"', "\"\"")),
            false => word.text.clone(),
        });
        words.collect::<Vec<_>>().join(",")
    };
    let fields: Vec<String> = record.fields.iter().map(field).collect();
    fields.join(" ")
}

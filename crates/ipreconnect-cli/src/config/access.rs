//! `[[access]]` and `[access_map]`: who may come in.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use ipreconnect::core::access::{Files, Maps, Place, Plain, PlainField, Rule, plain};

use super::section::{Field, Section};

/// A file of names is no longer than this.
const LONGEST: u64 = 16 * 1024 * 1024;
/// Rules of one configuration.
const RULES: usize = 100_000;

/// The rules of one `[[access]]`, and the listeners that they are for.
pub(super) struct ReadAccess<'a> {
    /// None is every listener.
    pub(super) listeners: Vec<(String, Field<'a>)>,
    pub(super) rules: Vec<Rule>,
    pub(super) method: Field<'a>,
    /// Where the names are that it is for, if it is not for all.
    pub(super) user: Option<Field<'a>>,
    pub(super) database: Option<Field<'a>>,
    pub(super) map: Option<(String, Field<'a>)>,
}

/// The file system.
pub(super) struct Disk;

impl Files for Disk {
    fn read(&mut self, path: &Path) -> Result<Option<Vec<u8>>, String> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.to_string()),
        };
        let mut bytes = Vec::new();
        let read = file.take(LONGEST + 1).read_to_end(&mut bytes);
        read.map_err(|error| error.to_string())?;
        if bytes.len() as u64 > LONGEST {
            return Err(format!("it is longer than {LONGEST} bytes"));
        }
        Ok(Some(bytes))
    }

    fn list(&mut self, path: &Path) -> Result<Vec<PathBuf>, String> {
        let entries = std::fs::read_dir(path).map_err(|error| error.to_string())?;
        let mut paths = Vec::new();
        for entry in entries {
            let path = entry.map_err(|error| error.to_string())?.path();
            if path.is_file() {
                paths.push(path);
            }
        }
        Ok(paths)
    }
}

/// Reads one `[[access]]`.
pub(super) fn read<'a>(section: Section<'a>, base: &Path, count: usize) -> Option<ReadAccess<'a>> {
    let texts = |field: &Option<Field<'a>>| -> Option<Vec<String>> {
        let fields = field.iter().flat_map(Field::one_or_many);
        fields.map(|one| one.text()).collect()
    };
    let listen = section.field("listen");
    let from = section.field("from");
    let user = section.field("user");
    let database = section.field("database");
    let method = section.field("method");
    let map = section.field("map");
    let reader = section.reader;
    let missing = |key: &str, hint: &str| {
        let mistake =
            super::mistake::Mistake::new(format!("an access rule needs `{key}`")).hint(hint);
        reader.mistake(mistake.at(&reader.source, section.span.clone(), "this one has none"));
    };
    if from.is_none() {
        missing(
            "from",
            "from = \"loopback\", \"local\", \"10.0.0.0/8\", \"samenet\", \"db.example.com\" or \"all\"",
        );
    }
    if method.is_none() {
        missing("method", "method = \"trust\", \"reject\" or \"peer\"");
    }
    if count >= RULES {
        let mistake =
            super::mistake::Mistake::new(format!("there are more than {RULES} access rules"));
        reader.mistake(mistake.at(&reader.source, section.span.clone(), "this one is too many"));
        return None;
    }
    for field in [&listen, &from, &user, &database].into_iter().flatten() {
        if field.one_or_many().is_empty() {
            field.wrong("is empty", "leave it out, or name somebody");
        }
    }
    let line = reader.line_of(section.span.start);
    section.finish();
    let (listeners, sources) = (texts(&listen)?, texts(&from)?);
    let (users, databases) = (texts(&user)?, texts(&database)?);
    let (method, from) = (method?, from?);
    let written = method.text()?;
    for (later, why) in [
        ("password", "passwords come with a file of users"),
        ("scram-sha-256", "passwords come with a file of users"),
        (
            "cert",
            "client certificates as names come later; `tls.client_ca` asks for one",
        ),
    ] {
        if written == later {
            method.unbuilt(why);
            return None;
        }
    }
    let map_text = match &map {
        Some(field) => Some(field.text()?),
        None => None,
    };
    let place = Place {
        file: base.join(file_name(&reader.source.name)).into(),
        line,
    };
    let rules = plain(
        &Plain {
            place: &place,
            from: &sources,
            users: &users,
            databases: &databases,
            method: &written,
            map: map_text.as_deref(),
        },
        &mut Disk,
    );
    let rules = rules.map_err(|mistake| {
        let nth = |field: &Option<Field<'a>>, at: usize| {
            field.as_ref().and_then(|field| field.one_or_many().into_iter().nth(at))
        };
        let field = match mistake.field {
            PlainField::From(at) => nth(&Some(from.clone()), at),
            PlainField::User(at) => nth(&user, at),
            PlainField::Database(at) => nth(&database, at),
            PlainField::Method => Some(method.clone()),
            PlainField::Map => map.clone(),
        };
        let hint = match mistake.field {
            PlainField::From(_) => {
                "local, loopback, samehost, samenet, all, a network (10.0.0.0/8), an address and its mask, a host or a .suffix"
            }
            PlainField::Method => "trust, reject or peer",
            _ => "",
        };
        field.unwrap_or_else(|| from.clone()).wrong(&format!("cannot be: {}", mistake.what), hint);
    });
    let listed = listen.iter().flat_map(Field::one_or_many);
    Some(ReadAccess {
        listeners: listeners.into_iter().zip(listed).collect(),
        rules: rules.ok()?,
        method,
        user,
        database,
        map: map_text.zip(map),
    })
}

fn file_name(name: &str) -> &str {
    Path::new(name)
        .file_name()
        .and_then(std::ffi::OsStr::to_str)
        .unwrap_or(name)
}

/// Reads `[access_map]`: for each map, pairs of a user of the system and the name that it has.
pub(super) fn maps(section: &Section<'_>, base: &Path) -> Maps {
    let mut maps = Maps::default();
    let reader = section.reader;
    for (map, field) in section.names() {
        for pair in field.one_or_many() {
            let texts: Option<Vec<String>> = pair.one_or_many().iter().map(Field::text).collect();
            let Some(texts) = texts else {
                continue;
            };
            let [system, user] = texts.as_slice() else {
                pair.wrong(
                    "must be pairs: a user of the system, and the name that it has",
                    "staff = [[\"ann\", \"boss\"], [\"/^(.*)@corp$$\", \"\\\\1\"]]",
                );
                continue;
            };
            let place = Place {
                file: base.join(file_name(&reader.source.name)).into(),
                line: reader.line_of(pair.span().start),
            };
            if let Err(mistake) = maps.add(&place, &map, system, user) {
                pair.wrong(&format!("cannot be: {}", mistake.what), "");
            }
        }
    }
    maps
}

//! `[[access]]` and `[access_map]`: who may come in.

use std::path::Path;

use ipreconnect::core::access::{
    Maps, Method, Place, Plain, PlainField, PlainMistake, Rule, plain,
};

use super::mistake::Mistake;
use super::rules::Disk;
use super::section::{Field, Section, nearest};

/// Rules of one configuration.
const RULES: usize = 100_000;
/// What can be demanded.
const METHODS: &str = "trust, reject, peer, password, scram-sha-256 or cert";

/// The rules of one `[[access]]`, and the listeners that they are for.
pub(super) struct ReadAccess<'a> {
    /// None is every listener.
    pub(super) listeners: Vec<(String, Field<'a>)>,
    pub(super) rules: Vec<Rule>,
    pub(super) demanded: Method,
    pub(super) method: Field<'a>,
    /// Where the names are that it is for, if it is not for all.
    pub(super) user: Option<Field<'a>>,
    pub(super) database: Option<Field<'a>>,
    pub(super) map: Option<(String, Field<'a>)>,
    /// Sources that are hosts by their words, and nearly something else.
    pub(super) doubtful: Vec<(String, &'static str, Field<'a>)>,
}

/// What an `[[access]]` says, as it is written.
struct Written<'a> {
    listen: Option<Field<'a>>,
    from: Field<'a>,
    user: Option<Field<'a>>,
    database: Option<Field<'a>>,
    method: Field<'a>,
    map: Option<Field<'a>>,
}

/// Reads one `[[access]]`.
pub(super) fn read<'a>(section: Section<'a>, base: &Path, count: usize) -> Option<ReadAccess<'a>> {
    let reader = section.reader;
    let (line, span) = (reader.line_of(section.span.start), section.span.clone());
    let written = written(section)?;
    if count >= RULES {
        let mistake = Mistake::new(format!("there are more than {RULES} access rules"));
        reader.mistake(mistake.at(&reader.source, span, "this one is too many"));
        return None;
    }
    let place = Place {
        file: base.join(file_name(&reader.source.name)).into(),
        line,
    };
    let rules = written.rules(&place)?;
    let demanded = rules.first()?.method;
    let names = texts(written.listen.as_ref())?;
    let listed = written.listen.iter().flat_map(Field::one_or_many);
    let doubtful = written.from.one_or_many().into_iter().filter_map(|field| {
        let text = field.text()?;
        let near = nearly(&text)?;
        Some((text, near, field))
    });
    let doubtful = doubtful.collect();
    let map = written.map.and_then(|field| Some((field.text()?, field)));
    Some(ReadAccess {
        listeners: names.into_iter().zip(listed).collect(),
        rules,
        demanded,
        method: written.method,
        user: written.user,
        database: written.database,
        map,
        doubtful,
    })
}

fn written<'a>(section: Section<'a>) -> Option<Written<'a>> {
    let [listen, from, user, database, method, map] =
        ["listen", "from", "user", "database", "method", "map"].map(|key| section.field(key));
    let (reader, span) = (section.reader, section.span.clone());
    let missing = |key: &str, hint: &str| {
        let mistake = Mistake::new(format!("an access rule needs `{key}`")).hint(hint);
        reader.mistake(mistake.at(&reader.source, span.clone(), "this one has none"));
    };
    if from.is_none() {
        missing(
            "from",
            "from = \"loopback\", \"local\", \"10.0.0.0/8\", \"samenet\", \"db.example.com\" or \"all\"",
        );
    }
    if method.is_none() {
        missing("method", &format!("method = {METHODS}"));
    }
    for field in [&listen, &from, &user, &database].into_iter().flatten() {
        if field.one_or_many().is_empty() {
            field.wrong("is empty", "leave it out, or name somebody");
        }
    }
    section.finish();
    Some(Written {
        listen,
        from: from?,
        user,
        database,
        method: method?,
        map,
    })
}

impl Written<'_> {
    fn rules(&self, place: &Place) -> Option<Vec<Rule>> {
        let map = match &self.map {
            Some(field) => Some(field.text()?),
            None => None,
        };
        let read = plain(
            &Plain {
                place,
                from: &texts(Some(&self.from))?,
                users: &texts(self.user.as_ref())?,
                databases: &texts(self.database.as_ref())?,
                method: &self.method.text()?,
                map: map.as_deref(),
            },
            &mut Disk::default(),
        );
        read.map_err(|mistake| self.tell(&mistake)).ok()
    }

    fn tell(&self, mistake: &PlainMistake) {
        let nth = |field: Option<&Field<'_>>, at: usize| {
            let fields = field.map(Field::one_or_many)?;
            fields.get(at).map(|field| field.wrong(&what(mistake), ""))
        };
        let told = match mistake.field {
            PlainField::From(at) => {
                let fields = self.from.one_or_many();
                let hint = "local, loopback, samehost, samenet, all, a network (10.0.0.0/8), an address and its mask, a host or a .suffix";
                fields
                    .get(at)
                    .map(|field| field.wrong(&what(mistake), hint))
            }
            PlainField::Method => {
                self.method.wrong(&what(mistake), METHODS);
                Some(())
            }
            PlainField::User(at) => nth(self.user.as_ref(), at),
            PlainField::Database(at) => nth(self.database.as_ref(), at),
            PlainField::Map => nth(self.map.as_ref(), 0),
        };
        if told.is_none() {
            self.from.wrong(&what(mistake), "");
        }
    }
}

fn what(mistake: &PlainMistake) -> String {
    format!("cannot be: {}", mistake.what)
}

/// The word that a host without a domain is nearly, if it is.
fn nearly(text: &str) -> Option<&'static str> {
    const WORDS: [&str; 5] = ["local", "loopback", "samehost", "samenet", "all"];
    if text.contains(['.', '/', ':', ' ']) || WORDS.contains(&text) {
        return None;
    }
    nearest(text, WORDS.into_iter())
}

/// The texts of a field; none of one that is not there.
fn texts(field: Option<&Field<'_>>) -> Option<Vec<String>> {
    let fields = field.into_iter().flat_map(Field::one_or_many);
    fields.map(|one| one.text()).collect()
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

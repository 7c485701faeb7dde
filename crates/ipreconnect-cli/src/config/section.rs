//! Reading one table of a file: every key is asked for once, and what nobody asked for is a mistake.

use std::cell::RefCell;
use std::ops::{Range, RangeInclusive};
use std::sync::Arc;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::expand::{ExpandError, expand};
use super::mistake::{Mistake, Source};
use super::value;

/// What all sections of one file share.
pub(crate) struct Reader<'a> {
    pub(crate) source: Arc<Source>,
    pub(crate) lookup: &'a dyn Fn(&str) -> Option<String>,
    pub(crate) mistakes: &'a RefCell<Vec<Mistake>>,
}

impl Reader<'_> {
    /// The line of a place in the file, from 1.
    pub(crate) fn line_of(&self, at: usize) -> usize {
        let before = self.source.text.get(..at).unwrap_or_default();
        before.matches('\n').count() + 1
    }

    pub(crate) fn mistake(&self, mistake: Mistake) {
        self.mistakes.borrow_mut().push(mistake);
    }
}

/// One table.
pub(crate) struct Section<'a> {
    pub(crate) reader: &'a Reader<'a>,
    table: &'a DeTable<'a>,
    /// `origin.search.health`; empty for the file itself.
    name: String,
    pub(crate) span: Range<usize>,
    known: RefCell<Vec<&'static str>>,
}

/// One value, with its place.
#[derive(Clone)]
pub(crate) struct Field<'a> {
    pub(crate) reader: &'a Reader<'a>,
    /// Its full name, for messages.
    pub(crate) name: String,
    pub(crate) key: Range<usize>,
    pub(crate) value: &'a Spanned<DeValue<'a>>,
}

impl<'a> Section<'a> {
    pub(crate) fn new(
        reader: &'a Reader<'a>,
        name: impl Into<String>,
        table: &'a DeTable<'a>,
        span: Range<usize>,
    ) -> Self {
        Self {
            reader,
            table,
            name: name.into(),
            span,
            known: RefCell::default(),
        }
    }

    /// The value of a key, if it is there.
    pub(crate) fn field(&self, key: &'static str) -> Option<Field<'a>> {
        let mut known = self.known.borrow_mut();
        if !known.contains(&key) {
            known.push(key);
        }
        self.entry(key)
    }

    fn entry(&self, key: &str) -> Option<Field<'a>> {
        let (found, value) = self
            .table
            .iter()
            .find(|(found, _)| found.get_ref() == key)?;
        Some(Field {
            reader: self.reader,
            name: self.full_name(key),
            key: found.span(),
            value,
        })
    }

    /// All keys of a table whose keys are names.
    pub(crate) fn names(&self) -> Vec<(String, Field<'a>)> {
        let mut names: Vec<_> = self
            .table
            .keys()
            .filter_map(|key| Some((key.get_ref().to_string(), self.entry(key.get_ref())?)))
            .collect();
        names.sort_by_key(|(_, field)| field.key.start);
        names
    }

    pub(crate) fn full_name(&self, key: &str) -> String {
        if self.name.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.name)
        }
    }

    pub(crate) fn table(&self, key: &'static str) -> Option<Section<'a>> {
        self.field(key)?.table()
    }

    pub(crate) fn text(&self, key: &'static str) -> Option<String> {
        self.field(key)?.text()
    }

    pub(crate) fn boolean(&self, key: &'static str) -> Option<bool> {
        self.field(key)?.boolean()
    }

    pub(crate) fn integer(&self, key: &'static str, range: RangeInclusive<u64>) -> Option<u64> {
        self.field(key)?.integer(range)
    }

    /// A duration longer than zero.
    pub(crate) fn duration(&self, key: &'static str) -> Option<Duration> {
        let field = self.field(key)?;
        let duration = field.duration()?;
        if duration.is_zero() {
            field.wrong("must be longer than zero", "");
            return None;
        }
        Some(duration)
    }

    /// One of some words.
    pub(crate) fn choice<T: Copy>(&self, key: &'static str, words: &[(&str, T)]) -> Option<T> {
        let field = self.field(key)?;
        let text = field.text()?;
        field.pick(&text, words)
    }

    /// A key whose feature is not built yet.
    pub(crate) fn unbuilt(&self, key: &'static str, why: &str) {
        if let Some(field) = self.field(key) {
            field.unbuilt(why);
        }
    }

    /// Tells every key that nobody asked for.
    pub(crate) fn finish(self) {
        let known = self.known.borrow();
        let unknown = self
            .table
            .keys()
            .filter(|key| !known.contains(&&**key.get_ref()));
        for key in unknown {
            let name = key.get_ref();
            let place = if self.name.is_empty() {
                String::new()
            } else {
                format!(" in `{}`", self.name)
            };
            let mut mistake = Mistake::new(format!("unknown key `{name}`{place}"));
            let label = match nearest(name, known.iter().copied()) {
                Some(near) => {
                    mistake = mistake.hint(format!("did you mean `{near}`?"));
                    "unknown".to_owned()
                }
                None => {
                    let mut all: Vec<&str> = known.clone();
                    all.sort_unstable();
                    mistake = mistake.hint(format!("keys here are: {}", all.join(", ")));
                    "not a key of this section".to_owned()
                }
            };
            self.reader
                .mistake(mistake.at(&self.reader.source, key.span(), label));
        }
    }
}

impl<'a> Field<'a> {
    /// The place of the value.
    pub(crate) fn span(&self) -> Range<usize> {
        self.value.span()
    }

    /// Tells that the value is wrong.
    pub(crate) fn wrong(&self, why: &str, hint: &str) {
        let mut mistake = Mistake::new(format!("`{}` {why}", self.name));
        if !hint.is_empty() {
            mistake = mistake.hint(hint);
        }
        self.reader
            .mistake(mistake.at(&self.reader.source, self.span(), "here"));
    }

    pub(crate) fn unbuilt(&self, why: &str) {
        let mistake = Mistake::new(format!("`{}` is not built yet: {why}", self.name))
            .hint("leave it out; a later version brings it");
        let label = "known, but without effect in this version";
        self.reader
            .mistake(mistake.at(&self.reader.source, self.key.clone(), label));
    }

    fn is_no(&self, wanted: &str) {
        let found = match self.value.get_ref() {
            DeValue::String(_) => "a string",
            DeValue::Integer(_) => "an integer",
            DeValue::Float(_) => "a float",
            DeValue::Boolean(_) => "a boolean",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        };
        self.wrong(&format!("must be {wanted}, not {found}"), "");
    }

    pub(crate) fn table(&self) -> Option<Section<'a>> {
        match self.value.get_ref() {
            DeValue::Table(table) => Some(Section::new(
                self.reader,
                self.name.clone(),
                table,
                self.key.clone(),
            )),
            _ => {
                self.is_no("a table");
                None
            }
        }
    }

    /// The elements of a list, or the value itself as the only one.
    pub(crate) fn one_or_many(&self) -> Vec<Field<'a>> {
        match self.value.get_ref() {
            DeValue::Array(values) => values
                .iter()
                .map(|value| Field {
                    value,
                    ..self.clone()
                })
                .collect(),
            _ => vec![self.clone()],
        }
    }

    pub(crate) fn is_table(&self) -> bool {
        matches!(self.value.get_ref(), DeValue::Table(_))
    }

    pub(crate) fn text(&self) -> Option<String> {
        let DeValue::String(text) = self.value.get_ref() else {
            self.is_no("a string");
            return None;
        };
        match expand(text, self.reader.lookup) {
            Ok(text) => Some(text),
            Err(error) => {
                let (why, hint) = expansion(&error);
                self.wrong(&why, hint);
                None
            }
        }
    }

    pub(crate) fn boolean(&self) -> Option<bool> {
        match self.value.get_ref() {
            DeValue::Boolean(value) => Some(*value),
            _ => {
                self.is_no("true or false");
                None
            }
        }
    }

    pub(crate) fn integer(&self, range: RangeInclusive<u64>) -> Option<u64> {
        let DeValue::Integer(integer) = self.value.get_ref() else {
            self.is_no("an integer");
            return None;
        };
        let digits = integer.as_str().replace('_', "");
        let value = u64::from_str_radix(&digits, integer.radix()).ok();
        let value = value.filter(|value| range.contains(value));
        if value.is_none() {
            let (low, high) = (range.start(), range.end());
            self.wrong(&format!("must be from {low} to {high}"), "");
        }
        value
    }

    pub(crate) fn float(&self) -> Option<f64> {
        let value = match self.value.get_ref() {
            DeValue::Float(float) => float.as_str().replace('_', "").parse().ok(),
            DeValue::Integer(integer) => integer.as_str().replace('_', "").parse().ok(),
            _ => None,
        };
        if value.is_none() {
            self.is_no("a number");
        }
        value
    }

    /// A duration, zero included.
    pub(crate) fn duration(&self) -> Option<Duration> {
        if let DeValue::Integer(integer) = self.value.get_ref() {
            let hint = format!(
                "write it with its unit: \"{0}ms\" or \"{0}s\"",
                integer.as_str()
            );
            self.wrong("must be a duration with a unit, in quotes", &hint);
            return None;
        }
        let text = self.text()?;
        let duration = value::duration(&text);
        if duration.is_none() {
            let hint = "durations look like \"250ms\", \"5s\", \"1m30s\", \"1h\", \"1d\"";
            self.wrong(&format!("is not a duration: {text:?}"), hint);
        }
        duration
    }

    /// A number of bytes.
    pub(crate) fn size(&self) -> Option<u64> {
        if let DeValue::Integer(_) = self.value.get_ref() {
            return self.integer(0..=u64::MAX);
        }
        let text = self.text()?;
        let size = value::size(&text);
        if size.is_none() {
            let hint = "sizes look like \"512B\", \"64KiB\", \"10MiB\", \"1GiB\"";
            self.wrong(&format!("is not a size: {text:?}"), hint);
        }
        size
    }

    pub(crate) fn pick<T: Copy>(&self, text: &str, words: &[(&str, T)]) -> Option<T> {
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
            return Some(*value);
        }
        let known = || words.iter().map(|(word, _)| *word);
        let hint = match nearest(text, known()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("one of: {}", known().collect::<Vec<_>>().join(", ")),
        };
        self.wrong(&format!("cannot be {text:?}"), &hint);
        None
    }
}

fn expansion(error: &ExpandError) -> (String, &'static str) {
    match error {
        ExpandError::Undefined(name) => (
            format!("needs the environment variable `{name}`, which is not set"),
            "set it, or give a default: ${NAME:-default}",
        ),
        ExpandError::Open => (
            "has a `${` without its `}`".to_owned(),
            "$$ is a dollar sign",
        ),
        ExpandError::Name(name) => (
            format!("has {name:?} where the name of a variable must be"),
            "names have letters, digits and underscores; $$ is a dollar sign",
        ),
        ExpandError::Dollar => (
            "has a lone dollar sign".to_owned(),
            "$$ is a dollar sign, ${NAME} a variable",
        ),
    }
}

/// The word most like `text`, if one is like it at all.
pub(crate) fn nearest<'w>(text: &str, words: impl Iterator<Item = &'w str>) -> Option<&'w str> {
    // Of short words one letter is a large part.
    let is_slip = |word: &str| strsim::osa_distance(text, word) <= 1 && text.chars().count() > 1;
    words
        .map(|word| (strsim::jaro_winkler(text, word), word))
        .filter(|(likeness, word)| *likeness > 0.8 || is_slip(word))
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, word)| word)
}

//! Words of the files of access rules, as PostgreSQL reads them (`hba.c`: `next_token`,
//! `tokenize_auth_file`).

use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Files may name files that name files (PostgreSQL's `CONF_FILE_MAX_DEPTH`).
const DEPTH: usize = 10;
/// Files that are read for one file of rules, counted each time they are named.
const FILES: usize = 1_000;
/// Words in all of them.
const WORDS: usize = 4_000_000;

/// Where files come from that rules name.
pub trait Files {
    /// What is in a file; `None` if there is no such file.
    ///
    /// # Errors
    /// Why it cannot be read, in the system's words.
    fn read(&mut self, path: &Path) -> Result<Option<Vec<u8>>, String>;

    /// The regular files of a directory.
    ///
    /// # Errors
    /// Why it cannot be read, in the system's words.
    fn list(&mut self, path: &Path) -> Result<Vec<PathBuf>, String>;
}

/// Where something stands in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub file: Arc<Path>,
    /// Its line, from 1. A record that goes on over several lines stands where it begins.
    pub line: usize,
}

/// What is wrong with a file of rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// Where it is.
    pub place: Place,
    /// The bytes of that line that are meant; empty if it is the end of the line.
    pub columns: std::ops::Range<usize>,
    /// What it is, in PostgreSQL's words where it has some.
    pub what: String,
    /// What can be done.
    pub hint: Option<&'static str>,
}

/// A word, and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Word {
    pub(super) text: String,
    /// It begins with a quotation mark, which takes a keyword's meaning from it.
    pub(super) is_quoted: bool,
    pub(super) at: Spot,
}

/// Where a word stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Spot {
    pub(super) line: usize,
    pub(super) start: usize,
    pub(super) end: usize,
}

/// One record: fields, each a list of words.
#[derive(Clone, Debug)]
pub(super) struct Record {
    pub(super) place: Place,
    pub(super) fields: Vec<Vec<Word>>,
    /// Where it ends.
    pub(super) end: Spot,
}

impl Word {
    /// One that stands for itself.
    pub(super) fn plain(text: &str, line: usize) -> Self {
        Self {
            text: text.to_owned(),
            is_quoted: false,
            at: Spot::of_line(line),
        }
    }
}

impl Spot {
    fn of_line(line: usize) -> Self {
        Self {
            line,
            start: 0,
            end: 0,
        }
    }
}

impl Record {
    /// One that is made of words.
    pub(super) fn of(place: &Place, fields: Vec<Vec<Word>>) -> Self {
        Self {
            place: place.clone(),
            fields,
            end: Spot::of_line(place.line),
        }
    }

    pub(super) fn mistake(&self, at: &Spot, what: impl Into<String>) -> Mistake {
        Mistake {
            place: Place {
                file: Arc::clone(&self.place.file),
                line: at.line,
            },
            columns: at.start..at.end,
            what: what.into(),
            hint: None,
        }
    }
}

/// All records of a file and of those that it names. What is wrong is told along, and left out.
pub(super) fn records(path: &Path, files: &mut dyn Files) -> (Vec<Record>, Vec<Mistake>) {
    let mut reading = Reading {
        files,
        opened: 0,
        words: 0,
        mistakes: Vec::new(),
    };
    let mut records = Vec::new();
    let read = reading.open(path, 0);
    match read.and_then(|bytes| bytes.ok_or_else(|| missing(path))) {
        Ok(bytes) => reading.file(&Arc::from(path), &bytes, 0, &mut records),
        Err(what) => reading.mistakes.push(Mistake {
            place: Place {
                file: Arc::from(path),
                line: 1,
            },
            columns: 0..0,
            what,
            hint: None,
        }),
    }
    (records, reading.mistakes)
}

/// The words of one text, read as one field.
pub(super) fn field(
    text: &str,
    place: &Place,
    files: &mut dyn Files,
) -> Result<Vec<Word>, Mistake> {
    let mut reading = Reading {
        files,
        opened: 0,
        words: 0,
        mistakes: Vec::new(),
    };
    let line = Line {
        text: text.as_bytes().to_vec(),
        parts: vec![(0, place.line)],
    };
    let mut record = Record::of(place, Vec::new());
    reading.fields(&line, &mut record, 0)?;
    match <[Vec<Word>; 1]>::try_from(record.fields.clone()) {
        Ok([field]) => Ok(field),
        Err(_) => {
            let what =
                format!("this is not one name, or names with commas between them: \"{text}\"");
            Err(record.mistake(&record.end, what))
        }
    }
}

fn missing(path: &Path) -> String {
    let path = path.display();
    format!("could not open file \"{path}\": No such file or directory")
}

struct Reading<'f> {
    files: &'f mut dyn Files,
    opened: usize,
    words: usize,
    mistakes: Vec<Mistake>,
}

impl Reading<'_> {
    fn open(&mut self, path: &Path, depth: usize) -> Result<Option<Vec<u8>>, String> {
        let shown = path.display();
        if depth > DEPTH {
            return Err(format!(
                "could not open file \"{shown}\": maximum nesting depth exceeded"
            ));
        }
        self.opened += 1;
        if self.opened > FILES {
            return Err(format!(
                "could not open file \"{shown}\": more than {FILES} files are named"
            ));
        }
        let read = self.files.read(path);
        read.map_err(|why| format!("could not open file \"{shown}\": {why}"))
    }

    /// Reads the records of one file.
    fn file(&mut self, path: &Arc<Path>, bytes: &[u8], depth: usize, out: &mut Vec<Record>) {
        let mut lines = Lines::new(bytes);
        while let Some(line) = lines.next() {
            let place = Place {
                file: Arc::clone(path),
                line: line.number(),
            };
            let mut record = Record {
                place,
                fields: Vec::new(),
                end: line.spot(line.text.len(), line.text.len()),
            };
            match self.fields(&line, &mut record, depth) {
                Err(mistake) => self.mistakes.push(mistake),
                Ok(()) if record.fields.is_empty() => {}
                Ok(()) => match self.directive(&record, depth, out) {
                    Ok(true) => {}
                    Ok(false) => out.push(record),
                    Err(mistake) => self.mistakes.push(mistake),
                },
            }
        }
    }

    /// Reads the fields of one line.
    fn fields(&mut self, line: &Line, record: &mut Record, depth: usize) -> Result<(), Mistake> {
        let mut at = 0;
        while at < line.text.len() {
            let mut field = Vec::new();
            while let Some((bytes, word, goes_on)) = next_word(line, &mut at) {
                self.words += 1;
                if self.words > WORDS {
                    let what = format!("more than {WORDS} words are no file of rules");
                    return Err(record.mistake(&word.at, what));
                }
                if String::from_utf8(bytes).is_err() {
                    return Err(record.mistake(&word.at, "this is not UTF-8"));
                }
                match word.text.strip_prefix('@') {
                    Some(name) if !word.is_quoted && !name.is_empty() => {
                        self.list(name, &word, record, depth, &mut field)?;
                    }
                    _ => field.push(word),
                }
                if !goes_on {
                    break;
                }
            }
            if !field.is_empty() {
                record.fields.push(field);
            }
        }
        Ok(())
    }

    /// The words of a file in place of its name.
    fn list(
        &mut self,
        name: &str,
        word: &Word,
        record: &Record,
        depth: usize,
        field: &mut Vec<Word>,
    ) -> Result<(), Mistake> {
        let path = beside(&record.place.file, name);
        let opened = self.open(&path, depth + 1);
        let bytes = opened
            .and_then(|bytes| bytes.ok_or_else(|| missing(&path)))
            .map_err(|what| record.mistake(&word.at, what))?;
        let mut inner = Vec::new();
        let mistakes = self.mistakes.len();
        self.file(&Arc::from(path), &bytes, depth + 1, &mut inner);
        // The record is of no use, and is not to be matched by less than it says.
        if let Some(mistake) = self.mistakes.get(mistakes).cloned() {
            self.mistakes.truncate(mistakes);
            return Err(mistake);
        }
        field.extend(inner.into_iter().flat_map(|record| record.fields).flatten());
        Ok(())
    }

    /// Carries out `include`, `include_if_exists` and `include_dir`; false if the record is none of
    /// them.
    fn directive(
        &mut self,
        record: &Record,
        depth: usize,
        out: &mut Vec<Record>,
    ) -> Result<bool, Mistake> {
        let [first, second] = record.fields.as_slice() else {
            return Ok(false);
        };
        let (Some(first), Some(second)) = (first.first(), second.first()) else {
            return Ok(false);
        };
        let path = beside(&record.place.file, &second.text);
        let may_be_missing = match first.text.as_str() {
            "include" => false,
            "include_if_exists" => true,
            "include_dir" => {
                let listed = self.files.list(&path).map_err(|why| {
                    let shown = path.display();
                    format!("could not open directory \"{shown}\": {why}")
                });
                let mut paths = listed.map_err(|what| record.mistake(&second.at, what))?;
                paths.retain(|path| is_of_rules(path));
                paths.sort();
                for path in paths {
                    self.include(&path, false, depth, out)
                        .map_err(|what| record.mistake(&second.at, what))?;
                }
                return Ok(true);
            }
            _ => return Ok(false),
        };
        self.include(&path, may_be_missing, depth, out)
            .map_err(|what| record.mistake(&second.at, what))?;
        Ok(true)
    }

    fn include(
        &mut self,
        path: &Path,
        may_be_missing: bool,
        depth: usize,
        out: &mut Vec<Record>,
    ) -> Result<(), String> {
        match self.open(path, depth + 1)? {
            Some(bytes) => self.file(&Arc::from(path), &bytes, depth + 1, out),
            None if may_be_missing => {}
            None => return Err(missing(path)),
        }
        Ok(())
    }
}

/// Files of a directory that are read: `*.conf` that are not hidden.
fn is_of_rules(path: &Path) -> bool {
    let name = path.file_name().map(std::ffi::OsStr::as_encoded_bytes);
    name.is_some_and(|name| !name.starts_with(b".") && name.ends_with(b".conf") && name.len() > 5)
}

/// A relative path is relative to the directory of the file that names it.
fn beside(file: &Path, name: &str) -> PathBuf {
    file.parent().unwrap_or(Path::new("")).join(name)
}

/// One line, with those that a backslash joins to it.
struct Line {
    text: Vec<u8>,
    /// Where its parts begin, and which lines they are.
    parts: Vec<(usize, usize)>,
}

impl Line {
    fn number(&self) -> usize {
        self.parts.first().map_or(1, |(_, number)| *number)
    }

    fn spot(&self, start: usize, end: usize) -> Spot {
        let part = self.parts.iter().rev().find(|(begin, _)| *begin <= start);
        let (begin, line) = part.copied().unwrap_or((0, 1));
        Spot {
            line,
            start: start - begin,
            end: end - begin,
        }
    }
}

struct Lines<'b> {
    rest: &'b [u8],
    number: usize,
}

impl<'b> Lines<'b> {
    fn new(bytes: &'b [u8]) -> Self {
        Self {
            rest: bytes,
            number: 0,
        }
    }

    fn physical(&mut self) -> Option<&'b [u8]> {
        if self.rest.is_empty() {
            return None;
        }
        self.number += 1;
        let end = memchr::memchr(b'\n', self.rest);
        let (line, rest) = match end {
            Some(end) => (self.rest.get(..end)?, self.rest.get(end + 1..)?),
            None => (self.rest, &[][..]),
        };
        self.rest = rest;
        let kept = line.iter().rposition(|byte| *byte != b'\r');
        line.get(..kept.map_or(0, |last| last + 1))
    }

    fn next(&mut self) -> Option<Line> {
        let mut line = Line {
            text: self.physical()?.to_vec(),
            parts: vec![(0, self.number)],
        };
        // A backslash that was there before the last line was joined joins no further one.
        let mut joined = 0;
        while line.text.len() > joined && line.text.last() == Some(&b'\\') {
            line.text.pop();
            joined = line.text.len();
            let Some(more) = self.physical() else {
                break;
            };
            line.parts.push((joined, self.number));
            line.text.extend_from_slice(more);
        }
        // As for PostgreSQL, which is written in C.
        if let Some(end) = memchr::memchr(0, &line.text) {
            line.text.truncate(end);
        }
        Some(line)
    }
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r')
}

/// The next word of a line, its bytes, and whether a comma follows it.
fn next_word(line: &Line, at: &mut usize) -> Option<(Vec<u8>, Word, bool)> {
    let text = &line.text;
    let skipped = text.get(*at..)?.iter();
    *at += skipped
        .take_while(|byte| is_blank(**byte) || **byte == b',')
        .count();
    let start = *at;
    let mut end = start;
    let (mut bytes, mut goes_on) = (Vec::new(), false);
    let (mut is_inside, mut was_quote, mut is_quoted, mut has_quotes) =
        (false, false, false, false);
    while let Some(&byte) = text.get(*at) {
        if is_blank(byte) && !is_inside {
            break;
        }
        if byte == b'#' && !is_inside {
            *at = text.len();
            break;
        }
        *at += 1;
        if byte == b',' && !is_inside {
            goes_on = true;
            break;
        }
        end = *at;
        if byte != b'"' || was_quote {
            bytes.push(byte);
        }
        was_quote = is_inside && byte == b'"' && !was_quote;
        if byte == b'"' {
            is_inside = !is_inside;
            has_quotes = true;
            is_quoted |= bytes.is_empty();
        }
    }
    if !has_quotes && bytes.is_empty() {
        return None;
    }
    let word = Word {
        text: String::from_utf8_lossy(&bytes).into_owned(),
        is_quoted,
        at: line.spot(start, end),
    };
    Some((bytes, word, goes_on))
}

//! Files that a listener's access goes by: rules and maps as PostgreSQL writes them, roles, and users.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ipnet::IpNet;
use ipreconnect::core::access::{
    Files, Maps, Mistake as RuleMistake, Roles, Rule, read_hba, read_ident, read_roles,
};
use ipreconnect::core::netset::NetSet;
use ipreconnect_proxy::Users;
use zeroize::Zeroizing;

use super::material::{Permissions, kept_from_others};
use super::mistake::{Mistake, Source};
use super::route;
use super::section::{Field, Reader, Section};

/// A file is no longer than this.
const LONGEST: u64 = 16 * 1024 * 1024;

/// What the files of one listener say.
pub(super) struct ReadRules<'a> {
    pub(super) hba: Option<(Vec<Rule>, Field<'a>)>,
    pub(super) maps: Maps,
    pub(super) roles: Roles,
    pub(super) users: Option<(Arc<Users>, Field<'a>)>,
    /// Everything that was read for them.
    pub(super) files: Vec<PathBuf>,
    /// Which of these keys are there, in a listener that may not need them.
    pub(super) keys: Vec<Field<'a>>,
}

/// The file system, and what was read of it.
#[derive(Default)]
pub(super) struct Disk(pub(super) Vec<PathBuf>);

impl Files for Disk {
    fn read(&mut self, path: &Path) -> Result<Option<Vec<u8>>, String> {
        self.0.push(path.to_owned());
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
        self.0.push(path.to_owned());
        let entries = fs::read_dir(path).map_err(|error| error.to_string())?;
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

/// Reads what a listener names; relative paths are relative to `base`. Mistakes are told along.
pub(super) fn read<'a>(
    section: &Section<'a>,
    base: &Path,
    permissions: Permissions,
) -> ReadRules<'a> {
    let mut disk = Disk::default();
    let mut fields = ["hba", "ident", "roles", "users"].map(|key| section.field(key));
    if let [.., users @ None] = &mut fields {
        let field = section.field("forward").filter(Field::is_table);
        *users = field.and_then(|field| field.table()?.field("users"));
    }
    let [hba, ident, roles, users] = &fields;
    let reader = section.reader;
    let path = |field: &Option<Field<'a>>| Some(base.join(field.as_ref()?.text()?));
    let told = |mistakes: Vec<RuleMistake>| tell(reader, mistakes);
    let rules = path(hba).and_then(|path| read_hba(&path, &mut disk).map_err(told).ok());
    let maps = path(ident).and_then(|path| read_ident(&path, &mut disk).map_err(told).ok());
    let roles = path(roles).and_then(|path| read_roles(&path, &mut disk).map_err(told).ok());
    let known = users
        .as_ref()
        .and_then(|field| read_users(field, base, permissions, &mut disk));
    ReadRules {
        hba: rules.zip(hba.clone()),
        maps: maps.unwrap_or_default(),
        roles: roles.unwrap_or_default(),
        users: known.zip(users.clone()),
        files: disk.0,
        keys: fields.into_iter().flatten().collect(),
    }
}

impl ReadRules<'_> {
    /// `deny`: networks, and files that have one in each line.
    pub(super) fn deny(&mut self, field: Option<&Field<'_>>, base: &Path) -> NetSet {
        let mut networks = Vec::new();
        for one in field.iter().flat_map(|field| field.one_or_many()) {
            if !one.is_table() {
                networks.extend(route::networks(&one));
                continue;
            }
            let Some(table) = one.table() else {
                continue;
            };
            if let Some(path) = table.text("file") {
                let path = base.join(path);
                networks.extend(denied(&one, &path));
                self.files.push(path);
            } else {
                one.wrong(
                    "needs the `file` that they are in",
                    "deny = [{ file = \"deny.txt\" }]",
                );
            }
            table.finish();
        }
        networks.into_iter().collect()
    }
}

/// The networks of a file: one in each line, and what stands behind `#` is for people.
fn denied(field: &Field<'_>, path: &Path) -> Vec<IpNet> {
    let shown = path.display();
    let text = match Disk::default().read(path) {
        Ok(Some(bytes)) => String::from_utf8_lossy(&bytes).into_owned(),
        Ok(None) => {
            field.wrong(
                &format!("cannot be read: {shown}: there is no such file"),
                "",
            );
            return Vec::new();
        }
        Err(why) => {
            field.wrong(&format!("cannot be read: {shown}: {why}"), "");
            return Vec::new();
        }
    };
    let source = Arc::new(Source {
        name: shown.to_string(),
        text,
    });
    let mut networks = Vec::new();
    for (at, line) in source.text.lines().enumerate() {
        let word = line.split('#').next().unwrap_or_default().trim();
        if word.is_empty() {
            continue;
        }
        let network = word.parse::<IpNet>().ok();
        let network = network.or_else(|| word.parse::<IpAddr>().ok().map(IpNet::from));
        match network {
            Some(network) => networks.push(network),
            None => {
                let mistake = Mistake::new(format!("this is no address and no network: {word:?}"))
                    .hint("a line has an address or a network, such as 203.0.113.0/24");
                let start = line.find(word).unwrap_or_default();
                let span = span(&source.text, at + 1, &(start..start + word.len()));
                field.reader.mistake(mistake.at(&source, span, "here"));
            }
        }
    }
    networks
}

/// `users = "file"`, or `users = { file = "file" }`.
fn read_users(
    field: &Field<'_>,
    base: &Path,
    permissions: Permissions,
    disk: &mut Disk,
) -> Option<Arc<Users>> {
    let path = if field.is_table() {
        let table = field.table()?;
        let path = table.text("file");
        if path.is_none() {
            field.wrong(
                "needs the `file` that they are in",
                "users = { file = \"users.txt\" }",
            );
        }
        table.finish();
        base.join(path?)
    } else {
        base.join(field.text()?)
    };
    let read = kept_from_others(&path, permissions).and_then(|()| match disk.read(&path) {
        Ok(Some(bytes)) => Ok(Zeroizing::new(bytes)),
        Ok(None) => Err(format!("{}: there is no such file", path.display())),
        Err(why) => Err(format!("{}: {why}", path.display())),
    });
    let bytes = match read {
        Ok(bytes) => bytes,
        Err(why) => {
            field.wrong(&format!("cannot be read: {why}"), "");
            return None;
        }
    };
    let Ok(text) = std::str::from_utf8(&bytes) else {
        field.wrong(
            &format!("cannot be read: {} is not UTF-8", path.display()),
            "",
        );
        return None;
    };
    // Of this machine, and of nobody else: what is made of it is the same at the next start.
    let machine = fs::read("/etc/machine-id").unwrap_or_default();
    let seed = [machine.as_slice(), path.as_os_str().as_encoded_bytes()].concat();
    match Users::read(text, &seed) {
        Ok(users) => Some(Arc::new(users)),
        Err(mistakes) => {
            for mistake in mistakes {
                // What stands there is a secret, and is not shown.
                let at = format!("{}:{}", path.display(), mistake.line);
                let hint = "`ipreconnect password NAME` makes such a line";
                field.wrong(&format!("cannot be used: {at}: {}", mistake.what), hint);
            }
            None
        }
    }
}

/// Tells what is wrong with files of rules, each at its place.
pub(super) fn tell(reader: &Reader<'_>, mistakes: Vec<RuleMistake>) {
    let mut sources: BTreeMap<PathBuf, Arc<Source>> = BTreeMap::new();
    for mistake in mistakes {
        let path = mistake.place.file.to_path_buf();
        let source = sources.entry(path.clone()).or_insert_with(|| {
            let bytes = Disk::default().read(&path).ok().flatten();
            Arc::new(Source {
                name: path.display().to_string(),
                text: String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned(),
            })
        });
        let mut told = Mistake::new(mistake.what);
        if let Some(hint) = mistake.hint {
            told = told.hint(hint);
        }
        let span = span(&source.text, mistake.place.line, &mistake.columns);
        reader.mistake(told.at(source, span, "here"));
    }
}

/// Bytes of a line, as bytes of the text.
fn span(text: &str, line: usize, columns: &std::ops::Range<usize>) -> std::ops::Range<usize> {
    let mut lines = text.split_inclusive('\n');
    let start: usize = lines
        .by_ref()
        .take(line.saturating_sub(1))
        .map(str::len)
        .sum();
    let length = lines.next().map_or(0, |line| line.trim_end().len());
    let at = |column: usize| {
        let mut at = start + column.min(length);
        // Where the file is not UTF-8, the places are those of something else.
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        at
    };
    // The end of a line is where something is missing.
    let (from, to) = match columns.is_empty() {
        true => (length, length),
        false => (columns.start, columns.end),
    };
    at(from)..at(to)
}

#[cfg(test)]
mod tests {
    use super::span;

    #[test]
    fn places_in_lines_are_places_in_texts() {
        let text = "host all\nlocäl x y\n";
        assert_eq!(&text[span(text, 1, &(5..8))], "all");
        assert_eq!(&text[span(text, 2, &(0..6))], "locäl");
        assert_eq!(span(text, 2, &(0..0)), 19..19);
        assert_eq!(span(text, 9, &(3..5)), text.len()..text.len());
        assert_eq!(span("ä", 1, &(1..2)), 0..2);
    }
}

//! The settings of files, in the formats that applications have them in.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use ipreconnect::core::discover::Setting;
use serde_json::Value;

/// Bytes that are read of one file.
const LONGEST: u64 = 4 * 1024 * 1024;
/// Settings of one file, and how deep they lie.
const MOST: usize = 50_000;
const DEEPEST: usize = 64;

/// What a file says.
#[derive(Debug, Default)]
pub(super) struct FileSettings {
    pub(super) settings: Vec<Setting>,
    /// Ports of containers that are published here: service and port inside, to the port here.
    pub(super) published: BTreeMap<(String, u16), u16>,
    /// Services of a compose file, whose names are hosts for one another.
    pub(super) services: Vec<String>,
}

/// Reads one file.
///
/// # Errors
/// If it cannot be read, is too long, or is not what its name says.
pub(super) fn file(path: &Path) -> io::Result<FileSettings> {
    let mut text = String::new();
    let mut file = File::open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("this is no file"));
    }
    (&mut file).take(LONGEST + 1).read_to_string(&mut text)?;
    if text.len() as u64 > LONGEST {
        return Err(io::Error::other("it is longer than 4 MiB"));
    }
    let place = path.display().to_string();
    let name = path
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .to_ascii_lowercase();
    let extension = path
        .extension()
        .unwrap_or_default()
        .to_string_lossy()
        .to_ascii_lowercase();
    let wrong = |why: String| io::Error::new(io::ErrorKind::InvalidData, why);
    let mut read = FileSettings::default();
    match extension.as_str() {
        "json" => {
            let value: Value =
                serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
            flat(&value, &place, &mut read.settings);
        }
        "toml" => {
            let value: Value =
                toml::from_str(&text).map_err(|error| wrong(error.message().to_owned()))?;
            flat(&value, &place, &mut read.settings);
        }
        "yaml" | "yml" => {
            let all: Vec<Value> = serde_saphyr::from_multiple(&text)
                .map_err(|_| wrong("this is no YAML".to_owned()))?;
            for value in &all {
                if name.contains("compose") {
                    compose(value, &mut read);
                }
                flat(value, &place, &mut read.settings);
            }
        }
        "properties" | "ini" | "conf" | "cfg" => lines(&text, &place, &mut read.settings),
        "env" => variables(&text, &place, &mut read.settings),
        _ if name.starts_with(".env") || name.ends_with(".env") || name == "env" => {
            variables(&text, &place, &mut read.settings);
        }
        _ => {
            let why = "its name says nothing of its format: .env, .json, .toml, .yaml, .properties, .ini are read";
            return Err(wrong(why.to_owned()));
        }
    }
    Ok(read)
}

/// The variables of an environment, as `/proc/PID/environ` has them.
pub(super) fn environment(bytes: &[u8], place: &str) -> Vec<Setting> {
    let entries = bytes.split(|byte| *byte == 0).take(MOST);
    let pairs = entries.filter_map(|entry| {
        let text = String::from_utf8_lossy(entry);
        let (name, value) = text.split_once('=')?;
        Some(setting(name, value, place))
    });
    pairs.collect()
}

fn setting(path: &str, value: &str, place: &str) -> Setting {
    Setting {
        path: path.to_owned(),
        value: value.to_owned(),
        place: place.to_owned(),
    }
}

/// All texts and numbers of a document, each with the way to it.
fn flat(value: &Value, place: &str, into: &mut Vec<Setting>) {
    let mut open: Vec<(String, &Value, usize)> = vec![(String::new(), value, 0)];
    while let Some((path, value, depth)) = open.pop() {
        if into.len() >= MOST || depth > DEEPEST {
            return;
        }
        let below = |name: &str| match path.is_empty() {
            true => name.to_owned(),
            false => format!("{path}.{name}"),
        };
        match value {
            Value::Object(table) => {
                let entries = table.iter().rev();
                open.extend(entries.map(|(name, value)| (below(name), value, depth + 1)));
            }
            Value::Array(list) => {
                for one in list.iter().rev() {
                    match one {
                        // As compose files have variables.
                        Value::String(text) if is_variable(text) => {
                            let (name, value) = text.split_once('=').unwrap_or((text, ""));
                            into.push(setting(name, value, place));
                        }
                        one => open.push((path.clone(), one, depth + 1)),
                    }
                }
            }
            Value::String(text) => into.push(setting(&path, text, place)),
            Value::Number(number) => into.push(setting(&path, &number.to_string(), place)),
            Value::Null | Value::Bool(_) => {}
        }
    }
}

fn is_variable(text: &str) -> bool {
    let name = text.split_once('=').map_or("", |(name, _)| name);
    !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// `key=value` and `key: value`, with `[sections]` (Java's properties, INI).
fn lines(text: &str, place: &str, into: &mut Vec<Setting>) {
    let mut section = String::new();
    let mut whole = String::new();
    for line in text.lines().take(MOST) {
        let line = line.trim();
        // A line that ends with a backslash goes on.
        if let Some(part) = line.strip_suffix('\\') {
            whole.push_str(part);
            continue;
        }
        whole.push_str(line);
        let line = std::mem::take(&mut whole);
        if line.is_empty() || line.starts_with(['#', ';', '!']) {
            continue;
        }
        if let Some(name) = line
            .strip_prefix('[')
            .and_then(|line| line.strip_suffix(']'))
        {
            section = format!("{}.", name.trim());
            continue;
        }
        let at = line.find(['=', ':', ' ']);
        if let Some((name, value)) = at.and_then(|at| line.split_at_checked(at)) {
            let value = value
                .get(1..)
                .unwrap_or_default()
                .trim()
                .trim_start_matches(['=', ':'])
                .trim();
            into.push(setting(
                &format!("{section}{}", name.trim()),
                unquoted(value),
                place,
            ));
        }
    }
}

/// `export NAME="value" # why`.
fn variables(text: &str, place: &str, into: &mut Vec<Setting>) {
    for line in text.lines().take(MOST) {
        let line = line.trim();
        let line = line.strip_prefix("export ").unwrap_or(line);
        if line.starts_with('#') {
            continue;
        }
        if let Some((name, value)) = line.split_once('=') {
            let value = value.trim();
            let is_quoted = value.starts_with(['"', '\'']);
            let value = match value.split_once(" #") {
                Some((value, _)) if !is_quoted => value.trim(),
                _ => value,
            };
            into.push(setting(name.trim(), unquoted(value), place));
        }
    }
}

fn unquoted(value: &str) -> &str {
    for quote in ['"', '\''] {
        if let Some(rest) = value.strip_prefix(quote)
            && let Some((inner, _)) = rest.split_once(quote)
        {
            return inner;
        }
    }
    value
}

/// The services of a compose file, and which of their ports are published on this machine.
fn compose(value: &Value, read: &mut FileSettings) {
    let Some(services) = value.get("services").and_then(Value::as_object) else {
        return;
    };
    for (name, service) in services {
        read.services.push(name.clone());
        let ports = service.get("ports").and_then(Value::as_array);
        for port in ports.into_iter().flatten() {
            if let Some((inside, here)) = published(port) {
                read.published.insert((name.clone(), inside), here);
            }
        }
    }
}

/// `"127.0.0.1:5433:5432/tcp"`, `"5433:5432"`, `{ target = 5432, published = 5433 }`.
fn published(port: &Value) -> Option<(u16, u16)> {
    if let Some(table) = port.as_object() {
        let number = |key: &str| {
            let value = table.get(key)?;
            let text = value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_owned);
            text.parse().ok()
        };
        return number("target").zip(number("published"));
    }
    let text = port.as_str()?.split('/').next()?;
    let mut parts = text.rsplit(':');
    let inside = parts.next()?.parse().ok()?;
    let here = parts.next()?.parse().ok()?;
    Some((inside, here))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str, text: &str) -> Vec<String> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        let read = file(&path).unwrap();
        read.settings
            .iter()
            .map(|one| format!("{}={}", one.path, one.value))
            .collect()
    }

    #[test]
    fn every_format_is_read() {
        assert_eq!(
            of(".env", "# a\nexport A=\"b # c\"\nC=d # e\nF='g'\nX\n"),
            ["A=b # c", "C=d", "F=g"]
        );
        assert_eq!(
            of("a.json", "{\"a\": {\"b\": \"c\", \"d\": [\"e\", 1]}}"),
            ["a.b=c", "a.d=e", "a.d=1"]
        );
        assert_eq!(of("a.toml", "[a]\nb = \"c\"\nd = 1\n"), ["a.b=c", "a.d=1"]);
        assert_eq!(of("a.yml", "a:\n  b: c\n---\nd: 5\n"), ["a.b=c", "d=5"]);
        assert_eq!(
            of("a.properties", "! x\na.b = c\nd:e\nlong=1\\\n2\n[s]\nk=v\n"),
            ["a.b=c", "d=e", "long=12", "s.k=v"]
        );
        assert_eq!(
            of(
                "docker-compose.yml",
                "services:\n  web:\n    environment:\n      - DB=postgres://db/x\n"
            ),
            ["DB=postgres://db/x"]
        );
    }

    #[test]
    fn what_is_broken_is_told() {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in [
            ("a.json", "{"),
            ("a.toml", "="),
            ("a.yaml", "a: [\n"),
            ("a.bin", "x"),
        ] {
            let path = directory.path().join(name);
            std::fs::write(&path, text).unwrap();
            assert!(file(&path).is_err(), "{name}");
        }
        assert!(file(directory.path()).is_err());
        std::fs::write(directory.path().join("b.env"), [0xff, 0xfe]).unwrap();
        assert!(file(&directory.path().join("b.env")).is_err());
        // What grows without an end when it is read (billion laughs) is not.
        let laughs = "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: &f [*e,*e,*e,*e,*e,*e,*e,*e,*e]\ng: [*f,*f,*f,*f,*f,*f,*f,*f,*f]\n";
        std::fs::write(directory.path().join("l.yaml"), laughs).unwrap();
        if let Ok(read) = file(&directory.path().join("l.yaml")) {
            assert!(read.settings.len() <= MOST);
        }
        let deep = format!("{}1{}", "[".repeat(100), "]".repeat(100));
        std::fs::write(directory.path().join("d.json"), deep).unwrap();
        if let Ok(read) = file(&directory.path().join("d.json")) {
            assert!(read.settings.is_empty());
        }
    }

    #[test]
    fn published_ports_are_known() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("compose.yaml");
        let text = "services:\n  db:\n    image: postgres:16\n    ports:\n      - \"127.0.0.1:5433:5432\"\n      - target: 80\n        published: \"8080\"\n  web: {}\n";
        std::fs::write(&path, text).unwrap();
        let read = file(&path).unwrap();
        assert_eq!(
            read.published,
            BTreeMap::from([
                (("db".to_owned(), 5432), 5433),
                (("db".to_owned(), 80), 8080)
            ])
        );
        assert_eq!(read.services, ["db", "web"]);
    }

    #[test]
    fn environments_are_read() {
        let read = environment(b"A=b\0C=d=e\0X\0", "pid 7");
        assert_eq!(read.len(), 2);
        assert_eq!(
            (read[1].path.as_str(), read[1].value.as_str()),
            ("C", "d=e")
        );
    }
}

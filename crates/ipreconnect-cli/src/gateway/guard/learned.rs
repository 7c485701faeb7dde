//! What was learned, as a file that can be copied into the configuration, and read again at the next start.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Write as _};
use std::ops::RangeInclusive;
use std::path::Path;

use ipreconnect::core::guard::{Action, Rule};
use ipreconnect_ports::{user, user_id};
use toml::{Table, Value};

/// Begins the lines of rules that are comments: nobody else writes it.
const ASIDE: &str = "#~ ";
/// What is read of it at most.
const LONGEST: u64 = 16 * 1024 * 1024;

/// Where a file that cannot be read is kept: beside, under a name that none has.
pub(super) fn aside(path: &Path) -> std::path::PathBuf {
    let mut names = (1..1000).map(|number| path.with_extension(format!("toml.unread.{number}")));
    let free = names.find(|name| !name.exists());
    free.unwrap_or_else(|| path.with_extension("toml.unread"))
}

/// The rules that were learned before; none, if there is no such file.
pub(super) fn read(path: &Path) -> io::Result<Vec<Rule>> {
    match std::fs::metadata(path) {
        Ok(found) if found.len() > LONGEST => Err(io::ErrorKind::FileTooLarge.into()),
        Ok(_) => parsed(&std::fs::read_to_string(path)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// Writes them all, or leaves what is there.
pub(super) fn write(path: &Path, rules: &[Rule], is_full: bool) -> io::Result<()> {
    let new = path.with_extension("toml.new");
    let mut file = File::create(&new)?;
    file.write_all(written(rules, is_full).as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&new, path)
}

fn parsed(text: &str) -> io::Result<Vec<Rule>> {
    let lines = text
        .lines()
        .map(|line| line.strip_prefix(ASIDE).unwrap_or(line));
    let text: String = lines.flat_map(|line| [line, "\n"]).collect();
    let table: Table = text.parse().map_err(io::Error::other)?;
    let rules = table.get("guard").and_then(|guard| guard.get("rule"));
    let rules = rules.and_then(Value::as_array).into_iter().flatten();
    Ok(rules.filter_map(rule).collect())
}

/// A rule as it is written here. What somebody has written beside is not for us.
fn rule(value: &Value) -> Option<Rule> {
    let each = |key: &str| value.get(key).and_then(Value::as_array);
    let ports = each("port").into_iter().flatten().filter_map(|port| {
        let port = u16::try_from(port.as_integer()?).ok()?;
        Some(port..=port)
    });
    let users = each("user")
        .into_iter()
        .flatten()
        .filter_map(|one| match one {
            Value::Integer(id) => u32::try_from(*id).ok(),
            Value::String(name) => user_id(name),
            _ => None,
        });
    let programs = each("program").into_iter().flatten();
    let is_learned = value.get("action")?.as_str()? == Action::Allow.word();
    is_learned.then(|| Rule {
        ports: ports.collect(),
        users: users.collect(),
        programs: programs.filter_map(Value::as_str).map(Into::into).collect(),
        addresses: Vec::new(),
        action: Action::Allow,
    })
}

fn written(rules: &[Rule], is_full: bool) -> String {
    let mut text = String::from(
        "# Who has talked to local ports since the guard learns. Read it, take out what should not be, copy the rest into\n\
         # the configuration, and set mode = \"enforce\".\n",
    );
    if is_full {
        text.push_str("# More have talked than are kept here: this is not all.\n");
    }
    for rule in rules {
        text.push('\n');
        // It would allow more than was seen.
        let sign = if rule.programs.is_empty() { ASIDE } else { "" };
        if rule.programs.is_empty() {
            text.push_str("# It was over before it could be seen which program this was: as it stands this allows any program of that user.\n");
        }
        let quoted = |name: &str| Value::String(name.to_owned()).to_string();
        let users = rule.users.iter().map(|uid| match user_id(&user(*uid)) {
            Some(_) => quoted(&user(*uid)),
            None => uid.to_string(),
        });
        let ports = rule.ports.iter().map(RangeInclusive::start);
        let _ = writeln!(text, "{sign}[[guard.rule]]");
        let _ = writeln!(
            text,
            "{sign}port = [{}]",
            listed(ports.map(ToString::to_string))
        );
        let _ = writeln!(text, "{sign}user = [{}]", listed(users));
        if !rule.programs.is_empty() {
            let programs = rule.programs.iter().map(|program| quoted(program));
            let _ = writeln!(text, "program = [{}]", listed(programs));
        }
        let _ = writeln!(text, "{sign}action = \"allow\"");
    }
    text
}

fn listed(items: impl Iterator<Item = String>) -> String {
    items.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(ports: &[u16], programs: &[&str]) -> Rule {
        Rule {
            ports: ports.iter().map(|port| *port..=*port).collect(),
            users: vec![0, 4_000_000],
            programs: programs.iter().map(|one| (*one).into()).collect(),
            addresses: Vec::new(),
            action: Action::Allow,
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let rules = [
            rule(&[80, 443], &["/usr/bin/\"x\"\n# y", "curl"]),
            rule(&[5432], &[]),
        ];
        let text = written(&rules, true);
        assert_eq!(parsed(&text).unwrap(), rules, "{text}");
        // What others make a comment stays one.
        let lines = text.lines().map(|line| match line.starts_with(ASIDE) {
            true => format!("{line}\n"),
            false => format!("#{line}\n"),
        });
        let more: String = lines.collect();
        assert_eq!(parsed(&more).unwrap(), rules[1..], "{more}");
        let allowed: Table = text.parse().unwrap();
        let allowed = allowed["guard"]["rule"].as_array().unwrap();
        assert_eq!(allowed.len(), 1, "what was seen of no program is a comment");
    }

    #[test]
    fn what_others_have_written_is_left_out() {
        let text = "[guard]\nmode = \"learn\"\n[[guard.rule]]\nport = [70000, 1]\nuser = [\"no-such-user\", -1, 7]\naction = \"allow\"\n\
                    [[guard.rule]]\nport = [1]\naction = \"close\"\n[[guard.rule]]\n";
        let rules = parsed(text).unwrap();
        assert_eq!(rules.len(), 1);
        assert_eq!((rules[0].ports.len(), &rules[0].users[..]), (1, &[7][..]));
        assert!(parsed("[[guard").is_err());
        assert!(parsed("").unwrap().is_empty());
        assert!(read(Path::new("/there/is/none")).unwrap().is_empty());
    }
}

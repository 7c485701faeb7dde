//! `[guard]`: who may talk to the ports of this machine.

use std::fs::File;
use std::io::{self, Read};
use std::ops::RangeInclusive;
use std::path::Path;

use ipnet::IpNet;
use ipreconnect::core::guard::{Action, Guard, Mode, Rule};
use ipreconnect_ports::Scope;
use toml::de::DeValue;

use super::plan::GuardPlan;
use super::route;
use super::section::{Field, Section};

/// Rules of one guard.
const RULES: usize = 1024;
const ACTIONS: [(&str, Action); 3] = [
    ("allow", Action::Allow),
    ("report", Action::Report),
    ("close", Action::Close),
];

/// What it says; none, if it is off.
pub(super) fn read(section: Section<'_>) -> Option<GuardPlan> {
    let words = [
        ("off", None),
        ("learn", Some(Mode::Learn)),
        ("enforce", Some(Mode::Enforce)),
    ];
    let mode = section.choice("mode", &words).unwrap_or(Some(Mode::Learn));
    let default = section
        .choice("default", &ACTIONS)
        .unwrap_or(Action::Report);
    let (scope, ports) = watch(section.field("watch").as_ref());
    let rules = section.field("rule").map(|field| rules(&field));
    section.finish();
    Some(GuardPlan {
        scope,
        ports,
        guard: Guard {
            rules: rules.unwrap_or_default(),
            default,
            mode: mode?,
        },
    })
}

/// Where it looks: this machine's loopback, or everything; and only some ports.
fn watch(field: Option<&Field<'_>>) -> (Scope, Vec<RangeInclusive<u16>>) {
    let (mut scope, mut ports) = (Scope::Loopback, Vec::new());
    for one in field.into_iter().flat_map(Field::one_or_many) {
        let text = match one.value.get_ref() {
            DeValue::String(text) => text.to_string(),
            _ => String::new(),
        };
        match text.as_str() {
            "loopback" => {}
            "all" => scope = Scope::All,
            _ => ports.extend(port(
                &one,
                "watch = [\"loopback\"], [\"all\"], or [5432, \"62000-62999\"]",
            )),
        }
    }
    (scope, ports)
}

/// A port, or a range of them.
fn port(field: &Field<'_>, hint: &str) -> Option<RangeInclusive<u16>> {
    if let DeValue::Integer(_) = field.value.get_ref() {
        let port = u16::try_from(field.integer(1..=65_535)?).ok()?;
        return Some(port..=port);
    }
    let text = field.text()?;
    let number = |text: &str| text.trim().parse().ok().filter(|port: &u16| *port > 0);
    let range = match text.split_once('-') {
        Some((first, last)) => number(first).zip(number(last)),
        None => number(&text).map(|port| (port, port)),
    };
    let range = range.filter(|(first, last)| first <= last);
    if range.is_none() {
        field.wrong(&format!("cannot be {text:?}"), hint);
    }
    range.map(|(first, last)| first..=last)
}

fn rules(field: &Field<'_>) -> Vec<Rule> {
    let fields = field.one_or_many();
    if fields.len() > RULES {
        field.wrong(&format!("must have at most {RULES} rules"), "");
        return Vec::new();
    }
    fields.iter().filter_map(rule).collect()
}

fn rule(field: &Field<'_>) -> Option<Rule> {
    let DeValue::Table(table) = field.value.get_ref() else {
        field.wrong("must be a table", "write [[guard.rule]]");
        return None;
    };
    let section = Section::new(field.reader, "guard.rule", table, field.value.span());
    let each = |key: &'static str| {
        let Some(field) = section.field(key) else {
            return Vec::new();
        };
        let fields = field.one_or_many();
        if fields.is_empty() {
            field.wrong("names nobody", "leave it out where everybody is meant");
        }
        fields
    };
    let hint = "port = [5432, \"62000-62999\"]";
    let ports = each("port")
        .iter()
        .filter_map(|one| port(one, hint))
        .collect();
    let users = each("user").iter().filter_map(user).collect();
    let programs = each("program").iter().flat_map(program).collect();
    let addresses: Vec<IpNet> = each("address").iter().flat_map(route::networks).collect();
    let action = section.field("action");
    let action = match &action {
        Some(field) => field.text().and_then(|text| field.pick(&text, &ACTIONS)),
        None => {
            field.wrong(
                "needs `action`",
                "action = \"allow\", \"report\" or \"close\"",
            );
            None
        }
    };
    section.finish();
    Some(Rule {
        ports,
        users,
        programs,
        addresses,
        action: action?,
    })
}

/// By name or number.
fn user(field: &Field<'_>) -> Option<u32> {
    if let DeValue::Integer(_) = field.value.get_ref() {
        return u32::try_from(field.integer(0..=u64::from(u32::MAX))?).ok();
    }
    let name = field.text()?;
    let id = ipreconnect_ports::user_id(&name);
    if id.is_none() {
        field.wrong(&format!("is nobody on this machine: {name:?}"), "");
    }
    id
}

/// By name, or by file: the kernel tells the file that a symbolic link leads to.
fn program(field: &Field<'_>) -> Vec<Box<str>> {
    let Some(text) = field.text() else {
        return Vec::new();
    };
    if text.is_empty() || !text.starts_with('/') && text.contains('/') {
        let hint = "program = [\"/usr/bin/psql\"], or a name: [\"psql\"]";
        field.wrong(&format!("cannot be {text:?}"), hint);
        return Vec::new();
    }
    let file = Path::new(&text).canonicalize().ok();
    let file = file.as_deref().and_then(Path::to_str);
    let file = file.filter(|file| text.starts_with('/') && **file != text);
    let file = file.map(Into::into);
    std::iter::once(text.clone().into()).chain(file).collect()
}

/// The programs of a rule that can never be seen, and why. Where a link leads is not told beside the link.
pub(super) fn doubts(programs: &[Box<str>]) -> Vec<(&str, &'static str)> {
    let leads_to = |link: &str, file: &str| {
        link != file
            && Path::new(link)
                .canonicalize()
                .is_ok_and(|path| path == *Path::new(file))
    };
    let named = programs
        .iter()
        .filter(|one| !programs.iter().any(|link| leads_to(link, one)));
    named
        .filter_map(|one| Some((&**one, doubt(one)?)))
        .collect()
}

fn doubt(program: &str) -> Option<&'static str> {
    if !program.starts_with('/') {
        return None;
    }
    let mut first = [0; 2];
    match File::open(program) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Some("which is not there"),
        // What may not be read is no doubt.
        Err(_) => None,
        Ok(mut file) => (file.read_exact(&mut first).is_ok() && first == *b"#!").then_some(
            "which is a script: what is seen is the program that it is run by, or that it starts",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_can_never_be_seen_is_a_doubt() {
        let place = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &[u8]| {
            let path = place.path().join(name);
            std::fs::write(&path, text).unwrap();
            path.to_str().unwrap().to_owned()
        };
        assert!(doubt(&file("script", b"#!/bin/sh\n")).is_some_and(|why| why.contains("script")));
        assert!(doubt("/nonexistent/x").is_some_and(|why| why.contains("not there")));
        assert_eq!(doubt(&file("program", b"\x7fELF")), None);
        assert_eq!(doubt(&file("empty", b"")), None);
        assert_eq!(doubt("psql"), None, "a name alone may be any file's");
        let script = file("another", b"#!/bin/sh\n");
        let link = place.path().join("link").to_str().unwrap().to_owned();
        std::os::unix::fs::symlink(&script, &link).unwrap();
        let both = [link.as_str().into(), script.as_str().into()];
        let named: Vec<&str> = doubts(&both)
            .into_iter()
            .map(|(program, _)| program)
            .collect();
        assert_eq!(named, [link]);
    }
}

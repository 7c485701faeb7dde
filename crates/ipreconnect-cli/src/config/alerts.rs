//! `[alerts]`.

use std::path::Path;

use ipreconnect::core::alert::AlertSettings;
use ipreconnect_admin::{AlertPlan, Sink};

use super::section::{Field, Section};

/// What is said where there is none of them, or more than one.
const NO_WAY: &str = "must say one way: slack, webhook, ntfy, alertmanager, email or exec";
const AS_IN: &str = "as in { webhook = \"https://…\" }, { email = \"ops@example.com\", smtp = \"smtp://…\" }, { exec = \"/usr/local/bin/notify\" }";
/// The ways to people, by the key that says where.
const WAYS: [&str; 6] = ["slack", "webhook", "ntfy", "alertmanager", "email", "exec"];

/// `[alerts]` as it is when nothing is written.
pub(super) fn defaults() -> AlertPlan {
    AlertPlan {
        instance: host_name(),
        ..AlertPlan::default()
    }
}

pub(super) fn read(section: Section<'_>, base: &Path) -> AlertPlan {
    let defaults = AlertSettings::default();
    let time = |key| section.field(key).and_then(|field| field.duration());
    let settings = AlertSettings {
        after: time("after").unwrap_or(defaults.after),
        clear: time("clear").unwrap_or(defaults.clear),
        repeat: time("repeat").unwrap_or(defaults.repeat),
    };
    if let Some(field) = section.field("repeat")
        && (1..60).contains(
            &settings
                .repeat
                .as_secs()
                .max(u64::from(!settings.repeat.is_zero())),
        )
    {
        field.wrong("must be at least \"1m\", or \"0s\" for never", "");
    }
    let mut sinks = Vec::new();
    if let Some(field) = section.field("to") {
        for one in field.one_or_many() {
            let Some(table) = one.is_table().then(|| one.table()).flatten() else {
                one.wrong(NO_WAY, AS_IN);
                continue;
            };
            if let Some(sink) = sink(&one, &table, base) {
                if sinks.contains(&sink) {
                    one.wrong("is there twice", "people would be told everything twice");
                } else {
                    sinks.push(sink);
                }
            }
            table.finish();
        }
    }
    let instance = section.text("instance");
    section.finish();
    AlertPlan {
        settings,
        sinks,
        instance: instance.unwrap_or_else(host_name),
    }
}

fn sink(one: &Field<'_>, table: &Section<'_>, base: &Path) -> Option<Sink> {
    let said: Vec<(&str, Field<'_>)> = WAYS
        .iter()
        .filter_map(|way| Some((*way, table.field(way)?)))
        .collect();
    let [(way, field)] = said.as_slice() else {
        one.wrong(NO_WAY, AS_IN);
        return None;
    };
    match *way {
        "email" => {
            let Some(server) = table.field("smtp") else {
                let hint = "smtp = \"smtps://user:password@mail.example.com\"";
                field.wrong("needs `smtp`, the server that takes the mail", hint);
                return None;
            };
            Some(Sink::Email {
                to: address(field)?,
                smtp: smtp(&server, secret(&server, base)?)?,
                from: match table.field("from") {
                    Some(from) => address(&from)?,
                    None => format!("ipreconnect@{}", host_name()),
                },
            })
        }
        "exec" => Some(Sink::Exec {
            program: base.join(field.text()?),
        }),
        way => {
            let url = http(field, secret(field, base)?)?;
            Some(match way {
                "slack" => Sink::Slack { url },
                "ntfy" => Sink::Ntfy { url },
                "alertmanager" => Sink::Alertmanager { url },
                _ => Sink::Webhook { url },
            })
        }
    }
}

/// A text, or the file that has it.
pub(super) fn secret(field: &Field<'_>, base: &Path) -> Option<String> {
    if !field.is_table() {
        return field.text();
    }
    let table = field.table()?;
    let path = table.text("file").map(|path| base.join(path));
    table.finish();
    let path = path.or_else(|| {
        field.wrong("needs `file`", "{ file = \"path\" }");
        None
    })?;
    match std::fs::read_to_string(&path) {
        Ok(text) => Some(text.trim().to_owned()),
        Err(error) => {
            field.wrong(
                &format!("cannot be read from {}: {error}", path.display()),
                "",
            );
            None
        }
    }
}

pub(super) fn http(field: &Field<'_>, url: String) -> Option<String> {
    let rest = url
        .strip_prefix("https://")
        .or_else(|| url.strip_prefix("http://"));
    let is_url = rest.is_some_and(|rest| !rest.starts_with(['/', ':']) && !rest.is_empty());
    if !is_url || url.contains(char::is_whitespace) {
        field.wrong(
            "is no URL",
            "write it as http://host/path or https://host/path",
        );
        return None;
    }
    Some(url)
}

fn smtp(field: &Field<'_>, url: String) -> Option<String> {
    if url.starts_with("smtp://") || url.starts_with("smtps://") {
        return Some(url);
    }
    field.wrong(
        "is no URL of a mail server",
        "smtp://host:port in the clear or with ?tls=required, smtps://user:password@host inside TLS",
    );
    None
}

fn address(field: &Field<'_>) -> Option<String> {
    let text = field.text()?;
    if Sink::is_mail_address(&text) {
        return Some(text);
    }
    field.wrong(
        &format!("is no mail address: {text:?}"),
        "as in ops@example.com",
    );
    None
}

pub(super) fn host_name() -> String {
    let name = rustix::system::uname();
    name.nodename().to_string_lossy().into_owned()
}

//! `[log]` and `[otlp]`.

use std::path::Path;

use ipreconnect_admin::{Collector, LineFormat, SyslogPlace};
use ipreconnect_proxy::AccessFormat;

use super::alerts::{host_name, http, secret};
use super::plan::{LogLevel, LogPlan, LogTo, OtlpPlan};
use super::section::{Field, Section};

/// `[log]` as it is when nothing is written.
pub(super) fn defaults() -> LogPlan {
    LogPlan {
        level: LogLevel::Info,
        format: LineFormat::Text,
        to: vec![LogTo::Stderr],
        access: None,
        access_format: AccessFormat::Json,
    }
}

pub(super) fn read(section: Section<'_>, base: &Path) -> LogPlan {
    let levels = [
        ("error", LogLevel::Error),
        ("warn", LogLevel::Warn),
        ("info", LogLevel::Info),
        ("debug", LogLevel::Debug),
        ("trace", LogLevel::Trace),
    ];
    let formats = [("text", LineFormat::Text), ("json", LineFormat::Json)];
    let access_formats = [
        ("squid", AccessFormat::Squid),
        ("json", AccessFormat::Json),
        ("combined", AccessFormat::Combined),
    ];
    let defaults = defaults();
    let plan = LogPlan {
        level: section.choice("level", &levels).unwrap_or(defaults.level),
        format: section
            .choice("format", &formats)
            .unwrap_or(defaults.format),
        to: ways(&section, base).unwrap_or(defaults.to),
        access: section.text("access").map(|path| base.join(path)),
        access_format: section
            .choice("access_format", &access_formats)
            .unwrap_or(defaults.access_format),
    };
    section.finish();
    plan
}

/// Where lines go.
fn ways(section: &Section<'_>, base: &Path) -> Option<Vec<LogTo>> {
    let file = section.field("file");
    let place = section.field("syslog");
    let path = file.as_ref().and_then(Field::text);
    let daemon = place.as_ref().map_or_else(
        || Some(SyslogPlace::default()),
        |field| {
            let read = field.text()?.parse();
            let hint =
                "as in \"unix:/dev/log\", \"udp://192.0.2.1:514\" or \"tcp://192.0.2.1:601\"";
            let read = read.map_err(|()| field.wrong("is no place of a syslog daemon", hint));
            Some(match read.ok()? {
                SyslogPlace::Unix(path) => SyslogPlace::Unix(base.join(path)),
                place => place,
            })
        },
    );
    let said = section.field("to");
    let mut ways = Vec::new();
    for one in said.iter().flat_map(Field::one_or_many) {
        let words = [
            ("stderr", Some(LogTo::Stderr)),
            (
                "file",
                path.as_ref().map(|path| LogTo::File(base.join(path))),
            ),
            ("syslog", daemon.clone().map(LogTo::Syslog)),
            ("otlp", Some(LogTo::Otlp)),
        ];
        let numbers: Vec<(&str, usize)> = words.iter().map(|(word, _)| *word).zip(0..).collect();
        let Some(word) = one.text() else { continue };
        let Some(at) = one.pick(&word, &numbers) else {
            continue;
        };
        let way = words.into_iter().nth(at).and_then(|(_, way)| way);
        match way {
            Some(way) if ways.contains(&way) => one.wrong("is there twice", ""),
            Some(way) => ways.push(way),
            None if word == "file" && file.is_none() => {
                one.wrong(
                    "needs `file`, which says which",
                    "file = \"ipreconnect.log\"",
                );
            }
            // Said already.
            None => {}
        }
    }
    let is_used = |kind: fn(&LogTo) -> bool| ways.iter().any(kind);
    if let (Some(field), false) = (&file, is_used(|way| matches!(way, LogTo::File(_)))) {
        field.wrong("is not used", "add \"file\" to `to`");
    }
    if let (Some(field), false) = (&place, is_used(|way| matches!(way, LogTo::Syslog(_)))) {
        field.wrong("is not used", "add \"syslog\" to `to`");
    }
    said.is_some().then_some(ways)
}

pub(super) fn read_otlp(section: Section<'_>, base: &Path) -> Option<OtlpPlan> {
    let field = section.field("url");
    let url = field
        .as_ref()
        .and_then(|field| http(field, secret(field, base)?));
    if field.is_none() {
        section.reader.mistake(
            super::mistake::Mistake::new("`otlp` needs `url`, where the collector is")
                .hint("url = \"http://127.0.0.1:4318\"")
                .at(&section.reader.source, section.span.clone(), "here"),
        );
    }
    let mut headers = Vec::new();
    if let Some(table) = section.table("headers") {
        for (name, field) in table.names() {
            let Some(value) = secret(&field, base) else {
                continue;
            };
            if !is_field(&name, &value) {
                field.wrong("cannot be a field of HTTP", "");
            }
            headers.push((name, value));
        }
    }
    let service = section.text("service");
    let traces = section.boolean("traces").unwrap_or(false);
    if let (true, false, Some(field)) = (traces, cfg!(feature = "traces"), section.field("traces"))
    {
        let hint = "build it with `--features traces`, which is the default";
        field.wrong("cannot be: this program was built without traces", hint);
    }
    let sampled = section.field("sample").map_or(Some(1.0), |field| {
        let share = field.float()?;
        if !(0.0..=1.0).contains(&share) {
            field.wrong("must be from 0 to 1", "0.01 is one request of a hundred");
        }
        Some(share)
    });
    section.finish();
    Some(OtlpPlan {
        collector: Collector {
            url: url?,
            headers,
            service: service.unwrap_or_else(|| "ipreconnect".to_owned()),
            instance: host_name(),
        },
        traces,
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "it is from 0 to a million"
        )]
        sampled: (sampled? * 1e6).round() as u32,
    })
}

fn is_field(name: &str, value: &str) -> bool {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    let is_value = |byte: u8| matches!(byte, b' '..=b'~' | b'\t');
    !name.is_empty() && name.bytes().all(is_token) && value.bytes().all(is_value)
}

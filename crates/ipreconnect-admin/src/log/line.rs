//! One line: what is said in it, and how it is written.

use std::fmt::{self, Write as _};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;
use std::time::Duration;

use ipreconnect::clock;
use ipreconnect::core::escape::escaped;
use serde_json::Value;
use tracing::field::{Field, Visit};
use tracing::{Event, Level};

use crate::moment::{millis, rfc3339, span};

/// The longest text of one field.
const LONGEST: usize = 8 * 1024;

/// How lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LineFormat {
    /// As people read them.
    #[default]
    Text,
    /// One object of JSON each.
    Json,
}

/// What an event says.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Line {
    /// Since the beginning of 1970.
    pub(crate) at: Duration,
    pub(crate) level: Level,
    pub(crate) message: String,
    pub(crate) fields: Vec<(&'static str, Said)>,
    /// It stands for so many like it, within this time.
    pub(crate) stands_for: Option<(u64, Duration)>,
}

/// The value of a field.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Said {
    /// A text that is quoted where people read it.
    Text(String),
    /// What shows itself: an address, an error.
    Shown(String),
    /// A number, or yes or no.
    Plain(Value),
}

impl Said {
    /// Without quotes.
    pub(crate) fn text(&self) -> String {
        match self {
            Self::Text(text) | Self::Shown(text) => text.clone(),
            Self::Plain(value) => value.to_string(),
        }
    }

    pub(crate) fn value(&self) -> Value {
        match self {
            Self::Text(text) | Self::Shown(text) => Value::String(text.clone()),
            Self::Plain(value) => value.clone(),
        }
    }
}

impl Line {
    pub(super) fn of(event: &Event<'_>) -> Self {
        let mut line = Self {
            at: clock::since_unix(),
            level: *event.metadata().level(),
            message: String::new(),
            fields: Vec::new(),
            stands_for: None,
        };
        event.record(&mut line);
        line
    }

    /// A line of the log's own.
    pub(crate) fn own(level: Level, message: &str) -> Self {
        Self {
            at: clock::since_unix(),
            level,
            message: message.to_owned(),
            fields: Vec::new(),
            stands_for: None,
        }
    }

    /// The same for lines that say the same. Numbers do not count, nor does the port of a client.
    pub(super) fn key(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.level.hash(&mut hasher);
        self.message.hash(&mut hasher);
        for (name, value) in &self.fields {
            name.hash(&mut hasher);
            match (*name, value) {
                (_, Said::Plain(Value::Bool(value))) => value.hash(&mut hasher),
                (_, Said::Plain(_)) => {}
                ("client", Said::Text(text) | Said::Shown(text)) => {
                    without_port(text).hash(&mut hasher);
                }
                (_, Said::Shown(text)) if is_time(text) => {}
                (_, Said::Text(text) | Said::Shown(text)) => text.hash(&mut hasher),
            }
        }
        hasher.finish()
    }

    /// About how much memory it takes.
    pub(super) fn size(&self) -> usize {
        let fields = self.fields.iter().map(|(_, value)| match value {
            Said::Text(text) | Said::Shown(text) => text.len(),
            Said::Plain(_) => 0,
        });
        let each = self.fields.len() * size_of::<(&str, Said)>();
        size_of::<Self>() + self.message.len() + each + fields.sum::<usize>()
    }

    /// The message, and for how many others it stands.
    pub(crate) fn words(&self) -> String {
        match self.stands_for {
            None => self.message.clone(),
            Some((count, within)) => format!(
                "{} ({count} more like this within {})",
                self.message,
                span(millis(within))
            ),
        }
    }

    /// The message and the fields, without time and level, in one line that changes no terminal.
    pub(super) fn text(&self) -> String {
        let mut out = escaped(&self.words()).into_owned();
        for (name, value) in &self.fields {
            let shown = match value {
                Said::Text(text) => format!("{text:?}"),
                Said::Shown(text) => escaped(text).into_owned(),
                Said::Plain(value) => value.to_string(),
            };
            // A text takes what is written to it.
            let _ = write!(out, " {name}={shown}");
        }
        out
    }

    /// With its end.
    pub(super) fn render(&self, format: LineFormat, paint: Paint) -> String {
        let time = rfc3339(millis(self.at));
        match format {
            LineFormat::Text => {
                let level = paint.level(self.level);
                let (dim, end) = paint.dim();
                format!("{dim}{time}{end} {level} {}\n", self.text())
            }
            LineFormat::Json => {
                let mut out = format!(
                    "{{\"timestamp\":\"{time}\",\"level\":\"{}\",\"message\":{}",
                    self.level,
                    Value::from(self.words())
                );
                if let Some((count, within)) = self.stands_for {
                    let _ = write!(
                        out,
                        ",\"repeated\":{count},\"within_ms\":{}",
                        millis(within)
                    );
                }
                for (name, value) in &self.fields {
                    let _ = write!(out, ",{}:{}", Value::from(*name), value.value());
                }
                out.push_str("}\n");
                without_c1(out)
            }
        }
    }

    fn take(&mut self, field: &Field, value: Said) {
        if field.name() == "message" {
            self.message = value.text();
        } else {
            self.fields.push((field.name(), value));
        }
    }
}

/// Whether levels are told by colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Paint {
    Plain,
    Colour,
}

impl Paint {
    fn level(self, level: Level) -> String {
        let colour = match level {
            _ if self == Self::Plain => return format!("{level:>5}"),
            Level::ERROR => 31,
            Level::WARN => 33,
            Level::INFO => 32,
            Level::DEBUG => 34,
            Level::TRACE => 35,
        };
        format!("\x1b[{colour}m{level:>5}\x1b[0m")
    }

    fn dim(self) -> (&'static str, &'static str) {
        match self {
            Self::Plain => ("", ""),
            Self::Colour => ("\x1b[2m", "\x1b[0m"),
        }
    }
}

impl Visit for Line {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.take(field, Said::Plain(value.into()));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.take(field, Said::Plain(value.into()));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.take(field, Said::Plain(value.into()));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.take(field, Said::Plain(value.into()));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.take(field, Said::Text(cut(value.to_owned())));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.take(field, Said::Shown(cut(format!("{value:?}"))));
    }
}

/// What is longer than anybody reads loses its end.
fn cut(mut text: String) -> String {
    if shorten(&mut text, LONGEST) {
        text.push('…');
    }
    text
}

/// Takes away what is beyond so many bytes; says whether there was anything.
pub(crate) fn shorten(text: &mut String, most: usize) -> bool {
    if text.len() <= most {
        return false;
    }
    let end = (0..=most).rev().find(|end| text.is_char_boundary(*end));
    text.truncate(end.unwrap_or_default());
    true
}

fn without_port(client: &str) -> String {
    let address = client.parse::<SocketAddr>();
    address.map_or_else(|_| client.to_owned(), |address| address.ip().to_string())
}

/// As `1.5s` or `20ms`.
fn is_time(text: &str) -> bool {
    let unit = text.trim_start_matches(|one: char| one.is_ascii_digit() || one == '.');
    unit.len() < text.len() && matches!(unit, "ns" | "µs" | "ms" | "s" | "m" | "h" | "d")
}

/// JSON leaves them as they are, and terminals go by them.
fn without_c1(json: String) -> String {
    let is_c1 = |one: &char| matches!(one, '\u{7f}'..='\u{9f}');
    if !json.chars().any(|one| is_c1(&one)) {
        return json;
    }
    let mut out = String::with_capacity(json.len() + 16);
    for one in json.chars() {
        if is_c1(&one) {
            let _ = write!(out, "\\u{:04x}", u32::from(one));
        } else {
            out.push(one);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(message: &str, fields: Vec<(&'static str, Said)>) -> Line {
        Line {
            at: Duration::from_millis(1_500),
            fields,
            ..Line::own(Level::WARN, message)
        }
    }

    #[test]
    fn a_line_stays_one_whatever_others_say() {
        let fields = vec![
            ("error", Said::Shown("no\nfake line\u{1b}[31m".to_owned())),
            ("origin", Said::Text("a\"b\u{9b}".to_owned())),
            ("count", Said::Plain(7.into())),
        ];
        let line = line("lost\r\nagain", fields);
        let text = line.render(LineFormat::Text, Paint::Plain);
        assert_eq!(
            text,
            "1970-01-01T00:00:01.500Z  WARN lost\\r\\nagain error=no\\nfake line\\u{1b}[31m origin=\"a\\\"b\\u{9b}\" count=7\n"
        );
        let json = line.render(LineFormat::Json, Paint::Plain);
        assert_eq!(json.matches('\n').count(), 1);
        let value: Value = serde_json::from_str(&json).unwrap();
        assert_eq!(value["count"], 7);
        assert_eq!(value["error"], "no\nfake line\u{1b}[31m");
        assert!(
            line.render(LineFormat::Text, Paint::Colour)
                .contains("\x1b[33m WARN\x1b[0m")
        );
    }

    #[test]
    fn the_same_is_what_differs_by_numbers_and_by_ports_of_clients_only() {
        let about = |client: &str, address: &str, count: u64| {
            let fields = vec![
                ("client", Said::Shown(client.to_owned())),
                ("address", Said::Shown(address.to_owned())),
                ("count", Said::Plain(count.into())),
            ];
            line("refused", fields).key()
        };
        let one = about("192.0.2.1:4711", "10.0.0.1:80", 1);
        assert_eq!(one, about("192.0.2.1:4712", "10.0.0.1:80", 2));
        assert_ne!(one, about("192.0.2.2:4711", "10.0.0.1:80", 1));
        assert_ne!(one, about("192.0.2.1:4711", "10.0.0.1:81", 1));
    }

    #[test]
    fn a_line_may_stand_for_others() {
        let mut line = line("refused", Vec::new());
        line.stands_for = Some((1_234, Duration::from_secs(10)));
        let text = line.render(LineFormat::Text, Paint::Plain);
        assert!(text.ends_with("refused (1234 more like this within 10 s)\n"));
        let json: Value =
            serde_json::from_str(&line.render(LineFormat::Json, Paint::Plain)).unwrap();
        assert_eq!(
            (&json["repeated"], &json["within_ms"]),
            (&1_234.into(), &10_000.into())
        );
    }
}

//! What people are told, in their words.

use std::time::Duration;

use ipreconnect::core::alert::{Item, Page, PageKind, Severity};
use serde::{Deserialize, Serialize};

use crate::moment::{millis, rfc3339, span};

/// Items that are told one by one.
const ITEMS: usize = 20;

/// One message, as it waits to be delivered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Always 1.
    pub schema: u32,
    /// `firing`, `reminder`, `resolved`, `flapping`, `was_offline` or `test`.
    pub kind: String,
    /// Which gateway tells it.
    pub instance: String,
    /// When, as RFC 3339 has it.
    pub time: String,
    /// `critical` or `warning`: that of the worst item.
    pub severity: String,
    /// One line.
    pub title: String,
    /// What is wrong, or was.
    pub items: Vec<MessageItem>,
}

/// One trouble in a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageItem {
    /// What it is about: an origin's name, or `ipreconnect` itself.
    pub subject: String,
    /// What kind of trouble.
    pub kind: String,
    /// `critical` or `warning`.
    pub severity: String,
    /// What is wrong, in a line.
    pub summary: String,
    /// What a person can look at.
    pub advice: String,
    /// Since when, as RFC 3339 has it.
    pub since: String,
    /// For how many milliseconds.
    pub lasted_ms: u64,
    /// How often, where it comes and goes.
    pub times: usize,
    /// Whether it is so now.
    pub is_on: bool,
}

impl Message {
    /// What a page says at this time.
    #[must_use]
    pub(super) fn of(page: &Page, instance: &str, now: Duration) -> Self {
        let items: Vec<MessageItem> = page.items.iter().map(|item| show(item, now)).collect();
        let is_critical = page
            .items
            .iter()
            .any(|item| item.trouble.severity == Severity::Critical);
        Self {
            schema: 1,
            kind: kind(page.kind).to_owned(),
            instance: instance.to_owned(),
            time: rfc3339(millis(now)),
            severity: severity(is_critical).to_owned(),
            title: title(page),
            items,
        }
    }

    /// A message that only shows that messages come through.
    #[must_use]
    pub fn test(instance: &str, now: Duration) -> Self {
        Self {
            schema: 1,
            kind: "test".to_owned(),
            instance: instance.to_owned(),
            time: rfc3339(millis(now)),
            severity: severity(false).to_owned(),
            title: format!("a test of the alerts of {instance}: nothing is wrong"),
            items: Vec::new(),
        }
    }

    /// Whether it says that something is over, or nothing.
    pub(super) fn is_good(&self) -> bool {
        matches!(self.kind.as_str(), "resolved" | "test")
    }

    /// All of it, as lines.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        for item in self.items.iter().take(ITEMS) {
            text.push_str(&item.line());
            text.push('\n');
        }
        if self.items.len() > ITEMS {
            let more = self.items.len() - ITEMS;
            text.push_str(&format!("and {more} more\n"));
        }
        text.push_str(&format!("told by {} at {}\n", self.instance, self.time));
        text
    }
}

impl MessageItem {
    fn line(&self) -> String {
        let lasted = span(self.lasted_ms);
        let state = match (self.is_on, self.times) {
            (true, 0 | 1) => format!("for {lasted}"),
            (true, times) => format!("{times} times, now again for {lasted}"),
            (false, 0 | 1) => format!("over, after {lasted}"),
            (false, times) => format!("over, after {times} times in {lasted}"),
        };
        let advice = match (self.is_on, self.advice.as_str()) {
            (true, advice) if !advice.is_empty() => format!("; {advice}"),
            _ => String::new(),
        };
        format!("{} ({state}{advice})", self.summary)
    }
}

fn title(page: &Page) -> String {
    let count = page.items.len();
    let first = page.items.first().map(|item| item.trouble.summary.clone());
    let first = first.unwrap_or_default();
    let others = match count.saturating_sub(1) {
        0 => String::new(),
        1 => ", and 1 more".to_owned(),
        more => format!(", and {more} more"),
    };
    match page.kind {
        PageKind::Firing => format!("{first}{others}"),
        PageKind::Reminder => format!("still: {first}{others}"),
        PageKind::Resolved => format!("over: {first}{others}"),
        PageKind::Flapping => format!("comes and goes: {first}{others}"),
        PageKind::WasOffline => {
            let on = page.items.iter().filter(|item| item.is_on).count();
            format!(
                "this machine was cut off; {count} troubles meanwhile, {on} of them still there"
            )
        }
    }
}

fn kind(kind: PageKind) -> &'static str {
    match kind {
        PageKind::Firing => "firing",
        PageKind::Reminder => "reminder",
        PageKind::Resolved => "resolved",
        PageKind::Flapping => "flapping",
        PageKind::WasOffline => "was_offline",
    }
}

fn severity(is_critical: bool) -> &'static str {
    if is_critical { "critical" } else { "warning" }
}

fn show(item: &Item, now: Duration) -> MessageItem {
    let trouble = &item.trouble;
    let lasted = millis(item.lasted);
    MessageItem {
        subject: trouble.subject.to_string(),
        kind: trouble.kind.to_owned(),
        severity: severity(trouble.severity == Severity::Critical).to_owned(),
        summary: trouble.summary.clone(),
        advice: trouble.advice.clone(),
        since: rfc3339(millis(now).saturating_sub(lasted)),
        lasted_ms: lasted,
        times: item.times,
        is_on: item.is_on,
    }
}

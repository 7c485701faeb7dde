//! What origins and listeners that speak HTTP say beside what all say.

use std::time::Duration;

use ipreconnect::core::http::is_token;
use ipreconnect::core::outlier::Passive;
use ipreconnect_proxy::{AskedHost, HashOn, Hedge, HttpSettings};

use super::plan::Protocol;
use super::section::Section;

/// Connections kept ready unless something else is said.
pub(super) const WARM: usize = 2;

/// Tells that a key says nothing of what is not HTTP.
pub(super) fn only_of_http(section: &Section<'_>, key: &'static str, protocol: Protocol) -> bool {
    if !protocol.is_http()
        && let Some(field) = section.field(key)
    {
        field.wrong("goes with protocol = \"http\" or \"h2\" only", "");
    }
    protocol.is_http()
}

/// `retry`.
pub(super) fn retry(section: &Section<'_>, settings: &mut HttpSettings, protocol: Protocol) {
    if !only_of_http(section, "retry", protocol) {
        return;
    }
    let Some(table) = section.table("retry") else {
        return;
    };
    if let Some(attempts) = table.integer("attempts", 1..=10) {
        settings.attempts = u32::try_from(attempts).unwrap_or(settings.attempts);
    }
    if let Some(field) = table.field("budget")
        && let Some(share) = field.float()
    {
        if (0.0..=1.0).contains(&share) {
            settings.budget = share;
        } else {
            field.wrong(
                "must be from 0.0 to 1.0",
                "0.2 is a fifth of the live traffic",
            );
        }
    }
    if let Some(field) = table.field("hedge")
        && let Some(text) = field.text()
    {
        let words = [
            ("off", Hedge::Off),
            ("suspect", Hedge::Suspect),
            ("outlier", Hedge::Outlier),
        ];
        settings.hedge = field.pick(&text, &words).unwrap_or_default();
    }
    if let Some(trusts) = table.boolean("idempotency_key") {
        settings.trusts_keys = trusts;
    }
    table.finish();
}

/// `host`: whom the origin is asked for. Without it, an origin with TLS is asked for the name that its
/// certificate is for, any other one for what the client named.
pub(super) fn host(
    section: &Section<'_>,
    settings: &mut HttpSettings,
    protocol: Protocol,
    own: Option<String>,
    is_tls: bool,
) {
    if !only_of_http(section, "host", protocol) {
        return;
    }
    let field = section.field("host");
    let text = field.as_ref().and_then(|field| field.text());
    let fixed = |host: String| AskedHost::Fixed(host.into());
    settings.host = match (text.as_deref(), own) {
        (None, Some(own)) if is_tls => fixed(own),
        (None | Some("client"), _) => AskedHost::Client,
        (Some("origin"), Some(own)) => fixed(own),
        (Some("origin"), None) => {
            if let Some(field) = &field {
                field.wrong(
                    "cannot be \"origin\": its addresses have no name in common",
                    "",
                );
            }
            AskedHost::Client
        }
        (Some(host), _) => {
            let is_host =
                host.parse::<ipreconnect_proxy::HostPattern>().is_ok() && !host.starts_with('*');
            if let (false, Some(field)) = (is_host, &field) {
                let hint = "\"client\", \"origin\", or a host";
                field.wrong(&format!("cannot be {host:?}"), hint);
            }
            fixed(host.to_owned())
        }
    };
}

/// `health.passive` and `health.max_ejected`.
pub(super) fn passive(health: &Section<'_>, protocol: Protocol) -> Option<Passive> {
    let goes = only_of_http(health, "passive", protocol);
    if !only_of_http(health, "max_ejected", protocol) || !goes {
        return None;
    }
    let mut passive = Passive::default();
    if let Some(field) = health.field("max_ejected")
        && let Some(share) = field.float()
    {
        if (0.0..=1.0).contains(&share) {
            passive.max_ejected = share;
        } else {
            field.wrong("must be from 0.0 to 1.0", "0.5 is half of the endpoints");
        }
    }
    health.boolean("passive").unwrap_or(true).then_some(passive)
}

/// `hash_on`.
pub(super) fn hash_on(section: &Section<'_>, protocol: Protocol) -> HashOn {
    let Some(field) = section.field("hash_on") else {
        return HashOn::default();
    };
    let text = field.text().unwrap_or_default();
    let (kind, name) = text.split_once(':').unwrap_or((&text, ""));
    let hash_on = match (kind, name) {
        ("source", "") => HashOn::Source,
        ("path", "") => HashOn::Path,
        ("header", name) if is_token(name.as_bytes()) => HashOn::Field(name.into()),
        ("cookie", name) if is_token(name.as_bytes()) => HashOn::Cookie(name.into()),
        _ => {
            let hint = "\"source\", \"path\", \"header:NAME\" or \"cookie:NAME\"";
            field.wrong(&format!("cannot be {text:?}"), hint);
            return HashOn::default();
        }
    };
    if hash_on != HashOn::Source && !protocol.is_http() {
        field.wrong(
            &format!("cannot be {text:?}: that needs protocol = \"http\""),
            "",
        );
    }
    hash_on
}

/// `timeouts.first_byte`.
pub(super) fn first_byte(table: &Section<'_>, protocol: Protocol) -> Option<Duration> {
    if !only_of_http(table, "first_byte", protocol) {
        return None;
    }
    table.duration("first_byte")
}

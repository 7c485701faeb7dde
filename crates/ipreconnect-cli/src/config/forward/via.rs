//! `via`: the proxies behind a forward proxy.

use std::fmt;

use ipreconnect::core::forward::{Places, Target};
use ipreconnect_proxy::Speaks;
use url::Url;

use super::Lists;
use crate::config::section::{Field, Section};

/// The ways to some hosts, in order of preference.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ViaPlan {
    /// All, if it is not said.
    pub(crate) to: Option<Places>,
    pub(crate) ways: Vec<WayPlan>,
}

/// One way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum WayPlan {
    /// Straight there.
    Direct,
    Parent(ParentPlan),
}

/// A proxy behind this one.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct ParentPlan {
    /// The origin that it is kept as.
    pub(crate) origin: String,
    /// Its address, as an origin has it.
    pub(crate) address: String,
    pub(crate) speaks: Speaks,
    pub(crate) credentials: Option<(String, String)>,
}

impl fmt::Debug for ParentPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ParentPlan")
            .field("address", &self.address)
            .field("speaks", &self.speaks)
            .finish_non_exhaustive()
    }
}

const HINT: &str = "\"http://proxy.example:3128\", \"https://…\", \"socks5://user:password@proxy.example:1080\", \"direct\", or { to = [\"*.example\"], via = [\"direct\"] }";

/// Reads it: ways, and tables that have ways of their own for some hosts.
pub(super) fn read(field: &Field<'_>, lists: &mut Lists<'_>) -> Vec<ViaPlan> {
    let (mut all, mut others) = (Vec::new(), Vec::new());
    for one in field.one_or_many() {
        if one.is_table() {
            all.extend(one.table().and_then(|table| some(&one, &table, lists)));
        } else {
            others.extend(way(&one));
        }
    }
    if !others.is_empty() {
        all.push(ViaPlan {
            to: None,
            ways: others,
        });
    }
    all
}

/// The ways to some hosts.
fn some(one: &Field<'_>, table: &Section<'_>, lists: &mut Lists<'_>) -> Option<ViaPlan> {
    let to = table.field("to");
    let ways = table.field("via");
    let (Some(to), Some(ways)) = (to, ways) else {
        one.wrong(
            "needs `to`, the hosts that it is for, and `via`, the ways there",
            HINT,
        );
        return None;
    };
    for field in [&to, &ways] {
        if field.one_or_many().is_empty() {
            field.wrong("is empty, and needs one entry at least", HINT);
        }
    }
    let places = lists.read(&to);
    let ways: Vec<WayPlan> = ways.one_or_many().iter().filter_map(way).collect();
    (!ways.is_empty()).then_some(ViaPlan {
        to: Some(places),
        ways,
    })
}

fn way(field: &Field<'_>) -> Option<WayPlan> {
    let text = field.text()?;
    if text == "direct" {
        return Some(WayPlan::Direct);
    }
    match parent(&text) {
        Ok(parent) => Some(WayPlan::Parent(parent)),
        Err(why) => {
            // What stands there may be a secret.
            field.wrong(why, HINT);
            None
        }
    }
}

fn parent(text: &str) -> Result<ParentPlan, &'static str> {
    let url = Url::parse(text).map_err(|_| "has something that is no URL")?;
    let (speaks, scheme) = match url.scheme() {
        "http" => (Speaks::Http, "http"),
        "https" => (Speaks::Http, "https"),
        "socks5" | "socks5h" => (Speaks::Socks5, "tcp"),
        _ => return Err("has a scheme that is not spoken"),
    };
    if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
        return Err("has more than the address of a proxy");
    }
    let host = url.host_str().filter(|host| !host.is_empty());
    let host = host.ok_or("has no host")?;
    // The assigned one of SOCKS (RFC 1928, section 3); no list of URLs has it.
    let known = (speaks == Speaks::Socks5).then_some(1080);
    let port = url.port_or_known_default().or(known).ok_or("has no port")?;
    let target = Target::or_port(host.as_bytes(), port).map_err(|_| "has no host")?;
    let decoded = |text: &str| {
        let decoded = percent_encoding::percent_decode_str(text).decode_utf8();
        decoded.map(|text| text.into_owned())
    };
    let credentials = match (url.username(), url.password()) {
        ("", None) => None,
        (user, password) => {
            let user = decoded(user).map_err(|_| "has a user that is no text")?;
            let password = decoded(password.unwrap_or_default());
            Some((
                user,
                password.map_err(|_| "has a password that is no text")?,
            ))
        }
    };
    Ok(ParentPlan {
        origin: match url.scheme() {
            "http" => target.to_string(),
            // Another one may be at the same place.
            scheme => format!("{}-{target}", scheme.trim_end_matches('h')),
        },
        address: format!("{scheme}://{target}"),
        speaks,
        credentials,
    })
}

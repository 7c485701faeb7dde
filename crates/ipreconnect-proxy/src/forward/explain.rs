//! Whether clients may go somewhere, and why, for people who ask without going there.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ipreconnect::core::forward::{Host, Standing, Target};

use super::Forward;
use super::judge::{ITSELF, Judge};
use super::parent::{Leg, Ways};

/// The rules of a forward proxy, as they are when they are asked.
#[derive(Clone, Debug)]
pub struct Directions(Arc<Forward>);

/// Whether clients may go to one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Direction {
    /// The place, in the one spelling that is judged.
    pub target: String,
    /// What the rules say of it as it is written, if that is no.
    pub denied: Option<String>,
    /// Its addresses, and what the rules say of each, if that is no.
    pub addresses: Vec<(IpAddr, Option<String>)>,
    /// Why it has no address.
    pub nameless: Option<String>,
    /// The proxies behind this one by which it may be gone to, in order: those look it up by themselves.
    pub proxies: Vec<String>,
    /// Whether the rules are enforced.
    pub is_enforced: bool,
}

impl Direction {
    /// Whether clients get there, as far as the rules go.
    #[must_use]
    pub fn is_open(&self) -> bool {
        let is_allowed = |(_, denied): &(IpAddr, Option<String>)| denied.is_none();
        let leads_there = !self.proxies.is_empty() || self.addresses.iter().any(is_allowed);
        !self.is_enforced || self.denied.is_none() && leads_there
    }
}

impl Directions {
    pub(crate) fn new(forward: &Arc<Forward>) -> Self {
        Self(Arc::clone(forward))
    }

    /// Judges where somebody wants to go: `host:port`, `host` (by HTTPS), or a URL. It is looked up, and not gone to.
    ///
    /// # Errors
    /// That it cannot be read, and why.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn explain(&self, to: &str) -> Result<Direction, String> {
        let target = read(to).map_err(|error| error.to_string())?;
        let plan = &self.0.plan;
        let own = Arc::clone(&self.0.own);
        let judged = Judge::new(plan, &target, own);
        let judged = judged.and_then(|judge| Ok((self.0.ways_to(&target, &judge)?, judge)));
        let (denied, standing, ways) = match judged {
            Ok((ways, judge)) => {
                let would_be = judge.would_be().map(ToString::to_string);
                (would_be, judge.standing(), ways)
            }
            Err(refusal) => (Some(refusal.why), Standing::Welcome, Ways::direct()),
        };
        let is_direct = ways.iter().any(|way| matches!(way, Leg::Direct));
        let proxies = ways.iter().filter_map(|way| match way {
            Leg::Direct => None,
            Leg::Parent(asked) => Some(asked.origin().name().to_owned()),
        });
        let mut direction = Direction {
            target: target.to_string(),
            denied,
            addresses: Vec::new(),
            nameless: None,
            proxies: proxies.collect(),
            is_enforced: plan.is_enforced,
        };
        let ips = match &target.host {
            // It is the proxies' to look up.
            _ if !is_direct => Vec::new(),
            Host::Ip(ip) => vec![*ip],
            // What is denied by its name is not asked for.
            Host::Name(_) if direction.denied.is_some() && plan.is_enforced => Vec::new(),
            Host::Name(name) => match plan.names.visit(name, None).await {
                Ok((ips, _)) => ips,
                Err(failure) => {
                    direction.nameless = Some(failure.to_string());
                    Vec::new()
                }
            },
        };
        let judged = ips.into_iter().map(|ip| {
            if self.0.own.is(SocketAddr::new(ip, target.port)) {
                return (ip, Some(ITSELF.to_owned()));
            }
            let denial = plan.policy.judge_address(ip, standing).err();
            (ip, denial.map(|denial| denial.to_string()))
        });
        direction.addresses = judged.collect();
        Ok(direction)
    }
}

/// A place as people write it.
fn read(text: &str) -> Result<Target, ipreconnect::core::forward::TargetError> {
    let (rest, port) = match text.split_once("://") {
        Some(("http" | "ws", rest)) => (rest, 80),
        Some((_, rest)) => (rest, 443),
        None => (text, 443),
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let authority = rest.get(..end).unwrap_or_default();
    Target::or_port(authority.as_bytes(), port)
}

#[cfg(test)]
mod tests {
    use super::read;

    #[test]
    fn places_are_read_as_people_write_them() {
        for (text, wanted) in [
            ("Example.com", "example.com:443"),
            ("example.com:80", "example.com:80"),
            ("http://example.com/a:b", "example.com:80"),
            ("https://example.com:8443?x", "example.com:8443"),
            ("0x7f.1", "127.0.0.1:443"),
            ("[::1]:80", "[::1]:80"),
        ] {
            assert_eq!(read(text).unwrap().to_string(), wanted, "{text}");
        }
        assert!(read("user@example.com").is_err() && read("").is_err());
    }
}

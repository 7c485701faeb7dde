//! What keeps pages of the web away from the programs of this machine.
//!
//! A browser sends requests to `127.0.0.1` for any page that it shows, and a page whose own name is made to lead
//! there (DNS rebinding) may even read the answers. What gives such requests away is what browsers add to them and
//! pages cannot change: the name that is asked for (`Host`), where the page came from (`Origin`), and whether that is
//! the same site (`Sec-Fetch-Site`, W3C Fetch Metadata). Programs that are no browsers send the last two not at all.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use super::field::Known;
use super::method::Method;
use super::request::RequestHead;
use super::route::{HostRule, host_of};

/// Requests that may come in, though browsers may be made to send others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shield {
    names: Vec<HostRule>,
    origins: Vec<WebOrigin>,
}

/// What is foreign about a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Foreign {
    /// It asks for a name that does not lead here.
    Host,
    /// The page that sent it is of another origin.
    Origin,
    /// The page that sent it is of another site.
    Site,
}

impl fmt::Display for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Host => "it asks for a name that does not lead here",
            Self::Origin => "a page of another origin has sent it",
            Self::Site => "a page of another site has sent it",
        })
    }
}

/// Where pages come from that are let in: scheme, host and port (RFC 6454); `*.` before the host stands for one label
/// or more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebOrigin {
    scheme: Box<str>,
    host: HostRule,
    /// With its colon; none is the scheme's own.
    port: Box<str>,
}

/// Why a text is no [`WebOrigin`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WebOriginError {
    /// There is no scheme before it.
    NoScheme,
    /// The host is none.
    Host,
    /// The port is none.
    Port,
    /// Something stands behind it.
    Path,
}

impl fmt::Display for WebOriginError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoScheme => "the scheme is missing",
            Self::Host => "it has no host that pages could come from",
            Self::Port => "the port must be a number from 1 to 65535",
            Self::Path => "an origin has no path",
        })
    }
}

impl std::error::Error for WebOriginError {}

impl WebOrigin {
    /// `https://app.example.com`, `http://localhost:3000`, `https://*.example.com`, `chrome-extension://ID`.
    ///
    /// # Errors
    /// If it is none.
    pub fn new(text: &str) -> Result<Self, WebOriginError> {
        let (scheme, rest) = text.split_once("://").ok_or(WebOriginError::NoScheme)?;
        let is_scheme = scheme.starts_with(|first: char| first.is_ascii_alphabetic())
            && scheme
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'));
        if !is_scheme {
            return Err(WebOriginError::NoScheme);
        }
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if rest.contains(['/', '?', '#']) {
            return Err(WebOriginError::Path);
        }
        let (host, port) = parts(rest.as_bytes());
        let (host, port) = (&rest[..host.len()], &rest[rest.len() - port.len()..]);
        let (name, is_wild) = match host.strip_prefix("*.") {
            Some(name) => (name, true),
            None => (host, false),
        };
        let is_name = |name: &str| {
            !name.is_empty()
                && name
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
        };
        if !is_name(name) && (is_wild || literal(name.as_bytes()).is_none()) {
            return Err(WebOriginError::Host);
        }
        if let Some(port) = port.strip_prefix(':') {
            let number: Option<u16> = port.parse().ok();
            if number.is_none_or(|number| number == 0) {
                return Err(WebOriginError::Port);
            }
        }
        let scheme = scheme.to_ascii_lowercase();
        let is_usual = matches!(
            (scheme.as_str(), port),
            ("http" | "ws", ":80") | ("https" | "wss", ":443")
        );
        Ok(Self {
            scheme: scheme.into(),
            host: if is_wild {
                HostRule::below(name)
            } else {
                HostRule::exact(name)
            },
            port: if is_usual { "" } else { port }.into(),
        })
    }

    fn matches(&self, scheme: &[u8], host: &[u8], port: &[u8]) -> bool {
        scheme.eq_ignore_ascii_case(self.scheme.as_bytes())
            && port == self.port.as_bytes()
            && self.host.matches(host)
    }
}

/// The host of an authority, and what stands behind it, with its colon.
fn parts(authority: &[u8]) -> (&[u8], &[u8]) {
    let end = match authority.first() {
        Some(b'[') => authority.iter().position(|byte| *byte == b']'),
        _ => authority.iter().position(|byte| *byte == b':'),
    };
    let end = match (end, authority.first()) {
        (Some(end), Some(b'[')) => end + 1,
        (Some(end), _) => end,
        (None, _) => authority.len(),
    };
    authority.split_at(end.min(authority.len()))
}

/// The address that a host is, as browsers write it.
fn literal(host: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(host).ok()?;
    match text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'))
    {
        Some(inner) => inner.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        None if text.contains(':') => None,
        None => text.parse().ok(),
    }
}

/// Whether a host is of this machine alone, whatever name servers say (RFC 6761, section 6.3).
fn is_local(host: &[u8]) -> bool {
    let below = host.len().checked_sub(b".localhost".len());
    let is_below = below.is_some_and(|at| host[at..].eq_ignore_ascii_case(b".localhost"));
    host.eq_ignore_ascii_case(b"localhost")
        || is_below
        || literal(host).is_some_and(|ip| ip.to_canonical().is_loopback())
}

impl Shield {
    /// `names` lead here, beside addresses and what ends in `localhost`; pages of `origins` are let in, beside those
    /// of this machine.
    #[must_use]
    pub fn new(names: Vec<HostRule>, origins: Vec<WebOrigin>) -> Self {
        Self { names, origins }
    }

    /// Whether a request may come in. Over TLS the name is not looked at: there the certificate has proven it.
    ///
    /// # Errors
    /// What is foreign about it.
    pub fn judge(&self, head: &RequestHead, text: &[u8], is_sealed: bool) -> Result<(), Foreign> {
        let authority = head.host.span().map_or(&b""[..], |span| span.of(text));
        if !is_sealed && !self.is_ours(host_of(authority)) {
            return Err(Foreign::Host);
        }
        let mut sent_by_friend = false;
        let mut said = Said::default();
        for field in &head.fields {
            let value = field.value.of(text);
            match field.known {
                Known::Origin if self.is_friend(value) => sent_by_friend = true,
                Known::Origin if is_same(value, authority) => {}
                // So a form comes from a page that tells nobody where it leads from (`Referrer-Policy: no-referrer`).
                Known::Origin if value == b"null" => said.is_nameless = true,
                Known::Origin => return Err(Foreign::Origin),
                // Pictures and scripts are asked for without an origin. A page can leave this out, and cannot lie.
                Known::Referer if self.is_friend(origin_of(value)) => sent_by_friend = true,
                Known::SecFetchSite => said.site(value),
                Known::SecFetchMode => said.is_navigation = value == b"navigate",
                Known::SecFetchDest => said.is_document = value == b"document",
                _ => {}
            }
        }
        if said.is_nameless && !said.is_same {
            return Err(Foreign::Origin);
        }
        if sent_by_friend || !said.is_foreign || said.only_leads_here(head.method) {
            return Ok(());
        }
        Err(Foreign::Site)
    }

    /// An address is nobody's name, and no name server can make it lead elsewhere.
    fn is_ours(&self, host: &[u8]) -> bool {
        // Without a name: no browser sends that.
        host.is_empty()
            || literal(host).is_some_and(|ip| !ip.to_canonical().is_unspecified())
            || is_local(host)
            || self.names.iter().any(|rule| rule.matches(host))
            || self.origins.iter().any(|one| one.host.matches(host))
    }

    /// Whether pages from there are let in: they are named, or come from this machine, though from another port.
    fn is_friend(&self, origin: &[u8]) -> bool {
        let Some((scheme, host, port)) = split(origin) else {
            return false;
        };
        (is_local(host) && is_web(scheme))
            || self
                .origins
                .iter()
                .any(|one| one.matches(scheme, host, port))
    }
}

/// What browsers say of a request.
#[derive(Clone, Copy, Debug, Default)]
struct Said {
    is_foreign: bool,
    /// The page that has sent it is of the very origin that it asks.
    is_same: bool,
    is_nameless: bool,
    is_navigation: bool,
    is_document: bool,
}

impl Said {
    fn site(&mut self, value: &[u8]) {
        self.is_same = value == b"same-origin" && !self.is_foreign;
        self.is_foreign |= !matches!(value, b"same-origin" | b"same-site" | b"none");
    }

    /// Whether it only leads here, by a link or a script: the page that it is on sees nothing of the answer. That is how
    /// a login ends that was begun here.
    fn only_leads_here(self, method: Method) -> bool {
        self.is_navigation && self.is_document && matches!(method, Method::Get | Method::Head)
    }
}

fn is_web(scheme: &[u8]) -> bool {
    scheme.eq_ignore_ascii_case(b"http") || scheme.eq_ignore_ascii_case(b"https")
}

/// Whether a page comes from what it asks.
fn is_same(origin: &[u8], authority: &[u8]) -> bool {
    split(origin).is_some_and(|(scheme, host, port)| {
        let (own, own_port) = parts(authority);
        is_web(scheme) && host.eq_ignore_ascii_case(own) && port == own_port
    })
}

/// The origin of an address.
fn origin_of(url: &[u8]) -> &[u8] {
    let start = url.windows(3).position(|three| three == b"://");
    let rest = start.and_then(|at| url.get(at + 3..)).unwrap_or_default();
    let end = rest
        .iter()
        .position(|byte| matches!(byte, b'/' | b'?' | b'#'));
    let behind = end.map_or(0, |end| rest.len() - end);
    url.get(..url.len() - behind).unwrap_or_default()
}

/// Scheme, host and port of an origin as browsers write it; `null` has none.
fn split(origin: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let at = origin.windows(3).position(|three| three == b"://")?;
    let (scheme, rest) = origin.split_at(at);
    let rest = rest.get(3..).filter(|rest| !rest.contains(&b'@'))?;
    let (host, port) = parts(rest);
    Some((scheme, host, port))
}

#[cfg(test)]
mod tests;

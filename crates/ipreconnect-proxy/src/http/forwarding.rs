//! What origins are told of the client, and who it is.

use std::net::IpAddr;

use ipnet::IpNet;
use ipreconnect::core::http::{Known, RequestHead, TRACEPARENT, Version, client_of, is_trusted};

use super::render;
use super::trail::Trail;
use crate::forward::{Headers, is_pseudonym};

/// A request that has passed more proxies goes no further.
pub(super) const HOPS: usize = 32;

/// What becomes of `X-Forwarded-For`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Chain {
    /// It names the client alone.
    #[default]
    Replaced,
    /// What is there stays, and the peer is added.
    Appended,
    /// The origin learns nothing of the client.
    Deleted,
    /// What the client wrote passes as it is.
    Untouched,
}

/// What origins are told of clients.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Forwarding {
    /// Peers that are believed: proxies of one's own.
    pub trust: Vec<IpNet>,
    /// What becomes of what is told already.
    pub chain: Chain,
    /// Whether it is told as RFC 7239 wants it, too.
    pub standard: bool,
}

/// One request's client.
pub(super) struct Told<'t> {
    forwarding: &'t Forwarding,
    /// The other end of the connection; none of a Unix socket.
    peer: Option<IpAddr>,
    peer_text: &'t str,
    scheme: &'t str,
    is_believed: bool,
    /// What the client has shown was for us.
    hides_credentials: bool,
    /// What is told by a forward proxy.
    through: Option<(Headers, &'t str)>,
    /// Whom a proxy behind this one is to ask, and what shows it who we are.
    beyond: Option<(&'t str, Option<&'t str>)>,
    /// Where the request belongs in a trace.
    trace: Option<[u8; TRACEPARENT]>,
    /// The trace begins here.
    is_root: bool,
}

impl<'t> Told<'t> {
    pub(super) fn new(
        forwarding: &'t Forwarding,
        peer: Option<IpAddr>,
        peer_text: &'t str,
        scheme: &'t str,
    ) -> Self {
        let trust = &forwarding.trust;
        Self {
            forwarding,
            peer,
            peer_text,
            scheme,
            hides_credentials: false,
            through: None,
            beyond: None,
            trace: None,
            is_root: false,
            is_believed: !trust.is_empty() && peer.is_some_and(|peer| is_trusted(trust, peer)),
        }
    }

    /// The same, where what the client has shown was for us, and is nothing to the origin.
    pub(super) fn hiding_credentials(mut self, hides: bool) -> Self {
        self.hides_credentials = hides;
        self
    }

    /// The same, where the client has said where it wants to go.
    pub(super) fn through(mut self, headers: Headers, pseudonym: &'t str) -> Self {
        self.through = Some((headers, pseudonym));
        self
    }

    /// The same, where another proxy is asked to carry it out.
    pub(super) fn beyond(mut self, authority: &'t str, authorization: Option<&'t str>) -> Self {
        self.beyond = Some((authority, authorization));
        self
    }

    /// Whom a proxy behind this one is to ask.
    pub(super) fn authority(&self) -> Option<&'t str> {
        self.beyond.map(|(authority, _)| authority)
    }

    /// The same, for a request that is traced: the origin belongs under us.
    pub(super) fn tracing(mut self, trail: Option<&Trail>) -> Self {
        // Where clients go is no part of what happens here.
        if self.through.is_some() {
            return self;
        }
        self.trace = trail.map(Trail::told);
        self.is_root = trail.is_some_and(Trail::is_root);
        self
    }

    /// Whether a field passes that is none of those that are known.
    pub(super) fn passes_name(&self, name: &[u8]) -> bool {
        let is = |other: &[u8]| name.eq_ignore_ascii_case(other);
        let hides = matches!(self.through, Some((Headers::Hide, _)));
        !(hides && is(b"via")
            || self.hides_credentials && is(b"authorization")
            || self.trace.is_some() && is(b"traceparent")
            || self.is_root && is(b"tracestate"))
    }

    /// Who it is, if that is not the other end of the connection.
    pub(super) fn client(&self, head: &RequestHead, text: &[u8]) -> Option<IpAddr> {
        let peer = self.peer.filter(|_| self.is_believed)?;
        let chain = head.fields.iter();
        let chain = chain.filter(|field| field.known == Known::XForwardedFor);
        let fields = chain.map(|field| field.value.of(text));
        Some(client_of(peer, fields, &self.forwarding.trust))
    }

    /// The scheme of the URL that the origin is told to be asked for, and what else it is told of that URL, for
    /// a key of it.
    pub(super) fn asked_by(&self, head: &RequestHead, text: &[u8]) -> (&'t str, Vec<u8>) {
        let mut more = Vec::new();
        let mut scheme = None;
        for field in &head.fields {
            let of_url = matches!(
                field.known,
                Known::XForwardedProto | Known::XForwardedHost | Known::Forwarded
            );
            if !of_url || !self.passes(field.known) {
                continue;
            }
            let value = field.value.of(text).trim_ascii();
            let named = match value {
                b"http" => Some("http"),
                b"https" => Some("https"),
                _ => None,
            };
            if field.known == Known::XForwardedProto && scheme.is_none() && named.is_some() {
                scheme = named;
            } else {
                more.push(b' ');
                more.extend(field.name.of(text).iter().map(u8::to_ascii_lowercase));
                more.push(b'=');
                more.extend_from_slice(value);
            }
        }
        // Who says where to go says by which scheme, too.
        let scheme = match (self.through, head.is_secure) {
            (Some(_), true) => Some("https"),
            (Some(_), false) => Some("http"),
            (None, _) => scheme,
        };
        (scheme.unwrap_or(self.scheme), more)
    }

    /// Whether a field passes that tells of clients.
    pub(super) fn passes(&self, known: Known) -> bool {
        let chain = match self.through {
            None => self.forwarding.chain,
            Some((Headers::Hide, _)) => Chain::Deleted,
            Some((Headers::Tell | Headers::Untouched, _)) => Chain::Untouched,
        };
        match known {
            Known::XForwardedFor
            | Known::XForwardedProto
            | Known::XForwardedHost
            | Known::XRealIp
            | Known::Forwarded => match (chain, known) {
                (Chain::Untouched, _) => true,
                (Chain::Deleted, _) => false,
                // What a trusted proxy says of the client's way to it is all that is known of that.
                (_, Known::XForwardedProto | Known::XForwardedHost) => self.is_believed,
                (Chain::Appended, Known::XForwardedFor) => true,
                _ => false,
            },
            _ => true,
        }
    }

    /// Writes what the origin is told; `asked` is the host that the client named, where the origin is
    /// asked for another one.
    pub(super) fn write(
        &self,
        out: &mut Vec<u8>,
        head: &RequestHead,
        text: &[u8],
        asked: Option<&[u8]>,
    ) {
        if let Some(trace) = &self.trace {
            render::line(out, b"traceparent", trace);
        }
        if let Some((_, Some(authorization))) = self.beyond {
            let authorization = authorization.as_bytes();
            render::line(out, b"Proxy-Authorization", authorization);
        }
        if let Some((headers, pseudonym)) = self.through {
            match (headers, self.beyond) {
                (Headers::Tell, _) => self.write_through(out, head.version, pseudonym),
                // By this a chain of proxies that leads back is found.
                (Headers::Hide, Some(_)) => {
                    render::line(out, b"Via", hops(head, text, pseudonym).as_bytes());
                }
                (Headers::Untouched, Some(_)) => {
                    let via = format!("1.1 {pseudonym}");
                    render::line(out, b"Via", via.as_bytes());
                }
                (Headers::Hide | Headers::Untouched, None) => {}
            }
            return;
        }
        if matches!(self.forwarding.chain, Chain::Untouched | Chain::Deleted) {
            return;
        }
        let client = self.client(head, text).map(|client| client.to_string());
        let client = client.as_deref().unwrap_or(self.peer_text);
        if !client.is_empty() {
            let last = match self.forwarding.chain {
                Chain::Appended => self.peer_text,
                _ => client,
            };
            render::line(out, b"X-Forwarded-For", last.as_bytes());
            render::line(out, b"X-Real-IP", client.as_bytes());
        }
        let has = |known| self.is_believed && head.value(text, known).is_some();
        if !has(Known::XForwardedProto) {
            render::line(out, b"X-Forwarded-Proto", self.scheme.as_bytes());
        }
        if let Some(asked) = asked
            && !has(Known::XForwardedHost)
        {
            render::line(out, b"X-Forwarded-Host", asked);
        }
        if self.forwarding.standard {
            self.write_standard(out, client, head, text);
        }
    }

    /// On whose behalf a forward proxy asks, and that it does (RFC 9110, section 7.6.3). Each is one more element of
    /// whatever is there.
    fn write_through(&self, out: &mut Vec<u8>, version: Version, pseudonym: &str) {
        if !self.peer_text.is_empty() {
            render::line(out, b"X-Forwarded-For", self.peer_text.as_bytes());
            let value = format!("for={}", node(self.peer_text));
            render::line(out, b"Forwarded", value.as_bytes());
        }
        let version = match version {
            Version::Http10 => "1.0",
            Version::Http11 => "1.1",
        };
        let via = format!("{version} {pseudonym}");
        render::line(out, b"Via", via.as_bytes());
    }

    /// `Forwarded` (RFC 7239).
    fn write_standard(&self, out: &mut Vec<u8>, client: &str, head: &RequestHead, text: &[u8]) {
        let mut value = format!("for={};proto={}", node(client), self.scheme).into_bytes();
        if let Some(host) = head.host.span().filter(|host| !host.is_empty()) {
            value.extend_from_slice(b";host=\"");
            value.extend_from_slice(host.of(text));
            value.push(b'"');
        }
        render::line(out, b"Forwarded", &value);
    }
}

/// The proxies of this kind that a request has passed, with this one, which has that `pseudonym`, and nothing else of what it says of its way.
pub(super) fn hops(head: &RequestHead, text: &[u8], pseudonym: &str) -> String {
    let fields = head.fields.iter();
    let fields = fields.filter(|field| field.name.of(text).eq_ignore_ascii_case(b"via"));
    let elements = fields.flat_map(|field| field.value.of(text).split(|byte| *byte == b','));
    let named = elements.filter_map(|element| {
        let name = element.trim_ascii().split(u8::is_ascii_whitespace).nth(1)?;
        let name = std::str::from_utf8(name).ok()?;
        is_pseudonym(name).then(|| format!("1.1 {name}, "))
    });
    let mut hops: String = named.take(HOPS).collect();
    hops.push_str("1.1 ");
    hops.push_str(pseudonym);
    hops
}

/// A client as `Forwarded` has it (RFC 7239, section 6).
fn node(client: &str) -> String {
    if client.contains(':') {
        format!("\"[{client}]\"")
    } else if client.is_empty() {
        "unknown".to_owned()
    } else {
        client.to_owned()
    }
}

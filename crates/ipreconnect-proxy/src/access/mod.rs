//! Who may come in at a listener: its rules, and what they need to know of a client.

mod here;
mod reverse;

use std::net::IpAddr;
use std::sync::Arc;

use ipreconnect::core::access::{
    Host, Maps, Method, Mismatch, Names, Rule, Rules, Source, Verdict, Visitor, World,
};

pub(crate) use here::{Entering, source_of};

/// The rules of a listener. Its copies are one.
#[derive(Clone, Debug)]
pub struct Access(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    rules: Rules,
    maps: Maps,
    /// What a client is goes beyond its address.
    needs_more: bool,
}

/// Why a client is not let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// No rule is for it.
    NoRule,
    /// What a proxy says of it cannot be read, or is missing.
    Header(&'static str),
    /// This rule says so, or what it demands is not there.
    Rule { place: String, why: &'static str },
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NoRule => f.write_str("no access rule is for it"),
            Self::Header(why) => f.write_str(why),
            Self::Rule { place, why } => write!(f, "the rule at {place} {why}"),
        }
    }
}

impl Default for Access {
    /// This machine is trusted: what comes over Unix sockets and the loopback interface.
    fn default() -> Self {
        Self::new(ipreconnect::core::access::this_machine(), Maps::default())
    }
}

impl PartialEq for Access {
    fn eq(&self, other: &Self) -> bool {
        self.0.rules.all() == other.0.rules.all() && self.0.maps == other.0.maps
    }
}

impl Access {
    /// By these rules, in this order.
    #[must_use]
    pub fn new(rules: Vec<Rule>, maps: Maps) -> Self {
        let needs_more = rules
            .iter()
            .any(|rule| rule.needs_host() || rule.needs_name() || rule.method == Method::Peer);
        Self(Arc::new(Inner {
            rules: Rules::new(rules, Names::Proven),
            maps,
            needs_more,
        }))
    }

    /// The rules, in order.
    #[must_use]
    pub fn rules(&self) -> &[Rule] {
        self.0.rules.all()
    }

    /// Decides where nothing but the source of a client counts; `None` if more does.
    pub(crate) fn at_once(&self, source: Source) -> Option<Result<(), Refusal>> {
        if self.0.needs_more {
            return None;
        }
        Some(self.judge(source, &here::Strange))
    }

    /// Decides on a client.
    ///
    /// Cancel safety: nothing is lost.
    pub(crate) async fn admit(&self, entering: &Entering<'_>) -> Result<(), Refusal> {
        let mut here = here::Here::new(entering, &self.0.maps);
        loop {
            let visitor = nameless(entering.source);
            if let (Verdict::NeedsHost, Source::Ip(address)) =
                (self.0.rules.decide(&visitor, &here), entering.source)
            {
                here.is_named(reverse::host(address).await);
                continue;
            }
            return self.judge(entering.source, &here);
        }
    }

    fn judge(&self, source: Source, world: &dyn World) -> Result<(), Refusal> {
        let rule = match self.0.rules.decide(&nameless(source), world) {
            Verdict::Rule(rule) => rule,
            Verdict::None | Verdict::NeedsHost => return Err(Refusal::NoRule),
        };
        let why = match rule.method {
            Method::Trust => return Ok(()),
            Method::Peer if world.proven(rule).is_some() => return Ok(()),
            Method::Peer => "asks who it is, and that cannot be known, or has no name in its map",
            Method::Reject => "refuses it",
            Method::Password | Method::ScramSha256 | Method::Cert | Method::Other(_) => {
                "asks for what nobody can show here"
            }
        };
        Err(Refusal::Rule {
            place: place(rule),
            why,
        })
    }

    /// Every rule up to the one that decides on such a client, why those before it do not, and what becomes
    /// of the client. `user` is who it is proven to be.
    pub async fn explain(&self, source: Source, user: Option<&str>) -> Explanation {
        // Of whom comes from elsewhere nobody knows who he is.
        let is_here = match source {
            Source::Local => true,
            Source::Ip(address) => address.is_loopback(),
        };
        let mut world = here::Imagined {
            user: user
                .filter(|_| is_here)
                .map(|user| user.as_bytes().to_vec()),
            maps: &self.0.maps,
            host: None,
        };
        if let Source::Ip(address) = source
            && self.rules().iter().any(Rule::needs_host)
        {
            world.host = reverse::host(address).await;
        }
        let visitor = nameless(source);
        let steps = self.0.rules.explain(&visitor, &world);
        Explanation {
            steps: steps
                .map(|(rule, mismatch)| Step {
                    place: place(rule),
                    text: rule.text().to_owned(),
                    method: rule.method,
                    mismatch,
                })
                .collect(),
            host: match world.host() {
                Host::Named(host) => Some(host.to_owned()),
                Host::None | Host::Unknown => None,
            },
            refusal: self
                .judge(source, &world)
                .err()
                .map(|refusal| refusal.to_string()),
        }
    }
}

/// Why a client is let in, or is not.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// The rules that were looked at, in order; the last one decides if it has no mismatch.
    pub steps: Vec<Step>,
    /// The name of the client's host, where a rule asks for it and it has one.
    pub host: Option<String>,
    /// Why it is refused; none if it is let in.
    pub refusal: Option<String>,
}

/// One rule that was looked at.
#[derive(Clone, Debug)]
pub struct Step {
    /// File and line.
    pub place: String,
    /// The rule.
    pub text: String,
    /// What it demands.
    pub method: Method,
    /// Why it is not for the client; none if it decides.
    pub mismatch: Option<Mismatch>,
}

fn place(rule: &Rule) -> String {
    let file = rule.place.file.display();
    match rule.place.line {
        0 => file.to_string(),
        line => format!("{file}:{line}"),
    }
}

/// Whoever comes so says nothing of himself.
fn nameless<'v>(source: Source) -> Visitor<'v> {
    Visitor {
        source,
        is_tls: false,
        user: None,
        database: None,
        is_replication: false,
    }
}

/// An address as rules see it.
#[must_use]
pub fn source(address: Option<IpAddr>) -> Source {
    address.map_or(Source::Local, |address| Source::Ip(address.to_canonical()))
}

//! Who may come in at a listener: its rules, and what they need to know of a client.

mod here;
mod reverse;
mod scram;
mod slow;
mod users;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use ipreconnect::core::access::{
    ClientCert, Foreign, Host, Maps, Method, Mismatch, Names, Roles, Rule, Rules, Source, Verdict,
    Visitor, World,
};
use ipreconnect::core::postgres::StartUp;

use here::{Here, Who};

pub(crate) use here::{Entering, source_of};
pub(crate) use reverse::network;
pub(crate) use scram::Exchange;
pub(crate) use slow::attempt;
pub(crate) use users::Fit;
pub use users::{Users, UsersMistake, verifier};

/// What rules go by.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AccessSettings {
    /// The rules, in order.
    pub rules: Vec<Rule>,
    /// Which users of the system may have which names.
    pub maps: Maps,
    /// Who belongs to which role.
    pub roles: Roles,
    /// Whose passwords are known.
    pub users: Option<Arc<Users>>,
    /// How a client can be asked who it is.
    pub asking: Asking,
}

/// How clients can be asked who they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Asking {
    /// They cannot.
    #[default]
    Not,
    /// In the words of HTTP (RFC 7617).
    Http,
    /// In those of PostgreSQL. What is not asked here, the server behind asks.
    Postgres,
}

/// The rules of a listener. Its copies are one.
#[derive(Clone, Debug)]
pub struct Access(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    rules: Rules,
    maps: Maps,
    roles: Roles,
    users: Option<Arc<Users>>,
    asking: Asking,
    /// What a client is goes beyond its address.
    needs_more: bool,
    /// A rule asks for a certificate.
    needs_certificate: bool,
    /// Whom each rule has refused, and at the end those whom no rule was for.
    refused: Box<[AtomicU64]>,
}

/// What becomes of a client that is not refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// It comes in.
    LetIn,
    /// It comes in if the server behind asks it who it is.
    LetServerAsk(Box<str>),
    /// It has to show that it knows the password of its name.
    Ask(Way),
}

/// How a password is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    ClearText,
    Scram,
}

/// Why a client is not let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// No rule is for it.
    NoRule,
    /// What it says, or a proxy says of it, cannot be read, or is missing.
    Header(&'static str),
    /// The password that it shows is not that of this user.
    Password(String),
    /// Too many passwords of this user were wrong to look at one more now.
    Guesses(String),
    /// This rule says so, or what it demands is not there.
    Rule {
        number: usize,
        place: String,
        method: Method,
        why: &'static str,
    },
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NoRule => f.write_str("no access rule is for it"),
            Self::Header(why) => f.write_str(why),
            Self::Password(user) => write!(f, "the password of user {user:?} is another one"),
            Self::Guesses(user) => write!(
                f,
                "too many passwords of user {user:?} were wrong from there to look at one more now"
            ),
            Self::Rule { place, why, .. } => write!(f, "the rule at {place} {why}"),
        }
    }
}

/// Why a client does not come in that would have to show a certificate.
pub(crate) const NO_CERTIFICATE: &str = "asks for a certificate, and none was shown";

impl Default for Access {
    /// This machine is trusted: what comes over Unix sockets and the loopback interface.
    fn default() -> Self {
        Self::new(AccessSettings {
            rules: ipreconnect::core::access::this_machine(),
            ..AccessSettings::default()
        })
    }
}

impl PartialEq for Access {
    fn eq(&self, other: &Self) -> bool {
        let (one, other) = (&self.0, &other.0);
        one.rules.all() == other.rules.all()
            && one.maps == other.maps
            && one.roles == other.roles
            && one.users == other.users
            && one.asking == other.asking
    }
}

impl Access {
    /// By these rules, in their order.
    #[must_use]
    pub fn new(settings: AccessSettings) -> Self {
        let AccessSettings {
            rules,
            maps,
            roles,
            users,
            asking,
        } = settings;
        let asks = |rule: &Rule| match rule.method {
            Method::Trust | Method::Reject => rule.client_cert != ClientCert::Off,
            _ => true,
        };
        let refused = (0..=rules.len()).map(|_| AtomicU64::new(0)).collect();
        let needs_more = |rule: &Rule| rule.needs_host() || rule.needs_name() || asks(rule);
        Self(Arc::new(Inner {
            needs_more: asking == Asking::Postgres || rules.iter().any(needs_more),
            needs_certificate: rules.iter().any(|rule| rule.client_cert != ClientCert::Off),
            rules: Rules::new(
                rules,
                match asking {
                    Asking::Postgres => Names::Said,
                    Asking::Not | Asking::Http => Names::Proven,
                },
            ),
            maps,
            roles,
            users,
            asking,
            refused,
        }))
    }

    /// The rules, in order.
    #[must_use]
    pub fn rules(&self) -> &[Rule] {
        self.0.rules.all()
    }

    /// How clients can be asked who they are.
    #[must_use]
    pub fn asking(&self) -> Asking {
        self.0.asking
    }

    /// Whether passwords are known here.
    #[must_use]
    pub fn has_users(&self) -> bool {
        self.0.users.is_some()
    }

    /// Whose passwords are known.
    pub(crate) fn users(&self) -> Option<&Arc<Users>> {
        self.0.users.as_ref()
    }

    /// Whether a client can only be judged when its TLS is open.
    pub(crate) fn needs_certificate(&self) -> bool {
        self.0.needs_certificate
    }

    /// Decides where nothing but the source of a client counts; `None` if more does.
    pub(crate) fn at_once(&self, source: Source) -> Option<Result<(), Refusal>> {
        if self.0.needs_more {
            return None;
        }
        let here = Here::new(&self.0, Who::Stranger);
        let judged = self.judge(&visitor(source), &here);
        self.count(judged.as_ref().err());
        Some(judged.map(|_| ()))
    }

    /// Decides on a client.
    ///
    /// Cancel safety: nothing is lost.
    pub(crate) async fn admit(&self, entering: &Entering<'_>) -> Result<Admission, Refusal> {
        let visitor = Visitor {
            is_tls: entering.is_tls,
            ..said(entering.source, entering.said)
        };
        self.decide(&visitor, Here::new(&self.0, Who::Entering(entering)))
            .await
    }

    /// Decides on a client that says its name, and has nothing to prove it but a password.
    ///
    /// Cancel safety: nothing is lost.
    pub(crate) async fn admit_named(
        &self,
        source: Source,
        user: &[u8],
    ) -> Result<Admission, Refusal> {
        let visitor = Visitor {
            user: Some(user),
            ..visitor(source)
        };
        self.decide(&visitor, Here::new(&self.0, Who::Told(None)))
            .await
    }

    async fn decide(
        &self,
        visitor: &Visitor<'_>,
        mut here: Here<'_>,
    ) -> Result<Admission, Refusal> {
        if let (Verdict::NeedsHost, Source::Ip(address)) =
            (self.0.rules.decide(visitor, &here), visitor.source)
        {
            here.is_named(reverse::host(address).await);
        }
        let judged = self.judge(visitor, &here);
        self.count(judged.as_ref().err());
        judged
    }

    fn count(&self, refusal: Option<&Refusal>) {
        let number = match refusal {
            Some(Refusal::NoRule) => self.0.refused.len().checked_sub(1),
            Some(Refusal::Rule { number, .. }) => Some(*number),
            _ => None,
        };
        if let Some(count) = number.and_then(|number| self.0.refused.get(number)) {
            count.fetch_add(1, Relaxed);
        }
    }

    /// Whom rules have refused since they are in force: the place and the text of each rule that has refused
    /// somebody, and how many; without a rule, those whom none was for.
    #[must_use]
    pub fn refusals(&self) -> Vec<(Option<(String, String)>, u64)> {
        let rules = self.rules().iter().map(Some).chain([None]);
        let counted = rules.zip(&self.0.refused);
        let counted = counted.map(|(rule, count)| (rule, count.load(Relaxed)));
        let shown = |rule: &Rule| (place(rule), rule.text().to_owned());
        counted
            .filter(|(_, count)| *count > 0)
            .map(|(rule, count)| (rule.map(shown), count))
            .collect()
    }

    /// Whether somebody from there may come in at all, whoever it is, inside TLS or not.
    pub(crate) fn knows(&self, source: Source) -> bool {
        let here = Here::new(&self.0, Who::Stranger);
        [true, false].into_iter().any(|is_tls| {
            let visitor = Visitor {
                is_tls,
                ..visitor(source)
            };
            let rules = &self.0.rules;
            rules.may_admit(&visitor, &here, |method| method != Method::Reject)
        })
    }

    fn judge(&self, visitor: &Visitor<'_>, here: &Here<'_>) -> Result<Admission, Refusal> {
        let rules = &self.0.rules;
        let rule = match rules.decide(visitor, here) {
            Verdict::Rule(rule) => rule,
            // Who has said no name yet may be asked for one.
            Verdict::None | Verdict::NeedsHost
                if self.0.asking == Asking::Http
                    && visitor.user.is_none()
                    && self.0.users.is_some()
                    && rules.may_admit(visitor, here, is_password) =>
            {
                return Ok(Admission::Ask(Way::ClearText));
            }
            Verdict::None | Verdict::NeedsHost => return Err(Refusal::NoRule),
        };
        self.by_rule(rule, visitor, here)
            .map_err(|why| Refusal::Rule {
                number: rules.number(rule).unwrap_or(usize::MAX),
                place: place(rule),
                method: rule.method,
                why,
            })
    }

    /// What a rule demands of a client that it is for.
    fn by_rule(
        &self,
        rule: &Rule,
        visitor: &Visitor<'_>,
        here: &Here<'_>,
    ) -> Result<Admission, &'static str> {
        let user = visitor.user;
        match rule.client_cert {
            ClientCert::Verified | ClientCert::Named if !here.has_certificate() => {
                return Err(NO_CERTIFICATE);
            }
            ClientCert::Named if !here.is_certified(rule, user) => {
                return Err("asks for a certificate, and that of the client has another name");
            }
            ClientCert::Off | ClientCert::Verified | ClientCert::Named => {}
        }
        match rule.method {
            // The certificate was looked at.
            Method::Trust | Method::Cert => Ok(Admission::LetIn),
            Method::Reject => Err("refuses it"),
            Method::Peer if here.is_peer(rule, user) => Ok(Admission::LetIn),
            Method::Peer => {
                Err("asks who it is, and that cannot be known, or may not have the name")
            }
            method => match (self.0.asking, &self.0.users) {
                (Asking::Postgres | Asking::Http, Some(_)) if is_password(method) => {
                    Ok(Admission::Ask(match method {
                        Method::Password => Way::ClearText,
                        _ => Way::Scram,
                    }))
                }
                // The server behind is to ask.
                (Asking::Postgres, None) => Ok(Admission::LetServerAsk(place(rule).into())),
                _ => Err("asks for what nobody can show here"),
            },
        }
    }

    /// Every rule up to the one that decides on such a client, why those before it do not, and what becomes
    /// of the client. `user` is who it is proven to be, or who it says to be where that is said.
    pub async fn explain(&self, asked: &Asked<'_>) -> Explanation {
        // Of whom comes from elsewhere nobody knows who he is.
        let is_here = match asked.source {
            Source::Local => true,
            Source::Ip(address) => address.is_loopback(),
        };
        let user = asked.user.map(str::as_bytes);
        let mut here = Here::new(&self.0, Who::Told(user.filter(|_| is_here)));
        if let Source::Ip(address) = asked.source
            && self.rules().iter().any(Rule::needs_host)
        {
            here.is_named(reverse::host(address).await);
        } else {
            here.is_named(None);
        }
        let is_said = match self.0.asking {
            Asking::Postgres => true,
            Asking::Http => self.0.users.is_some(),
            Asking::Not => false,
        };
        let visitor = Visitor {
            source: asked.source,
            is_tls: asked.is_tls,
            user: user.filter(|_| is_said),
            database: asked.database.map(str::as_bytes).or(user),
            is_replication: asked.database == Some("replication"),
        };
        let steps = self.0.rules.explain(&visitor, &here);
        let judged = self.judge(&visitor, &here);
        Explanation {
            steps: steps
                .map(|(rule, mismatch)| Step {
                    place: place(rule),
                    text: rule.text().to_owned(),
                    method: rule.method,
                    mismatch,
                })
                .collect(),
            host: match here.host() {
                Host::Named(host) => Some(host.to_owned()),
                Host::None | Host::Unknown => None,
            },
            asks: matches!(judged, Ok(Admission::Ask(_))),
            refusal: judged.err().map(|refusal| refusal.to_string()),
        }
    }
}

/// Of whom somebody asks whether he would come in.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// Where he comes from.
    pub source: Source,
    /// Who he is.
    pub user: Option<&'a str>,
    /// What he wants; the database of his own name without it.
    pub database: Option<&'a str>,
    /// He comes inside TLS.
    pub is_tls: bool,
}

/// Why a client is let in, or is not.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// The rules that were looked at, in order; the last one decides if it has no mismatch.
    pub steps: Vec<Step>,
    /// The name of the client's host, where a rule asks for it and it has one.
    pub host: Option<String>,
    /// It has to show its password here.
    pub asks: bool,
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

/// Whether a method asks for a password, in whichever way.
fn is_password(method: Method) -> bool {
    matches!(
        method,
        Method::Password | Method::ScramSha256 | Method::Other(Foreign::Md5)
    )
}

/// Whoever says nothing of himself.
fn visitor<'v>(source: Source) -> Visitor<'v> {
    Visitor {
        source,
        is_tls: false,
        user: None,
        database: None,
        is_replication: false,
    }
}

fn said(source: Source, said: Option<&StartUp>) -> Visitor<'_> {
    match said {
        None => visitor(source),
        Some(said) => Visitor {
            user: Some(&said.user),
            database: Some(&said.database),
            is_replication: said.is_replication,
            ..visitor(source)
        },
    }
}

/// An address as rules see it.
#[must_use]
pub fn source(address: Option<IpAddr>) -> Source {
    address.map_or(Source::Local, |address| Source::Ip(address.to_canonical()))
}

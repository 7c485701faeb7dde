//! Where the requests of a listener go, and what is changed about them.

use std::cell::RefCell;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ipreconnect::core::dice::Dice;
use ipreconnect::core::forward::Target;
use ipreconnect::core::http::{
    Asked, Field, Known, RequestHead, RouteRule, Shield, cookie, host_of, normal, path_of, query_of,
};
use ipreconnect::core::origin::Phase;
use ipreconnect::core::rate::Rates;
use ipreconnect::{Origin, clock};

use super::tally::{BranchStatus, Tally};
use super::{AskedHost, Behind, Cache, Forwarding, Hedge, HttpLimits, HttpSettings};
use crate::forward::{Forward, ForwardPlan, Speech};
use crate::number;

/// Fields that are set, and fields that are removed. Names are compared without case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldRules {
    /// Name and value, in place of whatever was there.
    pub set: Vec<(Box<str>, Box<str>)>,
    /// Names.
    pub remove: Vec<Box<str>>,
}

impl FieldRules {
    /// Whether a field passes.
    pub(super) fn pass(&self, field: &Field, text: &[u8]) -> bool {
        if self.set.is_empty() && self.remove.is_empty() {
            return true;
        }
        let name = field.name.of(text);
        let is_it = |other: &str| name.eq_ignore_ascii_case(other.as_bytes());
        !self.set.iter().any(|(other, _)| is_it(other))
            && !self.remove.iter().any(|other| is_it(other))
    }
}

/// What is changed about the requests of a route, and about their answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rewrite {
    /// Taken off the path.
    pub strip_prefix: Option<Box<str>>,
    /// Put before the path.
    pub add_prefix: Option<Box<str>>,
    /// Fields of requests.
    pub request: FieldRules,
    /// Fields of answers.
    pub response: FieldRules,
}

impl Rewrite {
    /// The target that the origin is asked for, if it is another one than the client's.
    pub(super) fn target(&self, target: &[u8]) -> Option<Vec<u8>> {
        if self.strip_prefix.is_none() && self.add_prefix.is_none() {
            return None;
        }
        let path = normal(path_of(target));
        let mut path: &[u8] = &path;
        if let Some(prefix) = &self.strip_prefix {
            let prefix = normal(prefix.as_bytes());
            let prefix = prefix.strip_suffix(b"/").unwrap_or(&prefix);
            if let Some(rest) = path.strip_prefix(prefix)
                && (rest.is_empty() || rest.first() == Some(&b'/'))
            {
                path = rest;
            }
        }
        let mut rewritten = Vec::with_capacity(target.len() + 16);
        if let Some(prefix) = &self.add_prefix {
            let prefix = normal(prefix.as_bytes());
            rewritten.extend_from_slice(prefix.strip_suffix(b"/").unwrap_or(&prefix));
        }
        rewritten.extend_from_slice(if path.is_empty() { b"/" } else { path });
        rewritten.extend_from_slice(query_of(target));
        Some(rewritten)
    }
}

/// An answer that is given in place of an origin's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fallback {
    /// Its status.
    pub status: u16,
    /// Its body.
    pub body: Box<str>,
    /// What that is.
    pub content_type: Box<str>,
}

/// One origin that a route leads to.
#[derive(Clone, Debug)]
pub struct HttpBranch {
    /// The origin.
    pub origin: Origin,
    /// What requests to it go by.
    pub settings: HttpSettings,
    /// Its part of the requests.
    pub weight: u32,
}

/// One route of a listener.
#[derive(Clone, Debug)]
pub struct HttpRoute {
    /// The requests it is for.
    pub rule: RouteRule,
    /// Where they go: at least one.
    pub branches: Vec<HttpBranch>,
    /// The cookie that keeps a client to the branch it was given.
    pub sticky: Option<Box<str>>,
    /// What is changed about them.
    pub rewrite: Rewrite,
    /// While one of these is down, requests are answered by `fallback`.
    pub requires: Vec<Origin>,
    /// That answer.
    pub fallback: Option<Fallback>,
    /// An origin that gets a copy of each request, whose answer nobody waits for; its weight is nothing.
    pub mirror: Option<HttpBranch>,
    /// What keeps answers.
    pub cache: Option<Cache>,
}

/// A page that is answered here.
#[derive(Clone, Debug)]
pub struct Page {
    /// What it is.
    pub content_type: &'static str,
    /// The page.
    pub body: Arc<str>,
    /// What else browsers are told, in lines of HTTP that end.
    pub fields: &'static str,
}

/// Pages that are answered here, in place of any origin's. They must not wait: whoever asks carries requests.
pub trait Pages: Send + Sync + fmt::Debug {
    /// The page at a path, if there is one.
    fn page(&self, path: &[u8]) -> Option<Page>;
}

/// How a listener speaks HTTP.
#[derive(Clone, Debug)]
pub struct HttpPlan {
    /// What is answered here: then nothing goes to any origin.
    pub pages: Option<Arc<dyn Pages>>,
    /// How clients go where they say: then they go nowhere else.
    pub forward: Option<ForwardPlan>,
    /// The first one that matches decides.
    pub routes: Vec<HttpRoute>,
    /// What requests that no route is for go by, at the listener's own origin; without it they are not
    /// served.
    pub settings: Option<HttpSettings>,
    /// Which requests of browsers come in; all of them without it.
    pub shield: Option<Shield>,
    /// What clients may do.
    pub limits: HttpLimits,
    /// Whether answers are compressed for clients that want it.
    pub compresses: bool,
    /// What origins are told of clients.
    pub forwarding: Forwarding,
    /// What people are shown in place of our own words; `{status}` and `{reason}` are filled in.
    pub error_page: Option<Arc<str>>,
}

/// HTTP as its listener uses it.
#[derive(Debug)]
pub(crate) struct Site {
    pub(super) pages: Option<Arc<dyn Pages>>,
    pub(crate) forward: Option<Arc<Forward>>,
    routes: Vec<Route>,
    otherwise: Option<Route>,
    /// Whether any route keeps answers.
    pub(super) has_caches: bool,
    /// Which requests of browsers come in.
    pub(super) shield: Option<Shield>,
    pub(super) limits: HttpLimits,
    /// Who has made how many requests, where that is bounded.
    pub(super) rates: Option<Rates>,
    pub(super) compresses: bool,
    pub(super) forwarding: Forwarding,
    pub(super) error_page: Option<Arc<str>>,
}

/// What requests go by to a host that a client has named.
#[derive(Debug)]
pub(crate) struct ThroughRoute(Route);

impl ThroughRoute {
    pub(crate) fn new(
        origin: &Origin,
        (target, speech): (&Target, Speech),
        plan: &ForwardPlan,
    ) -> Self {
        let host = match (target.port, speech) {
            (80, Speech::Plain) | (443, Speech::Sealed) => target.host.to_string(),
            _ => target.to_string(),
        };
        Self::with(origin, AskedHost::Fixed(host.into()), plan)
    }

    fn with(origin: &Origin, host: AskedHost, plan: &ForwardPlan) -> Self {
        let settings = HttpSettings {
            hedge: Hedge::Off,
            first_byte: FIRST_BYTE,
            pool_idle: RESTS,
            host,
            ..HttpSettings::default()
        };
        let branch = Branch {
            behind: Behind::light(origin.clone(), settings),
            weight: 1,
            tally: Tally::default(),
        };
        Self(Route {
            rule: RouteRule::default(),
            branches: vec![branch],
            sticky: None,
            rewrite: Rewrite {
                request: plan.request.clone(),
                response: plan.response.clone(),
                ..Rewrite::default()
            },
            requires: Vec::new(),
            fallback: None,
            mirror: None,
            cache: plan.cache.clone(),
        })
    }

    /// The same of a proxy behind this one, which is asked to carry requests out.
    pub(crate) fn to_parent(origin: &Origin, plan: &ForwardPlan) -> Self {
        Self::with(origin, AskedHost::Client, plan)
    }

    pub(super) fn route(&self) -> &Route {
        &self.0
    }

    /// Nobody goes there any more.
    pub(crate) fn close(&self) {
        for branch in &self.0.branches {
            branch.origin().close();
        }
    }
}

/// Strangers may take their time to answer.
const FIRST_BYTE: Duration = Duration::from_secs(300);
/// How long a connection to one is kept without a request.
const RESTS: Duration = Duration::from_secs(30);

/// One route as its listener uses it.
#[derive(Debug)]
pub(super) struct Route {
    rule: RouteRule,
    branches: Vec<Branch>,
    sticky: Option<Box<str>>,
    pub(super) rewrite: Rewrite,
    requires: Vec<Origin>,
    fallback: Option<Fallback>,
    pub(super) cache: Option<Cache>,
    /// Gets a copy of each request.
    pub(super) mirror: Option<Arc<Behind>>,
}

/// One origin of a route.
#[derive(Debug)]
struct Branch {
    behind: Behind,
    weight: u32,
    tally: Tally,
}

impl Branch {
    fn new(branch: HttpBranch) -> Self {
        Self {
            behind: Behind::new(branch.origin, branch.settings),
            weight: branch.weight,
            tally: Tally::default(),
        }
    }

    fn origin(&self) -> &Origin {
        self.behind.origin()
    }
}

impl Site {
    pub(crate) fn new(origin: &Origin, plan: HttpPlan) -> Self {
        let keeps = |forward: &ForwardPlan| forward.cache.is_some();
        let has_caches = plan.routes.iter().any(|route| route.cache.is_some())
            || plan.forward.as_ref().is_some_and(keeps);
        let routes = plan.routes.into_iter().map(|route| Route {
            rule: route.rule,
            branches: route.branches.into_iter().map(Branch::new).collect(),
            sticky: route.sticky,
            rewrite: route.rewrite,
            requires: route.requires,
            fallback: route.fallback,
            mirror: route
                .mirror
                .map(|mirror| Arc::new(Behind::new(mirror.origin, mirror.settings))),
            cache: route.cache,
        });
        Self {
            pages: plan.pages,
            forward: plan.forward.map(|forward| Arc::new(Forward::new(forward))),
            routes: routes.collect(),
            has_caches,
            otherwise: plan.settings.map(|settings| Route {
                rule: RouteRule::default(),
                branches: vec![Branch::new(HttpBranch {
                    origin: origin.clone(),
                    settings,
                    weight: 1,
                })],
                sticky: None,
                rewrite: Rewrite::default(),
                requires: Vec::new(),
                fallback: None,
                mirror: None,
                cache: None,
            }),
            rates: plan
                .limits
                .rate
                .map(|rate| Rates::new(rate, RandomState::new().hash_one(0))),
            shield: plan.shield,
            limits: plan.limits,
            compresses: plan.compresses,
            forwarding: plan.forwarding,
            error_page: plan.error_page,
        }
    }

    /// What became of the requests of routes that have several branches.
    pub(crate) fn branches(&self) -> Vec<BranchStatus> {
        let routes = self.routes.iter().zip(1..);
        let split = routes.filter(|(route, _)| route.branches.len() > 1);
        let shown = split.flat_map(|(route, number)| {
            let branches = route.branches.iter();
            branches.map(move |branch| {
                let name = branch.origin().name();
                branch.tally.status(number, name, branch.weight)
            })
        });
        shown.collect()
    }

    /// The caches of all routes.
    pub(super) fn caches(&self) -> impl Iterator<Item = &Cache> {
        let routes = self.routes.iter().filter_map(|route| route.cache.as_ref());
        let forward = self.forward.as_ref();
        routes.chain(forward.and_then(|forward| forward.plan.cache.as_ref()))
    }

    /// It takes the place of another one.
    pub(crate) fn take_over(&mut self, before: &Self) {
        let own = self.forward.as_mut().and_then(Arc::get_mut);
        if let (Some(own), Some(before)) = (own, &before.forward) {
            own.take_over(before);
        }
    }

    /// Its listener is at these addresses.
    pub(crate) fn listens_at(&self, addresses: impl Iterator<Item = SocketAddr>) {
        if let Some(forward) = &self.forward {
            forward.listens_at(addresses.collect());
        }
    }

    /// The route of a request.
    pub(super) fn route(&self, head: &RequestHead, text: &[u8]) -> Option<&Route> {
        if self.routes.is_empty() {
            return self.otherwise.as_ref();
        }
        let path = normal(path_of(head.target.of(text)));
        let host = head.host.span().map_or(&b""[..], |host| host.of(text));
        let asked = Asked {
            host: host_of(host),
            path: if path.is_empty() { b"/" } else { &path },
            method: head.method_text.of(text),
            fields: &head.fields,
            text,
        };
        let mut routes = self.routes.iter();
        let found = routes.find(|route| route.rule.matches(&asked));
        found.or(self.otherwise.as_ref())
    }
}

/// Where one request goes.
pub(super) struct Choice<'s> {
    pub(super) behind: &'s Behind,
    /// The cookie that is to keep its client there.
    pub(super) cookie: Option<String>,
    /// What is counted of it, where there is anything to compare it with.
    pub(super) tally: Option<&'s Tally>,
}

thread_local! {
    static DICE: RefCell<Dice> =
        RefCell::new(Dice::new(clock::stamp(clock::now()) ^ u64::from(number::get()) << 48));
}

impl Route {
    /// The branch of a request; none if the route leads nowhere.
    pub(super) fn choose(&self, head: &RequestHead, text: &[u8]) -> Option<Choice<'_>> {
        let first = self.branches.first()?;
        if self.branches.len() == 1 {
            return Some(Choice {
                behind: &first.behind,
                cookie: None,
                tally: None,
            });
        }
        if let Some(branch) = self.kept(head, text) {
            return Some(Choice {
                behind: &branch.behind,
                cookie: None,
                tally: Some(&branch.tally),
            });
        }
        let is_open = |branch: &&Branch| !is_down(branch.origin());
        let open = || self.branches.iter().filter(is_open);
        let total = open().map(|branch| u64::from(branch.weight)).sum();
        let mut drawn = DICE.with_borrow_mut(|dice| dice.below(total));
        let drawn = open().find(|branch| {
            let weight = u64::from(branch.weight);
            let is_it = drawn < weight;
            drawn = drawn.saturating_sub(weight);
            is_it
        });
        // While none is open, the first one's hold is as good as any.
        let branch = drawn.unwrap_or(first);
        let named = self.sticky.as_ref().map(|name| {
            let origin = branch.origin().name();
            format!("{name}={origin}; Path=/; HttpOnly; SameSite=Lax")
        });
        Some(Choice {
            behind: &branch.behind,
            cookie: named,
            tally: Some(&branch.tally),
        })
    }

    /// The branch that the client was given before, while it is not down.
    fn kept(&self, head: &RequestHead, text: &[u8]) -> Option<&Branch> {
        let name = self.sticky.as_ref()?;
        let field = head.value(text, Known::Cookie)?;
        let value = cookie(field, name.as_bytes())?;
        let mut branches = self.branches.iter();
        let branch = branches.find(|branch| branch.origin().name().as_bytes() == value)?;
        (!is_down(branch.origin())).then_some(branch)
    }

    /// The branch that leads to this origin.
    pub(super) fn branch(&self, origin: &str) -> Option<Choice<'_>> {
        let mut branches = self.branches.iter();
        let branch = branches.find(|branch| branch.origin().name() == origin)?;
        Some(Choice {
            behind: &branch.behind,
            cookie: None,
            tally: None,
        })
    }

    /// The answer to give while something that is required is down.
    pub(super) fn fallback(&self) -> Option<Option<&Fallback>> {
        let is_missing = !self.requires.is_empty() && self.requires.iter().any(is_down);
        is_missing.then_some(self.fallback.as_ref())
    }
}

fn is_down(origin: &Origin) -> bool {
    origin.look(|snapshot| matches!(snapshot.view().phase, Phase::Down | Phase::Draining))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_come_and_go() {
        let rewrite = |strip: Option<&str>, add: Option<&str>| Rewrite {
            strip_prefix: strip.map(Into::into),
            add_prefix: add.map(Into::into),
            ..Rewrite::default()
        };
        let text = |rewrite: &Rewrite, target: &str| {
            let target = rewrite.target(target.as_bytes()).unwrap();
            String::from_utf8(target).unwrap()
        };
        let strip = rewrite(Some("/api"), None);
        for (target, wanted) in [
            ("/api/x?y=z", "/x?y=z"),
            ("/api", "/"),
            ("/api?q", "/?q"),
            ("/%61pi/x", "/x"),
            ("/apix", "/apix"),
        ] {
            assert_eq!(text(&strip, target), wanted, "{target}");
        }
        assert_eq!(text(&rewrite(Some("/a/"), Some("/b/")), "/a/c"), "/b/c");
        assert_eq!(rewrite(None, None).target(b"/a"), None);
    }
}

//! Proxies behind this one: whom they are asked by, in which order, and what they say.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use data_encoding::BASE64;
use ipreconnect::core::address::Address;
use ipreconnect::core::failure::{Cause, Failure};
use ipreconnect::core::forward::socks::{self, Read, Reply, SocksError};
use ipreconnect::core::forward::{Places, Target};
use ipreconnect::core::http::{Parsed, ResponseHead};
use ipreconnect::{Link, Open, Origin};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{ForwardPlan, Own, Refusal};
use crate::http::ThroughRoute;

/// A proxy that has not answered by then is of no use.
const PATIENCE: Duration = Duration::from_secs(20);
/// The longest answer of one that is read.
const LONGEST: usize = 16 * 1024;

/// What a proxy behind this one speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaks {
    /// HTTP: requests are asked of it, and tunnels.
    Http,
    /// SOCKS5.
    Socks5,
}

/// A proxy behind this one.
#[derive(Clone)]
pub struct Parent {
    /// Where it is, kept as any origin is.
    pub origin: Origin,
    /// What it speaks.
    pub speaks: Speaks,
    /// Who we are to it.
    pub credentials: Option<(Box<str>, Box<str>)>,
}

impl fmt::Debug for Parent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parent")
            .field("origin", &self.origin.name())
            .field("speaks", &self.speaks)
            .finish_non_exhaustive()
    }
}

/// A way to where clients want to go.
#[derive(Clone, Debug)]
pub enum Way {
    /// There, by itself.
    Direct,
    /// By a proxy.
    Parent(Parent),
}

/// The ways to some hosts, the preferred one first.
#[derive(Clone, Debug)]
pub struct Via {
    /// The hosts, as they are written; all, if it is not said.
    pub to: Option<Places>,
    /// At least one.
    pub ways: Vec<Way>,
}

/// The same as it is used.
#[derive(Debug)]
pub(super) struct Ways {
    to: Option<Places>,
    ways: Arc<[Leg]>,
}

/// One way, as it is used.
#[derive(Debug)]
pub(crate) enum Leg {
    Direct,
    Parent(Arc<Asked>),
}

/// A proxy behind this one, as it is used.
pub(crate) struct Asked {
    parent: Parent,
    /// What requests go by that it is asked to carry out; none, if it only has tunnels.
    route: Option<ThroughRoute>,
    authorization: Option<String>,
    own: Arc<Own>,
}

impl fmt::Debug for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.parent.fmt(f)
    }
}

/// Why a proxy leads nowhere.
pub(crate) struct Failed {
    pub(crate) refusal: Refusal,
    /// It has decided: another one is not asked.
    pub(crate) is_final: bool,
}

impl Ways {
    pub(super) fn all(plan: &ForwardPlan, own: &Arc<Own>) -> Vec<Self> {
        let all = plan.via.iter().map(|via| {
            let ways = via.ways.iter().map(|way| Leg::new(way, plan, own));
            Self {
                to: via.to.clone(),
                ways: ways.collect(),
            }
        });
        all.collect()
    }

    /// The ways to a host: those of the first rule that is for it.
    pub(super) fn to(all: &[Self], target: &Target) -> Arc<[Leg]> {
        let is_for = |to: &Places| to.has(&target.host);
        let mut all = all.iter();
        match all.find(|ways| ways.to.as_ref().is_none_or(is_for)) {
            Some(found) => Arc::clone(&found.ways),
            None => Self::direct(),
        }
    }

    /// Straight there, and by no other way.
    pub(super) fn direct() -> Arc<[Leg]> {
        Arc::new([Leg::Direct])
    }
}

impl Leg {
    fn new(way: &Way, plan: &ForwardPlan, own: &Arc<Own>) -> Self {
        match way {
            Way::Direct => Self::Direct,
            Way::Parent(parent) => Self::Parent(Arc::new(Asked::new(parent, plan, own))),
        }
    }

    /// Whether it leads anywhere at the moment, as far as is known.
    pub(crate) fn is_open(&self) -> bool {
        match self {
            Self::Direct => true,
            Self::Parent(asked) => asked.origin().look(|snapshot| snapshot.view().is_usable()),
        }
    }
}

impl Asked {
    fn new(parent: &Parent, plan: &ForwardPlan, own: &Arc<Own>) -> Self {
        let credentials = parent.credentials.as_ref();
        let authorization = credentials.map(|(user, password)| {
            let shown = BASE64.encode(format!("{user}:{password}").as_bytes());
            format!("Basic {shown}")
        });
        Self {
            parent: parent.clone(),
            route: (parent.speaks == Speaks::Http)
                .then(|| ThroughRoute::to_parent(&parent.origin, plan)),
            authorization,
            own: Arc::clone(own),
        }
    }

    pub(crate) fn origin(&self) -> &Origin {
        &self.parent.origin
    }

    /// What requests go by that it is asked to carry out; none, if it only has tunnels.
    pub(crate) fn route(&self) -> Option<&ThroughRoute> {
        self.route.as_ref()
    }

    /// What shows it who we are.
    pub(crate) fn authorization(&self) -> Option<&str> {
        self.authorization.as_deref()
    }

    /// A tunnel to there; `hops` are the proxies before that one.
    ///
    /// Cancel safety: dropping the future ends whatever was begun.
    pub(crate) async fn open(&self, target: &Target, hops: &str) -> Result<Link, Failed> {
        let next = |refusal| Failed {
            refusal,
            is_final: false,
        };
        let link = self.origin().connect_at_once(None).await;
        let mut link = link.map_err(|error| next(Refusal::behind(target, self.name(), &error)))?;
        // SOCKS has nothing by which it would be found later.
        if let Address::Tcp(address) = link.address()
            && self.own.is(*address)
        {
            let why = format!(
                "the proxy {} on the way there is this proxy itself",
                self.name()
            );
            return Err(next(Refusal::circular(target, &why)));
        }
        let opened = match self.parent.speaks {
            Speaks::Http => {
                let connected = self.connect(&mut link, target, hops);
                tokio::time::timeout(PATIENCE, connected).await
            }
            Speaks::Socks5 => tokio::time::timeout(PATIENCE, self.ask(&mut link, target)).await,
        };
        let said = match opened {
            Ok(Ok(())) => return Ok(link),
            Ok(Err(said)) => said,
            Err(_) => Said::next("does not answer"),
        };
        let why = format!("the proxy {} on the way there {}", self.name(), said.why);
        let status = if said.is_final { 403 } else { 502 };
        Err(Failed {
            refusal: Refusal::refused_behind(target, why, status),
            is_final: said.is_final,
        })
    }

    fn name(&self) -> &str {
        self.origin().name()
    }

    /// By CONNECT.
    async fn connect(&self, link: &mut Link, target: &Target, hops: &str) -> Result<(), Said> {
        let mut asks = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\nVia: {hops}\r\n");
        if let Some(authorization) = &self.authorization {
            asks.push_str(&format!("Proxy-Authorization: {authorization}\r\n"));
        }
        asks.push_str("\r\n");
        link.write_all(asks.as_bytes()).await?;
        let mut head = ResponseHead::default();
        let mut heard = Vec::new();
        loop {
            match head.parse(&heard) {
                Ok(Parsed::Whole) if head.is_informational() => {
                    heard.drain(..head.length);
                    continue;
                }
                Ok(Parsed::Whole) => break,
                Ok(Parsed::Partial) if heard.len() < LONGEST => {}
                Ok(Parsed::Partial) | Err(_) => return Err(Said::next("does not speak HTTP")),
            }
            more(link, &mut heard).await?;
        }
        match head.status {
            200..=299 => {
                link.put_back(heard.get(head.length..).unwrap_or_default());
                Ok(())
            }
            407 if self.authorization.is_some() => Err(Said::next("does not take our credentials")),
            407 => Err(Said::next("wants credentials")),
            status => Err(Said {
                why: format!("refuses: {status} {}", printable(head.reason.of(&heard))),
                is_final: matches!(status, 403 | 451),
            }),
        }
    }

    /// By SOCKS5.
    async fn ask(&self, link: &mut Link, target: &Target) -> Result<(), Said> {
        let credentials = self.parent.credentials.as_ref();
        link.write_all(socks::greet(credentials.is_some())).await?;
        let mut heard = Vec::new();
        let by_password = read(link, &mut heard, socks::chosen).await?;
        match (by_password, credentials) {
            (false, _) => {}
            (true, Some((user, password))) => {
                let shown = socks::show_password(user.as_bytes(), password.as_bytes());
                let shown = shown.ok_or_else(|| Said::next("cannot be shown our credentials"))?;
                link.write_all(&shown).await?;
                if !read(link, &mut heard, socks::password_taken).await? {
                    return Err(Said::next("does not take our credentials"));
                }
            }
            (true, None) => return Err(Said::next("wants credentials")),
        }
        link.write_all(&socks::ask(target)).await?;
        match read(link, &mut heard, socks::answered).await? {
            Reply::Granted => {
                link.put_back(&heard);
                Ok(())
            }
            reply => Err(Said {
                why: format!("refuses: {reply}"),
                is_final: reply == Reply::Denied,
            }),
        }
    }
}

/// What a proxy said that does not lead there.
struct Said {
    why: String,
    is_final: bool,
}

impl Said {
    fn next(why: &str) -> Self {
        Self {
            why: why.to_owned(),
            is_final: false,
        }
    }
}

impl From<io::Error> for Said {
    fn from(error: io::Error) -> Self {
        Self::next(&format!("goes away: {error}"))
    }
}

impl From<SocksError> for Said {
    fn from(error: SocksError) -> Self {
        Self::next(match error {
            SocksError::Command => "takes none of our ways to show who we are",
            _ => "does not speak SOCKS5",
        })
    }
}

async fn more(link: &mut Link, heard: &mut Vec<u8>) -> Result<(), Said> {
    let mut piece = [0; 1024];
    match link.read(&mut piece).await? {
        0 => Err(Said::next("goes away without an answer")),
        count => {
            heard.extend_from_slice(piece.get(..count).unwrap_or_default());
            Ok(())
        }
    }
}

async fn read<T>(
    link: &mut Link,
    heard: &mut Vec<u8>,
    read: impl Fn(&[u8]) -> Result<Read<T>, SocksError>,
) -> Result<T, Said> {
    loop {
        if let Read::Whole(message, used) = read(heard)? {
            heard.drain(..used);
            return Ok(message);
        }
        more(link, heard).await?;
    }
}

/// What others say, as it can be shown.
fn printable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes.get(..120).unwrap_or(bytes));
    text.chars().filter(|one| !one.is_control()).collect()
}

/// The way by a proxy that only has tunnels, for an origin that is reached by it.
#[derive(Debug)]
pub(super) struct Tunnelled {
    pub(super) asked: Arc<Asked>,
    pub(super) target: Target,
}

impl Open for Tunnelled {
    fn open(&self) -> Pin<Box<dyn Future<Output = Result<Link, Failure>> + Send + '_>> {
        Box::pin(async {
            let opened = self.asked.open(&self.target, "").await;
            opened.map_err(|failed| Failure::with_detail(Cause::Other, failed.refusal.why))
        })
    }
}

//! What the operator's side asks of the running gateway.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use ipreconnect::core::access::{Mismatch, Source};
use ipreconnect::core::identity::KeyId;
use ipreconnect::core::locality::Blame;
use ipreconnect::core::origin::{Health, Phase};
use ipreconnect::{Origin, Surroundings};
use ipreconnect_admin::{Denial, Gateway, Pulse, Tapped};
use ipreconnect_ports::Reach;
use ipreconnect_proxy::{Asked, Purge};
use tokio::sync::{mpsc, oneshot};

use super::board::Board;
use super::guard::Guarding;
use super::tap::{self, Taps};
use crate::admin::view::{
    Acceptance, FindingView, GuardView, IdentityView, ListenerView, OriginView, Outcome, Ports,
    Preference, PurgeWish, Readiness, SCHEMA, TapQuestion, Why, WhyAddress, WhyQuestion, WhyRule,
    WhyTo,
};
use crate::inventory;

/// A change that only the main loop can make.
pub(crate) type Reload = oneshot::Sender<Outcome>;

/// The board, and the way to the main loop.
pub(crate) struct Desk {
    pub(crate) board: Arc<Board>,
    pub(crate) reloads: mpsc::Sender<Reload>,
    pub(crate) surroundings: Surroundings,
    /// Why a changed configuration is not in force.
    pub(crate) stale: Arc<Mutex<Option<String>>>,
    pub(crate) taps: Taps,
    /// Held by whoever has an inventory of the machine's sockets taken.
    pub(crate) inventories: Arc<tokio::sync::Mutex<()>>,
    pub(crate) guarding: Guarding,
}

impl Desk {
    /// Whether clients of a forward proxy may go there.
    async fn direction(&self, listener: &str, to: &str) -> Result<WhyTo, Denial> {
        let wrong = |why: String| Denial::Wrong(vec![why]);
        let directions = self.board.directions(listener).ok_or_else(|| {
            wrong(format!(
                "listener {listener:?} is no forward proxy: all its clients go to the same origins"
            ))
        })?;
        let found = directions.explain(to).await;
        let found = found.map_err(|why| wrong(format!("cannot go to {to:?}: {why}")))?;
        let addresses = found.addresses.iter();
        let addresses = addresses.map(|(address, denied)| WhyAddress {
            address: address.to_string(),
            denied: denied.clone(),
        });
        Ok(WhyTo {
            allowed: found.is_open(),
            addresses: addresses.collect(),
            target: found.target,
            enforced: found.is_enforced,
            denied: found.denied,
            nameless: found.nameless,
            proxies: found.proxies,
        })
    }

    fn known(&self, origin: &str) -> Result<Origin, Denial> {
        let unknown = || Denial::Unknown(format!("there is no origin {origin:?}"));
        self.board.origin(origin).ok_or_else(unknown)
    }
}

#[async_trait]
impl Gateway for Desk {
    fn origins(&self) -> Vec<OriginView> {
        self.board.origins()
    }

    fn origin(&self, name: &str) -> Option<OriginView> {
        self.board.origin_view(name)
    }

    fn listeners(&self) -> Vec<ListenerView> {
        self.board.listeners()
    }

    fn readiness(&self) -> Readiness {
        self.board.readiness()
    }

    fn pulses(&self) -> Vec<Pulse> {
        self.board.pulses()
    }

    fn is_offline(&self) -> bool {
        self.surroundings.blame() == Blame::OwnNetwork
    }

    fn stale(&self) -> Option<String> {
        let stale = self.stale.lock();
        stale.unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn identities(&self) -> Vec<IdentityView> {
        self.board.identities().await
    }

    async fn reconnect(&self, name: &str) -> Result<Outcome, Denial> {
        match self.known(name)?.reconnect().await {
            Ok(()) => Ok(done(format!("origin {name:?} is tried again now"))),
            Err(_) => Err(gone(name)),
        }
    }

    async fn drain(&self, name: &str) -> Result<Outcome, Denial> {
        match self.known(name)?.drain().await {
            Ok(()) => Ok(done(format!("origin {name:?} takes no new work"))),
            Err(_) => Err(gone(name)),
        }
    }

    async fn prefer(&self, name: &str, wish: Preference) -> Result<Outcome, Denial> {
        let origin = self.known(name)?;
        let Some(wanted) = wish.address else {
            let preferred = origin.prefer(None).await;
            preferred.map_err(|_| gone(name))?;
            return Ok(done(format!(
                "the servers of origin {name:?} are preferred as the configuration says"
            )));
        };
        let status = origin.status();
        let addresses = status.endpoints.iter().map(|endpoint| &endpoint.address);
        let found = addresses
            .clone()
            .find(|address| address.to_string() == wanted);
        let Some(address) = found.cloned() else {
            let known: Vec<String> = addresses.map(ToString::to_string).collect();
            return Err(Denial::Wrong(vec![format!(
                "origin {name:?} has no server {wanted:?}; it has {}",
                known.join(", ")
            )]));
        };
        let endpoint = status.endpoints.iter().find(|one| one.address == address);
        let health = endpoint.map(|endpoint| endpoint.health);
        let preferred = origin.prefer(Some(address)).await;
        preferred.map_err(|_| gone(name))?;
        let now = match (status.phase, health) {
            (Phase::Draining, _) => "; it takes no new work now, by order".to_owned(),
            (_, Some(Health::Up)) => String::new(),
            (_, Some(health)) => format!("; now it is {health}"),
            (_, None) => String::new(),
        };
        Ok(done(format!(
            "new work of origin {name:?} goes to {wanted} while it is up; what is open stays{now}"
        )))
    }

    async fn accept_identity(&self, name: &str, wish: Acceptance) -> Result<Outcome, Denial> {
        let origin = self.known(name)?;
        let key = wish.key.map(|key| key.parse::<KeyId>()).transpose();
        let key = key.map_err(|error| Denial::Wrong(vec![format!("this is no key: {error}")]))?;
        let accepted = origin.accept_identity(key).await.map_err(|error| {
            Denial::Unable(format!("the identity ledger cannot be read: {error}"))
        })?;
        if accepted.is_empty() {
            return Ok(done(format!(
                "origin {name:?} has no such key that waits to be accepted"
            )));
        }
        let lines = accepted.iter().map(|one| {
            let (key, address, issuer) = (&one.key, &one.address, &one.issuer);
            format!("accepted {key} at {address}, issued by {issuer}")
        });
        Ok(Outcome::done(lines.collect()))
    }

    async fn why(&self, question: WhyQuestion) -> Result<Why, Denial> {
        let source = match question.from.as_str() {
            "local" => Some(Source::Local),
            address => address
                .parse()
                .ok()
                .map(|address| ipreconnect_proxy::source(Some(address))),
        };
        let source = source.ok_or_else(|| {
            Denial::Wrong(vec![format!(
                "this is no address: {:?}; write one, or `local` for a Unix socket",
                question.from
            )])
        })?;
        let access = self.board.access(&question.listener).ok_or_else(|| {
            Denial::Unknown(format!("there is no listener {:?}", question.listener))
        })?;
        let asked = Asked {
            source,
            user: question.user.as_deref(),
            database: question.database.as_deref(),
            is_tls: question.tls,
        };
        let explanation = access.explain(&asked).await;
        let to = match &question.to {
            Some(to) => Some(self.direction(&question.listener, to).await?),
            None => None,
        };
        let rules = explanation.steps.into_iter().map(|step| WhyRule {
            place: step.place,
            rule: step.text,
            method: step.method.name().to_owned(),
            decides: step.mismatch.is_none(),
            mismatch: step.mismatch.map(|mismatch| words(mismatch).to_owned()),
        });
        Ok(Why {
            schema: SCHEMA,
            rules: rules.collect(),
            listener: question.listener,
            from: question.from,
            user: question.user,
            database: question.database,
            tls: question.tls,
            asks: explanation.asks,
            host: explanation.host,
            admitted: explanation.refusal.is_none(),
            refusal: explanation.refusal,
            to,
        })
    }

    fn guard(&self) -> GuardView {
        self.guarding.view()
    }

    fn findings(&self) -> Vec<FindingView> {
        self.guarding.going_on()
    }

    async fn ports(&self) -> Result<Ports, Denial> {
        // It takes a while: whoever asks again meanwhile waits, and takes no more of the machine.
        let turn = Arc::clone(&self.inventories).lock_owned().await;
        let taken = tokio::task::spawn_blocking(move || {
            // It lasts as long as the work, whoever has gone meanwhile.
            let _turn = turn;
            inventory::take(Reach::All)
        });
        let taken = taken.await;
        let unable = |why: String| Denial::Unable(format!("the sockets cannot be read: {why}"));
        taken
            .map_err(|error| unable(error.to_string()))?
            .map_err(|error| unable(error.to_string()))
    }

    fn tap(&self, listener: &str, question: TapQuestion) -> Result<Tapped, Denial> {
        tap::open(&self.board, &self.taps, listener, &question)
    }

    async fn purge(&self, wish: PurgeWish) -> Result<Outcome, Denial> {
        let is_url = |url: &str| url.starts_with('/') || url.contains("://");
        let wrong = |why: String| Denial::Wrong(vec![why]);
        let purge = match (wish.url, wish.prefix) {
            (None, None) => Purge::All,
            (Some(url), None) if is_url(&url) => Purge::Url(url.into()),
            (None, Some(prefix)) if is_url(&prefix) => Purge::Prefix(prefix.into()),
            (Some(_), Some(_)) => {
                let why = "either a URL or a prefix can be purged, not both at once";
                return Err(wrong(why.to_owned()));
            }
            (Some(url), None) | (None, Some(url)) => {
                return Err(wrong(format!(
                    "this is no URL: {url:?}; write https://host/path, or /path for every host"
                )));
            }
        };
        match self.board.caches().purge(wish.listener.as_deref(), &purge) {
            Some(1) => Ok(done("1 answer forgotten".to_owned())),
            Some(count) => Ok(done(format!("{count} answers forgotten"))),
            None => Err(Denial::Unknown(match wish.listener {
                Some(name) => format!("there is no listener {name:?} with a cache"),
                None => "no route has a cache".to_owned(),
            })),
        }
    }

    async fn reload(&self) -> Result<Outcome, Denial> {
        let (reply, answer) = oneshot::channel();
        let asked = self.reloads.send(reply).await.is_ok();
        match answer.await {
            Ok(outcome) if outcome.done => Ok(outcome),
            Ok(outcome) => Err(Denial::Wrong(outcome.messages)),
            Err(_) if asked => Err(Denial::Unable("the gateway ends".to_owned())),
            Err(_) => Err(Denial::Unable("the gateway has ended".to_owned())),
        }
    }
}

fn done(message: String) -> Outcome {
    Outcome::done(vec![message])
}

fn gone(name: &str) -> Denial {
    Denial::Unknown(format!("there is no origin {name:?} any more"))
}

fn words(mismatch: Mismatch) -> &'static str {
    match mismatch {
        Mismatch::Transport => {
            "it is for Unix sockets, or for addresses, and the client comes by the other"
        }
        Mismatch::Tls => "it is for TLS, or for no TLS, and the client has the other",
        Mismatch::Gss => "it is for GSSAPI encryption, which nobody has here",
        Mismatch::Address => "the client comes from elsewhere",
        Mismatch::Host => "the client's host has another name, or none that leads back to it",
        Mismatch::Database => "it is for another database",
        Mismatch::User => "it is for somebody else",
    }
}

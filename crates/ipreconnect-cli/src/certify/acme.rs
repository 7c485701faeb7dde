//! Certificates from an ACME server (RFC 8555), by HTTP-01 or TLS-ALPN-01 (RFC 8737).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use axum::Router;
use axum::extract::Path as UrlPath;
use axum::http::StatusCode;
use axum::routing::get;
use instant_acme::{
    Account, AccountCredentials, AuthorizationStatus, ChallengeType, Identifier, NewAccount,
    NewOrder, Order, OrderStatus, RetryPolicy,
};
use ipreconnect::tls::{Certificate, certified, provider};
use ipreconnect_proxy::Certify;
use rcgen::{CertificateParams, CustomExtension, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use tokio::net::TcpListener;
use tokio::sync::Notify;

use super::{now, two_thirds};
use crate::config::{AcmePlan, Challenge};

/// Between two looks at the clock, which may jump.
const LOOK: Duration = Duration::from_secs(60);
/// After a failure, doubling: servers limit how often one may fail.
const AGAIN_FIRST: Duration = Duration::from_secs(5);
const AGAIN_LAST: Duration = Duration::from_secs(3600);

/// The certificate of one listener.
#[derive(Debug)]
pub(crate) struct Acme {
    plan: AcmePlan,
    directory: PathBuf,
    current: ArcSwapOption<Held>,
    /// Answers to challenges that are open now, by name.
    proofs: RwLock<BTreeMap<String, Arc<CertifiedKey>>>,
    /// Somebody asked for a certificate that is due.
    due: Notify,
}

#[derive(Debug)]
struct Held {
    pair: Arc<CertifiedKey>,
    not_after: u64,
    renew_at: u64,
}

impl Certify for Acme {
    fn certificate(&self, _: Option<&str>) -> Option<Arc<CertifiedKey>> {
        let held = self.current.load();
        let now = now();
        let Some(held) = &*held else {
            self.due.notify_one();
            return None;
        };
        if now >= held.renew_at {
            self.due.notify_one();
        }
        (now < held.not_after).then(|| Arc::clone(&held.pair))
    }

    fn is_challenged(&self) -> bool {
        !self.proofs().is_empty()
    }

    fn challenge(&self, name: &str) -> Option<Arc<CertifiedKey>> {
        self.proofs()
            .get(&name.to_ascii_lowercase())
            .map(Arc::clone)
    }
}

impl Acme {
    /// What was had before is read from `directory`; everything else is up to [`run`](Self::run).
    pub(crate) fn new(plan: AcmePlan, directory: PathBuf) -> Arc<Self> {
        let acme = Self {
            plan,
            directory,
            current: ArcSwapOption::empty(),
            proofs: RwLock::default(),
            due: Notify::new(),
        };
        match acme.read() {
            Ok(held) => acme.current.store(Some(Arc::new(held))),
            Err(why) => tracing::info!(why, "a certificate will be ordered"),
        }
        Arc::new(acme)
    }

    /// Orders and renews for as long as the listener is there.
    pub(crate) async fn run(self: Arc<Self>, listener: String) {
        let mut pause = AGAIN_FIRST;
        loop {
            let due = self.current.load().as_ref().map_or(0, |held| held.renew_at);
            if now() < due {
                tokio::select! {
                    () = tokio::time::sleep(LOOK) => {}
                    () = self.due.notified() => {}
                }
                continue;
            }
            match self.order().await {
                Ok(held) => {
                    pause = AGAIN_FIRST;
                    tracing::info!(
                        listener,
                        until = %ipreconnect::tls::Day(held.not_after),
                        "certificate obtained"
                    );
                    self.current.store(Some(Arc::new(held)));
                }
                Err(why) => {
                    let left = self.current.load().as_ref().map(|held| held.not_after);
                    tracing::error!(
                        listener, why, again_in = ?pause,
                        valid_until = left.map(|left| ipreconnect::tls::Day(left).to_string()),
                        "no certificate from the ACME server"
                    );
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(AGAIN_LAST);
                }
            }
            self.proofs_mut().clear();
        }
    }

    async fn order(&self) -> Result<Held, String> {
        let account = self.account().await?;
        let names: Vec<Identifier> = self
            .plan
            .names
            .iter()
            .cloned()
            .map(Identifier::Dns)
            .collect();
        let mut order = account
            .new_order(&NewOrder::new(&names))
            .await
            .map_err(told("the order"))?;
        // Every proof stands before the server is told to look for one of them.
        let answers = self.prepare(&mut order).await?;
        let responder = match self.plan.challenge {
            Challenge::Http(address) if !answers.is_empty() => {
                Some(respond(address, answers).await?)
            }
            _ => None,
        };
        self.set_ready(&mut order).await?;
        let retries = RetryPolicy::default();
        let status = order
            .poll_ready(&retries)
            .await
            .map_err(told("the order"))?;
        if status != OrderStatus::Ready {
            return Err(format!(
                "the server could not verify {}: the order is {status:?}; is that name's port open to it?",
                self.plan.names.join(", ")
            ));
        }
        let key = order.finalize().await.map_err(told("the order"))?;
        let chain = order
            .poll_certificate(&retries)
            .await
            .map_err(told("the certificate"))?;
        drop(responder);
        let held = held(&chain, &key, &self.plan.names)?;
        for (file, text) in [("key.pem", &key), ("cert.pem", &chain)] {
            let path = self.directory.join(file);
            if let Err(error) = super::write(&path, text) {
                // It is used all the same, and ordered again after a restart.
                tracing::warn!(path = %path.display(), %error, "a certificate cannot be kept");
            }
        }
        Ok(held)
    }

    fn kind(&self) -> ChallengeType {
        match self.plan.challenge {
            Challenge::TlsAlpn => ChallengeType::TlsAlpn01,
            Challenge::Http(_) => ChallengeType::Http01,
        }
    }

    /// Puts the proofs up that are shown inside TLS; returns those that are told by HTTP, by token.
    async fn prepare(&self, order: &mut Order) -> Result<BTreeMap<String, String>, String> {
        let mut answers = BTreeMap::new();
        let mut authorizations = order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let mut authorization = authorization.map_err(told("an authorization"))?;
            if authorization.status == AuthorizationStatus::Valid {
                continue;
            }
            let kind = self.kind();
            let challenge = authorization
                .challenge(kind.clone())
                .ok_or_else(|| format!("the server offers no challenge of the kind {kind:?}"))?;
            let name = challenge.identifier().to_string();
            let answer = challenge.key_authorization();
            match self.plan.challenge {
                Challenge::TlsAlpn => {
                    let proof = proof(&name, answer.digest().as_ref())?;
                    self.proofs_mut().insert(name, Arc::new(proof));
                }
                Challenge::Http(_) => {
                    answers.insert(challenge.token.clone(), answer.as_str().to_owned());
                }
            }
        }
        Ok(answers)
    }

    /// Tells the server to look for the proofs.
    async fn set_ready(&self, order: &mut Order) -> Result<(), String> {
        let mut authorizations = order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let mut authorization = authorization.map_err(told("an authorization"))?;
            if authorization.status == AuthorizationStatus::Valid {
                continue;
            }
            if let Some(mut challenge) = authorization.challenge(self.kind()) {
                challenge.set_ready().await.map_err(told("a challenge"))?;
            }
        }
        Ok(())
    }

    /// The account with this server: the one there is, or a new one.
    async fn account(&self) -> Result<Account, String> {
        let builder = || match &self.plan.ca {
            Some(ca) => Account::builder_with_root(ca).map_err(told("the account")),
            None => Account::builder().map_err(told("the account")),
        };
        let id: String = file_id(&self.plan.directory);
        let path = self.directory.join(format!("account-{id}.json"));
        if let Ok(text) = std::fs::read_to_string(&path)
            && let Ok(credentials) = serde_json::from_str::<AccountCredentials>(&text)
            && let Ok(account) = builder()?.from_credentials(credentials).await
        {
            return Ok(account);
        }
        let contact: Vec<String> = self
            .plan
            .contact
            .iter()
            .map(|to| format!("mailto:{to}"))
            .collect();
        let contact: Vec<&str> = contact.iter().map(String::as_str).collect();
        let wanted = NewAccount {
            contact: &contact,
            terms_of_service_agreed: true,
            only_return_existing: false,
        };
        let made = builder()?.create(&wanted, self.plan.directory.clone(), None);
        let (account, credentials) = made.await.map_err(told("the account"))?;
        let text = serde_json::to_string(&credentials).map_err(|error| error.to_string())?;
        if let Err(error) = super::write(&path, &text) {
            tracing::warn!(path = %path.display(), %error, "an ACME account cannot be kept");
        }
        Ok(account)
    }

    fn read(&self) -> Result<Held, String> {
        let text = |file: &str| {
            let path = self.directory.join(file);
            std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))
        };
        held(&text("cert.pem")?, &text("key.pem")?, &self.plan.names)
    }

    fn proofs(&self) -> RwLockReadGuard<'_, BTreeMap<String, Arc<CertifiedKey>>> {
        self.proofs.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn proofs_mut(&self) -> std::sync::RwLockWriteGuard<'_, BTreeMap<String, Arc<CertifiedKey>>> {
        self.proofs.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An error, with what was being done.
fn told(what: &'static str) -> impl Fn(instant_acme::Error) -> String {
    move |error| format!("{what}: {error}")
}

/// A server's directory as part of a file's name.
fn file_id(directory: &str) -> String {
    directory
        .bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' => char::from(byte),
            _ => '-',
        })
        .collect()
}

/// A certificate with its key, if it is for all of these names.
fn held(chain: &str, key: &str, names: &[String]) -> Result<Held, String> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(chain.as_bytes()).collect();
    let found = found.map_err(|error| error.to_string())?;
    let first = found.first().ok_or("an empty chain")?;
    let read = Certificate::read(first)?;
    if let Some(name) = names.iter().find(|name| !read.names.contains(name)) {
        return Err(format!("the certificate that is there is not for {name}"));
    }
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|error| error.to_string())?;
    let pair = certified(found, key).map_err(|error| error.to_string())?;
    Ok(Held {
        pair: Arc::new(pair),
        not_after: read.not_after,
        renew_at: two_thirds(read.not_before, read.not_after),
    })
}

/// The certificate that proves who has a name (RFC 8737, section 3).
fn proof(name: &str, digest: &[u8]) -> Result<CertifiedKey, String> {
    let wrong = |error: rcgen::Error| error.to_string();
    let key = KeyPair::generate().map_err(wrong)?;
    let mut params = CertificateParams::new(vec![name.to_owned()]).map_err(wrong)?;
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
    let certificate = params.self_signed(&key).map_err(wrong)?;
    let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(str::to_owned)?;
    // Not the usual check of key and certificate: its extension is critical, and known to no other use.
    let key = provider()
        .key_provider
        .load_private_key(key)
        .map_err(|error| error.to_string())?;
    Ok(CertifiedKey::new(vec![certificate.der().clone()], key))
}

/// Ends with the order.
struct Responder(tokio::task::JoinHandle<()>);

impl Drop for Responder {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Answers HTTP-01 challenges, and nothing else (RFC 8555, section 8.3).
async fn respond(
    address: SocketAddr,
    answers: BTreeMap<String, String>,
) -> Result<Responder, String> {
    let answers = Arc::new(answers);
    let answer = move |UrlPath(token): UrlPath<String>| {
        let answer = answers.get(&token).cloned();
        async move { answer.ok_or(StatusCode::NOT_FOUND) }
    };
    let router = Router::new().route("/.well-known/acme-challenge/{token}", get(answer));
    let listener = TcpListener::bind(address)
        .await
        .map_err(|error| format!("cannot listen on {address} for the challenge: {error}"))?;
    let serve = async move {
        // Its end is the end of the order.
        let _ = axum::serve(listener, router).await;
    };
    Ok(Responder(tokio::spawn(serve)))
}

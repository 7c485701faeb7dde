//! TLS towards an origin: the handshake with one of its endpoints, and who that endpoint is.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwapOption;
use ipreconnect_core::address::{Address, EntryId};
use ipreconnect_core::failure::{Cause, Failure};
use rustls::client::Resumption;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::sign::SingleCertAndKey;
use rustls::{CertificateError, ClientConfig, Error};
use tokio::sync::Mutex;

use super::certificate::{Certificate, Day};
use super::session::{Session, Trouble};
use super::settings::{Opening, TlsSettings, Verification};
use super::trust::{Refusal, Trust};
use super::{postgres, roots};
use crate::clock;
use crate::dial;
use crate::resolve::Roots;
use crate::settings::Place;
use crate::socket::Socket;
use crate::target::Target;

/// Sessions that are kept for each entry of the address list, to be resumed.
const SESSIONS: usize = 64;

/// Makes TLS connections to one origin. The sessions to be resumed live as long as it does.
pub(crate) struct Connector {
    settings: TlsSettings,
    entries: Vec<Entry>,
    /// The roots are read when they are first needed, since that may take a while.
    configs: ArcSwapOption<Configs>,
    /// One makes them for all.
    making: Mutex<()>,
    /// The certificate seen last, so that the same one need not be read again.
    latest: ArcSwapOption<(CertificateDer<'static>, Arc<Certificate>)>,
}

struct Configs {
    made: Instant,
    /// One for each entry.
    all: Vec<Arc<ClientConfig>>,
}

struct Entry {
    text: Arc<str>,
    name: Option<ServerName<'static>>,
}

/// A server that verified.
#[derive(Clone, Debug)]
pub(crate) struct Proof {
    pub(crate) entry: Arc<str>,
    pub(crate) certificate: Arc<Certificate>,
    pub(crate) version: &'static str,
    pub(crate) pinned: bool,
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

impl Connector {
    pub(crate) fn new(settings: &TlsSettings, places: &[Place]) -> Self {
        let entries = places.iter().map(|place| Entry {
            text: place.target.to_string().into(),
            name: server_name(settings, &place.target),
        });
        Self {
            settings: settings.clone(),
            entries: entries.collect(),
            configs: ArcSwapOption::empty(),
            making: Mutex::new(()),
            latest: ArcSwapOption::empty(),
        }
    }

    pub(crate) fn settings(&self) -> &TlsSettings {
        &self.settings
    }

    /// Makes the handshake on a connected socket, and returns who is there.
    ///
    /// Cancel safety: the connection is of no use afterwards.
    pub(crate) async fn handshake(
        &self,
        socket: &Socket,
        entry: EntryId,
    ) -> Result<(Box<Session>, Proof), Failure> {
        let index = entry.0 as usize;
        let configs = self.configs().await?;
        let (Some(place), Some(config)) = (self.entries.get(index), configs.all.get(index)) else {
            // It left the address list a moment ago.
            return Err(Failure::new(Cause::Closed));
        };
        let Some(name) = place.name.clone() else {
            let why = "no name to verify: set tls.server_name";
            return Err(Failure::with_detail(Cause::WrongName, why));
        };
        if self.settings.opening == Opening::Postgres {
            postgres::ask(socket).await?;
        }
        let mut session = Session::client(Arc::clone(config), name)
            .map_err(|error| Failure::with_detail(Cause::TlsFailed, error.to_string()))?;
        if let Err(trouble) = session.handshake(socket).await {
            let failure = failure(trouble);
            self.doubt_roots(&failure, &configs);
            return Err(failure);
        }
        let proof = self.prove(&session, place)?;
        Ok((Box::new(session), proof))
    }

    /// What a resumed handshake does not look at again: the certificate's time.
    fn prove(&self, session: &Session, entry: &Entry) -> Result<Proof, Failure> {
        let Some(der) = session.peer_certificates().first() else {
            let why = "the server presented no certificate";
            return Err(Failure::with_detail(Cause::BadCertificate, why));
        };
        let certificate = self.read(der)?;
        self.in_time(&certificate)?;
        Ok(Proof {
            entry: Arc::clone(&entry.text),
            pinned: self.settings.pins.contains(&certificate.key),
            certificate,
            version: session.version(),
        })
    }

    /// Whether a certificate that was verified earlier still holds.
    pub(crate) fn in_time(&self, certificate: &Certificate) -> Result<(), Failure> {
        let now = clock::since_unix().as_secs();
        if now > certificate.not_after && self.settings.verification == Verification::Full {
            let why = format!(
                "expected one that is valid now, at {}; it presented {certificate}",
                Day(now)
            );
            return Err(Failure::with_detail(Cause::Expired, why));
        }
        Ok(())
    }

    fn read(&self, der: &CertificateDer<'static>) -> Result<Arc<Certificate>, Failure> {
        if let Some(latest) = &*self.latest.load()
            && latest.0 == *der
        {
            return Ok(Arc::clone(&latest.1));
        }
        let certificate = Certificate::read(der)
            .map_err(|error| Failure::with_detail(Cause::BadCertificate, error))?;
        let certificate = Arc::new(certificate);
        let latest = (der.clone(), Arc::clone(&certificate));
        self.latest.store(Some(Arc::new(latest)));
        Ok(certificate)
    }

    /// An issuer that nobody knows may be one that the system knows by now.
    fn doubt_roots(&self, failure: &Failure, configs: &Configs) {
        if failure.cause == Cause::UnknownIssuer
            && self.settings.roots == Roots::System
            && configs.made.elapsed() >= roots::READ_AGAIN
        {
            self.configs.store(None);
        }
    }

    async fn configs(&self) -> Result<Arc<Configs>, Failure> {
        if let Some(configs) = self.configs.load_full() {
            return Ok(configs);
        }
        let _turn = self.making.lock().await;
        if let Some(configs) = self.configs.load_full() {
            return Ok(configs);
        }
        let made = self.make().await;
        let all = made.map_err(|error| Failure::with_detail(Cause::TlsFailed, error))?;
        let configs = Arc::new(Configs {
            made: clock::now(),
            all,
        });
        self.configs.store(Some(Arc::clone(&configs)));
        Ok(configs)
    }

    async fn make(&self) -> Result<Vec<Arc<ClientConfig>>, String> {
        let settings = &self.settings;
        let roots = roots::read(&settings.roots).await?;
        let trust = Trust::new(roots, settings.verification, Arc::clone(&settings.pins))?;
        let builder = roots::builder()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(trust));
        let mut config = match &settings.identity {
            Some(identity) => {
                let resolver = SingleCertAndKey::from(identity.pair());
                builder.with_client_cert_resolver(Arc::new(resolver))
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols.clone_from(&settings.alpn);
        let of_entry = |_: &Entry| {
            // A ticket of one server is of no use to another.
            let mut config = config.clone();
            config.resumption = Resumption::in_memory_sessions(SESSIONS);
            Arc::new(config)
        };
        Ok(self.entries.iter().map(of_entry).collect())
    }
}

/// The name that the certificate of a target must be valid for. That of a service is the domain that
/// was asked for, since where its records lead is whoever answers' to say (RFC 9525, section 6.1).
fn server_name(settings: &TlsSettings, target: &Target) -> Option<ServerName<'static>> {
    if let Some(name) = &settings.server_name {
        return Some(name.clone());
    }
    let host = match target {
        Target::Fixed(Address::Tcp(address) | Address::Udp(address)) => {
            return Some(ServerName::from(address.ip()));
        }
        Target::Fixed(Address::Unix(_)) => return None,
        Target::Name { host, .. } => host.as_str(),
        Target::Service { name, .. } => name.splitn(3, '.').nth(2)?,
    };
    let host = host.strip_suffix('.').unwrap_or(host);
    ServerName::try_from(host.to_owned()).ok()
}

/// What a failed handshake says about the endpoint.
fn failure(trouble: Trouble) -> Failure {
    match trouble {
        Trouble::Socket(error) => {
            let failure = dial::failure(&error);
            Failure::with_detail(failure.cause, "during the TLS handshake")
        }
        Trouble::Closed => Failure::with_detail(Cause::Closed, "during the TLS handshake"),
        Trouble::Tls(error) => failure_of(&error),
    }
}

/// What an error of TLS says about the endpoint.
pub(crate) fn failure_of(error: &Error) -> Failure {
    if let Error::InvalidCertificate(CertificateError::Other(other)) = error
        && let Some(Refusal(failure)) = other.0.downcast_ref::<Refusal>()
    {
        return failure.clone();
    }
    match error {
        Error::InvalidMessage(_) | Error::InappropriateMessage { .. } => {
            Failure::with_detail(Cause::NoTls, error.to_string())
        }
        Error::InvalidCertificate(why) => {
            Failure::with_detail(Cause::BadCertificate, why.to_string())
        }
        Error::AlertReceived(alert) => Failure::with_detail(
            Cause::TlsFailed,
            format!("the server sent the alert {alert:?}"),
        ),
        other => Failure::with_detail(Cause::TlsFailed, other.to_string()),
    }
}

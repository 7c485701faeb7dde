//! TLS towards an origin: who is let through, who is refused and why, what is remembered.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ipreconnect::core::failure::Cause;
use ipreconnect::core::identity::{Acceptance, KeyId, OnKeyChange, Sighting};
use ipreconnect::core::origin::{Check, Health};
use ipreconnect::resolve::{DnsSettings, Names, Roots};
use ipreconnect::socket::register;
use ipreconnect::tls::{Certificate, ClientIdentity, Session, TlsSettings, Verification};
use ipreconnect::{Identity, Kind, Link, Origin, OriginSettings, Store, Surroundings, Target};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use x509_ocsp::{CertId, CertStatus, OcspResponse, RevokedInfo, SingleResponse};

use crate::scene::within;

/// An issuer of certificates.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    der: Vec<u8>,
}

impl Authority {
    fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let der = params.self_signed(&key).unwrap().der().to_vec();
        Self {
            issuer: Issuer::new(params, key),
            der,
        }
    }

    /// A chain of one certificate and its key.
    fn issue(&self, change: impl FnOnce(&mut CertificateParams)) -> Pair {
        let key = KeyPair::generate().unwrap();
        self.issue_for(&key, change)
    }

    fn issue_for(&self, key: &KeyPair, change: impl FnOnce(&mut CertificateParams)) -> Pair {
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        change(&mut params);
        let certificate = params.signed_by(key, &self.issuer).unwrap();
        Pair {
            chain: vec![certificate.der().clone()],
            key: PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        }
    }

    /// TLS that trusts this issuer.
    fn trusted(&self) -> TlsSettings {
        TlsSettings {
            roots: Roots::Only(vec![self.der.clone()].into()),
            ..TlsSettings::default()
        }
    }
}

struct Pair {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Pair {
    fn key_id(&self) -> KeyId {
        Certificate::read(&self.chain[0]).unwrap().key
    }

    fn config(&self) -> ServerConfig {
        self.config_with(None)
    }

    fn config_with(&self, staple: Option<Vec<u8>>) -> ServerConfig {
        let provider = ipreconnect::tls::provider();
        let key = self.key.clone_key();
        let key = provider.key_provider.load_private_key(key).unwrap();
        let mut pair = CertifiedKey::new(self.chain.clone(), key);
        pair.ocsp = staple;
        ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(pair)))
    }
}

/// A server of lines: answers each with its name.
struct Server {
    address: SocketAddr,
    config: Arc<Mutex<Arc<ServerConfig>>>,
    accepted: Arc<AtomicUsize>,
    resumed: Arc<AtomicUsize>,
    /// After how long an idle connection is closed.
    idle: Arc<Mutex<Duration>>,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    async fn start(name: &'static str, config: ServerConfig) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let config = Arc::new(Mutex::new(Arc::new(config)));
        let (accepted, resumed) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let (shared, taken, again) = (
            Arc::clone(&config),
            Arc::clone(&accepted),
            Arc::clone(&resumed),
        );
        let idle = Arc::new(Mutex::new(Duration::from_secs(3600)));
        let limit = Arc::clone(&idle);
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                taken.fetch_add(1, Ordering::SeqCst);
                let config = Arc::clone(&shared.lock().unwrap());
                let (stream, idle) = (stream.into_std().unwrap(), *limit.lock().unwrap());
                tokio::spawn(serve(name, config, stream, Arc::clone(&again), idle));
            }
        });
        Self {
            address,
            config,
            accepted,
            resumed,
            idle,
            task,
        }
    }

    fn change(&self, config: ServerConfig) {
        *self.config.lock().unwrap() = Arc::new(config);
    }
}

async fn serve(
    name: &'static str,
    config: Arc<ServerConfig>,
    stream: std::net::TcpStream,
    resumed: Arc<AtomicUsize>,
    idle: Duration,
) {
    let socket = register(stream.into()).unwrap();
    let mut session = Session::server(config).unwrap();
    if session.handshake(&socket).await.is_err() {
        return;
    }
    if session.is_resumed() {
        resumed.fetch_add(1, Ordering::SeqCst);
    }
    loop {
        let mut lines = 0;
        let received = std::future::poll_fn(|cx| {
            session.poll_receive(cx, &socket, &mut |bytes| {
                lines += bytes.iter().filter(|byte| **byte == b'\n').count();
            })
        });
        let received = tokio::time::timeout(idle, received).await;
        if !matches!(received, Ok(Ok(ipreconnect::tls::Received::Bytes(_)))) {
            let _ = session.close(&socket);
            return;
        }
        let answer = format!("{name}\n").repeat(lines);
        session.send(&socket, answer.as_bytes()).unwrap();
        let sent = std::future::poll_fn(|cx| session.poll_flush(cx, &socket));
        if sent.await.is_err() {
            return;
        }
    }
}

fn origin(addresses: &[SocketAddr], tls: TlsSettings) -> Origin {
    origin_with(addresses, tls, None, Duration::from_secs(1))
}

fn origin_with(
    addresses: &[SocketAddr],
    tls: TlsSettings,
    store: Option<Arc<dyn Store>>,
    hold: Duration,
) -> Origin {
    let handle = Handle::current();
    let names = Names::start(&handle, DnsSettings::default(), store);
    let surroundings = Surroundings::with_names(&handle, names);
    let mut builder = Origin::builder("payments")
        .hold(hold)
        .tls(tls)
        .surroundings(&surroundings);
    for address in addresses {
        builder = builder.address(address.to_string());
    }
    builder.start().unwrap()
}

async fn ask(link: &mut Link) -> io::Result<String> {
    link.write_all(b"who\n").await?;
    let mut answer = Vec::new();
    while answer.last() != Some(&b'\n') {
        answer.push(link.read_u8().await?);
    }
    answer.pop();
    Ok(String::from_utf8(answer).unwrap())
}

/// The failure with which the only server of an origin is refused.
async fn refusal(server: &Server, tls: TlsSettings) -> (Cause, String) {
    let origin = origin(&[server.address], tls);
    let error = within(10, origin.connect()).await.unwrap_err();
    assert!(matches!(error.kind(), Kind::Down | Kind::HoldTimedOut));
    let failure = error.failure().cloned().unwrap();
    let detail = failure.detail.as_deref().unwrap_or_default().to_owned();
    (failure.cause, detail)
}

#[tokio::test]
async fn a_verified_server_is_spoken_to_and_its_session_is_resumed() {
    let authority = Authority::new("Test CA");
    let server = Server::start("blue", authority.issue(|_| {}).config()).await;
    let origin = origin(&[server.address], authority.trusted());
    for _ in 0..5 {
        let mut link = within(10, origin.connect()).await.unwrap();
        assert_eq!(within(5, ask(&mut link)).await.unwrap(), "blue");
        assert_eq!(link.tls().unwrap().version(), "TLS 1.3");
        let suite = link.tls().unwrap().suite().unwrap();
        assert!(suite.ends_with("X25519MLKEM768"), "{suite}");
    }
    assert!(server.resumed.load(Ordering::SeqCst) >= 4);
}

#[tokio::test]
async fn what_badssl_shows_is_refused_by_name() {
    let (authority, other) = (Authority::new("Test CA"), Authority::new("Other CA"));
    let year = |year| rcgen::date_time_ymd(year, 1, 1);
    let self_signed = {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        Pair {
            chain: vec![params.self_signed(&key).unwrap().der().clone()],
            key: PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        }
    };
    let expired = authority.issue(|params| params.not_after = year(2020));
    let early = authority.issue(|params| params.not_before = year(2090));
    let named = authority.issue(|params| {
        *params = CertificateParams::new(vec!["other.example".to_owned()]).unwrap();
    });
    let cases = [
        (expired, Cause::Expired, "to 2020-01-01 00:00 UTC"),
        (early, Cause::NotYetValid, "valid 2090-01-01 00:00 UTC"),
        (
            named,
            Cause::WrongName,
            "expected one for 127.0.0.1; it presented a certificate for other.example",
        ),
        (
            other.issue(|_| {}),
            Cause::UnknownIssuer,
            "issuer CN=Other CA",
        ),
        (self_signed, Cause::UnknownIssuer, "self-signed"),
    ];
    for (pair, cause, shown) in cases {
        let key = pair.key_id().to_string();
        let server = Server::start("blue", pair.config()).await;
        let (found, detail) = refusal(&server, authority.trusted()).await;
        assert_eq!(found, cause, "{detail}");
        assert!(detail.contains(shown), "{detail}");
        assert!(detail.contains(&key), "{detail}");
    }
}

#[tokio::test]
async fn pins_hold_beside_everything_else() {
    let authority = Authority::new("Test CA");
    let pair = authority.issue(|_| {});
    let server = Server::start("blue", pair.config()).await;
    let pinned = |pins: &[KeyId]| TlsSettings {
        pins: pins.into(),
        ..authority.trusted()
    };
    let ca = Certificate::read(&authority.der).unwrap().key;
    let backup = KeyId([7; 32]);
    for pins in [[backup, pair.key_id()], [backup, ca]] {
        let origin = origin(&[server.address], pinned(&pins));
        within(10, origin.connect()).await.unwrap();
    }
    let (cause, detail) = refusal(&server, pinned(&[backup])).await;
    assert_eq!(cause, Cause::WrongPin);
    assert!(detail.contains(&backup.to_string()), "{detail}");

    // The right key does not make up for a wrong name.
    let elsewhere = TlsSettings {
        server_name: Some(ServerName::try_from("pay.example").unwrap()),
        ..pinned(&[pair.key_id()])
    };
    assert_eq!(refusal(&server, elsewhere).await.0, Cause::WrongName);
}

/// A certificate that is only laid beside the chain is no part of it, whoever has pinned it.
#[tokio::test]
async fn a_pinned_certificate_beside_the_chain_counts_for_nothing() {
    let (authority, pinned) = (Authority::new("Test CA"), Authority::new("Pinned CA"));
    let mut pair = authority.issue(|_| {});
    pair.chain.push(CertificateDer::from(pinned.der.clone()));
    let server = Server::start("blue", pair.config()).await;
    let roots = vec![authority.der.clone(), pinned.der.clone()];
    let tls = TlsSettings {
        roots: Roots::Only(roots.into()),
        pins: [Certificate::read(&pinned.der).unwrap().key].into(),
        ..TlsSettings::default()
    };
    assert_eq!(refusal(&server, tls).await.0, Cause::WrongPin);
}

#[tokio::test]
async fn without_verification_only_the_key_that_signs_can_be_pinned() {
    let authority = Authority::new("Test CA");
    let pair = authority.issue(|params| params.not_after = rcgen::date_time_ymd(2020, 1, 1));
    let server = Server::start("blue", pair.config()).await;
    let insecure = |pins: &[KeyId]| TlsSettings {
        verification: Verification::Off,
        pins: pins.into(),
        ..TlsSettings::default()
    };
    for pins in [&[][..], &[pair.key_id()]] {
        let origin = origin(&[server.address], insecure(pins));
        let mut link = within(10, origin.connect()).await.unwrap();
        assert_eq!(ask(&mut link).await.unwrap(), "blue");
    }
    let (cause, _) = refusal(&server, insecure(&[KeyId([7; 32])])).await;
    assert_eq!(cause, Cause::WrongPin);
}

#[tokio::test]
async fn a_staple_that_says_revoked_is_believed() {
    let authority = Authority::new("Test CA");
    let pair = authority.issue(|params| params.serial_number = Some(77u64.into()));
    let status = |revoked| staple(&[77], revoked);
    let server = Server::start("blue", pair.config_with(Some(status(false)))).await;
    let origin = origin(&[server.address], authority.trusted());
    within(10, origin.connect()).await.unwrap();
    server.change(pair.config_with(Some(status(true))));
    let (cause, detail) = refusal(&server, authority.trusted()).await;
    assert_eq!(cause, Cause::Revoked, "{detail}");
    server.change(pair.config_with(Some(vec![0x30, 0x03, 0xff, 0xff, 0xff])));
    within(10, origin.connect()).await.unwrap();
}

/// An OCSP response about one certificate; its signature is not looked at.
fn staple(serial: &[u8], revoked: bool) -> Vec<u8> {
    use x509_cert::der::asn1::{BitString, GeneralizedTime, Null, OctetString};
    use x509_cert::der::{DateTime, Encode};
    use x509_cert::serial_number::SerialNumber;
    use x509_cert::spki::AlgorithmIdentifierOwned;
    let oid = x509_cert::der::oid::ObjectIdentifier::new_unwrap;
    let algorithm = |text| AlgorithmIdentifierOwned {
        oid: oid(text),
        parameters: None,
    };
    let date = DateTime::new(2026, 1, 1, 0, 0, 0).unwrap();
    let moment =
        x509_ocsp::OcspGeneralizedTime::from(GeneralizedTime::from_date_time(date).to_date_time());
    let hash = || OctetString::new([1; 20]).unwrap();
    let single = SingleResponse {
        cert_id: CertId {
            hash_algorithm: algorithm("1.3.14.3.2.26"),
            issuer_name_hash: hash(),
            issuer_key_hash: hash(),
            serial_number: SerialNumber::new(serial).unwrap(),
        },
        cert_status: if revoked {
            CertStatus::Revoked(RevokedInfo {
                revocation_time: moment,
                revocation_reason: None,
            })
        } else {
            CertStatus::Good(Null)
        },
        this_update: moment,
        next_update: None,
        single_extensions: None,
    };
    let basic = x509_ocsp::BasicOcspResponse {
        tbs_response_data: x509_ocsp::ResponseData {
            version: x509_ocsp::Version::V1,
            responder_id: x509_ocsp::ResponderId::ByKey(hash()),
            produced_at: moment,
            responses: vec![single],
            response_extensions: None,
        },
        signature_algorithm: algorithm("1.2.840.10045.4.3.2"),
        signature: BitString::from_bytes(&[0; 8]).unwrap(),
        certs: None,
    };
    OcspResponse::successful(basic).unwrap().to_der().unwrap()
}

#[tokio::test]
async fn a_server_that_asks_for_our_certificate_gets_it() {
    let authority = Authority::new("Test CA");
    let clients = Authority::new("Clients CA");
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from(clients.der.clone()))
        .unwrap();
    let provider = ipreconnect::tls::provider();
    let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(
        Arc::new(roots),
        Arc::clone(&provider),
    );
    let pair = authority.issue(|_| {});
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(pair.chain.clone(), pair.key.clone_key())
        .unwrap();
    let server = Server::start("blue", config).await;

    let ours = clients.issue(|_| {});
    let identity = ClientIdentity::new(ours.chain.clone(), ours.key.clone_key()).unwrap();
    assert!(!format!("{identity:?}").contains("key:"));
    let tls = TlsSettings {
        identity: Some(identity),
        ..authority.trusted()
    };
    let known = origin(&[server.address], tls);
    let mut link = within(10, known.connect()).await.unwrap();
    assert_eq!(within(5, ask(&mut link)).await.unwrap(), "blue");

    // With TLS 1.3 the refusal comes behind the handshake: the heartbeat waits for it.
    let unknown = origin(&[server.address], authority.trusted());
    let status = unknown.watch(|status| {
        let failure = status.endpoints.first().and_then(|e| e.failure.as_ref());
        failure.is_some_and(|failure| failure.cause == Cause::TlsFailed)
    });
    let status = within(20, status).await.unwrap();
    let failure = status.endpoints[0].failure.clone().unwrap();
    assert!(
        failure.to_string().contains("CertificateRequired"),
        "{failure}"
    );

    let stranger = ClientIdentity::new(ours.chain, authority.issue(|_| {}).key);
    assert!(
        stranger
            .unwrap_err()
            .to_string()
            .contains("not the one of the certificate")
    );
}

#[tokio::test]
async fn an_impostor_on_the_preferred_address_gets_nothing_and_the_backup_serves() {
    let (authority, other) = (Authority::new("Test CA"), Authority::new("Other CA"));
    let impostor = Server::start("impostor", other.issue(|_| {}).config()).await;
    let green = Server::start("green", authority.issue(|_| {}).config()).await;
    let origin = origin(&[impostor.address, green.address], authority.trusted());
    for _ in 0..200 {
        let mut link = within(10, origin.connect()).await.unwrap();
        assert_eq!(ask(&mut link).await.unwrap(), "green");
    }
    let status = origin.status();
    assert_eq!(status.endpoints[0].health, Health::Down);
    assert_eq!(status.identity, Identity::Impersonated);
    // It is looked at now and then, never once for each client.
    assert!(impostor.accepted.load(Ordering::SeqCst) < 20);

    // The right server is back.
    impostor.change(authority.issue(|_| {}).config());
    let back = origin.watch(|status| status.endpoints[0].health == Health::Up);
    let status = within(30, back).await.unwrap();
    assert_eq!(status.identity, Identity::Proven);
}

#[tokio::test]
async fn what_only_accepts_cannot_win_the_race() {
    let authority = Authority::new("Test CA");
    // Accepts, and never says a word: a middlebox in front of nothing.
    let mute = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let green = Server::start("green", authority.issue(|_| {}).config()).await;
    let addresses = [mute.local_addr().unwrap(), green.address];
    let origin = origin(&addresses, authority.trusted());
    for _ in 0..3 {
        let mut link = within(10, origin.connect()).await.unwrap();
        assert_eq!(ask(&mut link).await.unwrap(), "green");
    }
}

#[tokio::test]
async fn a_server_without_tls_is_told_apart() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    });
    let origin = origin(&[address], Authority::new("Test CA").trusted());
    let error = within(10, origin.connect()).await.unwrap_err();
    assert_eq!(error.failure().unwrap().cause, Cause::NoTls);
}

#[tokio::test]
async fn an_end_without_a_word_is_an_error_of_reading() {
    let authority = Authority::new("Test CA");
    let server = Server::start("blue", authority.issue(|_| {}).config()).await;
    let origin = origin(&[server.address], authority.trusted());
    let mut link = within(10, origin.connect()).await.unwrap();
    assert_eq!(ask(&mut link).await.unwrap(), "blue");
    // The word of the end comes back.
    link.shutdown().await.unwrap();
    assert_eq!(within(5, link.read(&mut [0; 8])).await.unwrap(), 0);

    let mut link = within(10, origin.connect()).await.unwrap();
    assert_eq!(ask(&mut link).await.unwrap(), "blue");
    rustix::net::shutdown(&link, rustix::net::Shutdown::Read).unwrap();
    let error = within(5, link.read(&mut [0; 8])).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
}

#[tokio::test]
async fn a_megabyte_goes_there_and_back() {
    let authority = Authority::new("Test CA");
    let server = Server::start("blue", authority.issue(|_| {}).config()).await;
    let origin = origin(&[server.address], authority.trusted());
    let link = within(10, origin.connect()).await.unwrap();
    let (mut reader, mut writer) = tokio::io::split(link);
    let lines = 1_000_000;
    let sent = tokio::spawn(async move {
        writer.write_all(&vec![b'\n'; lines]).await.unwrap();
        writer.flush().await.unwrap();
        writer
    });
    let mut answers = 0;
    let mut buffer = vec![0; 40_000];
    while answers < lines * 5 {
        let count = within(10, reader.read(&mut buffer)).await.unwrap();
        assert!(count > 0, "after {answers} bytes");
        answers += count;
    }
    sent.await.unwrap();
    assert_eq!(answers, lines * 5);
}

/// A store that forgets nothing but can be broken.
#[derive(Debug, Default)]
struct Shelf {
    sightings: Mutex<Vec<Sighting>>,
    is_broken: std::sync::atomic::AtomicBool,
}

impl Store for Shelf {
    fn load(&self, _: &str, _: &str) -> io::Result<Option<String>> {
        Ok(None)
    }

    fn save(&self, _: &str, _: &str, _: &str) -> io::Result<()> {
        Ok(())
    }

    fn load_sightings(&self, _: &str) -> io::Result<Vec<Sighting>> {
        if self.is_broken.load(Ordering::SeqCst) {
            return Err(io::Error::other("the disk is broken"));
        }
        Ok(self.sightings.lock().unwrap().clone())
    }

    fn save_sightings(&self, _: &str, sightings: &[Sighting]) -> io::Result<()> {
        *self.sightings.lock().unwrap() = sightings.to_vec();
        Ok(())
    }
}

impl Shelf {
    async fn until(&self, is_good: impl Fn(&[Sighting]) -> bool) {
        let wait = async {
            while !is_good(&self.sightings.lock().unwrap()) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        within(10, wait).await;
    }
}

#[tokio::test]
async fn a_changed_key_is_refused_over_restarts_until_it_is_accepted() {
    let authority = Authority::new("Test CA");
    let server = Server::start("blue", authority.issue(|_| {}).config()).await;
    let shelf = Arc::new(Shelf::default());
    let tls = TlsSettings {
        on_key_change: OnKeyChange::Refuse,
        ..authority.trusted()
    };
    let start = || {
        let store: Arc<dyn Store> = Arc::<Shelf>::clone(&shelf);
        origin_with(
            &[server.address],
            tls.clone(),
            Some(store),
            Duration::from_secs(1),
        )
    };
    within(10, start().connect()).await.unwrap();
    shelf.until(|sightings| sightings.len() == 1).await;

    server.change(authority.issue(|_| {}).config());
    let origin = start();
    let error = within(10, origin.connect()).await.unwrap_err();
    assert_eq!(error.failure().unwrap().cause, Cause::KeyChanged);
    shelf.until(|sightings| sightings.len() == 2).await;
    assert!(
        origin
            .identities()
            .await
            .unwrap()
            .iter()
            .any(|seen| seen.acceptance == Acceptance::Refused)
    );
    // Not after a restart either, nor when the ledger cannot be read.
    let again = start();
    assert!(within(10, again.connect()).await.is_err());
    shelf.is_broken.store(true, Ordering::SeqCst);
    let blind = start();
    let error = within(10, blind.connect()).await.unwrap_err();
    assert!(
        error
            .failure()
            .unwrap()
            .to_string()
            .contains("the disk is broken")
    );
    shelf.is_broken.store(false, Ordering::SeqCst);

    assert_eq!(origin.accept_identity(None).await.unwrap().len(), 1);
    within(10, origin.watch(ipreconnect::Status::is_up))
        .await
        .unwrap();
    within(10, origin.connect()).await.unwrap();
    shelf
        .until(|seen| {
            seen.iter()
                .all(|one| one.acceptance == Acceptance::Accepted)
        })
        .await;
}

/// An origin that keeps some connections ready, and is seldom looked at otherwise.
fn warm(addresses: &[SocketAddr], tls: Option<TlsSettings>, connections: usize) -> Origin {
    let targets = addresses.iter().map(|address| Target::from(*address));
    let mut settings = OriginSettings::new(targets);
    settings.warm.connections = connections;
    settings.supervisor.interval = Duration::from_secs(600);
    if tls.is_some() {
        settings.supervisor.check = Check::Proof;
    }
    settings.tls = tls;
    let handle = Handle::current();
    Origin::start("warm", settings, &Surroundings::watch(&handle), &handle)
}

async fn ready(origin: &Origin, counts: &[usize]) {
    let wait = async {
        loop {
            let endpoints = origin.status().endpoints;
            let found: Vec<usize> = endpoints.iter().map(|endpoint| endpoint.warm).collect();
            if found == counts {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    within(10, wait).await;
}

#[tokio::test]
async fn connections_are_ready_on_the_preferred_endpoint_and_the_first_backup() {
    let authority = Authority::new("Test CA");
    let mut servers = Vec::new();
    for name in ["blue", "green", "red"] {
        servers.push(Server::start(name, authority.issue(|_| {}).config()).await);
    }
    let addresses: Vec<SocketAddr> = servers.iter().map(|server| server.address).collect();
    let origin = warm(&addresses, Some(authority.trusted()), 3);
    ready(&origin, &[3, 3, 0]).await;

    let before = servers[0].accepted.load(Ordering::SeqCst);
    let mut links = Vec::new();
    for _ in 0..3 {
        links.push(within(10, origin.connect()).await.unwrap());
    }
    for link in &mut links {
        assert_eq!(ask(link).await.unwrap(), "blue");
    }
    // They were replaced, and not made when they were asked for.
    ready(&origin, &[3, 3, 0]).await;
    assert_eq!(servers[0].accepted.load(Ordering::SeqCst), before + 3);
    assert_eq!(origin.status().endpoints[0].open, 3);

    // The backup's are there when the preferred endpoint dies.
    let before = servers[1].accepted.load(Ordering::SeqCst);
    drop(servers.remove(0));
    let mut link = within(10, origin.connect()).await.unwrap();
    while ask(&mut link).await.is_err() {
        link = within(10, origin.connect()).await.unwrap();
    }
    assert!(servers[0].accepted.load(Ordering::SeqCst) <= before + 6);
    origin.close();
    ready(&origin, &[0, 0, 0]).await;
}

#[tokio::test]
async fn raw_connections_are_kept_ready_too_and_an_end_is_noticed() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = warm(&[listener.local_addr().unwrap()], None, 2);
    let mut accepted = Vec::new();
    while accepted.len() < 2 {
        let (mut stream, _) = within(10, listener.accept()).await.unwrap();
        // A server that speaks first.
        stream.write_all(b"hello\n").await.unwrap();
        accepted.push(stream);
    }
    ready(&origin, &[2]).await;
    // Both are closed; nobody is given one of them.
    accepted.clear();
    let server = tokio::spawn(async move {
        let mut kept = Vec::new();
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(b"again\n").await.unwrap();
            kept.push(stream);
        }
    });
    for _ in 0..10 {
        let mut link = within(10, origin.connect()).await.unwrap();
        let mut greeting = [0; 6];
        within(5, link.read_exact(&mut greeting)).await.unwrap();
        assert_eq!(&greeting, b"again\n");
    }
    server.abort();
}

#[tokio::test]
async fn the_limit_of_an_origin_is_learned_and_nobody_gets_what_it_closes() {
    let authority = Authority::new("Test CA");
    let server = Server::start("blue", authority.issue(|_| {}).config()).await;
    *server.idle.lock().unwrap() = Duration::from_millis(1300);
    let origin = warm(&[server.address], Some(authority.trusted()), 1);
    ready(&origin, &[1]).await;
    // What the origin closes is replaced, and tells how long it lets one be.
    let closed = async {
        while server.accepted.load(Ordering::SeqCst) < 3 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    within(10, closed).await;
    for pause in [1250, 1290, 1300, 1310, 900, 2000] {
        ready(&origin, &[1]).await;
        tokio::time::sleep(Duration::from_millis(pause)).await;
        let mut link = within(10, origin.connect()).await.unwrap();
        assert_eq!(ask(&mut link).await.unwrap(), "blue", "after {pause} ms");
    }
}

#[tokio::test]
async fn what_was_ready_by_other_settings_is_used_by_nobody() {
    let authority = Authority::new("Test CA");
    let server = Server::start("blue", authority.issue(|_| {}).config()).await;
    let origin = warm(&[server.address], Some(authority.trusted()), 2);
    ready(&origin, &[2]).await;
    let mut settings = (*origin.settings()).clone();
    settings.hold.patience = Duration::from_millis(300);
    settings.tls = Some(TlsSettings {
        pins: [KeyId([7; 32])].into(),
        ..authority.trusted()
    });
    origin.reconfigure(settings).await.unwrap();
    let error = within(10, origin.connect()).await.unwrap_err();
    assert_eq!(error.failure().unwrap().cause, Cause::WrongPin);
}

#[tokio::test]
async fn the_same_key_at_a_new_address_has_moved_and_is_let_in() {
    let authority = Authority::new("Test CA");
    let pair = authority.issue(|_| {});
    let old = Server::start("old", pair.config()).await;
    let new = Server::start("new", pair.config()).await;
    let shelf = Arc::new(Shelf::default());
    let tls = TlsSettings {
        on_key_change: OnKeyChange::Refuse,
        ..authority.trusted()
    };
    for server in [&old, &new] {
        let store: Arc<dyn Store> = Arc::<Shelf>::clone(&shelf);
        let patience = Duration::from_secs(1);
        let origin = origin_with(&[server.address], tls.clone(), Some(store), patience);
        within(10, origin.connect()).await.unwrap();
        let key = pair.key_id();
        let address = server.address.to_string();
        shelf
            .until(|seen| {
                seen.iter()
                    .any(|one| one.key == key && *one.address == *address)
            })
            .await;
    }
    let seen = shelf.sightings.lock().unwrap().clone();
    assert_eq!(seen.len(), 2);
    assert!(
        seen.iter()
            .all(|one| one.acceptance == Acceptance::Accepted)
    );
}

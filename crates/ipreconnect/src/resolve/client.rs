//! A server that speaks DNS, by the resolver library: what it says in our own words.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::dnssec::Proof;
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use hickory_resolver::{Resolver, system_conf};
use ipreconnect_core::failure::{Cause, Failure};
use ipreconnect_core::names::Security;
use rustls::ClientConfig;

use super::answer::{Question, Record, RecordKind, Service};
use super::ask::{Answer, Said};
use super::provider::{Provider, Trouble};
use super::server::{DnsServer, Host, HttpsServer, PlainTransport};
use super::settings::{DnsSettings, Dnssec, Roots, TrustAnchor};
use crate::tls;

/// One try of one transport; a question over UDP is sent again a few times meanwhile.
const TIMEOUT: Duration = Duration::from_secs(2);
/// The system's own list of name servers (resolv.conf(5)).
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// What every client of the settings goes by.
#[derive(Clone, Debug)]
struct Terms {
    dnssec: Dnssec,
    anchors: Option<TrustAnchor>,
    roots: Roots,
}

impl Terms {
    fn new(settings: &DnsSettings) -> Self {
        Self {
            dnssec: settings.dnssec,
            anchors: settings.trust_anchor.clone(),
            roots: settings.roots.clone(),
        }
    }

    fn build(
        &self,
        config: ResolverConfig,
        tls: Option<ClientConfig>,
    ) -> Result<Connected, NetError> {
        let provider = Provider::default();
        let trouble = provider.trouble().clone();
        let mut builder = Resolver::builder_with_config(config, provider);
        *builder.options_mut() = options();
        if self.dnssec != Dnssec::Off {
            let anchors = self.anchors.as_ref().map(TrustAnchor::anchors);
            builder = builder.with_trust_anchor(anchors.unwrap_or_default());
        }
        // The library makes a configuration of its own otherwise, with the roots read anew.
        builder = builder.with_tls_config(tls.unwrap_or_else(tls::without_roots));
        let resolver = builder.build()?;
        Ok(Connected { resolver, trouble })
    }
}

/// What asks one server, or the servers of the system.
#[derive(Clone)]
struct Connected {
    resolver: Resolver<Provider>,
    trouble: Trouble,
}

impl fmt::Debug for Connected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connected")
    }
}

/// Asking, hedging, remembering and the hosts file are ours.
fn options() -> ResolverOpts {
    let mut options = ResolverOpts::default();
    options.timeout = TIMEOUT;
    options.attempts = 0;
    options.cache_size = 0;
    options.num_concurrent_reqs = 1;
    options.use_hosts_file = ResolveHosts::Never;
    options.os_port_selection = true;
    options
}

/// One server by its address. Its connection is made when it is needed, and anew after a failure.
#[derive(Debug)]
pub(super) struct Client {
    server: DnsServer,
    terms: Terms,
    built: Mutex<Option<Connected>>,
}

impl Client {
    pub(super) fn new(server: DnsServer, settings: &DnsSettings) -> Self {
        Self {
            server,
            terms: Terms::new(settings),
            built: Mutex::new(None),
        }
    }

    /// Drops the connection; questions under way keep theirs.
    pub(super) fn forget(&self) {
        *self.built.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn known(&self) -> Option<Connected> {
        self.built
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(super) async fn ask(&self, question: &Question) -> Said {
        let resolver = match self.known() {
            Some(resolver) => resolver,
            None => match self.build().await {
                Ok(resolver) => {
                    let mut built = self.built.lock().unwrap_or_else(PoisonError::into_inner);
                    built.get_or_insert(resolver).clone()
                }
                Err(words) => {
                    return Said::failed(question, &format!("{}: {words}", self.server));
                }
            },
        };
        let said = ask(
            &resolver,
            question,
            Absolute::Yes,
            self.terms.dnssec,
            &self.server,
        )
        .await;
        if matches!(said, Said::Failed { is_away: true, .. }) {
            self.forget();
        }
        said
    }

    async fn build(&self) -> Result<Connected, String> {
        let roots = &self.terms.roots;
        let (config, tls) = match &self.server {
            DnsServer::System => return Err("it has no address".to_owned()),
            DnsServer::Plain(address, transport) => (plain(*address, *transport), None),
            DnsServer::Tls { host, port, name } => {
                let ip = address_of(host).await?;
                let mut connection = ConnectionConfig::tls(Arc::clone(name));
                connection.port = *port;
                (
                    at(ip, vec![connection]),
                    Some(tls::with_roots(roots).await?),
                )
            }
            DnsServer::Https(HttpsServer {
                host,
                port,
                path,
                name,
            }) => {
                let ip = address_of(host).await?;
                let mut connection =
                    ConnectionConfig::https(Arc::clone(name), Some(Arc::clone(path)));
                connection.port = *port;
                (
                    at(ip, vec![connection]),
                    Some(tls::with_roots(roots).await?),
                )
            }
        };
        let config = ResolverConfig::from_name_servers(vec![config]);
        let built = self.terms.build(config, tls);
        built.map_err(|error| error.to_string())
    }
}

fn at(ip: IpAddr, connections: Vec<ConnectionConfig>) -> NameServerConfig {
    NameServerConfig::new(ip, true, connections)
}

fn plain(address: SocketAddr, transport: PlainTransport) -> NameServerConfig {
    let mut connections = vec![ConnectionConfig::tcp()];
    if transport == PlainTransport::Both {
        connections.insert(0, ConnectionConfig::udp());
    }
    for connection in &mut connections {
        connection.port = address.port();
    }
    at(address.ip(), connections)
}

/// The address of a resolver that is known by name: the system must know it.
async fn address_of(host: &Host) -> Result<IpAddr, String> {
    let name = match host {
        Host::Ip(ip) => return Ok(*ip),
        Host::Name(name) => Arc::clone(name),
    };
    let found = tokio::net::lookup_host((&*name, 0)).await;
    match found.map(|mut addresses| addresses.next()) {
        Ok(Some(address)) => Ok(address.ip()),
        Ok(None) => Err("the system knows no address of it".to_owned()),
        Err(error) => Err(format!("the system cannot resolve it: {error}")),
    }
}

/// The name servers of the system, for what its own resolution cannot do. They are read again when
/// the list changes.
#[derive(Debug)]
pub(super) struct SystemClient {
    terms: Terms,
    built: Mutex<Option<(Option<SystemTime>, Connected)>>,
}

impl SystemClient {
    pub(super) fn new(settings: &DnsSettings) -> Self {
        Self {
            terms: Terms::new(settings),
            built: Mutex::new(None),
        }
    }

    pub(super) fn forget(&self) {
        *self.built.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    pub(super) async fn ask(&self, question: &Question) -> Said {
        let resolver = match self.resolver() {
            Ok(resolver) => resolver,
            Err(error) => return Said::failed(question, &format!("{RESOLV_CONF}: {error}")),
        };
        let system = &DnsServer::System;
        let said = ask(&resolver, question, Absolute::No, self.terms.dnssec, system).await;
        if matches!(said, Said::Failed { is_away: true, .. }) {
            self.forget();
        }
        said
    }

    fn resolver(&self) -> Result<Connected, NetError> {
        let changed = std::fs::metadata(Path::new(RESOLV_CONF))
            .and_then(|found| found.modified())
            .ok();
        let mut built = self.built.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, resolver)) = &*built
            && *known == changed
        {
            return Ok(resolver.clone());
        }
        let (config, _) = system_conf::read_system_conf()?;
        let resolver = self.terms.build(config, None)?;
        *built = Some((changed, resolver.clone()));
        Ok(resolver)
    }
}

/// Whether a name is asked for as it is, or with the system's search domains.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Absolute {
    Yes,
    No,
}

async fn ask(
    connected: &Connected,
    question: &Question,
    absolute: Absolute,
    dnssec: Dnssec,
    server: &DnsServer,
) -> Said {
    let kind = match question.kind {
        RecordKind::A => RecordType::A,
        RecordKind::Aaaa => RecordType::AAAA,
        RecordKind::Srv => RecordType::SRV,
    };
    let Ok(mut name) = Name::from_ascii(&*question.name) else {
        return Said::nothing(question, None);
    };
    if absolute == Absolute::Yes {
        name.set_fqdn(true);
    }
    match connected.resolver.lookup(name, kind).await {
        Ok(lookup) => positive(question, kind, &lookup, dnssec, server),
        Err(error) => negative(question, error, dnssec, server, &connected.trouble),
    }
}

fn failure(cause: Cause, question: &Question, server: &DnsServer, words: &str) -> Failure {
    let detail = match words {
        "" => format!("{}: by {server}", question.name),
        words => format!("{}: {server}: {words}", question.name),
    };
    Failure::with_detail(cause, detail)
}

fn positive(
    question: &Question,
    kind: RecordType,
    lookup: &Lookup,
    dnssec: Dnssec,
    server: &DnsServer,
) -> Said {
    let mut records = Vec::new();
    let (mut ttl, mut security) = (u32::MAX, Security::Secure);
    for record in lookup.answers() {
        let of_kind = record.record_type() == kind;
        if !of_kind && record.record_type() != RecordType::CNAME {
            continue;
        }
        ttl = ttl.min(record.ttl);
        // Proven false or not provable at all comes as an answer like any other.
        match record.proof {
            _ if dnssec == Dnssec::Off => security = Security::Unchecked,
            Proof::Secure => {}
            Proof::Insecure => security = Security::Insecure,
            Proof::Bogus | Proof::Indeterminate => return bogus(question, server),
        }
        if of_kind {
            records.extend(convert(&record.data));
        }
    }
    if records.is_empty() {
        return Said::nothing(question, None);
    }
    if dnssec == Dnssec::Require && security != Security::Secure {
        return unsigned(question, server);
    }
    Said::Answer(Answer {
        records,
        ttl: Duration::from_secs(ttl.into()),
        security,
    })
}

fn convert(data: &RData) -> Option<Record> {
    match data {
        RData::A(ip) => Some(Record::Address(IpAddr::V4(ip.0))),
        RData::AAAA(ip) => Some(Record::Address(IpAddr::V6(ip.0))),
        // The root as a target says that there is no such service (RFC 2782).
        RData::SRV(service) if service.target.is_root() || service.port == 0 => None,
        RData::SRV(service) => Some(Record::Service(Service {
            priority: service.priority,
            weight: service.weight,
            port: service.port,
            host: service.target.to_ascii().to_ascii_lowercase().into(),
        })),
        _ => None,
    }
}

fn bogus(question: &Question, server: &DnsServer) -> Said {
    Said::Failed {
        failure: failure(Cause::Bogus, question, server, ""),
        is_away: false,
    }
}

fn unsigned(question: &Question, server: &DnsServer) -> Said {
    Said::Failed {
        failure: failure(Cause::Unsigned, question, server, ""),
        is_away: false,
    }
}

fn negative(
    question: &Question,
    error: NetError,
    dnssec: Dnssec,
    server: &DnsServer,
    trouble: &Trouble,
) -> Said {
    let failed = |words: &str, is_away| Said::Failed {
        failure: failure(Cause::ResolverFailed, question, server, words),
        is_away,
    };
    match error {
        NetError::Dns(DnsError::NoRecordsFound(none)) => match none.response_code {
            ResponseCode::NXDomain | ResponseCode::NoError if dnssec != Dnssec::Require => {
                let ttl = none.negative_ttl.map(|ttl| Duration::from_secs(ttl.into()));
                Said::nothing(question, ttl)
            }
            ResponseCode::NXDomain | ResponseCode::NoError => unsigned(question, server),
            code => failed(&format!("it answers {}", code.to_str()), false),
        },
        NetError::Dns(DnsError::Nsec {
            proof, response, ..
        }) => match proof {
            Proof::Secure => {
                let ttl = response.negative_ttl();
                Said::nothing(question, ttl.map(|ttl| Duration::from_secs(ttl.into())))
            }
            Proof::Insecure if dnssec != Dnssec::Require => Said::nothing(question, None),
            Proof::Insecure => unsigned(question, server),
            Proof::Bogus | Proof::Indeterminate => bogus(question, server),
        },
        NetError::Dns(DnsError::DnssecBogus) => bogus(question, server),
        NetError::Dns(DnsError::ResponseCode(code)) => {
            failed(&format!("it answers {}", code.to_str()), false)
        }
        NetError::Timeout => failed("no answer in time", true),
        // The library tells a failed connection by this alone.
        NetError::NoConnections => {
            let words = trouble.take();
            failed(words.as_deref().unwrap_or("it cannot be reached"), true)
        }
        NetError::Busy => failed("it takes no more questions", true),
        NetError::Io(error) => failed(&error.to_string(), true),
        NetError::RustlsError(error) => failed(&error.to_string(), true),
        other => failed(&other.to_string(), other.is_connection_closed()),
    }
}

//! One connection taken apart: what each resolver says, how each address answers, who speaks first.

use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::time::{Duration, Instant};

use ipreconnect_core::address::{Address, interleave};
use ipreconnect_core::failure::{Cause, Failure};
use ipreconnect_core::policy::{AddressPolicy, Via};
use tokio::io::Interest;
use tokio::task::JoinSet;

use crate::clock;
use crate::dial::Dialer;
use crate::resolve::{Names, Question, Record, RecordKind, ServerAnswer};
use crate::socket::Socket;
use crate::target::Target;
use crate::tls::{Connector, TlsSettings};

/// Addresses that are dialled at most.
const ADDRESSES: usize = 64;
/// How long the second family is waited for when the first has answered.
const OTHER_FAMILY: Duration = Duration::from_millis(300);

/// How to take a connection apart.
#[derive(Clone, Debug)]
pub struct Terms {
    /// Which addresses of names may be dialled.
    pub policy: AddressPolicy,
    /// How long one dial may take.
    pub timeout: Duration,
    /// Between two dials of one race (RFC 8305).
    pub attempt_delay: Duration,
    /// How long the server may take to speak first.
    pub first_byte: Duration,
    /// TLS, if the server is to speak it.
    pub tls: Option<TlsSettings>,
}

/// One question, and what each resolver said to it.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The question.
    pub question: Question,
    /// The answers, in the order of the configuration.
    pub answers: Vec<ServerAnswer>,
}

/// One address, and how it answered.
#[derive(Clone, Debug)]
pub struct Dialled {
    /// The address.
    pub address: Address,
    /// Until the connection stood, or the dial failed.
    pub took: Duration,
    /// Why there is no connection, if there is none.
    pub failure: Option<Failure>,
    /// Whether it would win a race in which the others follow at the usual delay.
    pub won: bool,
}

/// Who speaks first on a fresh connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirstByte {
    /// The server, after so long.
    Server(Duration),
    /// The client: the server said nothing for so long.
    Client(Duration),
    /// Nobody: the server closed or reset it after so long.
    Closed(Duration),
}

/// A connection taken apart.
#[derive(Clone, Debug)]
pub struct Inspection {
    /// What the resolvers said.
    pub asked: Vec<Asked>,
    /// Until the name led to an address, by the configured way of asking; none without a name.
    pub resolve: Option<Duration>,
    /// Why the name leads nowhere, if it does not.
    pub resolve_failure: Option<Failure>,
    /// Addresses that are not dialled, and why.
    pub denied: Vec<String>,
    /// Every address, dialled at once.
    pub dialled: Vec<Dialled>,
    /// TLS on the winner's connection, if it was asked for.
    pub tls: Option<Shaken>,
    /// Who speaks first on the winner's connection; none over UDP.
    pub first_byte: Option<FirstByte>,
}

impl Inspection {
    /// The address that won the race.
    #[must_use]
    pub fn winner(&self) -> Option<&Dialled> {
        self.dialled.iter().find(|dialled| dialled.won)
    }
}

/// What one connection cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    /// Until the name led to an address.
    pub resolve: Duration,
    /// Until the connection stood.
    pub connect: Duration,
    /// The TLS handshake, if there is one.
    pub tls: Option<Duration>,
}

/// Takes a connection to `target` apart.
///
/// Cancel safety: dropping the future ends all dials and questions.
pub async fn inspect(names: &Names, target: &Target, terms: &Terms) -> Inspection {
    let mut asked = Vec::new();
    for question in questions(names, target).await {
        let answers = names.ask_each(&question).await;
        asked.push(Asked { question, answers });
    }
    let (resolved, resolve) = resolve(names, target, terms).await;
    let (places, denied, resolve_failure) = match resolved {
        Ok((places, denied)) => (places, denied, None),
        Err(failure) => (Vec::new(), Vec::new(), Some(failure)),
    };
    let (mut dialled, mut sockets) = dial_all(&places, terms).await;
    let winner = race_winner(&dialled, terms.attempt_delay);
    let (mut first_byte, mut tls) = (None, None);
    if let Some(winner) = winner {
        if let Some(dialled) = dialled.get_mut(winner) {
            dialled.won = true;
        }
        if let (Some((_, socket)), Some(Address::Tcp(_) | Address::Unix(_))) = (
            sockets
                .iter()
                .position(|(index, _)| *index == winner)
                .map(|at| sockets.swap_remove(at)),
            places.get(winner),
        ) {
            match (shaker(target, terms), places.get(winner)) {
                (Some(connector), Some(address)) => {
                    let (shaken, first) = tls::inspect(&connector, &socket, address, terms).await;
                    (tls, first_byte) = (Some(shaken), first);
                }
                _ => first_byte = Some(listen(&socket, terms.first_byte).await),
            }
        }
    }
    Inspection {
        asked,
        resolve,
        resolve_failure,
        denied,
        dialled,
        tls,
        first_byte,
    }
}

/// One connection as a client without any memory would make it: looked up, dialled, closed.
///
/// # Errors
/// What failed.
///
/// # Cancel safety
/// Dropping the future gives everything up.
pub async fn cold(names: &Names, target: &Target, terms: &Terms) -> Result<Cost, Failure> {
    let (resolved, resolve) = resolve(names, target, terms).await;
    let (places, _) = resolved?;
    let (dialled, sockets) = dial_all(&places, terms).await;
    let winner = race_winner(&dialled, terms.attempt_delay);
    let Some((index, one)) = winner.and_then(|winner| Some((winner, dialled.get(winner)?))) else {
        return Err(first_failure(dialled));
    };
    let mut cost = Cost {
        resolve: resolve.unwrap_or_default(),
        connect: one.took,
        tls: None,
    };
    let socket = sockets.into_iter().find(|(at, _)| *at == index);
    if let (Some(connector), Some((_, socket))) = (shaker(target, terms), socket) {
        cost.tls = Some(shaken(&connector, &socket, terms).await?);
    }
    Ok(cost)
}

/// Connections to an address that is known already, with sessions that are resumed.
#[derive(Debug)]
pub struct Warmed {
    address: Address,
    connector: Option<Connector>,
    terms: Terms,
}

impl Warmed {
    /// To that address of a target.
    #[must_use]
    pub fn new(target: &Target, address: &Address, terms: &Terms) -> Self {
        Self {
            address: address.clone(),
            connector: shaker(target, terms),
            terms: terms.clone(),
        }
    }

    /// One connection.
    ///
    /// # Errors
    /// What failed.
    ///
    /// # Cancel safety
    /// Dropping the future gives it up.
    pub async fn connect(&self) -> Result<Cost, Failure> {
        let places = std::slice::from_ref(&self.address);
        let (dialled, mut sockets) = dial_all(places, &self.terms).await;
        let (Some(one), Some((_, socket))) = (dialled.first(), sockets.pop()) else {
            return Err(first_failure(dialled));
        };
        let mut cost = Cost {
            resolve: Duration::ZERO,
            connect: one.took,
            tls: None,
        };
        if let Some(connector) = &self.connector {
            cost.tls = Some(shaken(connector, &socket, &self.terms).await?);
        }
        Ok(cost)
    }
}

fn first_failure(dialled: Vec<Dialled>) -> Failure {
    let mut failures = dialled.into_iter().filter_map(|dialled| dialled.failure);
    failures
        .next()
        .unwrap_or_else(|| Failure::new(Cause::NoSuchName))
}

/// The questions that a target asks; of a service, those of its hosts too.
async fn questions(names: &Names, target: &Target) -> Vec<Question> {
    match target {
        Target::Fixed(_) => Vec::new(),
        Target::Name { host, .. } => of_host(host).to_vec(),
        Target::Service { name, .. } => {
            let service = Question::new(name, RecordKind::Srv);
            let hosts = servers_of(names, &service).await;
            let hosts = hosts.unwrap_or_default();
            let mut questions = vec![service];
            for (host, _) in hosts {
                questions.extend(of_host(&host));
            }
            questions.dedup();
            questions
        }
    }
}

fn of_host(host: &str) -> [Question; 2] {
    [RecordKind::Aaaa, RecordKind::A].map(|kind| Question::new(host, kind))
}

async fn servers_of(names: &Names, service: &Question) -> Result<Vec<(String, u16)>, Failure> {
    let records = names.look_up(service).await?;
    let mut servers: Vec<_> = records
        .into_iter()
        .filter_map(|record| match record {
            Record::Service(service) => Some(service),
            Record::Address(_) => None,
        })
        .collect();
    servers.sort_by_key(|server| server.priority);
    let servers = servers.into_iter().map(|s| (s.host.to_string(), s.port));
    Ok(servers.take(ADDRESSES).collect())
}

type Resolved = Result<(Vec<Address>, Vec<String>), Failure>;

/// The addresses that may be dialled, those that may not, and how long it took to know.
async fn resolve(names: &Names, target: &Target, terms: &Terms) -> (Resolved, Option<Duration>) {
    let began = clock::now();
    let (hosts, transport) = match target {
        Target::Fixed(address) => return (Ok((vec![address.clone()], Vec::new())), None),
        Target::Name {
            host,
            port,
            transport,
        } => (vec![(host.clone(), *port)], *transport),
        Target::Service { name, transport } => {
            let service = Question::new(name, RecordKind::Srv);
            match servers_of(names, &service).await {
                Ok(servers) => (servers, *transport),
                Err(failure) => return (Err(failure), Some(began.elapsed())),
            }
        }
    };
    // Who gives out a service's records chooses the hosts, even localhost.
    let via = match target {
        Target::Name { host, .. } => Via::name(host),
        Target::Fixed(_) | Target::Service { .. } => Via::Name,
    };
    let (mut places, mut denied) = (Vec::new(), Vec::new());
    let mut failure = Failure::new(Cause::NoSuchName);
    let mut took = None;
    for (host, port) in hosts {
        match addresses_of(names, &host).await {
            Ok((ips, first)) => {
                took.get_or_insert(first.saturating_duration_since(began));
                for ip in ips {
                    match terms.policy.judge(ip, via) {
                        Ok(()) => places.push(transport.to(SocketAddr::new(ip, port))),
                        Err(why) => denied.push(why.to_string()),
                    }
                }
            }
            Err(why) => failure = why,
        }
    }
    let took = Some(took.unwrap_or_else(|| began.elapsed()));
    places.truncate(ADDRESSES);
    if !places.is_empty() {
        return (Ok((interleave(&places), denied)), took);
    }
    match denied.first() {
        Some(why) => {
            let failure = Failure::with_detail(Cause::NotAllowed, why.as_str());
            (Err(failure), took)
        }
        None => (Err(failure), took),
    }
}

/// Both families, asked at once, and when the first of them had addresses. The other one is waited for
/// only shortly then, as a client would not wait at all.
async fn addresses_of(names: &Names, host: &str) -> Result<(Vec<IpAddr>, Instant), Failure> {
    let [v6, v4] = of_host(host);
    let (mut v6, mut v4) = (pin!(names.look_up(&v6)), pin!(names.look_up(&v4)));
    let (first, other) = tokio::select! {
        first = &mut v6 => (first, v4),
        first = &mut v4 => (first, v6),
    };
    let at = clock::now();
    let mut found = first
        .as_ref()
        .map(|records| ips_of(records))
        .unwrap_or_default();
    let patience = if found.is_empty() {
        Duration::MAX
    } else {
        OTHER_FAMILY
    };
    let other = tokio::time::timeout(patience, other).await;
    let (late, at) = match (other, found.is_empty()) {
        (Ok(other), true) => (Some(other), clock::now()),
        (Ok(other), false) => (Some(other), at),
        (Err(_), _) => (None, at),
    };
    found.extend(late.iter().flatten().flat_map(|records| ips_of(records)));
    match (found.is_empty(), late) {
        (false, _) => Ok((found, at)),
        // A resolver that failed says more than a name without addresses of one family.
        (true, Some(Err(late))) => Err(match first {
            Err(first) if first.cause != Cause::NoSuchName => first,
            _ => late,
        }),
        (true, _) => Err(first
            .err()
            .unwrap_or_else(|| Failure::new(Cause::NoSuchName))),
    }
}

fn ips_of(records: &[Record]) -> Vec<IpAddr> {
    let ips = records.iter().filter_map(|record| match record {
        Record::Address(ip) => Some(*ip),
        Record::Service(_) => None,
    });
    ips.collect()
}

/// Dials every address at once, each for as long as it may take.
async fn dial_all(places: &[Address], terms: &Terms) -> (Vec<Dialled>, Vec<(usize, Socket)>) {
    let mut dials = JoinSet::new();
    for (index, address) in places.iter().enumerate() {
        let (address, timeout) = (address.clone(), terms.timeout);
        dials.spawn(async move {
            let began = clock::now();
            let dial = Dialer::default();
            let connected = tokio::time::timeout(timeout, dial.connect(&address)).await;
            let connected = connected.unwrap_or_else(|_| Err(Failure::new(Cause::TimedOut)));
            (index, began.elapsed(), connected)
        });
    }
    let mut dialled: Vec<(usize, Dialled)> = Vec::new();
    let mut sockets = Vec::new();
    while let Some(ended) = dials.join_next().await {
        let Ok((index, took, connected)) = ended else {
            continue;
        };
        let Some(address) = places.get(index).cloned() else {
            continue;
        };
        let failure = match connected {
            Ok(socket) => {
                sockets.push((index, socket));
                None
            }
            Err(failure) => Some(failure),
        };
        let won = false;
        let one = Dialled {
            address,
            took,
            failure,
            won,
        };
        dialled.push((index, one));
    }
    dialled.sort_by_key(|(index, _)| *index);
    (dialled.into_iter().map(|(_, one)| one).collect(), sockets)
}

/// Who wins if each dial begins when the one before it failed, or after the delay.
fn race_winner(dialled: &[Dialled], delay: Duration) -> Option<usize> {
    let mut starts = Duration::ZERO;
    let mut best: Option<(Duration, usize)> = None;
    for (index, one) in dialled.iter().enumerate() {
        if one.failure.is_none() {
            let ends = starts + one.took;
            if best.is_none_or(|(soonest, _)| ends < soonest) {
                best = Some((ends, index));
            }
            starts += delay;
        } else {
            starts += one.took.min(delay);
        }
    }
    best.map(|(_, index)| index)
}

/// Waits for the server to speak first.
async fn listen(socket: &Socket, patience: Duration) -> FirstByte {
    let began = clock::now();
    let readable = async {
        loop {
            let Ok(mut guard) = socket.ready(Interest::READABLE).await else {
                return false;
            };
            match peek(socket) {
                Ok(count) => return count > 0,
                Err(rustix::io::Errno::AGAIN) => guard.clear_ready(),
                Err(_) => return false,
            }
        }
    };
    heard(tokio::time::timeout(patience, readable).await.ok(), began)
}

fn peek(socket: &Socket) -> Result<usize, rustix::io::Errno> {
    let mut byte = [0];
    let flags = rustix::net::RecvFlags::PEEK | rustix::net::RecvFlags::DONTWAIT;
    rustix::net::recv(socket.get_ref(), &mut byte, flags).map(|(_, count)| count)
}

fn heard(spoke: Option<bool>, began: Instant) -> FirstByte {
    let after = began.elapsed();
    match spoke {
        Some(true) => FirstByte::Server(after),
        Some(false) => FirstByte::Closed(after),
        None => FirstByte::Client(after),
    }
}

mod tls;

pub use tls::Shaken;
use tls::{shaken, shaker};

#[cfg(test)]
mod tests;

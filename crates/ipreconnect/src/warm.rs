//! Connections that are kept ready: dialled, and inside TLS where the origin has it, before anybody
//! needs them.
//!
//! They are made on the driver's runtime and handed to whoever dials next, with no lock that anybody
//! holds for long. Who takes one looks at it as at a fresh one: whether it is still there, whether its
//! certificate still holds, and whether the settings are those it was made by.

use std::collections::{BTreeMap, VecDeque};
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use ipreconnect_core::address::EndpointId;
use ipreconnect_core::balance::Standing;
use ipreconnect_core::failure::{Cause, Failure};
use ipreconnect_core::origin::EndpointView;
use ipreconnect_core::warm::IdleLimit;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{Shutdown, shutdown};
use tokio::io::Interest;
use tokio::sync::Notify;
use tokio::task::{AbortHandle, JoinSet};

use crate::clock;
use crate::dial::{Dialer, failure};
use crate::shared::{Life, Shared};
use crate::socket::{Socket, register};
use crate::tls::{Connector, Proof, Received, Session, failure_of};

/// After a failure to make one.
const PAUSE: Duration = Duration::from_secs(1);
/// What a server says behind its handshake, as the tickets to resume it, is waited for so long.
const LATE: Duration = Duration::from_millis(20);
/// Attempts under way at once.
const CONCURRENT: usize = 8;

/// The connections that wait to be used.
#[derive(Debug, Default)]
pub(crate) struct Warm {
    shelf: Mutex<Shelf>,
    /// One was taken, or is gone, or the settings changed.
    pub(crate) changed: Notify,
}

#[derive(Debug, Default)]
struct Shelf {
    ready: BTreeMap<EndpointId, VecDeque<Ready>>,
    limits: BTreeMap<EndpointId, IdleLimit>,
    next: u64,
}

/// One connection.
#[derive(Debug)]
struct Ready {
    number: u64,
    socket: Arc<Socket>,
    opened: Opened,
    since: Instant,
    /// Looks after it while nobody uses it.
    keeper: Option<AbortHandle>,
}

/// What was made of a connected socket.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) tls: Option<Box<Session>>,
    connector: Option<Arc<Connector>>,
    proof: Option<Proof>,
    /// What making it had taken.
    pub(crate) took: Duration,
}

impl Warm {
    /// Takes one that is still good, registered with the runtime of the caller.
    pub(crate) fn take(
        &self,
        endpoint: EndpointId,
        connector: Option<&Arc<Connector>>,
    ) -> Option<(Socket, Opened)> {
        loop {
            let ready = {
                let mut shelf = self.shelf();
                // The youngest is the farthest from the origin's limit.
                shelf.ready.get_mut(&endpoint)?.pop_back()?
            };
            self.changed.notify_one();
            if let Some(keeper) = &ready.keeper {
                keeper.abort();
            }
            if !ready.is_good(connector) {
                end(&ready.socket);
                continue;
            }
            // The keeper's runtime lets go of its own descriptor when it gets to it.
            let own = ready.socket.get_ref().try_clone().ok()?;
            return Some((register(own).ok()?, ready.opened));
        }
    }

    /// How many are ready for an endpoint.
    pub(crate) fn count(&self, endpoint: EndpointId) -> usize {
        let shelf = self.shelf();
        shelf.ready.get(&endpoint).map_or(0, VecDeque::len)
    }

    /// Ends all of them but those of these endpoints that were made by these settings.
    fn keep_only(&self, endpoints: &[EndpointId], connector: Option<&Arc<Connector>>) {
        let mut ended = Vec::new();
        let mut shelf = self.shelf();
        shelf.ready.retain(|endpoint, ready| {
            let all = std::mem::take(ready);
            let (good, bad): (VecDeque<_>, VecDeque<_>) = all.into_iter().partition(|one| {
                endpoints.contains(endpoint) && same(one.opened.connector.as_ref(), connector)
            });
            *ready = good;
            ended.extend(bad);
            !ready.is_empty()
        });
        shelf
            .limits
            .retain(|endpoint, _| endpoints.contains(endpoint));
        drop(shelf);
        for one in ended {
            if let Some(keeper) = &one.keeper {
                keeper.abort();
            }
            end(&one.socket);
        }
    }

    fn put(
        self: &Arc<Self>,
        endpoint: EndpointId,
        socket: Socket,
        opened: Opened,
        longest: Duration,
    ) {
        let (socket, since) = (Arc::new(socket), clock::now());
        let mut shelf = self.shelf();
        shelf.next += 1;
        let number = shelf.next;
        let retire = shelf
            .limits
            .entry(endpoint)
            .or_default()
            .retire_after(longest);
        let keeper = tokio::spawn(watch(
            Arc::downgrade(self),
            endpoint,
            number,
            Arc::clone(&socket),
            retire,
        ));
        let ready = shelf.ready.entry(endpoint).or_default();
        ready.push_back(Ready {
            number,
            socket,
            opened,
            since,
            keeper: Some(keeper.abort_handle()),
        });
    }

    fn remove(&self, endpoint: EndpointId, number: u64) -> Option<Ready> {
        let mut shelf = self.shelf();
        let ready = shelf.ready.get_mut(&endpoint)?;
        let at = ready.iter().position(|one| one.number == number)?;
        ready.remove(at)
    }

    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Warm {
    fn drop(&mut self) {
        self.keep_only(&[], None);
    }
}

impl Ready {
    fn is_good(&self, connector: Option<&Arc<Connector>>) -> bool {
        let holds = match (&self.opened.proof, connector) {
            (Some(proof), Some(connector)) => connector.in_time(&proof.certificate).is_ok(),
            _ => true,
        };
        holds && same(self.opened.connector.as_ref(), connector) && is_open(&self.socket)
    }
}

impl Opened {
    /// Who is at its other end.
    pub(crate) fn proof(&self) -> Option<&Proof> {
        self.proof.as_ref()
    }
}

fn same(one: Option<&Arc<Connector>>, other: Option<&Arc<Connector>>) -> bool {
    match (one, other) {
        (None, None) => true,
        (Some(one), Some(other)) => Arc::ptr_eq(one, other),
        _ => false,
    }
}

/// Whether the peer has not closed it. What it has said meanwhile is for whoever takes it.
fn is_open(socket: &Socket) -> bool {
    let mut look = [PollFd::new(socket.get_ref(), PollFlags::RDHUP)];
    match poll(&mut look, Some(&Timespec::default())) {
        // Nothing but its end, or an error, was asked for.
        Ok(ended) => ended == 0,
        Err(_) => false,
    }
}

fn end(socket: &Socket) {
    // A peer that is gone already has nothing left to shut down.
    let _ = shutdown(socket.get_ref(), Shutdown::Both);
}

/// Looks after one that nobody uses: until its time is over, or the origin closes it.
async fn watch(
    warm: Weak<Warm>,
    endpoint: EndpointId,
    number: u64,
    socket: Arc<Socket>,
    retire: Duration,
) {
    let closed = tokio::time::timeout(retire, closing(&socket)).await.is_ok();
    let Some(warm) = warm.upgrade() else {
        return;
    };
    let Some(mut ready) = warm.remove(endpoint, number) else {
        return;
    };
    // It must not end itself before it has told.
    ready.keeper = None;
    let idle = ready.since.elapsed();
    {
        let mut shelf = warm.shelf();
        let limit = shelf.limits.entry(endpoint).or_default();
        if closed {
            limit.closed(idle);
            tracing::debug!(?idle, limit = ?limit.known(), "the origin closed an idle connection");
        } else {
            limit.retired();
        }
    }
    if let Some(tls) = &mut ready.opened.tls {
        // The peer that does not take it learns by the end of the connection.
        let _ = tls.close(&socket);
    }
    end(&socket);
    warm.changed.notify_one();
}

/// Waits until the peer closes it, whatever it says before.
async fn closing(socket: &Socket) {
    loop {
        let Ok(mut guard) = socket.ready(Interest::READABLE).await else {
            return;
        };
        if guard.ready().is_read_closed() {
            return;
        }
        guard.clear_ready();
    }
}

/// The endpoints for which some are to be ready: the preferred one, and the first backup.
fn wanted(endpoints: &[EndpointView]) -> Vec<&EndpointView> {
    let mut wanted: Vec<&EndpointView> = Vec::with_capacity(2);
    for endpoint in endpoints {
        let is_good = endpoint.standing == Standing::Good;
        let is_new = wanted
            .iter()
            .all(|other| other.priority != endpoint.priority);
        if is_good && is_new && wanted.len() < 2 {
            wanted.push(endpoint);
        }
    }
    wanted
}

/// Keeps the floor of one origin, for as long as it lives.
pub(crate) async fn keep(shared: Arc<Shared>) {
    let mut life = shared.life.subscribe();
    let mut floor = Floor::default();
    loop {
        if *life.borrow_and_update() == Life::Closed {
            shared.warm.keep_only(&[], None);
            return;
        }
        floor.fill(&shared);
        let due = floor.not_before.values().min().copied();
        tokio::select! {
            changed = life.changed() => if changed.is_err() { return },
            () = shared.warm.changed.notified() => {}
            Some(ended) = floor.making.join_next() => {
                if let Ok((endpoint, made)) = ended {
                    floor.ended(endpoint, made);
                }
            }
            () = sleep(due) => {}
        }
    }
}

/// What is under way to keep the floor.
#[derive(Default)]
struct Floor {
    making: JoinSet<(EndpointId, Made)>,
    underway: BTreeMap<EndpointId, usize>,
    /// What failed is not tried again before then.
    not_before: BTreeMap<EndpointId, Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Made {
    Yes,
    No,
}

impl Floor {
    /// Begins to make what is missing, and ends what is not wanted any more.
    fn fill(&mut self, shared: &Arc<Shared>) {
        let settings = shared.settings.load_full();
        let connector = shared.tls.load_full();
        let snapshot = shared.snapshot.load_full();
        let targets = match settings.warm.connections {
            0 => Vec::new(),
            _ => wanted(&snapshot.view().endpoints),
        };
        let ids: Vec<EndpointId> = targets.iter().map(|endpoint| endpoint.id).collect();
        shared.warm.keep_only(&ids, connector.as_ref());
        let now = clock::now();
        self.not_before.retain(|_, at| *at > now);
        for endpoint in targets {
            let underway = self.underway.get(&endpoint.id).copied().unwrap_or_default();
            let missing = settings
                .warm
                .connections
                .saturating_sub(shared.warm.count(endpoint.id) + underway)
                .min(CONCURRENT.saturating_sub(underway));
            if missing == 0 || self.not_before.contains_key(&endpoint.id) {
                continue;
            }
            *self.underway.entry(endpoint.id).or_default() += missing;
            for _ in 0..missing {
                let work = one_more(Arc::clone(shared), endpoint.clone(), connector.clone());
                self.making.spawn(work);
            }
        }
    }

    fn ended(&mut self, endpoint: EndpointId, made: Made) {
        if let Some(count) = self.underway.get_mut(&endpoint) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.underway.remove(&endpoint);
            }
        }
        if made == Made::No {
            // What is wrong with the endpoint is found by its heartbeat, and by clients.
            self.not_before.insert(endpoint, clock::now() + PAUSE);
        }
    }
}

/// Makes one, and puts it where it is found.
async fn one_more(
    shared: Arc<Shared>,
    endpoint: EndpointView,
    connector: Option<Arc<Connector>>,
) -> (EndpointId, Made) {
    let settings = shared.settings.load_full();
    let dialer = Dialer {
        source: settings.source,
        ports: settings.local_ports,
        announce: settings.announce,
    };
    let made = make(&shared, dialer, &endpoint, connector);
    let patience = settings.supervisor.connect_timeout;
    match tokio::time::timeout(patience, made).await {
        Ok(Ok((socket, opened))) => {
            shared
                .warm
                .put(endpoint.id, socket, opened, settings.warm.idle);
            (endpoint.id, Made::Yes)
        }
        Ok(Err(_)) | Err(_) => (endpoint.id, Made::No),
    }
}

async fn sleep(until: Option<Instant>) {
    match until {
        Some(until) => tokio::time::sleep_until(until.into()).await,
        None => std::future::pending().await,
    }
}

/// Makes one.
async fn make(
    shared: &Shared,
    dialer: Dialer,
    endpoint: &EndpointView,
    connector: Option<Arc<Connector>>,
) -> Result<(Socket, Opened), Failure> {
    let began = clock::now();
    let address = &endpoint.address;
    let socket = dialer.connect(address).await?;
    let (tls, proof) = match &connector {
        Some(connector) => {
            let opened = shared.open(connector, &socket, endpoint.entry, address);
            let (session, proof) = opened.await?;
            (Some(session), Some(proof))
        }
        None => (None, None),
    };
    let mut opened = Opened {
        tls,
        connector,
        proof,
        took: began.elapsed(),
    };
    if let Some(session) = &mut opened.tls {
        session.settle(&socket, LATE).await?;
    }
    Ok((socket, opened))
}

impl Session {
    /// Takes what the server says behind its handshake, as the tickets to resume it; what it says
    /// beyond that is kept for whoever reads first.
    async fn settle(&mut self, socket: &Socket, patience: Duration) -> Result<(), Failure> {
        let mut early = Vec::new();
        let received = poll_fn(|cx| {
            self.poll_receive(cx, socket, &mut |bytes| early.extend_from_slice(bytes))
        });
        let received = tokio::time::timeout(patience, received).await;
        self.keep_early(early);
        match received {
            Err(_) | Ok(Ok(Received::Bytes(_))) => Ok(()),
            Ok(Err(error)) => Err(match error.downcast::<rustls::Error>() {
                Ok(error) => failure_of(&error),
                Err(error) => failure(&error),
            }),
            Ok(Ok(_)) => Err(Failure::new(Cause::Closed)),
        }
    }
}

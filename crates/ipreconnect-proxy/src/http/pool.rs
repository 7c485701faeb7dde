//! The connections that a worker keeps to each origin between requests, and what it knows of it. Nobody
//! else has to do with them, so that nothing is locked.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipreconnect::core::address::EndpointId;
use ipreconnect::core::balance::Standing;
use ipreconnect::core::budget::{Budget, Permit};
use ipreconnect::core::http::Pace;
use ipreconnect::core::warm::IdleLimit;
use ipreconnect::{Origin, Snapshot, clock};
use tokio::sync::Notify;

use super::Behind;
use super::h2::{ALLOWED, Mux};
use super::line::Upstream;
use crate::{number, watch};

/// Between two looks at idle connections.
const LOOK: Duration = Duration::from_secs(1);
/// Retries that are allowed in a second whatever the traffic.
const FLOOR: u32 = 10;
/// What an origin says of how long it keeps a connection is used up to this share.
const SHARE: u32 = 80;
/// Idle connections to one endpoint.
const IDLE: usize = 1024;

/// Idle connections of one worker to all origins that are made on the fly.
const RESTING: usize = 256;

/// An idle connection to an origin that is made on the fly, of which there may be very many.
#[derive(Debug)]
pub(super) struct Resting;

impl Resting {
    fn begin() -> Option<Self> {
        let count = RESTS.get();
        (count < RESTING).then(|| {
            RESTS.set(count + 1);
            Self
        })
    }
}

impl Drop for Resting {
    fn drop(&mut self) {
        // A thread that ends has none any more.
        let _ = RESTS.try_with(|count| count.set(count.get().saturating_sub(1)));
    }
}

/// What one worker has of one origin.
struct Pool {
    shelves: Vec<Shelf>,
    budget: Budget,
    /// The share that the budget was made with.
    share: f64,
    /// Rung when there is something to look after.
    bell: Arc<Notify>,
    /// Shared connections that are being dialled.
    dials: u32,
    /// Told when one has come, or will not.
    came: Arc<Notify>,
    /// Bytes of requests that wait in the hold.
    held: u64,
    /// Connections that are being dialled to nobody knows yet which endpoint.
    opening: u32,
    /// Told when that may be known.
    known: Arc<Notify>,
    /// Requests that wait for room.
    waiting: u32,
}

struct Shelf {
    endpoint: EndpointId,
    idle: Vec<Upstream>,
    /// Connections that take many requests.
    shared: Vec<Arc<Mux>>,
    /// How many requests at once each of those took.
    allowed: u32,
    limit: IdleLimit,
    /// How long its answers take, where anybody wants to know.
    pace: Pace,
    longest: Duration,
    /// Requests under way.
    busy: u32,
    /// Connections that are being dialled.
    opening: u32,
    /// Requests that wait for room.
    waiting: u32,
    /// Told when there may be room for one more.
    freed: Arc<Notify>,
}

thread_local! {
    static POOLS: RefCell<BTreeMap<usize, Pool>> = const { RefCell::new(BTreeMap::new()) };
    static RESTS: Cell<usize> = const { Cell::new(0) };
}

fn with<T>(behind: &Behind, work: impl FnOnce(&mut Pool) -> T) -> T {
    let origin = behind.origin();
    let share = behind.settings().budget;
    POOLS.with_borrow_mut(|pools| {
        let pool = pools.entry(origin.identity()).or_insert_with(|| {
            let bell = Arc::new(Notify::new());
            tokio::spawn(follow(origin.clone(), Arc::clone(&bell)));
            Pool {
                shelves: Vec::new(),
                budget: Budget::new(clock::now(), share, FLOOR),
                share,
                bell,
                dials: 0,
                came: Arc::default(),
                held: 0,
                opening: 0,
                known: Arc::default(),
                waiting: 0,
            }
        });
        if pool.share.to_bits() != share.to_bits() {
            pool.share = share;
            pool.budget = Budget::new(clock::now(), share, FLOOR);
        }
        work(pool)
    })
}

impl Pool {
    /// The endpoint for one request.
    fn choose(&self, behind: &Behind, hash: Option<u64>) -> Option<EndpointId> {
        let open = |endpoint| {
            let mut shelves = self.shelves.iter();
            let shelf = shelves.find(|shelf| shelf.endpoint == endpoint);
            shelf.map_or(0, |shelf| shelf.busy)
        };
        let chooser = behind.chooser();
        let origin = behind.origin();
        origin.look(|snapshot| chooser.first(snapshot, hash, open))
    }

    fn shelf(&mut self, endpoint: EndpointId) -> &mut Shelf {
        let at = self.shelves.iter().position(|one| one.endpoint == endpoint);
        let at = at.unwrap_or_else(|| {
            self.shelves.push(Shelf {
                endpoint,
                idle: Vec::new(),
                shared: Vec::new(),
                allowed: ALLOWED,
                limit: IdleLimit::default(),
                pace: Pace::default(),
                longest: Duration::MAX,
                busy: 0,
                opening: 0,
                waiting: 0,
                freed: Arc::default(),
            });
            self.shelves.len() - 1
        });
        match self.shelves.get_mut(at) {
            Some(shelf) => shelf,
            None => unreachable!("the shelf was just found or made"),
        }
    }
}

impl Shelf {
    /// Takes the one that was used last, if it still is of use.
    fn take(&mut self, now: Instant) -> Option<Upstream> {
        while let Some(mut upstream) = self.idle.pop() {
            let rested = upstream.rested(now);
            if rested >= self.retire_after(&upstream) {
                self.limit.retired();
            } else if upstream.way.is_quiet() && !upstream.is_condemned() {
                upstream.resting = None;
                return Some(upstream);
            } else {
                self.limit.closed(rested);
            }
        }
        None
    }

    fn retire_after(&self, upstream: &Upstream) -> Duration {
        let learned = self.limit.retire_after(self.longest);
        let told = upstream
            .keeps_for()
            .map(|keeps| keeps.saturating_mul(SHARE) / 100);
        told.map_or(learned, |told| told.min(learned))
    }

    /// A connection that takes a request at once.
    fn find(&mut self, behind: &Behind, now: Instant) -> Option<Upstream> {
        if behind.settings().is_h2 {
            let mux = self.join()?;
            return Some(Upstream::join(behind.origin(), &mux, now));
        }
        self.take(now)
    }

    /// A shared connection that takes one more request; the fullest, so that the others may empty.
    fn join(&mut self) -> Option<Arc<Mux>> {
        self.shared.retain(|mux| !mux.is_leaving());
        let mut shared = self.shared.iter();
        let roomy = shared.find(|mux| {
            self.allowed = mux.allowed();
            mux.open_requests() < self.allowed
        });
        roomy.map(Arc::clone)
    }

    fn is_empty(&self) -> bool {
        self.idle.is_empty() && self.shared.is_empty()
    }

    /// Ends those that are of no use any more.
    fn tidy(&mut self, now: Instant) {
        let longest = self.longest;
        self.shared.retain(|mux| {
            let rests = mux.rests();
            let rested = rests.map(|rests| now.saturating_duration_since(rests));
            !mux.is_leaving() && rested.is_none_or(|rested| rested < longest)
        });
        for mut upstream in std::mem::take(&mut self.idle) {
            let rested = upstream.rested(now);
            if rested >= self.retire_after(&upstream) {
                self.limit.retired();
            } else if !upstream.way.is_quiet() {
                // It was open at the last look.
                self.limit.closed(rested.saturating_sub(LOOK));
            } else if !upstream.is_condemned() {
                self.idle.push(upstream);
            }
        }
    }
}

/// An endpoint for one request, and a connection to it if one rests, or takes one more. Counts the request
/// as live traffic.
pub(super) fn take(behind: &Behind, hash: Option<u64>, now: Instant) -> Option<Upstream> {
    with(behind, |pool| pool.budget.deposit(now));
    join(behind, hash, now)
}

/// The same of a request that is counted already.
pub(super) fn join(behind: &Behind, hash: Option<u64>, now: Instant) -> Option<Upstream> {
    with(behind, |pool| {
        let endpoint = pool.choose(behind, hash)?;
        let shelf = pool.shelf(endpoint);
        // What is free is theirs who have waited for it.
        let upstream = match shelf.waiting {
            0 => shelf.find(behind, now),
            _ => None,
        };
        if upstream.is_none() {
            behind.chooser().keep(endpoint);
        }
        upstream
    })
}

/// An idle connection to another endpoint than this one, the best there is.
pub(super) fn elsewhere(behind: &Behind, avoided: EndpointId, now: Instant) -> Option<Upstream> {
    let endpoints = behind.origin().look(|snapshot| others(snapshot, avoided));
    with(behind, |pool| {
        let mut endpoints = endpoints.into_iter();
        endpoints.find_map(|endpoint| pool.shelf(endpoint).find(behind, now))
    })
}

/// Endpoints in good standing but this one, the best first.
pub(super) fn others(snapshot: &Snapshot, avoided: EndpointId) -> Vec<EndpointId> {
    let endpoints = snapshot.view().endpoints.iter();
    let mut good: Vec<(u32, EndpointId)> = endpoints
        .filter(|one| one.standing == Standing::Good && one.id != avoided)
        .map(|one| (one.priority, one.id))
        .collect();
    good.sort_unstable();
    good.into_iter().map(|(_, endpoint)| endpoint).collect()
}

/// An idle connection to this very endpoint.
pub(super) fn again(behind: &Behind, endpoint: EndpointId, now: Instant) -> Option<Upstream> {
    with(behind, |pool| pool.shelf(endpoint).find(behind, now))
}

/// Whether an endpoint can be reached, as far as is known.
pub(super) fn is_usable(behind: &Behind) -> bool {
    let origin = behind.origin();
    origin.look(|snapshot| snapshot.view().is_usable())
}

/// An answer to `key` took so long, or was waited for so long in vain.
pub(super) fn paced(behind: &Behind, endpoint: EndpointId, key: u64, took: Duration) {
    with(behind, |pool| pool.shelf(endpoint).pace.add(key, took));
}

/// After how long the answer to `key` is late.
pub(super) fn late_after(behind: &Behind, endpoint: EndpointId, key: u64) -> Option<Duration> {
    with(behind, |pool| pool.shelf(endpoint).pace.late_after(key))
}

/// How many requests at once a fresh connection to an endpoint is expected to take.
pub(super) fn allowed(behind: &Behind, endpoint: EndpointId) -> u32 {
    with(behind, |pool| pool.shelf(endpoint).allowed)
}

/// Keeps a fresh connection for all, and takes the first request of it.
pub(super) fn admit(behind: &Behind, mux: Arc<Mux>) -> Upstream {
    let longest = behind.settings().pool_idle;
    let upstream = Upstream::join(behind.origin(), &mux, clock::now());
    with(behind, |pool| {
        let bell = Arc::clone(&pool.bell);
        let shelf = pool.shelf(mux.endpoint);
        shelf.longest = longest;
        shelf.shared.push(mux);
        shelf.freed.notify_waiters();
        bell.notify_one();
    });
    upstream
}

/// Told when a shared connection has come, or will not.
pub(super) fn came(behind: &Behind) -> Arc<Notify> {
    with(behind, |pool| Arc::clone(&pool.came))
}

/// Whether somebody dials a shared connection.
pub(super) fn is_dialling(behind: &Behind) -> bool {
    with(behind, |pool| pool.dials > 0)
}

/// A shared connection is being dialled for as long as this lives.
pub(super) struct Dialling<'b>(&'b Behind);

impl<'b> Dialling<'b> {
    pub(super) fn begin(behind: &'b Behind) -> Self {
        with(behind, |pool| pool.dials += 1);
        Self(behind)
    }
}

impl Drop for Dialling<'_> {
    fn drop(&mut self) {
        let identity = self.0.origin().identity();
        let _ = POOLS.try_with(|pools| {
            if let Some(pool) = pools.borrow_mut().get_mut(&identity) {
                pool.dials = pool.dials.saturating_sub(1);
                pool.came.notify_waiters();
            }
        });
    }
}

/// One is in use.
pub(super) fn begin(behind: &Behind, endpoint: EndpointId) {
    with(behind, |pool| pool.shelf(endpoint).busy += 1);
}

/// It is not in use any more. Also called when everything ends, and nothing can be begun any more.
pub(super) fn end(behind: &Behind, endpoint: EndpointId) {
    let identity = behind.origin().identity();
    let _ = POOLS.try_with(|pools| {
        let mut pools = pools.borrow_mut();
        if let Some(pool) = pools.get_mut(&identity) {
            let shelf = pool.shelf(endpoint);
            shelf.busy = shelf.busy.saturating_sub(1);
            if shelf.waiting > 0 {
                shelf.freed.notify_one();
            }
        }
    });
}

/// Room for one more connection, to this endpoint if it is known, for as long as this lives.
pub(super) struct Opening<'b>(&'b Behind, Option<EndpointId>);

/// Waiting for room, for as long as this lives.
pub(super) struct Queued<'b> {
    behind: &'b Behind,
    endpoint: Option<EndpointId>,
    freed: Arc<Notify>,
}

impl Queued<'_> {
    /// Told when there may be room, or when it may be found elsewhere.
    pub(super) async fn room(&self) {
        self.freed.notified().await;
    }
}

/// Asks for room for one more connection, where it is bounded.
pub(super) enum Room<'b> {
    /// It is not.
    Free,
    Given(Opening<'b>),
    /// A connection that somebody else has left.
    Left(Upstream),
    /// There is none at the moment.
    Full(Queued<'b>),
    /// And too many wait already.
    Crowded,
}

/// `has_waited` is true of those who have been told that there may be some.
pub(super) fn room(behind: &Behind, hash: Option<u64>, has_waited: bool) -> Room<'_> {
    let Some(most) = behind.settings().pool_max else {
        return Room::Free;
    };
    let most = number::part(most.into());
    let crowd = number::part(behind.origin().settings().hold.clients as u64);
    with(behind, |pool| {
        let endpoint = pool.choose(behind, hash);
        let is_crowded = u64::from(pool.waiting) >= crowd;
        let Some(endpoint) = endpoint else {
            if u64::from(pool.opening) < most {
                pool.opening += 1;
                return Room::Given(Opening(behind, None));
            }
            return pool.queue(behind, None, is_crowded);
        };
        let is_shared = behind.settings().is_h2;
        let shelf = pool.shelf(endpoint);
        let is_turn = has_waited || shelf.waiting == 0;
        if is_turn && let Some(upstream) = shelf.find(behind, clock::now()) {
            return Room::Left(upstream);
        }
        let open = if is_shared {
            u32::try_from(shelf.shared.len()).unwrap_or(u32::MAX)
        } else {
            shelf.busy
        };
        if !is_turn || u64::from(open + shelf.opening) >= most {
            return pool.queue(behind, Some(endpoint), is_crowded);
        }
        shelf.opening += 1;
        behind.chooser().keep(endpoint);
        Room::Given(Opening(behind, Some(endpoint)))
    })
}

impl Pool {
    fn queue<'b>(
        &mut self,
        behind: &'b Behind,
        endpoint: Option<EndpointId>,
        is_crowded: bool,
    ) -> Room<'b> {
        if is_crowded {
            return Room::Crowded;
        }
        self.waiting += 1;
        let freed = match endpoint {
            None => Arc::clone(&self.known),
            Some(endpoint) => {
                let shelf = self.shelf(endpoint);
                shelf.waiting += 1;
                Arc::clone(&shelf.freed)
            }
        };
        Room::Full(Queued {
            behind,
            endpoint,
            freed,
        })
    }

    /// Has all who wait look again.
    fn call_all(&self) {
        self.known.notify_waiters();
        for shelf in &self.shelves {
            shelf.freed.notify_waiters();
        }
    }
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        let identity = self.behind.origin().identity();
        let _ = POOLS.try_with(|pools| {
            if let Some(pool) = pools.borrow_mut().get_mut(&identity) {
                pool.waiting = pool.waiting.saturating_sub(1);
                if let Some(endpoint) = self.endpoint {
                    let shelf = pool.shelf(endpoint);
                    shelf.waiting = shelf.waiting.saturating_sub(1);
                }
            }
        });
    }
}

impl Drop for Opening<'_> {
    fn drop(&mut self) {
        let identity = self.0.origin().identity();
        let _ = POOLS.try_with(|pools| {
            if let Some(pool) = pools.borrow_mut().get_mut(&identity) {
                let Some(endpoint) = self.1 else {
                    pool.opening = pool.opening.saturating_sub(1);
                    pool.known.notify_one();
                    return;
                };
                let shelf = pool.shelf(endpoint);
                shelf.opening = shelf.opening.saturating_sub(1);
                // Where the connection led nowhere, somebody else may try.
                shelf.freed.notify_one();
            }
        });
    }
}

/// Bytes that wait in the hold for as long as this lives.
pub(super) struct Held<'b>(&'b Behind, u64);

/// Takes room for what waits; `None` if there is none.
pub(super) fn hold(behind: &Behind, bytes: u64) -> Option<Held<'_>> {
    with(behind, |pool| {
        let most = number::part(behind.settings().hold_bytes);
        if bytes > 0 && pool.held + bytes > most {
            return None;
        }
        pool.held += bytes;
        Some(Held(behind, bytes))
    })
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let identity = self.0.origin().identity();
        let _ = POOLS.try_with(|pools| {
            if let Some(pool) = pools.borrow_mut().get_mut(&identity) {
                pool.held = pool.held.saturating_sub(self.1);
            }
        });
    }
}

/// Keeps a connection for the next request.
pub(super) fn give(behind: &Behind, mut upstream: Upstream) {
    let longest = behind.settings().pool_idle;
    if behind.origin().is_made_on_the_fly() {
        upstream.resting = Resting::begin();
        if upstream.resting.is_none() {
            return;
        }
    }
    with(behind, |pool| {
        let bell = Arc::clone(&pool.bell);
        let shelf = pool.shelf(upstream.line().endpoint());
        shelf.longest = longest;
        if shelf.idle.is_empty() {
            bell.notify_one();
        }
        if shelf.idle.len() < IDLE {
            shelf.idle.push(upstream);
        }
    });
}

/// Asks for a retry.
pub(super) fn withdraw(behind: &Behind, now: Instant) -> Permit {
    with(behind, |pool| pool.budget.withdraw(now))
}

/// Ends all that rests on this worker, since there are no descriptors for what is needed now.
pub(crate) fn make_room() {
    let resting: Vec<Upstream> = POOLS.with_borrow_mut(|pools| {
        let shelves = pools.values_mut().flat_map(|pool| &mut pool.shelves);
        shelves.flat_map(|shelf| shelf.idle.drain(..)).collect()
    });
    drop(resting);
}

/// Ends all that rests: the worker ends.
pub(crate) fn clear() {
    let pools = POOLS.take();
    drop(pools);
}

/// Looks after what one worker keeps of one origin, until that ends.
async fn follow(origin: Origin, bell: Arc<Notify>) {
    let identity = origin.identity();
    let mut changes = origin.changes();
    loop {
        let is_empty = POOLS.with_borrow(|pools| {
            let pool = pools.get(&identity);
            pool.is_none_or(|pool| pool.shelves.iter().all(Shelf::is_empty))
        });
        tokio::select! {
            changed = changes.next() => {
                if changed.is_none() {
                    let gone = POOLS.with_borrow_mut(|pools| pools.remove(&identity));
                    drop(gone);
                    return;
                }
                watch::tell(&origin);
                forget_strangers(&origin);
            }
            () = bell.notified() => {}
            () = tokio::time::sleep(LOOK), if !is_empty => {
                POOLS.with_borrow_mut(|pools| {
                    let now = clock::now();
                    let shelves = pools.get_mut(&identity).into_iter();
                    for shelf in shelves.flat_map(|pool| &mut pool.shelves) {
                        shelf.tidy(now);
                    }
                });
            }
        }
    }
}

/// Ends what leads to endpoints that the origin does not have any more.
fn forget_strangers(origin: &Origin) {
    POOLS.with_borrow_mut(|pools| {
        let Some(pool) = pools.get_mut(&origin.identity()) else {
            return;
        };
        origin.look(|snapshot| {
            let known = |endpoint| {
                let mut endpoints = snapshot.view().endpoints.iter();
                endpoints.any(|one| one.id == endpoint)
            };
            pool.shelves
                .retain(|shelf| shelf.busy > 0 || shelf.waiting > 0 || known(shelf.endpoint));
        });
        pool.call_all();
    });
}

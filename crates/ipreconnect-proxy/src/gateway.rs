//! All workers of a process, and the listeners they share.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use ipreconnect::Origin;
use ipreconnect_ports::Namespace;

use crate::Plane;
use crate::access::Access;
use crate::counters::{Counters, Totals};
use crate::crowd::Crowd;
use crate::door::Door;
use crate::forward::Directions;
use crate::http::{AccessLog, BranchStatus, Tracing};
use crate::l4::{ListenerSettings, Route};
use crate::places::Places;
use crate::socket::{FileAccess, Group, ListenAddress, OpenError, Passed};
use crate::tap::Tap;
use crate::worker::{Command, Crew, Worker};

/// Settings of a gateway.
#[derive(Clone, Copy, Debug)]
pub struct GatewaySettings {
    /// Worker threads; at least 1.
    pub workers: usize,
    /// Descriptors this process may have open (`RLIMIT_NOFILE`).
    pub files: usize,
}

/// Workers and listeners.
#[derive(Debug)]
pub struct Gateway {
    workers: Vec<Worker>,
    listeners: BTreeMap<String, Listener>,
    crew: Arc<Crew>,
    places: Arc<Places>,
    next: u64,
    /// Sockets that were opened for us.
    passed: Vec<Passed>,
}

/// Where a listener is to be.
#[derive(Clone, Copy, Debug)]
pub struct ListenAt<'l> {
    /// Its addresses.
    pub addresses: &'l [ListenAddress],
    /// The ports that addresses with port 0 get, the first that is free.
    pub ports: &'l [u16],
    /// Whether they get no other one.
    pub only_these: bool,
    /// Who may open the files of its Unix sockets.
    pub file: FileAccess,
    /// The network namespace in which they are opened; ours, if none is named.
    pub inside: Option<&'l Namespace>,
}

impl<'l> From<&'l [ListenAddress]> for ListenAt<'l> {
    fn from(addresses: &'l [ListenAddress]) -> Self {
        Self {
            addresses,
            ports: &[],
            only_these: false,
            file: FileAccess::default(),
            inside: None,
        }
    }
}

impl<'l, const N: usize> From<&'l [ListenAddress; N]> for ListenAt<'l> {
    fn from(addresses: &'l [ListenAddress; N]) -> Self {
        Self::from(addresses.as_slice())
    }
}

impl Listener {
    /// Its plane is told where it listens.
    fn tell_own(&self) {
        if let Some(site) = self.route.load().site() {
            site.listens_at(self.places.iter().filter_map(|place| place.bound.ip()));
        }
    }
}

#[derive(Debug)]
struct Listener {
    places: Vec<Place>,
    route: Arc<ArcSwap<Route>>,
    /// One for each worker.
    counters: Arc<[Arc<Counters>]>,
    crowd: Arc<Crowd>,
}

/// One address of a listener.
#[derive(Debug)]
struct Place {
    id: u64,
    /// As it was asked for: its port may be 0.
    asked: ListenAddress,
    bound: ListenAddress,
    /// Whose the file was when we made it, if it is one.
    made: Option<FileAccess>,
    /// The inode of the network namespace that it is in, if that is another one than ours.
    inside: Option<u64>,
}

impl Place {
    /// Whether it is in that network namespace. A file is in all of them.
    fn is_in(&self, inside: Option<u64>) -> bool {
        self.inside == inside || matches!(self.bound, ListenAddress::Unix(_))
    }
}

/// What was opened of a listener at once.
#[derive(Debug, Default)]
pub struct Opened {
    /// The addresses as they were asked for.
    pub asked: Vec<ListenAddress>,
    /// The same ones as they are: with their ports.
    pub bound: Vec<ListenAddress>,
    places: Vec<u64>,
}

/// What one listener is doing.
#[derive(Clone, Debug)]
pub struct ListenerStatus {
    /// Its name.
    pub name: String,
    /// Where it listens.
    pub addresses: Vec<ListenAddress>,
    /// The origin behind it.
    pub origin: String,
    /// What it counted.
    pub totals: Totals,
    /// Whom its access rules have refused since they are in force, and by which rule.
    pub refusals: Vec<(Option<(String, String)>, u64)>,
    /// What became of the requests of routes that have several branches, since the last reload.
    pub branches: Vec<BranchStatus>,
}

impl Gateway {
    /// Starts the worker threads.
    ///
    /// # Errors
    /// If a thread or its runtime cannot be made.
    pub fn start(settings: GatewaySettings) -> io::Result<Self> {
        let count = u16::try_from(settings.workers.max(1)).unwrap_or(u16::MAX);
        let places = Arc::new(Places::within(settings.files, count));
        let workers = (0..count)
            .map(|number| Worker::start((number, count), Arc::clone(&places)))
            .collect::<io::Result<Vec<_>>>()?;
        Ok(Self {
            crew: Arc::new(Crew::of(&workers)),
            workers,
            listeners: BTreeMap::new(),
            places,
            next: 0,
            passed: Vec::new(),
        })
    }

    /// Takes sockets that were opened for us: listeners that are opened later at their addresses have them.
    pub fn adopt(&mut self, passed: Vec<Passed>) {
        self.passed.extend(passed);
    }

    /// Opens a listener on all its addresses, or on none.
    ///
    /// An address with port 0 takes a free port; further addresses with port 0 take the same one.
    ///
    /// # Errors
    /// If an address cannot be listened on.
    pub fn listen<'l>(
        &mut self,
        name: &str,
        at: impl Into<ListenAt<'l>>,
        origin: Origin,
        settings: ListenerSettings,
        door: Door,
        plane: Plane,
    ) -> Result<Vec<ListenAddress>, OpenError> {
        let bandwidth = door.limits.bandwidth;
        let route = Route::new(name, origin, settings, door, plane);
        let listener = Listener {
            places: Vec::new(),
            route: Arc::new(ArcSwap::from_pointee(route)),
            counters: self.workers.iter().map(|_| Arc::default()).collect(),
            crowd: Arc::default(),
        };
        listener.crowd.carries(bandwidth);
        self.listeners.insert(name.to_owned(), listener);
        let opened = self.open_more(name, at);
        if opened.is_err() {
            self.listeners.remove(name);
        }
        opened.map(|opened| opened.bound)
    }

    /// Opens those addresses of a listener that are not open in that network namespace, or none of them.
    ///
    /// # Errors
    /// If an address cannot be listened on.
    pub fn open_more<'l>(
        &mut self,
        name: &str,
        at: impl Into<ListenAt<'l>>,
    ) -> Result<Opened, OpenError> {
        let at = at.into();
        let mut opened = Opened {
            asked: self.missing(name, at),
            bound: Vec::new(),
            places: Vec::new(),
        };
        let addresses = &opened.asked;
        let groups = self.open_all(name, ListenAt { addresses, ..at })?;
        let Some(listener) = self.listeners.get_mut(name) else {
            return Ok(opened);
        };
        for (group, asked) in groups.into_iter().zip(&opened.asked) {
            self.next += 1;
            opened.bound.push(group.address.clone());
            opened.places.push(self.next);
            listener.places.push(Place {
                id: self.next,
                asked: asked.clone(),
                bound: group.address,
                made: group.made,
                inside: at.inside.map(|namespace| namespace.inode),
            });
            for (worker, socket) in self.workers.iter().zip(group.sockets) {
                worker.command(Command::Open {
                    id: self.next,
                    socket,
                    route: Arc::clone(&listener.route),
                    counters: Arc::clone(&listener.counters),
                    crowd: Arc::clone(&listener.crowd),
                    crew: Arc::clone(&self.crew),
                });
            }
        }
        listener.tell_own();
        Ok(opened)
    }

    /// The addresses at which a listener is not open.
    fn missing(&self, name: &str, at: ListenAt<'_>) -> Vec<ListenAddress> {
        let inside = at.inside.map(|namespace| namespace.inode);
        let places = self.listeners.get(name).map(|one| one.places.as_slice());
        let is_open = |address: &ListenAddress| {
            let mut places = places.unwrap_or_default().iter();
            places.any(|place| place.is_in(inside) && place.asked == *address)
        };
        let missing = at.addresses.iter().filter(|address| !is_open(address));
        missing.cloned().collect()
    }

    /// Closes what was opened of a listener, and nothing else.
    pub fn close_again(&mut self, name: &str, opened: &Opened) {
        self.keep_open(name, |place| !opened.places.contains(&place.id));
    }

    /// Stops accepting everywhere but at these addresses of a listener, named as they were asked for, in this network
    /// namespace; ours, if none is named.
    pub fn close_others(
        &mut self,
        name: &str,
        addresses: &[ListenAddress],
        inside: Option<&Namespace>,
    ) {
        let inside = inside.map(|namespace| namespace.inode);
        self.keep_open(name, |place| {
            place.is_in(inside) && addresses.contains(&place.asked)
        });
    }

    fn keep_open(&mut self, name: &str, stays: impl Fn(&Place) -> bool) {
        let Some(listener) = self.listeners.get_mut(name) else {
            return;
        };
        let (staying, closing): (Vec<Place>, Vec<Place>) = std::mem::take(&mut listener.places)
            .into_iter()
            .partition(stays);
        listener.places = staying;
        self.shut(&closing);
    }

    fn shut(&self, places: &[Place]) {
        for place in places {
            for worker in &self.workers {
                worker.command(Command::Close { id: place.id });
            }
            // What was opened by another program is its own.
            let mut passed = self.passed.iter();
            if !passed.any(|passed| *passed.address() == place.bound) {
                remove_socket_file(&place.bound);
            }
        }
    }

    fn open_all(&self, name: &str, at: ListenAt<'_>) -> Result<Vec<Group>, OpenError> {
        /// Free ports of one family may be taken in the other.
        const TRIES: usize = 16;
        if !at.addresses.iter().any(wants_port) {
            return self.open_each(name, at, None);
        }
        let mut failed = None;
        for port in at.ports {
            match self.open_each(name, at, Some(*port)) {
                Ok(groups) => return Ok(groups),
                Err(error) => failed = Some(error),
            }
        }
        if let (Some(error), true) = (failed, at.only_these) {
            return Err(error);
        }
        let mut tries = 1;
        loop {
            match self.open_each(name, at, None) {
                Err(_) if tries < TRIES => tries += 1,
                opened => return opened,
            }
        }
    }

    /// Opens each address; those that want any port have this one, or the one that the first of them got.
    fn open_each(
        &self,
        name: &str,
        at: ListenAt<'_>,
        mut port: Option<u16>,
    ) -> Result<Vec<Group>, OpenError> {
        let mut groups = Vec::with_capacity(at.addresses.len());
        for asked in at.addresses {
            let mut passed = self.passed.iter();
            let is_free = |one: &&Passed| {
                at.inside.is_none() && one.suits(name, asked) && !self.is_had(one, name)
            };
            let group = if let Some(passed) = passed.find(is_free) {
                passed.group(self.workers.len())?
            } else {
                let mut address = asked.clone();
                if let Some(port) = port.filter(|_| wants_port(asked)) {
                    address.set_port(port);
                }
                Group::open_inside(at.inside, &address, at.file, self.workers.len())?
            };
            if wants_port(asked) {
                port = port.or(group.address.ip().map(|bound| bound.port()));
            }
            groups.push(group);
        }
        Ok(groups)
    }

    /// Whether another listener than this one has a socket that was opened for us.
    fn is_had(&self, passed: &Passed, but: &str) -> bool {
        let mut others = self.listeners.iter().filter(|(name, _)| *name != but);
        others.any(|(_, listener)| {
            let mut places = listener.places.iter();
            places.any(|place| place.inside.is_none() && place.bound == *passed.address())
        })
    }

    /// Sockets that were opened for us and that no listener has.
    #[must_use]
    pub fn unused(&self) -> Vec<&Passed> {
        let is_used = |passed: &&Passed| {
            let mut listeners = self.listeners.values();
            listeners.any(|listener| {
                let mut places = listener.places.iter();
                places.any(|place| place.inside.is_none() && place.bound == *passed.address())
            })
        };
        self.passed.iter().filter(|one| !is_used(one)).collect()
    }

    /// Sends new clients of a listener, and new requests of those who are here, to another origin, or by other
    /// settings. Streams stay.
    pub fn reroute(
        &self,
        name: &str,
        origin: Origin,
        settings: ListenerSettings,
        door: Door,
        plane: Plane,
    ) {
        if let Some(listener) = self.listeners.get(name) {
            listener.crowd.carries(door.limits.bandwidth);
            let mut route = Route::new(name, origin, settings, door, plane);
            route.take_over(&listener.route.load());
            let before = listener.route.swap(Arc::new(route));
            listener.tell_own();
            before.give_way(Some(&listener.route));
        }
    }

    /// Changes who may open the files of a listener's Unix sockets.
    ///
    /// # Errors
    /// If a file cannot be changed; those after it are left.
    pub fn permit(&self, name: &str, file: FileAccess) -> io::Result<()> {
        let places = self.listeners.get(name).map(|one| one.places.as_slice());
        for place in places.unwrap_or_default() {
            // What another program has made is its own.
            if let (ListenAddress::Unix(path), Some(made)) = (&place.bound, place.made) {
                file.or(made).apply(path)?;
            }
        }
        Ok(())
    }

    /// Where the lines of requests go from now on; nowhere, without a log.
    pub fn log(&self, log: Option<&AccessLog>) {
        for worker in &self.workers {
            worker.command(Command::Log(log.cloned()));
        }
    }

    /// How requests are traced from now on; not at all, without anything.
    pub fn trace(&self, tracing: Option<&Tracing>) {
        for worker in &self.workers {
            worker.command(Command::Trace(tracing.cloned()));
        }
    }

    /// Who looks at what passes, from now on.
    pub fn tap(&self, taps: &[Tap]) {
        for worker in &self.workers {
            worker.command(Command::Tap(taps.to_vec()));
        }
    }

    /// Stops accepting at one listener: what the kernel has accepted already is still served.
    pub fn close(&mut self, name: &str) {
        if let Some(listener) = self.listeners.remove(name) {
            self.shut(&listener.places);
            listener.route.load().give_way(None);
        }
    }

    /// Stops accepting everywhere.
    pub fn close_all(&mut self) {
        let names: Vec<String> = self.listeners.keys().cloned().collect();
        for name in names {
            self.close(&name);
        }
    }

    /// Who may come in at a listener.
    #[must_use]
    pub fn access(&self, name: &str) -> Option<Access> {
        let listener = self.listeners.get(name)?;
        Some(listener.route.load().access().clone())
    }

    /// Where clients of a listener may go, if they say where they want to.
    #[must_use]
    pub fn directions(&self, name: &str) -> Option<Directions> {
        let route = self.listeners.get(name)?.route.load();
        Some(Directions::new(route.site()?.forward.as_ref()?))
    }

    /// Clients that are inside: waiting or carried.
    #[must_use]
    pub fn clients(&self) -> usize {
        self.places.taken()
    }

    /// Clients that are inside, for each worker.
    #[must_use]
    pub fn clients_by_worker(&self) -> Vec<usize> {
        self.places.by_desk()
    }

    /// What each listener is doing.
    #[must_use]
    pub fn listeners(&self) -> Vec<ListenerStatus> {
        self.listeners
            .iter()
            .map(|(name, listener)| ListenerStatus {
                name: name.clone(),
                addresses: listener
                    .places
                    .iter()
                    .map(|place| place.bound.clone())
                    .collect(),
                origin: listener.route.load().origin().name().to_owned(),
                totals: listener
                    .counters
                    .iter()
                    .fold(Totals::default(), |sum, one| sum + one.totals()),
                refusals: listener.route.load().access().refusals(),
                branches: listener
                    .route
                    .load()
                    .site()
                    .map(|site| site.branches())
                    .unwrap_or_default(),
            })
            .collect()
    }

    /// Waits until no client is left, or `grace` is over; then ends the workers. Returns how many
    /// clients were cut.
    pub async fn drain(mut self, grace: Duration) -> usize {
        self.close_all();
        for worker in &self.workers {
            worker.command(Command::Drain);
        }
        let deadline = Instant::now() + grace;
        while self.clients() > 0 && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let cut = self.clients();
        for worker in &self.workers {
            worker.command(Command::End);
        }
        for worker in self.workers {
            worker.join();
        }
        cut
    }
}

fn wants_port(address: &ListenAddress) -> bool {
    address.ip().is_some_and(|address| address.port() == 0)
}

fn remove_socket_file(address: &ListenAddress) {
    if let ListenAddress::Unix(path) = address
        && let Err(error) = std::fs::remove_file(path)
    {
        tracing::debug!(%address, %error, "the socket's file was gone already");
    }
}

//! All workers of a process, and the listeners they share.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use ipreconnect::Origin;

use crate::Plane;
use crate::access::Access;
use crate::counters::{Counters, Totals};
use crate::door::Door;
use crate::http::{AccessLog, BranchStatus};
use crate::l4::{ListenerSettings, Route};
use crate::places::Places;
use crate::socket::{Group, ListenAddress, OpenError};
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
}

#[derive(Debug)]
struct Listener {
    places: Vec<Place>,
    route: Arc<ArcSwap<Route>>,
    /// One for each worker.
    counters: Arc<[Arc<Counters>]>,
}

/// One address of a listener.
#[derive(Debug)]
struct Place {
    id: u64,
    /// As it was asked for: its port may be 0.
    asked: ListenAddress,
    bound: ListenAddress,
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
        })
    }

    /// Opens a listener on all its addresses, or on none.
    ///
    /// An address with port 0 takes a free port; further addresses with port 0 take the same one.
    ///
    /// # Errors
    /// If an address cannot be listened on.
    pub fn listen(
        &mut self,
        name: &str,
        addresses: &[ListenAddress],
        origin: Origin,
        settings: ListenerSettings,
        door: Door,
        plane: Plane,
    ) -> Result<Vec<ListenAddress>, OpenError> {
        let route = Route::new(name, origin, settings, door, plane);
        let listener = Listener {
            places: Vec::new(),
            route: Arc::new(ArcSwap::from_pointee(route)),
            counters: self.workers.iter().map(|_| Arc::default()).collect(),
        };
        self.listeners.insert(name.to_owned(), listener);
        let opened = self.open_more(name, addresses);
        if opened.is_err() {
            self.listeners.remove(name);
        }
        opened
    }

    /// Opens further addresses of a listener, or none of them.
    ///
    /// # Errors
    /// If an address cannot be listened on.
    pub fn open_more(
        &mut self,
        name: &str,
        addresses: &[ListenAddress],
    ) -> Result<Vec<ListenAddress>, OpenError> {
        let groups = self.open_all(addresses)?;
        let Some(listener) = self.listeners.get_mut(name) else {
            return Ok(Vec::new());
        };
        let mut bound = Vec::new();
        for (group, asked) in groups.into_iter().zip(addresses) {
            self.next += 1;
            bound.push(group.address.clone());
            listener.places.push(Place {
                id: self.next,
                asked: asked.clone(),
                bound: group.address,
            });
            for (worker, socket) in self.workers.iter().zip(group.sockets) {
                worker.command(Command::Open {
                    id: self.next,
                    socket,
                    route: Arc::clone(&listener.route),
                    counters: Arc::clone(&listener.counters),
                    crew: Arc::clone(&self.crew),
                });
            }
        }
        Ok(bound)
    }

    /// Stops accepting at some addresses of a listener, named as they were asked for.
    pub fn close_some(&mut self, name: &str, addresses: &[ListenAddress]) {
        let Some(listener) = self.listeners.get_mut(name) else {
            return;
        };
        let (closing, staying) = std::mem::take(&mut listener.places)
            .into_iter()
            .partition(|place: &Place| addresses.contains(&place.asked));
        listener.places = staying;
        self.shut(&closing);
    }

    fn shut(&self, places: &[Place]) {
        for place in places {
            for worker in &self.workers {
                worker.command(Command::Close { id: place.id });
            }
            remove_socket_file(&place.bound);
        }
    }

    fn open_all(&self, addresses: &[ListenAddress]) -> Result<Vec<Group>, OpenError> {
        /// Free ports of one family may be taken in the other.
        const TRIES: usize = 16;
        let mut tries = 0;
        loop {
            tries += 1;
            match self.open_each(addresses) {
                Err(error) if tries == TRIES || !wants_any_port(addresses) => return Err(error),
                Err(_) => {}
                Ok(groups) => return Ok(groups),
            }
        }
    }

    fn open_each(&self, addresses: &[ListenAddress]) -> Result<Vec<Group>, OpenError> {
        let mut port = None;
        let mut groups = Vec::with_capacity(addresses.len());
        for address in addresses {
            let mut address = address.clone();
            if let Some(port) = port.filter(|_| wants_port(&address)) {
                address.set_port(port);
            }
            let group = Group::open(&address, self.workers.len())?;
            port = port.or(group.address.ip().map(|bound| bound.port()));
            groups.push(group);
        }
        Ok(groups)
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
            let route = Arc::new(Route::new(name, origin, settings, door, plane));
            let before = listener.route.swap(route);
            before.give_way(Some(&listener.route));
        }
    }

    /// Where the lines of requests go from now on; nowhere, without a log.
    pub fn log(&self, log: Option<&AccessLog>) {
        for worker in &self.workers {
            worker.command(Command::Log(log.cloned()));
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

fn wants_any_port(addresses: &[ListenAddress]) -> bool {
    addresses.iter().any(wants_port)
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

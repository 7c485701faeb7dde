//! The running gateway: assembled from a plan, changed by another one, drained in the end.

pub(crate) mod board;
pub(crate) mod caches;
mod control;
pub(crate) mod desk;
mod doors;
pub(crate) mod guard;
mod inside;
mod leases;
mod notify;
pub(crate) mod own;
pub(crate) mod serve;
pub(crate) mod tap;

use std::sync::Arc;
use std::time::Duration;

use ipreconnect::core::http::{HostRule, RouteRule, Shield};
use ipreconnect::resolve::Names;
use ipreconnect::tls::TlsSettings;
use ipreconnect::{Origin, OriginSettings, Store, Surroundings, Target, Witness};
use ipreconnect_admin::{StatusPage, StatusPages, Traces};
use ipreconnect_proxy::{
    AccessLog, Cache, ForwardPlan, ForwardWay, Gateway, GatewaySettings, HalfClose, HostPattern,
    HttpBranch, HttpPlan, HttpRoute, ListenAt, ListenerSettings, OpenError, Opened, Page, Pages,
    Parent, Passed, Plane, Timeouts, Tracing, Unmatched, Via,
};

use crate::access::AccessFile;
use crate::config::{
    Change, ForwardListen, ListenPlan, LogPlan, OriginPlan, OtlpPlan, Plan, Protocol, RoutePlan,
    ViaPlan, WayPlan, diff,
};
use crate::exit::{Exit, Refusal};
use board::{Board, Resident};
use control::Control;
use doors::Doors;
use inside::{Insides, Moved};
use leases::{Leases, Ports};

/// Origins and listeners at work.
pub(crate) struct Running {
    pub(crate) board: Arc<Board>,
    plan: Plan,
    surroundings: Surroundings,
    doors: Doors,
    control: Control,
    resolver: Control,
    leases: Leases,
    insides: Insides,
    /// Takes the spans of requests, where they are traced.
    traces: Option<Arc<Traces>>,
    pages: StatusPages,
}

impl Running {
    /// Starts everything, or nothing.
    pub(crate) fn start(
        plan: Plan,
        files: usize,
        store: Option<Arc<dyn Store>>,
        witness: Option<Arc<dyn Witness>>,
        passed: Vec<Passed>,
    ) -> Result<Self, Refusal> {
        let control = Control::start("control")
            .map_err(|error| cannot("start the control thread", &error))?;
        // Proving answers takes processor time, which no detection is to wait for.
        let resolver = Control::start("names")
            .map_err(|error| cannot("start the thread of the names", &error))?;
        let names = Names::start(resolver.handle(), plan.dns.clone(), store.clone());
        let settings = GatewaySettings {
            workers: plan.gateway.workers,
            files,
        };
        let mut gateway =
            Gateway::start(settings).map_err(|error| cannot("start the workers", &error))?;
        gateway.adopt(passed);
        let state = &plan.gateway.state_dir;
        let state = std::path::absolute(state).unwrap_or_else(|_| state.clone());
        let mut running = Self {
            traces: None,
            pages: StatusPages::default(),
            board: Board::new(gateway, &state),
            doors: Doors::new(plan.gateway.state_dir.clone()),
            surroundings: Surroundings::witnessed(control.handle(), names, witness),
            resolver,
            control,
            plan,
            leases: Leases::new(store, state),
            insides: Insides::default(),
        };
        for (name, plan) in &running.plan.origins {
            running.start_origin(name, plan);
        }
        let otlp = running.plan.otlp.clone();
        running.trace(otlp.as_ref());
        running.open_access_log(&running.plan.log);
        for (name, listener) in &running.plan.listeners {
            running.open(&running.plan, name, listener)?;
        }
        running.tell_unused();
        Ok(running)
    }

    /// What tells whether this machine itself is cut off.
    pub(crate) fn surroundings(&self) -> &Surroundings {
        &self.surroundings
    }

    /// The status pages, for whoever draws them.
    pub(crate) fn pages(&self) -> StatusPages {
        self.pages.clone()
    }

    pub(crate) fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Takes a new plan: all of it, or nothing. What did not change is not touched.
    pub(crate) async fn apply(&mut self, new: Plan) -> Result<Vec<Change>, Refusal> {
        let changes = diff(&self.plan, &new);
        for change in &changes {
            if let Change::OriginAdded(name) = change
                && let Some(plan) = new.origins.get(name)
            {
                self.start_origin(name, plan);
            }
        }
        let insides = self.insides.kept();
        if let Err(refusal) = self.open_new(&new, &changes) {
            self.insides.come_back(insides);
            self.undo(&changes);
            return Err(refusal);
        }
        for change in &changes {
            self.make(&new, change).await;
        }
        self.plan = new;
        self.tell_unused();
        Ok(changes)
    }

    /// Opens everything that is new, before anything that exists is changed.
    fn open_new(&self, new: &Plan, changes: &[Change]) -> Result<(), Refusal> {
        self.make_doors(new, changes)?;
        let mut opened: Vec<(&String, Opened, Ports)> = Vec::new();
        for change in changes {
            let result = match change {
                Change::ListenerAdded(name) => match new.listeners.get(name) {
                    Some(plan) => self.open(new, name, plan),
                    None => Ok(()),
                },
                Change::ListenerMoved(name) => match new.listeners.get(name) {
                    Some(plan) => self
                        .open_at(name, plan)
                        .map(|(one, ports)| opened.push((name, one, ports))),
                    None => Ok(()),
                },
                _ => Ok(()),
            };
            if let Err(refusal) = result {
                self.board.with_gateway(|gateway| {
                    for (name, one, _) in &opened {
                        gateway.close_again(name, one);
                    }
                });
                return Err(refusal);
            }
        }
        for (name, one, ports) in &opened {
            self.leases.took(name, ports, &one.asked, &one.bound);
        }
        Ok(())
    }

    /// Opens a listener that is there where it is to be. What it has elsewhere stays open.
    fn open_at(&self, name: &str, plan: &ListenPlan) -> Result<(Opened, Ports), Refusal> {
        let namespace = self.insides.find(name, plan.netns.as_ref())?;
        let ports = self.leases.ports(name, plan);
        let at = ListenAt {
            addresses: plan.addresses_in(namespace.as_ref()),
            ports: &ports.first,
            only_these: ports.only_these,
            file: plan.file,
            inside: namespace.as_ref(),
        };
        let opened = self
            .board
            .with_gateway(|gateway| gateway.open_more(name, at))
            .unwrap_or_else(|| Ok(Opened::default()))
            .map_err(|error| refuse_open(&error))?;
        Ok((opened, ports))
    }

    /// Makes the doors of listeners that stay, so that what cannot be made is known before anything is
    /// changed.
    fn make_doors(&self, new: &Plan, changes: &[Change]) -> Result<(), Refusal> {
        for change in changes {
            if let Change::ListenerRerouted(name) | Change::ListenerMoved(name) = change
                && let Some(listener) = new.listeners.get(name)
            {
                let runtime = self.resolver.handle();
                self.doors.door(new, name, listener, &self.board, runtime)?;
            }
        }
        Ok(())
    }

    fn undo(&self, changes: &[Change]) {
        for change in changes {
            match change {
                Change::OriginAdded(name) => drop(self.board.take(name)),
                Change::ListenerAdded(name) => {
                    self.board.with_gateway(|gateway| gateway.close(name));
                    self.board.caches().forget(name);
                }
                _ => {}
            }
        }
    }

    async fn make(&self, new: &Plan, change: &Change) {
        match change {
            Change::OriginChanged(name) => {
                if let (Some(origin), Some(plan)) = (self.board.origin(name), new.origins.get(name))
                {
                    if let Err(error) = origin.reconfigure(plan.settings.clone()).await {
                        tracing::error!(%error, "an origin cannot be changed");
                    }
                    self.board.put(name, resident(origin, plan));
                }
            }
            Change::OriginRemoved(name) => {
                if let Some(resident) = self.board.take(name) {
                    resident.origin.close();
                }
            }
            Change::ListenerRerouted(name) => self.reroute(new, name),
            Change::ListenerMoved(name) => {
                if let Some(plan) = new.listeners.get(name) {
                    let namespace = self.insides.found(name);
                    let addresses = plan.addresses_in(namespace.as_ref());
                    self.board.with_gateway(|gateway| {
                        gateway.close_others(name, addresses, namespace.as_ref());
                    });
                }
                self.reroute(new, name);
            }
            Change::ListenerRemoved(name) => {
                self.board.with_gateway(|gateway| gateway.close(name));
                self.doors.forget(name);
                self.insides.forget(name);
                self.board.caches().forget(name);
            }
            Change::DnsChanged => self.surroundings.names().reconfigure(new.dns.clone()),
            Change::OriginAdded(_)
            | Change::ListenerAdded(_)
            | Change::LogChanged
            | Change::TracesChanged
            | Change::AlertsChanged
            | Change::GuardChanged
            | Change::ShutdownChanged
            | Change::NeedsRestart(_) => {}
        }
    }

    fn reroute(&self, new: &Plan, name: &str) {
        let Some(listener) = new.listeners.get(name) else {
            return;
        };
        if let Some((origin, streams)) = self.behind(new, listener) {
            match self
                .doors
                .door(new, name, listener, &self.board, self.resolver.handle())
            {
                Ok(door) => {
                    let plane = self.plane(new, name, listener);
                    let permitted = self.board.with_gateway(|gateway| {
                        gateway.reroute(name, origin, streams, door, plane);
                        gateway.permit(name, listener.file)
                    });
                    if let Some(Err(error)) = permitted {
                        tracing::error!(listener = name, %error, "its Unix socket cannot be given to others");
                    }
                }
                // What would be wrong with it was found before anything was changed.
                Err(error) => {
                    tracing::error!(listener = name, %error, "a listener stays as it was");
                }
            }
        }
    }

    fn start_origin(&self, name: &str, plan: &OriginPlan) {
        let handle = self.control.handle();
        let origin = Origin::start(name, plan.settings.clone(), &self.surroundings, handle);
        self.board.put(name, resident(origin, plan));
    }

    fn open(&self, plan: &Plan, name: &str, listener: &ListenPlan) -> Result<(), Refusal> {
        let Some((origin, streams)) = self.behind(plan, listener) else {
            // A plan never names an origin that it does not have.
            return Ok(());
        };
        let shown = origin.name().to_owned();
        let runtime = self.resolver.handle();
        let door = self
            .doors
            .door(plan, name, listener, &self.board, runtime)?;
        let plane = self.plane(plan, name, listener);
        let ports = self.leases.ports(name, listener);
        let namespace = self.insides.find(name, listener.netns.as_ref())?;
        let at = ListenAt {
            addresses: listener.addresses_in(namespace.as_ref()),
            ports: &ports.first,
            only_these: ports.only_these,
            file: listener.file,
            inside: namespace.as_ref(),
        };
        let (again, comes_and_goes) = (plane.clone(), listener.comes_and_goes());
        let opened = self.board.with_gateway(|gateway| {
            let opened = gateway.listen(name, at, origin.clone(), streams, door.clone(), plane);
            match opened {
                Err(error) if comes_and_goes => {
                    self.insides.failed(name, &error);
                    gateway.listen(name, &[], origin, streams, door, again)
                }
                opened => opened,
            }
        });
        let opened = opened
            .unwrap_or(Ok(Vec::new()))
            .map_err(|error| refuse_open(&error))?;
        for address in &opened {
            tracing::info!(listener = name, %address, origin = shown, "listening");
        }
        self.leases.took(name, &ports, &listener.addresses, &opened);
        if listener.netns.is_none() {
            leases::tell_twins(name, &opened);
        }
        Ok(())
    }

    /// Looks whether the network namespaces of listeners are still those that they were opened in: a container that
    /// was started again has another one.
    pub(crate) fn look_inside(&self) {
        for (name, listener) in &self.plan.listeners {
            let namespace = match self.insides.moved(name, listener.netns.as_ref()) {
                Moved::No => continue,
                Moved::To(namespace) => namespace,
                Moved::Away => {
                    // What is open would keep it.
                    self.board
                        .with_gateway(|gateway| gateway.close_others(name, &[], None));
                    continue;
                }
            };
            let ports = self.leases.ports(name, listener);
            let at = ListenAt {
                addresses: &listener.addresses,
                ports: &ports.first,
                only_these: ports.only_these,
                file: listener.file,
                inside: Some(&namespace),
            };
            let opened = self.board.with_gateway(|gateway| {
                let opened = gateway.open_more(name, at);
                gateway.close_others(name, &listener.addresses, Some(&namespace));
                opened
            });
            match opened {
                Some(Ok(opened)) => {
                    self.leases.took(name, &ports, &opened.asked, &opened.bound);
                    for address in opened.bound {
                        tracing::info!(listener = name, %address, netns = namespace.inode, "listening inside another network namespace");
                    }
                    self.insides.opened(name, namespace);
                }
                Some(Err(error)) => self.insides.failed(name, &error),
                None => {}
            }
        }
    }

    /// What stands behind a listener: the status page and a forward proxy have no origin.
    fn behind(&self, plan: &Plan, listener: &ListenPlan) -> Option<(Origin, ListenerSettings)> {
        if !listener.has_origin() {
            let (what, idle) = match &listener.forward {
                Some(forward) => ("forward proxy", forward.idle),
                None if listener.leases => ("kept ports", listener.limits.idle),
                None => ("status page", listener.limits.idle),
            };
            let nobody = Origin::nobody(what);
            let settings = ListenerSettings {
                timeouts: Timeouts {
                    idle,
                    stall: listener.limits.stall,
                },
                half_close: HalfClose::Leaves,
            };
            return Some((nobody, settings));
        }
        let origin = self.board.origin(&listener.origin)?;
        Some((origin, plan.origins.get(&listener.origin)?.streams))
    }

    /// Tells of sockets that were opened for us and that no listener has.
    fn tell_unused(&self) {
        self.board.with_gateway(|gateway| {
            for passed in gateway.unused() {
                tracing::warn!(
                    address = %passed.address(),
                    name = passed.name.as_deref().unwrap_or_default(),
                    advice = "a listener has it that names its address, or has its name and the port `auto`",
                    "a socket was passed to us, and no listener is for it"
                );
            }
        });
    }

    /// What carries the clients of a listener.
    fn plane(&self, plan: &Plan, name: &str, listener: &ListenPlan) -> Plane {
        if listener.mode != Protocol::Http {
            return Plane::Stream;
        }
        let settings = |origin: &str| plan.origins.get(origin).map(|plan| plan.http.clone());
        let branch = |name: &str, weight: u32| {
            Some(HttpBranch {
                origin: self.board.origin(name)?,
                settings: settings(name)?,
                weight,
            })
        };
        let branches = |route: &RoutePlan| -> Option<Vec<HttpBranch>> {
            if route.split.is_empty() {
                return Some(vec![branch(&route.origin, 1)?]);
            }
            let split = route.split.iter();
            split.map(|(name, weight)| branch(name, *weight)).collect()
        };
        let forward = listener.forward.as_ref();
        let forward = forward.map(|forward| self.forward(name, forward));
        let caches = match forward {
            None => self.board.caches().of(name, &listener.routes),
            Some(_) => Vec::new(),
        };
        let route = |(route, cache): (&RoutePlan, Option<Cache>)| {
            let required = route.requires.iter();
            Some(HttpRoute {
                rule: RouteRule {
                    hosts: route.hosts.iter().map(HostPattern::rule).collect(),
                    paths: route.paths.clone(),
                    methods: route.methods.clone(),
                    fields: route.fields.clone(),
                },
                branches: branches(route)?,
                sticky: route.sticky.as_deref().map(Into::into),
                rewrite: route.rewrite.clone(),
                requires: required
                    .filter_map(|name| self.board.origin(name))
                    .collect(),
                fallback: route.fallback.clone(),
                mirror: route.mirror.as_ref().and_then(|name| branch(name, 0)),
                cache,
            })
        };
        let status = listener.status.as_ref();
        let page = status.map(|status| self.pages.page(&status.title, &status.origins));
        Plane::Http(Box::new(HttpPlan {
            forward,
            pages: page.map(|page| Arc::new(PublicPage(page)) as Arc<dyn Pages>),
            // A plan never names an origin that it does not have.
            routes: listener
                .routes
                .iter()
                .zip(caches)
                .filter_map(route)
                .collect(),
            settings: match listener.unmatched {
                Unmatched::Served => settings(&listener.origin),
                Unmatched::Refused => None,
            },
            shield: listener.is_shielded().then(|| shield(plan, listener)),
            limits: listener.limits,
            compresses: listener.compresses,
            forwarding: listener.forwarding.clone(),
            error_page: listener.error_page.clone(),
        }))
    }

    /// How a listener is a forward proxy.
    fn forward(&self, name: &str, listener: &ForwardListen) -> ForwardPlan {
        let mut dialling = OriginSettings::new(Vec::new());
        dialling.supervisor.connect_timeout = FAR;
        ForwardPlan {
            policy: Arc::clone(&listener.policy),
            is_enforced: listener.is_enforced,
            is_transparent: listener.is_transparent,
            headers: listener.headers,
            request: listener.request.clone(),
            response: listener.response.clone(),
            cache: self.board.caches().through(name, listener),
            pac: listener.pac.as_deref().map(Into::into),
            allowance: listener.allowance,
            via: listener.via.iter().map(|via| self.via(via)).collect(),
            names: self.surroundings.names().clone(),
            dialling,
            tls: TlsSettings::default(),
        }
    }

    /// The ways to some hosts.
    fn via(&self, plan: &ViaPlan) -> Via {
        let way = |way: &WayPlan| match way {
            WayPlan::Direct => Some(ForwardWay::Direct),
            // A plan never names an origin that it does not have.
            WayPlan::Parent(parent) => Some(ForwardWay::Parent(Parent {
                origin: self.board.origin(&parent.origin)?,
                speaks: parent.speaks,
                credentials: parent
                    .credentials
                    .as_ref()
                    .map(|(user, password)| (user.as_str().into(), password.as_str().into())),
            })),
        };
        Via {
            to: plan.to.clone(),
            ways: plan.ways.iter().filter_map(way).collect(),
        }
    }

    /// Traces requests as it is written, or not at all.
    pub(crate) fn trace(&mut self, plan: Option<&OtlpPlan>) {
        let plan = plan.filter(|plan| plan.traces);
        let begun = plan.and_then(|plan| match Traces::begin(plan.collector.clone()) {
            Ok(traces) => Some((Arc::new(traces), plan.sampled)),
            Err(error) => {
                tracing::error!(%error, "requests are not traced");
                None
            }
        });
        let tracing = begun.as_ref().map(|(traces, sampled)| Tracing {
            sink: Arc::<Traces>::clone(traces),
            sampled: *sampled,
        });
        self.board
            .with_gateway(|gateway| gateway.trace(tracing.as_ref()));
        self.traces = begun.map(|(traces, _)| traces);
    }

    /// Opens the access log, or closes it.
    pub(crate) fn open_access_log(&self, plan: &LogPlan) {
        let log = plan.access.as_ref().and_then(|path| match AccessFile::open(path) {
            Ok(sink) => Some(AccessLog {
                sink,
                format: plan.access_format,
            }),
            Err(error) => {
                tracing::error!(path = %path.display(), %error, "the access log cannot be opened; requests are served without it");
                None
            }
        });
        self.board.with_gateway(|gateway| gateway.log(log.as_ref()));
    }

    /// Stops accepting, lets clients finish within the grace, and ends. Returns how many were cut.
    pub(crate) async fn drain(self) -> usize {
        let Some(gateway) = self.board.take_gateway() else {
            return 0;
        };
        let cut = gateway.drain(self.plan.gateway.shutdown).await;
        self.control.end();
        self.resolver.end();
        if let Some(traces) = self.traces {
            traces.end();
        }
        cut
    }
}

/// How long a dial to a stranger may take.
const FAR: Duration = Duration::from_secs(10);

/// A status page, as a listener serves it.
#[derive(Debug)]
struct PublicPage(Arc<StatusPage>);

impl Pages for PublicPage {
    fn page(&self, path: &[u8]) -> Option<Page> {
        let (content_type, body): (_, Arc<str>) = match path {
            b"/" => ("text/html; charset=utf-8", self.0.drawn().html),
            b"/status.json" => ("application/json", self.0.drawn().json),
            b"/status.css" => ("text/css; charset=utf-8", StatusPage::style().into()),
            _ => return None,
        };
        Some(Page {
            content_type,
            body,
            fields: "Cache-Control: no-cache\r\nX-Content-Type-Options: nosniff\r\nReferrer-Policy: no-referrer\r\n\
                     Content-Security-Policy: default-src 'none'; style-src 'self'; img-src data:; base-uri 'none'; \
                     form-action 'none'; frame-ancestors 'none'\r\n",
        })
    }
}

/// Which requests of browsers come in: for the names that routes are for, and those of the origins themselves.
fn shield(plan: &Plan, listener: &ListenPlan) -> Shield {
    let routes = || listener.routes.iter();
    let mut names: Vec<HostRule> = routes()
        .flat_map(|route| route.hosts.iter().map(HostPattern::rule))
        .collect();
    let split = routes().flat_map(|route| route.split.iter().map(|(origin, _)| origin));
    let origins = routes().map(|route| &route.origin).chain(split);
    for origin in origins.chain([&listener.origin]) {
        let places = plan.origins.get(origin).map(|plan| &plan.settings.places);
        for place in places.into_iter().flatten() {
            if let Target::Name { host, .. } = &place.target {
                names.push(HostRule::exact(host));
            }
        }
    }
    Shield::new(names, listener.shield.origins.clone())
}

fn resident(origin: Origin, plan: &OriginPlan) -> Resident {
    Resident {
        origin,
        required: plan.is_required(),
        feature: plan.feature.clone(),
    }
}

fn cannot(what: &str, error: &std::io::Error) -> Refusal {
    Refusal::new(Exit::Wrong, format!("cannot {what}")).because(error)
}

fn refuse_open(error: &OpenError) -> Refusal {
    Refusal::new(Exit::Wrong, error.to_string())
        .hint("end that process, or choose another address; port `auto` takes a free one")
}

//! Making an [`Origin`].

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ipreconnect_core::balance::Policy;
use ipreconnect_core::origin::{Check, View};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use crate::clock;
use crate::driver::Driver;
use crate::error::{Error, Kind};
use crate::light::{Host, Light, Open, Vet, Way};
use crate::origin::{Origin, Tasks};
use crate::resolve::Names;
use crate::settings::OriginSettings;
use crate::shared::Shared;
use crate::snapshot::Snapshot;
use crate::stats::Stats;
use crate::surroundings::Surroundings;
use crate::target::Target;
use crate::task::Task;
use crate::tls::TlsSettings;
use crate::warm;

/// Facts that may wait for the driver.
const INBOX: usize = 1024;

/// Makes an [`Origin`]. See [`Origin::builder`].
#[derive(Clone, Debug)]
pub struct Builder {
    name: Arc<str>,
    targets: Vec<String>,
    hold: Option<Duration>,
    balance: Option<Policy>,
    surroundings: Option<Surroundings>,
    tls: Option<TlsSettings>,
    warm: usize,
    seed: Option<u64>,
}

impl Origin {
    /// Begins an origin of that name; [`address`](Builder::address) says where it is.
    #[must_use]
    pub fn builder(name: &str) -> Builder {
        Builder {
            name: name.into(),
            targets: Vec::new(),
            hold: None,
            balance: None,
            surroundings: None,
            tls: None,
            warm: 0,
            seed: None,
        }
    }

    /// An origin with complete settings, supervised on `runtime`.
    #[must_use]
    pub fn start(
        name: &str,
        settings: OriginSettings,
        surroundings: &Surroundings,
        runtime: &Handle,
    ) -> Self {
        start(name.into(), settings, surroundings, runtime, random_seed())
    }
}

impl Builder {
    /// Adds an address: `host:port`, `ip:port`, `[v6]:port` or `unix:/path`. The first is preferred,
    /// the others are backups, in order.
    #[must_use]
    pub fn address(mut self, address: impl Into<String>) -> Self {
        self.targets.push(address.into());
        self
    }

    /// How long a caller may wait while the origin is away; 10 s unless set, zero fails at once.
    #[must_use]
    pub fn hold(mut self, patience: Duration) -> Self {
        self.hold = Some(patience);
        self
    }

    /// How an endpoint is chosen; by preference unless set. With any other policy all addresses are
    /// equals, and none is a backup.
    #[must_use]
    pub fn balance(mut self, policy: Policy) -> Self {
        self.balance = Some(policy);
        self
    }

    /// Its servers speak TLS, and prove by it who they are, before anything is sent to them. Health is
    /// checked by the same proof.
    #[must_use]
    pub fn tls(mut self, tls: TlsSettings) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Keeps so many connections ready on the preferred endpoint, and as many on the first backup; none
    /// unless set. Who connects takes one of them.
    #[must_use]
    pub fn warm(mut self, connections: usize) -> Self {
        self.warm = connections;
        self
    }

    /// Shares the watch on the machine's network with other origins.
    #[must_use]
    pub fn surroundings(mut self, surroundings: &Surroundings) -> Self {
        self.surroundings = Some(surroundings.clone());
        self
    }

    /// Determines all jitter and every random choice.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Begins the supervision, on the runtime of the caller.
    ///
    /// # Errors
    /// [`Kind::Address`] if an address cannot be understood, or none was given. An origin that cannot
    /// be reached is no error: it heals later.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn start(self) -> Result<Origin, Error> {
        let mut targets = Vec::with_capacity(self.targets.len());
        for text in &self.targets {
            targets.push(text.parse::<Target>().map_err(|error| {
                Error::new(Kind::Address, &self.name).with_detail(format!("{text:?}: {error}"))
            })?);
        }
        if targets.is_empty() {
            let error = Error::new(Kind::Address, &self.name);
            return Err(error.with_detail("no address was given"));
        }
        let mut settings = OriginSettings::new(targets);
        if let Some(patience) = self.hold {
            settings.hold.patience = patience;
        }
        if let Some(policy) = self.balance {
            settings.balance = policy;
            for place in &mut settings.places {
                place.priority = 0;
            }
        }
        settings.warm.connections = self.warm;
        if self.tls.is_some() {
            settings.tls = self.tls;
            settings.supervisor.check = Check::Proof;
        }
        let runtime = Handle::current();
        let surroundings = self
            .surroundings
            .unwrap_or_else(|| Surroundings::watch(&runtime));
        let seed = self.seed.unwrap_or_else(random_seed);
        Ok(start(self.name, settings, &surroundings, &runtime, seed))
    }
}

fn start(
    name: Arc<str>,
    settings: OriginSettings,
    surroundings: &Surroundings,
    runtime: &Handle,
    seed: u64,
) -> Origin {
    let (sender, facts) = mpsc::channel(INBOX);
    let empty = Snapshot::new(
        View::empty(clock::now()),
        &std::collections::BTreeMap::new(),
        Arc::default(),
    );
    let store = surroundings.names().store();
    let shared = Shared::new(name, settings.clone(), empty, sender, seed, store);
    let shared = Arc::new(shared);
    let driver = Driver::new(
        Arc::clone(&shared),
        settings,
        facts,
        surroundings.enter(),
        seed,
    );
    let keeper = warm::keep(Arc::clone(&shared));
    let tasks = Tasks {
        driver: Some(Task::spawn(runtime, "origin driver", driver.run())),
        _keeper: Some(Task::spawn(runtime, "warm connections", keeper)),
    };
    Origin {
        shared,
        tasks: Arc::new(tasks),
    }
}

impl Origin {
    /// An origin without servers, over which nobody watches: for what needs one and never uses it. Whoever wants a
    /// connection is told that it is closed.
    #[must_use]
    pub fn nobody(name: &str) -> Self {
        let origin = unwatched(name.into(), OriginSettings::new(Vec::new()), None);
        origin.close();
        origin
    }

    /// An origin that is made on the fly, for whoever goes there now and then: nobody watches over it, nothing is
    /// kept ready and nobody waits in its hold. Its host is looked up when somebody connects, unless that is known;
    /// the addresses that `vet` lets pass are raced, and those very addresses are dialled.
    ///
    /// `settings` says how it is dialled and how it proves who it is; their hold, warm connections and supervision
    /// are not used.
    #[must_use]
    pub fn light(
        (host, port): (Host, u16),
        settings: OriginSettings,
        vet: Arc<dyn Vet>,
        names: &Names,
    ) -> Self {
        let name = match &host {
            Host::Name(name) => format!("{name}:{port}").into(),
            Host::Ip(ip) => SocketAddr::new(*ip, port).to_string().into(),
        };
        let light = Light::new((host, port), vet, names.clone());
        unwatched(name, settings, Some(Way::Light(Box::new(light))))
    }

    /// The same, reached by connections that somebody else opens: a tunnel through a proxy, as it may be.
    #[must_use]
    pub fn beyond(name: &str, settings: OriginSettings, way: Arc<dyn Open>) -> Self {
        unwatched(name.into(), settings, Some(Way::Beyond(way)))
    }
}

/// An origin without a driver.
fn unwatched(name: Arc<str>, mut settings: OriginSettings, way: Option<Way>) -> Origin {
    settings.hold.patience = Duration::ZERO;
    settings.warm.connections = 0;
    let (sender, facts) = mpsc::channel(1);
    drop(facts);
    let empty = Snapshot::new(
        View::empty(clock::now()),
        &std::collections::BTreeMap::new(),
        Arc::default(),
    );
    let mut shared = Shared::new(name, settings, empty, sender, 0, None);
    shared.stats = Arc::new(Stats::with(1));
    shared.way = way;
    Origin {
        shared: Arc::new(shared),
        tasks: Arc::default(),
    }
}

/// The standard library's own source of randomness, as it seeds hash maps.
pub(crate) fn random_seed() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::collections::hash_map::RandomState::new()
        .build_hasher()
        .finish()
}

//! A gateway in front of scripted origins, for the tests of this crate.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use ipreconnect::{Origin, OriginSettings, Surroundings, Target};
use ipreconnect_proxy::{
    Door, Gateway, GatewaySettings, HalfClose, ListenAddress, ListenerSettings, Plane, Timeouts,
};
use tokio::runtime::{Handle, Runtime};

/// Everything the gateway needs, on threads of its own; ends when dropped.
pub(crate) struct Scene {
    pub(crate) gateway: Gateway,
    pub(crate) origin: Origin,
    pub(crate) address: SocketAddr,
    surroundings: Surroundings,
    handle: Handle,
    control: Option<std::thread::JoinHandle<()>>,
    end: Option<tokio::sync::oneshot::Sender<()>>,
}

pub(crate) fn listener() -> ListenerSettings {
    ListenerSettings {
        timeouts: Timeouts {
            idle: Duration::from_secs(3600),
            stall: Duration::from_secs(30),
        },
        half_close: HalfClose::Leaves,
    }
}

impl Scene {
    /// The first origin is preferred, the others are backups.
    pub(crate) fn new(origins: &[SocketAddr]) -> Self {
        Self::with(settings(origins), listener())
    }

    pub(crate) fn with(settings: OriginSettings, listener: ListenerSettings) -> Self {
        let free = ListenAddress::Tcp(SocketAddr::from(([127, 0, 0, 1], 0)));
        Self::on(free, settings, listener, 20_000)
    }

    /// Listening there, within so many descriptors.
    pub(crate) fn on(
        address: ListenAddress,
        settings: OriginSettings,
        listener: ListenerSettings,
        files: usize,
    ) -> Self {
        Self::open(address, settings, listener, (2, files), Plane::Stream)
    }

    /// With a plane of its own, and so many workers.
    pub(crate) fn speaking(
        settings: OriginSettings,
        listener: ListenerSettings,
        plane: Plane,
        workers: u16,
    ) -> Self {
        let free = ListenAddress::Tcp(SocketAddr::from(([127, 0, 0, 1], 0)));
        Self::open(free, settings, listener, (workers, 20_000), plane)
    }

    /// The same within so many descriptors.
    pub(crate) fn speaking_within(files: usize, settings: OriginSettings, plane: Plane) -> Self {
        let free = ListenAddress::Tcp(SocketAddr::from(([127, 0, 0, 1], 0)));
        Self::open(free, settings, listener(), (1, files), plane)
    }

    fn open(
        address: ListenAddress,
        settings: OriginSettings,
        listener: ListenerSettings,
        (workers, files): (u16, usize),
        plane: Plane,
    ) -> Self {
        let (control, end, handle) = control();
        let surroundings = Surroundings::watch(&handle);
        let origin = Origin::start("test", settings, &surroundings, &handle);
        let mut gateway = Gateway::start(GatewaySettings {
            workers: workers.into(),
            files,
        })
        .unwrap();
        let bound = gateway
            .listen(
                "test",
                &[address],
                origin.clone(),
                listener,
                Door::default(),
                plane,
            )
            .unwrap();
        let address = bound[0].ip().expect("an IP address was asked for");
        Self {
            gateway,
            origin,
            address,
            surroundings,
            handle,
            control: Some(control),
            end: Some(end),
        }
    }

    /// One more origin beside the listener's own.
    pub(crate) async fn another(&self, name: &str, addresses: &[SocketAddr]) -> Origin {
        Origin::start(name, settings(addresses), &self.surroundings, &self.handle)
    }

    /// Has the listener speak otherwise from now on.
    pub(crate) fn speak(&mut self, plane: Plane) {
        let origin = self.origin.clone();
        let door = Door::default();
        self.gateway
            .reroute("test", origin, listener(), door, plane);
    }

    /// Takes the gateway out of the scene, so that it can be ended.
    pub(crate) fn replace_gateway(&mut self) -> Gateway {
        let none = GatewaySettings {
            workers: 1,
            files: 1000,
        };
        std::mem::replace(&mut self.gateway, Gateway::start(none).unwrap())
    }

    pub(crate) async fn up(&self) {
        within(10, self.origin.watch(|status| status.is_up()))
            .await
            .unwrap();
    }
}

pub(crate) fn settings(origins: &[SocketAddr]) -> OriginSettings {
    OriginSettings::new(origins.iter().map(|address| Target::from(*address)))
}

impl Drop for Scene {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(control) = self.control.take() {
            control.join().unwrap();
        }
    }
}

fn control() -> (
    std::thread::JoinHandle<()>,
    tokio::sync::oneshot::Sender<()>,
    Handle,
) {
    let (end, ended) = tokio::sync::oneshot::channel();
    let (tell, told) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        let runtime: Runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        tell.send(runtime.handle().clone()).unwrap();
        runtime.block_on(async {
            let _ = ended.await;
        });
    });
    (thread, end, told.recv().unwrap())
}

/// Fails the test if it takes longer.
pub(crate) async fn within<T>(seconds: u64, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(seconds), future)
        .await
        .expect("it takes too long")
}

/// Waits until a fact holds.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(Instant::now() < deadline, "never came true: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

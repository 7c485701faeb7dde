//! The demonstration: two small origins, a gateway, steady clients, and what they see when an
//! origin is killed, frozen and revived. It needs no file and no network beyond the loopback.

mod play;
mod screen;
mod verdict;

use std::net::SocketAddr;
use std::time::Duration;

use ipreconnect::{Origin, OriginSettings, Surroundings, Target};
use ipreconnect_lab::load::Load;
use ipreconnect_lab::origin::{Script, ScriptedOrigin};
use ipreconnect_proxy::{
    Door, Gateway, GatewaySettings, HalfClose, ListenAddress, ListenerSettings, Plane, Timeouts,
};
use tokio::runtime::Handle;

use crate::exit::{Exit, Refusal};
use play::{Act, Play};
use screen::Screen;
use verdict::Verdict;

/// Clients, and how often each one asks.
const CLIENTS: u32 = 10;
const EVERY: Duration = Duration::from_millis(50);
/// What an origin takes to answer, so that some requests are always in flight.
const WORK: Duration = Duration::from_millis(4);

/// What happens after the play.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Afterwards {
    /// The program ends.
    End,
    /// Origins and gateway keep running until they are interrupted.
    Stay,
}

/// How the result is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// For people.
    Text,
    /// One JSON object.
    Json,
}

/// Everything on stage.
struct Stage {
    blue: ScriptedOrigin,
    green: ScriptedOrigin,
    origin: Origin,
    gateway: Gateway,
    address: SocketAddr,
}

/// Runs the demonstration. [`Exit::Fine`] means that nothing was lost but what was in flight.
///
/// # Errors
/// If the stage cannot be set: no ports, no threads.
pub(crate) fn run(afterwards: Afterwards, format: Format) -> Result<Exit, Refusal> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| refuse(&error))?;
    runtime.block_on(async {
        let stage = Stage::set().map_err(|error| refuse(&error))?;
        let ready = stage.origin.watch(|status| status.is_up()).await;
        ready.map_err(|error| refuse(&error))?;
        let screen = Screen::new(format);
        screen.open(&stage);
        let verdict = stage
            .perform(&screen)
            .await
            .map_err(|error| refuse(&error))?;
        screen.close(&verdict);
        if afterwards == Afterwards::Stay {
            screen.stay(&stage);
            // Without a signal handler the default action ends us just as well.
            let _ = tokio::signal::ctrl_c().await;
        }
        let exit = if verdict.holds() {
            Exit::Fine
        } else {
            Exit::NotFine
        };
        stage.gateway.drain(Duration::ZERO).await;
        Ok(exit)
    })
}

impl Stage {
    fn set() -> std::io::Result<Self> {
        let start = |name: &str| {
            let origin = ScriptedOrigin::start(Script::Once {
                name: name.to_owned(),
            })?;
            origin.slow(WORK);
            Ok::<_, std::io::Error>(origin)
        };
        let (blue, green) = (start("blue")?, start("green")?);
        let places = [Target::from(blue.address()), Target::from(green.address())];
        let runtime = Handle::current();
        let surroundings = Surroundings::watch(&runtime);
        let settings = OriginSettings::new(places);
        let origin = Origin::start("demo", settings, &surroundings, &runtime);
        let mut gateway = Gateway::start(GatewaySettings {
            workers: 2,
            files: 1024,
        })?;
        let free = ListenAddress::Tcp(SocketAddr::from(([127, 0, 0, 1], 0)));
        let settings = ListenerSettings {
            timeouts: Timeouts {
                idle: Duration::from_secs(3600),
                stall: Duration::from_secs(30),
            },
            half_close: HalfClose::Leaves,
        };
        let bound = gateway
            .listen(
                "demo",
                &[free],
                origin.clone(),
                settings,
                Door::default(),
                Plane::Stream,
            )
            .map_err(std::io::Error::other)?;
        let Some(ListenAddress::Tcp(address)) = bound.first().cloned() else {
            return Err(std::io::ErrorKind::AddrNotAvailable.into());
        };
        Ok(Self {
            blue,
            green,
            origin,
            gateway,
            address,
        })
    }

    /// Plays all acts under one steady load.
    async fn perform(&self, screen: &Screen) -> std::io::Result<Verdict> {
        let play = Play::new();
        let load = Load {
            clients: CLIENTS,
            every: EVERY,
            lasting: play.length(),
            ..Load::on(self.address)
        };
        let began = tokio::time::Instant::now();
        let running = load.start()?;
        let mut marks = Vec::new();
        for act in play.acts() {
            marks.push(began.elapsed());
            self.direct(*act)?;
            screen.act(began.elapsed(), *act, self).await;
        }
        let report = running.finished().await;
        Ok(Verdict::new(&play, &marks, &report))
    }

    fn direct(&self, act: Act) -> std::io::Result<()> {
        match act {
            Act::Calm => {}
            Act::KillBlue => self.blue.kill(),
            Act::ReviveBlue => self.blue.revive()?,
            Act::FreezeBlue => self.blue.freeze(),
            Act::ThawBlue => self.blue.thaw(),
            Act::KillBoth => {
                self.blue.kill();
                self.green.kill();
            }
            Act::ReviveGreen => self.green.revive()?,
        }
        Ok(())
    }
}

fn refuse(error: &(dyn std::error::Error + 'static)) -> Refusal {
    Refusal::new(Exit::NotFine, "the demonstration cannot be set up").because(error)
}

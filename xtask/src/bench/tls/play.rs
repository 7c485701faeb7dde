//! One round: one proxy, one task, in namespaces of its own.

use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use ipreconnect_lab::link::{Fault, TcpLink};
use rustls::ClientConfig;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, interval, sleep};

use super::client;
use super::task::Task;
use crate::bench::cpu::Cores;
use crate::bench::frame::play;
use crate::bench::l4::server::{LINE, POUR};
use crate::bench::l4::{Tree, costing};
use crate::bench::namespace::prepare_namespace;
use crate::bench::papers;
use crate::bench::process::{self, Process};
use crate::bench::proxy::{PREFERRED_PORT, PROXY_PORT, Program, World};

/// How long a proxy may take until it serves.
const START: Duration = Duration::from_secs(15);
const LASTING: Duration = Duration::from_secs(5);
const VISITORS: usize = 32;
/// How far away the origin is, one way.
const AWAY: Duration = Duration::from_millis(10);
/// Between two questions, and how many there are.
const EVERY: Duration = Duration::from_millis(100);
const QUESTIONS: usize = 50;
/// Connections that are kept ready.
const WARM: u32 = 4;

/// What to do in a round.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Order {
    pub(super) task: Task,
    pub(super) program: Program,
}

/// The process of a round: carries out the order and prints what was seen.
pub(crate) fn run(order: &str) -> ExitCode {
    play(order, carry_out)
}

fn carry_out(order: &Order) -> io::Result<Vec<f64>> {
    prepare_namespace()?;
    let cores = Cores::split()?;
    cores.enter()?;
    let directory = tempfile::tempdir()?;
    let log = directory.path().join("output");
    papers::write(directory.path())?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let port = PREFERRED_PORT.to_string();
        let (_origin, link) = match order.task.door() {
            Some(_) => {
                let origin = Process::server(&["l4-origin", "--port", &port, "--burst", "1"])?;
                (origin, None)
            }
            None => {
                let origin = Process::tls_origin(PREFERRED_PORT, "a", directory.path())?;
                let link = TcpLink::to(([127, 0, 0, 1], PREFERRED_PORT).into())?;
                link.set(Fault::Latency(AWAY))?;
                (origin, Some(link))
            }
        };
        let world = World {
            port: link
                .as_ref()
                .map_or(PREFERRED_PORT, |link| link.address().port()),
            origin_tls: order.task.door().is_none(),
            door: order.task.door(),
            warm: if order.task == Task::FirstByteWarm {
                WARM
            } else {
                0
            },
            ..World::ALONE
        };
        let mut command = order.program.tls_carrier(world, directory.path())?;
        let mut proxy = cores.as_proxy(|| Process::proxy(&mut command, &log))?;
        let tree = Tree::of(proxy.id());
        let config = client::config(order.task)?;
        if !serves(&mut proxy, order.task, &config).await {
            let told = process::told(&log);
            return Err(io::Error::other(format!("it did not serve: {told}")));
        }
        match order.task {
            Task::Bulk => bulk(&tree, &config).await,
            Task::FirstByte | Task::FirstByteWarm => first_bytes().await,
            Task::Full | Task::FullRsa | Task::FullHybrid | Task::Resumed => {
                handshakes(&tree, &config).await
            }
        }
    })
}

fn target() -> SocketAddr {
    ([127, 0, 0, 1], PROXY_PORT).into()
}

/// Waits until the origin answers through the proxy.
async fn serves(proxy: &mut Process, task: Task, config: &Arc<ClientConfig>) -> bool {
    let deadline = Instant::now() + START;
    while Instant::now() < deadline && !proxy.has_ended() {
        let served = match task.door() {
            Some(_) => client::visit(config, target(), LINE).await.is_ok(),
            None => client::first_byte(target()).await.is_ok(),
        };
        if served {
            return true;
        }
        sleep(Duration::from_millis(20)).await;
    }
    false
}

async fn handshakes(tree: &Tree, config: &Arc<ClientConfig>) -> io::Result<Vec<f64>> {
    let work = |lasting| client::visitors(config, target(), LINE, VISITORS, lasting);
    work(Duration::from_millis(500)).await;
    let (used, (served, failed)) = costing(tree, work(LASTING)).await?;
    Ok(vec![
        used * 1e6 / served as f64,
        served as f64 / LASTING.as_secs_f64(),
        failed as f64,
    ])
}

async fn bulk(tree: &Tree, config: &Arc<ClientConfig>) -> io::Result<Vec<f64>> {
    let mut stream = client::dial(config, target(), POUR).await?;
    client::discard(&mut stream, Duration::from_millis(500)).await?;
    let (used, received) = costing(tree, client::discard(&mut stream, LASTING)).await?;
    let received = received? as f64;
    Ok(vec![
        used / (received / 1e9),
        received * 8.0 / 1e9 / LASTING.as_secs_f64(),
    ])
}

async fn first_bytes() -> io::Result<Vec<f64>> {
    let (mut took, mut failed) = (Vec::new(), 0);
    let mut turns = interval(EVERY);
    for _ in 0..QUESTIONS {
        turns.tick().await;
        match client::first_byte(target()).await {
            Ok(one) => took.push(one),
            Err(_) => failed += 1,
        }
    }
    took.sort_unstable();
    let at = |share: f64| {
        let place = (took.len() as f64 * share) as usize;
        let one = took.get(place).or(took.last());
        one.map_or(f64::NAN, |one| one.as_secs_f64() * 1e3)
    };
    Ok(vec![at(0.5), at(0.99), f64::from(failed)])
}

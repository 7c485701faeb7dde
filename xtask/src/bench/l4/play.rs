//! One round: one proxy, one task, in namespaces of its own.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

use super::task::Task;
use super::usage::Tree;
use super::{client, datagrams};
use crate::bench::cpu::Cores;
use crate::bench::frame::play;
use crate::bench::namespace::prepare_namespace;
use crate::bench::process::{self, Process};
use crate::bench::proxy::{PREFERRED_PORT, PROXY_PORT, Program};

/// How long a proxy may take until it serves.
const START: Duration = Duration::from_secs(15);
const LASTING: Duration = Duration::from_secs(5);
/// Long connections of the exchange, and the time between two bytes.
const CONVERSATIONS: usize = 64;
const EVERY: Duration = Duration::from_micros(125);
const VISITORS: usize = 32;
const CROWD: usize = 4_000;
const RESTING: usize = 8_000;
const REST: Duration = Duration::from_secs(60);

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
    if order.task == Task::BulkUnpaced {
        fs::write("/proc/sys/net/ipv4/tcp_congestion_control", "reno")?;
    }
    let cores = Cores::split()?;
    cores.enter()?;
    let directory = tempfile::tempdir()?;
    let log = directory.path().join("output");
    let (port, burst) = (PREFERRED_PORT.to_string(), order.task.burst().to_string());
    let _origin = Process::server(&["l4-origin", "--port", &port, "--burst", &burst])?;
    let mut command = match order.task {
        Task::Datagrams | Task::Bursts => order.program.datagram_carrier(directory.path())?,
        _ => order.program.carrier(directory.path())?,
    };
    let mut proxy = cores.as_proxy(|| Process::proxy(&mut command, &log))?;
    let tree = Tree::of(proxy.id());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        if !serves(&mut proxy, order.task).await {
            let told = process::told(&log);
            return Err(io::Error::other(format!("it did not serve: {told}")));
        }
        match order.task {
            Task::Bulk | Task::BulkUnpaced => bulk(&tree).await,
            Task::Exchange => exchange(&tree).await,
            Task::Connections => connections(&tree).await,
            Task::Crowd => crowd(&tree).await,
            Task::Datagrams | Task::Bursts => datagrams(&tree, order.task.burst()).await,
            Task::Idle => idle(&tree).await,
        }
    })
}

fn target() -> SocketAddr {
    ([127, 0, 0, 1], PROXY_PORT).into()
}

/// Waits until the origin answers through the proxy.
async fn serves(proxy: &mut Process, task: Task) -> bool {
    let deadline = Instant::now() + START;
    while Instant::now() < deadline && !proxy.has_ended() {
        let served = match task {
            Task::Datagrams | Task::Bursts => datagrams::is_answered(target()),
            _ => client::visit(target()).await.is_ok(),
        };
        if served {
            return true;
        }
        sleep(Duration::from_millis(20)).await;
    }
    false
}

/// The processor time of what `work` makes the proxy do.
pub(in crate::bench) async fn costing<T>(
    tree: &Tree,
    work: impl Future<Output = T>,
) -> io::Result<(f64, T)> {
    let before = tree.cpu()?;
    let outcome = work.await;
    let used = tree.cpu()?.saturating_sub(before);
    Ok((used.as_secs_f64(), outcome))
}

async fn bulk(tree: &Tree) -> io::Result<Vec<f64>> {
    let stream = client::pouring(target()).await?;
    // Windows and buffers have grown by then.
    client::discard(&stream, Duration::from_millis(500)).await?;
    let (used, received) = costing(tree, client::discard(&stream, LASTING)).await?;
    let received = received? as f64;
    Ok(vec![
        used / (received / 1e9),
        received * 8.0 / 1e9 / LASTING.as_secs_f64(),
    ])
}

async fn exchange(tree: &Tree) -> io::Result<Vec<f64>> {
    let streams = client::resting(target(), CONVERSATIONS).await?;
    let streams: Vec<_> = streams
        .into_iter()
        .map(TcpStream::into_std)
        .collect::<io::Result<_>>()?;
    client::exchange(&streams, EVERY, Duration::from_millis(500))?;
    let talk = async { client::exchange(&streams, EVERY, LASTING) };
    let (used, seen) = costing(tree, talk).await?;
    let seen = seen?;
    let answered = seen.latencies.len();
    let at = |share: f64| {
        let place = (answered as f64 * share) as usize;
        let latency = seen.latencies.get(place).or(seen.latencies.last());
        latency.map_or(f64::NAN, |latency| latency.as_secs_f64() * 1e6)
    };
    Ok(vec![
        used * 1e6 / answered as f64,
        at(0.5),
        at(0.99),
        100.0 * answered as f64 / seen.offered as f64,
    ])
}

async fn connections(tree: &Tree) -> io::Result<Vec<f64>> {
    client::visitors(target(), VISITORS, Duration::from_millis(500)).await;
    let work = client::visitors(target(), VISITORS, LASTING);
    let (used, (served, failed)) = costing(tree, work).await?;
    Ok(vec![
        used * 1e6 / served as f64,
        served as f64 / LASTING.as_secs_f64(),
        failed as f64,
    ])
}

async fn crowd(tree: &Tree) -> io::Result<Vec<f64>> {
    let (used, (took, failed)) = costing(tree, client::crowd(target(), CROWD)).await?;
    Ok(vec![
        took.as_secs_f64() * 1e3,
        used * 1e6 / CROWD as f64,
        failed as f64,
    ])
}

async fn datagrams(tree: &Tree, burst: usize) -> io::Result<Vec<f64>> {
    let clients = datagrams::clients(target(), CONVERSATIONS, burst)?;
    datagrams::exchange(&clients, burst, Duration::from_millis(500))?;
    let work = async { datagrams::exchange(&clients, burst, LASTING) };
    let (used, seen) = costing(tree, work).await?;
    let seen = seen?;
    let both = 2.0 * seen.answered as f64;
    Ok(vec![
        both / used,
        both / LASTING.as_secs_f64(),
        seen.lost as f64,
    ])
}

async fn idle(tree: &Tree) -> io::Result<Vec<f64>> {
    // What the first connections need is not what each one costs.
    drop(client::resting(target(), 100).await?);
    sleep(Duration::from_millis(500)).await;
    let before = tree.memory()?;
    let streams = client::resting(target(), RESTING).await?;
    sleep(Duration::from_secs(1)).await;
    let memory = tree.memory()?.saturating_sub(before);
    let (used, ()) = costing(tree, sleep(REST)).await?;
    let began = Instant::now();
    drop(streams);
    // A proxy that still closes is slow to serve the next one.
    client::visit(target()).await?;
    Ok(vec![
        memory as f64 / RESTING as f64,
        used * 1e3,
        began.elapsed().as_secs_f64() * 1e3,
    ])
}

//! One round: one proxy, one task, in namespaces of its own.

use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::client::{self, Client};
use super::h2load;
use super::proxies::{self, Around};
use super::task::Task;
use crate::bench::cpu::Cores;
use crate::bench::frame::play;
use crate::bench::l4::Tree;
use crate::bench::namespace::prepare_namespace;
use crate::bench::papers;
use crate::bench::process::{self, Process};
use crate::bench::proxy::{PREFERRED_PORT, PROXY_PORT, Program};

/// How long a proxy may take until it serves.
const START: Duration = Duration::from_secs(15);
const WARM_UP: Duration = Duration::from_secs(1);
const LASTING: Duration = Duration::from_secs(5);
const CONNECTIONS: usize = 64;
const EVERY: Duration = Duration::from_micros(250);
const RESTING: usize = 8_000;

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
    let (port, length) = (PREFERRED_PORT.to_string(), order.task.answer().to_string());
    let _origin = Process::server(&["http-origin", "--port", &port, "--answer", &length])?;
    let task = order.task;
    if task.door().is_some() {
        papers::write(directory.path())?;
    }
    let around = Around {
        door: task.door(),
        is_h2: task.is_h2(),
        ..Around::default()
    };
    let mut command = proxies::command(&order.program, around, directory.path())?;
    let mut proxy = cores.as_proxy(|| Process::proxy(&mut command, &log))?;
    let tree = Tree::of(proxy.id());
    if !serves(&mut proxy, task) {
        let told = process::told(&log);
        return Err(io::Error::other(format!("it did not serve: {told}")));
    }
    match task {
        Task::Small | Task::Large => saturated(&tree),
        Task::Steady => steady(&tree),
        Task::Idle => idle(&tree),
        Task::Tls | Task::H2 | Task::H2Tls => loaded(&tree, task),
    }
}

fn target() -> SocketAddr {
    ([127, 0, 0, 1], PROXY_PORT).into()
}

/// Waits until the origin answers through the proxy.
fn serves(proxy: &mut Process, task: Task) -> bool {
    let deadline = Instant::now() + START;
    while Instant::now() < deadline && !proxy.has_ended() {
        let served = match task.is_h2() || task.door().is_some() {
            true => h2load::asks(task, target()),
            false => Client::dial(target()).is_ok(),
        };
        if served {
            return true;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    false
}

fn saturated(tree: &Tree) -> io::Result<Vec<f64>> {
    let mut clients = client::dial(target(), CONNECTIONS)?;
    client::saturate(&mut clients, WARM_UP)?;
    let (before, began) = (tree.cpu()?, Instant::now());
    let answers = client::saturate(&mut clients, LASTING)? as f64;
    let (used, took) = (tree.cpu()?.saturating_sub(before), began.elapsed());
    Ok(vec![
        used.as_secs_f64() * 1e6 / answers,
        answers / took.as_secs_f64(),
    ])
}

fn loaded(tree: &Tree, task: Task) -> io::Result<Vec<f64>> {
    h2load::saturate(task, target(), WARM_UP)?;
    let (before, began) = (tree.cpu()?, Instant::now());
    let served = h2load::saturate(task, target(), LASTING)?;
    let (used, took) = (tree.cpu()?.saturating_sub(before), began.elapsed());
    let answers = served.answered as f64;
    Ok(vec![
        used.as_secs_f64() * 1e6 / answers,
        answers / took.as_secs_f64(),
        served.failed as f64,
    ])
}

fn steady(tree: &Tree) -> io::Result<Vec<f64>> {
    let mut clients = client::dial(target(), CONNECTIONS)?;
    client::steady(&mut clients, EVERY, WARM_UP)?;
    let before = tree.cpu()?;
    let served = client::steady(&mut clients, EVERY, LASTING)?;
    let used = tree.cpu()?.saturating_sub(before);
    let answered = served.latencies.len();
    let at = |share: f64| {
        let place = (answered as f64 * share) as usize;
        let latency = served.latencies.get(place).or(served.latencies.last());
        latency.map_or(f64::NAN, |latency| latency.as_secs_f64() * 1e6)
    };
    Ok(vec![
        used.as_secs_f64() * 1e6 / answered as f64,
        at(0.5),
        at(0.99),
        100.0 * answered as f64 / served.offered as f64,
    ])
}

fn idle(tree: &Tree) -> io::Result<Vec<f64>> {
    // What the first connections need is not what each one costs.
    drop(client::dial(target(), 100)?);
    std::thread::sleep(Duration::from_millis(500));
    let before = tree.memory()?;
    let clients = client::dial(target(), RESTING)?;
    std::thread::sleep(Duration::from_secs(2));
    let memory = tree.memory()?.saturating_sub(before);
    drop(clients);
    Ok(vec![memory as f64 / RESTING as f64])
}

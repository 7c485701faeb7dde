//! One round of the recovery: one proxy, one scenario.

use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use ipreconnect_lab::dns::NameServer;
use ipreconnect_lab::load::Load;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::cpu::Cores;
use super::fault::{Fault, MOVES_TO, NAME, TTL};
use super::frame::play;
use super::namespace::prepare_namespace;
use super::papers;
use super::process::{self, Process};
use super::proxy::{BACKUP_PORT, Backup, PREFERRED_PORT, PROXY_PORT, Program, World};
use super::scenario::{FAULT_AT, Scenario};
use super::sight::{Course, MOVED, PREFERRED, Sight};

/// How long a proxy may take until it serves.
const START: Duration = Duration::from_secs(15);
/// How long one look at the proxy may take, and the time between two.
const LOOK: Duration = Duration::from_millis(500);
const PAUSE: Duration = Duration::from_millis(20);
/// More than five seconds of unanswered requests.
const MOST_IN_FLIGHT: u32 = 8192;

/// What to do in a round.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) scenario: Scenario,
    pub(crate) program: Program,
}

/// The process of a round: carries out the order and prints what was seen.
pub(crate) fn run(order: &str) -> ExitCode {
    play(order, carry_out)
}

fn carry_out(order: &Order) -> io::Result<Sight> {
    prepare_namespace()?;
    let cores = Cores::split()?;
    cores.enter()?;
    let directory = tempfile::tempdir()?;
    let log = directory.path().join("output");

    papers::write(directory.path())?;
    let origin = |port, name| match order.scenario.has_tls() {
        true => Process::tls_origin(port, name, directory.path()),
        false => Process::origin(port, name),
    };
    let preferred = origin(PREFERRED_PORT, PREFERRED)?;
    let (backup, _second) = match order.scenario.has_backup() {
        true => (Backup::Present, Some(origin(BACKUP_PORT, "b")?)),
        false => (Backup::Absent, None),
    };
    let moved = SocketAddr::from((MOVES_TO, PREFERRED_PORT));
    let _moved = match order.scenario.moves() {
        true => Some(Process::origin_at(moved, MOVED)?),
        false => None,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let names = match order.scenario.has_name() {
            true => Some(NameServer::start().await?),
            false => None,
        };
        if let Some(names) = &names {
            names.set(NAME, &["127.0.0.1"], TTL);
        }
        let world = World {
            backup,
            resolver: names.as_ref().map(NameServer::address),
            origin_tls: order.scenario.has_tls(),
            ..World::ALONE
        };
        let mut command = order.program.command(world, directory.path())?;
        let mut proxy = cores.as_proxy(|| Process::proxy(&mut command, &log))?;
        if !serves(&mut proxy).await {
            let told = process::told(&log);
            return Err(io::Error::other(format!("it did not serve: {told}")));
        }
        measure(
            order.scenario,
            Fault::ready(order.scenario, preferred, names)?,
        )
        .await
    })
}

/// Waits until the preferred origin answers through the proxy.
async fn serves(proxy: &mut Process) -> bool {
    let deadline = Instant::now() + START;
    while Instant::now() < deadline && !proxy.has_ended() {
        if ask().await.is_ok_and(|name| name == PREFERRED) {
            return true;
        }
        sleep(PAUSE).await;
    }
    false
}

/// The load, and the fault in its middle.
async fn measure(scenario: Scenario, fault: Fault) -> io::Result<Sight> {
    let begin = Instant::now();
    let load = Load {
        lasting: scenario.lasting(),
        most_in_flight: MOST_IN_FLIGHT,
        ..Load::on(([127, 0, 0, 1], PROXY_PORT).into())
    };
    let load = load.start()?;
    let (report, happened) = tokio::join!(load.finished(), happen(scenario, fault, begin));
    // The origin lives until the last outcome is there.
    let (course, _origin) = happened?;
    Ok(Sight::new(&report.requests, report.longest_stall, &course))
}

/// Lets the fault happen, and mends it if the scenario says so.
async fn happen(scenario: Scenario, fault: Fault, begin: Instant) -> io::Result<(Course, Fault)> {
    sleep_until(begin + FAULT_AT).await;
    if let Some(silence) = scenario.silence() {
        fault.silence_names();
        sleep(silence).await;
    }
    let (fault, began, complete) = aside(fault, begin, Fault::strike).await?;
    let mut course = Course {
        began,
        complete,
        mended: None,
    };
    let Some(after) = scenario.mended_after() else {
        return Ok((course, fault));
    };
    sleep_until(begin + began + after).await;
    let (fault, _, mended) = aside(fault, begin, Fault::mend).await?;
    course.mended = Some(mended);
    Ok((course, fault))
}

/// Does something to the origin on a thread of its own, so that the load goes on, and tells when it
/// began and when it was done.
async fn aside(
    mut fault: Fault,
    begin: Instant,
    work: fn(&mut Fault) -> io::Result<()>,
) -> io::Result<(Fault, Duration, Duration)> {
    let done = tokio::task::spawn_blocking(move || {
        let began = begin.elapsed();
        work(&mut fault).map(|()| (fault, began, begin.elapsed()))
    });
    done.await.map_err(io::Error::other)?
}

/// One request through the proxy; the name of who answered.
async fn ask() -> io::Result<String> {
    let asked = async {
        let mut stream = TcpStream::connect(("127.0.0.1", PROXY_PORT)).await?;
        stream.write_all(b"look\n").await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        let name = answer.split(' ').next().unwrap_or_default();
        Ok(name.to_owned())
    };
    timeout(LOOK, asked)
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

//! One round: one proxy, one fault.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep, sleep_until};

use super::case::Case;
use super::load::{self, Seen};
use crate::bench::cpu::Cores;
use crate::bench::fault::Fault;
use crate::bench::frame::play;
use crate::bench::http::{Around, command};
use crate::bench::namespace::prepare_namespace;
use crate::bench::process::{self, Process};
use crate::bench::proxy::{BACKUP_PORT, PREFERRED_PORT, Program};
use crate::bench::scenario::FAULT_AT;

/// How long a proxy may take until it serves.
const START: Duration = Duration::from_secs(15);
const LASTING: Duration = Duration::from_secs(8);

/// What to do in a round.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Order {
    pub(super) case: Case,
    pub(super) program: Program,
}

/// The process of a round: carries out the order and prints what was seen.
pub(crate) fn run(order: &str) -> ExitCode {
    play(order, carry_out)
}

fn origin(port: u16, book: &Path) -> io::Result<Process> {
    let (port, book) = (port.to_string(), book.display().to_string());
    Process::server(&["book-origin", "--port", &port, "--book", &book])
}

fn carry_out(order: &Order) -> io::Result<Seen> {
    prepare_namespace()?;
    let cores = Cores::split()?;
    cores.enter()?;
    let directory = tempfile::tempdir()?;
    let (log, book) = (
        directory.path().join("output"),
        directory.path().join("book"),
    );
    let preferred = origin(PREFERRED_PORT, &book)?;
    let _backup = match order.case.has_backup() {
        true => Some(origin(BACKUP_PORT, &book)?),
        false => None,
    };
    let around = Around {
        has_backup: order.case.has_backup(),
        ..Around::default()
    };
    let mut command = command(&order.program, around, directory.path())?;
    let mut proxy = cores.as_proxy(|| Process::proxy(&mut command, &log))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let deadline = Instant::now() + START;
        while !load::is_served().await {
            if Instant::now() > deadline || proxy.has_ended() {
                let told = process::told(&log);
                return Err(io::Error::other(format!("it did not serve: {told}")));
            }
            sleep(Duration::from_millis(20)).await;
        }
        let fault = Fault::ready(order.case.scenario(), preferred, None)?;
        let begin = Instant::now();
        let (seen, happened) = tokio::join!(
            load::run(begin, LASTING),
            happen(order.case, fault, begin, &book)
        );
        let (mut seen, denied) = seen;
        seen.outage = happened?;
        judge(&mut seen, &denied, &std::fs::read_to_string(&book)?);
        Ok(seen)
    })
}

/// Lets the fault happen, and mends it where the case says so; returns how long that took.
async fn happen(
    case: Case,
    mut fault: Fault,
    begin: Instant,
    book: &Path,
) -> io::Result<Option<f64>> {
    sleep_until(begin + FAULT_AT).await;
    let (mut fault, struck) = tokio::task::spawn_blocking(move || {
        let struck = fault.strike();
        (fault, struck)
    })
    .await
    .map_err(io::Error::other)?;
    struck?;
    let began = Instant::now();
    let Some(after) = case.back_after() else {
        sleep_until(begin + LASTING + Duration::from_secs(6)).await;
        drop(fault);
        return Ok(None);
    };
    sleep_until(began + after).await;
    let book = book.to_owned();
    let again = tokio::task::spawn_blocking(move || origin(PREFERRED_PORT, &book))
        .await
        .map_err(io::Error::other)?;
    fault.replace(again?);
    let outage = began.elapsed().as_secs_f64() * 1e3;
    sleep_until(begin + LASTING + Duration::from_secs(6)).await;
    Ok(Some(outage))
}

/// Compares what the origins did with what clients were told.
fn judge(seen: &mut Seen, denied: &BTreeMap<String, bool>, book: &str) {
    let mut executed: BTreeMap<&str, u64> = BTreeMap::new();
    for line in book.lines() {
        let id = line.split(' ').nth(1).unwrap_or_default();
        *executed.entry(id).or_default() += 1;
    }
    seen.executed_twice = executed.values().filter(|count| **count > 1).count() as u64;
    let wrong = denied
        .iter()
        .filter(|(id, denied)| **denied && executed.contains_key(id.as_str()));
    seen.told_wrongly = wrong.count() as u64;
}

//! What happens to the origin, and what the clients see of it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use ipreconnect_lab::load::{Load, Outcome, Report, Request};
use tokio::time::Instant;

use super::child::{Core, Process, run};
use super::peers::Peer;

/// The fault comes so long after the load began.
const FAULT_AT: Duration = Duration::from_secs(2);
/// Where the proxy listens, and the origins behind it; the namespace is empty otherwise.
const FRONT: SocketAddr = local(4000);
const FIRST: SocketAddr = local(4001);
const BACKUP: SocketAddr = local(4002);

const fn local(port: u16) -> SocketAddr {
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), port)
}

/// A way to fail.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Scenario {
    CrashWithBackup,
    CrashAndBack,
    SilentInput,
    SilentOutput,
    Frozen,
}

/// What the clients saw of one run.
#[derive(Clone)]
pub(super) struct Seen {
    pub(super) offered: u64,
    pub(super) answered: u64,
    pub(super) failed: u64,
    /// Of the failed, those that were on their way when the fault came.
    pub(super) failed_in_flight: u64,
    pub(super) outcomes: BTreeMap<String, u64>,
    pub(super) stall: Duration,
    /// From the fault to the first answer of a request that was made after it.
    pub(super) first_answer: Option<Duration>,
    /// From the end of the fault to the next answer of the first origin.
    pub(super) first_is_back: Option<Duration>,
}

impl Scenario {
    pub(super) const ALL: [Self; 5] = [
        Self::CrashWithBackup,
        Self::CrashAndBack,
        Self::SilentInput,
        Self::SilentOutput,
        Self::Frozen,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::CrashWithBackup => "crash-with-backup",
            Self::CrashAndBack => "crash-and-back",
            Self::SilentInput => "silent-input",
            Self::SilentOutput => "silent-output",
            Self::Frozen => "frozen",
        }
    }

    pub(super) fn title(self) -> &'static str {
        match self {
            Self::CrashWithBackup => "Crash with a backup: the first origin is killed",
            Self::CrashAndBack => "Crash, back after 2 s, no backup",
            Self::SilentInput => "Silent path with a backup: its packets are dropped on input",
            Self::SilentOutput => "Silent path with a backup: its packets are dropped on output",
            Self::Frozen => "Frozen process with a backup: SIGSTOP, and SIGCONT after 5 s",
        }
    }

    fn lasting(self) -> Duration {
        Duration::from_secs(if self == Self::Frozen { 14 } else { 8 })
    }

    /// When the fault ends, if it does.
    fn mended_after(self) -> Option<Duration> {
        match self {
            Self::CrashAndBack => Some(Duration::from_secs(2)),
            Self::Frozen => Some(Duration::from_secs(5)),
            Self::CrashWithBackup | Self::SilentInput | Self::SilentOutput => None,
        }
    }

    /// Plays one round with one proxy.
    pub(super) async fn play(self, peer: Peer) -> Result<Seen, String> {
        let directory = tempfile::tempdir().map_err(|error| error.to_string())?;
        let mut first = Some(origin(FIRST, "first")?);
        let backup = match self {
            Self::CrashAndBack => None,
            _ => Some(origin(BACKUP, "backup")?),
        };
        let origins: Vec<SocketAddr> = [FIRST]
            .into_iter()
            .chain(backup.as_ref().map(|_| BACKUP))
            .collect();
        for address in &origins {
            listening(*address, None).await?;
        }
        let mut proxy = peer.start(directory.path(), FRONT, &origins)?;
        listening(FRONT, Some(&mut proxy)).await?;
        // Its own checks come to rest.
        tokio::time::sleep(Duration::from_millis(1500)).await;
        let load = Load {
            lasting: self.lasting(),
            most_in_flight: 8000,
            ..Load::on(FRONT)
        };
        let began = Instant::now();
        let running = load.start().map_err(|error| error.to_string())?;
        tokio::time::sleep_until(began + FAULT_AT).await;
        let fault = began.elapsed();
        self.fail(&mut first)?;
        let mut mended = None;
        if let Some(after) = self.mended_after() {
            tokio::time::sleep_until(began + FAULT_AT + after).await;
            mended = Some(began.elapsed());
            self.mend(&mut first)?;
        }
        let report = running.finished().await;
        if matches!(self, Self::SilentInput | Self::SilentOutput) {
            run("nft", &["flush", "ruleset"])?;
        }
        Ok(see(&report, fault, mended))
    }

    fn fail(self, first: &mut Option<Process>) -> Result<(), String> {
        match self {
            // Ended by SIGKILL.
            Self::CrashWithBackup | Self::CrashAndBack => *first = None,
            Self::SilentInput => drop_packets("input")?,
            Self::SilentOutput => drop_packets("output")?,
            Self::Frozen => {
                if let Some(first) = first {
                    first.signal("STOP")?;
                }
            }
        }
        Ok(())
    }

    fn mend(self, first: &mut Option<Process>) -> Result<(), String> {
        match (self, first) {
            (Self::Frozen, Some(first)) => first.signal("CONT"),
            (_, first) => {
                *first = Some(origin(FIRST, "first")?);
                Ok(())
            }
        }
    }
}

fn origin(address: SocketAddr, name: &str) -> Result<Process, String> {
    let own = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut command = Command::new(own);
    command.args(["origin", &address.to_string(), name]);
    Process::start(&mut command, Core::Others)
}

/// Waits until somebody listens there.
async fn listening(address: SocketAddr, mut process: Option<&mut Process>) -> Result<(), String> {
    let deadline = Instant::now() + Duration::from_secs(5);
    while tokio::net::TcpStream::connect(address).await.is_err() {
        if process.as_mut().is_some_and(|process| process.has_ended()) {
            return Err("it did not start".to_owned());
        }
        if Instant::now() >= deadline {
            return Err(format!("nobody listens on {address}"));
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}

fn drop_packets(hook: &str) -> Result<(), String> {
    let chain = format!("{{ type filter hook {hook} priority 0; }}");
    let port = FIRST.port();
    // In one step, so that both directions fall silent together.
    let rules = format!(
        "add table inet bench\nadd chain inet bench {hook} {chain}\n\
         add rule inet bench {hook} tcp sport {port} drop\nadd rule inet bench {hook} tcp dport {port} drop\n"
    );
    let file = tempfile::NamedTempFile::new().map_err(|error| error.to_string())?;
    std::fs::write(file.path(), rules).map_err(|error| error.to_string())?;
    run("nft", &["-f", &file.path().display().to_string()])
}

fn see(report: &Report, fault: Duration, mended: Option<Duration>) -> Seen {
    let answered = |request: &&Request| request.outcome == Outcome::Answered;
    let failed = report.requests.iter().filter(|request| !answered(request));
    let in_flight = failed.filter(|request| request.scheduled < fault).count();
    let answers = || report.requests.iter().filter(answered);
    let first_answer = answers()
        .filter(|request| request.scheduled >= fault)
        .map(Request::ended)
        .min();
    let first_is_back = mended.and_then(|mended| {
        let after = answers().filter(|request| request.scheduled >= mended);
        let by_first = after.filter(|request| request.answered_by.as_deref() == Some("first"));
        Some(by_first.map(Request::ended).min()?.saturating_sub(mended))
    });
    Seen {
        offered: report.offered(),
        answered: report.answered(),
        failed: report.failed(),
        failed_in_flight: in_flight as u64,
        outcomes: report
            .outcomes
            .iter()
            .map(|(outcome, count)| (format!("{outcome:?}"), *count))
            .collect(),
        stall: report.longest_stall,
        first_answer: first_answer.map(|at| at.saturating_sub(fault)),
        first_is_back,
    }
}

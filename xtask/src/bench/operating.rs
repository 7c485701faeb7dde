//! What the operator's side costs: questions about many origins, memory, a year of the outage ledger, and, beside
//! another build, the hot path of HTTP.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use rusqlite::{Connection, params};

use super::frame::{Bench, Outcome};
use super::http::Task;
use super::machine::{Machine, today};
use super::peers::{self, Builds};
use super::process::{self, Process};
use super::proxy::{Program, Proxy};
use super::wish::Subject;
use crate::reference::root;

const ORIGINS: i64 = 1_000;
const LOSSES: i64 = 50_000;
/// How often each question is asked.
const QUESTIONS: usize = 15;
const START: Duration = Duration::from_secs(60);
const MINUTE: i64 = 60;
const HOUR: i64 = 3_600;
const DAY: i64 = 86_400;
/// Some response times, as the ledger packs them: the sum in microseconds, then steps and counts (LEB128).
const TIMES: [u8; 9] = [0xc0, 0xc4, 0x07, 3, 60, 5, 35, 8, 5];

/// What was asked, and how long the answers took.
struct Asked {
    what: String,
    took: Vec<Duration>,
    bytes: usize,
}

/// `cargo xtask bench operating [--rounds N] [--before PROGRAM]`.
pub(crate) fn measure(arguments: &[&str]) -> ExitCode {
    let (mut rounds, mut before) = (7, None);
    let mut rest = arguments;
    loop {
        match rest {
            [] => break,
            ["--rounds", count, more @ ..] if matches!(count.parse(), Ok(1..=99)) => {
                (rounds, rest) = (count.parse().unwrap_or(rounds), more);
            }
            ["--before", program, more @ ..] => {
                (before, rest) = (Some(PathBuf::from(program)), more);
            }
            _ => {
                eprintln!(
                    "error: `cargo xtask bench operating [--rounds N] [--before PROGRAM]`, from 1 to 99"
                );
                return ExitCode::from(2);
            }
        }
    }
    let found = peers::find(&[Proxy::Ipreconnect], Builds::System)
        .into_iter()
        .next();
    let program = match found {
        Some((_, Ok(program))) => program,
        Some((_, Err(why))) => {
            eprintln!("error: {why}");
            return ExitCode::FAILURE;
        }
        None => return ExitCode::FAILURE,
    };
    let text = match table(&program, before.as_deref(), rounds) {
        Ok(text) => text,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::FAILURE;
        }
    };
    println!("\n{text}");
    match fs::write(root().join("docs/benchmarks/operating.md"), text) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: the table cannot be written: {error}");
            ExitCode::FAILURE
        }
    }
}

fn table(program: &Program, before: Option<&Path>, rounds: usize) -> io::Result<String> {
    let mut text = format!(
        "# What the operator's side costs\n\n\
         Made by `cargo xtask bench operating` on {}: {}. Machines are shared; the figures say what to expect, not what a \
         test may demand.\n",
        today(),
        Machine::this(),
    );
    if let Some(before) = before {
        if !peers::build("xtask") {
            return Err(io::Error::other("xtask cannot be built"));
        }
        text.push_str(&hot_path(program, before, rounds));
    }
    let servers = Servers::begin()?;
    let directory = tempfile::tempdir()?;
    let few = resident(&program.path, &servers, 1)?;
    let many = Stage::begin(&program.path, directory.path(), &servers, ORIGINS)?;
    let all = many.memory()?;
    let _ = write!(
        text,
        "\n## {ORIGINS} origins\n\n\
         Each with two addresses and a Unix listener; over the admin socket, median of {QUESTIONS} questions (the slowest).\n\n\
         | | ms | bytes |\n|---|---:|---:|\n"
    );
    for path in [
        "/v1/origins",
        "/v1/listeners",
        "/v1/history",
        "/metrics",
        "/fragment",
    ] {
        text.push_str(&row(&many.ask(path)?));
    }
    let each = all.saturating_sub(few) / u64::try_from(ORIGINS - 1).unwrap_or(1);
    let _ = writeln!(
        text,
        "\nAsked: `/v1/origins` within 20 ms. Memory for each origin with its listener, the operator's side included: {:.1} KiB.",
        kib(each)
    );
    drop(many);
    text.push_str(&year(&program.path, directory.path(), &servers)?);
    Ok(text)
}

/// Both builds in turns.
fn hot_path(program: &Program, before: &Path, rounds: usize) -> String {
    let mut text = format!(
        "\n## What passes\n\n\
         Two builds in turns, {rounds} rounds: one without the operator's side, and this one. Asked: at most 3 % more for a \
         request.\n\n"
    );
    let builds = [before, &program.path];
    for task in [Task::Small, Task::Idle] {
        let mut seen = [Vec::new(), Vec::new()];
        for round in 1..=rounds {
            println!("{}, round {round} of {rounds}", task.name());
            for (path, seen) in builds.iter().zip(&mut seen) {
                let program = Program {
                    path: path.to_path_buf(),
                    ..program.clone()
                };
                match task.play(&program) {
                    Outcome::Seen(one) => {
                        println!("  {}: {}", path.display(), Task::line(&one));
                        seen.push(one);
                    }
                    Outcome::Failed(why) => println!("  {}: not measured: {why}", path.display()),
                }
            }
        }
        text.push_str(&task.section());
        for (seen, name) in seen.iter().zip(["before", "now"]) {
            let seen: Vec<_> = seen.iter().collect();
            if !seen.is_empty() {
                let _ = writeln!(text, "| {name} | {} |", task.cells(&seen).join(" | "));
            }
        }
        text.push('\n');
    }
    text
}

fn year(program: &Path, directory: &Path, servers: &Servers) -> io::Result<String> {
    let file = directory.join("state/history.db");
    fill(&file).map_err(io::Error::other)?;
    let size = fs::metadata(&file)?.len();
    let mut text = format!(
        "\n## A year of {ORIGINS} origins\n\n\
         365 days, eight days of hours and an hour of minutes for each origin, {LOSSES} losses: a file of {:.0} MiB. Median of \
         {QUESTIONS} questions (the slowest). Asked: 200 ms.\n\n\
         | | ms | bytes |\n|---|---:|---:|\n",
        kib(size) / 1024.0
    );
    for arguments in [
        &["history"][..],
        &["history", "--json"][..],
        &["history", "origin-7", "--json"][..],
    ] {
        text.push_str(&row(&by_program(program, directory, arguments)?));
    }
    let stage = Stage::begin(program, directory, servers, ORIGINS)?;
    for path in ["/v1/history", "/v1/history?origin=origin-7", "/fragment"] {
        text.push_str(&row(&stage.ask(path)?));
    }
    Ok(text)
}

fn row(asked: &Asked) -> String {
    let ms = |took: &Duration| took.as_secs_f64() * 1000.0;
    let mut took: Vec<f64> = asked.took.iter().map(ms).collect();
    took.sort_by(f64::total_cmp);
    let median = took.get(took.len() / 2).copied().unwrap_or_default();
    let slowest = took.last().copied().unwrap_or_default();
    println!("{}: {median:.1} ms", asked.what);
    format!(
        "| `{}` | {median:.1} ({slowest:.1}) | {} |\n",
        asked.what, asked.bytes
    )
}

fn kib(bytes: u64) -> f64 {
    bytes as f64 / 1024.0
}

/// Two servers that take connections and say nothing.
struct Servers([SocketAddr; 2]);

impl Servers {
    fn begin() -> io::Result<Self> {
        let server = || -> io::Result<SocketAddr> {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
            let address = listener.local_addr()?;
            std::thread::spawn(move || listener.incoming().for_each(drop));
            Ok(address)
        };
        Ok(Self([server()?, server()?]))
    }
}

/// A gateway with so many origins, in a directory of its own.
struct Stage {
    gateway: Process,
    socket: PathBuf,
}

impl Stage {
    fn begin(
        program: &Path,
        directory: &Path,
        servers: &Servers,
        origins: i64,
    ) -> io::Result<Self> {
        let [one, other] = servers.0;
        let mut text = String::from("[gateway]\nstate_dir = \"state\"\nworkers = 2\n");
        for number in 0..origins {
            let _ = write!(
                text,
                "[origin.origin-{number}]\naddress = [\"{one}\", \"{other}\"]\n\
                 [[listen]]\naddress = \"unix:l{number}\"\norigin = \"origin-{number}\"\n"
            );
        }
        fs::write(directory.join("ipreconnect.toml"), text)?;
        let log = directory.join("output");
        let mut command = Command::new(program);
        command.arg("run").current_dir(directory);
        let mut gateway = Process::proxy(&mut command, &log)?;
        let socket = directory.join("state/admin.sock");
        let deadline = Instant::now() + START;
        let is_ready =
            || ask(&socket, "/readyz").is_ok_and(|answer| answer.starts_with(b"HTTP/1.1 200"));
        while !is_ready() {
            if gateway.has_ended() || Instant::now() > deadline {
                return Err(io::Error::other(format!(
                    "no gateway: {}",
                    process::told(&log)
                )));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        // What is done once at the start is over, and the first looks of the ledger.
        std::thread::sleep(Duration::from_secs(15));
        Ok(Self { gateway, socket })
    }

    /// Bytes of memory that are its own.
    fn memory(&self) -> io::Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.gateway.id()))?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("RssAnon:"));
        let kib = line.and_then(|line| line.trim().split(' ').next()?.parse::<u64>().ok());
        kib.map(|kib| kib * 1024)
            .ok_or_else(|| io::Error::other("the kernel does not tell"))
    }

    fn ask(&self, path: &str) -> io::Result<Asked> {
        let mut asked = Asked {
            what: path.to_owned(),
            took: Vec::new(),
            bytes: 0,
        };
        for _ in 0..QUESTIONS {
            let began = Instant::now();
            let answer = ask(&self.socket, path)?;
            asked.took.push(began.elapsed());
            if !answer.starts_with(b"HTTP/1.1 200") {
                return Err(io::Error::other(format!("{path} is refused")));
            }
            asked.bytes = answer.len();
            // What is kept for two seconds is not what is measured.
            if path == "/fragment" {
                std::thread::sleep(Duration::from_millis(2_100));
            }
        }
        Ok(asked)
    }
}

fn resident(program: &Path, servers: &Servers, origins: i64) -> io::Result<u64> {
    let directory = tempfile::tempdir()?;
    Stage::begin(program, directory.path(), servers, origins)?.memory()
}

fn ask(socket: &Path, path: &str) -> io::Result<Vec<u8>> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(START))?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(answer)
}

fn by_program(program: &Path, directory: &Path, arguments: &[&str]) -> io::Result<Asked> {
    let mut asked = Asked {
        what: format!("ipreconnect {}", arguments.join(" ")),
        took: Vec::new(),
        bytes: 0,
    };
    for _ in 0..QUESTIONS {
        let began = Instant::now();
        let output = Command::new(program)
            .args(arguments)
            .current_dir(directory)
            .stdin(Stdio::null())
            .output()?;
        asked.took.push(began.elapsed());
        if !output.status.success() {
            return Err(io::Error::other(format!("{} fails", asked.what)));
        }
        asked.bytes = output.stdout.len();
    }
    Ok(asked)
}

/// Makes up a year, in the file that a gateway has begun.
fn fill(file: &Path) -> rusqlite::Result<()> {
    let mut connection = Connection::open(file)?;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now = now.map_or(0, |now| i64::try_from(now.as_secs()).unwrap_or(0));
    let transaction = connection.transaction()?;
    let ids: Vec<(i64, String)> = {
        let name = |number: i64| format!("origin-{number}");
        let mut put = transaction.prepare("INSERT OR IGNORE INTO origin (name) VALUES (?1)")?;
        for number in 0..ORIGINS {
            put.execute([name(number)])?;
        }
        let mut all = transaction.prepare("SELECT id, name FROM origin")?;
        let rows = all.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        rows.collect::<rusqlite::Result<_>>()?
    };
    {
        let mut put = transaction.prepare(
            "INSERT OR REPLACE INTO rollup VALUES (?1, ?2, ?3, ?4, ?5, 1000, 1, 0, 0, 0, 0, ?6)",
        )?;
        for (id, _) in &ids {
            for (grain, count) in [(DAY, 365), (HOUR, 8 * 24), (MINUTE, 60)] {
                for back in 0..count {
                    let at = (now / grain - back) * grain;
                    let down = if back % 30 == 7 { grain * 10 } else { 0 };
                    put.execute(params![grain, id, at, grain * 1000, down, &TIMES[..]])?;
                }
            }
        }
        let mut put = transaction.prepare(
            "INSERT INTO loss (origin, scope, endpoint, layer, cause, blame, first_sign, notice_ms, lasted_ms, healed_by)
             VALUES (?1, 'origin', '192.0.2.1:5432', 'transport', 'connection refused', 'origin', ?2, 7, 20400, 'the server came back')",
        )?;
        for number in 0..LOSSES {
            let at = usize::try_from(number % ORIGINS).unwrap_or_default();
            if let Some((_, name)) = ids.get(at) {
                put.execute(params![name, (now - 365 * DAY + number * 600) * 1000])?;
            }
        }
    }
    transaction.commit()
}

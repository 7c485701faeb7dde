//! What the guard sees of short connections, and what that costs.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::figures::middle;
use super::frame::{Outcome, play};
use super::machine::{Machine, today};
use super::namespace::{in_namespaces, prepare_namespace};
use super::peers::{self, Builds};
use super::process::Process;
use super::proxy::Proxy;
use super::wish::rounds_alone;
use crate::reference::root;

/// Connections a second, and for how long.
const RATE: u64 = 5_000;
const LASTS: Duration = Duration::from_secs(10);
/// Threads that connect.
const CLIENTS: u64 = 4;
/// Connections that outlive a look.
const LONG: u64 = 50;

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Order {
    rounds: usize,
    ours: PathBuf,
}

/// One round.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Seen {
    made: u64,
    seen: u64,
    /// Of those that outlive a look.
    attributed: u64,
    /// Parts of one core.
    busy: f64,
    idle: f64,
    rate: f64,
}

/// `cargo xtask bench guard [--rounds N]`.
pub(crate) fn measure(arguments: &[&str]) -> ExitCode {
    let rounds = match rounds_alone(arguments) {
        Ok(rounds) => rounds,
        Err(code) => return code,
    };
    let found = peers::find(&[Proxy::Ipreconnect], Builds::System);
    let Some((_, Ok(ours))) = found.into_iter().next() else {
        eprintln!("error: the program could not be built");
        return ExitCode::FAILURE;
    };
    if !peers::build("xtask") {
        return ExitCode::FAILURE;
    }
    let order = Order {
        rounds,
        ours: ours.path,
    };
    let seen = match in_namespaces::<Vec<Seen>>("bench-guard-round", &order) {
        Outcome::Seen(seen) => seen,
        Outcome::Failed(why) => {
            eprintln!("error: {why}");
            return ExitCode::FAILURE;
        }
    };
    let of = |part: fn(&Seen) -> f64| middle(seen.iter().map(|one| Some(part(one))).collect());
    let text = format!(
        "# The guard: what it sees, and what that costs\n\n\
         Made by `cargo xtask bench guard --rounds {rounds}` on {}: {}. Medians of {rounds} rounds; in brackets the least \
         and the most.\n\n\
         {RATE} connections a second for {} s are asked for, each made, used for one byte and closed at once, to four \
         listening ports, by {CLIENTS} threads beside the gateway on the same processors; and {LONG} that stay open for \
         two seconds. The gateway has `[guard]` and nothing else, in a network namespace of its own.\n\n\
         | | |\n|---|---:|\n\
         | connections a second | {} |\n\
         | of all connections, seen (percent) | {} |\n\
         | of those that outlive a look, attributed to their user (percent) | {} |\n\
         | processor time of the whole gateway (percent of one core) | {} |\n\
         | the same while nothing happens | {} |\n",
        today(),
        Machine::this(),
        LASTS.as_secs(),
        of(|one| one.rate),
        of(|one| 100.0 * one.seen as f64 / one.made.max(1) as f64),
        of(|one| 100.0 * one.attributed as f64 / LONG as f64),
        of(|one| 100.0 * one.busy),
        of(|one| 100.0 * one.idle),
    );
    println!("\n{text}");
    match fs::write(root().join("docs/benchmarks/guard.md"), text) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: the table cannot be written: {error}");
            ExitCode::FAILURE
        }
    }
}

/// All rounds, in a process of their own.
pub(crate) fn round(order: &str) -> ExitCode {
    play(order, carry_out)
}

fn carry_out(order: &Order) -> io::Result<Vec<Seen>> {
    prepare_namespace()?;
    // Many come from the same address within a minute.
    fs::write("/proc/sys/net/ipv4/ip_local_port_range", "1024 65000")?;
    (0..order.rounds).map(|_| once(&order.ours)).collect()
}

fn once(program: &Path) -> io::Result<Seen> {
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("guard.toml");
    fs::write(
        &file,
        "[gateway]\nstate_dir = \"state\"\nworkers = 1\n[guard]\nmode = \"learn\"\n",
    )?;
    let listeners: Vec<TcpListener> = (0..5)
        .map(|_| TcpListener::bind("127.0.0.1:0"))
        .collect::<io::Result<_>>()?;
    let addresses: Vec<SocketAddr> = listeners
        .iter()
        .map(TcpListener::local_addr)
        .collect::<io::Result<_>>()?;
    for listener in listeners {
        thread::spawn(move || serve(&listener));
    }
    let Some((patient, hasty)) = addresses.split_last() else {
        return Err(io::Error::other("nobody listens"));
    };
    let mut command = Command::new(program);
    command.args(["run", "--config"]).arg(&file);
    let gateway = Process::proxy(&mut command, &directory.path().join("log"))?;
    let socket = directory.path().join("state/admin.sock");
    until(|| view(&socket).is_ok_and(|view| view["mode"] == "learn"))?;
    let before = spent(gateway.id())?;
    thread::sleep(LASTS / 2);
    let idle = (spent(gateway.id())? - before) / (LASTS / 2).as_secs_f64();
    let (busy_before, began) = (spent(gateway.id())?, Instant::now());
    let long = {
        let patient = *patient;
        thread::spawn(move || stay(patient))
    };
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let hasty = hasty.to_vec();
            thread::spawn(move || come(&hasty))
        })
        .collect();
    let mut made = 0;
    for client in clients {
        made += client
            .join()
            .map_err(|_| io::Error::other("a client has failed"))??;
    }
    let took = began.elapsed();
    let busy = (spent(gateway.id())? - busy_before) / took.as_secs_f64();
    long.join()
        .map_err(|_| io::Error::other("those that stay have failed"))??;
    let count = |part: &str, ports: &[SocketAddr]| -> io::Result<u64> {
        let view = view(&socket)?;
        let all = view["ports"].as_array().cloned().unwrap_or_default();
        let meant = all
            .iter()
            .filter(|one| ports.iter().any(|port| one["port"] == port.port()));
        Ok(meant.filter_map(|one| one[part].as_u64()).sum())
    };
    // What ended last is heard a moment later.
    let _ = until(|| count("seen", hasty).is_ok_and(|seen| seen >= made));
    Ok(Seen {
        made,
        seen: count("seen", hasty)?,
        attributed: count("attributed", &[*patient])?,
        busy,
        idle,
        rate: made as f64 / took.as_secs_f64(),
    })
}

/// Reads what comes, until the other end is closed.
fn serve(listener: &TcpListener) {
    for stream in listener.incoming() {
        let Ok(mut stream) = stream else { continue };
        let port = listener.local_addr().map_or(0, |address| address.port());
        let mut byte = [0];
        if stream.read(&mut byte).is_ok() && byte == *b"l" {
            // It stays until its client goes.
            thread::spawn(move || {
                let _ = stream.read(&mut [0]);
                port
            });
        }
    }
}

/// Connects at an even pace.
fn come(addresses: &[SocketAddr]) -> io::Result<u64> {
    let (began, mut made) = (Instant::now(), 0);
    let pause = Duration::from_nanos(1_000_000_000 * CLIENTS / RATE);
    for address in addresses.iter().cycle() {
        if began.elapsed() >= LASTS {
            break;
        }
        let due = pause * u32::try_from(made).unwrap_or(u32::MAX);
        thread::sleep(due.saturating_sub(began.elapsed()));
        let mut stream = TcpStream::connect(address)?;
        stream.write_all(b"s")?;
        made += 1;
    }
    Ok(made)
}

/// Connections that outlive a look.
fn stay(address: SocketAddr) -> io::Result<()> {
    let mut open = Vec::new();
    for _ in 0..LONG {
        let mut stream = TcpStream::connect(address)?;
        stream.write_all(b"l")?;
        open.push(stream);
        thread::sleep(Duration::from_millis(20));
    }
    thread::sleep(Duration::from_secs(2));
    drop(open);
    Ok(())
}

/// Seconds of processor time that a process has taken.
fn spent(pid: u32) -> io::Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace();
    let ticks: f64 = fields
        .skip(11)
        .take(2)
        .filter_map(|field| field.parse::<f64>().ok())
        .sum();
    Ok(ticks / 100.0)
}

fn view(socket: &Path) -> io::Result<Value> {
    let mut stream = UnixStream::connect(socket)?;
    stream.write_all(b"GET /v1/guard HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let body = text.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    serde_json::from_str(body).map_err(io::Error::from)
}

fn until(mut holds: impl FnMut() -> bool) -> io::Result<()> {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !holds() {
        if Instant::now() > deadline {
            return Err(io::Error::other("the gateway does not get ready"));
        }
        thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

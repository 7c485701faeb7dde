//! What access rules cost: one decision, a connection, and strangers that come again and again.

use std::fmt::Write as _;
use std::fs;
use std::hint::black_box;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use ipreconnect_core::access::{Files, Host, Names, Rule, Rules, Source, Visitor, World, read_hba};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, socket_with};
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;

use super::cpu::Cores;
use super::figures::middle;
use super::frame::{Outcome, play, report};
use super::l4::client;
use super::l4::{Tree, costing};
use super::machine::{Machine, today};
use super::namespace::{in_namespaces, prepare_namespace};
use super::peers::{self, Builds};
use super::process::{self, Process};
use super::proxy::{PREFERRED_PORT, PROXY_PORT, Proxy};
use super::wish::rounds_alone;
use crate::reference::root;

const RULES: usize = 10_000;
/// Decisions that are timed together, and how often.
const BLOCK: usize = 64;
const BLOCKS: usize = 20_000;
const VISITORS: usize = 32;
const LASTING: Duration = Duration::from_secs(5);
/// Strangers: how many a second, and for how long.
const STRANGERS: u32 = 2_000;
const FLOOD: Duration = Duration::from_secs(10);
const STREAMS: usize = 64;
const EVERY: Duration = Duration::from_micros(250);
const START: Duration = Duration::from_secs(15);

/// What is measured in a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Case {
    /// Connections, without any rule.
    Without,
    /// Connections, of which the last of many rules decides.
    With,
    /// Served clients, while strangers go elsewhere.
    Elsewhere,
    /// Served clients, while strangers are refused.
    Refused,
}

impl Case {
    const ALL: [Self; 4] = [Self::Without, Self::With, Self::Elsewhere, Self::Refused];

    fn name(self) -> &'static str {
        match self {
            Self::Without => "connections, no rule",
            Self::With => "connections, 10,000 rules",
            Self::Elsewhere => "served clients, strangers go to the origin itself",
            Self::Refused => "served clients, strangers are refused",
        }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Order {
    case: Case,
    program: PathBuf,
}

/// `cargo xtask bench access [--rounds N]`.
pub(crate) fn measure(arguments: &[&str]) -> ExitCode {
    let rounds = match rounds_alone(arguments) {
        Ok(rounds) => rounds,
        Err(code) => return code,
    };
    let found = peers::find(&[Proxy::Ipreconnect], Builds::System);
    let program = match found.into_iter().next() {
        Some((_, Ok(program))) => program.path,
        Some((_, Err(why))) => {
            eprintln!("error: {why}");
            return ExitCode::FAILURE;
        }
        None => return ExitCode::FAILURE,
    };
    if !peers::build("xtask") {
        return ExitCode::FAILURE;
    }
    let mut decisions = Vec::new();
    let mut seen: [Vec<Vec<f64>>; 4] = Default::default();
    for round in 1..=rounds {
        println!("round {round} of {rounds}");
        match in_namespaces("bench-access-decisions", &()) {
            Outcome::<Vec<f64>>::Seen(one) => {
                println!("  one decision: {one:?} ns");
                decisions.push(one);
            }
            Outcome::Failed(why) => println!("  one decision: not measured: {why}"),
        }
        for (case, seen) in Case::ALL.into_iter().zip(&mut seen) {
            let order = Order {
                case,
                program: program.clone(),
            };
            match in_namespaces("bench-access-round", &order) {
                Outcome::<Vec<f64>>::Seen(one) => {
                    println!("  {}: {one:.1?}", case.name());
                    seen.push(one);
                }
                Outcome::Failed(why) => println!("  {}: not measured: {why}", case.name()),
            }
        }
    }
    let text = markdown(rounds, &decisions, &seen);
    println!("\n{text}");
    let written = fs::create_dir_all(root().join("docs/benchmarks"))
        .and_then(|()| fs::write(root().join("docs/benchmarks/access.md"), text));
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: the table cannot be written: {error}");
            ExitCode::FAILURE
        }
    }
}

fn markdown(rounds: usize, decisions: &[Vec<f64>], seen: &[Vec<Vec<f64>>; 4]) -> String {
    let column =
        |of: &[Vec<f64>], at: usize| middle(of.iter().map(|one| one.get(at).copied()).collect());
    let mut text = format!(
        "# Access rules: what they cost\n\n\
         Made by `cargo xtask bench access --rounds {rounds}` on {}: {}. Medians of {rounds} rounds in turns; in brackets \
         the least and the most.\n\n\
         The gateway has one core and one worker, origin and clients another; each round has a network namespace of its own.\n\n\
         ## One decision\n\n\
         {RULES} rules for networks of all lengths, users and databases, against clients of which half come from one of the \
         networks. The median of {BLOCKS} times {BLOCK} decisions, and the time within which 99 of 100 of those were made, \
         for each decision.\n\n\
         | clients | median ns | 99 % ns |\n|---|---:|---:|\n",
        today(),
        Machine::this(),
    );
    let kinds = ["say who they are (PostgreSQL)", "have an address alone"];
    for (at, kind) in kinds.into_iter().enumerate() {
        let _ = writeln!(
            text,
            "| {kind} | {} | {} |",
            column(decisions, at * 2),
            column(decisions, at * 2 + 1)
        );
    }
    let _ = write!(
        text,
        "\n## Connections\n\n\
         {VISITORS} clients open a connection, ask one line, read the answer to its end, and begin again, for {LASTING:?}. \
         With rules there are {RULES}, of which the last one decides.\n\n\
         | | CPU µs a connection | connections a second | failed |\n|---|---:|---:|---:|\n"
    );
    for (case, seen) in Case::ALL.into_iter().zip(seen).take(2) {
        let cells = [0, 1, 2].map(|at| column(seen, at));
        let _ = writeln!(text, "| {} | {} |", case.name(), cells.join(" | "));
    }
    let _ = write!(
        text,
        "\n## Strangers\n\n\
         {STREAMS} clients that are served exchange a byte, one after the other every {EVERY:?}, while {STRANGERS} connections \
         a second come from an address that a rule refuses, for {FLOOD:?}. Beside it the same clients while the same strangers \
         connect to the origin itself, so that what they cost the clients' core is the same.\n\n\
         | | p50 µs | p99 µs | answered, % | strangers a second |\n|---|---:|---:|---:|---:|\n"
    );
    for (case, seen) in Case::ALL.into_iter().zip(seen).skip(2) {
        let cells = [0, 1, 2, 3].map(|at| column(seen, at));
        let _ = writeln!(text, "| {} | {} |", case.name(), cells.join(" | "));
    }
    text
}

/// A round in a process of its own.
pub(crate) fn round(order: &str) -> ExitCode {
    play(order, carry_out)
}

fn carry_out(order: &Order) -> io::Result<Vec<f64>> {
    prepare_namespace()?;
    let cores = Cores::split()?;
    cores.enter()?;
    let directory = tempfile::tempdir()?;
    let log = directory.path().join("output");
    let port = PREFERRED_PORT.to_string();
    let _origin = Process::server(&["l4-origin", "--port", &port, "--burst", "1"])?;
    let mut command = gateway(order, directory.path())?;
    let mut proxy = cores.as_proxy(|| Process::proxy(&mut command, &log))?;
    let tree = Tree::of(proxy.id());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let deadline = Instant::now() + START;
        while client::visit(target()).await.is_err() {
            if Instant::now() > deadline || proxy.has_ended() {
                let told = process::told(&log);
                return Err(io::Error::other(format!("it did not serve: {told}")));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        match order.case {
            Case::Without | Case::With => {
                client::visitors(target(), VISITORS, Duration::from_millis(500)).await;
                let work = client::visitors(target(), VISITORS, LASTING);
                let (used, (served, failed)) = costing(&tree, work).await?;
                Ok(vec![
                    used * 1e6 / served as f64,
                    served as f64 / LASTING.as_secs_f64(),
                    failed as f64,
                ])
            }
            Case::Elsewhere => beside_strangers(([127, 0, 0, 1], PREFERRED_PORT).into()).await,
            Case::Refused => beside_strangers(target()).await,
        }
    })
}

fn target() -> SocketAddr {
    ([127, 0, 0, 1], PROXY_PORT).into()
}

fn gateway(order: &Order, directory: &Path) -> io::Result<Command> {
    let rules = match order.case {
        Case::Without => String::new(),
        Case::With => {
            let networks: Vec<String> = (0..RULES as u32 - 1)
                .map(|number| format!("\"{}/24\"", Ipv4Addr::from_bits(0x0a00_0000 + (number << 8))))
                .collect();
            format!(
                "[[access]]\nfrom = [{}]\nmethod = \"reject\"\n[[access]]\nfrom = \"127.0.0.0/8\"\nmethod = \"trust\"\n",
                networks.join(", ")
            )
        }
        Case::Elsewhere | Case::Refused => {
            "[[access]]\nfrom = \"127.0.0.2\"\nmethod = \"reject\"\n[[access]]\nfrom = \"127.0.0.1\"\nmethod = \"trust\"\n"
                .to_owned()
        }
    };
    let path = directory.join("ipreconnect.toml");
    let text = format!(
        "[gateway]\nworkers = 1\nstate_dir = \"state\"\n[origin.bench]\naddress = \"127.0.0.1:{PREFERRED_PORT}\"\n\
         [[listen]]\naddress = \"{}\"\norigin = \"bench\"\n{rules}",
        target()
    );
    fs::write(&path, text)?;
    let mut command = Command::new(&order.program);
    command.args(["run", "--config"]).arg(path);
    Ok(command)
}

async fn beside_strangers(to: SocketAddr) -> io::Result<Vec<f64>> {
    let streams = client::resting(target(), STREAMS).await?;
    let streams: Vec<_> = streams
        .into_iter()
        .map(TcpStream::into_std)
        .collect::<io::Result<_>>()?;
    client::exchange(&streams, EVERY, Duration::from_millis(500))?;
    let (over, came) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicU64::new(0)),
    );
    let strangers = {
        let (over, came) = (Arc::clone(&over), Arc::clone(&came));
        std::thread::spawn(move || flood(to, &over, &came))
    };
    let seen = client::exchange(&streams, EVERY, FLOOD);
    over.store(true, Relaxed);
    let flooded = strangers
        .join()
        .map_err(|_| io::Error::other("the strangers fell over"))?;
    flooded?;
    let seen = seen?;
    let at = |share: f64| {
        let place = (seen.latencies.len() as f64 * share) as usize;
        let latency = seen.latencies.get(place).or(seen.latencies.last());
        latency.map_or(f64::NAN, |latency| latency.as_secs_f64() * 1e6)
    };
    Ok(vec![
        at(0.5),
        at(0.99),
        100.0 * seen.latencies.len() as f64 / seen.offered as f64,
        came.load(Relaxed) as f64 / FLOOD.as_secs_f64(),
    ])
}

/// Connects from another address, again and again, at its rate.
fn flood(to: SocketAddr, over: &AtomicBool, came: &AtomicU64) -> io::Result<()> {
    let from = SocketAddr::from(([127, 0, 0, 2], 0));
    let every = Duration::from_secs(1) / STRANGERS;
    let mut due = Instant::now();
    while !over.load(Relaxed) {
        let now = Instant::now();
        if due > now {
            std::thread::sleep(due - now);
        }
        due += every;
        let socket = socket_with(
            AddressFamily::INET,
            SocketType::STREAM,
            SocketFlags::CLOEXEC,
            None,
        )?;
        // No address is left in TIME_WAIT by whoever ends with a reset.
        rustix::net::sockopt::set_socket_linger(&socket, Some(Duration::ZERO))?;
        bind(&socket, &from)?;
        if connect(&socket, &to).is_ok() {
            came.fetch_add(1, Relaxed);
        }
    }
    Ok(())
}

/// The decisions in a process of their own.
pub(crate) fn decisions() -> ExitCode {
    let measured = prepare_namespace().and_then(|()| {
        Cores::split()?.enter()?;
        decide()
    });
    report(&Outcome::from(measured))
}

/// Nothing but the text of the rules.
struct Text(Vec<u8>);

impl Files for Text {
    fn read(&mut self, _: &Path) -> Result<Option<Vec<u8>>, String> {
        Ok(Some(self.0.clone()))
    }

    fn list(&mut self, _: &Path) -> Result<Vec<PathBuf>, String> {
        Ok(Vec::new())
    }
}

struct Nowhere;

impl World for Nowhere {
    fn is_own_address(&self, _: IpAddr) -> bool {
        false
    }

    fn is_own_network(&self, _: IpAddr) -> bool {
        false
    }

    fn is_member(&self, user: &[u8], role: &str) -> bool {
        user == role.as_bytes()
    }

    fn proves(&self, _: &Rule, _: &dyn Fn(&[u8]) -> bool) -> bool {
        false
    }

    fn host(&self) -> Host<'_> {
        Host::None
    }
}

/// Numbers by chance, and the same ones each time (SplitMix64).
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    fn below(&mut self, most: u64) -> u32 {
        (self.next() % most) as u32
    }
}

/// Median and 99 % of a decision in nanoseconds, for clients with names, and for those with an address alone.
fn decide() -> io::Result<Vec<f64>> {
    let mut figures = Vec::new();
    for names in [Names::Said, Names::Proven] {
        let mut dice = Dice(7);
        let mut networks = Vec::new();
        let mut text = String::new();
        for _ in 0..RULES {
            let prefix = 12 + dice.below(21);
            let network = Ipv4Addr::from_bits(dice.next() as u32 & u32::MAX << (32 - prefix));
            networks.push((network, prefix));
            let (user, database) = match names {
                Names::Said => (
                    format!("user{}", dice.below(500)),
                    format!("db{}", dice.below(50)),
                ),
                Names::Proven => ("all".to_owned(), "all".to_owned()),
            };
            let _ = writeln!(text, "host {database} {user} {network}/{prefix} trust");
        }
        let rules = read_hba(Path::new("bench"), &mut Text(text.into_bytes()))
            .map_err(|_| io::Error::other("the rules cannot be read"))?;
        let rules = Rules::new(rules, names);
        let clients: Vec<(IpAddr, String, String)> = (0..BLOCK * 64)
            .map(|at| {
                let bits = match at % 2 {
                    0 => dice.next() as u32,
                    _ => {
                        let at = dice.below(networks.len() as u64) as usize;
                        let (network, prefix) = networks[at];
                        let inside = (dice.next() as u32).checked_shr(prefix).unwrap_or(0);
                        network.to_bits() | inside
                    }
                };
                let user = format!("user{}", dice.below(500));
                let database = format!("db{}", dice.below(50));
                (IpAddr::V4(Ipv4Addr::from_bits(bits)), user, database)
            })
            .collect();
        let mut blocks: Vec<f64> = Vec::with_capacity(BLOCKS);
        for block in 0..BLOCKS {
            let chosen = clients.chunks(BLOCK).nth(block % 64).unwrap_or_default();
            let began = Instant::now();
            for (address, user, database) in chosen {
                let is_said = names == Names::Said;
                let visitor = Visitor {
                    source: Source::Ip(*address),
                    is_tls: false,
                    user: is_said.then_some(user.as_bytes()),
                    database: is_said.then_some(database.as_bytes()),
                    is_replication: false,
                };
                let _ = black_box(rules.decide(black_box(&visitor), &Nowhere));
            }
            blocks.push(began.elapsed().as_secs_f64() * 1e9 / BLOCK as f64);
        }
        blocks.sort_by(f64::total_cmp);
        let at = |share: f64| blocks[(blocks.len() as f64 * share) as usize];
        figures.extend([at(0.5), at(0.99)]);
    }
    Ok(figures)
}

//! `ports lease` and `ports release`: ports that are kept by name, and programs behind them.

use std::cell::RefCell;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::Path;

use ipreconnect_ports::{candidates, ephemeral, holders, reserved};
use serde::Serialize;
use socket2::{Domain, Socket, Type};
use tokio::sync::watch;

use crate::admin::view::SCHEMA;
use crate::args::{Arguments, PortsLease};
use crate::child::{Needs, Program, Restart, Signals, run};
use crate::config::state_directory;
use crate::exit::{Exit, Refusal};
use crate::gateway::own::{quoted, run_beside};
use crate::leases::{Book, is_held, kept, now};

/// Ports that a program may be told.
const TRIES: usize = 64;

#[derive(Serialize)]
struct Shown {
    schema: u32,
    leases: Vec<ShownLease>,
}

#[derive(Serialize)]
struct ShownLease {
    name: String,
    port: u16,
    url: String,
    /// Seconds since it was used last.
    unused_for: u64,
    held_by: Vec<String>,
}

/// Keeps a port, or shows those that are kept; runs a program behind it if there is one.
pub(super) fn lease(arguments: &Arguments, wish: &PortsLease) -> Result<Exit, Refusal> {
    let state = state(arguments)?;
    let Some(name) = &wish.name else {
        return all(arguments, &state);
    };
    let mut book = Book::open(&state)?;
    let lease = book.take(name, wish.port).map_err(|error| {
        Refusal::new(Exit::Wrong, format!("{name:?} cannot have a port: {error}")).hint(
            "`ipreconnect ports lease` shows all names; `ports release NAME` gives a port back",
        )
    })?;
    book.save()?;
    drop(book);
    let shown = show(name, lease.port, lease.used);
    if wish.command.is_empty() {
        print(arguments, vec![shown]);
        return Ok(Exit::Fine);
    }
    if !shown.held_by.is_empty() {
        let held = shown.held_by.join(", ");
        let is_own = shown
            .held_by
            .iter()
            .any(|holder| holder.contains("ipreconnect"));
        let message = format!("port {} of {name:?} is in use, by {held}", lease.port);
        return Err(Refusal::new(Exit::Wrong, message).hint(match is_own {
            true => "it runs already: end that first".to_owned(),
            false => format!(
                "end that, or give the port back (`ipreconnect ports release {name}`): the next one is free"
            ),
        }));
    }
    eprintln!("ipreconnect: {}  {}", shown.name, shown.url);
    if wish.socket {
        by_socket(name, lease.port, wish)
    } else {
        by_number(arguments, &state, (name, lease.port), wish)
    }
}

/// Gives a port back.
pub(super) fn release(arguments: &Arguments, name: &str) -> Result<Exit, Refusal> {
    let mut book = Book::open(&state(arguments)?)?;
    let released = book.leases.release(name).ok_or_else(|| {
        Refusal::new(Exit::NotFine, format!("{name:?} has no port"))
            .hint("`ipreconnect ports lease` shows all names")
    })?;
    book.save()?;
    drop(book);
    let shown = show(name, released.port, now());
    if arguments.json {
        super::super::print_json(&Shown {
            schema: SCHEMA,
            leases: vec![shown],
        });
        return Ok(Exit::Fine);
    }
    println!("{name} has given port {} back", released.port);
    if !shown.held_by.is_empty() {
        println!("  it is held still, by {}", shown.held_by.join(", "));
    }
    Ok(Exit::Fine)
}

fn state(arguments: &Arguments) -> Result<std::path::PathBuf, Refusal> {
    state_directory(arguments.config.as_deref(), &arguments.environment())
        .map_err(|mistakes| Refusal::new(Exit::Wrong, mistakes.lines().join("; ")))
}

fn all(arguments: &Arguments, state: &Path) -> Result<Exit, Refusal> {
    let leases = kept(state)
        .map_err(|error| Refusal::new(Exit::Wrong, "cannot read the kept ports").because(&error))?;
    let shown = leases
        .iter()
        .map(|(name, lease)| show(name, lease.port, lease.used));
    print(arguments, shown.collect());
    Ok(Exit::Fine)
}

fn show(name: &str, port: u16, used: u64) -> ShownLease {
    let held = holders(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).unwrap_or_default();
    ShownLease {
        name: name.to_owned(),
        port,
        url: format!("http://{name}.localhost:{port}/"),
        unused_for: now().saturating_sub(used),
        held_by: held.iter().map(ToString::to_string).collect(),
    }
}

fn print(arguments: &Arguments, leases: Vec<ShownLease>) {
    if arguments.json {
        super::super::print_json(&Shown {
            schema: SCHEMA,
            leases,
        });
        return;
    }
    if leases.is_empty() {
        println!("no port is kept: `ipreconnect ports lease NAME` keeps one");
    }
    let widest = leases
        .iter()
        .map(|lease| lease.name.len())
        .max()
        .unwrap_or(0);
    let urls = leases
        .iter()
        .map(|lease| lease.url.len())
        .max()
        .unwrap_or(0);
    for lease in leases {
        let held = match lease.held_by.as_slice() {
            [] => "nobody listens".to_owned(),
            some => some.join(", "),
        };
        println!(
            "{:<widest$}  {:>5}  {:<urls$}  {held}",
            lease.name, lease.port, lease.url
        );
    }
}

/// The program is given the socket, which stays open while it is started again: whoever comes meanwhile waits in the
/// kernel's queue.
fn by_socket(name: &str, port: u16, wish: &PortsLease) -> Result<Exit, Refusal> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    // The name is of both families. One socket is what programs expect; at the other address nobody is to be reached.
    let twin = SocketAddr::from((Ipv6Addr::LOCALHOST, port));
    let _nobody = bound(twin, false).or_else(|| {
        if !holders(twin).unwrap_or_default().is_empty() {
            eprintln!(
                "warning: another program listens on {twin}: whoever asks for {name}.localhost may reach that one\n  \
                 hint: `ipreconnect ports explain {port}` names it; `ports release {name}` and another port help"
            );
        }
        None
    });
    let program = Program {
        command: wish.command.clone(),
        variables: vec![
            ("LEASE_NAME".to_owned(), name.to_owned()),
            ("LEASE_PORT".to_owned(), port.to_string()),
        ],
        sockets: vec![(name.to_owned(), super::super::exec::listening(address)?)],
        placeholder: RefCell::default(),
    };
    super::super::block_on(async { Ok(alone(&program, wish.restart).await) })
}

/// Runs a program that needs no origins.
async fn alone(program: &Program, restart: Restart) -> Exit {
    let (_tell, needs) = watch::channel(Needs::default());
    match Signals::new() {
        Ok(mut signals) => run(program, restart, needs, &mut signals).await,
        Err(error) => {
            let refusal = Refusal::new(Exit::Wrong, "cannot listen to signals").because(&error);
            eprintln!("{refusal}");
            refusal.exit()
        }
    }
}

/// The program is told a port of its own, and a gateway has the kept one.
fn by_number(
    arguments: &Arguments,
    state: &Path,
    (name, port): (&str, u16),
    wish: &PortsLease,
) -> Result<Exit, Refusal> {
    let (own, placeholder) = own_port(name)?;
    let program = Program {
        command: wish.command.clone(),
        variables: vec![
            ("PORT".to_owned(), own.to_string()),
            ("HOST".to_owned(), Ipv4Addr::LOCALHOST.to_string()),
            ("LEASE_NAME".to_owned(), name.to_owned()),
            ("LEASE_PORT".to_owned(), port.to_string()),
        ],
        sockets: Vec::new(),
        placeholder: RefCell::new(Some(placeholder)),
    };
    let restart = wish.restart;
    run_beside(
        arguments,
        configuration(state, (name, port), own),
        Box::new(move |_| Box::pin(async move { alone(&program, restart).await })),
    )
}

/// A port for the program alone. It is bound without listening, so that nobody else gets it by chance before the
/// program has it; who sets `SO_REUSEADDR`, as servers do, may have it all the same (socket(7)).
fn own_port(name: &str) -> Result<(u16, OwnedFd), Refusal> {
    let ephemeral = ephemeral().unwrap_or(32_768..=60_999);
    let reserved = reserved().unwrap_or_default();
    let candidates = candidates(&format!("{name} itself"), &ephemeral, &reserved, TRIES);
    let bound = candidates
        .into_iter()
        .filter(|port| !is_held(*port))
        .find_map(|port| {
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            Some((port, bound(address, true)?))
        });
    bound.ok_or_else(|| Refusal::new(Exit::NotFine, "no port is free for the program"))
}

/// A socket that has an address and does not listen: whoever connects there is refused.
fn bound(address: SocketAddr, is_shared: bool) -> Option<OwnedFd> {
    let domain = Domain::for_address(address);
    let socket = Socket::new(domain, Type::STREAM.cloexec(), None).ok()?;
    socket.set_reuse_address(is_shared).ok()?;
    socket.bind(&address.into()).ok()?;
    Some(socket.into())
}

fn configuration(state: &Path, (name, port): (&str, u16), own: u16) -> String {
    let log = state
        .join(format!("lease-{name}.log"))
        .display()
        .to_string();
    let state = state.join("leases").join(name).display().to_string();
    let has_v6 = std::net::UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).is_ok();
    let host = if has_v6 { "localhost" } else { "127.0.0.1" };
    // What the program says is what people read; that it cannot be reached while it is started again is no news.
    format!(
        "[gateway]\nstate_dir = {state}\nworkers = 1\nshutdown = \"1s\"\n[log]\nto = \"file\"\nfile = {log}\n\
         [origin.{name}]\naddress = \"127.0.0.1:{own}\"\n\
         [origin.{name}.hold]\nfor = \"30s\"\n\
         [[listen]]\nname = \"{name}\"\naddress = \"{host}:{port}\"\norigin = \"{name}\"\n",
        log = quoted(&log),
        state = quoted(&state),
    )
}

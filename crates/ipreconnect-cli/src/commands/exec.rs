//! `exec`: runs an application with its origins.

use std::cell::RefCell;
use std::io::{self, IsTerminal, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::thread::{Scope, ScopedJoinHandle};
use std::time::Duration;

use hyper::Method;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use super::proxy_env;
use crate::admin::client::ask;
use crate::admin::view::{Listeners, OriginView, Origins, Readiness};
use crate::args::{Arguments, Exec};
use crate::child::{Needs, Program, Signals, by_signal, run, run_while, say};
use crate::config::{Environment, Loaded, Plan, Protocol, load};
use crate::exit::{Exit, Refusal};
use crate::gateway::own;
use crate::gateway::serve::Load;
use crate::state::StateDirectory;

/// Between two questions to the gateway.
const AGAIN: Duration = Duration::from_millis(100);
/// What is missing is said again after this time, where nobody watches it change.
const REMINDER: Duration = Duration::from_secs(10);

/// A gateway that has not answered so often may be gone.
const GONE: u32 = 2;

/// Runs it behind the gateway that runs, or behind one of its own.
pub(crate) fn exec(arguments: &Arguments, wish: &Exec) -> Result<Exit, Refusal> {
    let loaded: Loaded = reader(arguments)(None)
        .map_err(|mistakes| Refusal::new(Exit::Wrong, mistakes.lines().join("\n")))?;
    let socket = loaded.plan.gateway.admin.clone();
    let asked = super::block_on(ask::<Readiness>(&socket, Method::GET, "/readyz"));
    let plan = loaded.plan.clone();
    let wish = wish.clone();
    if asked.is_ok() {
        return std::thread::scope(|scope| {
            let mut heir = Heir::new(scope, arguments);
            let went = go(&socket, &plan, &wish, Some(&mut heir));
            let exit = super::block_on(async { Ok(went.await) });
            heir.end();
            exit
        });
    }
    own::run_loaded(
        arguments,
        loaded,
        reader(arguments),
        Box::new(move |_| Box::pin(async move { go(&socket, &plan, &wish, None).await })),
    )
}

/// Reads the configuration, now and when it is to be read again.
fn reader(arguments: &Arguments) -> Load {
    let (given, permissions) = (arguments.config.clone(), arguments.permissions());
    Box::new(move |place: Option<&Path>| {
        let environment = Environment::of_process().with_permissions(permissions);
        load(place.or(given.as_deref()), &environment)
    })
}

/// Runs it, with a gateway behind `socket`.
async fn go(socket: &Path, plan: &Plan, wish: &Exec, heir: Option<&mut Heir<'_, '_>>) -> Exit {
    let mut signals = match Signals::new() {
        Ok(signals) => signals,
        Err(error) => {
            let refusal = Refusal::new(Exit::Wrong, "cannot listen to signals");
            return refused(&refusal.because(&error));
        }
    };
    let prepared = tokio::select! {
        prepared = prepare(socket, plan, wish) => prepared,
        signal = signals.stop() => return by_signal(signal),
    };
    match prepared {
        Ok(program) => {
            let (tell, needs) = watch::channel(Needs::default());
            let beside = follow(socket.to_owned(), tell, heir);
            run_while(run(&program, wish.restart, needs, &mut signals), beside).await
        }
        Err(refusal) => refused(&refusal),
    }
}

fn refused(refusal: &Refusal) -> Exit {
    let _ = writeln!(io::stderr(), "{refusal}");
    refusal.exit()
}

async fn prepare(socket: &Path, plan: &Plan, wish: &Exec) -> Result<Program, Refusal> {
    let (_, listeners): (_, Listeners) = ask(socket, Method::GET, "/v1/listeners").await?;
    let variables = variables(plan, &listeners);
    let mut sockets = Vec::new();
    for address in &wish.socket {
        sockets.push((name_of(address), listening(*address)?));
    }
    if wish.wait {
        wait(socket, wish.timeout.map(|limit| Instant::now() + limit)).await?;
    }
    Ok(Program {
        command: wish.command.clone(),
        variables,
        sockets,
        placeholder: RefCell::default(),
    })
}

/// As a name of `LISTEN_FDNAMES`, which has no colons.
fn name_of(address: &SocketAddr) -> String {
    format!("port-{}", address.port())
}

/// A listening socket that a program is given.
pub(super) fn listening(address: SocketAddr) -> Result<std::os::fd::OwnedFd, Refusal> {
    std::net::TcpListener::bind(address)
        .map(Into::into)
        .map_err(|error| {
            let holders = ipreconnect_ports::holders(address).unwrap_or_default();
            let held: Vec<String> = holders.iter().map(ToString::to_string).collect();
            let refusal = Refusal::new(Exit::Wrong, format!("cannot listen on {address}"));
            let refusal = refusal.because(&error);
            match held.as_slice() {
                [] => refusal,
                held => refusal.hint(format!("it is held by {}", held.join(", "))),
            }
        })
}

/// Until every required origin is up, and tells meanwhile which is not.
async fn wait(socket: &Path, until: Option<Instant>) -> Result<(), Refusal> {
    let mut told = Told::default();
    loop {
        let (_, readiness): (_, Readiness) = ask(socket, Method::GET, "/readyz").await?;
        if readiness.ready {
            told.over();
            return Ok(());
        }
        let (_, origins): (_, Origins) = ask(socket, Method::GET, "/v1/origins").await?;
        let missing: Vec<String> = origins
            .origins
            .iter()
            .filter(|origin| readiness.missing.contains(&origin.name))
            .map(missing)
            .collect();
        if until.is_some_and(|until| Instant::now() >= until) {
            told.over();
            let message = format!("still missing: {}", missing.join(", "));
            return Err(Refusal::new(Exit::NotFine, message)
                .hint("`ipreconnect probe NAME` takes the connection apart"));
        }
        told.tell(&missing.join(", "));
        tokio::time::sleep(AGAIN).await;
    }
}

fn missing(origin: &OriginView) -> String {
    match &origin.failure {
        Some(failure) => format!("{} ({}: {})", origin.name, failure.layer, failure.cause),
        None => format!("{} ({})", origin.name, origin.phase),
    }
}

/// One line that changes, on a terminal; else a line for every change.
#[derive(Default)]
struct Told {
    last: String,
    at: Option<Instant>,
    is_open: bool,
}

impl Told {
    fn tell(&mut self, missing: &str) {
        let is_old = self.at.is_none_or(|at| at.elapsed() >= REMINDER);
        let mut error = io::stderr();
        let is_terminal = error.is_terminal();
        if self.last == missing && (is_terminal || !is_old) {
            return;
        }
        // Whoever does not read it gets no less of the application.
        let _ = if is_terminal {
            write!(error, "\r\x1b[Kipreconnect: waiting for {missing}")
        } else {
            writeln!(error, "ipreconnect: waiting for {missing}")
        };
        let _ = error.flush();
        self.is_open = is_terminal;
        self.last = missing.to_owned();
        self.at = Some(Instant::now());
    }

    fn over(&mut self) {
        if std::mem::take(&mut self.is_open) {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        self.over();
    }
}

/// Tells how the required origins are, for as long as the program runs.
async fn follow(socket: PathBuf, tell: watch::Sender<Needs>, mut heir: Option<&mut Heir<'_, '_>>) {
    let (mut was_ready, mut unanswered) = (false, 0);
    loop {
        let asked = ask::<Readiness>(&socket, Method::GET, "/readyz").await;
        unanswered = if asked.is_ok() { 0 } else { unanswered + 1 };
        if unanswered >= GONE
            && let Some(heir) = &mut heir
        {
            heir.take_over();
        }
        if let Ok((_, readiness)) = asked {
            tell.send_if_modified(|needs| {
                let is_changed = needs.missing != readiness.missing;
                // What was never there has not come back.
                if readiness.ready && was_ready && !needs.missing.is_empty() {
                    needs.recoveries += 1;
                }
                was_ready |= readiness.ready;
                needs.missing = readiness.missing;
                is_changed
            });
        }
        tokio::time::sleep(AGAIN * 2).await;
    }
}

/// Goes on in the place of a gateway that has ended: of one that another `exec` had for its own program, or was stopped.
struct Heir<'scope, 'env> {
    scope: &'scope Scope<'scope, 'env>,
    arguments: &'env Arguments,
    begun: Option<(oneshot::Sender<()>, ScopedJoinHandle<'scope, ()>)>,
}

impl<'scope, 'env> Heir<'scope, 'env> {
    fn new(scope: &'scope Scope<'scope, 'env>, arguments: &'env Arguments) -> Self {
        Self {
            scope,
            arguments,
            begun: None,
        }
    }

    /// Begins a gateway, if there is none any more.
    fn take_over(&mut self) {
        if self.begun.is_some() {
            return;
        }
        let arguments = self.arguments;
        let Ok(loaded) = reader(arguments)(None) else {
            return;
        };
        // Whoever has its directory is still there, or another one was faster.
        let Ok(state) = StateDirectory::open(&loaded.plan.gateway.state_dir) else {
            return;
        };
        say("ipreconnect: the gateway has ended; this one goes on in its place");
        let (end, ended) = oneshot::channel::<()>();
        let gateway = move || {
            let beside = Box::pin(async move {
                // Also if whoever would say it is gone.
                let _ = ended.await;
                Exit::Fine
            });
            let given = (loaded, reader(arguments));
            let ran = own::run_in(arguments, Some(state), given, Box::new(|_| beside));
            if let Err(refusal) = ran {
                refused(&refusal);
            }
        };
        let thread = std::thread::Builder::new().name("gateway".to_owned());
        match thread.spawn_scoped(self.scope, gateway) {
            Ok(thread) => self.begun = Some((end, thread)),
            Err(error) => {
                let refusal = Refusal::new(Exit::Wrong, "cannot begin a gateway");
                refused(&refusal.because(&error));
            }
        }
    }

    /// Ends it, if it has begun, as a gateway ends: clients of it may end first.
    fn end(self) {
        if let Some((end, thread)) = self.begun {
            drop(end);
            // One that panicked has ended, too.
            let _ = thread.join();
        }
    }
}

/// Where its origins are, for an application: by the names of origins, and of listeners.
fn variables(plan: &Plan, listeners: &Listeners) -> Vec<(String, String)> {
    let mut variables: Vec<(String, String)> = Vec::new();
    for listener in &listeners.listeners {
        let Some(planned) = plan.listeners.get(&listener.name) else {
            continue;
        };
        let Some(address) = own_address(&listener.addresses) else {
            continue;
        };
        if planned.forward.is_some() {
            if let Ok(address) = address.parse() {
                variables.extend(proxy_env::of(&listener.name, planned, address));
            }
            continue;
        }
        let scheme = match (planned.mode, planned.tls.is_some()) {
            (Protocol::Http, false) => Some("http"),
            (Protocol::Http, true) => Some("https"),
            _ => None,
        };
        let mut names = vec![&listener.name];
        if planned.has_origin() && planned.routes.is_empty() {
            names.insert(0, &planned.origin);
        }
        for name in names {
            let name = capitals(name);
            // The first listener of an origin is its own.
            if !variables
                .iter()
                .any(|(known, _)| *known == format!("{name}_ADDR"))
            {
                variables.extend(of_one(&name, &address, scheme));
            }
        }
    }
    variables
}

fn of_one(name: &str, address: &str, scheme: Option<&str>) -> Vec<(String, String)> {
    let mut variables = vec![(format!("{name}_ADDR"), address.to_owned())];
    if let Ok(ip) = address.parse::<SocketAddr>() {
        variables.push((format!("{name}_HOST"), ip.ip().to_string()));
        variables.push((format!("{name}_PORT"), ip.port().to_string()));
        variables.extend(scheme.map(|scheme| (format!("{name}_URL"), format!("{scheme}://{ip}"))));
    }
    variables
}

/// The address by which a program of this machine comes.
fn own_address(addresses: &[String]) -> Option<String> {
    let ips = addresses
        .iter()
        .filter_map(|address| address.parse::<SocketAddr>().ok());
    let reached = ips.map(|address| match address {
        SocketAddr::V4(v4) if v4.ip().is_unspecified() => {
            SocketAddr::from(([127, 0, 0, 1], v4.port()))
        }
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => {
            SocketAddr::new(std::net::Ipv6Addr::LOCALHOST.into(), v6.port())
        }
        other => other,
    });
    let mut reached: Vec<SocketAddr> = reached.collect();
    reached.sort_by_key(|address| !address.ip().is_loopback());
    let first = reached.first().map(ToString::to_string);
    first.or_else(|| addresses.first().cloned())
}

/// As variables are called.
fn capitals(name: &str) -> String {
    let capital = |character: char| match character {
        'a'..='z' | 'A'..='Z' | '0'..='9' => character.to_ascii_uppercase(),
        _ => '_',
    };
    let name: String = name.chars().map(capital).collect();
    match name.starts_with(|first: char| first.is_ascii_digit()) {
        true => format!("_{name}"),
        false => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_called_as_shells_can_say_them() {
        assert_eq!(capitals("orders-db"), "ORDERS_DB");
        assert_eq!(capitals("127.0.0.1:80"), "_127_0_0_1_80");
    }

    #[test]
    fn the_nearest_address_is_given() {
        let own = |addresses: &[&str]| {
            let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
            own_address(&addresses).unwrap_or_default()
        };
        assert_eq!(own(&["192.0.2.1:80", "127.0.0.1:81"]), "127.0.0.1:81");
        assert_eq!(own(&["0.0.0.0:80"]), "127.0.0.1:80");
        assert_eq!(own(&["[::]:80"]), "[::1]:80");
        assert_eq!(own(&["unix:/run/x"]), "unix:/run/x");
        assert_eq!(own(&["unix:/run/x", "127.0.0.1:5"]), "127.0.0.1:5");
    }

    #[test]
    fn a_url_is_given_where_the_scheme_is_known() {
        let names = |variables: Vec<(String, String)>| -> Vec<String> {
            variables
                .into_iter()
                .map(|(name, value)| format!("{name}={value}"))
                .collect()
        };
        assert_eq!(
            names(of_one("A", "[::1]:80", Some("http"))),
            [
                "A_ADDR=[::1]:80",
                "A_HOST=::1",
                "A_PORT=80",
                "A_URL=http://[::1]:80"
            ]
        );
        assert_eq!(
            names(of_one("A", "unix:/x", Some("http"))),
            ["A_ADDR=unix:/x"]
        );
    }
}

//! `ports explain`: what an address and a port mean on this machine, now.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

use ipreconnect::core::policy::scope;
use ipreconnect::core::ports::{PortClass, meaning, service};
use ipreconnect_ports::{
    Connection, Reach, State, connections, ephemeral, interface_index, owners, reserved, user,
};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, socket_with, sockopt};
use serde::Serialize;

use crate::admin::view::{PortView, SCHEMA};
use crate::args::{Arguments, PortsExplain};
use crate::exit::{Exit, Refusal};
use crate::inventory;
use crate::paint::{Paint, plain};

/// Connections that are named one by one.
const NAMED: usize = 10;
/// The width of the text.
const WIDTH: usize = 100;
const LABEL: usize = 11;

#[derive(Serialize)]
struct Explained {
    schema: u32,
    address: String,
    /// What kind of address it is.
    scope: String,
    class: String,
    service: Option<&'static str>,
    usual: Option<&'static str>,
    /// The ports that the kernel gives to connections by itself.
    ephemeral: Option<[u16; 2]>,
    /// Whether it may give this one.
    may_be_given: bool,
    /// Whether it is kept from that.
    reserved: bool,
    /// Everybody who listens on this port of this address, or in the way of it.
    listeners: Vec<PortView>,
    connections: Vec<Connected>,
    /// All of them.
    connected: usize,
    /// Connections that are over and keep the port for a while.
    time_wait: usize,
    binds: Vec<Bind>,
}

/// A connection to the port.
#[derive(Serialize)]
struct Connected {
    from: String,
    state: String,
    /// Whoever has the other end, if that is on this machine and can be seen.
    program: Option<String>,
    pid: Option<u32>,
    user: Option<String>,
}

/// What would happen to whoever wanted the port.
#[derive(Serialize)]
struct Bind {
    transport: &'static str,
    address: String,
    works: bool,
    why: Option<String>,
}

/// Explains it; exits with 1 if nobody could listen at this address, over TCP or over UDP.
pub(super) fn explain(arguments: &Arguments, wish: &PortsExplain) -> Result<Exit, Refusal> {
    let at = place(&wish.address).map_err(|why| {
        let message = format!("this is no address with a port: {:?}: {why}", wish.address);
        Refusal::new(Exit::Wrong, message)
            .hint("as 127.0.0.1:62893, [::1]:62893, localhost:62893, *:62893, or 62893 alone")
    })?;
    let found = look(at).map_err(|error| {
        Refusal::new(Exit::NotFine, "the kernel's tables cannot be read").because(&error)
    })?;
    if arguments.json {
        super::super::print_json(&found);
    } else {
        print!("{}", text(Paint::of_stdout(), at, &found));
    }
    // Its twin of the other family is told of, and was not asked for.
    let mut own = found
        .binds
        .iter()
        .filter(|bind| bind.address == found.address);
    let works = own.all(|bind| bind.works);
    Ok(if works { Exit::Fine } else { Exit::NotFine })
}

/// A place as people write it.
fn place(text: &str) -> Result<SocketAddr, &'static str> {
    let port = |text: &str| match text.parse::<u16>() {
        Ok(0) => Err("port 0 stands for any port"),
        Ok(port) => Ok(port),
        Err(_) => Err("the port is none from 1 to 65535"),
    };
    if let Ok(address) = text.parse::<SocketAddr>() {
        return match address.port() {
            0 => Err("port 0 stands for any port"),
            // An address of IPv4 is the same, however it is written.
            port => Ok(SocketAddr::new(address.ip().to_canonical(), port)),
        };
    }
    match text.rsplit_once(':') {
        None => Ok((Ipv4Addr::LOCALHOST, port(text)?).into()),
        Some(("localhost" | "", of)) => Ok((Ipv4Addr::LOCALHOST, port(of)?).into()),
        Some(("*", of)) => Ok((Ipv4Addr::UNSPECIFIED, port(of)?).into()),
        Some((host, of)) => {
            let port = port(of)?;
            link_local(host).map(|(ip, link)| SocketAddrV6::new(ip, port, 0, link).into())
        }
    }
}

/// `[fe80::1%eth0]`: an address of one link, and the number of that.
fn link_local(host: &str) -> Result<(Ipv6Addr, u32), &'static str> {
    const NONE: &str = "the host is no address";
    let inner = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    let (ip, name) = inner.and_then(|inner| inner.split_once('%')).ok_or(NONE)?;
    let ip: Ipv6Addr = ip.parse().map_err(|_| NONE)?;
    Ok((
        ip,
        interface_index(name).ok_or("there is no such interface")?,
    ))
}

/// The same place of the other family, where there is one.
fn twin(at: SocketAddr) -> Option<SocketAddr> {
    let ip: IpAddr = match at.ip() {
        IpAddr::V4(ip) if ip == Ipv4Addr::LOCALHOST => Ipv6Addr::LOCALHOST.into(),
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv6Addr::UNSPECIFIED.into(),
        IpAddr::V6(ip) if ip == Ipv6Addr::LOCALHOST => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv4Addr::UNSPECIFIED.into(),
        _ => return None,
    };
    Some(SocketAddr::new(ip, at.port()))
}

fn look(at: SocketAddr) -> std::io::Result<Explained> {
    let port = at.port();
    let places: Vec<SocketAddr> = [Some(at), twin(at)].into_iter().flatten().collect();
    let mut listeners = inventory::take(Reach::Own)?.sockets;
    listeners.retain(|one| {
        one.port == port && places.iter().any(|place| is_in_the_way(one, place.ip()))
    });
    let mut all = Vec::new();
    connections(|one| {
        if one.local.port() == port || one.remote.port() == port {
            all.push(one);
        }
    })?;
    let is_here = |one: &&Connection| {
        one.local.port() == port
            && places
                .iter()
                .any(|place| place.ip().is_unspecified() || place.ip() == one.local.ip())
    };
    let (over, open): (Vec<&Connection>, Vec<&Connection>) = all
        .iter()
        .filter(is_here)
        .partition(|one| one.state == State::TimeWait);
    let connected = open.len();
    let known = service(port, false).or_else(|| service(port, true));
    let range = ephemeral().ok();
    let may_be_given = range.as_ref().is_some_and(|range| range.contains(&port));
    let is_reserved = reserved().is_ok_and(|all| all.iter().any(|range| range.contains(&port)));
    let binds = places.iter().flat_map(|place| {
        let tried = [("tcp", SocketType::STREAM), ("udp", SocketType::DGRAM)];
        tried.map(|(transport, kind)| try_bind(*place, transport, kind, &listeners, &over))
    });
    Ok(Explained {
        schema: SCHEMA,
        address: at.to_string(),
        scope: match at.ip() {
            IpAddr::V4(Ipv4Addr::BROADCAST) => "the broadcast address".to_owned(),
            ip => scope(ip).to_string(),
        },
        class: PortClass::of(port).to_string(),
        service: known
            .map(|known| known.name)
            .filter(|name| !name.is_empty()),
        usual: known.map(|known| known.title),
        ephemeral: range.map(|range| [*range.start(), *range.end()]),
        may_be_given: may_be_given && !is_reserved,
        reserved: is_reserved,
        connections: named(&open, &all),
        binds: binds.collect(),
        listeners,
        connected,
        time_wait: over.len(),
    })
}

/// Whether somebody listens there, or so that nobody else can.
fn is_in_the_way(one: &PortView, ip: IpAddr) -> bool {
    let Ok(held) = one.address.parse::<SocketAddr>() else {
        return false;
    };
    let held = held.ip().to_canonical();
    let is_same_family = held.is_ipv4() == ip.is_ipv4();
    match is_same_family {
        true => held == ip || held.is_unspecified() || ip.is_unspecified(),
        // A wildcard of IPv6 takes IPv4, too, unless it is told not to.
        false => one.takes_both || ip == Ipv6Addr::UNSPECIFIED,
    }
}

/// The first of the connections, with whoever has the other end.
fn named(open: &[&Connection], all: &[Connection]) -> Vec<Connected> {
    let first = open.iter().take(NAMED);
    let pairs: Vec<(&Connection, Option<&Connection>)> = first
        .map(|one| {
            let mut others = all.iter();
            let is_other =
                |other: &&Connection| (other.local, other.remote) == (one.remote, one.local);
            (*one, others.find(is_other))
        })
        .collect();
    let inodes: HashSet<u64> = pairs
        .iter()
        .filter_map(|(_, other)| (*other)?.inode)
        .collect();
    let programs = owners(&inodes).programs;
    let told = pairs.into_iter().map(|(one, other)| {
        let program = other.and_then(|other| programs.get(&other.inode?));
        Connected {
            from: one.remote.to_string(),
            state: one.state.to_string(),
            program: program.map(|program| program.name.clone()),
            pid: program.map(|program| program.pid),
            user: other.and_then(|other| other.uid).map(user),
        }
    });
    told.collect()
}

/// Tries it, as servers do: a port that was just used by a connection of theirs is no hindrance. Nothing is left of it.
fn try_bind(
    at: SocketAddr,
    transport: &'static str,
    kind: SocketType,
    listeners: &[PortView],
    over: &[&Connection],
) -> Bind {
    let family = match at {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let tried = socket_with(family, kind, SocketFlags::CLOEXEC, None).and_then(|socket| {
        if kind == SocketType::STREAM {
            sockopt::set_socket_reuseaddr(&socket, true)?;
        }
        bind(&socket, &at)
    });
    let holders: Vec<String> = listeners
        .iter()
        .filter(|one| one.transport == transport && is_in_the_way(one, at.ip()))
        .map(whose)
        .collect();
    let why = tried.err().map(|errno| match errno {
        Errno::ADDRINUSE if !holders.is_empty() => {
            format!("EADDRINUSE: {} has it", holders.join(", and "))
        }
        Errno::ADDRINUSE if !over.is_empty() => {
            "EADDRINUSE: connections that are over keep it for another minute".to_owned()
        }
        Errno::ADDRINUSE => "EADDRINUSE: a connection has it, or somebody who cannot be seen".to_owned(),
        Errno::ACCESS => {
            "EACCES: ports below net.ipv4.ip_unprivileged_port_start are for root, or for CAP_NET_BIND_SERVICE".to_owned()
        }
        Errno::ADDRNOTAVAIL => "EADDRNOTAVAIL: no interface of this machine has that address".to_owned(),
        Errno::AFNOSUPPORT => "EAFNOSUPPORT: this machine has no IPv6".to_owned(),
        other => std::io::Error::from(other).to_string(),
    });
    Bind {
        transport,
        address: at.to_string(),
        works: why.is_none(),
        why,
    }
}

/// Who listens, in a clause.
fn whose(one: &PortView) -> String {
    let user = &one.user;
    let who = match one.processes.as_slice() {
        [] => format!("a process that cannot be seen from here (user {user})"),
        [process] => format!("{} (pid {}, user {user})", process.name, process.pid),
        [process, more @ ..] => {
            format!(
                "{} (pid {} and {} more, user {user})",
                process.name,
                process.pid,
                more.len()
            )
        }
    };
    let first = one.processes.first();
    let of = first.and_then(|process| process.container.clone().or_else(|| process.unit.clone()));
    match of {
        Some(of) => plain(&format!("{who}, of {of}")).into_owned(),
        None => plain(&who).into_owned(),
    }
}

fn text(paint: Paint, at: SocketAddr, found: &Explained) -> String {
    let mut text = format!("{}\n\n", paint.bold(&found.address));
    let mut say = |label: &str, words: &str| paragraph(&mut text, paint, label, words);
    say(
        "address",
        &format!("{} is {}: {}", at.ip(), found.scope, meaning(at.ip())),
    );
    say("port", &port_words(at.port(), found));
    if let Some(words) = kernel(at.port(), found) {
        say("kernel", &words);
    }
    if found.listeners.is_empty() {
        say("listening", "nobody, neither over TCP nor over UDP.");
    }
    for one in &found.listeners {
        let reach = match &*one.exposure {
            "loopback" => "for this machine alone".to_owned(),
            "everywhere" if one.takes_both => "on every address of both families".to_owned(),
            "everywhere" => "on every address of its family".to_owned(),
            _ => format!("on {}", one.interface.as_deref().unwrap_or("one address")),
        };
        let mut words = format!(
            "{} over {} at {}, {reach}.",
            whose(one),
            one.transport.to_uppercase(),
            one.address
        );
        if let Some(room) = one.room {
            let _ = write!(
                words,
                " {} of {room} connections wait to be accepted.",
                one.waiting
            );
        }
        if let Some(concern) = &one.concern {
            let _ = write!(words, " {concern}.");
        }
        say("listening", &words);
    }
    localhost(&mut say, at, found);
    connected(&mut say, found);
    for bind in &found.binds {
        let place = format!("{} over {}", bind.address, bind.transport.to_uppercase());
        match &bind.why {
            None => say("to bind", &format!("{place} would work.")),
            Some(why) => say("to bind", &format!("{place} would fail: {why}.")),
        }
    }
    text
}

/// Whether the kernel may give the port to a connection.
fn kernel(port: u16, found: &Explained) -> Option<String> {
    let [first, last] = found.ephemeral?;
    Some(match (found.may_be_given, found.reserved) {
        (true, _) => format!(
            "gives the ports from {first} to {last} to outgoing connections by itself, and this is one of them: a \
                 connection may have it at the very moment when a server wants it. `sysctl net.ipv4.ip_local_reserved_ports={port}` \
                 keeps it from that."
        ),
        (false, true) => {
            "has it reserved: it gives it to no connection that does not ask for it.".to_owned()
        }
        (false, false) => format!(
            "gives the ports from {first} to {last} to outgoing connections by itself. This is none of them: it stays \
                 free until somebody names it."
        ),
    })
}

/// Where `localhost` leads, if somebody listens at one of its addresses alone.
fn localhost(say: &mut impl FnMut(&str, &str), at: SocketAddr, found: &Explained) {
    let of = |is_four: bool| {
        let mut all = found.listeners.iter().filter(|one| one.transport == "tcp");
        let is_of = |one: &PortView| {
            let address = one.address.parse::<SocketAddr>();
            address.is_ok_and(|address| address.ip().to_canonical().is_ipv4() == is_four)
        };
        all.any(|one| one.takes_both || is_of(one))
    };
    let (missing, there) = match (of(true), of(false)) {
        (true, false) => ("::1", "127.0.0.1"),
        (false, true) => ("127.0.0.1", "::1"),
        _ => return,
    };
    if at.ip().is_loopback() {
        say(
            "localhost",
            &format!(
                "is 127.0.0.1 and ::1. Nobody listens at {missing}: a client that tries that one first is refused there; \
                 good ones go on to {there}."
            ),
        );
    }
}

fn connected(say: &mut impl FnMut(&str, &str), found: &Explained) {
    for one in &found.connections {
        let who = match (&one.program, one.pid, &one.user) {
            (Some(program), Some(pid), Some(user)) => {
                format!("{program} (pid {pid}, user {user}) ")
            }
            (_, _, Some(user)) => format!("a process of user {user} "),
            _ => String::new(),
        };
        say(
            "connected",
            &format!("{}from {}, {}", plain(&who), one.from, one.state),
        );
    }
    let more = found.connected - found.connections.len();
    if more > 0 {
        say("connected", &format!("and {more} more"));
    }
    if found.time_wait > 0 {
        say(
            "over",
            &format!(
                "{} connections are over and stay in TIME-WAIT for a minute, so that stray packets do no harm; a server \
                 that sets SO_REUSEADDR may listen all the same.",
                found.time_wait
            ),
        );
    }
}

fn port_words(port: u16, found: &Explained) -> String {
    let class = match PortClass::of(port) {
        PortClass::System => {
            "a system port (0 to 1023): on most machines only root may listen there"
        }
        PortClass::User => {
            "a user port (1024 to 49151): anybody may listen there, and services have registered many of them"
        }
        PortClass::Dynamic => {
            "a dynamic port (49152 to 65535): nobody is assigned one of these, and anybody may have one"
        }
    };
    let usual = match (found.service, found.usual) {
        (Some(name), Some(usual)) => {
            format!(" It is registered as `{name}`; what is usually found there is {usual}.")
        }
        (None, Some(usual)) => format!(" What is usually found there is {usual}."),
        _ => String::new(),
    };
    format!("{port} is {class}.{usual}")
}

/// A label, and words that are broken where the line ends.
fn paragraph(text: &mut String, paint: Paint, label: &str, words: &str) {
    let mut line = String::new();
    let mut label = Some(label);
    let mut end = |line: &mut String| {
        let shown = format!("{:LABEL$}", label.take().unwrap_or_default());
        let _ = writeln!(text, "{}{line}", paint.with("2", &shown));
        line.clear();
    };
    for word in words.split(' ') {
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > WIDTH - LABEL {
            end(&mut line);
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    end(&mut line);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_as_people_write_them() {
        for (text, wanted) in [
            ("62893", "127.0.0.1:62893"),
            (":62893", "127.0.0.1:62893"),
            ("localhost:80", "127.0.0.1:80"),
            ("*:80", "0.0.0.0:80"),
            ("[::1]:80", "[::1]:80"),
            ("192.0.2.1:80", "192.0.2.1:80"),
            ("[::ffff:127.0.0.1]:80", "127.0.0.1:80"),
        ] {
            assert_eq!(place(text).unwrap().to_string(), wanted, "{text}");
        }
        for text in [
            "",
            "0",
            "127.0.0.1:0",
            "65536",
            "example.com:80",
            "127.0.0.1",
            "[::1]",
            "1:2:3",
        ] {
            assert!(place(text).is_err(), "{text}");
        }
    }

    #[test]
    fn paragraphs_end_with_the_line() {
        let mut text = String::new();
        let words = "word ".repeat(40);
        paragraph(&mut text, Paint::off(), "port", words.trim());
        assert!(
            text.lines().count() == 3 && text.lines().all(|line| line.chars().count() <= WIDTH),
            "{text}"
        );
        assert!(text.starts_with("port       word word"), "{text}");
    }

    #[test]
    fn the_other_family_has_the_same_place() {
        for (one, other) in [
            ("127.0.0.1:80", Some("[::1]:80")),
            ("0.0.0.0:80", Some("[::]:80")),
            ("192.0.2.1:80", None),
        ] {
            let found = twin(one.parse().unwrap()).map(|twin| twin.to_string());
            assert_eq!(found.as_deref(), other);
        }
    }
}

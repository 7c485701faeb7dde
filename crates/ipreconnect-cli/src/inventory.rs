//! The listening sockets of this machine as they are shown.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::time::SystemTime;

use ipreconnect::core::ports::{Exposure, PortClass, concern, service};
use ipreconnect_admin::moment::millis;
use ipreconnect_ports::{
    Interface, Inventory, Namespace, Program, Reach, Socket, Transport, ephemeral, interfaces,
    inventory, user,
};

use crate::admin::view::{PortView, Ports, ProcessView, SCHEMA};

/// Takes the inventory of this machine.
///
/// # Errors
/// If the kernel's table cannot be read.
pub(crate) fn take(reach: Reach) -> io::Result<Ports> {
    let taken = inventory(reach)?;
    let around = Around {
        ephemeral: ephemeral().ok(),
        interfaces: interfaces().unwrap_or_default(),
        now: SystemTime::now(),
        taken: &taken,
    };
    Ok(around.shown())
}

/// Processes that are named at one place.
const NAMED: usize = 32;

/// What is needed to tell of a socket.
struct Around<'a> {
    ephemeral: Option<RangeInclusive<u16>>,
    interfaces: Vec<Interface>,
    now: SystemTime,
    taken: &'a Inventory,
}

/// What makes several sockets one place.
type Place = (usize, u16, Transport, IpAddr, Option<u32>, u32);

impl Around<'_> {
    fn shown(&self) -> Ports {
        let mut users = BTreeMap::new();
        // They are in order, so that those of one place follow each other.
        let mut places: Vec<PortView> = Vec::with_capacity(self.taken.sockets.len());
        let mut before: Option<Place> = None;
        for socket in &self.taken.sockets {
            let place = (
                socket.namespace,
                socket.address.port(),
                socket.transport,
                socket.address.ip(),
                socket.interface,
                socket.uid,
            );
            match places.last_mut().filter(|_| before == Some(place)) {
                Some(known) => self.join(known, socket),
                None => {
                    let name = users.entry(socket.uid).or_insert_with(|| user(socket.uid));
                    places.push(self.view(socket, name));
                }
            }
            before = Some(place);
        }
        let named = |(number, why): &(usize, String)| {
            let name = self.namespace(*number).unwrap_or_default();
            format!("{name}: {why}")
        };
        Ports {
            schema: SCHEMA,
            sockets: places,
            ephemeral: self
                .ephemeral
                .as_ref()
                .map(|range| [*range.start(), *range.end()]),
            hidden_processes: self.taken.unseen.processes,
            hidden: self.hidden(),
            hidden_namespaces: self.taken.unseen.namespaces.iter().map(named).collect(),
        }
    }

    fn hidden(&self) -> Vec<String> {
        let unseen = &self.taken.unseen;
        let others = "processes of other users are not shown at all (`hidepid` of /proc): their sockets are listed without \
                      them; run it as root, or in the group that may see them";
        let udp = unseen.udp.iter().map(|error| {
            format!("sockets of UDP are not listed: the kernel does not tell of them ({error}); it takes the module `udp_diag`")
        });
        let others = unseen.others.then(|| others.to_owned());
        let is_all_seen = unseen.processes == 0 && !unseen.others;
        let nobodys = self
            .taken
            .sockets
            .iter()
            .filter(|one| one.pids.is_empty())
            .count();
        let nobodys = (is_all_seen && nobodys > 0).then(|| {
            format!(
                "{nobodys} of the sockets have no process that can be seen from here: it is in another PID namespace, or they \
                 are the kernel's own"
            )
        });
        others.into_iter().chain(udp).chain(nobodys).collect()
    }

    fn view(&self, socket: &Socket, user: &str) -> PortView {
        let (ip, port) = (socket.address.ip(), socket.address.port());
        let interface = self.interface(socket);
        let exposure = match (socket.interface, &interface) {
            // One that is bound to an interface is reached by that alone, whatever its address is.
            (Some(_), Some(name)) if name == "lo" => Exposure::Loopback,
            (Some(_), _) => Exposure::of(ip).min(Exposure::Interface),
            (None, _) => Exposure::of(ip),
        };
        let known = service(port, socket.transport == Transport::Udp);
        let processes = self.processes(socket);
        let program = processes.first().map(|process| process.name.as_str());
        let is_own = self
            .taken
            .namespaces
            .get(socket.namespace)
            .is_none_or(|one| one.is_own);
        let ephemeral = self.ephemeral.as_ref();
        PortView {
            transport: match socket.transport {
                Transport::Tcp => "tcp".into(),
                Transport::Udp => "udp".into(),
            },
            address: socket.address.to_string(),
            port,
            takes_both: socket.takes_both,
            interface,
            exposure: exposure.name().into(),
            class: PortClass::of(port).name().into(),
            ephemeral: is_own && ephemeral.is_some_and(|range| range.contains(&port)),
            service: known
                .map(|known| known.name)
                .filter(|name| !name.is_empty())
                .map(Into::into),
            usual: known.map(|known| known.title.into()),
            twin: self.twin(socket),
            user: user.to_owned(),
            concern: concern(exposure, program, known).filter(|_| is_own),
            processes,
            more_processes: socket.more,
            sockets: 1,
            waiting: socket.waiting,
            room: socket.room,
            dropped: socket.dropped,
            namespace: self.namespace(socket.namespace),
        }
    }

    /// One more socket at the same place.
    fn join(&self, known: &mut PortView, socket: &Socket) {
        known.sockets += 1;
        known.waiting = known.waiting.saturating_add(socket.waiting);
        let sum = |one: Option<u32>, other: Option<u32>| Some(one?.saturating_add(other?));
        known.room = sum(known.room, socket.room);
        known.dropped = sum(known.dropped, socket.dropped);
        for process in self.processes(socket) {
            if known.processes.iter().any(|one| one.pid == process.pid) {
                continue;
            }
            if known.processes.len() < NAMED {
                known.processes.push(process);
            } else {
                known.more_processes = known.more_processes.saturating_add(1);
            }
        }
        // Those who share one socket mostly share its neighbours, too.
        known.more_processes = known.more_processes.max(socket.more);
    }

    fn processes(&self, socket: &Socket) -> Vec<ProcessView> {
        let programs = socket.pids.iter();
        programs
            .map(|pid| match self.taken.programs.get(pid) {
                Some(program) => self.process(program),
                None => ProcessView {
                    pid: *pid,
                    name: "?".to_owned(),
                    ..ProcessView::default()
                },
            })
            .collect()
    }

    fn process(&self, program: &Program) -> ProcessView {
        let age = program
            .started
            .map(|started| self.now.duration_since(started));
        ProcessView {
            pid: program.pid,
            name: program.name.clone(),
            path: program
                .path
                .as_ref()
                .map(|path| path.to_string_lossy().into_owned()),
            for_ms: age.map(|age| millis(age.unwrap_or_default())),
            unit: program.group.unit.clone(),
            container: program.group.container.clone(),
        }
    }

    fn interface(&self, socket: &Socket) -> Option<String> {
        // Those of other namespaces are not ours.
        if self
            .taken
            .namespaces
            .get(socket.namespace)
            .is_some_and(|one| !one.is_own)
        {
            return None;
        }
        if let Some(index) = socket.interface {
            return Some(
                ipreconnect_ports::interface_name(index).unwrap_or_else(|| format!("#{index}")),
            );
        }
        let ip = socket.address.ip().to_canonical();
        let mut interfaces = self.interfaces.iter();
        interfaces
            .find(|one| one.address == ip)
            .map(|one| one.name.clone())
    }

    /// Who has the same port of the other family.
    fn twin(&self, socket: &Socket) -> Option<Cow<'static, str>> {
        let is_same_kind = |other: &&Socket| {
            other.namespace == socket.namespace
                && other.transport == socket.transport
                && other.address.port() == socket.address.port()
                && other.address.ip().to_canonical().is_ipv4()
                    != socket.address.ip().to_canonical().is_ipv4()
        };
        if socket.takes_both {
            return Some("same".into());
        }
        let port = socket.address.port();
        let sockets = &self.taken.sockets;
        let from = sockets
            .partition_point(|one| (one.namespace, one.address.port()) < (socket.namespace, port));
        let near = sockets.get(from..).unwrap_or_default().iter();
        let near =
            near.take_while(|one| (one.namespace, one.address.port()) == (socket.namespace, port));
        let mut twins = near.filter(is_same_kind).peekable();
        twins.peek()?;
        let is_same = twins.any(|other| {
            other.uid == socket.uid
                && (other.pids == socket.pids
                    || other.pids.iter().any(|pid| socket.pids.contains(pid)))
        });
        Some(if is_same { "same" } else { "other" }.into())
    }

    fn namespace(&self, number: usize) -> Option<String> {
        let namespace = self.taken.namespaces.get(number)?;
        (!namespace.is_own).then(|| self.name(namespace))
    }

    /// What people know a namespace by.
    fn name(&self, namespace: &Namespace) -> String {
        if let Some(name) = &namespace.name {
            return name.clone();
        }
        let program = namespace.pid.and_then(ipreconnect_ports::program);
        match program {
            Some(Program {
                group, name, pid, ..
            }) => match group.container.or(group.unit) {
                Some(of) => of,
                None => format!("{name} ({pid})"),
            },
            None => format!("net:[{}]", namespace.inode),
        }
    }
}

//! `ports list`: who listens where.

use std::fmt::Write as _;
use std::ops::RangeInclusive;

use ipreconnect_admin::moment::span;
use ipreconnect_ports::Reach;

use crate::admin::view::{PortView, Ports, ProcessView};
use crate::args::{Arguments, PortsList, SortPorts};
use crate::exit::{Exit, Refusal};
use crate::inventory;
use crate::paint::{Paint, plain};

/// Shows them; says with its code whether something is exposed that should not be.
pub(super) fn list(arguments: &Arguments, wish: &PortsList) -> Result<Exit, Refusal> {
    let reach = if wish.own { Reach::Own } else { Reach::All };
    let mut ports = inventory::take(reach).map_err(|error| {
        Refusal::new(
            Exit::NotFine,
            "the kernel's table of sockets cannot be read",
        )
        .because(&error)
    })?;
    let all = ports.sockets.len();
    ports.sockets.retain(|socket| wish.wants(socket));
    wish.sort(&mut ports.sockets);
    if arguments.json {
        super::super::print_json(&ports);
    } else {
        print!("{}", text(Paint::of_stdout(), &ports, all));
    }
    let is_fine = ports.sockets.iter().all(|socket| socket.concern.is_none());
    Ok(if is_fine { Exit::Fine } else { Exit::NotFine })
}

impl PortsList {
    fn wants(&self, socket: &PortView) -> bool {
        let is_in = |range: &RangeInclusive<u16>| range.contains(&socket.port);
        let is_of = |process: &ProcessView, name: &str| {
            process.name == name
                || process.unit.as_deref() == Some(name)
                || process.container.as_deref() == Some(name)
                || process.pid.to_string() == name
        };
        (!self.tcp || socket.transport == "tcp")
            && (!self.udp || socket.transport == "udp")
            && (!self.exposed || socket.exposure != "loopback")
            && (self.port.is_empty() || self.port.iter().any(is_in))
            && self.user.as_ref().is_none_or(|user| *user == socket.user)
            && self
                .of
                .as_ref()
                .is_none_or(|name| socket.processes.iter().any(|process| is_of(process, name)))
    }

    fn sort(&self, sockets: &mut [PortView]) {
        let name = |socket: &PortView| socket.processes.first().map(|process| process.name.clone());
        let age = |socket: &PortView| {
            let ages = socket.processes.iter().filter_map(|process| process.for_ms);
            ages.max()
        };
        let reach = |socket: &PortView| match &*socket.exposure {
            "everywhere" => 0,
            "interface" => 1,
            _ => 2,
        };
        match self.sort {
            // They come so.
            SortPorts::Port => {}
            SortPorts::Program => sockets.sort_by_key(name),
            SortPorts::User => sockets.sort_by_key(|socket| socket.user.clone()),
            SortPorts::Exposure => sockets.sort_by_key(reach),
            SortPorts::Age => sockets.sort_by_key(age),
            SortPorts::Queue => {
                sockets.sort_by_key(|socket| std::cmp::Reverse((socket.dropped, socket.waiting)));
            }
        }
        // Whatever the order is, each network is by itself, and ours is first.
        sockets.sort_by_key(|socket| socket.namespace.clone());
    }
}

const HEAD: [&str; 7] = [
    "ADDRESS", "REACH", "PROGRAM", "USER", "UNIT", "SINCE", "QUEUE",
];

fn text(paint: Paint, ports: &Ports, all: usize) -> String {
    let mut text = String::new();
    let mut before = None;
    let rows: Vec<[String; 7]> = ports.sockets.iter().map(cells).collect();
    let mut widths = HEAD.map(str::len);
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    if !rows.is_empty() {
        text.push_str(&paint.with("2", &line(&HEAD.map(str::to_owned), &widths)));
        text.push('\n');
    }
    for (socket, row) in ports.sockets.iter().zip(&rows) {
        if before != Some(&socket.namespace) && socket.namespace.is_some() {
            let name = socket.namespace.as_deref().unwrap_or_default();
            let _ = writeln!(
                text,
                "\n{}",
                paint.bold(&format!("in the network of {}", plain(name)))
            );
        }
        before = Some(&socket.namespace);
        let shown = line(row, &widths);
        match (&socket.concern, &*socket.exposure) {
            (Some(_), _) => text.push_str(&paint.with("33", &shown)),
            (None, "loopback") => text.push_str(&shown),
            (None, _) => text.push_str(&paint.bold(&shown)),
        }
        text.push('\n');
        if let Some(concern) = &socket.concern {
            let _ = writeln!(text, "{}", paint.with("33", &format!("  ! {concern}")));
        }
        if let (Some("other"), false) = (socket.twin.as_deref(), socket.exposure == "interface") {
            let words = "  ! the same port of the other address family is another program's: `localhost` may lead to either";
            let _ = writeln!(text, "{}", paint.with("33", words));
        }
        if let Some(dropped) = socket.dropped.filter(|dropped| *dropped > 0) {
            let what = match &*socket.transport {
                "udp" => "datagrams found no room: it reads more slowly than they come",
                _ => {
                    "connections were dropped, some for want of room: it accepts more slowly than they come, or its backlog is short"
                }
            };
            let _ = writeln!(
                text,
                "{}",
                paint.with("33", &format!("  ! {dropped} {what}"))
            );
        }
    }
    text.push_str(&end(paint, ports, all));
    text
}

/// How many there are, and what is not among them.
fn end(paint: Paint, ports: &Ports, all: usize) -> String {
    let mut text = String::new();
    let count = ports.sockets.len();
    let exposed = ports
        .sockets
        .iter()
        .filter(|socket| socket.exposure != "loopback")
        .count();
    let _ = match (count, all) {
        (0, 0) => writeln!(text, "nobody listens"),
        (0, _) => writeln!(text, "none of {all} is so"),
        _ if count == all => writeln!(text, "\n{count} in all, {exposed} of them beyond loopback"),
        _ => writeln!(
            text,
            "\n{count} of {all}, {exposed} of them beyond loopback"
        ),
    };
    if ports.hidden_processes > 0 {
        let words = format!(
            "{} processes of other users are not shown to us: their sockets are listed without them, and those in \
             containers of theirs are not listed; run it as root, or with CAP_SYS_PTRACE and CAP_SYS_ADMIN",
            ports.hidden_processes
        );
        let _ = writeln!(text, "{}", paint.with("2", &words));
    }
    for what in &ports.hidden {
        let _ = writeln!(text, "{}", paint.with("2", what));
    }
    for namespace in &ports.hidden_namespaces {
        let words = format!(
            "not looked into: {}; it takes CAP_SYS_ADMIN",
            plain(namespace)
        );
        let _ = writeln!(text, "{}", paint.with("2", &words));
    }
    text
}

fn cells(socket: &PortView) -> [String; 7] {
    let reach = match (&socket.interface, &*socket.exposure) {
        (Some(name), "interface") => plain(name).into_owned(),
        (_, exposure) => exposure.to_owned(),
    };
    let mut address = String::with_capacity(64);
    address.push_str(&socket.transport);
    address.push(' ');
    address.push_str(&socket.address);
    if socket.takes_both {
        address.push_str(" (and IPv4)");
    }
    if socket.sockets != 1 {
        let _ = write!(address, " ×{}", socket.sockets);
    }
    let processes = &socket.processes;
    let mut program = String::with_capacity(32);
    match processes.first() {
        None => program.push('-'),
        Some(one) => {
            program.push_str(&plain(&one.name));
            let _ = write!(program, " {}", one.pid);
        }
    }
    let more = (processes.len() + socket.more_processes as usize).saturating_sub(1);
    if more > 0 {
        let _ = write!(program, " +{more}");
    }
    let first = processes.first();
    let unit = first.and_then(|one| one.container.clone().or_else(|| one.unit.clone()));
    let age = processes.iter().filter_map(|process| process.for_ms).max();
    let queue = match socket.room {
        Some(room) => format!("{}/{room}", socket.waiting),
        None if socket.waiting > 0 => format!("{} B", socket.waiting),
        None => "-".to_owned(),
    };
    [
        address,
        reach,
        program,
        socket.user.clone(),
        plain(&unit.unwrap_or_else(|| "-".to_owned())).into_owned(),
        age.map_or_else(|| "-".to_owned(), span),
        queue,
    ]
}

/// Room between cells, as much as is taken at once.
const SPACE: &str = "                                ";

fn line(cells: &[String; 7], widths: &[usize; 7]) -> String {
    let mut line = String::with_capacity(widths.iter().sum::<usize>() + 2 * widths.len());
    for (cell, width) in cells.iter().zip(widths) {
        line.push_str(cell);
        let mut space = width.saturating_sub(cell.chars().count()) + 2;
        while space > 0 {
            let part = SPACE.get(..space).unwrap_or(SPACE);
            line.push_str(part);
            space -= part.len();
        }
    }
    line.truncate(line.trim_end().len());
    line
}

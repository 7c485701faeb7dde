//! `ports pressure`: how near outgoing connections are to the end of their ports.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

use ipreconnect::core::ports::Pressure;
use ipreconnect_admin::moment::{millis, span};
use ipreconnect_ports::{Connection, State, connections, ephemeral, reserved};
use serde::Serialize;

use crate::admin::view::SCHEMA;
use crate::args::{Arguments, PortsPressure};
use crate::exit::{Exit, Refusal};
use crate::paint::Paint;

/// A destination is told where so much of its ports is used, in percent.
const TIGHT: u32 = 80;

#[derive(Serialize)]
struct Found {
    schema: u32,
    /// The ports that connections are given.
    first: u16,
    last: u16,
    /// How many those are, without the reserved ones.
    room: u32,
    destinations: Vec<Destination>,
    /// Connections of the whole machine that are over and keep their ports.
    time_wait: usize,
    settings: BTreeMap<&'static str, String>,
}

/// Connections from one of our addresses to one place.
#[derive(Serialize)]
struct Destination {
    from: IpAddr,
    to: SocketAddr,
    open: u32,
    time_wait: u32,
    used_percent: u32,
    new_per_second: u32,
    /// After how many milliseconds there are no ports left, if it goes on like this.
    exhausted_after_ms: Option<u64>,
}

/// What changes something about it.
const SETTINGS: [(&str, &str); 4] = [
    (
        "net.ipv4.ip_local_port_range",
        "/proc/sys/net/ipv4/ip_local_port_range",
    ),
    (
        "net.ipv4.ip_local_reserved_ports",
        "/proc/sys/net/ipv4/ip_local_reserved_ports",
    ),
    ("net.ipv4.tcp_tw_reuse", "/proc/sys/net/ipv4/tcp_tw_reuse"),
    (
        "net.ipv4.tcp_max_tw_buckets",
        "/proc/sys/net/ipv4/tcp_max_tw_buckets",
    ),
];

/// Looks twice, and tells what it comes to; exits with 1 where ports come to an end.
pub(super) fn pressure(arguments: &Arguments, wish: &PortsPressure) -> Result<Exit, Refusal> {
    let wrong = |error: std::io::Error| {
        Refusal::new(Exit::NotFine, "the kernel's tables cannot be read").because(&error)
    };
    let range = ephemeral().map_err(wrong)?;
    let before: Before = outgoing(&range)
        .map_err(wrong)?
        .iter()
        .map(|one| ((one.local, one.remote), (one.state, one.cookie)))
        .collect();
    std::thread::sleep(Duration::from_secs(wish.seconds));
    let now = outgoing(&range).map_err(wrong)?;
    let found = tell(&range, &before, &now, wish.seconds);
    if arguments.json {
        super::super::print_json(&found);
    } else {
        print!("{}", text(Paint::of_stdout(), &found, wish));
    }
    let is_fine = found
        .destinations
        .iter()
        .all(|one| one.used_percent < TIGHT && one.exhausted_after_ms.is_none());
    Ok(if is_fine { Exit::Fine } else { Exit::NotFine })
}

/// What was there before.
type Before = HashMap<(SocketAddr, SocketAddr), (State, [u8; 8])>;

/// Whether it is another one than was there before: also with the same port, which may have been given again.
fn is_new(one: &Connection, before: &Before) -> bool {
    match before.get(&(one.local, one.remote)) {
        None => true,
        Some((State::TimeWait, cookie)) => one.cookie != *cookie,
        // One that was open may be over by now, and has another cookie then.
        Some((_, cookie)) => one.cookie != *cookie && one.state != State::TimeWait,
    }
}

/// Whether the kernel gives the port of a connection that is over again after a second (tcp(7), `tcp_tw_reuse`).
fn is_reused(to: IpAddr) -> bool {
    let set = |name: &str| fs::read_to_string(format!("/proc/sys/net/ipv4/{name}"));
    let is = |name: &str, words: &[&str]| set(name).is_ok_and(|set| words.contains(&set.trim()));
    let wanted: &[&str] = if to.is_loopback() {
        &["1", "2"]
    } else {
        &["1"]
    };
    is("tcp_tw_reuse", wanted) && !is("tcp_timestamps", &["0"])
}

/// Connections whose own port is one of those that are given: nearly all of them were made from here.
fn outgoing(range: &RangeInclusive<u16>) -> std::io::Result<Vec<Connection>> {
    let mut found = Vec::new();
    connections(|one| {
        if range.contains(&one.local.port()) {
            found.push(one);
        }
    })?;
    Ok(found)
}

fn tell(range: &RangeInclusive<u16>, before: &Before, now: &[Connection], seconds: u64) -> Found {
    let kept = reserved().unwrap_or_default();
    let is_free = |port: &u16| !kept.iter().any(|range| range.contains(port));
    let room = u32::try_from(range.clone().filter(is_free).count()).unwrap_or(u32::MAX);
    let mut by_place: BTreeMap<(IpAddr, SocketAddr), Pressure> = BTreeMap::new();
    let mut time_wait = 0;
    for one in now {
        let pressure = by_place.entry((one.local.ip(), one.remote)).or_default();
        match one.state {
            State::TimeWait => {
                pressure.waiting += 1;
                time_wait += 1;
            }
            _ => pressure.open += 1,
        }
        pressure.rate += u32::from(is_new(one, before));
    }
    let seconds = u32::try_from(seconds).unwrap_or(u32::MAX).max(1);
    let destinations = by_place.into_iter().map(|((from, to), pressure)| {
        let pressure = Pressure {
            room,
            rate: pressure.rate.div_ceil(seconds),
            is_reused: is_reused(to.ip()),
            ..pressure
        };
        Destination {
            from,
            to,
            open: pressure.open,
            time_wait: pressure.waiting,
            used_percent: pressure.used().saturating_mul(100) / room.max(1),
            new_per_second: pressure.rate,
            exhausted_after_ms: pressure.exhausted_after().map(millis),
        }
    });
    let mut destinations: Vec<Destination> = destinations.collect();
    destinations
        .sort_by_key(|one| std::cmp::Reverse((one.open + one.time_wait, one.new_per_second)));
    let read = |(name, path): (&'static str, &str)| {
        let value = fs::read_to_string(path).ok()?;
        Some((name, value.split_whitespace().collect::<Vec<_>>().join(" ")))
    };
    Found {
        schema: SCHEMA,
        first: *range.start(),
        last: *range.end(),
        room,
        destinations,
        time_wait,
        settings: SETTINGS.into_iter().filter_map(read).collect(),
    }
}

fn text(paint: Paint, found: &Found, wish: &PortsPressure) -> String {
    let mut text = format!(
        "connections are given the ports from {} to {}: {} of them for each of our addresses and each destination\n\n",
        found.first, found.last, found.room
    );
    let shown = found.destinations.iter().take(wish.limit as usize);
    let rows: Vec<[String; 6]> = shown.clone().map(row).collect();
    const HEAD: [&str; 6] = ["DESTINATION", "FROM", "OPEN", "TIME-WAIT", "USED", "NEW/S"];
    let mut widths = HEAD.map(str::len);
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    if rows.is_empty() {
        text.push_str("there are no outgoing connections\n");
    } else {
        let _ = writeln!(
            text,
            "{}",
            paint.with("2", &line(&HEAD.map(str::to_owned), &widths))
        );
    }
    for (one, row) in shown.zip(&rows) {
        let code = match (one.exhausted_after_ms, one.used_percent) {
            (Some(_), _) | (None, TIGHT..) => "31;1",
            (None, 50..) => "33",
            _ => "0",
        };
        let _ = writeln!(text, "{}", paint.with(code, &line(row, &widths)));
        if let Some(after) = one.exhausted_after_ms {
            let words = match after {
                0 => "  ! there are no ports left: new connections fail with EADDRNOTAVAIL"
                    .to_owned(),
                after => format!(
                    "  ! if it goes on like this, there are no ports left in {}",
                    span(after)
                ),
            };
            let _ = writeln!(text, "{}", paint.with("31;1", &words));
        }
    }
    let more = found.destinations.len().saturating_sub(rows.len());
    if more > 0 {
        let _ = writeln!(text, "and {more} more");
    }
    text.push_str(&advice(paint, found));
    text
}

fn row(one: &Destination) -> [String; 6] {
    [
        one.to.to_string(),
        one.from.to_string(),
        one.open.to_string(),
        one.time_wait.to_string(),
        format!("{} %", one.used_percent),
        one.new_per_second.to_string(),
    ]
}

fn line(cells: &[String; 6], widths: &[usize; 6]) -> String {
    let mut line = String::new();
    for (cell, width) in cells.iter().zip(widths) {
        let _ = write!(line, "{cell:width$}  ");
    }
    line.trim_end().to_owned()
}

/// What can be done where it is tight, by what is set now.
fn advice(paint: Paint, found: &Found) -> String {
    let is_tight =
        |one: &&Destination| one.used_percent >= TIGHT || one.exhausted_after_ms.is_some();
    let Some(one) = found.destinations.iter().find(is_tight) else {
        return format!(
            "\n{} connections are in TIME-WAIT; no destination is near its end\n",
            found.time_wait
        );
    };
    let mut text = format!("\n{}\n", paint.bold("what helps"));
    let set = |name: &str| found.settings.get(name).map_or("unknown", String::as_str);
    let mut say = |words: &str| {
        let _ = writeln!(text, "  - {words}");
    };
    if one.time_wait > one.open {
        say(
            "keep connections, and use them again: most ports are held by connections that are over (TIME-WAIT, 60 s each)",
        );
        if !is_reused(one.to.ip()) {
            say(&format!(
                "net.ipv4.tcp_tw_reuse = {}; 1 lets new connections to the same place take those ports after a second",
                set("net.ipv4.tcp_tw_reuse")
            ));
        }
    } else {
        say(
            "find out who opens so many and keeps them: `ipreconnect ports explain` of the destination's port names them",
        );
    }
    if found.first > 1024 || found.last < 65_535 {
        say(&format!(
            "net.ipv4.ip_local_port_range = {}; \"1024 65535\" gives {} ports (reserve those that servers of yours listen on)",
            set("net.ipv4.ip_local_port_range"),
            65_535 - 1024 + 1
        ));
    }
    say(
        "another address on either side has all ports again: one more address of the destination, or of this machine",
    );
    text
}

//! `ports watch`: who comes to local ports and goes, as it happens.

use std::collections::{HashMap, HashSet};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use ipreconnect::clock;
use ipreconnect_admin::moment::{millis, rfc3339};
use ipreconnect_ports::{Endings, Heard, Program, Scope, Talk, look, owners, user};
use serde::Serialize;

use crate::admin::view::SCHEMA;
use crate::args::{Arguments, PortsWatch};
use crate::exit::{Exit, Refusal};
use crate::paint::Paint;

/// Between two looks.
const LOOK: Duration = Duration::from_millis(200);

/// One line.
#[derive(Debug, Serialize)]
struct Line {
    schema: u32,
    at: String,
    /// `listens`, `gone`, `came`, `left` or `unseen`.
    what: &'static str,
    here: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    peer: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    program: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lasted_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    taken: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    given: Option<u64>,
    /// Connections that were over before anybody could look.
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<u64>,
}

/// A connection that is there.
#[derive(Debug)]
struct Here {
    talk: Talk,
    came: Instant,
    who: Option<Program>,
}

struct Watch {
    scope: Scope,
    ports: Vec<RangeInclusive<u16>>,
    is_json: bool,
    paint: Paint,
    endings: Option<Endings>,
    talks: HashMap<u64, Here>,
    listening: HashMap<SocketAddr, u64>,
    is_first: bool,
}

/// Tells what happens until the time is over, or nobody reads it any more.
pub(super) fn watch(arguments: &Arguments, wish: &PortsWatch) -> Result<Exit, Refusal> {
    let mut watch = Watch {
        scope: if wish.all {
            Scope::All
        } else {
            Scope::Loopback
        },
        ports: wish.port.clone(),
        is_json: arguments.json,
        paint: Paint::of_stdout(),
        endings: Endings::open().ok(),
        talks: HashMap::new(),
        listening: HashMap::new(),
        is_first: true,
    };
    if watch.endings.is_none() {
        eprintln!(
            "ipreconnect: the kernel does not tell of what ends: connections that are over within {} ms are not seen",
            LOOK.as_millis()
        );
    }
    let until = wish
        .seconds
        .map(|seconds| clock::now() + Duration::from_secs(seconds));
    while until.is_none_or(|until| clock::now() < until) {
        match watch.turn() {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(Exit::Fine),
            Err(error) => {
                return Err(
                    Refusal::new(Exit::NotFine, "connections cannot be looked at").because(&error),
                );
            }
        }
        std::thread::sleep(LOOK);
    }
    Ok(Exit::Fine)
}

impl Watch {
    fn turn(&mut self) -> io::Result<()> {
        let mut lines = Vec::new();
        self.hear(&mut lines)?;
        let seen = look(self.scope)?;
        let mut listening = HashMap::new();
        for one in seen.listening {
            if self.is_meant(one.address) {
                listening.insert(one.address, one.inode);
            }
        }
        let talks: Vec<Talk> = seen
            .talks
            .into_iter()
            .filter(|talk| self.is_meant(talk.here))
            .collect();
        let fresh: Vec<Talk> = talks
            .iter()
            .filter(|talk| !self.talks.contains_key(&talk.id()))
            .copied()
            .collect();
        let new: Vec<(SocketAddr, u64)> = listening
            .iter()
            .filter(|(address, _)| !self.listening.contains_key(address))
            .map(|(address, inode)| (*address, *inode))
            .collect();
        let mut inodes: HashSet<u64> = fresh.iter().filter_map(|talk| talk.peer_inode).collect();
        inodes.extend(new.iter().map(|(_, inode)| *inode));
        let programs = owners(&inodes).programs;
        let is_first = std::mem::take(&mut self.is_first);
        for (address, inode) in new {
            if !is_first {
                lines.push(line("listens", address).by(programs.get(&inode), None));
            }
        }
        let gone = self
            .listening
            .keys()
            .filter(|address| !listening.contains_key(address));
        lines.extend(gone.map(|address| line("gone", *address)));
        self.listening = listening;
        for talk in fresh {
            let who = talk
                .peer_inode
                .and_then(|inode| programs.get(&inode))
                .cloned();
            lines.push(
                line("came", talk.here)
                    .from(talk.peer)
                    .by(who.as_ref(), talk.user),
            );
            let here = Here {
                talk,
                came: clock::now(),
                who,
            };
            self.talks.insert(talk.id(), here);
        }
        let there: HashSet<u64> = talks.iter().map(Talk::id).collect();
        for talk in &talks {
            if let Some(here) = self.talks.get_mut(&talk.id()) {
                (here.talk.taken, here.talk.given) = (talk.taken, talk.given);
            }
        }
        let left: Vec<u64> = self
            .talks
            .keys()
            .filter(|id| !there.contains(id))
            .copied()
            .collect();
        for id in left {
            if let Some(here) = self.talks.remove(&id) {
                lines.push(here.left(here.talk.taken, here.talk.given));
            }
        }
        self.tell(&lines)
    }

    /// What has ended since the last look.
    fn hear(&mut self, lines: &mut Vec<Line>) -> io::Result<()> {
        let Some(mut endings) = self.endings.take() else {
            return Ok(());
        };
        let mut unseen: HashMap<SocketAddr, u64> = HashMap::new();
        let mut left = Vec::new();
        let heard = endings.drain(|one| {
            let is_listened_on = self.listening.keys().any(|address| {
                address.port() == one.here.port()
                    && (address.ip() == one.here.ip() || address.ip().is_unspecified())
            });
            if !is_listened_on || !self.is_meant(one.here) {
                return;
            }
            match self.talks.remove(&one.id()) {
                Some(here) => left.push(here.left(one.taken, one.given)),
                None => *unseen.entry(one.here).or_default() += 1,
            }
        })?;
        if heard == Heard::Some {
            eprintln!("ipreconnect: more ended at once than could be heard: some are not counted");
        }
        self.endings = Some(endings);
        lines.extend(left);
        for (here, count) in unseen {
            let mut told = line("unseen", here);
            told.count = Some(count);
            lines.push(told);
        }
        Ok(())
    }

    fn is_meant(&self, here: SocketAddr) -> bool {
        (self.scope == Scope::All || here.ip().is_loopback() || here.ip().is_unspecified())
            && (self.ports.is_empty()
                || self.ports.iter().any(|ports| ports.contains(&here.port())))
    }

    fn tell(&self, lines: &[Line]) -> io::Result<()> {
        let mut out = io::stdout().lock();
        for one in lines {
            if self.is_json {
                writeln!(out, "{}", serde_json::to_string(one).unwrap_or_default())?;
            } else {
                writeln!(out, "{}", one.text(self.paint))?;
            }
        }
        out.flush()
    }
}

fn line(what: &'static str, here: SocketAddr) -> Line {
    Line {
        schema: SCHEMA,
        at: rfc3339(millis(clock::since_unix())),
        what,
        here: here.to_string(),
        peer: None,
        user: None,
        program: None,
        pid: None,
        lasted_ms: None,
        taken: None,
        given: None,
        count: None,
    }
}

impl Here {
    fn left(&self, taken: u64, given: u64) -> Line {
        let mut line = line("left", self.talk.here)
            .from(self.talk.peer)
            .by(self.who.as_ref(), self.talk.user);
        line.lasted_ms = Some(millis(clock::now().saturating_duration_since(self.came)));
        (line.taken, line.given) = (Some(taken), Some(given));
        line
    }
}

impl Line {
    fn from(mut self, peer: SocketAddr) -> Self {
        self.peer = Some(peer.to_string());
        self
    }

    fn by(mut self, program: Option<&Program>, uid: Option<u32>) -> Self {
        self.user = uid.map(user);
        self.program = program.map(|program| program.name.clone());
        self.pid = program.map(|program| program.pid);
        self
    }

    /// For people: the user is the kernel's word, the program's name a hint.
    fn text(&self, paint: Paint) -> String {
        let time = self.at.get(11..23).unwrap_or(&self.at);
        let sign = match self.what {
            "came" => paint.with("32", "+"),
            "left" => paint.with("2", "-"),
            "listens" => paint.with("33", "*"),
            "gone" => paint.with("33", "x"),
            _ => paint.with("2", "."),
        };
        let who = match (&self.program, self.pid, &self.user) {
            (Some(program), Some(pid), Some(user)) => format!("{program} (pid {pid}, user {user})"),
            (Some(program), Some(pid), None) => format!("{program} (pid {pid})"),
            (_, _, Some(user)) => format!("user {user}"),
            _ => "somebody".to_owned(),
        };
        let what = match self.what {
            "listens" => format!("{who} listens"),
            "gone" => "nobody listens any more".to_owned(),
            "unseen" => match self.count {
                Some(1) => {
                    "a connection was over before anybody could look whose it was".to_owned()
                }
                count => format!(
                    "{} connections were over before anybody could look whose they were",
                    count.unwrap_or_default()
                ),
            },
            "left" => format!(
                "{who}  after {:.1} s, took {}, gave {}",
                self.lasted_ms.unwrap_or_default() as f64 / 1000.0,
                bytes(self.taken.unwrap_or_default()),
                bytes(self.given.unwrap_or_default())
            ),
            _ => format!("{who}  from {}", self.peer.as_deref().unwrap_or_default()),
        };
        format!("{time}  {sign}  {:<22} {what}", self.here)
    }
}

fn bytes(count: u64) -> String {
    match count {
        0..1024 => format!("{count} B"),
        1024..1_048_576 => format!("{} KiB", count >> 10),
        _ => format!("{} MiB", count >> 20),
    }
}

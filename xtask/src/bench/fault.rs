//! The fault of a round, made ready beforehand so that it strikes at once.

use std::io::{self, Write};
use std::net::Ipv4Addr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use ipreconnect_lab::dns::{Misdeed, NameServer};

use super::process::Process;
use super::proxy::PREFERRED_PORT;
use super::scenario::Scenario;
use super::sight::PREFERRED;

/// The preferred origin, and what is about to happen to it.
pub(crate) struct Fault {
    scenario: Scenario,
    origin: Process,
    /// nftables, waiting for its rules.
    nft: Option<Child>,
    names: Option<NameServer>,
}

/// The name by which an origin is known, and its time to live.
pub(crate) const NAME: &str = "origin.bench";
pub(crate) const TTL: Duration = Duration::from_secs(5);
/// Where it moves to.
pub(crate) const MOVES_TO: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

impl Fault {
    pub(crate) fn ready(
        scenario: Scenario,
        origin: Process,
        names: Option<NameServer>,
    ) -> io::Result<Self> {
        let nft = match scenario {
            Scenario::SilentOnInput | Scenario::SilentOnOutput => Some(
                Command::new("nft")
                    .args(["-f", "-"])
                    .stdin(Stdio::piped())
                    .spawn()
                    .map_err(|error| io::Error::other(format!("nft cannot be run: {error}")))?,
            ),
            _ => None,
        };
        Ok(Self {
            scenario,
            origin,
            nft,
            names,
        })
    }

    /// The resolver says nothing any more.
    pub(crate) fn silence_names(&self) {
        if let Some(names) = &self.names {
            names.misbehave(Misdeed::Silent);
        }
    }

    fn move_name(&self) {
        if let Some(names) = &self.names {
            names.set(NAME, &[&MOVES_TO.to_string()], TTL);
        }
    }

    /// It is complete when this returns.
    pub(crate) fn strike(&mut self) -> io::Result<()> {
        match self.scenario {
            Scenario::CrashWithBackup
            | Scenario::TlsCrashWithBackup
            | Scenario::CrashAndReturn
            | Scenario::ResolverSilent => self.origin.kill(),
            Scenario::NameMoves => {
                self.move_name();
                Ok(())
            }
            Scenario::NameMovesAndDies => {
                self.move_name();
                self.origin.kill()
            }
            Scenario::Frozen => self.origin.stop(),
            Scenario::SilentOnInput => self.silence("input"),
            Scenario::SilentOnOutput => self.silence("output"),
        }
    }

    /// It is over when this returns.
    pub(crate) fn mend(&mut self) -> io::Result<()> {
        match self.scenario {
            Scenario::CrashAndReturn | Scenario::ResolverSilent => {
                self.origin = Process::origin(PREFERRED_PORT, PREFERRED)?;
                Ok(())
            }
            Scenario::Frozen => self.origin.go_on(),
            Scenario::CrashWithBackup
            | Scenario::TlsCrashWithBackup
            | Scenario::SilentOnInput
            | Scenario::SilentOnOutput
            | Scenario::NameMoves
            | Scenario::NameMovesAndDies => Ok(()),
        }
    }

    /// Another origin is in its place.
    pub(crate) fn replace(&mut self, origin: Process) {
        self.origin = origin;
    }

    fn silence(&mut self, hook: &str) -> io::Result<()> {
        let Some(mut nft) = self.nft.take() else {
            return Ok(());
        };
        let rules = format!(
            "add table inet silence\n\
             add chain inet silence {hook} {{ type filter hook {hook} priority 0; }}\n\
             add rule inet silence {hook} tcp dport {PREFERRED_PORT} drop\n\
             add rule inet silence {hook} tcp sport {PREFERRED_PORT} drop\n"
        );
        if let Some(mut input) = nft.stdin.take() {
            input.write_all(rules.as_bytes())?;
        }
        match nft.wait()?.success() {
            true => Ok(()),
            false => Err(io::Error::other("nft did not take the rules")),
        }
    }
}

//! The fault of a round, made ready beforehand so that it strikes at once.

use std::io::{self, Write};
use std::process::{Child, Command, Stdio};

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
}

impl Fault {
    pub(crate) fn ready(scenario: Scenario, origin: Process) -> io::Result<Self> {
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
        })
    }

    /// It is complete when this returns.
    pub(crate) fn strike(&mut self) -> io::Result<()> {
        match self.scenario {
            Scenario::CrashWithBackup | Scenario::CrashAndReturn => self.origin.kill(),
            Scenario::Frozen => self.origin.stop(),
            Scenario::SilentOnInput => self.silence("input"),
            Scenario::SilentOnOutput => self.silence("output"),
        }
    }

    /// It is over when this returns.
    pub(crate) fn mend(&mut self) -> io::Result<()> {
        match self.scenario {
            Scenario::CrashAndReturn => {
                self.origin = Process::origin(PREFERRED_PORT, PREFERRED)?;
                Ok(())
            }
            Scenario::Frozen => self.origin.go_on(),
            Scenario::CrashWithBackup | Scenario::SilentOnInput | Scenario::SilentOnOutput => {
                Ok(())
            }
        }
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

//! Arguments as they are typed.

use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand};
use clap_complete::Shell;

/// Keeps an application connected to the servers it cannot work without.
#[derive(Debug, Parser)]
#[command(name = "ipreconnect", version, propagate_version = true)]
#[command(
    after_help = "Exit codes: 0 fine, 1 the thing asked about is not fine, 2 wrong use or configuration,\n3 the running gateway cannot be reached."
)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,

    /// The configuration: a file, or a directory of *.toml [default: $IPRECONNECT_CONFIG, ./ipreconnect.toml, /etc/ipreconnect/ipreconnect.toml]
    #[arg(long, global = true, value_name = "PATH")]
    pub(crate) config: Option<PathBuf>,

    /// Answer with JSON (an object with "schema": 1)
    #[arg(long, global = true)]
    pub(crate) json: bool,

    /// More lines in the log; twice for all of them
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub(crate) verbose: u8,

    /// Fewer lines in the log
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the gateway in the foreground
    #[command(
        after_help = "Examples:\n  ipreconnect run\n  ipreconnect run --config /etc/ipreconnect --watch\n  ipreconnect run --listen 127.0.0.1:9200 --origin search-1:9200,search-2:9200\n\nSIGHUP reloads, SIGTERM and SIGINT drain and end."
    )]
    Run(Run),
    /// Validate the configuration, and say what it exposes to whom
    Check {
        /// The configuration, instead of --config
        path: Option<PathBuf>,

        /// Print the reference of all keys instead
        #[arg(long)]
        reference: bool,
    },
    /// Show the proven state of each origin and listener
    #[command(
        after_help = "Examples:\n  ipreconnect status\n  ipreconnect status search\n  ipreconnect status --wait && start-my-application"
    )]
    Status(Status),
    /// Make the running gateway take its changed configuration
    Reload,
    /// See it work: two built-in origins that are killed, frozen and revived
    Demo {
        /// Keep origins and gateway running afterwards
        #[arg(long)]
        stay: bool,
    },
    /// Print completions for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Print the manual page, or the reference of all commands
    Man {
        /// Markdown instead of a manual page
        #[arg(long)]
        markdown: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Run {
    /// Where to listen, instead of a file: `ip:port`, `localhost:port`, `ip:auto`, `unix:/path`
    #[arg(
        long,
        value_name = "ADDR",
        requires = "origin",
        value_delimiter = ',',
        conflicts_with = "config"
    )]
    pub(crate) listen: Vec<String>,

    /// The origin's addresses, the preferred one first: host:port, unix:/path
    #[arg(
        long,
        value_name = "ADDR,…",
        requires = "listen",
        value_delimiter = ','
    )]
    pub(crate) origin: Vec<String>,

    /// Reload when a file of the configuration changes
    #[arg(long)]
    pub(crate) watch: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Status {
    /// Only this origin
    pub(crate) origin: Option<String>,

    /// Wait until the required origins are up, or the one named
    #[arg(long)]
    pub(crate) wait: bool,
}

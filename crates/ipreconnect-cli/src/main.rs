//! The program `ipreconnect`: arguments, configuration, and the parts put together.

/// As the standard library's, but that an output that takes no more ends the command, and does not panic.
macro_rules! print {
    ($($text:tt)*) => { $crate::out::print(format_args!($($text)*)) };
}

/// The same with a line's end.
macro_rules! println {
    ($($text:tt)*) => { $crate::out::print(format_args!("{}\n", format_args!($($text)*))) };
}

mod access;
mod admin;
mod args;
mod certify;
mod child;
mod commands;
mod config;
mod demo;
mod exit;
mod gateway;
mod inventory;
mod leases;
mod log;
mod out;
mod paint;
mod state;

use std::process::ExitCode;

use clap::Parser;

use args::{Arguments, CaAction, Command};
use demo::{Afterwards, Format};
use exit::{Exit, Refusal};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Before there are other threads.
    ipreconnect_ports::do_without_admin();
    child::note_ignored();
    let arguments = Arguments::parse();
    match dispatch(&arguments) {
        Ok(exit) => exit.into(),
        Err(refusal) => {
            eprintln!("{refusal}");
            refusal.exit().into()
        }
    }
}

fn dispatch(arguments: &Arguments) -> Result<Exit, Refusal> {
    match &arguments.command {
        Command::Run(run) => commands::run::run(arguments, run),
        Command::Check {
            reference: true, ..
        } => {
            print!("{}", config::reference());
            Ok(Exit::Fine)
        }
        Command::Check { path, .. } => Ok(commands::check::check(arguments, path.as_deref())),
        Command::Status(status) => commands::status::status(arguments, status),
        Command::Top => commands::top::top(arguments),
        Command::History(history) => commands::history::history(arguments, history),
        Command::Probe(probe) => commands::probe::probe(arguments, probe),
        Command::Identity(identity) => commands::identity::identity(arguments, identity),
        Command::Alerts { action } => commands::alerts::alerts(arguments, action),
        Command::Ca {
            action: CaAction::Export,
        } => commands::ca::export(arguments),
        Command::Cache { action } => commands::cache::cache(arguments, action),
        Command::Explain { code: Some(code) } => commands::explain::run(code, arguments.json),
        Command::Explain { code: None } => Ok(commands::explain::all(arguments.json)),
        Command::Why(why) => commands::why::why(arguments, why),
        Command::ProxyEnv(wish) => commands::proxy_env::proxy_env(arguments, wish),
        Command::Ports { action } => commands::ports::ports(arguments, action),
        Command::Shield(wish) => commands::shield::shield(arguments, wish),
        Command::Discover(wish) => commands::discover::discover(arguments, wish),
        Command::Exec(wish) => commands::exec::exec(arguments, wish),
        Command::Launch(launch) => Ok(child::launch(launch)),
        Command::Password { name } => commands::password::password(name, arguments.json),
        Command::Tap(tap) => commands::tap::tap(arguments, tap),
        Command::Reconnect { origin } => commands::order::reconnect(arguments, origin),
        Command::Drain { origin } => commands::order::drain(arguments, origin),
        Command::Prefer { origin, address } => {
            commands::order::prefer(arguments, origin, address.clone())
        }
        Command::Reload => commands::reload::reload(arguments),
        Command::Demo { stay } => {
            let afterwards = if *stay {
                Afterwards::Stay
            } else {
                Afterwards::End
            };
            let format = if arguments.json {
                Format::Json
            } else {
                Format::Text
            };
            demo::run(afterwards, format)
        }
        Command::Completions { shell } => Ok(commands::man::completions(*shell)),
        Command::Man { markdown: true } => Ok(commands::man::markdown()),
        Command::Man { markdown: false } => commands::man::man(),
    }
}

//! `password`: the line of a user, for a file of users.

use std::io::{BufRead as _, IsTerminal as _, Write as _};

use ipreconnect_proxy::verifier;
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
use serde::Serialize;
use zeroize::Zeroizing;

use crate::exit::{Exit, Refusal};

/// What Ctrl-C writes where it ends nothing.
const INTERRUPT: char = '\u{3}';
/// The longest password that can be shown in clear text.
const LONGEST: usize = 1024;

/// What is printed.
#[derive(Serialize)]
struct Shown<'s> {
    schema: u32,
    user: &'s str,
    verifier: String,
}

/// Reads a password and prints what is kept of it.
pub(crate) fn password(name: &str, as_json: bool) -> Result<Exit, Refusal> {
    let is_name = |letter: char| !letter.is_control() && letter != ':';
    if name.is_empty() || name.len() > 255 || !name.chars().all(is_name) {
        let message = format!(
            "{name:?} cannot be the name of a user: it has no colon and no control characters"
        );
        return Err(Refusal::new(Exit::Wrong, message));
    }
    let refuse = |error: std::io::Error| {
        Refusal::new(Exit::Wrong, "the password cannot be read").because(&error)
    };
    let password = if std::io::stdin().is_terminal() {
        let first = hidden("Password: ").map_err(refuse)?;
        let second = hidden("Again: ").map_err(refuse)?;
        if *first != *second {
            return Err(Refusal::new(
                Exit::Wrong,
                "these are two different passwords",
            ));
        }
        first
    } else {
        line().map_err(refuse)?
    };
    if password.is_empty() {
        return Err(Refusal::new(Exit::Wrong, "an empty password is none"));
    }
    if password.len() > LONGEST {
        let message = format!("a password has at most {LONGEST} bytes");
        return Err(Refusal::new(Exit::Wrong, message));
    }
    let verifier = verifier(password.as_bytes()).map_err(refuse)?;
    if as_json {
        super::print_json(&Shown {
            schema: crate::admin::view::SCHEMA,
            user: name,
            verifier,
        });
    } else {
        println!("{name}:{verifier}");
    }
    Ok(Exit::Fine)
}

fn line() -> std::io::Result<Zeroizing<String>> {
    let mut line = Zeroizing::new(String::with_capacity(1024));
    std::io::stdin().lock().read_line(&mut line)?;
    let length = line.trim_end_matches(['\r', '\n']).len();
    line.truncate(length);
    Ok(line)
}

/// Reads a line that the terminal does not show.
fn hidden(prompt: &str) -> std::io::Result<Zeroizing<String>> {
    let terminal = std::io::stdin();
    let before = tcgetattr(&terminal)?;
    let mut silent = before.clone();
    // What ends it would leave the terminal silent.
    silent
        .local_modes
        .remove(LocalModes::ECHO | LocalModes::ISIG);
    eprint!("{prompt}");
    std::io::stderr().flush()?;
    tcsetattr(&terminal, OptionalActions::Now, &silent)?;
    let line = line();
    tcsetattr(&terminal, OptionalActions::Flush, &before)?;
    eprintln!();
    match line {
        Ok(line) if line.contains(INTERRUPT) => Err(std::io::ErrorKind::Interrupted.into()),
        line => line,
    }
}

//! What commands print.

use std::fmt::Arguments;
use std::io::{self, ErrorKind, Write};

/// Prints it. An output that takes no more (a full disk) ends the command with an error; one that nobody reads any more
/// ends it quietly: he has seen enough.
pub(crate) fn print(text: Arguments<'_>) {
    let mut out = io::stdout().lock();
    let Err(error) = out.write_fmt(text).and_then(|()| out.flush()) else {
        return;
    };
    if error.kind() == ErrorKind::BrokenPipe {
        std::process::exit(0);
    }
    // There is nowhere else to say it.
    let _ = writeln!(
        io::stderr(),
        "error: standard output takes no more\n  caused by: {error}"
    );
    std::process::exit(1);
}

/// Prints what is no answer, but said beside something that goes on all the same.
pub(crate) fn say(text: &str) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

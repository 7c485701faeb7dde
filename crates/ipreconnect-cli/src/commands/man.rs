//! `man` and `completions`, generated from the definition of the arguments.

use std::io::Write;

use clap::{Command, CommandFactory};
use clap_complete::Shell;

use crate::args::Arguments;
use crate::exit::{Exit, Refusal};

/// Prints the manual page.
pub(crate) fn man() -> Result<Exit, Refusal> {
    let mut page = Vec::new();
    let write = |error: std::io::Error| {
        Refusal::new(Exit::NotFine, "cannot print the manual").because(&error)
    };
    clap_mangen::Man::new(Arguments::command())
        .render(&mut page)
        .map_err(write)?;
    std::io::stdout().write_all(&page).map_err(write)?;
    Ok(Exit::Fine)
}

/// Prints the reference of all commands.
pub(crate) fn markdown() -> Exit {
    let mut root = Arguments::command();
    root.build();
    let mut text = String::from("# Commands\n\nGenerated from the program by `cargo xtask gen`.\n");
    for command in root.get_subcommands_mut() {
        if command.get_name() != "help" && !command.is_hide_set() {
            section(command, &mut text);
        }
    }
    print!("{text}");
    Exit::Fine
}

fn section(command: &mut Command, text: &mut String) {
    let help = command.render_long_help().to_string();
    let lines: Vec<&str> = help.lines().map(str::trim_end).collect();
    text.push_str(&format!(
        "\n## `ipreconnect {}`\n\n```text\n{}\n```\n",
        command.get_name(),
        lines.join("\n").trim_end()
    ));
}

/// Prints completions for a shell.
pub(crate) fn completions(shell: Shell) -> Exit {
    let mut command = Arguments::command();
    clap_complete::generate(shell, &mut command, "ipreconnect", &mut std::io::stdout());
    Exit::Fine
}

//! What the tests with real servers need, from the system's own packages.

use std::path::Path;
use std::process::{Command, Stdio};

/// A program that tests look for, and the Debian package that has it.
const NEEDS: [(&str, &str); 6] = [
    ("nginx", "nginx-light"),
    ("redis-server", "redis-server"),
    ("pg_ctl", "postgresql"),
    ("nft", "nftables"),
    ("ip", "iproute2"),
    ("unshare", "util-linux"),
];

/// Installs what is missing if this user may; says what it does, and what stays missing.
pub(crate) fn install_missing() {
    let missing: Vec<&str> = NEEDS
        .iter()
        .filter(|(program, _)| !is_there(program))
        .map(|(_, package)| *package)
        .collect();
    if missing.is_empty() {
        println!("everything the tests with real servers need is there");
        return;
    }
    let names = missing.join(" ");
    if !rustix::process::geteuid().is_root() || !is_there("apt-get") {
        println!(
            "missing, and not installable here: {names}; the tests that need them are skipped"
        );
        return;
    }
    println!("installing with apt-get, for the tests with real servers: {names}");
    // A server that was installed for tests must not start by itself.
    let quiet = |arguments: &[&str]| {
        Command::new("apt-get")
            .args(arguments)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .env("RUNLEVEL", "1")
            .stdout(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    };
    let mut arguments = vec!["install", "-y", "--no-install-recommends"];
    arguments.extend(&missing);
    if !(quiet(&["update"]) && quiet(&arguments)) {
        println!("apt-get failed; tests that need what is missing are skipped");
    }
}

fn is_there(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let beside_path = ["/usr/sbin", "/usr/local/sbin", "/sbin"].map(Path::new);
    let found = std::env::split_paths(&path).any(|directory| directory.join(program).exists())
        || beside_path
            .iter()
            .any(|directory| directory.join(program).exists());
    // PostgreSQL's own programs are kept by version, outside the path.
    found || (program == "pg_ctl" && postgres_is_there())
}

fn postgres_is_there() -> bool {
    let versions = std::fs::read_dir("/usr/lib/postgresql");
    versions.is_ok_and(|mut versions| versions.any(|entry| entry.is_ok()))
}

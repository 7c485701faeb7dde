//! What the tests with real servers and the benchmarks need, from the system's own packages.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::reference::root;

/// A program, or the path of a file, and the Debian package that has it.
pub(crate) type Need = (&'static str, &'static str);

/// What asks the API whatever its description allows, and what it does not; and clients of forward proxies.
const PYTHON: [&str; 3] = [
    "schemathesis==4.32.5",
    "requests[socks]==2.32.5",
    "httpx[socks]==0.28.1",
];
/// What the tests with real servers talk to.
const FOR_TESTS: [Need; 29] = [
    ("nginx", "nginx-light"),
    (
        "/usr/lib/nginx/modules/ngx_stream_module.so",
        "libnginx-mod-stream",
    ),
    ("haproxy", "haproxy"),
    ("redis-server", "redis-server"),
    ("pg_ctl", "postgresql"),
    ("dnsmasq", "dnsmasq-base"),
    ("unbound", "unbound"),
    ("named", "bind9"),
    ("dnssec-signzone", "bind9-utils"),
    ("nft", "nftables"),
    ("ip", "iproute2"),
    ("unshare", "util-linux"),
    ("openssl", "openssl"),
    ("curl", "curl"),
    ("h2load", "nghttp2-client"),
    ("apache2", "apache2-bin"),
    ("pebble", "pebble"),
    ("systemd-socket-activate", "systemd"),
    ("promtool", "prometheus"),
    ("python3", "python3"),
    ("/usr/share/doc/python3-venv/copyright", "python3-venv"),
    ("prometheus-alertmanager", "prometheus-alertmanager"),
    ("msmtpd", "msmtp-mta"),
    ("chromium", "chromium"),
    ("chromedriver", "chromium-driver"),
    ("squid", "squid"),
    ("tinyproxy", "tinyproxy-bin"),
    ("git", "git"),
    ("node", "nodejs"),
];

/// Installs what the tests with real servers miss.
pub(crate) fn install_missing() {
    install(&FOR_TESTS, "the tests with real servers");
    install_python();
}

/// What comes as Python packages, into a private environment; without it its tests are skipped.
fn install_python() {
    let place = target().join("python");
    let (wanted, made) = (PYTHON.join("\n"), place.join("made-of"));
    let is_made = std::fs::read_to_string(&made).is_ok_and(|made| made == wanted);
    if is_made || !is_there("python3") {
        return;
    }
    println!("installing {} into {}", PYTHON.join(", "), place.display());
    let quiet = |command: &mut Command| {
        let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
        status.is_ok_and(|status| status.success())
    };
    let pip = [
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--timeout",
        "20",
        "--retries",
        "1",
    ];
    let is_well = quiet(Command::new("python3").args(["-m", "venv"]).arg(&place))
        && quiet(Command::new(place.join("bin/pip")).args(pip).args(PYTHON))
        && std::fs::write(&made, &wanted).is_ok();
    if !is_well {
        println!("it cannot be installed; the tests go without it");
    }
}

/// Where cargo builds.
pub(crate) fn target() -> PathBuf {
    let told = std::env::var_os("CARGO_TARGET_DIR");
    told.map_or_else(|| root().join("target"), PathBuf::from)
}

/// Installs what is missing if this user may; says what it does, and what stays missing.
pub(crate) fn install(needs: &[Need], purpose: &str) {
    let missing: Vec<&str> = needs
        .iter()
        .filter(|(program, _)| !is_there(program))
        .map(|(_, package)| *package)
        .collect();
    if missing.is_empty() {
        println!("everything that {purpose} need is there");
        return;
    }
    let names = missing.join(" ");
    if !rustix::process::geteuid().is_root() || !is_there("apt-get") {
        println!("missing for {purpose}, and not installable here: {names}");
        return;
    }
    println!("installing with apt-get, for {purpose}: {names}");
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
        println!("apt-get failed; {purpose} go without what is missing");
    }
}

fn is_there(program: &str) -> bool {
    // PostgreSQL's own programs are kept by version, outside the path.
    find(program).is_some() || (program == "pg_ctl" && postgres_is_there())
}

/// Where a program is; a server's is often outside a user's path.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let beside_path = ["/usr/sbin", "/usr/local/sbin", "/sbin"].map(PathBuf::from);
    // Joining an absolute path leaves just that path.
    std::env::split_paths(&path)
        .chain(beside_path)
        .map(|directory| directory.join(program))
        .find(|candidate| Path::exists(candidate))
}

fn postgres_is_there() -> bool {
    let versions = std::fs::read_dir("/usr/lib/postgresql");
    versions.is_ok_and(|mut versions| versions.any(|entry| entry.is_ok()))
}

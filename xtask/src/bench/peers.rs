//! The proxies, each configured as a careful operator would.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use super::child::{Core, Process};
use super::root;

/// A proxy to measure.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Peer {
    Ipreconnect,
    Nginx,
    Haproxy,
}

impl Peer {
    pub(super) const ALL: [Self; 3] = [Self::Ipreconnect, Self::Nginx, Self::Haproxy];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Ipreconnect => "ipreconnect",
            Self::Nginx => "nginx",
            Self::Haproxy => "haproxy",
        }
    }

    /// What it says of its version.
    pub(super) fn version(self) -> String {
        let (program, argument) = match self {
            Self::Ipreconnect => (binary(), "--version"),
            Self::Nginx => ("nginx".to_owned(), "-v"),
            Self::Haproxy => ("haproxy".to_owned(), "-v"),
        };
        let Ok(output) = Command::new(program).arg(argument).output() else {
            return "not installed".to_owned();
        };
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text).into_owned();
        text.lines().next().unwrap_or_default().to_owned()
    }

    /// Starts it in `directory`, in front of `origins`, the first of which is preferred.
    pub(super) fn start(
        self,
        directory: &Path,
        front: SocketAddr,
        origins: &[SocketAddr],
    ) -> Result<Process, String> {
        let file = directory.join("configuration");
        let text = match self {
            Self::Ipreconnect => ipreconnect(front, origins),
            Self::Nginx => nginx(directory, front, origins),
            Self::Haproxy => haproxy(front, origins),
        };
        let file = if self == Self::Ipreconnect {
            file.with_extension("toml")
        } else {
            file
        };
        std::fs::write(&file, text).map_err(|error| error.to_string())?;
        let mut command = match self {
            Self::Ipreconnect => {
                let mut command = Command::new(binary());
                command.args(["run", "--config"]).arg(&file);
                command
            }
            Self::Nginx => {
                let mut command = Command::new("nginx");
                command.arg("-c").arg(&file);
                command
            }
            Self::Haproxy => {
                let mut command = Command::new("haproxy");
                command.arg("-db").arg("-f").arg(&file);
                command
            }
        };
        Process::start(&mut command, Core::Proxy)
    }
}

fn binary() -> String {
    root().join("target/release/ipreconnect").display().to_string()
}

fn ipreconnect(front: SocketAddr, origins: &[SocketAddr]) -> String {
    let list: Vec<String> = origins.iter().map(|address| format!("\"{address}\"")).collect();
    format!(
        "[gateway]\nstate_dir = \"state\"\nworkers = 1\n\n[origin.bench]\naddress = [{}]\n\n\
         [[listen]]\naddress = \"{front}\"\norigin = \"bench\"\n",
        list.join(", ")
    )
}

fn nginx(directory: &Path, front: SocketAddr, origins: &[SocketAddr]) -> String {
    let at = directory.display();
    let servers: Vec<String> = origins
        .iter()
        .enumerate()
        .map(|(index, address)| {
            let role = if index == 0 { "" } else { " backup" };
            format!("server {address} max_fails=1 fail_timeout=1s{role};")
        })
        .collect();
    format!(
        "load_module /usr/lib/nginx/modules/ngx_stream_module.so;\n\
         daemon off; worker_processes 1; pid {at}/nginx.pid; error_log {at}/error.log crit;\n\
         worker_rlimit_nofile 20000;\nevents {{ worker_connections 16000; }}\n\
         stream {{ upstream bench {{ {} }}\n server {{ listen {front} backlog=4096; proxy_pass bench; \
         proxy_connect_timeout 500ms; proxy_timeout 60s; proxy_next_upstream on; }} }}\n",
        servers.join(" ")
    )
}

fn haproxy(front: SocketAddr, origins: &[SocketAddr]) -> String {
    let servers: Vec<String> = origins
        .iter()
        .enumerate()
        .map(|(index, address)| {
            let role = if index == 0 { "" } else { " backup" };
            format!("  server s{index} {address}{role}")
        })
        .collect();
    format!(
        "global\n  maxconn 9000\n  nbthread 1\ndefaults\n  mode tcp\n  timeout connect 500ms\n  timeout client 60s\n  \
         timeout server 60s\n  timeout queue 10s\n  retries 3\n  option redispatch 1\n\
         frontend front\n  bind {front} backlog 4096\n  default_backend bench\n\
         backend bench\n  default-server check inter 500ms fastinter 100ms downinter 250ms fall 2 rise 2 \
         observe layer4 error-limit 2 on-error mark-down\n{}\n",
        servers.join("\n")
    )
}

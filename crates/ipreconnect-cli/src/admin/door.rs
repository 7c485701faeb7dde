//! Opens the API's sockets, and serves them by a thread of their own.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::rand;
use ipreconnect_admin::{Api, Guard, StatusPages};

use crate::config::GatewayPlan;
use crate::exit::{Exit, Refusal};
use crate::state::replace;

/// Random bytes of a token.
const TOKEN: usize = 32;

/// The API's sockets, open and not yet served.
pub(crate) struct Door {
    unix: std::os::unix::net::UnixListener,
    tcp: Vec<std::net::TcpListener>,
    guard: Arc<Guard>,
}

/// Where the API's token is.
pub(crate) fn token_file(state: &Path) -> PathBuf {
    state.join("token")
}

impl Door {
    /// Opens all sockets.
    pub(crate) fn open(plan: &GatewayPlan) -> Result<Self, Refusal> {
        let path = &plan.admin;
        let unix = bind(path).map_err(|error| {
            let message = format!("cannot open the admin socket {}", path.display());
            Refusal::new(Exit::Wrong, message).because(&error)
        })?;
        let mut tcp = Vec::new();
        for address in &plan.admin_tcp {
            let opened = std::net::TcpListener::bind(address).and_then(|listener| {
                listener.set_nonblocking(true)?;
                Ok(listener)
            });
            tcp.push(opened.map_err(|error| {
                let message = format!("cannot open the admin API at {address}");
                Refusal::new(Exit::Wrong, message).because(&error)
            })?);
        }
        let token = if tcp.is_empty() {
            // Nobody is asked for it.
            String::new()
        } else {
            token(&plan.state_dir).map_err(|error| {
                let file = token_file(&plan.state_dir);
                let message = format!("cannot keep the token in {}", file.display());
                Refusal::new(Exit::Wrong, message).because(&error)
            })?
        };
        Ok(Self {
            unix,
            tcp,
            guard: Arc::new(Guard::new(&token, plan.admin_hosts.clone())),
        })
    }

    /// Serves it, for as long as the process lives.
    pub(crate) fn serve(self, api: Api, pages: StatusPages, state: &Path) -> io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(4)
            .build()?;
        for listener in &self.tcp {
            tracing::info!(
                address = %listener.local_addr()?,
                token = %token_file(state).display(),
                "dashboard and admin API are open to whoever shows the token"
            );
        }
        std::thread::Builder::new()
            .name("admin".to_owned())
            .spawn(move || {
                runtime.block_on(async {
                    tokio::spawn(pages.run(api.clone()));
                    for listener in self.tcp {
                        let serving = api.clone().serve_tcp(listener, Arc::clone(&self.guard));
                        tokio::spawn(async {
                            if let Err(error) = serving.await {
                                tracing::error!(%error, "the admin API over TCP ended");
                            }
                        });
                    }
                    if let Err(error) = api.serve_unix(self.unix).await {
                        tracing::error!(%error, "the admin API ended");
                    }
                });
            })?;
        Ok(())
    }
}

/// Opens the API's socket, readable by its owner alone. The state directory is locked, so that a
/// socket that is there already is a dead gateway's.
fn bind(path: &Path) -> io::Result<std::os::unix::net::UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let listener = std::os::unix::net::UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// The token: the same for as long as its file is there, and nobody else could read it.
fn token(state: &Path) -> io::Result<String> {
    let path = token_file(state);
    match std::fs::read_to_string(&path) {
        Ok(token) if token.trim().len() >= 16 => {
            let mode = std::fs::metadata(&path)?.permissions().mode();
            if mode & 0o077 == 0 {
                return Ok(token.trim().to_owned());
            }
            tracing::warn!(path = %path.display(), "others could read the token; there is a new one");
        }
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let mut bytes = [0; TOKEN];
    rand::fill(&mut bytes).map_err(|_| io::Error::other("no randomness"))?;
    let token = data_encoding::BASE64URL_NOPAD.encode(&bytes);
    replace(&path, &state.join("token%new"), &format!("{token}\n"))?;
    Ok(token)
}

//! `h2load`, of nghttp2: the client inside TLS, and of HTTP/2.

use std::io;
use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use super::task::Task;

/// What every client says of itself.
const FIELDS: [&str; 4] = [
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
    "Accept: text/html,application/xhtml+xml;q=0.9,*/*;q=0.8",
    "Accept-Language: en-US,en;q=0.5",
    "Cookie: session=0123456789abcdef0123456789abcdef",
];

/// What became of requests.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Served {
    pub(super) answered: u64,
    pub(super) failed: u64,
}

/// Asks once; whether there was an answer.
pub(super) fn asks(task: Task, target: SocketAddr) -> bool {
    let served = run(task, command(task, target).args(["-n", "1", "-c", "1"]));
    served.is_ok_and(|served| served.answered == 1)
}

/// Every place on every connection asks again as soon as it has its answer.
pub(super) fn saturate(task: Task, target: SocketAddr, lasting: Duration) -> io::Result<Served> {
    let (connections, requests) = task.shape();
    let mut command = command(task, target);
    command
        .args(["-c", &connections.to_string(), "-m", &requests.to_string()])
        .args(["-D", &lasting.as_secs_f64().to_string()]);
    run(task, &mut command)
}

fn command(task: Task, target: SocketAddr) -> Command {
    let mut command = Command::new("h2load");
    command.args(["-t", "1"]);
    if !task.is_h2() {
        command.arg("--h1");
    }
    for field in FIELDS {
        command.args(["-H", field]);
    }
    let scheme = match task.door() {
        Some(_) => "https",
        None => "http",
    };
    command.arg(format!("{scheme}://{target}/some/path?with=a&query=too"));
    command
}

fn run(task: Task, command: &mut Command) -> io::Result<Served> {
    let output = command.output().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => io::Error::other("h2load (nghttp2) is not installed"),
        _ => error,
    })?;
    let said = String::from_utf8_lossy(&output.stdout);
    let spoken = said
        .lines()
        .find_map(|line| line.strip_prefix("Application protocol: "));
    if spoken.is_some_and(|spoken| spoken.starts_with("h2") != task.is_h2()) {
        return Err(io::Error::other("another version of HTTP is spoken"));
    }
    served(&said).ok_or_else(|| {
        let last = said.trim_end().lines().last().unwrap_or_default();
        io::Error::other(format!("h2load ended with {}: {last}", output.status))
    })
}

/// What it says of its requests at the end.
fn served(said: &str) -> Option<Served> {
    let line = said
        .lines()
        .find_map(|line| line.strip_prefix("requests: "))?;
    let count = |word: &str| {
        let part = line.split(", ").find_map(|part| part.strip_suffix(word))?;
        part.trim().parse::<u64>().ok()
    };
    Some(Served {
        answered: count("succeeded")?,
        failed: count("failed")? + count("errored")? + count("timeout")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_it_says_is_understood() {
        let said = "finished in 5.01s, 42 req/s, 1KB/s\nrequests: 215 total, 219 started, 214 done, 210 succeeded, \
                    4 failed, 3 errored, 1 timeout\nstatus codes: 210 2xx\n";
        let wanted = Served {
            answered: 210,
            failed: 8,
        };
        assert_eq!(served(said), Some(wanted));
        assert_eq!(served("could not connect"), None);
    }
}

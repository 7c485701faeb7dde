//! Steady clients, each on a connection that it keeps.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use crate::bench::proxy::PROXY_PORT;

/// Clients that ask, and as many that post.
const CLIENTS: u64 = 20;
/// Between two requests of one client.
const EVERY: Duration = Duration::from_millis(20);
/// A client waits for so long.
const PATIENCE: Duration = Duration::from_secs(5);

/// What became of the requests of one round.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Seen {
    pub(super) asked: u64,
    pub(super) asked_in_vain: u64,
    /// The longest time from the moment a GET was due to its answer, in ms.
    pub(super) longest: f64,
    pub(super) posted: u64,
    pub(super) posted_in_vain: u64,
    pub(super) executed_twice: u64,
    /// Told that nothing was executed, and it was.
    pub(super) told_wrongly: u64,
    /// Not answered by the origin, and told that nobody knows; or not told at all.
    pub(super) unknown: u64,
    /// From the fault to its mending, in ms.
    pub(super) outage: Option<f64>,
}

/// What a client was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Served,
    NotProcessed,
    Unknown,
}

/// One request and its answer.
async fn exchange(stream: &mut BufReader<TcpStream>, request: &str) -> io::Result<Told> {
    stream.get_mut().write_all(request.as_bytes()).await?;
    let mut line = String::new();
    stream.read_line(&mut line).await?;
    let status: u16 = line
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok())
        .ok_or(io::ErrorKind::UnexpectedEof)?;
    let (mut length, mut says_not) = (0, false);
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await?;
        if line.trim().is_empty() {
            break;
        }
        let lower = line.to_ascii_lowercase();
        if let Some(value) = lower.strip_prefix("content-length:") {
            length = value.trim().parse().map_err(io::Error::other)?;
        }
        says_not |= lower.starts_with("proxy-status:")
            && (lower.contains("not processed") || lower.contains("destination_unavailable"));
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    Ok(match status {
        200 => Told::Served,
        _ if says_not => Told::NotProcessed,
        _ => Told::Unknown,
    })
}

async fn dial() -> io::Result<BufReader<TcpStream>> {
    let stream = TcpStream::connect(("127.0.0.1", PROXY_PORT)).await?;
    stream.set_nodelay(true)?;
    Ok(BufReader::new(stream))
}

/// One request on a connection that is kept, or on a fresh one.
async fn ask(kept: &mut Option<BufReader<TcpStream>>, request: &str) -> Told {
    let asked = async {
        if kept.is_none() {
            *kept = Some(dial().await?);
        }
        let stream = kept.as_mut().ok_or(io::ErrorKind::NotConnected)?;
        exchange(stream, request).await
    };
    match timeout(PATIENCE, asked).await {
        Ok(Ok(Told::Served)) => Told::Served,
        Ok(Ok(told)) => {
            *kept = None;
            told
        }
        Ok(Err(_)) | Err(_) => {
            *kept = None;
            Told::Unknown
        }
    }
}

/// Whether the preferred origin answers through the proxy.
pub(super) async fn is_served() -> bool {
    let mut kept = None;
    let request = "GET /look HTTP/1.1\r\nHost: bench\r\n\r\n";
    ask(&mut kept, request).await == Told::Served
}

/// All clients, for so long. Returns what they saw, and what each post was told.
pub(super) async fn run(begin: Instant, lasting: Duration) -> (Seen, BTreeMap<String, bool>) {
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        clients.spawn(client(begin, lasting, number, false));
        clients.spawn(client(begin, lasting, number, true));
    }
    let (mut seen, mut denied) = (Seen::default(), BTreeMap::new());
    while let Some(Ok((own, own_denied))) = clients.join_next().await {
        seen.asked += own.asked;
        seen.asked_in_vain += own.asked_in_vain;
        seen.longest = seen.longest.max(own.longest);
        seen.posted += own.posted;
        seen.posted_in_vain += own.posted_in_vain;
        seen.unknown += own.unknown;
        denied.extend(own_denied);
    }
    (seen, denied)
}

async fn client(
    begin: Instant,
    lasting: Duration,
    number: u64,
    posts: bool,
) -> (Seen, BTreeMap<String, bool>) {
    let (mut seen, mut denied) = (Seen::default(), BTreeMap::new());
    let mut kept = None;
    // They do not ask in step.
    let mut due = begin + EVERY * u32::try_from(number).unwrap_or(0) / CLIENTS as u32;
    let mut turn = 0;
    while due < begin + lasting {
        sleep_until(due).await;
        turn += 1;
        if posts {
            let id = format!("/{number}-{turn}");
            let request =
                format!("POST {id} HTTP/1.1\r\nHost: bench\r\nContent-Length: 4\r\n\r\nbody");
            let told = ask(&mut kept, &request).await;
            seen.posted += 1;
            seen.posted_in_vain += u64::from(told != Told::Served);
            seen.unknown += u64::from(told == Told::Unknown);
            denied.insert(id, told == Told::NotProcessed);
        } else {
            let request = "GET / HTTP/1.1\r\nHost: bench\r\n\r\n";
            let told = ask(&mut kept, request).await;
            seen.asked += 1;
            seen.asked_in_vain += u64::from(told != Told::Served);
            seen.longest = seen.longest.max(due.elapsed().as_secs_f64() * 1e3);
        }
        due += EVERY;
        // Who had to wait does not catch up.
        due = due.max(Instant::now());
    }
    (seen, denied)
}

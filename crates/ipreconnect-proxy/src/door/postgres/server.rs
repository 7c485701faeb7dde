//! The server behind: whether it asks a client who it is, and requests to cancel.

use std::io;
use std::time::Duration;

use ipreconnect::Origin;
use ipreconnect::core::address::EndpointId;
use ipreconnect::core::postgres::{self, LONGEST_ANSWER};
use ipreconnect::socket::Socket;
use ipreconnect::tls::Session as Tls;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::talk::Talk;

/// For a server's first answer (`authentication_timeout`).
const FIRST_ANSWER: Duration = Duration::from_secs(60);
/// Servers that a request to cancel is passed on to, and the time for that.
const SERVERS: usize = 16;
const PATIENCE: Duration = Duration::from_secs(10);

/// Sends what a client has said to its server, and looks whether that asks who it is. What the server says stays
/// in the kernel, or is returned with its TLS.
///
/// Cancel safety: the connection is of no use afterwards.
pub(crate) async fn is_asked(
    server: &Socket,
    tls: Option<Box<Tls>>,
    early: &[u8],
) -> io::Result<(bool, Option<Box<Tls>>, Vec<u8>)> {
    let mut talk = Talk::resume(server, tls);
    let asked = async {
        talk.say(early).await?;
        let read = |bytes: &[u8]| postgres::asks(bytes).map(|asks| (0, asks));
        let answered = talk.whole(LONGEST_ANSWER, read).await;
        answered.map_err(|turned| io::Error::other(turned.to_string()))
    };
    let (_, asks) = tokio::time::timeout(FIRST_ANSWER, asked)
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    let (tls, said) = talk.into_parts();
    Ok((asks, tls, said))
}

/// Requests to cancel that are passed on at once, over all workers: each may open many connections.
static CANCELS: Semaphore = Semaphore::const_new(16);

/// Passes a request to cancel on. Only the server that runs the query knows the key in it, and which one that
/// is nobody has told us: all get it that carry a session. One that is one too many is lost, as any may be.
pub(crate) async fn cancel(origins: &[&Origin], request: &[u8]) {
    let Ok(_permit) = CANCELS.try_acquire() else {
        return;
    };
    let mut passed = JoinSet::new();
    for origin in origins {
        let snapshot = origin.snapshot();
        let carry = snapshot.endpoints().filter(|(_, meter)| meter.open() > 0);
        for (endpoint, _) in carry {
            if passed.len() >= SERVERS {
                break;
            }
            let (origin, endpoint) = (Origin::clone(origin), endpoint.id);
            passed.spawn(pass(origin, endpoint, request.to_vec()));
        }
    }
    // A request to cancel is never answered, whatever becomes of it.
    let _ = tokio::time::timeout(PATIENCE, passed.join_all()).await;
}

async fn pass(origin: Origin, endpoint: EndpointId, request: Vec<u8>) -> io::Result<()> {
    let link = origin.connect_to(endpoint).await;
    let mut link = link.map_err(io::Error::other)?;
    link.write_all(&request).await?;
    link.flush().await?;
    // The server closes when it is done, and for that the client waits.
    let mut nowhere = [0; 16];
    while link.read(&mut nowhere).await? > 0 {}
    Ok(())
}

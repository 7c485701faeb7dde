//! TLS of a connection that is taken apart.

use std::future::poll_fn;
use std::time::Duration;

use ipreconnect_core::address::{Address, EntryId};
use ipreconnect_core::failure::{Cause, Failure};

use super::{FirstByte, Terms, heard};
use crate::clock;
use crate::dial::Dialer;
use crate::settings::Place;
use crate::socket::Socket;
use crate::target::Target;
use crate::tls::{Certificate, Connector, Received, Session};

/// How long the tickets to resume a session are waited for.
const TICKETS: Duration = Duration::from_millis(50);

/// TLS on the winner's connection.
#[derive(Clone, Debug)]
pub struct Shaken {
    /// Until the handshake was complete and the server verified, or failed to.
    pub took: Duration,
    /// Why it failed, if it did.
    pub failure: Option<Failure>,
    /// The version, the suite and the group.
    pub version: String,
    /// The protocol that was agreed upon (ALPN).
    pub alpn: Option<String>,
    /// What the server showed of itself.
    pub certificate: Option<Certificate>,
    /// The handshake of a second connection, if it resumed the session of the first.
    pub resumed: Option<Duration>,
}

/// What makes the handshakes of a probe.
pub(super) fn shaker(target: &Target, terms: &Terms) -> Option<Connector> {
    let place = Place {
        target: target.clone(),
        priority: 0,
        weight: 1,
    };
    let tls = terms.tls.as_ref()?;
    Some(Connector::new(tls, std::slice::from_ref(&place)))
}

/// One handshake on a connected socket.
async fn shake(
    connector: &Connector,
    socket: &Socket,
    patience: Duration,
) -> (Shaken, Option<Box<Session>>) {
    let began = clock::now();
    let handshake = connector.handshake(socket, EntryId(0));
    let made = tokio::time::timeout(patience, handshake).await;
    let made = made.unwrap_or_else(|_| Err(Failure::new(Cause::TimedOut)));
    let mut shaken = Shaken {
        took: began.elapsed(),
        failure: None,
        version: String::new(),
        alpn: None,
        certificate: None,
        resumed: None,
    };
    match made {
        Ok((session, proof)) => {
            let suite = session.suite().unwrap_or_default();
            shaken.version = format!("{}, {suite}", session.version());
            let alpn = session.alpn();
            shaken.alpn = alpn.map(|alpn| String::from_utf8_lossy(alpn).into_owned());
            shaken.certificate = Some((*proof.certificate).clone());
            (shaken, Some(session))
        }
        Err(failure) => {
            shaken.failure = Some(failure);
            (shaken, None)
        }
    }
}

/// The handshake of another connection, if it resumes the session of the one before.
async fn again(connector: &Connector, address: &Address, terms: &Terms) -> Option<Duration> {
    let dial = Dialer::default();
    let dialled = tokio::time::timeout(terms.timeout, dial.connect(address)).await;
    let socket = dialled.ok()?.ok()?;
    let (shaken, session) = shake(connector, &socket, terms.timeout).await;
    session
        .is_some_and(|session| session.is_resumed())
        .then_some(shaken.took)
}

/// Waits for the server to speak first inside TLS. Its tickets are no words.
async fn listen_inside(session: &mut Session, socket: &Socket, terms: &Terms) -> FirstByte {
    let began = clock::now();
    let spoke = async {
        loop {
            let mut said = 0;
            let received =
                poll_fn(|cx| session.poll_receive(cx, socket, &mut |bytes| said += bytes.len()));
            match received.await {
                Ok(Received::Bytes(_)) if said == 0 => {}
                Ok(Received::Bytes(_)) => return true,
                Ok(Received::Closed | Received::Truncated) | Err(_) => return false,
            }
        }
    };
    heard(
        tokio::time::timeout(terms.first_byte, spoke).await.ok(),
        began,
    )
}

/// The handshake, who speaks first inside, and what another connection saves by it.
pub(super) async fn inspect(
    connector: &Connector,
    socket: &Socket,
    address: &Address,
    terms: &Terms,
) -> (Shaken, Option<FirstByte>) {
    let (shaken, session) = shake(connector, socket, terms.timeout).await;
    let Some(mut session) = session else {
        return (shaken, None);
    };
    let first_byte = listen_inside(&mut session, socket, terms).await;
    // What is not taken is not needed.
    let _ = session.close(socket);
    let resumed = again(connector, address, terms).await;
    (Shaken { resumed, ..shaken }, Some(first_byte))
}

/// How long one handshake takes.
pub(super) async fn shaken(
    connector: &Connector,
    socket: &Socket,
    terms: &Terms,
) -> Result<Duration, Failure> {
    let (shaken, session) = shake(connector, socket, terms.timeout).await;
    if let Some(mut session) = session {
        // The tickets to resume it come behind the handshake.
        let tickets = poll_fn(|cx| session.poll_receive(cx, socket, &mut |_| {}));
        let _ = tokio::time::timeout(TICKETS, tickets).await;
        let _ = session.close(socket);
    }
    shaken.failure.map_or(Ok(shaken.took), Err)
}

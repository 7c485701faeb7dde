//! One connection through the link: held, dialled, carried both ways, ended.

use super::Link;
use super::pump::{Pump, Severed};
use crate::link::Way;
use crate::link::board::Signal;
use crate::link::part::Opening;
use crate::rooms::Room;
use socket2::SockRef;
use std::io;
use std::sync::Arc;
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::watch;

/// The connection is at its end, and both sides are told by a reset.
#[derive(Debug)]
pub(super) struct Broken;

/// Carries the client until both ways have ended, or it breaks. `born` is the count of resets that
/// it does not answer for.
pub(super) async fn carry(link: Arc<Link>, client: TcpStream, _room: Room, born: u64) {
    let mut signal = link.board.watch();
    let broken = async { broken(&mut signal, born).await };
    tokio::pin!(broken);

    let dialled = tokio::select! {
        biased;
        () = &mut broken => Err(Broken),
        dialled = dial(&link) => dialled,
    };
    let Ok(origin) = dialled else {
        return reset(&client);
    };
    let outcome = tokio::select! {
        biased;
        () = broken => Err(Broken),
        outcome = both_ways(&link, &client, &origin) => outcome,
    };
    if outcome.is_err() {
        reset(&client);
        reset(&origin);
    }
}

/// Waits until the link lets the connection through, and connects.
async fn dial(link: &Link) -> Result<TcpStream, Broken> {
    let mut signal = link.board.watch();
    loop {
        signal.borrow_and_update();
        match link.board.opening() {
            Opening::Held => signal.changed().await.map_err(|_| Broken)?,
            Opening::Reset => return Err(Broken),
            // What is here was accepted before the port was closed.
            Opening::Carried | Opening::Refused => break,
        }
    }
    connect(link).await.map_err(|_| Broken)
}

async fn connect(link: &Link) -> io::Result<TcpStream> {
    let socket = if link.upstream.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    // The origin may have accepted when a reset cuts the dial short: it hears of it.
    socket.set_zero_linger()?;
    let origin = socket.connect(link.upstream).await?;
    SockRef::from(&origin).set_linger(None)?;
    origin.set_nodelay(true)?;
    Ok(origin)
}

async fn both_ways(link: &Link, client: &TcpStream, origin: &TcpStream) -> Result<(), Broken> {
    // It only costs time, and only on a connection that is gone already.
    let _ = client.set_nodelay(true);
    let severed = Severed::default();
    let to_origin = Pump::new(link, &severed, Way::ToOrigin, client, origin);
    let to_client = Pump::new(link, &severed, Way::ToClient, origin, client);
    tokio::try_join!(to_origin.run(), to_client.run()).map(|_| ())
}

/// Returns when the connection is to be reset by order.
async fn broken(signal: &mut watch::Receiver<Signal>, born: u64) {
    // Without a sender there is no link either.
    let _ = signal
        .wait_for(|signal| signal.over || signal.resets != born)
        .await;
}

/// Makes the closing of the socket a reset.
fn reset(stream: &TcpStream) {
    // It can only fail on a socket that is gone already.
    let _ = stream.set_zero_linger();
}

//! Senders that pace themselves, and where that is in vain.
//!
//! BBR sends by a timer, so as not to fill queues on its way. Between two programs of one machine there
//! is no queue to fill, and the timers cost more than all the rest of carrying bytes.

use std::net::{IpAddr, SocketAddr};

use ipreconnect::socket::Socket;
use rustix::net::sockopt::{set_tcp_congestion, tcp_congestion};
use rustix::net::{getpeername, getsockname};

/// A congestion control that every kernel has, and that anybody may choose (tcp(7)).
const UNPACED: &str = "reno";

/// Lets a socket whose peer is on this machine send without pacing.
pub(super) fn lift(socket: &Socket) {
    let paces = tcp_congestion(socket.get_ref()).is_ok_and(|name| name.starts_with("bbr"));
    if paces && stays_here(socket) {
        // Pacing costs time, and nothing else.
        let _ = set_tcp_congestion(socket.get_ref(), UNPACED);
    }
}

fn stays_here(socket: &Socket) -> bool {
    let ip = |address: SocketAddr| -> IpAddr { address.ip().to_canonical() };
    let peer = getpeername(socket.get_ref()).ok().flatten();
    let peer = peer
        .and_then(|peer| SocketAddr::try_from(peer).ok())
        .map(ip);
    let local = getsockname(socket.get_ref()).ok();
    let local = local
        .and_then(|local| SocketAddr::try_from(local).ok())
        .map(ip);
    peer.is_some_and(|peer| peer.is_loopback() || Some(peer) == local)
}

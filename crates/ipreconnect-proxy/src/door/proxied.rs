//! Connections that a proxy before this one brings: its header says whose they are.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use ipreconnect::core::carried::{Carried, Header, LONGEST, read};
use ipreconnect::core::http::is_trusted;
use ipreconnect::socket::Socket;
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use tokio::io::Interest;

/// A proxy says whose connection it brings as soon as it is there.
const PATIENCE: Duration = Duration::from_secs(5);

/// What becomes of the header of the PROXY protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ProxyProtocol {
    /// It is not looked for.
    #[default]
    Off,
    /// It is taken from proxies that are trusted; others come in as they are.
    Accept,
    /// Nobody comes in without it.
    Require,
}

/// How connections are brought.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proxied {
    /// What becomes of headers.
    pub protocol: ProxyProtocol,
    /// The proxies that are believed.
    pub trust: Vec<IpNet>,
    /// Whether those are that come over a Unix socket.
    pub trusts_local: bool,
}

impl Proxied {
    /// Whether anything is looked for.
    pub(crate) fn is_on(&self) -> bool {
        self.protocol != ProxyProtocol::Off
    }

    /// Takes the header off a connection from this address; `None` if it has none. The error says why the
    /// client does not come in.
    ///
    /// Cancel safety: the connection is of no use afterwards.
    pub(crate) async fn take(
        &self,
        client: &Socket,
        from: Option<IpAddr>,
    ) -> Result<Option<Carried>, &'static str> {
        let is_believed = match from {
            Some(from) => is_trusted(&self.trust, from),
            None => self.trusts_local,
        };
        match (self.protocol, is_believed) {
            (ProxyProtocol::Off, _) | (ProxyProtocol::Accept, false) => return Ok(None),
            (ProxyProtocol::Require, false) => {
                return Err("only proxies of `proxy_trust` may connect here");
            }
            (ProxyProtocol::Accept | ProxyProtocol::Require, true) => {}
        }
        let header = tokio::time::timeout(PATIENCE, whole(client)).await;
        match (header, self.protocol) {
            (Ok(Header::Whole(_, carried)), _) => Ok(Some(carried)),
            (Ok(Header::Broken(why)), _) => Err(why),
            (Ok(Header::Absent), ProxyProtocol::Accept) => Ok(None),
            (Ok(Header::Absent), _) => Err("it has no header of the PROXY protocol"),
            (Ok(Header::More), _) => Err("it left within its header"),
            // Who says nothing waits for the origin to speak.
            (Err(_), ProxyProtocol::Accept) if is_silent(client) => Ok(None),
            (Err(_), _) => Err("its header did not come in time"),
        }
    }
}

fn is_silent(client: &Socket) -> bool {
    let peeked = recv(client.get_ref(), &mut [0; 1], RecvFlags::PEEK);
    matches!(peeked, Err(Errno::AGAIN))
}

/// Waits for the whole header and takes it; what is behind it stays in the kernel for whoever is next.
async fn whole(client: &Socket) -> Header {
    loop {
        let Ok(mut guard) = client.ready(Interest::READABLE).await else {
            return Header::More;
        };
        let is_over = guard.ready().is_read_closed();
        let mut bytes = [0; LONGEST];
        let header = match recv(client.get_ref(), &mut bytes[..], RecvFlags::PEEK) {
            Ok((_, 0)) => return Header::More,
            Ok((_, count)) => read(bytes.get(..count).unwrap_or_default()),
            Err(Errno::AGAIN) => {
                guard.clear_ready();
                continue;
            }
            Err(Errno::INTR) => continue,
            Err(_) => return Header::More,
        };
        match header {
            Header::More if is_over => return Header::More,
            Header::More => guard.clear_ready(),
            Header::Whole(length, carried) => {
                let taken = bytes.get_mut(..length).unwrap_or_default();
                // It was there a moment ago, and nobody else reads.
                return match recv(client.get_ref(), taken, RecvFlags::empty()) {
                    Ok((_, count)) if count == length => Header::Whole(length, carried),
                    _ => Header::More,
                };
            }
            other => return other,
        }
    }
}

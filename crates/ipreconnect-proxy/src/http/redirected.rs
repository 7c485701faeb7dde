//! Clients that the kernel has led here on their way elsewhere (`redirect` of nftables): they know nothing of a proxy.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::time::Duration;

use ipreconnect::clock;
use ipreconnect::core::forward::{Host, Target};
use ipreconnect::core::hello::{self, Hello};
use rustix::net::{AddressFamily, getsockname, sockopt};

use super::client::{Client, More};
use super::guest::{Guest, Place as Seat};
use super::record::{self, End, Record, Said, When, Who};
use super::through;
use super::tunnel::Tunnel;
use crate::forward::{Place, Refusal};
use crate::l4;
use crate::notice;

/// There are servers that speak first: whoever says nothing by then waits for one.
const PATIENCE: Duration = Duration::from_millis(300);
/// The first byte of a record of TLS that has a handshake (RFC 8446, section 5.1).
const HANDSHAKE: u8 = 22;

/// Where a client wanted to go before it was led here; none, if it came by itself.
pub(super) fn original(client: &Client) -> Option<SocketAddr> {
    let socket = client.wire.socket();
    let own = getsockname(socket).ok()?;
    let to: SocketAddr = match own.address_family() {
        AddressFamily::INET6 => match sockopt::ipv6_original_dst(socket) {
            Ok(to) => to.into(),
            Err(_) => sockopt::ip_original_dst(socket).ok()?.into(),
        },
        AddressFamily::INET => sockopt::ip_original_dst(socket).ok()?.into(),
        _ => return None,
    };
    let own = SocketAddr::try_from(own).ok()?;
    let canonical = |address: SocketAddr| (address.ip().to_canonical(), address.port());
    (canonical(own) != canonical(to)).then_some(to)
}

/// What a client that was led here begins with.
enum Begins {
    /// A request, which says where it goes.
    Http,
    /// TLS, for this name if it says one.
    Tls(Option<String>),
    /// Something else, or nothing.
    Other,
    /// It has gone.
    Gone,
}

/// Carries a client where it wanted to go, unless it speaks HTTP: then it comes back.
pub(super) async fn serve(
    mut client: Client,
    guest: Guest,
    seat: Seat,
    to: SocketAddr,
) -> Option<(Client, Guest, Seat)> {
    let to = SocketAddr::new(to.ip().to_canonical(), to.port());
    let host = match begins(&mut client, &seat).await {
        Begins::Http => return Some((client, guest.led_to(to), seat)),
        Begins::Gone => {
            guest.ended(l4::End::ByClient);
            return None;
        }
        // What it names is judged; where it goes is what it wanted.
        Begins::Tls(Some(name)) => Host::parse(name.as_bytes()).ok(),
        Begins::Tls(None) | Begins::Other => None,
    };
    drop(seat);
    let target = Target {
        host: host.unwrap_or(Host::Ip(to.ip())),
        port: to.port(),
    };
    let mut record = Record::new(clock::now(), "TCP");
    guest.asks();
    match open(&guest, &target, to, &mut record).await {
        Ok(tunnel) => {
            guest.ended(l4::End::ByClient);
            tunnel.carry(client, guest);
        }
        Err(refusal) => {
            if refusal.is_denied {
                notice::refused(guest.name(), guest.from(), &refusal.words());
            }
            record.journey().refused(&refusal);
            record.end = match refusal.is_denied {
                true => End::by(Who::Proxy, When::Request),
                false => End::by(Who::Server, When::Connect),
            };
            tell(&guest, &record, &target);
            // Nobody takes it for the end of what was wanted.
            client.wire.abort();
            guest.ended(l4::End::ByOrigin);
        }
    }
    None
}

async fn open(
    guest: &Guest,
    target: &Target,
    to: SocketAddr,
    record: &mut Record,
) -> Result<Tunnel, Refusal> {
    let Some(forward) = &guest.site().forward else {
        return Err(Refusal::direct());
    };
    if guest.is_asked() {
        let why = "who is led here cannot show who he is, and the rules ask for that";
        return Err(Refusal::uncarried(403, why));
    }
    let stay = forward
        .enter(|| guest.account(record))
        .map_err(Refusal::over)?;
    let place: Place = forward.place_at(target, to)?;
    let reached = through::reach(&place).await?;
    through::note_would_be(record, guest, &place);
    record.status = 200;
    record.reached(&reached);
    let record = std::mem::replace(record, Record::new(clock::now(), "TCP"));
    Ok(Tunnel::through(reached.parts, (record, stay), target))
}

fn tell(guest: &Guest, record: &Record, target: &Target) {
    let target = target.to_string();
    let said = Said {
        listener: guest.name(),
        origin: "",
        from: guest.from(),
        method: b"CONNECT",
        host: b"",
        target: target.as_bytes(),
        protocol: record.protocol,
        referer: None,
        agent: None,
    };
    record::tell(clock::now(), record, &said);
}

async fn begins(client: &mut Client, seat: &Seat) -> Begins {
    client.timer.set(clock::now(), PATIENCE);
    loop {
        match client.input.first() {
            None => {}
            Some(&HANDSHAKE) => match hello::read(&client.input) {
                Hello::More => {}
                Hello::Tls(hello) => return Begins::Tls(hello.name),
                Hello::Broken | Hello::NotTls => return Begins::Tls(None),
            },
            Some(first) if first.is_ascii_uppercase() && !client.input.starts_with(b"PRI ") => {
                return Begins::Http;
            }
            Some(_) => return Begins::Other,
        }
        match poll_fn(|cx| client.poll_head(cx, seat)).await {
            More::Came => {}
            More::Ended if client.input.is_empty() => return Begins::Gone,
            More::Ended | More::Late => return Begins::Other,
        }
    }
}

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
use super::reach::reach_for;
use super::record::{self, End, Record, When, Who};
use super::tunnel::Tunnel;
use super::wire::Half;
use crate::forward::{Forward, Place, Refusal, Stay};
use crate::l4;

/// There are servers that speak first: whoever says nothing by then waits for one.
const PATIENCE: Duration = Duration::from_millis(300);
/// No method is longer.
const LONGEST_METHOD: usize = 24;
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
    let host = match begins(&mut client, &seat, guest.limits().head).await {
        Begins::Http => return Some((client, guest.led_to(to), seat)),
        Begins::Gone => {
            guest.ended(l4::End::ByClient);
            return None;
        }
        // What it names is judged; where it goes is what it wanted.
        Begins::Tls(Some(name)) => match Host::parse(name.as_bytes()) {
            // Those are no names there (RFC 6066, section 3), and would be judged in place of the right one.
            Ok(Host::Ip(_)) | Err(_) => None,
            Ok(host) => Some(host),
        },
        Begins::Tls(None) | Begins::Other => None,
    };
    drop(seat);
    let target = Target {
        host: host.unwrap_or(Host::Ip(to.ip())),
        port: to.port(),
    };
    let mut record = Record::new(clock::now(), "TCP");
    guest.asks();
    match open((&client, &guest), &target, to, &mut record).await {
        Some(Ok(tunnel)) => {
            guest.ended(l4::End::ByClient);
            tunnel.carry(client, guest);
            return None;
        }
        Some(Err(refusal)) => {
            record.refused(&guest, &refusal);
            guest.ended(l4::End::ByOrigin);
        }
        None => {
            record.end = End::by(Who::Client, When::Connect);
            guest.ended(l4::End::ByClient);
        }
    }
    record::tell_of(&guest, &record, (b"CONNECT", &target.to_string()));
    // Nobody takes it for the end of what was wanted.
    client.wire.abort();
    None
}

/// The way there; none, if the client has gone meanwhile.
async fn open(
    (client, guest): (&Client, &Guest),
    target: &Target,
    to: SocketAddr,
    record: &mut Record,
) -> Option<Result<Tunnel, Refusal>> {
    let Some(forward) = &guest.site().forward else {
        return Some(Err(Refusal::direct()));
    };
    let admitted = admit((guest, forward), target, to, record);
    let (place, stay) = match admitted {
        Ok(admitted) => admitted,
        Err(refusal) => return Some(Err(refusal)),
    };
    let reached = reach_for((record, guest), (&place, forward.via()), |cx| {
        client.wire.poll_gone(cx, Half::Listens)
    });
    let reached = match reached.await? {
        Ok(reached) => reached,
        Err(refusal) => return Some(Err(refusal)),
    };
    record.status = 200;
    record.reached(&reached);
    let record = std::mem::replace(record, Record::new(clock::now(), "TCP"));
    Some(Ok(Tunnel::through(reached.parts, (record, stay), target)))
}

fn admit(
    (guest, forward): (&Guest, &Forward),
    target: &Target,
    to: SocketAddr,
    record: &Record,
) -> Result<(Place, Option<Stay>), Refusal> {
    if guest.is_asked() {
        let why = "who is led here cannot show who he is, and the rules ask for that";
        return Err(Refusal::unnamed(why));
    }
    guest.may_ask().map_err(Refusal::often)?;
    let stay = forward.enter(|| guest.account(record));
    let stay = stay.map_err(Refusal::over)?;
    Ok((forward.place_at(target, to)?, stay))
}

async fn begins(client: &mut Client, seat: &Seat, patience: Duration) -> Begins {
    client.timer.set(clock::now(), PATIENCE);
    let mut is_tls = false;
    loop {
        match client.input.first() {
            None => {}
            Some(&HANDSHAKE) => match hello::read(&client.input) {
                // Whoever takes his time with the name is not let through without it.
                Hello::More if !is_tls => {
                    is_tls = true;
                    client.timer.set(clock::now(), patience);
                }
                Hello::More => {}
                Hello::Tls(hello) => return Begins::Tls(hello.name),
                Hello::Broken => return Begins::Gone,
                Hello::NotTls => return Begins::Other,
            },
            Some(_) => match is_http(&client.input) {
                Some(true) => return Begins::Http,
                Some(false) => return Begins::Other,
                None => {}
            },
        }
        match poll_fn(|cx| client.poll_head(cx, seat)).await {
            More::Came => {}
            More::Ended | More::Late if is_tls => return Begins::Gone,
            More::Ended if client.input.is_empty() => return Begins::Gone,
            More::Ended | More::Late => return Begins::Other,
        }
    }
}

/// Whether something begins as requests do: a method, and what is asked for. `None` as long as nobody can say.
fn is_http(input: &[u8]) -> Option<bool> {
    let is_letter = |byte: &u8| byte.is_ascii_uppercase() || *byte == b'-';
    let length = input.iter().take_while(|byte| is_letter(byte)).count();
    match (input.get(length), input.get(length + 1)) {
        (None, _) if length <= LONGEST_METHOD => None,
        (Some(b' '), None) if length > 0 => None,
        // That of HTTP/2 is carried as it is.
        (Some(b' '), Some(b'*')) => Some(input.starts_with(b"OPTIONS")),
        (Some(b' '), Some(b'/' | b'h')) => Some(length > 0),
        _ => Some(false),
    }
}

#[cfg(test)]
mod tests {
    use super::is_http;

    #[test]
    fn requests_are_told_from_what_only_looks_like_them() {
        for (text, wanted) in [
            ("GET / HTTP/1.1", Some(true)),
            ("PROPFIND /a HTTP/1.1", Some(true)),
            ("GET http://example.com/ HTTP/1.1", Some(true)),
            ("OPTIONS * HTTP/1.1", Some(true)),
            ("G", None),
            ("GET ", None),
            ("PRI * HTTP/2.0", Some(false)),
            ("SSH-2.0-OpenSSH", Some(false)),
            ("NICK ann", Some(false)),
            ("PING\r\n", Some(false)),
            (" /", Some(false)),
            ("*1\r\n", Some(false)),
            ("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", Some(false)),
        ] {
            assert_eq!(is_http(text.as_bytes()), wanted, "{text}");
        }
    }
}

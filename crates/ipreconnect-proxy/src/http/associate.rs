//! Datagrams of clients of SOCKS5 (RFC 1928, section 7), for as long as their connection lasts.
//!
//! What comes of the client is judged one by one, as connections are; back comes only what those say that it has
//! spoken to, with their own address.

use std::cell::RefCell;
use std::collections::{BTreeSet, VecDeque};
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ipreconnect::clock;
use ipreconnect::core::address::Address;
use ipreconnect::core::forward::Target;
use ipreconnect::core::forward::socks;
use rustix::net::getsockname;
use socket2::{Domain, Type};
use tokio::net::UdpSocket;
use tokio::task::JoinSet;

use super::client::Client;
use super::guest::Guest;
use super::reach::note_would_be;
use super::record::Record;
use crate::forward::{Forward, Place, Refusal, Stay};
use crate::l4::End;
use crate::notice;

/// The longest datagram, with the head that SOCKS has before it.
const LONGEST: usize = 65_535 + 262;
/// Datagrams that wait for their host to be looked up.
const LOOKUPS: usize = 64;
/// Those that the client has spoken to, of late.
const PARTNERS: usize = 1024;

thread_local! {
    /// The datagram that is looked at.
    static HEARD: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// What is carried for one client.
pub(super) struct Association {
    /// Where the client reaches us.
    near: UdpSocket,
    /// Where all others do.
    far: UdpSocket,
    far_is_v6: bool,
    /// The client's own address, as far as it is known: its port may be 0.
    client: SocketAddr,
    partners: Partners,
    stay: Option<Stay>,
    /// Where it has gone first.
    pub(super) first: Option<Target>,
}

/// A datagram whose host is being looked up.
type Found = (
    Arc<Place>,
    Vec<u8>,
    Result<Option<Duration>, ipreconnect::Error>,
);

impl Association {
    /// Opens both sockets; `told` is what the client says of where its datagrams will come from.
    pub(super) fn open(
        client: &Client,
        guest: &Guest,
        told: Option<&Target>,
        stay: Option<Stay>,
    ) -> io::Result<Self> {
        let here = getsockname(client.wire.socket())?;
        let here = SocketAddr::try_from(here).map_err(|_| io::ErrorKind::Unsupported)?;
        let near = bind(here.ip(), false)?;
        let from = guest.peer().map(|peer| peer.ip());
        let from = from.ok_or(io::ErrorKind::Unsupported)?;
        let (far, far_is_v6) = match bind(Ipv6Addr::UNSPECIFIED.into(), true) {
            Ok(far) => (far, true),
            // There are machines without IPv6.
            Err(_) => (bind(Ipv4Addr::UNSPECIFIED.into(), false)?, false),
        };
        Ok(Self {
            near,
            far,
            far_is_v6,
            client: SocketAddr::new(from, told.map_or(0, |told| told.port)),
            partners: Partners::default(),
            stay,
            first: None,
        })
    }

    /// The address that the client's datagrams are to go to.
    pub(super) fn bound(&self) -> io::Result<SocketAddr> {
        let bound = self.near.local_addr()?;
        Ok(SocketAddr::new(bound.ip().to_canonical(), bound.port()))
    }

    /// Carries datagrams until the client's connection ends.
    pub(super) async fn run(
        &mut self,
        client: &mut Client,
        guest: &mut Guest,
        record: &mut Record,
    ) -> End {
        let mut found: JoinSet<Found> = JoinSet::new();
        let idle = guest.idle();
        let mut deadline = clock::now() + idle;
        loop {
            let (up, down) = tokio::select! {
                biased;
                () = ended(client) => return End::ByClient,
                ready = self.near.readable() => {
                    // Its port is ours for as long as it is open: what is wrong with it is wrong with one datagram.
                    drop(ready);
                    if !is_welcome(guest) {
                        return End::Drained;
                    }
                    (self.hear((record, guest), &mut found).unwrap_or(0), 0)
                }
                Some(one) = found.join_next() => {
                    let Ok((place, data, looked_up)) = one else {
                        continue;
                    };
                    if let Err(error) = looked_up {
                        refused(guest, &Refusal::away(place.target(), &error));
                        continue;
                    }
                    (self.send((record, guest), &place, &data).unwrap_or(0), 0)
                }
                ready = self.far.readable() => {
                    drop(ready);
                    if !is_welcome(guest) {
                        return End::Drained;
                    }
                    (0, self.hear_back().unwrap_or(0))
                }
                () = tokio::time::sleep_until(deadline.into()) => return End::Idle,
            };
            if up + down > 0 {
                deadline = clock::now() + idle;
                record.bytes_in += up as u64;
                record.bytes_out += down as u64;
                guest.counts_up(up);
                guest.counts_down(down);
                let stay = self.stay.as_ref();
                if stay.is_some_and(|stay| !stay.counts((up + down) as u64)) {
                    return End::Closed;
                }
            }
        }
    }

    /// Takes one datagram of the client.
    fn hear(
        &mut self,
        (record, guest): (&mut Record, &Guest),
        found: &mut JoinSet<Found>,
    ) -> Option<usize> {
        HEARD.with_borrow_mut(|heard| {
            heard.resize(LONGEST, 0);
            let (count, from) = self.near.try_recv_from(heard).ok()?;
            let data = heard.get(..count)?;
            let forward = guest.site().forward.as_ref()?;
            self.is_of_client(from)
                .then(|| self.take(data, (record, guest), forward, found))?
        })
    }

    /// Takes one datagram of somebody else.
    fn hear_back(&self) -> Option<usize> {
        HEARD.with_borrow_mut(|heard| {
            heard.resize(LONGEST, 0);
            let (count, from) = self.far.try_recv_from(heard).ok()?;
            self.pass_back(heard.get(..count)?, from)
        })
    }

    /// Whether a datagram comes of the client; the first one says from which port those come.
    fn is_of_client(&mut self, from: SocketAddr) -> bool {
        let from = SocketAddr::new(from.ip().to_canonical(), from.port());
        if self.client.ip() != from.ip() {
            return false;
        }
        if self.client.port() == 0 {
            self.client = from;
        }
        self.client == from
    }

    /// Sends a datagram of the client where it says, or has that looked up first; returns its length.
    fn take(
        &mut self,
        heard: &[u8],
        (record, guest): (&mut Record, &Guest),
        forward: &Forward,
        found: &mut JoinSet<Found>,
    ) -> Option<usize> {
        // What cannot be read, and fragments, are dropped: nobody waits for an answer.
        let (target, data) = socks::datagram(heard).ok()?;
        let place = match forward.place(&target) {
            Ok(place) => place,
            Err(refusal) => {
                refused(guest, &refusal);
                return None;
            }
        };
        if !place.is_direct() {
            let why = "datagrams do not go by other proxies, and there is no other way there";
            refused(guest, &Refusal::wayless(&target, why));
            return None;
        }
        self.first.get_or_insert(target);
        if place.is_found() {
            return self.send((record, guest), &place, data);
        }
        if found.len() < LOOKUPS {
            let data = data.to_vec();
            found.spawn(async move {
                let looked_up = place.origin().find().await;
                (place, data, looked_up)
            });
        }
        None
    }

    fn send(
        &mut self,
        (record, guest): (&mut Record, &Guest),
        place: &Place,
        data: &[u8],
    ) -> Option<usize> {
        let to = place.origin().look(|snapshot| {
            let endpoints = snapshot.view().endpoints.iter();
            let mut addresses = endpoints.filter_map(|endpoint| match endpoint.address {
                Address::Tcp(address) | Address::Udp(address) => Some(address),
                Address::Unix(_) => None,
            });
            addresses.find(|address| self.far_is_v6 || address.is_ipv4())
        })?;
        // Of all that one association has carried, the first is told.
        if record.journey().decision.is_empty() {
            note_would_be(record, guest, place);
        }
        self.partners.add(to);
        let mapped = match to.ip() {
            IpAddr::V4(ip) if self.far_is_v6 => {
                SocketAddr::new(ip.to_ipv6_mapped().into(), to.port())
            }
            _ => to,
        };
        // A datagram that finds no room is lost, as any may be.
        self.far.try_send_to(data, mapped).ok()
    }

    /// Passes on what somebody says to whom the client has spoken.
    fn pass_back(&self, heard: &[u8], from: SocketAddr) -> Option<usize> {
        let from = SocketAddr::new(from.ip().to_canonical(), from.port());
        if !self.partners.has(from) || self.client.port() == 0 {
            return None;
        }
        let mut out = Vec::with_capacity(heard.len() + 22);
        socks::datagram_head(&mut out, from);
        out.extend_from_slice(heard);
        self.near.try_send_to(&out, self.client).ok()?;
        Some(heard.len())
    }
}

/// Whether the client goes by what its listener is now.
fn is_welcome(guest: &mut Guest) -> bool {
    if !guest.is_current() {
        guest.renew();
    }
    guest.is_current() && guest.site().forward.is_some()
}

/// Whoever looks after the proxy is told: the client has no way to be.
fn refused(guest: &Guest, refusal: &Refusal) {
    notice::refused(guest.name(), guest.from(), &refusal.words());
}

/// Waits until the client's connection ends; what it says there means nothing.
async fn ended(client: &mut Client) {
    poll_fn(|cx| {
        loop {
            match client.wire.poll_take(cx, <[u8]>::len) {
                std::task::Poll::Ready(Ok(0) | Err(_)) => return std::task::Poll::Ready(()),
                std::task::Poll::Ready(Ok(_)) => {}
                std::task::Poll::Pending => return std::task::Poll::Pending,
            }
        }
    })
    .await;
}

/// A socket at any port there; of both families, if it is to be one of those.
fn bind(ip: IpAddr, is_for_both: bool) -> io::Result<UdpSocket> {
    let address = SocketAddr::new(ip, 0);
    let kind = Type::DGRAM.nonblocking().cloexec();
    let socket = socket2::Socket::new(Domain::for_address(address), kind, None)?;
    if is_for_both {
        socket.set_only_v6(false)?;
    }
    socket.bind(&address.into())?;
    UdpSocket::from_std(socket.into())
}

/// Those that the client has spoken to of late.
#[derive(Debug, Default)]
struct Partners {
    known: BTreeSet<SocketAddr>,
    order: VecDeque<SocketAddr>,
}

impl Partners {
    fn add(&mut self, partner: SocketAddr) {
        if !self.known.insert(partner) {
            return;
        }
        self.order.push_back(partner);
        if self.order.len() > PARTNERS
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }

    fn has(&self, partner: SocketAddr) -> bool {
        self.known.contains(&partner)
    }
}

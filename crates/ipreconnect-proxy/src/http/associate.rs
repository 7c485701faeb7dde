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
use crate::places::Seat;
use crate::throttle::Throttle;

/// The longest datagram, with the head that SOCKS has before it.
const LONGEST: usize = 65_535 + 262;
/// Datagrams of each direction in one turn, before others have theirs.
const BUDGET: usize = 16;
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
    /// Its two sockets take as much as another client.
    _seat: Seat,
    /// What holds its bytes to the rates of others, to where they go and back.
    throttles: Option<Box<[Throttle; 2]>>,
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
    ///
    /// # Errors
    /// Why that cannot be.
    pub(super) fn open(
        client: &Client,
        guest: &Guest,
        told: Option<&Target>,
        stay: Option<Stay>,
    ) -> io::Result<Self> {
        let full = || io::Error::other("there are as many connections as there may be");
        let seat = guest.one_more().ok_or_else(full)?;
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
            _seat: seat,
            throttles: guest.throttles(),
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
            let [may_come, may_go] = self.may();
            let mut up = 0;
            let mut is_read = false;
            tokio::select! {
                biased;
                () = ended(client) => return End::ByClient,
                Some(one) = found.join_next() => {
                    let Ok((place, data, looked_up)) = one else {
                        continue;
                    };
                    if let Err(error) = looked_up {
                        refused(guest, &Refusal::away(place.target(), &error));
                        continue;
                    }
                    up = self.send((record, guest), &place, &data).unwrap_or(0);
                }
                // Their ports are ours for as long as they are open: what is wrong with one is wrong with one datagram.
                _ = self.near.readable(), if may_come => is_read = true,
                _ = self.far.readable(), if may_go => is_read = true,
                () = paid(self.throttles.as_deref_mut()), if !(may_come && may_go) => {}
                () = tokio::time::sleep_until(deadline.into()) => return End::Idle,
            }
            if !is_welcome(guest) {
                return End::Drained;
            }
            let mut down = 0;
            if is_read {
                up = self.hear_some((record, guest), &mut found);
                down = self.hear_back_some();
                // Whoever never stops sending leaves others their turn.
                tokio::task::yield_now().await;
            }
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

    /// Whether it may carry more of each direction now, as far as rates go.
    fn may(&self) -> [bool; 2] {
        match self.throttles.as_deref() {
            Some([comes, goes]) => [!comes.is_waiting(), !goes.is_waiting()],
            None => [true; 2],
        }
    }

    /// Takes some datagrams of the client; returns the bytes that went on.
    fn hear_some(
        &mut self,
        (record, guest): (&mut Record, &Guest),
        found: &mut JoinSet<Found>,
    ) -> usize {
        let mut up = 0;
        for _ in 0..BUDGET {
            if !self.may()[0] {
                break;
            }
            match self.hear((record, guest), found) {
                Some(bytes) => up += bytes,
                None => break,
            }
        }
        up
    }

    /// The same of what comes back.
    fn hear_back_some(&mut self) -> usize {
        let mut down = 0;
        for _ in 0..BUDGET {
            if !self.may()[1] {
                break;
            }
            match self.hear_back() {
                Some(bytes) => down += bytes,
                None => break,
            }
        }
        down
    }

    /// Takes one datagram of the client, if there is one; returns how many bytes of it went on.
    fn hear(
        &mut self,
        (record, guest): (&mut Record, &Guest),
        found: &mut JoinSet<Found>,
    ) -> Option<usize> {
        HEARD.with_borrow_mut(|heard| {
            heard.resize(LONGEST, 0);
            let (count, from) = self.near.try_recv_from(heard).ok()?;
            self.pays(0, count);
            let data = heard.get(..count).unwrap_or_default();
            let went = match &guest.site().forward {
                Some(forward) if self.is_of_client(from) => {
                    self.take(data, (record, guest), forward, found)
                }
                _ => None,
            };
            Some(went.unwrap_or(0))
        })
    }

    /// Takes one datagram of somebody else, if there is one; returns how many bytes of it went on.
    fn hear_back(&mut self) -> Option<usize> {
        HEARD.with_borrow_mut(|heard| {
            heard.resize(LONGEST, 0);
            let (count, from) = self.far.try_recv_from(heard).ok()?;
            let heard = heard.get(..count).unwrap_or_default();
            let went = self.pass_back(heard, from).unwrap_or(0);
            self.pays(1, went);
            Some(went)
        })
    }

    fn pays(&mut self, direction: usize, bytes: usize) {
        let throttles = self.throttles.as_deref_mut();
        if let Some(throttle) = throttles.and_then(|both| both.get_mut(direction)) {
            throttle.charge(bytes);
        }
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
        // To look hosts up is to ask, as requests are.
        if found.len() < LOOKUPS && guest.may_ask().is_ok() {
            let (data, source) = (data.to_vec(), self.client.ip());
            found.spawn(async move {
                let looked_up = place.origin().find(Some(source)).await;
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

/// Waits until one of those that wait need not any more.
async fn paid(throttles: Option<&mut [Throttle; 2]>) {
    let Some(throttles) = throttles else {
        return std::future::pending().await;
    };
    poll_fn(|cx| {
        let mut waiting = throttles.iter_mut().filter(|one| one.is_waiting());
        match waiting.any(|one| one.poll(cx).is_ready()) {
            true => std::task::Poll::Ready(()),
            false => std::task::Poll::Pending,
        }
    })
    .await;
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

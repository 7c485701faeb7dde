//! Clients that speak SOCKS, versions 4, 4a and 5.

use std::future::poll_fn;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use ipreconnect::clock;
use ipreconnect::core::forward::Target;
use ipreconnect::core::forward::socks::{
    self, Command, LONGEST, Read, Reply, Request, SocksError, V4, V5,
};
use rustix::net::getsockname;

use super::associate::Association;
use super::client::{Client, More};
use super::exchange;
use super::guest::{Credentials, Guest, Place as Seat};
use super::reach::{Reached, reach_for};
use super::record::{self, End, Record, When, Who};
use super::tunnel::Tunnel;
use super::wire::Half;
use crate::forward::{Forward, Refusal, Stay};
use crate::l4;
use crate::notice;

/// For the last words to a client that gets nothing.
const FAREWELL: Duration = Duration::from_secs(2);

/// Whether a client begins as those do; what it says is an octet that no request of HTTP begins with.
pub(super) fn begins(input: &[u8]) -> bool {
    matches!(input.first(), Some(&V4 | &V5))
}

/// What a client gets.
enum Gets {
    Tunnel(Reached, Target),
    Datagrams(Association),
}

/// Why nothing comes of it.
enum Away {
    /// It has gone, or says nothing more.
    Gone(End),
    /// What it says cannot be understood.
    Unread(SocksError),
    /// It does not get where it wants to go.
    Refused(Refusal),
    /// It does not show that it is somebody who may come in.
    Unnamed(&'static str),
}

impl From<SocksError> for Away {
    fn from(error: SocksError) -> Self {
        Self::Unread(error)
    }
}

/// One conversation, until the tunnel is open.
struct Talk<'t> {
    client: &'t mut Client,
    guest: &'t Guest,
    seat: &'t Seat,
    record: &'t mut Record,
    version: u8,
}

/// Serves a client that has begun with its version.
pub(super) async fn serve(mut client: Client, guest: Guest, seat: Seat) {
    let version = client.input.first().copied().unwrap_or(V5);
    let mut record = Record::new(
        clock::now(),
        if version == V4 { "SOCKS4" } else { "SOCKS5" },
    );
    guest.asks();
    let mut wanted = None;
    let mut talk = Talk {
        client: &mut client,
        guest: &guest,
        seat: &seat,
        record: &mut record,
        version,
    };
    let gets = match &guest.site().forward {
        Some(forward) => talk.run(forward, &mut wanted).await,
        None => return,
    };
    drop(seat);
    match gets {
        Ok((Gets::Tunnel(reached, target), stay)) => {
            record.status = 200;
            record.reached(&reached);
            let tunnel = Tunnel::through(reached.parts, (record, stay), &target);
            guest.ended(l4::End::ByClient);
            tunnel.carry(client, guest);
        }
        Ok((Gets::Datagrams(association), _)) => {
            carry_datagrams(client, guest, association, record).await;
        }
        Err(away) => {
            away.note(&guest, &mut record);
            let target = wanted.map(|target| target.to_string());
            record::tell_of(&guest, &record, (b"CONNECT", &target.unwrap_or_default()));
            exchange::flush(&mut client, FAREWELL).await;
            client.linger().await;
            guest.ended(l4::End::ByClient);
        }
    }
}

/// Carries datagrams for as long as the client's connection lasts.
async fn carry_datagrams(
    mut client: Client,
    mut guest: Guest,
    mut association: Association,
    mut record: Record,
) {
    record.status = 200;
    let end = association.run(&mut client, &mut guest, &mut record).await;
    record.end = End::of(end);
    let first = association.first.take();
    let first = first.map(|target| target.to_string()).unwrap_or_default();
    record::tell_of(&guest, &record, (b"UDP", &first));
    guest.ended(end);
}

impl Away {
    /// What the line tells of it.
    fn note(&self, guest: &Guest, record: &mut Record) {
        match self {
            Self::Gone(end) => record.end = *end,
            Self::Unread(error) => {
                record.status = 400;
                record.end = End::by(Who::Proxy, When::Request);
                record.journey().why = Some(error.to_string().into());
                let words = format!("The request was refused: {error}.");
                notice::refused(guest.name(), guest.from(), &words);
            }
            Self::Refused(refusal) => record.refused(guest, refusal),
            Self::Unnamed(why) => {
                record.refused(guest, &Refusal::unnamed(why));
                record.status = 407;
            }
        }
    }
}

impl Talk<'_> {
    async fn run(
        &mut self,
        forward: &Forward,
        wanted: &mut Option<Target>,
    ) -> Result<(Gets, Option<Stay>), Away> {
        let request = match self.version {
            V4 => self.ask_v4().await?,
            _ => self.ask().await?,
        };
        if request.command == Command::Connect {
            wanted.clone_from(&request.target);
        }
        if let Err(wait) = self.guest.may_ask() {
            return Err(self.refuse(Refusal::often(wait)));
        }
        let entered = forward.enter(|| self.guest.account(self.record));
        let stay = match entered {
            Ok(stay) => stay,
            Err(over) => return Err(self.refuse(Refusal::over(over))),
        };
        let target = match (request.command, request.target) {
            (Command::Connect, Some(target)) => target,
            (Command::Associate, told) => return self.associate(told.as_ref(), stay),
            _ => {
                let why = "nobody is waited for here: BIND is not carried";
                return Err(self.refuse(Refusal::uncarried(405, why)));
            }
        };
        let place = match forward.place(&target) {
            Ok(place) => place,
            Err(refusal) => return Err(self.refuse(refusal)),
        };
        let wire = &self.client.wire;
        let reached = reach_for((self.record, self.guest), (&place, forward.via()), |cx| {
            wire.poll_gone(cx, Half::Listens)
        });
        match reached.await {
            Some(Ok(reached)) => {
                self.reply(Reply::Granted, here(&reached));
                Ok((Gets::Tunnel(reached, target), stay))
            }
            Some(Err(refusal)) => Err(self.refuse(refusal)),
            None => Err(Away::Gone(End::by(Who::Client, When::Connect))),
        }
    }

    fn refuse(&mut self, refusal: Refusal) -> Away {
        self.reply(refusal.reply, None);
        Away::Refused(refusal)
    }

    /// Opens the way of datagrams.
    fn associate(
        &mut self,
        told: Option<&Target>,
        stay: Option<Stay>,
    ) -> Result<(Gets, Option<Stay>), Away> {
        let opened = Association::open(self.client, self.guest, told, stay);
        let opened = opened.and_then(|association| Ok((association.bound()?, association)));
        match opened {
            Ok((bound, association)) => {
                self.reply(Reply::Granted, Some(bound));
                Ok((Gets::Datagrams(association), None))
            }
            Err(error) => {
                let why = format!("no way for datagrams can be opened: {error}");
                let refusal = Refusal {
                    reply: Reply::Failed,
                    ..Refusal::uncarried(503, &why)
                };
                Err(self.refuse(refusal))
            }
        }
    }

    /// Version 5: how it shows who it is, and what it wants.
    async fn ask(&mut self) -> Result<Request, Away> {
        let methods = self.read(socks::greeting).await?;
        // Who shows a name that nobody asks for is let through with it: there are clients that do nothing else.
        let by_password = match (self.guest.is_asked(), methods.password, methods.none) {
            (true, true, _) | (false, true, false) => Some(true),
            (false, _, true) => Some(false),
            (true, false, _) | (false, false, false) => None,
        };
        self.say(&socks::method(by_password));
        match by_password {
            None => {
                return Err(Away::Unnamed(
                    "it offers none of the ways to show who it is",
                ));
            }
            Some(true) => self.hear_who().await?,
            Some(false) => {}
        }
        match self.read(socks::request).await {
            Ok(request) => Ok(request),
            Err(Away::Unread(error)) => {
                self.reply(reply_to(error), None);
                Err(Away::Unread(error))
            }
            Err(away) => Err(away),
        }
    }

    /// The name and the password of RFC 1929.
    async fn hear_who(&mut self) -> Result<(), Away> {
        let shown = self.read(socks::password).await?;
        if !self.guest.is_asked() {
            self.say(&socks::password_reply(true));
            return Ok(());
        }
        let credentials = Credentials {
            user: shown.user,
            password: shown.password,
        };
        let half = self.guest.half();
        let client = &mut *self.client;
        let shown = tokio::select! {
            biased;
            shown = self.guest.shows_who(Some(credentials)) => shown,
            () = poll_fn(|cx| client.wire.poll_gone(cx, half)) => {
                return Err(Away::Gone(End::by(Who::Client, When::Request)));
            }
        };
        self.say(&socks::password_reply(shown.is_ok()));
        match shown {
            Ok(user) => {
                self.record.journey().user = user.unwrap_or_default();
                Ok(())
            }
            Err(()) => Err(Away::Unnamed("name and password are not right")),
        }
    }

    /// Version 4, whose clients only say who they are.
    async fn ask_v4(&mut self) -> Result<Request, Away> {
        let request = match self.read(socks::request_v4).await {
            Ok(request) => request,
            Err(away) => {
                self.reply(Reply::Failed, None);
                return Err(away);
            }
        };
        if self.guest.is_asked() {
            self.reply(Reply::Denied, None);
            return Err(Away::Unnamed(
                "clients of SOCKS4 cannot show who they are, and the rules ask for that",
            ));
        }
        Ok(request)
    }

    /// Reads one message; what is behind it stays.
    async fn read<T>(
        &mut self,
        read: impl Fn(&[u8]) -> Result<Read<T>, SocksError>,
    ) -> Result<T, Away> {
        let patience = self.guest.limits().head;
        self.client.timer.set(clock::now(), patience);
        loop {
            if let Read::Whole(message, used) = read(&self.client.input)? {
                self.client.input.drain(..used);
                return Ok(message);
            }
            if self.client.input.len() > LONGEST {
                return Err(SocksError::Length.into());
            }
            let (client, seat) = (&mut *self.client, self.seat);
            match poll_fn(|cx| client.poll_head(cx, seat)).await {
                More::Came => {}
                More::Ended => return Err(Away::Gone(End::by(Who::Client, When::Request))),
                More::Late => return Err(Away::Gone(End::by(Who::ClientLate, When::Request))),
            }
        }
    }

    fn reply(&mut self, reply: Reply, bound: Option<SocketAddr>) {
        if self.version == V4 {
            return self.say(&socks::reply_v4(reply));
        }
        let mut out = Vec::with_capacity(22);
        let nowhere = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
        socks::reply(&mut out, reply, bound.unwrap_or(nowhere));
        self.say(&out);
    }

    fn say(&mut self, words: &[u8]) {
        // What is wrong with the client is found when it is asked for more.
        let _ = self.client.wire.write(words);
    }
}

/// The address that stands for the client there.
fn here(reached: &Reached) -> Option<SocketAddr> {
    SocketAddr::try_from(getsockname(reached.parts.socket.get_ref()).ok()?).ok()
}

fn reply_to(error: SocksError) -> Reply {
    match error {
        SocksError::Command => Reply::Command,
        SocksError::AddressKind => Reply::AddressKind,
        SocksError::Version | SocksError::Length | SocksError::Target => Reply::Failed,
    }
}

//! What goes on as something else than HTTP: WebSockets, tunnels, and whatever else both sides agree upon.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use ipreconnect::core::address::Address;
use ipreconnect::core::forward::Target;
use ipreconnect::{Parts, clock};

use super::client::Client;
use super::guest::Guest;
use super::line::{Taken, Upstream};
use super::record::{self, End as RecordEnd, Record, Said, When, Who};
use crate::forward::Stay;
use crate::l4::{self, End};

/// A connection to an origin that carries bytes from now on.
pub(super) struct Tunnel {
    pub(super) to: Taken,
    /// What is told of it in the end, if the client has said where it is to go.
    pub(super) tale: Option<Box<Tale>>,
}

/// What is told of a tunnel when it is over.
#[derive(Debug)]
pub(crate) struct Tale {
    record: Record,
    method: Cow<'static, [u8]>,
    target: Box<str>,
    listener: Arc<str>,
    from: Box<str>,
    stay: Option<Stay>,
    up: AtomicU64,
    down: AtomicU64,
    /// Stamp of the first byte of the origin.
    first: AtomicU64,
}

impl Tale {
    fn new(
        (record, stay): (Record, Option<Stay>),
        (method, target): (Cow<'static, [u8]>, &Target),
    ) -> Box<Self> {
        Box::new(Self {
            record,
            method,
            target: target.to_string().into(),
            listener: "".into(),
            from: "".into(),
            stay,
            up: AtomicU64::new(0),
            down: AtomicU64::new(0),
            first: AtomicU64::new(0),
        })
    }

    /// So many bytes went to the origin; says whether there may be more.
    pub(crate) fn goes_up(&self, bytes: usize) -> bool {
        self.up.fetch_add(bytes as u64, Relaxed);
        self.may_go_on(bytes)
    }

    /// So many bytes came from it; says whether there may be more.
    pub(crate) fn comes_down(&self, bytes: usize) -> bool {
        if bytes > 0 && self.down.fetch_add(bytes as u64, Relaxed) == 0 {
            self.first.store(clock::stamp(clock::now()), Relaxed);
        }
        self.may_go_on(bytes)
    }

    fn may_go_on(&self, bytes: usize) -> bool {
        let stay = self.stay.as_ref();
        stay.is_none_or(|stay| stay.counts(bytes as u64))
    }

    /// It is this client's.
    pub(super) fn is_of(&mut self, guest: &Guest) {
        self.listener = guest.shared_name();
        self.from = guest.from().into();
    }

    /// It is over.
    pub(crate) fn tell(&self, end: End) {
        let now = clock::now();
        let record = &self.record;
        let first = clock::instant(self.first.load(Relaxed));
        let told = Record {
            bytes_in: record.bytes_in + self.up.load(Relaxed),
            bytes_out: record.bytes_out + self.down.load(Relaxed),
            first_byte: first.map(|first| first.saturating_duration_since(record.began)),
            endpoint: record.endpoint,
            connected: record.connected,
            status: record.status,
            end: RecordEnd::of(end),
            journey: record.journey.clone(),
            ..Record::new(record.began, record.protocol)
        };
        record::tell(
            now,
            &told,
            &Said {
                listener: &self.listener,
                origin: &self.target,
                from: &self.from,
                method: &self.method,
                host: b"",
                target: self.target.as_bytes(),
                protocol: record.protocol,
                referer: None,
                agent: None,
            },
        );
    }
}

impl RecordEnd {
    /// How a stream ended, in the letters of requests.
    pub(super) fn of(end: End) -> Self {
        match end {
            End::ByClient | End::ByOrigin => Self::FINE,
            End::ResetByClient => Self::by(Who::Client, When::Data),
            End::ResetByOrigin => Self::by(Who::Server, When::Data),
            End::Idle | End::Stalled => Self::by(Who::ClientLate, When::Data),
            End::Closed | End::Drained | End::Evicted => Self::by(Who::Proxy, When::Data),
        }
    }
}

impl Tunnel {
    /// One to an origin that has switched protocols.
    pub(super) fn switched(upstream: Upstream) -> Option<Self> {
        Some(Self {
            to: upstream.into_parts()?,
            tale: None,
        })
    }

    /// One to where a client wants to go.
    pub(super) fn through(
        parts: Parts,
        (record, stay): (Record, Option<Stay>),
        target: &Target,
    ) -> Self {
        Self {
            to: Taken {
                is_tcp: matches!(parts.address, Address::Tcp(_)),
                socket: parts.socket,
                tls: parts.tls,
                input: parts.early,
                endpoint: parts.endpoint,
                usage: parts.usage,
            },
            tale: Some(Tale::new(
                (record, stay),
                (Cow::Borrowed(b"CONNECT"), target),
            )),
        }
    }

    /// It is to be told of when it is over.
    pub(super) fn is_told_of(
        &mut self,
        told: (Record, Option<Stay>),
        asked: (Cow<'static, [u8]>, &Target),
    ) {
        self.tale = Some(Tale::new(told, asked));
    }

    /// What it is made of, for those who carry it otherwise.
    pub(super) fn into_parts(self) -> (Taken, Option<Box<Tale>>) {
        (self.to, self.tale)
    }

    /// Carries bytes both ways from now on, in a task of its own.
    pub(super) fn carry(mut self, mut client: Client, guest: Guest) {
        let early_up = client.input.split_off(client.at.min(client.input.len()));
        let (socket, client_tls, unsent) = client.wire.take_parts();
        drop(client);
        let Some(client) = Arc::into_inner(socket) else {
            return;
        };
        if let Some(tale) = &mut self.tale {
            tale.is_of(&guest);
            tale.goes_up(early_up.len());
            tale.comes_down(self.to.input.len());
        }
        let mut early_down = unsent;
        early_down.extend_from_slice(&self.to.input);
        l4::carry(
            l4::Carried {
                client,
                client_tls,
                origin: self.to.socket,
                origin_tls: self.to.tls,
                endpoint: self.to.endpoint,
                is_tcp: self.to.is_tcp,
                usage: self.to.usage,
                early_up,
                early_down,
                tale: self.tale,
            },
            guest.into_session(),
        );
    }
}

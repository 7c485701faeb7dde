//! What passes through a listener, for whoever looks for the cause of trouble. While nobody does, it costs one look at
//! a number of the worker's own.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ipreconnect::clock;
use ipreconnect::socket::Socket;

/// One who looks.
#[derive(Clone, Debug)]
pub struct Tap {
    /// The listener.
    pub listener: Arc<str>,
    /// Only this client; by the address of its connection, whoever a proxy says it is.
    pub client: Option<IpAddr>,
    /// Where what is seen goes.
    pub sink: Arc<dyn TapSink>,
}

/// Takes what is seen. It must not wait: whoever calls it carries requests.
pub trait TapSink: Send + Sync + fmt::Debug {
    /// Takes something that was seen.
    fn take(&self, seen: Seen<'_>);
}

/// Something that was seen.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'s> {
    /// Since the beginning of 1970.
    pub at: Duration,
    /// The same for all of a stream, while it lives; 0 of requests.
    pub connection: usize,
    /// The client, with the port of its connection where that is known; none of a Unix socket.
    pub client: Option<SocketAddr>,
    /// What.
    pub what: What<'s>,
}

/// What was seen.
#[derive(Clone, Copy, Debug)]
pub enum What<'s> {
    /// A stream has an endpoint.
    Opened,
    /// A stream is over.
    Closed(&'s str),
    /// Bytes of a stream.
    Bytes(Towards, &'s [u8]),
    /// The head of a request, or of an answer.
    Head(Towards, &'s [u8]),
    /// A request is over.
    Answered {
        /// The head of the request.
        request: &'s [u8],
        /// The status that the client got.
        status: u16,
        /// Bytes of the body.
        bytes: u64,
        /// After how long.
        after: Duration,
        /// How often it was sent.
        sent: u32,
        /// How it ended, in the letters of the access log.
        end: &'s str,
    },
}

/// In which direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Towards {
    /// From the client.
    Origin,
    /// From the origin.
    Client,
}

impl What<'_> {
    /// The bytes of it.
    #[must_use]
    pub fn size(&self) -> usize {
        match self {
            Self::Opened | Self::Answered { .. } => 0,
            Self::Closed(why) => why.len(),
            Self::Bytes(_, bytes) | Self::Head(_, bytes) => bytes.len(),
        }
    }
}

/// Whose bytes pass now.
struct Subject {
    listener: Arc<str>,
    connection: usize,
    client: Option<SocketAddr>,
    towards: Towards,
}

thread_local! {
    static IS_ON: Cell<bool> = const { Cell::new(false) };
    static TAPS: RefCell<Vec<Tap>> = const { RefCell::new(Vec::new()) };
    static SUBJECT: RefCell<Option<Subject>> = const { RefCell::new(None) };
    /// Clients that somebody looks at, by their connections: one that is gone does not say any more who it was.
    static CLIENTS: RefCell<BTreeMap<usize, SocketAddr>> = const { RefCell::new(BTreeMap::new()) };
}

/// Who looks on this worker from now on.
pub(crate) fn open(taps: Vec<Tap>) {
    IS_ON.set(!taps.is_empty());
    if taps.is_empty() {
        CLIENTS.take();
    }
    TAPS.set(taps);
}

/// Whether anybody looks.
pub(crate) fn is_on() -> bool {
    IS_ON.get()
}

/// Whether anybody looks at this.
fn is_seen(listener: &str, client: Option<SocketAddr>) -> bool {
    TAPS.with_borrow(|taps| taps.iter().any(|tap| tap.sees(listener, client)))
}

/// Tells whoever looks of a request.
pub(crate) fn tell(listener: &str, client: Option<SocketAddr>, what: What<'_>) {
    tell_of((listener, 0), client, what);
}

fn tell_of((listener, connection): (&str, usize), client: Option<SocketAddr>, what: What<'_>) {
    let seen = Seen {
        at: clock::since_unix(),
        connection,
        client,
        what,
    };
    TAPS.with_borrow(|taps| {
        for tap in taps.iter().filter(|tap| tap.sees(listener, client)) {
            tap.sink.take(seen);
        }
    });
}

impl Tap {
    fn sees(&self, listener: &str, client: Option<SocketAddr>) -> bool {
        let is_it =
            |wanted: IpAddr| client.is_some_and(|client| client.ip().to_canonical() == wanted);
        *self.listener == *listener && self.client.is_none_or(is_it)
    }
}

/// While this lives, bytes that are carried here are those of one stream, which somebody looks at.
pub(crate) struct Watching(());

impl Drop for Watching {
    fn drop(&mut self) {
        SUBJECT.set(None);
    }
}

/// Bytes of this stream are carried next.
pub(crate) fn watch(
    (listener, connection): (&str, usize),
    client: &Socket,
    towards: Towards,
) -> Option<Watching> {
    let client = peer(client).or_else(|| known(connection));
    is_seen(listener, client).then(|| {
        if let Some(client) = client {
            CLIENTS.with_borrow_mut(|clients| clients.insert(connection, client));
        }
        SUBJECT.set(Some(Subject {
            listener: listener.into(),
            connection,
            client,
            towards,
        }));
        Watching(())
    })
}

fn known(connection: usize) -> Option<SocketAddr> {
    CLIENTS.with_borrow(|clients| clients.get(&connection).copied())
}

/// Whether bytes that are carried now are looked at: they have to be read, then.
pub(crate) fn is_watching() -> bool {
    is_on() && SUBJECT.with_borrow(Option::is_some)
}

/// These were carried.
pub(crate) fn carried(bytes: &[u8]) {
    if !is_on() {
        return;
    }
    SUBJECT.with_borrow(|subject| {
        if let Some(subject) = subject {
            let what = What::Bytes(subject.towards, bytes);
            tell_of(
                (&subject.listener, subject.connection),
                subject.client,
                what,
            );
        }
    });
}

/// A stream has an endpoint.
pub(crate) fn opened((listener, connection): (&str, usize), client: &Socket) {
    let client = peer(client);
    if let Some(client) = client {
        CLIENTS.with_borrow_mut(|clients| clients.insert(connection, client));
    }
    tell_of((listener, connection), client, What::Opened);
}

/// A stream is over.
pub(crate) fn closed((listener, connection): (&str, usize), client: &Socket, why: &str) {
    let known = CLIENTS.with_borrow_mut(|clients| clients.remove(&connection));
    let client = known.or_else(|| peer(client));
    tell_of((listener, connection), client, What::Closed(why));
}

/// The other end of a connection, if it has an address.
fn peer(client: &Socket) -> Option<SocketAddr> {
    let address = rustix::net::getpeername(client.get_ref()).ok()??;
    SocketAddr::try_from(address).ok()
}

//! PostgreSQL at the door: a client says who it is and what it wants, and is judged by that, before anything
//! is opened to an origin. What it said first then goes to the origin as it was.

use std::future::poll_fn;
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use aws_lc_rs::rand;
use ipreconnect::core::access::{Method, Source};
use ipreconnect::core::address::EndpointId;
use ipreconnect::core::postgres::{
    self, Answer, Asked, LONGEST, LONGEST_ANSWER, Opening, Packet, Refusal, StartUp, code,
};
use ipreconnect::socket::Socket;
use ipreconnect::tls::{Received, Session as Tls};
use ipreconnect::{Error, Origin};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::access::{self, Users, Way};

/// From the first byte to the end of the start-up packet, TLS included (`authentication_timeout` is longer:
/// it has to wait for what we need not).
const PATIENCE: Duration = Duration::from_secs(10);
/// The same for those whom no rule is for, wherever they come from.
const BRIEFLY: Duration = Duration::from_secs(2);
/// For a server's first answer (`authentication_timeout`).
const SERVER: Duration = Duration::from_secs(60);
/// For the answers to what is asked.
const ANSWERS: Duration = Duration::from_secs(30);
/// Servers that a request to cancel is passed on to.
const SERVERS: usize = 16;
/// The protocol that clients name who begin with TLS (ALPN).
pub(crate) const ALPN: &[u8] = b"postgresql";

/// A client that has said what it wants.
pub(crate) struct Caller {
    /// What it said, as it said it: for the origin.
    pub(crate) early: Vec<u8>,
    /// Whose session is to begin; `None` if a query of another one is to be cancelled.
    pub(crate) start_up: Option<StartUp>,
}

/// Why a client does not come in.
#[derive(Debug)]
pub(crate) enum Turned {
    /// It has gone, or cannot be spoken to.
    Gone(String),
    /// It is to be told.
    Away(Refusal),
    /// It does not know the password, as far as that was looked at, and is to be told.
    Guessed(Refusal, Guess),
}

/// What became of a password that was shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Guess {
    Wrong,
    /// Too many others were wrong.
    NotLookedAt,
}

impl From<Refusal> for Turned {
    fn from(refusal: Refusal) -> Self {
        Self::Away(refusal)
    }
}

impl From<io::Error> for Turned {
    fn from(error: io::Error) -> Self {
        Self::Gone(error.to_string())
    }
}

impl std::fmt::Display for Turned {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Gone(why) => f.write_str(why),
            Self::Away(refusal) | Self::Guessed(refusal, _) => refusal.fmt(f),
        }
    }
}

/// One side of a conversation, inside TLS or not.
pub(crate) struct Talk<'t> {
    client: &'t Socket,
    tls: Option<Box<Tls>>,
    /// What has come out of TLS.
    input: Vec<u8>,
}

impl<'t> Talk<'t> {
    pub(crate) fn new(client: &'t Socket) -> Self {
        Self {
            client,
            tls: None,
            input: Vec::new(),
        }
    }

    pub(crate) fn resume(client: &'t Socket, tls: Option<Box<Tls>>) -> Self {
        Self {
            client,
            tls,
            input: Vec::new(),
        }
    }

    /// Its TLS, if that was opened.
    pub(crate) fn tls(&self) -> Option<&Tls> {
        self.tls.as_deref()
    }

    /// Its TLS, and what has come and was not read.
    pub(crate) fn into_parts(self) -> (Option<Box<Tls>>, Vec<u8>) {
        (self.tls, self.input)
    }

    /// Waits until `read` finds a whole of so many bytes; outside TLS, what is behind it stays in the kernel.
    async fn whole<T>(
        &mut self,
        longest: usize,
        read: impl Fn(&[u8]) -> Option<(usize, T)>,
    ) -> Result<(Vec<u8>, T), Turned> {
        match &mut self.tls {
            None => peeked(self.client, longest, read).await,
            Some(tls) => loop {
                if let Some((length, whole)) = read(&self.input) {
                    let length = length.min(self.input.len());
                    let rest = self.input.split_off(length);
                    return Ok((std::mem::replace(&mut self.input, rest), whole));
                }
                if self.input.len() > longest {
                    return Err(Turned::Gone("it says too much at once".to_owned()));
                }
                let input = &mut self.input;
                let mut take = |bytes: &[u8]| input.extend_from_slice(bytes);
                let received = poll_fn(|cx| tls.poll_receive(cx, self.client, &mut take)).await?;
                poll_fn(|cx| tls.poll_flush(cx, self.client)).await?;
                if !matches!(received, Received::Bytes(_)) {
                    return Err(left());
                }
            },
        }
    }

    pub(crate) async fn say(&mut self, bytes: &[u8]) -> io::Result<()> {
        if let Some(tls) = &mut self.tls {
            tls.send(self.client, bytes)?;
            return poll_fn(|cx| tls.poll_flush(cx, self.client)).await;
        }
        let mut rest = bytes;
        while !rest.is_empty() {
            let mut guard = self.client.ready(Interest::WRITABLE).await?;
            match send(self.client.get_ref(), rest, SendFlags::NOSIGNAL) {
                Ok(count) => rest = rest.get(count..).unwrap_or_default(),
                Err(Errno::AGAIN) => guard.clear_ready(),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }

    /// Tells a client why it does not come in.
    pub(crate) async fn turn_away(&mut self, refusal: &Refusal) {
        let told = async {
            self.say(&postgres::error_response(refusal)).await?;
            self.close().await
        };
        // Whoever does not listen is not told.
        let _ = tokio::time::timeout(PATIENCE, told).await;
    }

    /// Says that nothing more comes.
    pub(crate) async fn close(&mut self) -> io::Result<()> {
        match &mut self.tls {
            Some(tls) => poll_fn(|cx| tls.poll_shutdown(cx, self.client)).await,
            None => Ok(()),
        }
    }
}

fn left() -> Turned {
    Turned::Gone("it left before it had said what it wants".to_owned())
}

/// Waits for a whole and takes that from the kernel, and no more.
async fn peeked<T>(
    client: &Socket,
    longest: usize,
    read: impl Fn(&[u8]) -> Option<(usize, T)>,
) -> Result<(Vec<u8>, T), Turned> {
    let mut bytes = Vec::new();
    loop {
        let mut guard = client.ready(Interest::READABLE).await?;
        let is_over = guard.ready().is_read_closed();
        // What most say fits in this; the rest is made room for when it comes.
        bytes.resize(bytes.len().max(512), 0);
        let count = match recv(client.get_ref(), &mut bytes[..], RecvFlags::PEEK) {
            Ok((_, 0)) => return Err(left()),
            Ok((_, count)) => count,
            Err(Errno::AGAIN) => {
                guard.clear_ready();
                continue;
            }
            Err(Errno::INTR) => continue,
            Err(errno) => return Err(io::Error::from(errno).into()),
        };
        let come = bytes.get(..count).unwrap_or_default();
        if let Some((length, whole)) = read(come) {
            bytes.truncate(length.min(count));
            // It was there a moment ago, and nobody else reads.
            let taken = recv(client.get_ref(), &mut bytes[..], RecvFlags::empty());
            return match taken {
                Ok((_, taken)) if taken == bytes.len() => Ok((bytes, whole)),
                _ => Err(left()),
            };
        }
        if is_over {
            return Err(left());
        }
        if count == bytes.len() && count <= longest {
            bytes.resize(count * 2, 0);
            continue;
        }
        if count > longest {
            return Err(Turned::Gone("it says too much at once".to_owned()));
        }
        guard.clear_ready();
    }
}

/// Whether more has come than was looked at: what a stranger has put there before TLS was opened would be
/// taken for the client's own words (CVE-2021-23214).
fn has_more(client: &Socket) -> bool {
    matches!(
        recv(client.get_ref(), &mut [0; 1], RecvFlags::PEEK),
        Ok((_, 1..))
    )
}

/// Hears what a client wants, for which there is less time if no rule is for anybody from there. `open` opens TLS; without it, TLS is refused as a server without TLS does it.
///
/// Cancel safety: the connection is of no use afterwards.
pub(crate) async fn hear<'t, O>(
    talk: &mut Talk<'t>,
    is_known: bool,
    open: Option<O>,
) -> Result<Caller, Turned>
where
    O: AsyncFnOnce() -> Result<Box<Tls>, String>,
{
    let patience = match is_known {
        true => PATIENCE,
        false => BRIEFLY,
    };
    match tokio::time::timeout(patience, heard(talk, open)).await {
        Ok(result) => result,
        Err(_) => Err(Turned::Gone(format!(
            "it did not say within {patience:?} what it wants"
        ))),
    }
}

async fn heard<'t, O>(talk: &mut Talk<'t>, mut open: Option<O>) -> Result<Caller, Turned>
where
    O: AsyncFnOnce() -> Result<Box<Tls>, String>,
{
    // Each may be asked for once, as at a server.
    let (mut may_ssl, mut may_gss) = (true, true);
    loop {
        let (said, opening) = talk
            .whole(LONGEST, |bytes| match postgres::read(bytes) {
                Opening::More => None,
                // Nothing is taken of these.
                Opening::Tls => Some((0, Opening::Tls)),
                Opening::Broken(refusal) => Some((0, Opening::Broken(refusal))),
                Opening::Packet(length, packet) => Some((length, Opening::Packet(length, packet))),
            })
            .await?;
        match opening {
            Opening::Broken(refusal) => return Err(refusal.into()),
            Opening::Tls if talk.tls.is_none() && may_ssl => {
                let Some(open) = open.take() else {
                    let why = "it begins with TLS, and this listener has none";
                    return Err(Turned::Gone(why.to_owned()));
                };
                let tls = open().await.map_err(Turned::Gone)?;
                // Without that, another protocol's client may have been sent here (RFC 7301, ALPACA).
                if tls.alpn() != Some(ALPN) {
                    let why =
                        "it begins with TLS, and does not say that it speaks PostgreSQL (ALPN)";
                    return Err(Turned::Gone(why.to_owned()));
                }
                talk.tls = Some(tls);
                (may_ssl, may_gss) = (false, false);
            }
            Opening::Packet(_, Packet::Ssl) if may_ssl => {
                may_ssl = false;
                no_more(talk, "SSL")?;
                match open.take() {
                    Some(open) => {
                        talk.say(b"S").await?;
                        talk.tls = Some(open().await.map_err(Turned::Gone)?);
                        may_gss = false;
                    }
                    None => talk.say(b"N").await?,
                }
            }
            Opening::Packet(_, Packet::Gss) if may_gss => {
                may_gss = false;
                no_more(talk, "GSSAPI encryption")?;
                talk.say(b"N").await?;
            }
            Opening::Packet(_, Packet::Cancel) => {
                return Ok(Caller {
                    early: said,
                    start_up: None,
                });
            }
            Opening::Packet(_, Packet::StartUp(start_up)) => {
                return Ok(Caller {
                    early: said,
                    start_up: Some(start_up),
                });
            }
            Opening::More | Opening::Tls | Opening::Packet(..) => {
                return Err(Refusal {
                    code: code::PROTOCOL_VIOLATION,
                    message: "encryption is asked for more than once".to_owned(),
                }
                .into());
            }
        }
    }
}

fn no_more(talk: &Talk<'_>, what: &str) -> Result<(), Turned> {
    if talk.tls.is_some() || !has_more(talk.client) {
        return Ok(());
    }
    Err(Refusal {
        code: code::PROTOCOL_VIOLATION,
        message: format!("received unencrypted data after {what} request"),
    }
    .into())
}

/// Has a client show that it knows the password of its name.
///
/// Cancel safety: the connection is of no use afterwards.
pub(crate) async fn authenticate(
    talk: &mut Talk<'_>,
    (source, start_up): (Source, &StartUp),
    way: Way,
    users: &Users,
) -> Result<(), Turned> {
    let wrong = || Refusal {
        code: code::INVALID_PASSWORD,
        message: format!(
            "password authentication failed for user \"{}\"",
            String::from_utf8_lossy(&start_up.user)
        ),
    };
    if way == Way::ClearText && talk.tls.is_none() && source != Source::Local {
        return Err(Refusal {
            code: code::INVALID_AUTHORIZATION,
            message: "a password in clear text is taken over TLS only".to_owned(),
        }
        .into());
    }
    let user = &start_up.user;
    let asked = async {
        match way {
            Way::ClearText => clear_text(talk).await.map(Shown::ClearText),
            Way::Scram => scram(talk, user, users).await,
        }
    };
    let shown = match tokio::time::timeout(ANSWERS, asked).await {
        Ok(shown) => shown?,
        Err(_) => {
            let why = format!("it was asked for a password, and did not answer within {ANSWERS:?}");
            return Err(Turned::Gone(why));
        }
    };
    let is_known = || match &shown {
        Shown::ClearText(password) => users.remembers(user, password),
        Shown::Proof(..) => false,
    };
    let Some(attempt) = access::attempt(source, user, is_known).await else {
        return Err(Turned::Guessed(wrong(), Guess::NotLookedAt));
    };
    let proof = match &shown {
        // An empty one is none, as for a server.
        Shown::ClearText(password) => {
            let fits = !password.is_empty() && users.fits(user, password).await;
            fits.then(Vec::new)
        }
        Shown::Proof(exchange, last) => exchange.end(last),
    };
    let Some(proof) = proof else {
        let due = attempt.failed();
        // Who does not wait for the answer need not be kept.
        tokio::select! {
            () = tokio::time::sleep_until(due.into()) => {}
            () = gone(talk.client) => {}
        }
        return Err(Turned::Guessed(wrong(), Guess::Wrong));
    };
    drop(attempt);
    if let Shown::Proof(..) = shown {
        talk.say(&postgres::authentication(Asked::SaslFinal(&proof)))
            .await?;
    }
    Ok(())
}

/// What a client has shown.
enum Shown {
    ClearText(Vec<u8>),
    /// The last message of an exchange.
    Proof(Box<access::Exchange>, Vec<u8>),
}

/// Waits until a client leaves.
async fn gone(client: &Socket) {
    loop {
        let Ok(mut guard) = client.ready(Interest::READABLE | Interest::ERROR).await else {
            return;
        };
        if guard.ready().is_read_closed() || guard.ready().is_error() {
            return;
        }
        guard.clear_ready();
    }
}

async fn ask(talk: &mut Talk<'_>, asked: Asked<'_>) -> Result<Vec<u8>, Turned> {
    talk.say(&postgres::authentication(asked)).await?;
    let (_, answer) = talk
        .whole(LONGEST_ANSWER, |bytes| match postgres::answer(bytes) {
            Answer::More => None,
            Answer::Whole(length, inside) => Some((length, Some(inside))),
            Answer::Broken => Some((0, None)),
        })
        .await?;
    answer.ok_or_else(|| {
        Turned::Away(Refusal {
            code: code::PROTOCOL_VIOLATION,
            message: "expected password response".to_owned(),
        })
    })
}

async fn clear_text(talk: &mut Talk<'_>) -> Result<Vec<u8>, Turned> {
    let answer = ask(talk, Asked::ClearText).await?;
    match postgres::password(&answer) {
        Some(password) => Ok(password.to_vec()),
        None => Err(malformed("invalid password packet size")),
    }
}

async fn scram(talk: &mut Talk<'_>, user: &[u8], users: &Users) -> Result<Shown, Turned> {
    const NAME: &str = "SCRAM-SHA-256";
    let answer = ask(talk, Asked::Sasl(&[NAME])).await?;
    let first = match postgres::sasl_initial(&answer) {
        Some((way, first)) if way == NAME.as_bytes() => first,
        Some(_) => {
            return Err(malformed(
                "client selected an invalid SASL authentication mechanism",
            ));
        }
        None => return Err(malformed("malformed SCRAM message")),
    };
    let mut nonce = [0; 18];
    if rand::fill(&mut nonce).is_err() {
        return Err(Turned::Gone("no random numbers can be had".to_owned()));
    }
    let mut exchange = users.exchange(user);
    let Some(answer) = exchange.begin(first, &nonce) else {
        return Err(malformed("malformed SCRAM message"));
    };
    let answer = answer.to_vec();
    let last = ask(talk, Asked::SaslContinue(&answer)).await?;
    Ok(Shown::Proof(Box::new(exchange), last))
}

fn malformed(what: &str) -> Turned {
    Turned::Away(Refusal {
        code: code::PROTOCOL_VIOLATION,
        message: what.to_owned(),
    })
}

/// What PostgreSQL would tell a client that its rules do not let in.
pub(crate) fn refusal(
    refusal: &access::Refusal,
    source: Source,
    is_tls: bool,
    start_up: &StartUp,
) -> Refusal {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let user = text(&start_up.user);
    let from = match source {
        Source::Local => "[local]".to_owned(),
        Source::Ip(address) => address.to_string(),
    };
    let encryption = if is_tls {
        "SSL encryption"
    } else {
        "no encryption"
    };
    let whom = match start_up.is_replication {
        true => format!("host \"{from}\", user \"{user}\", {encryption}"),
        false => {
            let database = text(&start_up.database);
            format!("host \"{from}\", user \"{user}\", database \"{database}\", {encryption}")
        }
    };
    let kind = match start_up.is_replication {
        true => "replication connection",
        false => "connection",
    };
    let message = match refusal {
        access::Refusal::NoRule if start_up.is_replication => {
            format!("no pg_hba.conf entry for replication connection from {whom}")
        }
        access::Refusal::NoRule => format!("no pg_hba.conf entry for {whom}"),
        access::Refusal::Header(why) => format!("not let in: {why}"),
        access::Refusal::Password(user) | access::Refusal::Guesses(user) => {
            format!("password authentication failed for user \"{user}\"")
        }
        access::Refusal::Rule { why, .. } if *why == access::NO_CERTIFICATE => {
            "connection requires a valid client certificate".to_owned()
        }
        access::Refusal::Rule { method, .. } => match method {
            Method::Reject => {
                format!("pg_hba.conf rejects {kind} for {whom}")
            }
            Method::Peer => format!("Peer authentication failed for user \"{user}\""),
            Method::Password | Method::ScramSha256 => {
                format!("password authentication failed for user \"{user}\"")
            }
            Method::Trust => format!("\"trust\" authentication failed for user \"{user}\""),
            Method::Cert | Method::Other(_) => {
                format!("certificate authentication failed for user \"{user}\"")
            }
        },
    };
    let is_password = message.starts_with("password ");
    let code = match is_password {
        true => code::INVALID_PASSWORD,
        false => code::INVALID_AUTHORIZATION,
    };
    Refusal { code, message }
}

/// What a client is told whose origin is away. Who is elsewhere, and has perhaps shown nothing yet, need not know
/// which one that is, and since when.
pub(crate) fn away(error: &Error, source: Option<IpAddr>) -> Refusal {
    let is_here = source.is_none_or(|source| source.is_loopback());
    Refusal {
        code: code::CANNOT_CONNECT_NOW,
        message: match is_here {
            true => error.to_string(),
            false => {
                "the database server cannot be reached at the moment; please try again".to_owned()
            }
        },
    }
}

/// Sends what a client has said to its server, and looks whether that asks who it is. What the server says stays
/// in the kernel, or is returned with its TLS.
///
/// Cancel safety: the connection is of no use afterwards.
pub(crate) async fn is_asked(
    server: &Socket,
    tls: Option<Box<Tls>>,
    early: &[u8],
) -> io::Result<(bool, Option<Box<Tls>>, Vec<u8>)> {
    let mut talk = Talk::resume(server, tls);
    let asked = async {
        talk.say(early).await?;
        let read = |bytes: &[u8]| postgres::asks(bytes).map(|asks| (0, asks));
        let answered = talk.whole(LONGEST_ANSWER, read).await;
        answered.map_err(|turned| io::Error::other(turned.to_string()))
    };
    let (_, asks) = tokio::time::timeout(SERVER, asked)
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    let (tls, said) = talk.into_parts();
    Ok((asks, tls, said))
}

/// What a client is told that its server lets in without asking, where a rule wants it to be asked.
pub(crate) fn unasked(place: &str) -> Refusal {
    Refusal {
        code: code::INVALID_AUTHORIZATION,
        message: format!(
            "the server lets everybody in who comes from here, and the rule at {place} wants them to be asked who they are"
        ),
    }
}

/// What a client is told that asks for no name, where names decide on where it goes.
pub(crate) fn nameless() -> Refusal {
    Refusal {
        code: code::INVALID_AUTHORIZATION,
        message: "clients say inside TLS which server they want: connect with sslmode=require"
            .to_owned(),
    }
}

/// Requests to cancel that are passed on at once, over all workers: each may open many connections.
static CANCELS: Semaphore = Semaphore::const_new(16);

/// Passes a request to cancel on. Only the server that runs the query knows the key in it, and which one that
/// is nobody has told us: all get it that carry a session. One that is one too many is lost, as any may be.
pub(crate) async fn cancel(origins: &[&Origin], request: &[u8]) {
    let Ok(_permit) = CANCELS.try_acquire() else {
        return;
    };
    let mut passed = JoinSet::new();
    for origin in origins {
        let snapshot = origin.snapshot();
        let carry = snapshot.endpoints().filter(|(_, meter)| meter.open() > 0);
        for (endpoint, _) in carry {
            if passed.len() >= SERVERS {
                break;
            }
            let (origin, endpoint) = (Origin::clone(origin), endpoint.id);
            passed.spawn(pass(origin, endpoint, request.to_vec()));
        }
    }
    // A request to cancel is never answered, whatever becomes of it.
    let _ = tokio::time::timeout(PATIENCE, passed.join_all()).await;
}

async fn pass(origin: Origin, endpoint: EndpointId, request: Vec<u8>) -> io::Result<()> {
    let link = origin.connect_to(endpoint).await;
    let mut link = link.map_err(io::Error::other)?;
    link.write_all(&request).await?;
    link.flush().await?;
    // The server closes when it is done, and for that the client waits.
    let mut nowhere = [0; 16];
    while link.read(&mut nowhere).await? > 0 {}
    Ok(())
}

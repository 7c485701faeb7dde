//! PostgreSQL at the door: a client says who it is and what it wants, and is judged by that, before anything
//! is opened to an origin. What it said first then goes to the origin as it was.

use std::future::poll_fn;
use std::io;
use std::time::Duration;

use aws_lc_rs::rand;
use ipreconnect::core::access::{Method, Source};
use ipreconnect::core::postgres::{
    self, Answer, Asked, LONGEST, LONGEST_ANSWER, Opening, Packet, Refusal, StartUp, code,
};
use ipreconnect::socket::Socket;
use ipreconnect::tls::{Received, Session as Tls};
use ipreconnect::{Error, Origin};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::task::JoinSet;

use crate::access::{self, Users, Way};

/// From the first byte to the end of the start-up packet, TLS included (`authentication_timeout` is longer:
/// it has to wait for what we need not).
const PATIENCE: Duration = Duration::from_secs(10);
/// For the answers to what is asked.
const ANSWERS: Duration = Duration::from_secs(30);
/// Servers that a request to cancel is passed on to.
const SERVERS: usize = 16;
/// The protocol that clients name who begin with TLS (ALPN).
pub(crate) const ALPN: &[u8] = b"postgresql";

/// A client that has said what it wants.
pub(crate) struct Caller {
    pub(crate) tls: Option<Box<Tls>>,
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
    /// It does not know the password, and is to be told.
    Guessed(Refusal),
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
            Self::Away(refusal) | Self::Guessed(refusal) => refusal.fmt(f),
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
            match &mut self.tls {
                Some(tls) => poll_fn(|cx| tls.poll_shutdown(cx, self.client)).await,
                None => Ok(()),
            }
        };
        // Whoever does not listen is not told.
        let _ = tokio::time::timeout(PATIENCE, told).await;
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

/// Hears what a client wants. `open` opens TLS; without it, TLS is refused as a server without TLS does it.
///
/// Cancel safety: the connection is of no use afterwards.
pub(crate) async fn hear<'t, O>(talk: &mut Talk<'t>, open: Option<O>) -> Result<Caller, Turned>
where
    O: AsyncFnOnce() -> Result<Box<Tls>, String>,
{
    match tokio::time::timeout(PATIENCE, heard(talk, open)).await {
        Ok(result) => result,
        Err(_) => Err(Turned::Gone(format!(
            "it did not say within {PATIENCE:?} what it wants"
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
                    tls: talk.tls.take(),
                    early: said,
                    start_up: None,
                });
            }
            Opening::Packet(_, Packet::StartUp(start_up)) => {
                return Ok(Caller {
                    tls: talk.tls.take(),
                    early: [said, std::mem::take(&mut talk.input)].concat(),
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
    if !access::turn(source).await {
        return Err(Turned::Guessed(wrong()));
    }
    let asked = async {
        match way {
            Way::ClearText => clear_text(talk, &start_up.user, users).await,
            Way::Scram => scram(talk, &start_up.user, users).await,
        }
    };
    let is_right = match tokio::time::timeout(ANSWERS, asked).await {
        Ok(shown) => shown?,
        Err(_) => {
            let why = format!("it was asked for a password, and did not answer within {ANSWERS:?}");
            return Err(Turned::Gone(why));
        }
    };
    if is_right {
        return Ok(());
    }
    tokio::time::sleep(access::failed(source)).await;
    Err(Turned::Guessed(wrong()))
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

async fn clear_text(talk: &mut Talk<'_>, user: &[u8], users: &Users) -> Result<bool, Turned> {
    let answer = ask(talk, Asked::ClearText).await?;
    let Some(password) = postgres::password(&answer) else {
        return Err(malformed("invalid password packet size"));
    };
    // An empty one is none, as for a server.
    Ok(!password.is_empty() && users.fits(user, password).await)
}

async fn scram(talk: &mut Talk<'_>, user: &[u8], users: &Users) -> Result<bool, Turned> {
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
    let Some(proof) = exchange.end(&last) else {
        return Ok(false);
    };
    talk.say(&postgres::authentication(Asked::SaslFinal(&proof)))
        .await?;
    Ok(true)
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
        access::Refusal::Password(user) => {
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
            Method::Trust | Method::Cert | Method::Other(_) => {
                format!("certificate authentication failed for user \"{user}\"")
            }
        },
    };
    Refusal {
        code: code::INVALID_AUTHORIZATION,
        message,
    }
}

/// What a client is told whose origin is away.
pub(crate) fn away(error: &Error) -> Refusal {
    Refusal {
        code: code::CANNOT_CONNECT_NOW,
        message: error.to_string(),
    }
}

/// Passes a request to cancel on. Only the server that runs the query knows the key in it, and which one that
/// is nobody has told us: all get it that carry a session.
pub(crate) async fn cancel(origin: &Origin, request: &[u8]) {
    let snapshot = origin.snapshot();
    let carry = snapshot.endpoints().filter(|(_, meter)| meter.open() > 0);
    let mut passed = JoinSet::new();
    for (endpoint, _) in carry.take(SERVERS) {
        let (origin, endpoint, request) = (origin.clone(), endpoint.id, request.to_vec());
        passed.spawn(async move {
            let mut link = origin
                .connect_to(endpoint)
                .await
                .map_err(io::Error::other)?;
            link.write_all(&request).await?;
            link.flush().await?;
            // The server closes when it is done, and for that the client waits.
            let mut nowhere = [0; 16];
            while link.read(&mut nowhere).await? > 0 {}
            Ok::<(), io::Error>(())
        });
    }
    // A request to cancel is never answered, whatever becomes of it.
    let _ = tokio::time::timeout(PATIENCE, passed.join_all()).await;
}

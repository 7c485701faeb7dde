//! PostgreSQL at the door: a client says who it is and what it wants, and is judged by that, before anything
//! is opened to an origin. What it said first then goes to the origin as it was.

mod login;
mod server;
mod talk;
mod words;

use std::time::Duration;

use ipreconnect::core::postgres::{self, LONGEST, Opening, Packet, Refusal, StartUp, code};
use ipreconnect::tls::Session as Tls;

use talk::has_more;

pub(crate) use login::authenticate;
pub(crate) use server::{cancel, is_asked};
pub(crate) use talk::{Guess, Talk, Turned};
pub(crate) use words::{away, lost, nameless, refusal, unasked};

/// From the first byte to the end of the start-up packet, TLS included (`authentication_timeout` is longer:
/// it has to wait for what we need not).
const PATIENCE: Duration = Duration::from_secs(10);
/// The same for those whom no rule is for, wherever they come from.
const BRIEFLY: Duration = Duration::from_secs(2);
/// The protocol that clients name who begin with TLS (ALPN).
const ALPN: &[u8] = b"postgresql";

/// A client that has said what it wants.
pub(crate) struct Caller {
    /// What it said, as it said it: for the origin.
    pub(crate) early: Vec<u8>,
    /// Whose session is to begin; `None` if a query of another one is to be cancelled.
    pub(crate) start_up: Option<StartUp>,
}

/// Hears what a client wants, for which there is less time if no rule is for anybody from there. `open` opens
/// TLS; without it, TLS is refused as a server without TLS does it.
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

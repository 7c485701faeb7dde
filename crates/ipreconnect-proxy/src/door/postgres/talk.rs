//! Packets and messages, one way and the other, inside TLS or not.

use std::future::poll_fn;
use std::io;
use std::time::Duration;

use ipreconnect::core::postgres::{self, Refusal};
use ipreconnect::socket::Socket;
use ipreconnect::tls::{Received, Session as Tls};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use tokio::io::Interest;

/// For the last words to a client.
const FAREWELL: Duration = Duration::from_secs(10);

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
    pub(super) client: &'t Socket,
    pub(super) tls: Option<Box<Tls>>,
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
    pub(super) async fn whole<T>(
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
        let _ = tokio::time::timeout(FAREWELL, told).await;
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
pub(super) fn has_more(client: &Socket) -> bool {
    matches!(
        recv(client.get_ref(), &mut [0; 1], RecvFlags::PEEK),
        Ok((_, 1..))
    )
}

//! What an origin does with a connection.

use super::desk::Desk;
use std::io;

/// What an origin does with each of its connections.
///
/// A request is a line that ends with `\n`, of 64 KiB at most. An end of file where a request would
/// begin ends the connection, as real servers do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Script {
    /// Answers each line with `NAME line\n`, until the client closes.
    Answer {
        /// Stands for `NAME`.
        name: String,
    },
    /// Answers one line as [`Script::Answer`] does, and closes.
    Once {
        /// Stands for `NAME`.
        name: String,
    },
    /// Sends every byte back, and closes after the client.
    Echo,
    /// Speaks first, with the line `NAME ready\n`, and goes on as [`Script::Answer`].
    Greeting {
        /// Stands for `NAME`.
        name: String,
    },
    /// Reads everything and never answers.
    Silent,
    /// Goes on as [`Script::Answer`], but a line that begins with `WAIT` is answered when
    /// [`ScriptedOrigin::release`](super::ScriptedOrigin::release) is called: a blocking pop.
    Waiter {
        /// Stands for `NAME`.
        name: String,
    },
    /// Speaks HTTP/1.1: answers each request with a line that names it and repeats its body, which has a
    /// length. `/wait` is answered when [`ScriptedOrigin::release`](super::ScriptedOrigin::release) is
    /// called: a long poll.
    Http {
        /// Begins each line.
        name: String,
    },
    /// Reads until end of file, then answers how many bytes there were, as a line, and closes.
    Sink,
    /// Sends so many bytes, closes its way, and waits for the client to do the same.
    Source {
        /// How many.
        bytes: u64,
    },
}

/// A piece of what a source sends.
const PIECE: [u8; 16 * 1024] = [b'.'; 16 * 1024];

impl Script {
    /// Plays the script once, on one connection.
    pub(super) async fn play(&self, desk: &mut Desk) -> io::Result<()> {
        match self {
            Script::Answer { name } => answer_each(desk, name).await,
            Script::Once { name } => answer_once(desk, name).await,
            Script::Echo => echo(desk).await,
            Script::Greeting { name } => {
                desk.send(format!("{name} ready\n").as_bytes()).await?;
                answer_each(desk, name).await
            }
            Script::Silent => desk.drain().await.map(|_| ()),
            Script::Waiter { name } => answer_released(desk, name).await,
            Script::Http { name } => answer_requests(desk, name).await,
            Script::Sink => {
                let bytes = desk.drain().await?;
                desk.answer(format!("{bytes}\n").as_bytes()).await?;
                desk.close().await
            }
            Script::Source { bytes } => pour(desk, *bytes).await,
        }
    }
}

async fn answer_each(desk: &mut Desk, name: &str) -> io::Result<()> {
    while let Some(line) = desk.line().await? {
        answer(desk, name, &line).await?;
    }
    Ok(())
}

async fn answer_once(desk: &mut Desk, name: &str) -> io::Result<()> {
    if let Some(line) = desk.line().await? {
        answer(desk, name, &line).await?;
    }
    desk.close().await
}

async fn answer_released(desk: &mut Desk, name: &str) -> io::Result<()> {
    while let Some(line) = desk.line().await? {
        if line.starts_with(b"WAIT") && !desk.released().await? {
            return Ok(());
        }
        answer(desk, name, &line).await?;
    }
    Ok(())
}

async fn answer_requests(desk: &mut Desk, name: &str) -> io::Result<()> {
    while let Some(first) = desk.line().await? {
        let mut length = 0;
        while let Some(line) = desk.line().await? {
            let line = line.trim_ascii_end().to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(value) = line.strip_prefix(b"content-length: ") {
                let digits = std::str::from_utf8(value).ok();
                let number = digits.and_then(|digits| digits.parse().ok());
                length = number.ok_or(io::ErrorKind::InvalidData)?;
            }
        }
        let body = desk.exactly(length).await?;
        let request = String::from_utf8_lossy(&first);
        let request = request.trim_end().trim_end_matches(" HTTP/1.1");
        if request.ends_with("/wait") && !desk.released().await? {
            return Ok(());
        }
        let body = String::from_utf8_lossy(&body);
        let text = format!("{name} {request} {body}\n");
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", text.len());
        desk.answer(format!("{head}{text}").as_bytes()).await?;
    }
    Ok(())
}

async fn answer(desk: &mut Desk, name: &str, line: &[u8]) -> io::Result<()> {
    let answer = [name.as_bytes(), b" ", line, b"\n"].concat();
    desk.answer(&answer).await
}

async fn echo(desk: &mut Desk) -> io::Result<()> {
    loop {
        let bytes = desk.some().await?;
        if bytes.is_empty() {
            return desk.close().await;
        }
        desk.answer(&bytes).await?;
    }
}

async fn pour(desk: &mut Desk, bytes: u64) -> io::Result<()> {
    let mut left = bytes;
    while left > 0 {
        let piece = usize::try_from(left).map_or(PIECE.len(), |left| left.min(PIECE.len()));
        desk.send(&PIECE[..piece]).await?;
        left -= piece as u64;
    }
    desk.answer(b"").await?;
    desk.close().await?;
    // Closing with something unread would reset what is still on its way to the client.
    desk.drain().await.map(|_| ())
}

//! An origin that says byte by byte what a test wants it to say.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::find;

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) head: String,
    /// As it stood on the wire.
    pub(crate) body: Vec<u8>,
    /// Which connection it came by, from 0.
    pub(crate) connection: usize,
}

impl Request {
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (field, value) = line.split_once(':')?;
            field.eq_ignore_ascii_case(name).then_some(value.trim())
        })
    }

    /// Method and target.
    pub(crate) fn line(&self) -> &str {
        self.head
            .lines()
            .next()
            .unwrap()
            .trim_end_matches(" HTTP/1.1")
    }
}

/// What the origin does next.
pub(crate) enum Act {
    Say(Vec<u8>),
    Wait(Arc<Notify>),
    /// Takes its time.
    Pause(Duration),
    /// Closes in order.
    Close,
    Reset,
    /// Echoes what comes from now on.
    Echo,
}

impl Act {
    pub(crate) fn say(text: impl Into<Vec<u8>>) -> Self {
        Self::Say(text.into())
    }

    /// A whole answer with this body.
    pub(crate) fn ok(body: impl AsRef<str>) -> Self {
        let body = body.as_ref();
        Self::say(format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ))
    }
}

type Play = Arc<dyn Fn(&Request) -> Vec<Act> + Send + Sync>;

/// The origin; ends when dropped.
pub(crate) struct Origin {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Vec<Request>>>,
    connections: Arc<AtomicUsize>,
    heard: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Origin {
    pub(crate) async fn start(play: impl Fn(&Request) -> Vec<Act> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let connections = Arc::new(AtomicUsize::new(0));
        let heard = Arc::new(AtomicUsize::new(0));
        let play: Play = Arc::new(play);
        let task = tokio::spawn({
            let (seen, connections) = (Arc::clone(&seen), Arc::clone(&connections));
            let heard = Arc::clone(&heard);
            async move {
                loop {
                    let (stream, _) = listener.accept().await.unwrap();
                    let serve = serve(
                        stream,
                        Arc::clone(&play),
                        Arc::clone(&seen),
                        Arc::clone(&connections),
                        Arc::clone(&heard),
                    );
                    tokio::spawn(serve);
                }
            }
        });
        Self {
            address,
            seen,
            connections,
            heard,
            task,
        }
    }

    /// What has come.
    pub(crate) fn seen(&self) -> Vec<Request> {
        self.seen.lock().unwrap().clone()
    }

    /// Bytes that have come, of whole requests and others.
    pub(crate) fn heard(&self) -> usize {
        self.heard.load(SeqCst)
    }

    /// Connections that had a request.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(SeqCst)
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(
    mut stream: TcpStream,
    play: Play,
    seen: Arc<Mutex<Vec<Request>>>,
    connections: Arc<AtomicUsize>,
    heard: Arc<AtomicUsize>,
) {
    let mut unread = Vec::new();
    let mut connection = None;
    loop {
        let Some((head, body)) = request(&mut stream, &mut unread, &heard).await else {
            return;
        };
        let connection = *connection.get_or_insert_with(|| connections.fetch_add(1, SeqCst));
        let request = Request {
            head,
            body,
            connection,
        };
        seen.lock().unwrap().push(request.clone());
        for act in play(&request) {
            match act {
                Act::Say(bytes) => {
                    if stream.write_all(&bytes).await.is_err() {
                        return;
                    }
                }
                Act::Wait(notify) => notify.notified().await,
                Act::Pause(pause) => tokio::time::sleep(pause).await,
                Act::Close => return,
                Act::Reset => {
                    let _ = stream.set_zero_linger();
                    return;
                }
                Act::Echo => {
                    let (mut read, mut write) = stream.split();
                    let _ = write.write_all(&unread).await;
                    let _ = tokio::io::copy(&mut read, &mut write).await;
                    return;
                }
            }
        }
    }
}

async fn fill(stream: &mut TcpStream, unread: &mut Vec<u8>, heard: &AtomicUsize) -> bool {
    let mut piece = vec![0; 65_536];
    let read = stream.read(&mut piece).await.unwrap_or(0);
    unread.extend_from_slice(&piece[..read]);
    heard.fetch_add(read, SeqCst);
    read > 0
}

async fn request(
    stream: &mut TcpStream,
    unread: &mut Vec<u8>,
    heard: &AtomicUsize,
) -> Option<(String, Vec<u8>)> {
    let end = loop {
        if let Some(end) = find(unread, b"\r\n\r\n") {
            break end + 4;
        }
        if !fill(stream, unread, heard).await {
            return None;
        }
    };
    let head: Vec<u8> = unread.drain(..end).collect();
    let head = String::from_utf8(head).unwrap();
    let lower = head.to_ascii_lowercase();
    let length = lower
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))
        .map(|length| length.trim().parse::<usize>().unwrap());
    if lower.contains("expect: 100-continue") {
        stream
            .write_all(b"HTTP/1.1 100 Continue\r\n\r\n")
            .await
            .ok()?;
    }
    let end = if lower.contains("transfer-encoding: chunked") {
        loop {
            // Tests send nothing behind a body in chunks.
            let is_whole = find(unread, b"0\r\n").is_some() && unread.ends_with(b"\r\n\r\n");
            if is_whole {
                break unread.len();
            }
            if !fill(stream, unread, heard).await {
                return None;
            }
        }
    } else {
        let length = length.unwrap_or(0);
        while unread.len() < length {
            if !fill(stream, unread, heard).await {
                return None;
            }
        }
        length
    };
    let body = unread.drain(..end).collect();
    Some((head, body))
}

//! Requests through the gateway, byte by byte.

mod abuse;
mod bounds;
mod cached;
mod compress;
mod files;
mod frames;
mod framing;
mod grpc;
mod h2c;
mod late;
mod odd;
mod origin;
mod passive;
mod replay;
mod spread;
mod two;
mod upgrade;

use std::net::SocketAddr;
use std::time::Duration;

use ipreconnect::OriginSettings;
use ipreconnect_proxy::{Forwarding, HttpLimits, HttpPlan, HttpSettings, Plane};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::scene::{Scene, listener, settings, within};

pub(crate) use origin::{Act, Origin};

pub(crate) fn plan() -> HttpPlan {
    HttpPlan {
        pages: None,
        shield: None,
        forward: None,
        routes: Vec::new(),
        settings: Some(HttpSettings::default()),
        limits: HttpLimits::default(),
        compresses: false,
        forwarding: Forwarding::default(),
        error_page: None,
    }
}

/// A gateway that speaks HTTP in front of these.
pub(super) async fn scene(origins: &[SocketAddr]) -> Scene {
    scene_with(settings(origins), plan()).await
}

pub(super) async fn scene_with(settings: OriginSettings, plan: HttpPlan) -> Scene {
    scene_of(2, settings, plan).await
}

/// The same with so many workers.
pub(super) async fn scene_of(workers: u16, settings: OriginSettings, plan: HttpPlan) -> Scene {
    let plane = Plane::Http(Box::new(plan));
    let scene = Scene::speaking(settings, listener(), plane, workers);
    scene.up().await;
    scene
}

/// A client that speaks for itself.
pub(crate) struct Client {
    stream: TcpStream,
    unread: Vec<u8>,
}

/// An answer as it came.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (field, value) = line.split_once(": ")?;
            field.eq_ignore_ascii_case(name).then_some(value)
        })
    }
}

impl Client {
    pub(crate) async fn new(scene: &Scene) -> Self {
        Self {
            stream: TcpStream::connect(scene.address).await.unwrap(),
            unread: Vec::new(),
        }
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
    }

    /// Whatever comes next; nothing at the end.
    pub(crate) async fn more(&mut self) -> Vec<u8> {
        let mut piece = vec![0; 65_536];
        let read = within(10, self.stream.read(&mut piece)).await;
        piece.truncate(read.unwrap_or(0));
        piece
    }

    async fn fill(&mut self) -> bool {
        let more = self.more().await;
        self.unread.extend_from_slice(&more);
        !more.is_empty()
    }

    /// Whether anything has come that is not read yet.
    pub(crate) fn has_come(&mut self) -> bool {
        let mut piece = [0; 4096];
        if let Ok(count) = self.stream.try_read(&mut piece) {
            self.unread.extend_from_slice(&piece[..count]);
        }
        !self.unread.is_empty()
    }

    /// What has come, or comes next.
    pub(crate) async fn bytes(&mut self) -> Vec<u8> {
        if self.unread.is_empty() {
            self.fill().await;
        }
        std::mem::take(&mut self.unread)
    }

    /// All that comes until the connection ends.
    pub(crate) async fn rest(&mut self) -> Vec<u8> {
        while self.fill().await {}
        std::mem::take(&mut self.unread)
    }

    /// The next head.
    pub(crate) async fn head(&mut self) -> (u16, String) {
        loop {
            if let Some(end) = find(&self.unread, b"\r\n\r\n") {
                let head: Vec<u8> = self.unread.drain(..end + 4).collect();
                let head = String::from_utf8(head).unwrap();
                let status = head.split(' ').nth(1).unwrap().parse().unwrap();
                return (status, head);
            }
            assert!(
                self.fill().await,
                "the connection ended in a head: {:?}",
                self.unread
            );
        }
    }

    /// The next answer, whose body has a length or is in chunks.
    pub(crate) async fn answer(&mut self) -> Answer {
        let (status, head) = self.head().await;
        let mut answer = Answer {
            status,
            head,
            body: Vec::new(),
        };
        if answer.field("Transfer-Encoding").is_some() {
            answer.body = self.chunks().await;
        } else if let Some(length) = answer.field("Content-Length") {
            let length: usize = length.parse().unwrap();
            while self.unread.len() < length {
                assert!(self.fill().await, "the connection ended in a body");
            }
            answer.body = self.unread.drain(..length).collect();
        }
        answer
    }

    async fn chunks(&mut self) -> Vec<u8> {
        let mut body = Vec::new();
        loop {
            let end = loop {
                if let Some(end) = find(&self.unread, b"\r\n") {
                    break end;
                }
                assert!(self.fill().await, "the connection ended in a chunk");
            };
            let line: Vec<u8> = self.unread.drain(..end + 2).collect();
            let size = String::from_utf8(line).unwrap();
            let size = usize::from_str_radix(size.trim(), 16).unwrap();
            while self.unread.len() < size + 2 {
                assert!(self.fill().await, "the connection ended in a chunk");
            }
            body.extend(self.unread.drain(..size));
            assert_eq!(self.unread.drain(..2).collect::<Vec<_>>(), b"\r\n");
            if size == 0 {
                return body;
            }
        }
    }

    pub(crate) async fn get(&mut self, path: &str) -> Answer {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: shop\r\n\r\n"))
            .await;
        self.answer().await
    }

    pub(crate) async fn post(&mut self, path: &str, body: &str) -> Answer {
        let length = body.len();
        self.send(format!(
            "POST {path} HTTP/1.1\r\nHost: shop\r\nContent-Length: {length}\r\n\r\n{body}"
        ))
        .await;
        self.answer().await
    }

    /// Whether the connection ends now, without another byte.
    pub(crate) async fn is_closed(&mut self) -> bool {
        self.unread.is_empty() && self.more().await.is_empty()
    }

    pub(crate) fn stream(&mut self) -> &mut TcpStream {
        &mut self.stream
    }
}

pub(super) fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|part| part == what)
}

pub(super) const MILLISECOND: Duration = Duration::from_millis(1);

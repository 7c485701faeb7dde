//! HTTP/2 frame by frame, for clients and origins that do what no library would.

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use crate::scene::{Scene, within};

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RESET: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PUSH: u8 = 5;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const END_STREAM: u8 = 0x1;
pub(crate) const ACK: u8 = 0x1;
pub(crate) const END_HEADERS: u8 = 0x4;
pub(crate) const PADDED: u8 = 0x8;
pub(crate) const PRIORITISED: u8 = 0x20;

pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// Fields as HPACK writes them that nobody is to remember, without Huffman's code (RFC 7541, section
/// 6.2.2).
pub(crate) fn fields<'f>(fields: impl IntoIterator<Item = (&'f str, &'f str)>) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            number(text.len(), &mut block);
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}

/// With a prefix of seven bits (RFC 7541, section 5.1).
fn number(mut number: usize, out: &mut Vec<u8>) {
    if number < 127 {
        out.push(u8::try_from(number).unwrap());
        return;
    }
    out.push(127);
    number -= 127;
    while number >= 128 {
        out.push(u8::try_from(number % 128).unwrap() | 128);
        number /= 128;
    }
    out.push(u8::try_from(number).unwrap());
}

/// The head of a request.
pub(crate) fn asked(path: &str) -> Vec<u8> {
    fields([
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "shop"),
    ])
}

/// One frame.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    /// The number at this place.
    pub(crate) fn number(&self, at: usize) -> u32 {
        u32::from_be_bytes(self.payload[at..at + 4].try_into().unwrap())
    }
}

/// Reads a frame; none at the end of the connection.
pub(crate) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Option<Frame> {
    let mut head = [0; 9];
    stream.read_exact(&mut head).await.ok()?;
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
    let mut payload = vec![0; usize::try_from(length).unwrap()];
    stream.read_exact(&mut payload).await.ok()?;
    Some(Frame {
        kind: head[3],
        flags: head[4],
        stream: u32::from_be_bytes(head[5..].try_into().unwrap()),
        payload,
    })
}

/// A client that says frames as they are written.
pub(crate) struct Peer {
    pub(crate) read: OwnedReadHalf,
    pub(crate) write: OwnedWriteHalf,
}

impl Peer {
    pub(crate) async fn new(scene: &Scene) -> Self {
        let mut peer = Self::mute(scene).await;
        peer.send(PREFACE).await;
        peer.send(frame(SETTINGS, 0, 0, &[])).await;
        peer
    }

    /// One that has not said anything.
    pub(crate) async fn mute(scene: &Scene) -> Self {
        let stream = TcpStream::connect(scene.address).await.unwrap();
        let (read, write) = stream.into_split();
        Self { read, write }
    }

    /// Sends what is taken of it; the gateway may have ended the connection.
    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.write.write_all(bytes.as_ref()).await.is_ok()
    }

    /// The next frame that is more than settings and windows; none at the end.
    pub(crate) async fn next(&mut self) -> Option<Frame> {
        loop {
            match within(10, read(&mut self.read)).await {
                Some(frame) if matches!(frame.kind, SETTINGS | WINDOW) => {}
                frame => return frame,
            }
        }
    }
}

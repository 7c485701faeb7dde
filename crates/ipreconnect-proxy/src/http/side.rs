//! The client's side of one request, in whichever version of HTTP it is spoken.

use std::io;
use std::task::{Context, Poll};

use ipreconnect::core::http::{
    ContentCoding, Field, Known, RequestHead, ResponseBody, ResponseHead,
};

use super::body::Reader;
use super::render::{Back, Coding, Onward};
use super::site::FieldRules;
use super::timer::Timer;
use super::window::Window;
use super::wire::{Half, Wire};

/// The head of an answer, and what is changed about it.
pub(super) struct Lead<'l> {
    pub(super) head: &'l ResponseHead,
    /// What the head is a place of.
    pub(super) text: &'l [u8],
    pub(super) body: ResponseBody,
    pub(super) rules: &'l FieldRules,
    /// The origin, as it was asked, and as it is reached.
    pub(super) origin: [&'l [u8]; 2],
    /// The client's way here.
    pub(super) scheme: &'l str,
    /// The request.
    pub(super) asked: &'l RequestHead,
    /// A cookie of our own.
    pub(super) cookie: Option<&'l str>,
    /// What it is compressed by, here.
    pub(super) compressed: Option<ContentCoding>,
    /// Whether it might have been.
    pub(super) varies: bool,
    /// The client has asked for this origin by its name: it is told all that the origin says of itself.
    pub(super) is_through: bool,
    /// What else we tell the client: names and values.
    pub(super) told: &'l [(&'l str, &'l str)],
    pub(super) onward: Onward,
}

impl Lead<'_> {
    /// Whether a field of the head is passed on; those of a body that is compressed here change with it.
    pub(super) fn passes(&self, field: &Field) -> bool {
        if field.known == Known::Server && !self.is_through {
            return false;
        }
        if self.compressed.is_none() {
            return true;
        }
        let name = field.name.of(self.text);
        let changed: [&[u8]; 3] = [b"content-length", b"accept-ranges", b"etag"];
        !changed.iter().any(|one| name.eq_ignore_ascii_case(one))
    }

    /// The fields that stand in for them.
    pub(super) fn write_changed(&self, mut line: impl FnMut(&[u8], &[u8])) {
        if self.varies {
            line(b"Vary", b"Accept-Encoding");
        }
        let Some(coding) = self.compressed else {
            return;
        };
        line(b"Content-Encoding", coding.name().as_bytes());
        let mut fields = self.head.fields.iter();
        let tag = fields.find(|field| field.name.of(self.text).eq_ignore_ascii_case(b"etag"));
        if let Some(tag) = tag {
            // The same in meaning, not byte by byte (RFC 9110, section 8.8.1).
            let tag = tag.value.of(self.text);
            let weak = match tag.strip_prefix(b"W/") {
                Some(_) => tag.to_vec(),
                None => [b"W/", tag].concat(),
            };
            line(b"ETag", &weak);
        }
    }

    /// What leads back to the origin; `text` is what the head of the request is a place of.
    pub(super) fn back<'t>(&'t self, text: &'t [u8]) -> Back<'t> {
        let host = self.asked.host.span();
        Back {
            origin: self.origin,
            scheme: self.scheme,
            host: host.map_or(&b""[..], |host| host.of(text)),
        }
    }
}

/// What else a client is told: names and values, and no more than these three.
#[derive(Default)]
pub(super) struct Told<'t> {
    fields: [(&'t str, &'t str); 3],
    count: usize,
}

impl<'t> Told<'t> {
    pub(super) fn add(&mut self, name: &'t str, value: &'t str) {
        if let Some(field) = self.fields.get_mut(self.count) {
            *field = (name, value);
            self.count += 1;
        }
    }
}

impl<'t> std::ops::Deref for Told<'t> {
    type Target = [(&'t str, &'t str)];

    fn deref(&self) -> &Self::Target {
        self.fields.get(..self.count).unwrap_or_default()
    }
}

/// What an exchange needs of the client's side. Nothing here waits: what the client does not take at once
/// is kept, and bounded by whoever writes nothing while it [`is_blocked`](Side::is_blocked).
pub(super) trait Side: Send {
    /// The bytes that the head of the request is a place of.
    fn text(&self) -> &[u8];

    /// Whether anything has come behind the head of the request.
    fn says_more(&self, _head: &RequestHead) -> bool {
        false
    }

    /// Whether there is room for a connection of its own, beside those of other requests of the same client.
    fn has_room(&self) -> bool {
        true
    }

    fn timer(&mut self) -> &mut Timer;

    /// Takes what has come of the body together with the head.
    fn take_early(&mut self, reader: &mut Reader, window: &mut Window) -> Result<(), ()>;

    /// Takes more of the body, as it stands on the wire of HTTP/1; false if the client has gone.
    fn poll_more(
        &mut self,
        cx: &mut Context<'_>,
        reader: &mut Reader,
        window: &mut Window,
    ) -> Poll<Result<bool, ()>>;

    /// Whether there is anybody who wants an answer.
    fn is_there(&self) -> bool {
        true
    }

    /// Whether the client has gone.
    fn poll_gone(&mut self, cx: &mut Context<'_>, half: Half) -> Poll<()>;

    /// Whether the client has taken its request back, where it can do that before it has said all of it.
    fn poll_reset(&mut self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }

    /// How the body of an answer is written.
    fn coding(&self, body: ResponseBody, asked: &RequestHead) -> Coding;

    /// Passes on an answer that only informs, or that goes on with another protocol.
    fn inform(&mut self, head: &ResponseHead, text: &[u8]);

    /// Begins the answer; `body` is the first part of its body, as it is written. Returns how many bytes
    /// went on their way.
    fn respond(&mut self, lead: &Lead<'_>, body: &[u8]) -> usize;

    /// Writes a part of the body, as it is written.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// All of the body was written; `trailers` are lines.
    fn finish(&mut self, coding: Coding, trailers: &[u8]) -> io::Result<()>;

    /// Writes a whole answer of our own, as it is written in HTTP/1.
    fn deliver(&mut self, answer: &[u8]) -> io::Result<()>;

    /// Says that the tunnel that was asked for is open: from now on bytes are carried.
    fn go_through(&mut self) -> io::Result<()> {
        self.deliver(b"HTTP/1.1 200 Connection established\r\n\r\n")
    }

    /// Whether something waits for the client to take it.
    fn is_blocked(&self) -> bool;

    /// The bytes that the client has not taken.
    fn waiting(&self) -> usize;

    /// Whether nothing is read for now because of a rate that it shares with others.
    fn is_unread(&self) -> bool {
        false
    }

    /// Whether it waits for a rate that it shares with others, and not for the client.
    fn is_throttled(&self) -> bool {
        false
    }

    /// Sends what waits.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Ends it so that nobody takes what came for the whole.
    fn abort(&mut self);

    /// The connection itself, if it can go on as something else.
    fn wire(&mut self) -> Option<&mut Wire>;
}

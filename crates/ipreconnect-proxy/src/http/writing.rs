//! The body of an answer, as it is written for the client.

use ipreconnect::core::http::{ContentCoding, ResponseBody};

use super::body::chunk;
use super::encoder::Encoder;
use super::render::Coding;

/// How a body is written, and what compresses it on its way.
pub(super) struct Writing {
    coding: Coding,
    encoder: Option<Box<Encoder>>,
}

impl Writing {
    /// Of a body that comes as `body`, and is to be compressed so; `coding` says how the client reads one.
    /// What is compressed here has no length that could be told before.
    pub(super) fn new(
        body: ResponseBody,
        compressed: Option<ContentCoding>,
        coding: impl FnOnce(ResponseBody) -> Coding,
    ) -> (Self, ResponseBody) {
        let encoder = compressed.and_then(Encoder::new).map(Box::new);
        let body = match encoder {
            Some(_) => ResponseBody::UntilClose,
            None => body,
        };
        let coding = coding(body);
        (Self { coding, encoder }, body)
    }

    pub(super) fn coding(&self) -> Coding {
        self.coding
    }

    /// Whether it is written as it comes, byte by byte.
    pub(super) fn is_as_it_is(&self) -> bool {
        self.coding == Coding::AsItIs
    }

    /// What it is compressed by.
    pub(super) fn compressed(&self) -> Option<ContentCoding> {
        self.encoder.as_ref().map(|encoder| encoder.coding())
    }

    /// Takes data of it.
    pub(super) fn push(&mut self, data: &[u8], out: &mut Vec<u8>) {
        match &mut self.encoder {
            Some(encoder) => encoder.push(data),
            None => write(data, self.coding, out),
        }
    }

    /// Writes what was compressed so far, or the end of that: whoever waits sees all that has come.
    pub(super) fn settle(&mut self, is_done: bool, out: &mut Vec<u8>) {
        let coding = self.coding;
        match &mut self.encoder {
            Some(encoder) if is_done => encoder.finish(|bytes| write(bytes, coding, out)),
            Some(encoder) => encoder.take(|bytes| write(bytes, coding, out)),
            None => {}
        }
    }
}

fn write(data: &[u8], coding: Coding, out: &mut Vec<u8>) {
    match coding {
        Coding::Chunks => chunk(data, out),
        Coding::AsItIs | Coding::UntilClose | Coding::Frames => out.extend_from_slice(data),
    }
}
